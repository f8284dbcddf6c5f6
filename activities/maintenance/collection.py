"""What a pipeline does not need any more, and its removal: versions, tables, files, and records of what was.

Needed is what environments show or could be rolled back to, where they stand with their sources, as the catalog has it
and as the lake would bring it back, what kept models were made of, and what runs hold that go on (`runtime/leases.py`).
What was written since the oldest of these runs began stays in any case, as does what is younger than the retention
period.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from entrepot.activities.catalog.catalog import PipelineCatalog
from entrepot.activities.catalog.owners import Places
from entrepot.activities.catalog.relations import Relations
from entrepot.activities.catalog.tables import now
from entrepot.activities.catalog.version import Version
from entrepot.activities.ingest import heads, packing
from entrepot.activities.maintenance import histories, segments
from entrepot.activities.maintenance.lake_garbage import LakeGarbage
from entrepot.activities.publish.view_sync import ViewSync, session_at
from entrepot.activities.runtime.context import ActivityContext
from entrepot.activities.runtime.leases import SKEW, AtWork
from entrepot.activities.storage import lake
from entrepot.backends import TableName
from entrepot.errors import EntrepotError
from entrepot.identity.code import HASH_LENGTH
from entrepot.identity.version import version_table
from entrepot.language.step import KINDS
from entrepot.protocol.maintenance import GcInput
from entrepot.protocol.messages import Context
from entrepot.tracebacks import describe

Pairs = set[tuple[str, str]]
"""Versions, by name and version."""

_PHYSICAL = re.compile(version_table(".+", f"[0-9a-f]{{{HASH_LENGTH}}}"))


@dataclass
class Garbage:
    """What is not needed."""

    versions: list[Version] = field(default_factory=list)
    tables: list[TableName] = field(default_factory=list)
    """Those that stand in the pipeline's schema and that no version is made of: what was written together with others
    since, and what died before it was recorded."""
    files: dict[str, int] = field(default_factory=dict)
    """In the lake, each with its size."""
    table_bytes: int = 0
    """What all of these tables take up in the warehouse, as far as it tells."""
    unknown: str = ""
    """Why it does not tell, where it refuses to."""


def sizes(asked: Callable[[], int | None]) -> tuple[int, str]:
    """Bytes that a warehouse tells, or 0; and why it does not tell them. Nothing rests on them: a role may drop tables
    and not be allowed to see how large they are."""
    try:
        return asked() or 0, ""
    except EntrepotError as error:
        return 0, describe(error)


class Collection:
    """The collection of one pipeline's garbage.

    Args:
        at_work: The runs that go on, all of which have planned.
    """

    def __init__(self, work: ActivityContext, catalog: PipelineCatalog, asked: GcInput, at_work: AtWork) -> None:
        self._work = work
        self._catalog = catalog
        self._asked = asked
        self._at_work = at_work
        since = [at_work.since - SKEW] if at_work.since else []
        self._border = min([now() - datetime.timedelta(days=asked.keep_days), *since])
        self._heads = heads.every(work.tenant, catalog.name)
        every = catalog.every_version()
        self._reachable = self._reached(every)
        self.needed = [v for v in every if v.key in self._reachable or v.made_at >= self._border]
        self.garbage = self._found(every)

    def remove(self, context: Context) -> None:
        """Removes it. Whoever dies in between has removed a part, and the next collection finds the rest."""
        catalog, tables = self._catalog, self._needed_tables()
        for version in self.garbage.versions:
            # The catalog forgets first: a version without a row is made anew, a row without a table would be trusted.
            with catalog.session.transaction():
                catalog.delete_versions([version.key])
                self._drop(version, tables)
        if self._at_work.since is None:
            self.needed = segments.write_together(self._work, catalog, self.needed)
            Relations(catalog.session).drop(self._orphans(self.needed))
            if catalog.name in self._work.tenant.pipelines:
                self.needed = packing.pack(self._work, catalog, self.needed, self._kept())
            self.garbage.files = self._lake_garbage(self.needed)
        for version in self.needed:
            if version.replaced and version.made_at < self._border:
                self._drop_replaced(context.model_copy(update={"pipeline": catalog.name}), version)
        for path in self.garbage.files:
            lake.remove(path)
        histories.trim(catalog, self._kept(), self._border, self._asked.keep_publishes)

    def _found(self, every: list[Version]) -> Garbage:
        needed = {version.key for version in self.needed}
        versions = [version for version in every if version.key not in needed]
        orphans = [] if self._at_work.since else self._orphans(every)
        return Garbage(versions, orphans, self._lake_garbage(every), *self._bytes_of(versions, orphans))

    def _lake_garbage(self, versions: Iterable[Version]) -> dict[str, int]:
        hashes = {version.key: version.manifest for version in versions}
        kept = self._kept()
        return LakeGarbage(self._work.tenant, self._catalog, self._heads, kept, hashes, self._border).found()

    def _bytes_of(self, versions: Iterable[Version], orphans: Iterable[TableName]) -> tuple[int, str]:
        """What they take up; and why that is not known, where the warehouse does not say it."""
        here = {table for version in versions if not version.warehouse for table in version.tables}
        relations = Relations(self._catalog.session)
        tables = {*here, *orphans} - self._needed_tables()
        standing = [table for table in sorted(tables, key=str) if relations.kind(table) == "table"]
        return sizes(lambda: self._catalog.session.bytes_of(standing))

    def _kept(self) -> Pairs:
        """What stays, whether or not there is a version of it in the catalog: raw tables may be in the lake alone."""
        return self._reachable | {version.key for version in self.needed}

    def _reached(self, every: list[Version]) -> Pairs:
        catalog = self._catalog
        kept: Pairs = set(self._at_work.held)
        for history in catalog.publishes().values():
            for publish in history[: self._asked.keep_publishes]:
                kept |= set(publish.pointers.items())
        for step, loads in catalog.loads().items():
            for environment in {load.environment for load in loads}:
                kept |= set(catalog.environment(environment).ingest_state(step).tables.items())
        for head in self._heads:
            kept |= set(head.tables.items())
        for version in every:
            if KINDS[version.kind].retains_inputs and version.key in kept:
                kept |= set(version.inputs.items())
        return kept

    def _needed_tables(self) -> set[TableName]:
        return {table for version in self.needed for table in version.tables}

    def _orphans(self, every: Iterable[Version]) -> list[TableName]:
        """While a run goes on, a table may be about to be recorded; then this is left to a later collection."""
        known = {(table.schema, table.table.lower()) for version in every for table in version.tables}
        places = Places(self._catalog.tables).of_versions(self._catalog.name)
        return [
            TableName(schema, table)
            for schema in sorted({place.schema for place in places})
            for table in sorted(self._catalog.session.relations(schema))
            if (schema, table.lower()) not in known and _PHYSICAL.fullmatch(table.lower())
        ]

    def _drop(self, version: Version, needed: set[TableName]) -> None:
        """Drops a version's table or view, and the segments that no other version needs."""
        if version.warehouse and version.warehouse not in self._work.tenant.warehouses:
            return  # out of reach since the tenant no longer has it
        with session_at(self._work, self._catalog.session, version.warehouse) as there:
            Relations(there).drop(table for table in version.tables if table not in needed)

    def _drop_replaced(self, context: Context, version: Version) -> None:
        """Drops the tables of a version that was made anew since, after whatever may still show them shows the new
        one."""
        session = self._catalog.session
        ViewSync(self._work, session, context).repoint_remade({version.name: version.version})
        with session_at(self._work, session, version.warehouse) as there:
            Relations(there).drop(version.replaced)
        self._catalog.forget_replaced(version)

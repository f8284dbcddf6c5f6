"""What a pipeline does not need any more, and its removal: versions, tables, files, and records of what was.

Needed is what environments show or could be rolled back to, where they stand with their sources, as the catalog has it
and as the lake would bring it back, what kept models were made of, and what runs hold that go on (`runtime/leases.py`).
What was written since the oldest of these runs began stays in any case, as does what is younger than the retention
period.

Further warehouses have what comparisons computed there, each with a catalog of its own, and copies, which the catalog
knows of where the pipeline runs. The versions that stay here stay there, too: so the next comparison computes what
changed, and no more.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from entrepot.activities.catalog.catalog import PipelineCatalog
from entrepot.activities.catalog.owners import Places
from entrepot.activities.catalog.relations import Relations
from entrepot.activities.catalog.tables import now
from entrepot.activities.catalog.version import Version
from entrepot.activities.ingest import heads, packing
from entrepot.activities.maintenance import histories, segments
from entrepot.activities.maintenance.environments import drop
from entrepot.activities.maintenance.lake_garbage import LakeGarbage
from entrepot.activities.publish.view_sync import ViewSync, session_at
from entrepot.activities.runtime.context import ActivityContext
from entrepot.activities.runtime.leases import SKEW, AtWork
from entrepot.activities.storage import lake
from entrepot.backends import Session, TableName
from entrepot.errors import Contended, EntrepotError
from entrepot.identity.code import HASH_LENGTH
from entrepot.identity.version import version_schema, version_table
from entrepot.language.step import KINDS
from entrepot.protocol.maintenance import GcElsewhere, GcInput
from entrepot.protocol.messages import Context
from entrepot.tracebacks import describe

Pairs = set[tuple[str, str]]
"""Versions, by name and version."""

_PHYSICAL = re.compile(version_table(".+", f"[0-9a-f]{{{HASH_LENGTH}}}"))


def told(asked: Callable[[], int | None]) -> tuple[int, str]:
    """Bytes that a warehouse tells, or 0; and why it does not tell them. Nothing rests on them: a role may drop tables
    and not be allowed to see how large they are."""
    try:
        return asked() or 0, ""
    except EntrepotError as error:
        return 0, describe(error)


class Standing:
    """What one warehouse has of a pipeline: versions in its catalog, and tables in its schemas of versions.

    Args:
        every: The versions in its catalog.
        kept: Those that stay; so does what was made since `border`.
        schemas: Those of its versions.
        is_quiet: Whether no run is at work. Else a table may be about to be recorded, and those of no version are left
            to a later collection.
        copies: Tables that stand here and are in the catalog of where the pipeline runs.
        lost: Tables that were to be such copies, and that nobody knows.
    """

    def __init__(
        self,
        work: ActivityContext,
        catalog: PipelineCatalog,
        every: Sequence[Version],
        kept: Pairs,
        border: datetime,
        schemas: Iterable[str],
        *,
        is_quiet: bool,
        copies: frozenset[TableName] = frozenset(),
        lost: frozenset[TableName] = frozenset(),
    ) -> None:
        self._work = work
        self._catalog = catalog
        self._border = border
        self._schemas = sorted(schemas)
        self._is_quiet = is_quiet
        self._copies = copies
        self._lost = lost
        self._spared: set[str] = set()
        self.needed = [v for v in every if v.key in kept or v.made_at >= border]
        stays = {version.key for version in self.needed}
        self.versions = [version for version in every if version.key not in stays]
        """Those that are not needed."""
        self.tables = self._orphans(every) if is_quiet else []
        """Those that no version is made of: what was written together with others since, and what died before it was
        recorded."""

    def spare(self, warehouse: str) -> None:
        """Leaves alone what stands on a warehouse that cannot be used now."""
        self._spared.add(warehouse)
        self.needed += [version for version in self.versions if version.warehouse == warehouse]
        self.versions = [version for version in self.versions if version.warehouse != warehouse]

    def bytes(self, copies: Iterable[TableName] = ()) -> tuple[int, str]:
        """What all this, and copies that go, take up here, as far as the warehouse tells; and why it does not."""
        here = {table for version in self.versions if not version.warehouse for table in version.tables}
        relations = Relations(self._catalog.session)
        tables = ({*here, *self.tables} - self._needed_tables()) | {*copies}
        standing = [table for table in sorted(tables, key=str) if relations.kind(table) == "table"]
        return told(lambda: self._catalog.session.bytes_of(standing))

    def remove(self) -> None:
        """Removes versions. Whoever dies in between has removed a part, and the next collection finds the rest."""
        catalog, tables = self._catalog, self._needed_tables()
        for version in self.versions:
            # The catalog forgets first: a version without a row is made anew, a row without a table would be trusted.
            with catalog.session.transaction():
                catalog.delete_versions([version.key])
                self._drop(version, tables)

    def tidy(self, context: Context) -> None:
        """Writes together what is small, and removes the tables of before and those of no version."""
        if self._is_quiet:
            self.needed = segments.write_together(self._work, self._catalog, self.needed)
            Relations(self._catalog.session).drop(self._orphans(self.needed))
        self.needed = [self._without_replaced(context, version) for version in self.needed]

    def _needed_tables(self) -> set[TableName]:
        return {table for version in self.needed for table in version.tables}

    def _orphans(self, every: Iterable[Version]) -> list[TableName]:
        tables = (table for version in every for table in version.tables)
        known = {(table.schema, table.table.lower()) for table in (*self._copies, *tables)}
        found = {
            TableName(schema, table)
            for schema in self._schemas
            for table in self._catalog.session.relations(schema)
            if (schema, table.lower()) not in known and _PHYSICAL.fullmatch(table.lower())
        }
        return sorted(found | self._lost, key=str)

    def _drop(self, version: Version, needed: set[TableName]) -> None:
        """Drops a version's table or view, and the segments that no other version needs."""
        if version.warehouse and version.warehouse not in self._work.tenant.warehouses:
            return  # out of reach since the tenant no longer has it
        with session_at(self._work, self._catalog.session, version.warehouse) as there:
            Relations(there).drop(table for table in version.tables if table not in needed)

    def _without_replaced(self, context: Context, version: Version) -> Version:
        """A version that was made anew since, without the tables of before: they go after whatever may still show them
        shows the new one."""
        reachable = {"", *self._work.tenant.warehouses} - self._spared
        if not version.replaced or version.made_at >= self._border or version.warehouse not in reachable:
            return version
        session = self._catalog.session
        ViewSync(self._work, session, context).repoint_remade({version.name: version.version})
        with session_at(self._work, session, version.warehouse) as there:
            Relations(there).drop(version.replaced)
        self._catalog.forget_replaced(version)
        return replace(version, replaced=())


class Collection:
    """The collection of one pipeline's garbage.

    Args:
        at_work: The runs that go on, all of which have planned.
        unusable: The further warehouses that cannot be used now, and why.
    """

    def __init__(
        self,
        work: ActivityContext,
        catalog: PipelineCatalog,
        asked: GcInput,
        at_work: AtWork,
        unusable: Mapping[str, str],
    ) -> None:
        self._work = work
        self._catalog = catalog
        self._asked = asked
        self._is_quiet = at_work.since is None
        since = [at_work.since - SKEW] if at_work.since else []
        self._border = min([now() - timedelta(days=asked.keep_days), *since])
        self._heads = heads.every(work.tenant, catalog.name)
        self._every = catalog.every_version()
        held = {*at_work.held, *(pair for head in self._heads for pair in head.tables.items())}
        self._reachable = self._reached(catalog, self._every, held)
        its = self._every, self._reachable, self._border, _schemas(catalog)
        self.here = Standing(work, catalog, *its, is_quiet=self._is_quiet)
        self.files = self._lake_garbage(self._every)
        """Those in the lake that are not needed, each with its size."""
        self._unusable = dict(unusable)

    def elsewhere(self, context: Context) -> dict[str, GcElsewhere]:
        """Removes from further warehouses what is not needed, or only looks. One that cannot be used now is left alone,
        with the copies that stand there: so this comes before `remove`."""
        found = {}
        for warehouse in self._work.tenant.others.keys() - self._unusable.keys():
            try:
                with self._work.session(warehouse=warehouse) as there:
                    found[warehouse] = self._at(warehouse, there, context)
            except Contended:
                raise
            except EntrepotError as error:
                self._unusable[warehouse] = describe(error)
        for warehouse, why in self._unusable.items():
            found[warehouse] = GcElsewhere(why=why)
            self.here.spare(warehouse)
        return dict(sorted(found.items()))

    def remove(self, context: Context) -> None:
        """Removes what is not needed where the pipeline runs, and in the lake."""
        catalog = self._catalog
        self.here.remove()
        self._remove_files(self.files)  # at once, since what follows may need the room
        self.here.tidy(self._its(context))
        if self._is_quiet:
            self._release_copies()
            if catalog.name in self._work.tenant.pipelines:
                self.here.needed = packing.pack(self._work, catalog, self.here.needed, self._kept())
            since = self._lake_garbage(self.here.needed)
            self._remove_files(since)
            self.files |= since
        self._trim(catalog, self._kept())

    def _at(self, warehouse: str, there: Session, context: Context) -> GcElsewhere:
        """One further warehouse."""
        catalog = self._work.catalog(there)
        its, exists = catalog.pipeline(self._catalog.name), catalog.exists()
        every = [version for version in its.every_version() if not version.warehouse] if exists else []
        # Where the pipeline ran once, environments may be shown still.
        kept = self._reached(its, every, self._kept()) if exists else self._kept()
        copies, relations = self._copies(self._every, warehouse), Relations(there)
        recorded = {place.name for place in Places(self._catalog.tables).copies(self._catalog.name, warehouse)}
        lost = (
            frozenset(table for table in recorded - copies if relations.kind(table)) if self._is_quiet else frozenset()
        )
        schemas = _schemas(its) if exists else set()
        args = its, every, kept, self._border, schemas
        standing = Standing(self._work, *args, is_quiet=self._is_quiet, copies=copies, lost=lost)
        size, unknown = standing.bytes(self._copies(self.here.versions, warehouse))
        found = GcElsewhere(
            removed=[f"{version.name}@{version.version}" for version in standing.versions],
            kept=len(standing.needed),
            tables=len(standing.tables),
            bytes=size,
            unknown=unknown,
        )
        if not self._asked.dry_run:
            standing.remove()
            standing.tidy(self._its(context))
            if exists:
                self._trim(its, kept | {version.key for version in standing.needed})
        return found

    def _remove_files(self, paths: Iterable[str]) -> None:
        for path in paths:
            lake.remove(path)

    def _trim(self, catalog: PipelineCatalog, kept: Pairs) -> None:
        """Forgets, in one warehouse's catalog, what was long ago, and schemas in which nothing stands."""
        histories.trim(catalog, kept, self._border, self._asked.keep_publishes)
        settings = self._work.tenant.pipelines.get(catalog.name)
        current = version_schema(settings.schema) if settings else None
        drop.drop_empty(self._work.catalog(catalog.session), catalog.name, current)

    def _release_copies(self) -> None:
        """Forgets the places of copies that are gone, or out of reach since the tenant no longer has the warehouse."""
        places, others = Places(self._catalog.tables), self._work.tenant.others
        gone = {
            (place, "")
            for place in places.copies(self._catalog.name)
            if place.warehouse not in self._unusable
            and (place.warehouse not in others or place.name not in self._copies(self.here.needed, place.warehouse))
        }
        places.release(self._catalog.name, "", frozenset(gone))

    def _lake_garbage(self, versions: Iterable[Version]) -> dict[str, int]:
        hashes = {version.key: version.manifest for version in versions}
        kept = self._kept()
        return LakeGarbage(self._work.tenant, self._catalog, self._heads, kept, hashes, self._border).found()

    def _kept(self) -> Pairs:
        """What stays, whether or not there is a version of it in the catalog: raw tables may be in the lake alone."""
        return self._reachable | {version.key for version in self.here.needed}

    def _reached(self, catalog: PipelineCatalog, every: Iterable[Version], held: Pairs) -> Pairs:
        """What the environments of a catalog show, or could be rolled back to; and what is held, anyway."""
        kept = set(held)
        for history in catalog.publishes().values():
            for publish in history[: self._asked.keep_publishes]:
                kept |= set(publish.pointers.items())
        for step, loads in catalog.loads().items():
            for environment in {load.environment for load in loads}:
                kept |= set(catalog.environment(environment).ingest_state(step).tables.items())
        for version in every:
            if KINDS[version.kind].retains_inputs and version.key in kept:
                kept |= set(version.inputs.items())
        return kept

    def _its(self, context: Context) -> Context:
        return context.model_copy(update={"pipeline": self._catalog.name})

    @staticmethod
    def _copies(versions: Iterable[Version], warehouse: str) -> frozenset[TableName]:
        """The tables of copies on a further warehouse."""
        return frozenset(table for version in versions if version.warehouse == warehouse for table in version.tables)


def _schemas(catalog: PipelineCatalog) -> set[str]:
    """Those of a pipeline's versions in one warehouse."""
    return {place.schema for place in Places(catalog.tables).of_versions(catalog.name)}

"""From the lake into a warehouse: versions of raw tables, from their manifests alone.

The version that a load adds to is loaded first, so that an empty warehouse gets everything that it lacks.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import ibis
import ibis.expr.schema as sch
import pyarrow as pa
import pyarrow.parquet

from entrepot.activities.catalog.details import Details, GrowingTableDetails, TableDetails
from entrepot.activities.catalog.growing_table import GrowingTable, Segment
from entrepot.activities.catalog.version import Version
from entrepot.activities.ingest import manifest as manifests
from entrepot.activities.ingest.dispositions import strategy_of
from entrepot.activities.ingest.landing import RowsFile
from entrepot.activities.ingest.manifest import Manifest
from entrepot.activities.ingest.sources.stream import FILE_NUMBER
from entrepot.activities.runtime.context import ActivityContext
from entrepot.activities.storage import lake
from entrepot.backends import Session, TableName
from entrepot.backends.base import count, physical
from entrepot.errors import StepFailed
from entrepot.identity.code import stable_hash
from entrepot.identity.expression import schema_from, schema_to
from entrepot.identity.version import version_schema, version_table
from entrepot.tracebacks import writing

LOAD, STAGE, TOGETHER = "__l", "__s", "__t"
"""What the names of segments have behind the table's: one load's, one that is there for a moment, several loads'.
Short, since some warehouses' names are."""

Hashes = Mapping[tuple[str, str], str | None]
"""Of manifests, by table and version."""

SHOWN = 5
"""Keys that an error names."""


@dataclass(frozen=True)
class _LoadedTable:
    """One table of a load, as a segment that no version shows yet."""

    manifest: Manifest
    before: list[Segment]
    segment: Segment
    changes_nothing: bool = False


class WarehouseLoader:
    """Loads versions of one step's tables into the warehouse of a session."""

    def __init__(self, work: ActivityContext, session: Session, pipeline: str, step: str, run: str) -> None:
        self._work = work
        self._session = session
        self._pipeline = pipeline
        self._step = step
        self._run = run
        self._schema = version_schema(work.tenant.settings(pipeline).schema)
        self._catalog = work.catalog(session).pipeline(pipeline)
        self._there: dict[tuple[str, str], Version] = {}

    def all(
        self, wanted: Mapping[str, str], hashes: Hashes = MappingProxyType({}), *, may_be_same: bool = False
    ) -> dict[str, str]:
        """Loads these versions, unless they are there. Returns each table's version.

        Args:
            hashes: Those of manifests, where they are known.
            may_be_same: Whether a table keeps the version before where its newest load changes nothing.

        Raises:
            StepFailed: if the lake does not have what was written; nothing is recorded then.
        """
        todo: list[dict[str, Manifest]] = []
        frontier = dict(wanted)
        while frontier := self._lacking(frontier, hashes):
            found = {
                t: manifests.read(self._work.tenant, self._pipeline, t, v, hashes.get((t, v)))
                for t, v in frontier.items()
            }
            todo.append(found)
            frontier = {t: each.follows for t, each in found.items() if each.follows is not None}
        made = dict(wanted)
        for number, load in enumerate(reversed(todo), 1):
            made |= self._load(load, may_be_same=may_be_same and number == len(todo))
        return made

    def _lacking(self, wanted: Mapping[str, str], hashes: Hashes) -> dict[str, str]:
        found = self._catalog.versions(wanted)
        for version in found.values():
            # Of a manifest that was written once more, since the one of before was not whole any more; or two loads
            # have written the same at once, and either may be the one that stands.
            if (written := hashes.get(version.key)) and written != version.manifest:
                stands = manifests.read(self._work.tenant, self._pipeline, *version.key)
                self._catalog.record_manifest(version, stands.sha256)
        self._there |= {version.key: version for version in found.values()}
        return {table: version for table, version in wanted.items() if table not in found}

    def _load(self, load: Mapping[str, Manifest], *, may_be_same: bool) -> dict[str, str]:
        """Loads the tables of one load: families of nested tables together."""
        versions: dict[str, str] = {}
        for root in [each for each in load.values() if each.hints.root not in load]:
            family = [root, *(each for each in load.values() if each.hints.root == root.table)]
            started = time.monotonic()
            loaded: list[_LoadedTable] = []
            for each in family:
                self._work.check()
                with self._session.contended_if_gone(*(table.segment.name for table in loaded)):
                    loaded.append(self._segment(each, loaded[0].segment if loaded else None))
            is_whole = set(root.family) <= {each.table for each in family}
            if may_be_same and is_whole and all(table.changes_nothing for table in loaded):
                for table in loaded:
                    self._session.drop_table(table.segment.name)
                versions |= {each.table: each.adds_to or each.version for each in family}
                continue
            # The root last: where it is there, its whole family is.
            for table in reversed(loaded):
                self._record(table, time.monotonic() - started)
                versions[table.manifest.table] = table.manifest.version
        return versions

    def _segment(self, manifest: Manifest, root: Segment | None) -> _LoadedTable:
        """The physical table with the rows of a load for one table."""
        before, strategy, hints = self._segments_of(manifest), strategy_of(manifest.hints), manifest.hints
        # What was written together was selected from loads already, and takes nothing away from what it is added to.
        packed = manifest.pack is not None
        columns = schema_from(manifest.pack.columns if manifest.pack else manifest.columns)
        is_version = not before and not strategy.stores_changes and (packed or not hints.deleted)
        target = TableName(self._schema, version_table(manifest.table + ("" if is_version else LOAD), manifest.version))
        has_own_key = strategy.needs_key and hints.root is None
        selection = strategy.selection(manifest, before, root) if not packed else None
        if selection is None:
            rows = self._files(manifest, target, columns)
        else:
            with self._staged(manifest) as staged:
                if has_own_key and strategy.stores_changes:  # of changes, a key that is there twice may be left out
                    self._check_keys(manifest, staged)
                selected = selection(staged)
                columns, rows = selected.schema(), self._session.create_as(target, selected).rows
        if has_own_key and not strategy.stores_changes:
            with self._dropped_on_failure(target), self._session.contended_if_gone(target):
                self._check_keys(manifest, physical(target, columns))
        segment = Segment(
            schema_name=target.schema,
            table=target.table,
            columns=schema_to(columns),
            rows=rows,
            supersedes=strategy.supersedes(hints, target, root) if before and not packed else None,
            deleted=None if strategy.stores_changes or packed else hints.deleted,
        )
        with self._session.contended_if_gone(target):
            changes_nothing = bool(before) and (
                rows == 0 if strategy.stores_changes else self._is_same(manifest, before, segment)
            )
        return _LoadedTable(manifest, before, segment, changes_nothing)

    def _segments_of(self, manifest: Manifest) -> list[Segment]:
        """The segments of the version that a load adds to."""
        return list(self._there[manifest.table, manifest.follows].all_segments) if manifest.follows else []

    def _files(self, manifest: Manifest, target: TableName, columns: sch.Schema) -> int:
        """Loads a load's files into a table of its own."""
        if not manifest.files:
            return self._session.write(target, columns, []).rows
        with tempfile.TemporaryDirectory(prefix="entrepot-") as folder:
            paths = []
            # Types that the driver casts must be those of all files: a reader may take them from the first.
            first, *others = ({name: part.columns.get(name) for name in columns} for part in manifest.files)
            fit = all(each == first for each in others) and not {None, "null"} & set(first.values())
            for part in manifest.files:
                self._work.check()
                path = _verified(manifest.table, part, folder)
                paths.append(path if fit else _completed(path, columns, folder))
            return self._session.load(target, paths, columns).rows

    @contextmanager
    def _staged(self, manifest: Manifest) -> Iterator[ibis.Table]:
        """A load's files as a table, while something else is made of it."""
        columns = schema_from(manifest.columns)
        if manifest.hints.newest and manifest.hints.newest[0] == FILE_NUMBER:
            columns = sch.Schema({**columns, FILE_NUMBER: "int64"})
        stage = TableName(self._schema, version_table(manifest.table + STAGE, manifest.version))
        try:
            self._files(manifest, stage, columns)
            with self._session.contended_if_gone(stage):
                yield physical(stage, columns)
        finally:
            self._session.drop_table(stage)

    def _is_same(self, manifest: Manifest, before: list[Segment], segment: Segment) -> bool:
        """Whether a load puts the very same rows in the place of existing ones."""
        shape = schema_from(manifest.shape)
        if segment.supersedes is None or any(dtype.is_nested() or dtype.is_json() for dtype in shape.values()):
            return False  # such rows cannot be compared everywhere
        new = GrowingTable((segment,)).rows(shape)
        taken = GrowingTable(before).superseded_by(segment, shape)
        if count(self._session, new) != count(self._session, taken):
            return False
        return count(self._session, ibis.difference(new, taken)) == 0

    def _check_keys(self, manifest: Manifest, rows: ibis.Table) -> None:
        """Raises StepFailed for rows without a key, and for keys that more than one row has."""
        table, key = manifest.table, list(manifest.hints.key)
        missing = rows.filter(ibis.or_(*(rows[column].isnull() for column in key)))
        if nulls := count(self._session, missing):
            raise StepFailed(f"table {table!r}: {nulls:,} rows have no key: NULL in {', '.join(map(repr, key))}")
        if manifest.hints.is_group:
            return
        groups = rows.group_by(key).aggregate(n=rows.count())
        twice = groups.filter(groups["n"] > 1)
        if many := count(self._session, twice):
            some = self._session.fetch(twice.order_by(key).limit(SHOWN)).to_pylist()
            named = "; ".join(", ".join(f"{k}={row[k]!r}" for k in key) + f" ({row['n']} rows)" for row in some)
            raise StepFailed(
                f"table {table!r}: {many:,} keys are not unique in what the source brought: {named}"
                + (" ..." if many > SHOWN else "")
            )

    def _record(self, loaded: _LoadedTable, seconds: float) -> None:
        """Makes what people and steps read of a version, and its row in the catalog."""
        manifest, every = loaded.manifest, [*loaded.before, loaded.segment]
        strategy, shape = strategy_of(manifest.hints), schema_from(manifest.shape)
        target = TableName(self._schema, version_table(manifest.table, manifest.version))
        newest = GrowingTable(every).to_compact()
        if newest == len(every) and not strategy.stores_changes:
            # What was there is one segment now; what came stays apart, so that it can be told what changed.
            every = [self._together(manifest, loaded.before), loaded.segment]
        elif newest:
            every = [*every[:-newest], self._together(manifest, every[-newest:])]
        details: Details = TableDetails(manifest=manifest.sha256)
        if len(every) == 1 and every[0].name == target:
            columns, rows = self._session.describe(target, shape), loaded.segment.rows
        else:
            relation = strategy.relation(every, shape, manifest.hints.key)
            details = GrowingTableDetails(segments=tuple(every), manifest=manifest.sha256)
            columns = self._session.create_view(target, relation)
            is_sum = not strategy.stores_changes and not any(each.supersedes or each.deleted for each in every)
            rows = sum(each.rows for each in every) if is_sum else count(self._session, relation)
        version = Version(
            name=manifest.table,
            version=manifest.version,
            kind="ingest",
            identity="",
            table=target,
            columns=schema_to(columns),
            inferred=manifest.shape,  # the same on every warehouse, and so is what is made of it
            rows=rows,
            details=details,
            run=self._run,
            step=self._step,
            bytes=manifest.bytes,
            seconds=seconds,
        )
        self._catalog.add_version(version)
        self._there[version.key] = version

    def _together(self, manifest: Manifest, some: list[Segment]) -> Segment:
        """Writes segments into one."""
        names = [each.table for each in some]
        target = TableName(self._schema, version_table(manifest.table + TOGETHER, stable_hash(names)))
        shape = strategy_of(manifest.hints).segment_columns(schema_from(manifest.shape))
        made = self._session.create_as(target, GrowingTable(some).rows(shape))
        return Segment(
            schema_name=target.schema,
            table=target.table,
            columns=schema_to(shape),
            rows=made.rows,
            together=tuple(names),
        )

    @contextmanager
    def _dropped_on_failure(self, name: TableName) -> Iterator[None]:
        try:
            yield
        except StepFailed:
            if not self._session.capabilities.transactional_ddl:
                self._session.drop_table(name)
            raise


def _verified(table: str, part: RowsFile, folder: str) -> str:
    """A local path of a load's file, after it was checked to be the one that was landed."""
    try:
        return lake.local_copy(part.file, folder, part.sha256)
    except StepFailed as error:
        raise StepFailed(f"table {table!r}: {error}{manifests.ANEW}") from error


def _completed(path: str, columns: sch.Schema, folder: str) -> str:
    """A copy of a Parquet file that has all of these columns, of these types: NULL where it had none."""
    source = pyarrow.parquet.ParquetFile(path)
    target = Path(folder, f"completed-{Path(path).name}")
    schema = columns.to_pyarrow()
    with writing("the scratch file", target), pyarrow.parquet.ParquetWriter(target, schema) as writer:
        for batch in source.iter_batches():
            table = pa.Table.from_batches([batch])
            for name in columns:
                if name not in table.column_names:
                    table = table.append_column(name, pa.nulls(len(table), schema.field(name).type))
            writer.write_table(table.select(schema.names).cast(schema, safe=False))
    return str(target)

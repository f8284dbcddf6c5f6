"""From the lake into a warehouse: versions of raw tables, from their manifests alone.

What a version adds to is brought first, so that a warehouse that has nothing gets everything that it lacks.
"""

from __future__ import annotations

import datetime
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import ibis
import ibis.expr.schema as sch
import pyarrow as pa
import pyarrow.parquet

from entrepot.activities.catalog import growing_table
from entrepot.activities.catalog.details import Details, GrowingTableDetails, TableDetails
from entrepot.activities.catalog.growing_table import GONE, VALID_FROM, VALID_TO, Segment, Supersedes
from entrepot.activities.catalog.version import Version
from entrepot.activities.ingest.sources.stream import FILE_NUMBER, ValueFilter
from entrepot.activities.runtime.context import ActivityContext
from entrepot.activities.storage import lake, manifest
from entrepot.activities.storage.manifest import Manifest
from entrepot.backends import Session, TableName
from entrepot.backends.base import count, physical
from entrepot.errors import StepFailed
from entrepot.identity.code import stable_hash
from entrepot.identity.expression import schema_from, schema_to
from entrepot.identity.version import version_schema, version_table

LOAD, STAGE, TOGETHER = "__l", "__s", "__t"
"""What the names of segments have behind the table's: one load's, one that is there for a moment, several loads'.
Short, since some warehouses' names are."""

NUMBER = "_entrepot_number"
"""A column that is there for a moment only."""

SHOWN = 5
"""Keys that an error names."""


class WarehouseLoader:
    """Brings versions of one step's tables into the warehouse of a session."""

    def __init__(self, work: ActivityContext, session: Session, pipeline: str, step: str, run: str) -> None:
        self._work = work
        self._session = session
        self._pipeline = pipeline
        self._step = step
        self._run = run
        self._schema = version_schema(work.tenant.settings(pipeline).schema)
        self._catalog = work.catalog(session).pipeline(pipeline)
        self._there: dict[tuple[str, str], Version] = {}

    def all(self, wanted: Mapping[str, str], *, may_be_same: bool = False) -> dict[str, str]:
        """Brings these versions. Returns what stands for each.

        Args:
            may_be_same: Whether for a load that changes nothing the version of before may stand.
        """
        todo: list[dict[str, Manifest]] = []
        frontier = dict(wanted)
        while frontier := self._lacking(frontier):
            found = {t: manifest.read(self._work.tenant, self._pipeline, t, v) for t, v in frontier.items()}
            todo.append(found)
            frontier = {t: its.adds_to for t, its in found.items() if its.adds_to is not None}
        made = dict(wanted)
        for number, load in enumerate(reversed(todo), 1):
            made |= self._load(load, may_be_same=may_be_same and number == len(todo))
        return made

    def _lacking(self, wanted: Mapping[str, str]) -> dict[str, str]:
        found = self._catalog.versions(wanted)
        self._there |= {version.key: version for version in found.values()}
        return {table: version for table, version in wanted.items() if table not in found}

    def _load(self, load: Mapping[str, Manifest], *, may_be_same: bool) -> dict[str, str]:
        """Brings what one load brought: families of nested tables together."""
        made: dict[str, str] = {}
        for root in [its for its in load.values() if its.hints.root not in load]:
            family = [root, *(its for its in load.values() if its.hints.root == root.table)]
            started = time.monotonic()
            parts: list[_Made] = []
            for its in family:
                self._work.check()
                with self._session.standing(*(part.segment.name for part in parts)):
                    parts.append(self._segment(its, parts[0] if parts else None))
            is_whole = set(root.family) <= {its.table for its in family}
            if may_be_same and is_whole and all(part.changes_nothing for part in parts):
                for part in parts:
                    self._drop(part.segment)
                made |= {its.table: its.adds_to or its.version for its in family}
                continue
            # The root last: where it is there, its whole family is.
            for part in reversed(parts):
                self._record(part, time.monotonic() - started)
                made[part.manifest.table] = part.manifest.version
        return made

    def _segment(self, its: Manifest, root: _Made | None) -> _Made:
        """The physical table with what a load brought for one table."""
        before = self._segments_of(its)
        hints = its.hints
        columns = schema_from(its.columns)
        name = its.table if not before and not hints.deleted and hints.disposition != "scd2" else its.table + LOAD
        target = TableName(self._schema, version_table(name, its.version))
        if hints.disposition == "scd2":
            return self._scd2(its, before, target)
        if hints.newest:
            rows = self._newest(its, target, columns)
        elif root is not None and root.segment.deleted:
            rows = self._of_living(its, target, columns, root.segment)
        else:
            rows = self._files(its, target, columns)
        segment = Segment(
            schema_name=target.schema, table=target.table, columns=its.columns, rows=rows, deleted=hints.deleted
        )
        if hints.disposition == "merge" and hints.root is None:
            with self._dropped_on_failure(target), self._session.standing(target):
                self._check_keys(its, target, columns)
        if not before:
            return _Made(its, before, segment)
        takes = None
        if hints.disposition == "merge" and root is not None:
            over = {"_dlt_root_id": "_dlt_id"}
            takes = Supersedes(schema_name=root.segment.schema_name, table=root.segment.table, columns=over)
        elif hints.disposition == "merge":
            takes = Supersedes(schema_name=target.schema, table=target.table, columns={k: k for k in hints.key})
        elif isinstance(hints.replaces, ValueFilter):
            takes = Supersedes(among=(hints.replaces.column, hints.replaces.values))
        elif hints.replaces is not None:
            takes = Supersedes(window=(hints.replaces.column, hints.replaces.start, hints.replaces.end))
        segment = segment.model_copy(update={"takes": takes})
        with self._session.standing(target):
            is_same = takes is not None and self._is_same(its, before, segment)
        return _Made(its, before, segment, changes_nothing=is_same)

    def _segments_of(self, its: Manifest) -> list[Segment]:
        """The segments of the version that a load adds to."""
        if its.adds_to is None:
            return []
        version = self._there[its.table, its.adds_to]
        if version.segments:
            return list(version.segments)
        assert version.table is not None
        whole = Segment(
            schema_name=version.table.schema,
            table=version.table.table,
            columns=version.inferred,
            rows=version.rows or 0,
        )
        return [whole]

    def _files(self, its: Manifest, target: TableName, columns: sch.Schema) -> int:
        """Loads a load's files into a table of its own."""
        if not its.parts:
            return self._session.write(target, columns, []).rows
        with tempfile.TemporaryDirectory(prefix="entrepot-") as folder, ExitStack() as stack:
            paths = []
            # Types that the driver casts must be those of all files: a reader may take them from the first.
            first, *others = ({name: part.columns.get(name) for name in columns} for part in its.parts)
            fit = all(each == first for each in others) and not {None, "null"} & set(first.values())
            for part in its.parts:
                self._work.check()
                path = stack.enter_context(lake.local_copy(part.file, folder))
                paths.append(path if fit else _completed(path, columns, folder))
            return self._session.load(target, paths, columns).rows

    def _newest(self, its: Manifest, target: TableName, columns: sch.Schema) -> int:
        """Loads a load's files, and keeps of the rows with one key the first in the order that the source names."""
        assert its.hints.newest is not None
        column, order = its.hints.newest
        is_file = column == FILE_NUMBER
        with self._staged(its, sch.Schema({**columns, column: "int64"}) if is_file else columns) as rows:
            by = ibis.desc(column) if order == "desc" else ibis.asc(column)
            number = ibis.rank() if is_file else ibis.row_number()
            over = number.over(group_by=list(its.hints.key), order_by=by)
            numbered = rows.mutate(**{NUMBER: over})
            return self._session.create_as(target, numbered.filter(numbered[NUMBER] == 0).select(*columns)).rows

    def _of_living(self, its: Manifest, target: TableName, columns: sch.Schema, root: Segment) -> int:
        """Loads a load's files, but for the rows that hang from a row that is marked as gone."""
        assert root.deleted is not None
        with self._staged(its, columns) as rows:
            roots = physical(root.name, schema_from(root.columns))
            dead = roots.filter(growing_table.gone(roots, root.deleted))
            living = rows.anti_join(dead, [rows["_dlt_root_id"] == dead["_dlt_id"]])
            return self._session.create_as(target, living).rows

    @contextmanager
    def _staged(self, its: Manifest, columns: sch.Schema) -> Iterator[ibis.Table]:
        """A load's files as a table, while something else is made of it."""
        stage = TableName(self._schema, version_table(its.table + STAGE, its.version))
        try:
            self._files(its, stage, columns)
            with self._session.standing(stage):
                yield physical(stage, columns)
        finally:
            self._session.drop_table(stage)

    def _scd2(self, its: Manifest, before: list[Segment], target: TableName) -> _Made:
        """The rows that are new or changed since the load before, and those that are gone, each from now on."""
        columns = schema_from(its.columns)
        data = sch.Schema({n: t for n, t in schema_from(its.shape).items() if n not in (VALID_FROM, VALID_TO)})
        since = ibis.literal(datetime.datetime.fromisoformat(its.loaded_at)).cast("timestamp(6)")
        key = list(its.hints.key)
        with self._staged(its, columns) as rows:
            self._check_keys(its, TableName(self._schema, version_table(its.table + STAGE, its.version)), columns)
            brought = growing_table.shaped(rows, data)
            changed, left = brought, None
            if before:
                ever = growing_table.history(before, schema_from(its.shape), key)
                current = ever.filter(ever[VALID_TO].isnull()).select(*data)
                changed = ibis.difference(brought, current)
                left = current.anti_join(brought, key)
            made = changed.mutate(**{VALID_FROM: since, GONE: ibis.literal(False)})
            if left is not None:
                made = made.union(left.mutate(**{VALID_FROM: since, GONE: ibis.literal(True)}))
            rows_made = self._session.create_as(target, made).rows
        segment = Segment(
            schema_name=target.schema, table=target.table, columns=schema_to(made.schema()), rows=rows_made
        )
        return _Made(its, before, segment, changes_nothing=bool(before) and rows_made == 0)

    def _is_same(self, its: Manifest, before: list[Segment], segment: Segment) -> bool:
        """Whether a load that takes rows away brings the very same rows again."""
        shape = schema_from(its.shape)
        if any(dtype.is_nested() or dtype.is_json() for dtype in shape.values()):
            return False  # such rows cannot be compared everywhere
        new = growing_table.relation([segment], shape)
        taken = growing_table.taken(before, segment, shape)
        if count(self._session, new) != count(self._session, taken):
            return False
        return count(self._session, ibis.difference(new, taken)) == 0

    def _check_keys(self, its: Manifest, name: TableName, columns: sch.Schema) -> None:
        """Raises StepFailed for rows without a key, and for keys that more than one row has."""
        rows, key = physical(name, columns), list(its.hints.key)
        missing = rows.filter(ibis.or_(*(rows[column].isnull() for column in key)))
        if nulls := count(self._session, missing):
            raise StepFailed(f"table {its.table!r}: {nulls:,} rows have no key: NULL in {', '.join(map(repr, key))}")
        if its.hints.is_group:
            return
        groups = rows.group_by(key).aggregate(n=rows.count())
        twice = groups.filter(groups["n"] > 1)
        if many := count(self._session, twice):
            some = self._session.fetch(twice.order_by(key).limit(SHOWN)).to_pylist()
            named = "; ".join(", ".join(f"{k}={row[k]!r}" for k in key) + f" ({row['n']} rows)" for row in some)
            raise StepFailed(
                f"table {its.table!r}: {many:,} keys are not unique in what the source brought: {named}"
                + (" ..." if many > SHOWN else "")
            )

    def _record(self, made: _Made, seconds: float) -> None:
        """Makes what people and steps read of a version, and its row in the catalog."""
        its, every = made.manifest, [*made.before, made.segment]
        shape = schema_from(its.shape)
        target = TableName(self._schema, version_table(its.table, its.version))
        if (newest := growing_table.tail(every)) and (newest < len(every) or its.hints.disposition == "scd2"):
            every = [*every[:-newest], self._together(its, every[-newest:])]
        details: Details = TableDetails()
        if len(every) == 1 and every[0].name == target:
            columns, rows = self._session.describe(target, shape), made.segment.rows
        else:
            scd2 = its.hints.disposition == "scd2"
            relation = (
                growing_table.history(every, shape, its.hints.key) if scd2 else growing_table.relation(every, shape)
            )
            if newest == len(every) and not scd2:
                whole = self._session.create_as(target, relation)
                columns, rows = whole.columns, whole.rows
            else:
                details = GrowingTableDetails(segments=tuple(every))
                columns = self._session.create_view(target, relation)
                is_sum = its.hints.disposition == "append" and not any(each.takes for each in every)
                rows = sum(each.rows for each in every) if is_sum else count(self._session, relation)
        version = Version(
            name=its.table,
            version=its.version,
            kind="ingest",
            identity="",
            table=target,
            columns=schema_to(columns),
            inferred=its.shape,  # the same on every warehouse, and so is what is made of it
            rows=rows,
            details=details,
            run=self._run,
            step=self._step,
            bytes=its.bytes,
            seconds=seconds,
        )
        self._catalog.add_version(version)
        self._there[version.key] = version

    def _together(self, its: Manifest, some: list[Segment]) -> Segment:
        """Writes segments into one."""
        names = [each.table for each in some]
        target = TableName(self._schema, version_table(its.table + TOGETHER, stable_hash(names)))
        shape = schema_from(its.shape)
        if its.hints.disposition == "scd2":
            shape = sch.Schema({**{n: t for n, t in shape.items() if n != VALID_TO}, GONE: ibis.dtype("boolean")})
        made = self._session.create_as(target, growing_table.relation(some, shape))
        return Segment(schema_name=target.schema, table=target.table, columns=schema_to(shape), rows=made.rows)

    @contextmanager
    def _dropped_on_failure(self, name: TableName) -> Iterator[None]:
        try:
            yield
        except StepFailed:
            if not self._session.capabilities.transactional_ddl:
                self._session.drop_table(name)
            raise

    def _drop(self, segment: Segment) -> None:
        self._session.drop_table(segment.name)


class _Made:
    """What a load brought for one table, as a segment that no version shows yet."""

    def __init__(
        self, manifest: Manifest, before: list[Segment], segment: Segment, *, changes_nothing: bool = False
    ) -> None:
        self.manifest = manifest
        self.before = before
        self.segment = segment
        self.changes_nothing = changes_nothing


def _completed(path: str, columns: sch.Schema, folder: str) -> str:
    """A copy of a Parquet file that has all of these columns, of these types: NULL where it had none."""
    source = pyarrow.parquet.ParquetFile(path)
    target = Path(folder, f"completed-{Path(path).name}")
    schema = columns.to_pyarrow()
    with pyarrow.parquet.ParquetWriter(target, schema) as writer:
        for batch in source.iter_batches():
            table = pa.Table.from_batches([batch])
            for name in columns:
                if name not in table.column_names:
                    table = table.append_column(name, pa.nulls(len(table), schema.field(name).type))
            writer.write_table(table.select(schema.names).cast(schema, safe=False))
    return str(target)

"""The rows of a source on their way into the lake: Parquet files, each digested, and a checkpoint of the reading.

The checkpoint (`checkpoint.json`) names the files that are in the lake and the watermark behind them. It is written
after the files, in one step, so it is never ahead of them; an attempt after a crash continues from there.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import ibis.expr.datatypes as dt
import ibis.expr.schema as sch
import pyarrow as pa
import pyarrow.parquet
from pydantic import BaseModel, ConfigDict, ValidationError
from temporalio import activity

from entrepot.activities.ingest.schema_evolution import DOUBLE_HOLDS, common
from entrepot.activities.ingest.sources.files import column_types as types
from entrepot.activities.ingest.sources.quoting import literal, quoted
from entrepot.activities.ingest.sources.stream import FILE_NUMBER, Hints, Piece, Stream, Watermark
from entrepot.activities.runtime.context import ActivityContext
from entrepot.activities.storage import lake
from entrepot.errors import StepFailed
from entrepot.identity.code import stable_hash
from entrepot.identity.expression import schema_from, schema_to
from entrepot.tracebacks import writing

PART_ROWS = 1_000_000
PART_BYTES = 128 * 2**20
"""Of one file in the lake, in memory."""
SECONDS = 10.0
"""Between two checkpoints, where the source can be read on from between its pieces."""

_BOOKS = ("_dlt_id", "_dlt_load_id")
"""Columns that follow from the others, or from nothing: they do not count when rows are compared."""

_OWN = (*_BOOKS, FILE_NUMBER)
"""Columns that are none of the source's."""


class RowsFile(BaseModel):
    """One file in the lake with rows of one table."""

    model_config = ConfigDict(frozen=True)

    file: str
    rows: int
    bytes: int
    sha256: str
    """The hash of the file, by which it is known again where it is read."""
    columns: dict[str, str]
    """As ibis types."""


class Part(RowsFile):
    """One that a load has landed."""

    content: tuple[int, int]
    """Two sums of hashes of its rows: the same whatever the order, duplicates counted."""
    wide: tuple[str, ...] = ()
    """The columns with whole numbers that a float64 does not hold."""


def content_of(parts: Sequence[Part]) -> str:
    """A hash of the rows of all parts that does not depend on their order."""
    rows, first, second = (sum(part.rows for part in parts), *(sum(part.content[i] for part in parts) for i in (0, 1)))
    return stable_hash([rows, str(first), str(second)])


class Checkpoint(BaseModel):
    """How far a source has been read."""

    stream: int = 0
    """Which of the step's streams is being read."""
    watermark: Watermark | None = None
    """Where to continue in it; None: at its beginning."""
    parts: dict[str, list[Part]] = {}
    watermarks: dict[str, Watermark] = {}
    """Where the next load continues, of the streams that were read to their end, by their names."""
    hints: dict[str, dict[str, Hints]] = {}
    """And the hints that they gave for their tables."""
    lost: dict[str, int] = {}
    """Values that did not fit and are NULL, by table."""
    notes: dict[str, list[str]] = {}
    """Notes of the streams that were read to their end, by table."""
    source_columns: dict[str, dict[str, str]] = {}
    """The columns in the source, of tables that keep the columns that they have."""


def _checkpoint_in(folder: str) -> Checkpoint:
    """How far an attempt before has come: not at all, if there was none, or its checkpoint cannot be read."""
    path = f"{folder}/checkpoint.json"
    try:
        return Checkpoint.model_validate_json(lake.read(path))
    except FileNotFoundError:
        return Checkpoint()
    except ValidationError:
        activity.logger.warning("%s cannot be read, so the source is read from its beginning", path)
        return Checkpoint()


class _Buffer:
    """Rows of one table that are not in the lake yet."""

    def __init__(self) -> None:
        self.batches: list[pa.RecordBatch] = []
        self.rows = 0
        self.bytes = 0

    def is_like(self, batch: pa.RecordBatch) -> bool:
        """Whether a batch goes into one file with these, as it is."""
        return bool(batch.schema == self.batches[-1].schema)

    def add(self, batch: pa.RecordBatch) -> None:
        self.batches.append(batch)
        self.rows += batch.num_rows
        self.bytes += batch.nbytes


class Landing:
    """Collects pieces into files of the lake.

    Args:
        folder: Where in the lake the files of this load go.
        declared: The columns of tables for which the step declares them.
        kept: The columns of a table that keeps those that it has, whatever the source has; None for others.
    """

    def __init__(
        self,
        work: ActivityContext,
        folder: str,
        scratch: Path,
        declared: Mapping[str, sch.Schema],
        kept: Callable[[str], sch.Schema | None],
    ) -> None:
        self._work = work
        self._folder = folder
        self._scratch = scratch
        self._declared = declared
        self._kept = kept
        self._buffers: dict[str, _Buffer] = {}
        self._flushed = time.monotonic()
        self._duckdb = duckdb.connect()
        # What does not fit into memory goes where there is room for files, and not into the worker's current folder.
        self._duckdb.execute(f"SET TimeZone = 'UTC'; SET temp_directory = {literal(str(scratch / 'spill'))}")
        self.checkpoint = _checkpoint_in(folder)

    def add(self, stream: int, piece: Piece) -> None:
        """Adds a piece. Writes files where enough rows are there, and a checkpoint where the last one is old."""
        self._work.check()
        if piece.anew:
            self._forget(piece.table)
        if isinstance(piece.rows, Path):
            self._into_lake(piece.table, piece.rows)
        elif piece.rows is not None and (piece.rows.num_rows or piece.table not in self._buffers):
            if (known := self._buffers.get(piece.table)) and not known.is_like(piece.rows):
                self._flush(piece.table)
            buffer = self._buffers.setdefault(piece.table, _Buffer())
            buffer.add(piece.rows)
            if buffer.bytes >= PART_BYTES or buffer.rows >= PART_ROWS:
                self._flush(piece.table)
            elif sum(each.bytes for each in self._buffers.values()) >= 2 * PART_BYTES:  # many tables
                self._write_all()
        is_late = time.monotonic() - self._flushed > SECONDS
        if is_late and piece.watermark is not None:
            self._write_all()
            self._write_checkpoint(stream, piece.watermark)

    def _forget(self, table: str) -> None:
        """Drops the rows of a table so far: the source gives all of them again."""
        found = self.checkpoint
        by_table: tuple[dict[str, Any], ...] = (self._buffers, found.parts, found.lost, found.source_columns)
        for each in by_table:
            each.pop(table, None)

    def finish(self, number: int, name: str, stream: Stream) -> None:
        """Writes what is left of a stream that has ended, and a checkpoint behind it."""
        self._write_all()
        self.checkpoint.watermarks[name] = stream.watermark()
        self.checkpoint.hints[name] = stream.hints()
        self.checkpoint.notes.update(stream.notes())
        self._write_checkpoint(number + 1, None)

    def _write_all(self) -> None:
        for table in list(self._buffers):
            self._flush(table)

    def _write_checkpoint(self, stream: int, watermark: Watermark | None) -> None:
        self.checkpoint = self.checkpoint.model_copy(update={"stream": stream, "watermark": watermark})
        lake.write(self.checkpoint.model_dump_json().encode(), f"{self._folder}/checkpoint.json")
        self._flushed = time.monotonic()
        self._work.report({table: sum(p.rows for p in parts) for table, parts in self.checkpoint.parts.items()})

    def _flush(self, table: str) -> None:
        batches = self._buffers.pop(table).batches
        local = self._scratch / f"{uuid.uuid4().hex}.parquet"
        whole = pa.Table.from_batches(batches)
        with writing("the scratch file", local):
            pyarrow.parquet.write_table(whole, local, compression="zstd", compression_level=1)
        self._into_lake(table, local)

    def _into_lake(self, table: str, local: Path) -> None:
        schema = sch.Schema.from_pyarrow(pyarrow.parquet.read_schema(local))
        if table in self._declared:
            local, schema = self._as_declared(table, local, schema, self._declared[table])
        if (kept := self._kept(table)) is not None:
            local, schema = self._as_kept(table, local, schema, kept)
        wanted = self._declared.get(table, schema)
        columns = sorted(name for name in schema if name not in _BOOKS and (name in wanted or name == FILE_NUMBER))
        # The hash of no column is that of the row's number alone.
        row = ", ".join(map(quoted, columns)) or "0"
        hashed = f"SELECT hash({row}) AS h FROM read_parquet(?)"
        query = f"SELECT count(*), sum(h::HUGEINT), sum(hash(h)::HUGEINT) FROM ({hashed})"
        rows, first, second = self._duckdb.execute(query, [str(local)]).fetchone() or (0, 0, 0)
        target = f"{self._folder}/{table}-{uuid.uuid4().hex}.parquet"
        size, wide, sha256 = local.stat().st_size, _wide(local), lake.sha256_of(local)
        lake.put(str(local), target)
        columns_of = schema_to(sch.Schema({name: dtype(nullable=True) for name, dtype in schema.items()}))
        part = Part(
            file=target,
            rows=rows,
            bytes=size,
            sha256=sha256,
            content=(first or 0, second or 0),
            columns=columns_of,
            wide=wide,
        )
        self.checkpoint.parts.setdefault(table, []).append(part)

    def _as_kept(self, table: str, local: Path, found: sch.Schema, kept: sch.Schema) -> tuple[Path, sch.Schema]:
        """A file with the columns that a table has, of its types: what does not fit is NULL, and counted."""
        columns = sch.Schema({name: kept.get(name, found[name]) for name in found if name in kept or name in _OWN})
        if columns == found:
            return local, found
        before = schema_from(self.checkpoint.source_columns.get(table, {}))
        both = {name: common(before.get(name, dtype), dtype) or dtype for name, dtype in found.items()}
        self.checkpoint.source_columns[table] = schema_to(sch.Schema({**before, **both}))
        tried = {name: _exactly(name, found[name], dtype) for name, dtype in columns.items()}
        lost = self._count_lost(local, tried, {name: [name] for name in tried})
        self.checkpoint.lost[table] = self.checkpoint.lost.get(table, 0) + sum(lost.values())
        return self._rewritten(local, tried), columns

    def _as_declared(self, table: str, local: Path, found: sch.Schema, declared: sch.Schema) -> tuple[Path, sch.Schema]:
        """A file with columns of the types that the step declares.

        Raises:
            StepFailed: for values that such a type does not hold.
        """
        # dlt puts values of other kinds into columns of their own, and here they are of one.
        variants = {name: [n for n in found if n.startswith(f"{name}__v_") and n not in declared] for name in declared}
        casts = {n for n in found if n in declared and (variants[n] or _is_cast(found[n], declared[n]))}
        if not casts:
            return local, found
        extra = {n for name in casts for n in variants[name]}
        columns = {n: declared[n] if n in casts else t for n, t in found.items() if n not in extra}
        of = {name: [name, *variants.get(name, [])] for name in columns}
        tried = {name: quoted(name) for name in columns}
        for name in casts:
            values = (_exactly(n, found[n], declared[name]) for n in of[name])
            tried[name] = f"coalesce({', '.join(values)})"
        lost = {name: count for name, count in self._count_lost(local, tried, of).items() if count}
        for name, count in lost.items():
            given = f"coalesce({', '.join(f'{quoted(n)}::VARCHAR' for n in of[name])})"
            some = f"SELECT {given} FROM read_parquet(?) WHERE {tried[name]} IS NULL AND {given} IS NOT NULL LIMIT 1"
            ((value,),) = self._duckdb.execute(some, [str(local)]).fetchall()
            raise StepFailed(
                f"table {table!r}: {value[:100]!r} in the column {name!r}, which the step declares as "
                f"{declared[name]}, is none ({count:,} values)"
            )
        return self._rewritten(local, tried), sch.Schema(columns)

    def _count_lost(self, local: Path, tried: Mapping[str, str], of: Mapping[str, list[str]]) -> dict[str, int]:
        """How many values of each column would become NULL. `of`: the columns that it is made of."""
        given = {name: " + ".join(f"count({quoted(n)})" for n in of[name]) for name in tried}
        counts = ", ".join(f"{given[name]} - count({cast})" for name, cast in tried.items())
        found = self._duckdb.execute(f"SELECT {counts or 0} FROM read_parquet(?)", [str(local)]).fetchall()[0]
        return dict(zip(tried, found, strict=False))

    def _rewritten(self, local: Path, columns: Mapping[str, str]) -> Path:
        chosen = ", ".join(f"{value} AS {quoted(name)}" for name, value in columns.items())
        target = local.with_suffix(".fitted.parquet")
        query = f"SELECT {chosen} FROM read_parquet({literal(str(local))})"
        self._duckdb.execute(f"COPY ({query}) TO {literal(str(target))} (FORMAT parquet)")
        return target

    def close(self) -> None:
        """Lets go of what it holds open."""
        self._duckdb.close()


def _is_cast(found: dt.DataType, declared: dt.DataType) -> bool:
    """Whether a column has to be made one of its declared type here: warehouses would round what does not fit."""
    both = (found, declared)
    if found.is_null() or any(t.is_nested() or t.is_json() or t.is_binary() or t.is_uuid() for t in both):
        return False
    is_open = declared.is_decimal() and declared.precision is None
    return not is_open and types.sql_type(found) != types.sql_type(declared)


def _exactly(name: str, found: dt.DataType, wanted: dt.DataType) -> str:
    """SQL for a column's value as one of another type, NULL where that would change it."""
    column = quoted(name)
    if types.sql_type(found) == types.sql_type(wanted):
        return column
    if found.is_string() or (found.is_timestamp() and not found.timezone and wanted.is_timestamp() and wanted.timezone):
        text, declared = f"CAST({column} AS VARCHAR)", types.Declared(name, str(wanted))
        return f"CASE WHEN {declared.fits(text)} THEN {declared.value(text)} END"
    cast = f"TRY_CAST({column} AS {types.sql_type(wanted)})"
    if found.is_floating() and wanted.is_floating():
        return cast
    return f"CASE WHEN TRY_CAST({cast} AS {types.sql_type(found)}) = {column} THEN {cast} END"


def _wide(local: Path) -> tuple[str, ...]:
    """The columns of a file with whole numbers that a float64 does not hold, or that may have some."""
    found = pyarrow.parquet.read_metadata(local)
    names = set()
    for group in map(found.row_group, range(found.num_row_groups)):
        for number in range(group.num_columns):
            column, kind = group.column(number), found.schema.column(number).logical_type.type
            is_whole = column.physical_type == "INT64" and kind in ("NONE", "INT")
            if is_whole and _may_be_wide(column.statistics, column.num_values):
                names.add(column.path_in_schema.split(".")[0])
    return tuple(sorted(names))


def _may_be_wide(statistics: Any, values: int) -> bool:
    if statistics is None:
        return True
    if statistics.has_min_max:
        return bool(max(-statistics.min, statistics.max) > DOUBLE_HOLDS)
    return bool(statistics.null_count != values)

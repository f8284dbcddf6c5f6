"""What a source gives, on its way into the lake: Parquet files, each digested, and a note of how far the reading came.

The note (`checkpoint.json`) names the files that are in the lake and the position behind them. It is written after the
files, in one step, so it is never ahead of them; whoever reads the source again after a crash goes on from there.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import duckdb
import ibis.expr.schema as sch
import pyarrow as pa
import pyarrow.parquet
from ibis.backends.sql.datatypes import DuckDBType
from pydantic import BaseModel, ConfigDict

from activities import lake
from activities.sources.quoting import literal, quoted
from activities.sources.stream import FILE_NUMBER, Hints, Json, Piece, Stream
from activities.work import Work
from entrepot.code import digest
from entrepot.errors import StepFailed
from entrepot.evolution import common
from entrepot.expression import schema_from, schema_to

PART_ROWS = 1_000_000
PART_BYTES = 128 * 2**20
"""Of one file in the lake, in memory."""
SECONDS = 10.0
"""Between two checkpoints, where the source can be read on from between its pieces."""

_BOOKS = ("_dlt_id", "_dlt_load_id")
"""Columns that follow from the others, or from nothing: they do not count when rows are compared."""

_OWN = (*_BOOKS, FILE_NUMBER)
"""Columns that are none of the source's."""


class Part(BaseModel):
    """One file in the lake with rows of one table."""

    model_config = ConfigDict(frozen=True)

    file: str
    rows: int
    bytes: int
    content: tuple[int, int]
    """Two sums of hashes of its rows: the same whatever the order, duplicates counted."""
    columns: dict[str, str]
    """As ibis types."""


def content_of(parts: list[Part]) -> str:
    """A hash of the rows of all parts that does not depend on their order."""
    rows, first, second = (sum(part.rows for part in parts), *(sum(part.content[i] for part in parts) for i in (0, 1)))
    return digest([rows, str(first), str(second)])


class Checkpoint(BaseModel):
    """How far a source has been read."""

    stream: int = 0
    """Which of the step's streams is being read."""
    position: Json | None = None
    """Where to go on in it; None: at its beginning."""
    parts: dict[str, list[Part]] = {}
    states: dict[str, Json] = {}
    """What the streams that were read to their end want to know at their next load, by their names."""
    hints: dict[str, dict[str, Hints]] = {}
    """And what they said of their tables."""
    lost: dict[str, int] = {}
    """Values that did not fit and are NULL, by table."""
    notes: dict[str, list[str]] = {}
    """What the streams that were read to their end told of tables."""
    brought: dict[str, dict[str, str]] = {}
    """The columns, as the source gave them, of tables that stay as they are."""


class _Buffer:
    """Rows of one table that are not in the lake yet."""

    def __init__(self) -> None:
        self.batches: list[pa.RecordBatch] = []
        self.rows = 0
        self.bytes = 0

    def add(self, batch: pa.RecordBatch) -> None:
        self.batches.append(batch)
        self.rows += batch.num_rows
        self.bytes += batch.nbytes


class Intake:
    """Gathers pieces into files of the lake.

    Args:
        folder: Where in the lake the files of this load go.
        declared: The columns that are taken of tables whose columns are declared.
        kept: The columns of a table that stays as it is, whatever comes; None for others.
    """

    def __init__(
        self,
        work: Work,
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
        note = f"{folder}/checkpoint.json"
        self.reached = Checkpoint.model_validate_json(lake.read(note)) if lake.exists(note) else Checkpoint()

    def add(self, stream: int, piece: Piece) -> None:
        """Takes a piece; writes what has gathered, if that is much, or if it is time for a checkpoint."""
        self._work.check()
        if piece.anew:
            its: tuple[dict[str, Any], ...] = (
                self._buffers,
                self.reached.parts,
                self.reached.lost,
                self.reached.brought,
            )
            for of_tables in its:
                of_tables.pop(piece.table, None)
        if isinstance(piece.rows, Path):
            self._into_lake(piece.table, piece.rows)
        elif piece.rows is not None and (piece.rows.num_rows or piece.table not in self._buffers):
            buffer = self._buffers.setdefault(piece.table, _Buffer())
            buffer.add(piece.rows)
            if buffer.bytes >= PART_BYTES or buffer.rows >= PART_ROWS:
                self._flush(piece.table)
            elif sum(each.bytes for each in self._buffers.values()) >= 2 * PART_BYTES:  # many tables
                self._write_all()
        is_late = time.monotonic() - self._flushed > SECONDS
        if is_late and piece.position is not None:
            self._write_all()
            self._note(stream, piece.position)

    def finish(self, number: int, name: str, stream: Stream) -> None:
        """A stream has ended: what it gave is in the lake."""
        self._write_all()
        self.reached.states[name] = stream.state()
        self.reached.hints[name] = stream.hints()
        self.reached.notes.update(stream.notes())
        self._note(number + 1, None)

    def _write_all(self) -> None:
        for table in list(self._buffers):
            self._flush(table)

    def _note(self, stream: int, position: Json | None) -> None:
        self.reached = self.reached.model_copy(update={"stream": stream, "position": position})
        lake.write(self.reached.model_dump_json().encode(), f"{self._folder}/checkpoint.json")
        self._flushed = time.monotonic()
        self._work.progress = {table: sum(p.rows for p in parts) for table, parts in self.reached.parts.items()}

    def _flush(self, table: str) -> None:
        batches = self._buffers.pop(table).batches
        local = self._scratch / f"{uuid.uuid4().hex}.parquet"
        try:
            schema = pa.unify_schemas([batch.schema for batch in batches], promote_options="permissive")
        except pa.ArrowException as error:
            raise StepFailed(
                f"table {table!r}: rows of one load have columns of types that do not go together: {error}"
            ) from error
        tables = [pa.Table.from_batches([batch]) for batch in batches]
        whole = pa.concat_tables(tables, promote_options="permissive").cast(schema)
        pyarrow.parquet.write_table(whole, local, compression="zstd", compression_level=1)
        self._into_lake(table, local)

    def _into_lake(self, table: str, local: Path) -> None:
        schema = sch.Schema.from_pyarrow(pyarrow.parquet.read_schema(local))
        if (kept := self._kept(table)) is not None:
            local, schema = self._fitted(table, local, schema, kept)
        wanted = self._declared.get(table, schema)
        columns = sorted(name for name in schema if name not in _BOOKS and (name in wanted or name == FILE_NUMBER))
        # The hash of no column is that of the row's number alone.
        row = ", ".join(map(quoted, columns)) or "0"
        hashed = f"SELECT hash({row}) AS h FROM read_parquet(?)"
        query = f"SELECT count(*), sum(h::HUGEINT), sum(hash(h)::HUGEINT) FROM ({hashed})"
        rows, first, second = self._duckdb.execute(query, [str(local)]).fetchone() or (0, 0, 0)
        target = f"{self._folder}/{table}-{uuid.uuid4().hex}.parquet"
        size = local.stat().st_size
        lake.put(str(local), target)
        columns_of = schema_to(sch.Schema({name: dtype(nullable=True) for name, dtype in schema.items()}))
        part = Part(file=target, rows=rows, bytes=size, content=(first or 0, second or 0), columns=columns_of)
        self.reached.parts.setdefault(table, []).append(part)

    def _fitted(self, table: str, local: Path, found: sch.Schema, kept: sch.Schema) -> tuple[Path, sch.Schema]:
        """A file with the columns that a table has, of its types: what does not fit is NULL, and counted."""
        columns = sch.Schema({name: kept.get(name, found[name]) for name in found if name in kept or name in _OWN})
        if columns == found:
            return local, found
        before = schema_from(self.reached.brought.get(table, {}))
        both = {name: common(before.get(name, dtype), dtype) or dtype for name, dtype in found.items()}
        self.reached.brought[table] = schema_to(sch.Schema({**before, **both}))
        source = literal(str(local))
        tried = {n: f"TRY_CAST({quoted(n)} AS {DuckDBType.to_string(t)})" for n, t in columns.items()}
        lost = " + ".join(f"count({quoted(n)}) - count({cast})" for n, cast in tried.items()) or "0"
        (count,) = self._duckdb.execute(f"SELECT {lost} FROM read_parquet({source})").fetchone() or (0,)
        self.reached.lost[table] = self.reached.lost.get(table, 0) + count
        chosen = ", ".join(f"{cast} AS {quoted(n)}" for n, cast in tried.items())
        fitted = local.with_suffix(".fitted.parquet")
        target = literal(str(fitted))
        self._duckdb.execute(f"COPY (SELECT {chosen} FROM read_parquet({source})) TO {target} (FORMAT parquet)")
        return fitted, columns

    def close(self) -> None:
        """Lets go of what it holds open."""
        self._duckdb.close()

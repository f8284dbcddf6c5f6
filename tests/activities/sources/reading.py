"""Reads files as an ingest does, and keeps what it was given."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from activities.sources import files
from activities.sources.stream import Hints, Json, Piece
from entrepot.sources import Files


@dataclass(frozen=True)
class Read:
    pieces: list[tuple[str, pa.Table, Json | None]]
    state: Json
    hints: dict[str, Hints]

    def table(self, name: str = "t") -> pa.Table:
        """All rows of a table; the pieces must be of one schema."""
        return pa.concat_tables([rows for table, rows, _ in self.pieces if table == name])

    def columns(self, name: str = "t") -> dict[str, list[Any]]:
        found: dict[str, list[Any]] = self.table(name).to_pydict()
        return found


def read(source: Files, state: Json | None = None, after: Json | None = None) -> Read:
    stream = files.stream("t", source, state or {})
    pieces = [(piece.table, rows(piece), piece.position) for piece in stream.pieces(after)]
    return Read(pieces, stream.state(), stream.hints())


def rows(piece: Piece) -> pa.Table:
    """The rows, which are gone from the disk with the next piece."""
    if isinstance(piece.rows, Path):
        return pq.read_table(piece.rows, memory_map=False)
    return pa.Table.from_batches([piece.rows])

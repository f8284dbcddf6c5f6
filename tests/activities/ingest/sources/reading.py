"""Reads files as an ingest does, and keeps what it was given."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from entrepot.activities.ingest.sources.files import files
from entrepot.activities.ingest.sources.stream import Hints, Json, Piece
from entrepot.language.sources import Files


@dataclass(frozen=True)
class Read:
    pieces: list[tuple[str, pa.Table, Json | None]]
    state: Json
    hints: dict[str, Hints]

    def table(self, name: str = "t") -> pa.Table:
        """All rows of a table. The pieces must be of one schema, but for columns without values, which have no type."""
        tables = [rows for table, rows, _ in self.pieces if table == name]
        return pa.concat_tables(tables, promote_options="default")

    def columns(self, name: str = "t") -> dict[str, list[Any]]:
        found: dict[str, list[Any]] = self.table(name).to_pydict()
        return found


def read(source: Files, state: Json | None = None, after: Json | None = None) -> Read:
    stream = files.stream("t", source, state or {})
    pieces: list[tuple[str, pa.Table, Json | None]] = []
    for piece in stream.pieces(after):
        take(pieces, piece)
    return Read(pieces, stream.watermark(), stream.hints())


def read_in_two(source: Files, stop: int) -> Read:
    """The same by two attempts, of which the first ends behind the first position from a piece on."""
    pieces: list[tuple[str, pa.Table, Json | None]] = []
    position: Json | None = None
    for number, piece in enumerate(files.stream("t", source, {}).pieces(None)):
        take(pieces, piece)
        if number >= stop and piece.watermark is not None:
            position = json.loads(json.dumps(piece.watermark))
            break
    else:
        pieces = []
    stream = files.stream("t", source, {})
    for piece in stream.pieces(position):
        take(pieces, piece)
    return Read(pieces, stream.watermark(), stream.hints())


def take(pieces: list[tuple[str, pa.Table, Json | None]], piece: Piece) -> None:
    """Adds a piece to those before, or puts it in their place, as an ingest does."""
    if piece.anew:
        pieces[:] = [given for given in pieces if given[0] != piece.table]
    if piece.rows is not None:
        pieces.append((piece.table, rows(piece), piece.watermark))


def rows(piece: Piece) -> pa.Table:
    """The rows, which are gone from the disk with the next piece."""
    if isinstance(piece.rows, Path):
        return pq.read_table(piece.rows, memory_map=False)
    assert piece.rows is not None
    return pa.Table.from_batches([piece.rows])

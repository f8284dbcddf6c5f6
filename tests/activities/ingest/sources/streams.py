"""Reading a stream to its end, as an ingest does."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from entrepot.activities.ingest.sources.stream import Hints, Json, Stream

Rows = list[dict[str, Any]]


@dataclass
class Read:
    """What a stream brought."""

    rows: dict[str, Rows] = field(default_factory=dict)
    positions: list[tuple[Json, int]] = field(default_factory=list)
    """Each position, and how many pieces had come with it."""
    pieces: list[tuple[str, Rows]] = field(default_factory=list)
    state: Json = field(default_factory=dict)
    hints: dict[str, Hints] = field(default_factory=dict)
    notes: dict[str, list[str]] = field(default_factory=dict)

    def without_load_id(self) -> dict[str, Rows]:
        """The rows as an ingest keeps them."""
        return {
            table: [{name: value for name, value in row.items() if name != "_dlt_load_id"} for row in rows]
            for table, rows in self.rows.items()
        }


def read(stream: Stream, after: Json | None = None) -> Read:
    """All of a stream."""
    found = Read()
    for piece in stream.pieces(after):
        assert isinstance(piece.rows, Path)
        rows = pq.read_table(piece.rows).to_pylist()
        found.rows.setdefault(piece.table, []).extend(rows)
        found.pieces.append((piece.table, rows))
        if piece.watermark is not None:
            found.positions.append((piece.watermark, len(found.pieces)))
    found.state, found.hints, found.notes = stream.watermark(), stream.hints(), stream.notes()
    return found

"""Tables of a real PostgreSQL, and what loads bring of them."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pyarrow as pa

from entrepot.activities.ingest.sources.postgres import tables
from entrepot.activities.ingest.sources.stream import Json, Piece
from entrepot.language.sources import PostgresTable
from tests.servers.postgres import Server


class Table:
    """A table of a test's own."""

    def __init__(self, server: Server, columns: str) -> None:
        self.server = server
        self.name = f"t_{uuid.uuid4().hex[:12]}"
        self.do(f"CREATE TABLE {self.name} ({columns})")

    def do(self, sql: str) -> None:
        with self.server.connect() as connection:
            connection.execute(sql)

    def add(self, *rows: str) -> None:
        self.do(f"INSERT INTO {self.name} VALUES {', '.join(f'({row})' for row in rows)}")

    def source(self, **settings: Any) -> PostgresTable:
        return PostgresTable(**{"url": "env:SHOP", "table": self.name, **settings})

    def load(self, state: Json | None = None, interval: Any = None, **settings: Any) -> Load:
        return Load(self.source(**settings), state or {}, interval)


class Load:
    """All that one load brings; what it remembers goes through JSON, as in the catalog."""

    def __init__(self, source: PostgresTable, state: Json, interval: Any = None, after: Json | None = None) -> None:
        stream = tables.stream("shop", source, state, interval)
        self.pieces = list(stream.pieces(after))
        self.state: Json = json.loads(json.dumps(stream.watermark()))
        self.hints = stream.hints()["shop"]
        self.notes = stream.notes().get("shop", [])

    @property
    def rows(self) -> list[tuple[Any, ...]]:
        return [row for piece in self.pieces for row in rows(piece)]

    @property
    def ids(self) -> list[int]:
        return [row[0] for row in self.rows]


def rows(piece: Piece) -> list[tuple[Any, ...]]:
    assert isinstance(piece.rows, pa.RecordBatch)
    return [tuple(row.values()) for row in piece.rows.to_pylist()]


def events(postgres: Server, type: str = "timestamptz") -> Table:
    return Table(postgres, f"id int, at {type}, note text")

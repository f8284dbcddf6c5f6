"""Tables of SQLite, loaded into DuckDB by Entrepot's own activities, beside what SQLite itself says."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any

import ibis
import pyarrow as pa
import pytest
from entrepot.activities.ingest.sources import registry
from entrepot.activities.ingest.sources.stream import Piece, Target, Watermark
from entrepot.protocol.messages import Backfill
from temporalio.exceptions import ApplicationError
from tests.activities.ingest.loading import Warehouse

from entrepot_sqlite import SqliteTable, reading

ORDERS = {"table": "orders"}
BY_ID = {**ORDERS, "cursor": "id"}


def do(acme: Warehouse, sql: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(acme.folder / "shop.sqlite")) as connection, connection:
        return connection.execute(sql).fetchall()


def add(acme: Warehouse, *numbers: int) -> None:
    for number in numbers:
        do(acme, f"INSERT INTO orders VALUES ({number}, 'item {number}', {number} / 4.0, NULL)")


def loaded(acme: Warehouse) -> list[tuple[Any, ...]]:
    rows = acme.rows("orders")
    return sorted(tuple(row[name] for name in ("id", "item", "price")) for row in rows)


def stored(acme: Warehouse) -> list[tuple[Any, ...]]:
    return do(acme, "SELECT id, item, price FROM orders ORDER BY id")


def test_it_is_found_by_what_describes_it() -> None:
    found = registry.sources(SqliteTable("shop.sqlite", "orders"), "shop", ["orders"])
    assert isinstance(found["table:orders"][1], reading.SqliteSource)


def test_a_table_is_read_as_a_whole(acme: Warehouse) -> None:
    add(acme, 1, 2, 3)
    acme.load("orders", ORDERS)
    assert loaded(acme) == stored(acme)
    do(acme, "DELETE FROM orders WHERE id = 2")
    acme.load("orders", ORDERS)
    assert loaded(acme) == stored(acme) == [(1, "item 1", 0.25), (3, "item 3", 0.75)]


def test_with_a_cursor_only_new_rows_are_read(acme: Warehouse) -> None:
    add(acme, 1, 2)
    acme.load("orders", BY_ID)
    do(acme, "UPDATE orders SET item = 'changed, and not seen'")
    add(acme, 3)
    result = acme.load("orders", BY_ID)
    assert result is not None
    assert result.rows == 1
    assert loaded(acme) == [(1, "item 1", 0.25), (2, "item 2", 0.5), (3, "item 3", 0.75)]
    assert acme.load("orders", BY_ID) is None


def test_a_backfill_replaces_an_interval_and_the_watermark_stays(acme: Warehouse) -> None:
    add(acme, 1, 2, 3)
    acme.load("orders", BY_ID)
    do(acme, "UPDATE orders SET item = 'other'")
    add(acme, 4)
    acme.load("orders", BY_ID, backfill=Backfill(start=2, end=3))
    assert [item for _, item, _ in loaded(acme)] == ["item 1", "other", "item 3"]
    acme.load("orders", BY_ID)
    assert [number for number, _, _ in loaded(acme)] == [1, 2, 3, 4]


@pytest.mark.parametrize("stop", range(1, 4))
def test_a_read_that_was_cut_off_continues(acme: Warehouse, monkeypatch: pytest.MonkeyPatch, stop: int) -> None:
    monkeypatch.setattr(reading, "PIECE_ROWS", 2)
    add(acme, *range(1, 7))
    source = reading.SqliteSource(SqliteTable(f"{acme.folder}/shop.sqlite", "orders", cursor="id"))

    def read(watermark: Watermark | None) -> list[Piece]:
        return list(source.open(Target("orders", ibis.schema({})), {}, None).pieces(watermark))

    pieces = read(None)
    kept = [*pieces[: stop + 1], *read(pieces[stop].watermark)]
    assert [number for piece in kept for number in ids(piece)] == [1, 2, 3, 4, 5, 6]


def ids(piece: Piece) -> list[int]:
    assert isinstance(piece.rows, pa.RecordBatch)
    return list(piece.rows.column("id").to_pylist())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"table": "nothing"}, "there is no such table"),
        ({**ORDERS, "cursor": "idd"}, "unknown column 'idd'; did you mean 'id'"),
        ({**ORDERS, "cursor": "note"}, "the cursor 'note' is NULL in some row"),
    ],
)
def test_what_cannot_be_read_is_said(acme: Warehouse, options: dict[str, str], message: str) -> None:
    add(acme, 1)
    with pytest.raises(ApplicationError, match=message):
        acme.load("orders", options)


def test_a_column_of_several_types_is_refused(acme: Warehouse) -> None:
    add(acme, 1, 2)
    do(acme, "UPDATE orders SET note = id WHERE id = 1")
    do(acme, "UPDATE orders SET note = 'text' WHERE id = 2")
    with pytest.raises(ApplicationError, match="column 'note' has values of several types"):
        acme.load("orders", ORDERS)


def test_a_backfill_needs_a_cursor(acme: Warehouse) -> None:
    add(acme, 1)
    acme.load("orders", ORDERS)
    with pytest.raises(ApplicationError, match="a backfill of an interval needs a `cursor`"):
        acme.load("orders", ORDERS, backfill=Backfill(start=2, end=3))

"""Tables of SQLite, loaded into DuckDB by Entrepot's own activities, beside what SQLite itself says."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any

import ibis
import pyarrow as pa
import pytest
from entrepot.activities.ingest.sources import registry
from entrepot.activities.ingest.sources.stream import Piece, RawTable, Watermark
from entrepot.errors import StepFailed, Unavailable
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

    pieces = read(source, None)
    kept = [*pieces[: stop + 1], *read(source, pieces[stop].watermark)]
    assert [number for piece in kept for number in ids(piece)] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("stop", range(1, 4))
@pytest.mark.parametrize("order", ["BINARY", "NOCASE"])
def test_a_read_that_was_cut_off_loses_no_row_with_the_same_value(
    acme: Warehouse, monkeypatch: pytest.MonkeyPatch, stop: int, order: str
) -> None:
    monkeypatch.setattr(reading, "PIECE_ROWS", 2)
    do(acme, f"CREATE TABLE ties (id INTEGER, word TEXT COLLATE {order})")
    do(acme, "INSERT INTO ties VALUES (1, 'A'), (2, 'B'), (3, 'B'), (4, 'B'), (5, 'a'), (6, 'b'), (7, 'b'), (8, 'c')")
    source = reading.SqliteSource(SqliteTable(f"{acme.folder}/shop.sqlite", "ties", cursor="word"))
    pieces = read(source, None)
    assert len(pieces) == 4
    kept = [*pieces[: stop + 1], *read(source, pieces[stop].watermark)]
    assert [number for piece in kept for number in ids(piece)] == [1, 2, 3, 4, 5, 6, 7, 8]


def test_without_a_cursor_pieces_have_no_watermark(acme: Warehouse) -> None:
    add(acme, 1, 2)
    source = reading.SqliteSource(SqliteTable(f"{acme.folder}/shop.sqlite", "orders"))
    stream = source.open(RawTable("orders", ibis.schema({})), {"cursor": "id", "last": 1}, None)
    pieces = list(stream.pieces(None))
    assert [number for piece in pieces for number in ids(piece)] == [1, 2]
    assert [piece.watermark for piece in pieces] == [None, None]
    assert stream.watermark() == {}


def test_a_watermark_of_another_cursor_is_ignored(acme: Warehouse) -> None:
    add(acme, 1, 2)
    source = reading.SqliteSource(SqliteTable(f"{acme.folder}/shop.sqlite", "orders", cursor="price"))
    stream = source.open(RawTable("orders", ibis.schema({})), {"cursor": "id", "last": 2}, None)
    assert [number for piece in stream.pieces(None) for number in ids(piece)] == [1, 2]
    assert stream.watermark() == {"cursor": "price", "last": 0.5}


def read(source: reading.SqliteSource, watermark: Watermark | None) -> list[Piece]:
    return list(source.open(RawTable("orders", ibis.schema({})), {}, None).pieces(watermark))


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


@pytest.mark.parametrize("options", [ORDERS, BY_ID])
def test_a_table_that_was_empty_gets_rows(acme: Warehouse, options: dict[str, str]) -> None:
    acme.load("orders", options)
    assert loaded(acme) == []
    add(acme, 1, 2)
    acme.load("orders", options)
    assert loaded(acme) == stored(acme) == [(1, "item 1", 0.25), (2, "item 2", 0.5)]


@pytest.mark.parametrize("options", [ORDERS, BY_ID])
def test_a_column_of_nulls_gets_values(acme: Warehouse, options: dict[str, str]) -> None:
    do(acme, "INSERT INTO orders (id) VALUES (1)")
    acme.load("orders", options)
    do(acme, "INSERT INTO orders (id) VALUES (2)")
    acme.load("orders", options)
    add(acme, 3)
    acme.load("orders", options)
    assert loaded(acme) == stored(acme) == [(1, None, None), (2, None, None), (3, "item 3", 0.75)]


@pytest.mark.parametrize(
    ("declared", "value", "found"),
    [
        ("BIGINT", 1, pa.int64()),
        ("VARCHAR(9)", "a", pa.string()),
        ("DOUBLE PRECISION", 1.5, pa.float64()),
        ("FLOAT", 1, pa.float64()),
        ("BLOB", b"a", pa.binary()),
        ("INTEGER", "no number", pa.string()),
        ("", 1.5, pa.float64()),
    ],
)
def test_the_type_of_a_column(acme: Warehouse, declared: str, value: object, found: pa.DataType) -> None:
    with closing(sqlite3.connect(acme.folder / "shop.sqlite")) as connection, connection:
        connection.execute(f"CREATE TABLE typed (a {declared})")
        connection.execute("INSERT INTO typed VALUES (?)", [value])
    piece = read(reading.SqliteSource(SqliteTable(f"{acme.folder}/shop.sqlite", "typed")), None)[-1]
    assert isinstance(piece.rows, pa.RecordBatch)
    assert piece.rows.schema.field("a").type == found


def test_a_locked_file_is_unavailable(acme: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "WAIT_SECONDS", 0.0)
    source = reading.SqliteSource(SqliteTable(f"{acme.folder}/shop.sqlite", "orders"))
    with closing(sqlite3.connect(acme.folder / "shop.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(Unavailable, match=r"shop.sqlite', table 'orders': somebody else has locked the file"):
            read(source, None)


def test_a_file_of_something_else_fails(acme: Warehouse) -> None:
    (acme.folder / "text").write_text("no database, but long enough to be taken for one" * 100)
    source = reading.SqliteSource(SqliteTable(f"{acme.folder}/text", "orders"))
    with pytest.raises(StepFailed, match=r"text', table 'orders' cannot be read: file is not a database"):
        read(source, None)


def test_names_may_have_quotes(acme: Warehouse) -> None:
    name = """it's "one"; --"""
    inner = name.replace('"', '""')
    do(acme, f'CREATE TABLE "{inner}" (id INTEGER, "{inner}" INTEGER)')
    do(acme, f'INSERT INTO "{inner}" VALUES (1, 10), (2, 20)')
    source = reading.SqliteSource(SqliteTable(f"{acme.folder}/shop.sqlite", name, cursor=name))
    pieces = read(source, None)
    assert [number for piece in pieces for number in ids(piece)] == [1, 2]
    assert pieces[-1].watermark == {"cursor": name, "last": 20}


def test_with_another_cursor_all_rows_are_read_again_and_replace_the_existing_ones(acme: Warehouse) -> None:
    add(acme, 1, 2)
    acme.load("orders", BY_ID)
    do(acme, "UPDATE orders SET item = 'changed' WHERE id = 1")
    add(acme, 3)
    acme.load("orders", {**ORDERS, "cursor": "price"})
    assert loaded(acme) == stored(acme) == [(1, "changed", 0.25), (2, "item 2", 0.5), (3, "item 3", 0.75)]
    assert acme.load("orders", {**ORDERS, "cursor": "price"}) is None

"""Tables of a real PostgreSQL as a source: whole, what is new, late rows, a range, and going on after a cut."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pyarrow as pa
import pytest

from entrepot.activities.ingest.sources.postgres import cursor as following
from entrepot.activities.ingest.sources.postgres import tables
from entrepot.activities.ingest.sources.stream import IntervalFilter
from entrepot.errors import BadInput, StepFailed
from entrepot.language.interval import Interval
from entrepot.language.sources import PostgresTable
from tests.activities.ingest.sources.tables import Load, Table, events, rows
from tests.servers.postgres import Server

pytestmark = pytest.mark.usefixtures("shop_database")


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "PIECE_ROWS", 3)


def test_a_whole_table_is_read_in_one_snapshot_and_an_empty_one_too(postgres: Server) -> None:
    table = Table(postgres, "id int, name text")
    assert (load := table.load()).rows == []
    assert [piece.rows.schema.names for piece in load.pieces if isinstance(piece.rows, pa.RecordBatch)] == [
        ["id", "name"]
    ]
    assert load.hints.disposition == "replace"
    assert load.pieces[0].watermark is None
    table.do(f"INSERT INTO {table.name} SELECT g, repeat('x', 1000) FROM generate_series(1, 200000) g")
    pieces = tables.stream("shop", table.source(), {}).pieces(None)
    count = next(pieces).rows.num_rows  # type: ignore[union-attr]
    table.do(f"DELETE FROM {table.name}")
    assert count < 200000
    assert count + sum(piece.rows.num_rows for piece in pieces) == 200000  # type: ignore[union-attr]
    assert table.load(columns=["name"]).pieces[0].rows.schema.names == ["name"]  # type: ignore[union-attr]


def test_names_are_as_they_are_written(postgres: Server) -> None:
    schema = f"s{uuid.uuid4().hex[:8]}"
    Table(postgres, "x int").do(f'CREATE SCHEMA {schema}; CREATE VIEW {schema}."Or""ders" AS SELECT 1 AS "I\'d"')
    load = Load(PostgresTable("env:SHOP", f'{schema}.Or"ders', cursor="I'd"), {})
    assert load.rows == [(1,)]
    assert Load(PostgresTable("env:SHOP", f'{schema}.Or"ders', cursor="I'd"), load.state).rows == []


@pytest.mark.parametrize("key", [(), ("id",)])
def test_by_time_rows_at_the_boundary_are_told_from_new_ones(postgres: Server, key: tuple[str, ...]) -> None:
    table = events(postgres)
    settings: Any = {"cursor": "at", "key": key, "disposition": "append"}
    table.add("2, '2024-01-02', 'b'", "1, '2024-01-01', 'a'", "3, '2024-01-02', NULL")
    first = table.load(**settings)
    assert first.rows[0][0] == 1
    assert sorted(first.ids) == [1, 2, 3]
    assert first.state["last"] == "2024-01-02T00:00:00.000000+00:00"
    again = table.load(first.state, **settings)
    assert (again.pieces, again.state, again.hints.replaces) == ([], first.state, None)
    table.add("4, '2024-01-02', 'd'", "5, '2024-01-03', 'e'")
    second = table.load(again.state, **settings)
    assert second.ids == [4, 5]
    assert second.hints.replaces is None
    assert table.load(second.state, **settings).pieces == []


def test_rows_that_are_alike_count_as_many_as_they_are(postgres: Server, small_pieces: None) -> None:
    table = events(postgres)
    table.add(*["1, '2024-01-01', 'same'"] * 8)
    load = table.load(cursor="at")
    assert len(load.rows) == 8
    table.add("1, '2024-01-01', 'same'")
    assert len(table.load(load.state, cursor="at").rows) == 1


def test_merged_rows_that_changed_at_the_boundary_come_again(postgres: Server) -> None:
    table = events(postgres)
    table.add("1, '2024-01-01', 'a'", "2, '2024-01-01', 'b'")
    first = table.load(cursor="at", key=["id"], deleted="note")
    assert (first.hints.disposition, first.hints.key, first.hints.newest) == ("merge", ("id",), ("at", "desc"))
    assert (first.hints.deleted, first.hints.replaces) == ("note", None)
    table.do(f"UPDATE {table.name} SET note = 'changed' WHERE id = 2")
    second = table.load(first.state, cursor="at", key=["id"], deleted="note")
    assert second.ids == [2]
    appended: Any = {"cursor": "at", "key": ["id"], "disposition": "append"}
    table.do(f"UPDATE {table.name} SET note = 'other' WHERE id = 1")
    assert table.load(table.load(**appended).state, **appended).rows == []


@pytest.mark.parametrize(
    "settings",
    [{"disposition": "append"}, {"disposition": "append", "key": ["id"]}, {"key": ["id"]}, {"lag": 3600}],
    ids=["append", "append by key", "merge", "lag"],
)
@pytest.mark.parametrize(("type", "latest"), [("timestamptz", None), ("date", None), ("int", 2030)])
def test_a_row_far_in_the_future_hides_no_other(
    postgres: Server, type: str, latest: int | None, settings: dict[str, Any]
) -> None:
    def at(year: int) -> str:
        return str(year) if type == "int" else f"'{year}-01-01'"

    def day(value: Any) -> str:
        return str(value)[:10]

    def load() -> list[str]:
        """What the next load tells; the rows that are held are then those of the table."""
        nonlocal state, held
        found = table.load(state, cursor="at", cursor_not_after=latest, **settings)
        if found.hints.disposition == "merge":
            held = [row for row in held if row[0] not in found.ids]
        elif again := found.hints.replaces:
            assert isinstance(again, IntervalFilter)
            held = [row for row in held if again.start is not None and day(row[1]) < day(again.start)]
        held += found.rows
        state = found.state
        assert sorted(held) == sorted(table.load().rows)
        return found.notes

    table = events(postgres, type)
    state: Any = {}
    held: list[tuple[Any, ...]] = []
    table.add(f"1, {at(2020)}, 'a'", f"2, {at(2099)}, 'typed in wrongly'")
    (note,) = load()
    assert note.startswith("1 row is beyond where the cursor 'at' may move to (20")
    assert ", the furthest at 2099" in note
    table.add(f"3, {at(2021)}, 'b'", f"4, {at(2098)}, 'too'")
    assert load()[0].startswith("2 rows are beyond")
    assert load()[0].startswith("2 rows are beyond")
    table.do(f"UPDATE {table.name} SET at = {at(2022)} WHERE at >= {at(2098)}")
    assert load() == []
    assert load() == []


@pytest.mark.parametrize(
    ("type", "values", "last"),
    [
        ("bigint", ["1", "9007199254740993", "9007199254740994"], 9007199254740993),
        ("numeric(24, 4)", ["-1.5", f"{'9' * 20}.0001", f"{'9' * 20}.0002"], f"{'9' * 20}.0001"),
        ("numeric", ["-1.5", "0.000000001", "0.000000002"], "0.000000001"),
        ("double precision", ["-1", "0.1", "0.30000000000000004"], 0.1),
        ("real", ["-1", "0.1", "0.2"], 0.10000000149011612),
        ("date", ["'2024-01-01'", "'2024-01-02'", "'2024-01-03'"], "2024-01-02"),
        ("timestamp", ["'2024-01-01'", "'2024-01-01 00:00:00.00001'", "'2024-01-02'"], "2024-01-01T00:00:00.000010"),
    ],
)
def test_every_kind_of_cursor_is_exact(postgres: Server, type: str, values: list[str], last: Any) -> None:
    table = events(postgres, type)
    table.add(f"1, {values[0]}, 'a'", f"2, {values[1]}, 'b'")
    first = table.load(cursor="at")
    assert first.ids == [1, 2]
    assert first.state["last"] == last
    assert table.load(first.state, cursor="at").pieces == []
    table.add(f"3, {values[2]}, 'c'")
    assert table.load(first.state, cursor="at").ids == [3]


def test_the_first_load_begins_at_start(postgres: Server) -> None:
    table = events(postgres, "date")
    table.add("1, '2024-01-01', 'a'", "2, '2024-01-02', 'b'")
    assert table.load(cursor="at", start="2024-01-02").ids == [2]
    empty = table.load(cursor="at", start="2025-01-01")
    assert (empty.rows, empty.state) == ([], {})
    with pytest.raises(BadInput, match="'soon' is no value of the cursor 'at' of type date"):
        table.load(cursor="at", start="soon")


def test_late_rows_are_found_with_a_lag(postgres: Server) -> None:
    table = events(postgres)
    table.add("1, '2024-01-01', 'a'", "2, '2024-01-03', 'b'")
    lag = 2 * 86400.0
    first = table.load(cursor="at", lag=lag)
    table.add("3, '2024-01-02', 'late'")
    assert table.load(table.load(cursor="at").state, cursor="at").ids == []
    second = table.load(first.state, cursor="at", lag=lag)
    assert second.ids == [1, 3, 2]
    assert second.hints.replaces == IntervalFilter("2024-01-01T00:00:00.000000+00:00", None, "at")
    merged = table.load(first.state, cursor="at", lag=lag, key=["id"])
    assert merged.ids == [1, 3, 2]
    assert merged.hints.replaces is None
    table.do(f"DELETE FROM {table.name} WHERE id = 2")
    third = table.load(second.state, cursor="at", lag=lag)
    assert third.ids == [1, 3]
    assert third.state == second.state
    table.do(f"DELETE FROM {table.name}")
    assert [piece.rows.num_rows for piece in table.load(third.state, cursor="at", lag=lag).pieces] == [0]  # type: ignore[union-attr]


def test_a_lag_of_numbers_and_dates(postgres: Server) -> None:
    for type, one, two, lag, start in (
        ("int", "10", "20", 5, 15),
        ("numeric(9, 2)", "10", "20", 0.5, "19.50"),
        ("date", "'2024-01-01'", "'2024-01-03'", 3600, "2024-01-02"),
    ):
        table = events(postgres, type)
        table.add(f"1, {one}, ''", f"2, {two}, ''")
        state = table.load(cursor="at", lag=lag).state
        assert table.load(state, cursor="at", lag=lag).hints.replaces == IntervalFilter(start, None, "at")


def test_when_rows_cannot_be_told_they_are_replaced(postgres: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    table = events(postgres, "int")
    table.add("1, 1, 'a'", "2, 2, 'b'")
    first = table.load(cursor="at")
    table.do(f"ALTER TABLE {table.name} ADD COLUMN more text DEFAULT 'x'")
    changed = table.load(first.state, cursor="at")
    assert (changed.ids, changed.hints.replaces) == ([2], IntervalFilter(2, None, "at"))
    assert table.load(changed.state, cursor="at").pieces == []
    other = table.load(first.state, cursor="id")
    assert (other.ids, other.hints.replaces) == ([1, 2], IntervalFilter(None, None, "id"))
    monkeypatch.setattr(following, "SEEN_ROWS", 1)
    table.add("3, 2, 'c'")
    many = table.load(cursor="at")
    assert many.pieces[0].watermark is None
    after = table.load(many.state, cursor="at")
    assert (sorted(after.ids), after.hints.replaces) == ([2, 3], IntervalFilter(2, None, "at"))


def test_a_cursor_with_nulls_is_refused(postgres: Server) -> None:
    table = events(postgres)
    table.add("1, '2024-01-01', 'a'", "2, NULL, 'b'", "3, NULL, 'c'")
    with pytest.raises(StepFailed, match="the cursor 'at' is NULL in 2 rows"):
        table.load(cursor="at")


@pytest.mark.parametrize(
    ("type", "value", "needle"),
    [
        ("double precision", "'NaN'", "is nan in some row"),
        ("timestamptz", "'20000-01-01'", "after year 9999"),
        ("timestamptz", "'infinity'", "infinite"),
    ],
)
def test_a_cursor_that_could_not_go_on_is_refused(postgres: Server, type: str, value: str, needle: str) -> None:
    table = events(postgres, type)
    table.add(f"1, {value}, 'a'")
    with pytest.raises(StepFailed, match=needle):
        table.load(cursor="at")


def test_a_backfill_brings_its_range_alone(postgres: Server) -> None:
    table = events(postgres, "date")
    table.add(*(f"{n}, '2024-01-0{n}', ''" for n in range(1, 6)))
    state = table.load(cursor="at").state
    load = table.load(state, Interval("2024-01-02", "2024-01-04"), cursor="at")
    assert (load.ids, load.state) == ([2, 3], state)
    assert load.hints.replaces == IntervalFilter("2024-01-02", "2024-01-04", "at")
    merged = table.load(state, Interval("2024-01-04", None), cursor="at", key=["id"])
    assert (merged.ids, merged.hints.replaces) == ([4, 5], None)
    table.add("6, '2024-01-06', ''")
    assert table.load(state, Interval("2024-01-04", "2024-02-01"), cursor="at").ids == [4, 5]  # the next load brings 6
    gone = table.load(state, Interval("2023-01-01", "2023-02-01"), cursor="at")
    assert [piece.rows.num_rows for piece in gone.pieces] == [0]  # type: ignore[union-attr]
    with pytest.raises(BadInput, match="needs a `cursor`"):
        table.load(state, Interval("2024-01-02", None))


@pytest.mark.parametrize("lag", [None, 1])
@pytest.mark.parametrize("cut", range(4))
def test_a_cut_load_goes_on_where_it_was(postgres: Server, small_pieces: None, cut: int, lag: float | None) -> None:
    table = events(postgres, "int")
    table.add(*(f"{n}, {n // 4}, 'n'" for n in range(10)), "3, 0, 'n'")
    before = table.load(cursor="at")
    assert [piece.rows.num_rows for piece in before.pieces] == [3, 3, 3, 2]  # type: ignore[union-attr]
    position = json.loads(json.dumps(before.pieces[cut].watermark))
    table.add("11, 9, 'new'")
    rest = Load(table.source(cursor="at", lag=lag), {}, after=position)
    kept = [row for piece in before.pieces[: cut + 1] for row in rows(piece)]
    assert sorted(kept + rest.rows) == sorted([*before.rows, (11, 9, "new")])
    whole = table.load(cursor="at", lag=lag)
    assert rest.state == whole.state
    table.do(f"ALTER TABLE {table.name} ADD COLUMN more int")
    with pytest.raises(StepFailed, match="changed while it was read"):
        Load(table.source(cursor="at", lag=lag), {}, after=position)


def test_a_cut_read_of_a_whole_table_goes_on_by_its_key(postgres: Server, small_pieces: None) -> None:
    table = Table(postgres, "n int, name text, at timestamptz, PRIMARY KEY (name, at)")
    table.add(*(f"{n}, 'it''s {n % 4}', '2024-01-01 00:00:0{n}'" for n in range(8)))
    whole = table.load(key=["at", "name"])
    assert len(whole.rows) == 8
    for cut, piece in enumerate(whole.pieces):
        rest = Load(table.source(key=["at", "name"]), {}, after=json.loads(json.dumps(piece.watermark)))
        assert [row for p in whole.pieces[: cut + 1] for row in rows(p)] + rest.rows == whole.rows
    assert table.load(key=["name"]).pieces[0].watermark is None
    table.do(f"ALTER TABLE {table.name} DROP CONSTRAINT {table.name}_pkey")
    with pytest.raises(StepFailed, match="key changed"):
        Load(table.source(key=["at", "name"]), {}, after=whole.pieces[0].watermark)

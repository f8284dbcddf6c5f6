"""A version as a view over segments has the rows that a dict would have, whatever the loads were."""

from __future__ import annotations

from collections import Counter
from typing import Any

import duckdb
import ibis
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.activities.catalog.growing_table import MOST, GrowingTable, InInterval, SameKey, Segment
from entrepot.backends.duckdb.dialect import DIALECT
from entrepot.language.interval import Interval

SHAPE = ibis.schema({"id": "int64", "v": "int64"})
COLUMNS = {"id": "int64", "v": "int64"}

keys = st.integers(0, 6)
rows = st.dictionaries(keys, st.integers(0, 3), max_size=6)
merges = st.lists(st.tuples(rows, st.sets(keys, max_size=3)), min_size=1, max_size=6)
appends = st.lists(st.lists(st.tuples(keys, st.integers(0, 3)), max_size=5), min_size=1, max_size=6)


class Warehouse:
    """Segments as tables of an in-memory DuckDB."""

    def __init__(self) -> None:
        self._connection = duckdb.connect()
        self._connection.execute("CREATE SCHEMA s")

    def segment(self, number: int, brought: pa.Table, columns: dict[str, str], **more: Any) -> Segment:
        self._connection.register("brought", brought)
        self._connection.execute(f"CREATE TABLE s.t{number} AS SELECT * FROM brought")
        return Segment(schema_name="s", table=f"t{number}", columns=columns, rows=brought.num_rows, **more)

    def rows(self, expression: ibis.Table) -> list[tuple[Any, ...]]:
        return self._connection.execute(DIALECT.compile(expression)).fetchall()


def _table(pairs: list[tuple[Any, ...]], names: list[str]) -> pa.Table:
    kinds = {
        "id": pa.int64(),
        "v": pa.int64(),
        "gone": pa.bool_(),
        "_gone": pa.bool_(),
        "valid_from": pa.timestamp("us"),
    }
    columns = zip(*pairs, strict=True) if pairs else [() for _ in names]
    return pa.table({n: pa.array(list(c), kinds[n]) for n, c in zip(names, columns, strict=True)})


@given(appends)
def test_appended_rows_are_all_there(loads: list[list[tuple[int, int]]]) -> None:
    warehouse = Warehouse()
    segments = [warehouse.segment(n, _table(list(load), ["id", "v"]), COLUMNS) for n, load in enumerate(loads)]
    for number in range(1, len(loads) + 1):  # every version is as it was
        expected = Counter(row for load in loads[:number] for row in load)
        assert Counter(warehouse.rows(GrowingTable(segments[:number]).rows(SHAPE))) == expected


@given(merges)
def test_merged_rows_are_as_in_a_dict(loads: list[tuple[dict[int, int], set[int]]]) -> None:
    warehouse = Warehouse()
    segments: list[Segment] = []
    expected: dict[int, int] = {}
    shape = ibis.schema({**SHAPE, "gone": "boolean"})
    for number, (changed, gone) in enumerate(loads):
        pairs = [(k, v, None) for k, v in changed.items() if k not in gone] + [(k, None, True) for k in gone]
        superseded = SameKey(schema_name="s", table=f"t{number}", columns={"id": "id"}) if number else None
        brought = _table(pairs, ["id", "v", "gone"])
        made = warehouse.segment(number, brought, {**COLUMNS, "gone": "boolean"}, supersedes=superseded, deleted="gone")
        before = dict(expected)
        expected = {k: v for k, v in (expected | changed).items() if k not in gone}
        if segments:
            removed = warehouse.rows(GrowingTable(segments).superseded_by(made, shape).select("id", "v"))
            assert sorted(removed) == sorted((k, v) for k, v in before.items() if k in changed or k in gone)
        segments.append(made)
        assert sorted(warehouse.rows(GrowingTable(segments).rows(shape).select("id", "v"))) == sorted(expected.items())


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6), rows), min_size=1, max_size=5))
def test_a_range_is_replaced_by_what_is_brought_for_it(loads: list[tuple[int, int, dict[int, int]]]) -> None:
    warehouse = Warehouse()
    segments: list[Segment] = []
    expected: list[tuple[int, int]] = []
    for number, (start, end, brought) in enumerate(loads):
        inside = [(k, v) for k, v in brought.items() if start <= k < end]
        superseded = InInterval(column="id", interval=Interval(start, end)) if number else None
        segments.append(warehouse.segment(number, _table(inside, ["id", "v"]), COLUMNS, supersedes=superseded))
        expected = [(k, v) for k, v in expected if not start <= k < end] + inside
        assert sorted(warehouse.rows(GrowingTable(segments).rows(SHAPE))) == sorted(expected)


@given(st.lists(rows, min_size=1, max_size=5))
def test_history_tells_what_held_at_each_time(snapshots: list[dict[int, int]]) -> None:
    warehouse = Warehouse()
    segments: list[Segment] = []
    before: dict[int, int] = {}
    columns = {**COLUMNS, "valid_from": "timestamp(6)", "_gone": "boolean"}
    shape = ibis.schema({**SHAPE, "valid_from": "timestamp(6)", "valid_to": "timestamp(6)"})
    for number, snapshot in enumerate(snapshots):
        changed = [(k, v, number, False) for k, v in snapshot.items() if before.get(k) != v]
        gone = [(k, v, number, True) for k, v in before.items() if k not in snapshot]
        segments.append(warehouse.segment(number, _table(changed + gone, ["id", "v", "valid_from", "_gone"]), columns))
        before = snapshot
    ever = warehouse.rows(
        GrowingTable(segments)
        .history(shape, ["id"])
        .mutate(since=lambda t: t.valid_from.epoch_seconds(), until=lambda t: t.valid_to.epoch_seconds())
    )
    stamps = {(k, v, since.microsecond, until.microsecond if until else None) for k, v, since, until, *_ in ever}
    for number, snapshot in enumerate(snapshots):
        held = {(k, v) for k, v, since, until in stamps if since <= number and (until is None or number < until)}
        assert held == set(snapshot.items())


def test_new_columns_are_null_in_older_segments_and_types_widen() -> None:
    warehouse = Warehouse()
    old = warehouse.segment(0, pa.table({"id": pa.array([1], pa.int32())}), {"id": "int32"})
    new = warehouse.segment(1, _table([(2, 7)], ["id", "v"]), COLUMNS)
    assert sorted(warehouse.rows(GrowingTable((old, new)).rows(SHAPE)), key=str) == [(1, None), (2, 7)]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([10] * (MOST - 1), 0),
        ([10] * MOST, MOST),
        ([160, *[10] * 15], 16),
        ([1000, *[10] * 15], 15),
        ([1000, 400, *[10] * 14], 14),
    ],
)
def test_few_segments_are_written_together_at_a_time(rows: list[int], expected: int) -> None:
    segments = [Segment(schema_name="s", table=f"t{n}", columns=COLUMNS, rows=count) for n, count in enumerate(rows)]
    assert GrowingTable(segments).to_compact() == expected


def test_what_takes_rows_away_is_written_together_as_a_whole() -> None:
    superseded = InInterval(column="id", interval=Interval(1, 2))
    first = Segment(schema_name="s", table="t0", columns=COLUMNS, rows=10**6)
    more = [
        Segment(schema_name="s", table=f"t{n}", columns=COLUMNS, rows=1, supersedes=superseded) for n in range(1, MOST)
    ]
    assert GrowingTable((first, *more)).to_compact() == MOST

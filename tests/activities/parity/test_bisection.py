"""From tables that differ to the rows that do: here in two DuckDB files."""

from __future__ import annotations

import decimal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import ibis
import pyarrow as pa
import pytest

from entrepot.activities.parity.bisection import Found, compare_rows
from entrepot.activities.parity.digests import DigestedTable, common_kinds
from entrepot.backends import QueryTag, Session, TableName
from entrepot.backends.duckdb.backend import DuckDB
from entrepot.identity.table_digest import INTEGER

ROWS = 60_000


@pytest.fixture
def sessions(tmp_path: Path) -> Iterator[list[Session]]:
    with ExitStack() as stack:
        yield [
            stack.enter_context(DuckDB(str(tmp_path / f"{side}.duckdb"), {}).session(QueryTag("acme", "run", "test")))
            for side in ("left", "right")
        ]


def compared(sessions: list[Session], left: pa.Table, right: pa.Table) -> Found:
    sources = []
    for session, rows in zip(sessions, (left, right), strict=True):
        name = TableName("main", "t")
        made = session.write(name, ibis.Schema.from_pyarrow(rows.schema), rows.to_batches())
        sources.append(DigestedTable(session, name, made.columns))
    kinds = common_kinds([source.schema for source in sources])
    usable = {name: kind for name, kind in kinds.items() if kind is not None}
    return compare_rows(*sources, usable, rows=max(left.num_rows, right.num_rows))


def test_few_rows_of_many_are_found(sessions: list[Session]) -> None:
    numbers = list(range(ROWS))
    left = pa.table({"id": numbers, "half": [n / 2 for n in numbers]})
    right = pa.table({"id": numbers, "half": [n / 2 + (n in (7, 59_999)) for n in numbers]})
    found = compared(sessions, left, right)
    assert (found.key, found.complete, found.differing) == (("id",), True, 2)
    assert {(c.key["id"], c.left, c.right) for c in found.cells} == {
        ("7", "3.5", "4.5"),
        ("59999", "29999.5", "30000.5"),
    }
    assert found.looked_at < ROWS / 100


def test_rows_that_stand_on_one_side_alone(sessions: list[Session]) -> None:
    left = pa.table({"id": list(range(ROWS))})
    found = compared(sessions, left, left.slice(1))
    assert (found.differing, found.only_left, found.only_right) == (1, [{"id": 0}], [])


def test_the_last_digits_of_floats_are_within_tolerance(sessions: list[Session]) -> None:
    left = pa.table({"id": [1, 2], "x": [0.1 + 0.2, 1e300]})
    right = pa.table({"id": [1, 2], "x": [0.3, 1e300 * (1 + 1e-12)]})
    assert compared(sessions, left, right).within_tolerance


def test_nested_values_are_compared_by_streaming(sessions: list[Session]) -> None:
    left = pa.table({"id": [1, 2, 3], "tags": [["a"], ["b", "c"], None]})
    right = pa.table({"id": [1, 2, 3], "tags": [["a"], ["b", "d"], None]})
    found = compared(sessions, left, right)
    assert (found.complete, found.differing) == (True, 1)
    (cell,) = found.cells
    assert (cell.key, cell.column, cell.left, cell.right) == ({"id": "2"}, "tags", '["b", "c"]', '["b", "d"]')


def test_a_table_of_floats_alone_has_nothing_to_find_rows_by(sessions: list[Session]) -> None:
    found = compared(sessions, pa.table({"x": [1.0]}), pa.table({"x": [2.0]}))
    assert (found.key, found.complete, found.within_tolerance) == ((), False, False)


def test_decimals_of_38_digits_are_compared_exactly(sessions: list[Session]) -> None:
    many = decimal.Decimal("12345678901234567890123456.123456789012")
    left = pa.table({"id": [1, 2], "x": pa.array([many, decimal.Decimal(100)], pa.decimal128(38, 12))})
    right = left.set_column(1, "x", pa.array([many.next_plus(decimal.Context(prec=38)), 100], pa.decimal128(38, 12)))
    (cell,) = compared(sessions, left, right).cells
    assert (cell.left, cell.right) == (str(many), "12345678901234567890123456.123456789013")


def test_the_search_is_bounded_and_says_so(sessions: list[Session], monkeypatch: pytest.MonkeyPatch) -> None:
    left = pa.table({"id": list(range(ROWS)), "x": [0] * ROWS})
    right = left.set_column(1, "x", pa.array([1] * ROWS))
    monkeypatch.setattr("entrepot.activities.parity.bisection.STATEMENTS", 4)
    found = compared(sessions, left, right)
    assert found.stopped == "the search for rows ended after 4 statements, which is its bound"
    assert (found.complete, found.within_tolerance) == (False, False)


def test_few_rows_cost_one_statement_on_each_side(sessions: list[Session]) -> None:
    left = pa.table({"id": list(range(100))})
    sources = []
    for session, rows in zip(sessions, (left, left.slice(4)), strict=True):
        made = session.write(TableName("main", "t"), ibis.Schema.from_pyarrow(rows.schema), rows.to_batches())
        sources.append(DigestedTable(session, TableName("main", "t"), made.columns))
    before = [session.usage.statements for session in sessions]
    assert compare_rows(*sources, {"id": INTEGER}, rows=100).differing == 4
    assert [session.usage.statements for session in sessions] == [n + 1 for n in before]

"""Two versions have the same rows if whoever reads them could not tell them apart, but for the order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import ibis
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entrepot import Pipeline, backends
from entrepot.activities.catalog.details import TableDetails
from entrepot.activities.catalog.version import Version
from entrepot.activities.transform.cutoff import (
    ALWAYS_UP_TO,
    NotComparable,
    differing,
    is_worthwhile,
    rows_of,
    same_rows,
)
from entrepot.backends import QueryTag, Session, TableName
from entrepot.backends.duckdb.backend import DuckDB
from entrepot.identity.expression import schema_to
from entrepot.language.step import TransformStep

TYPES = (
    "n BIGINT, x DOUBLE, f FLOAT, text VARCHAR, d DECIMAL(38, 10), moment TIMESTAMP_NS, day DATE, b BLOB, ok BOOLEAN"
)


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    backend = DuckDB(str(tmp_path_factory.mktemp("cutoff") / "a.duckdb"), {})
    with backend.session(QueryTag("acme", "run", "step")) as opened:
        opened.create_schema("s")
        yield opened


def version(session: Session, name: str, rows: str, types: str = TYPES) -> Version:
    """A version with rows given as SQL."""
    session.execute(f"CREATE OR REPLACE TABLE s.{name} ({types})")
    session.execute(f"INSERT INTO s.{name} {rows}")
    columns = schema_to(session.describe(TableName("s", name)))
    (counted,) = session.query(f"SELECT count(*) AS n FROM s.{name}")
    table = TableName("s", name)
    return Version("t", name, "transform", "", table, columns, columns, counted["n"], TableDetails(), "run")


def are_same(session: Session, one: str, other: str, types: str = TYPES) -> bool:
    return same_rows(
        session, rows_of(version(session, "one", one, types)), rows_of(version(session, "other", other, types))
    )


VALUES = {
    "n": ("1", "2"),
    "x": ("0.1::DOUBLE", "0.1::DOUBLE + 2e-17"),
    "f": ("0.1", "0.1000001"),
    "text": ("'a'", "'a '"),
    "d": ("1.0000000000", "1.0000000001"),
    "moment": ("'2026-01-01 00:00:00.000000001'", "'2026-01-01 00:00:00.000000002'"),
    "day": ("'2026-01-01'", "'2026-01-02'"),
    "b": ("'a'::BLOB", "'b'::BLOB"),
    "ok": ("true", "false"),
}


@pytest.mark.parametrize("column", VALUES)
def test_any_other_value_is_told(session: Session, column: str) -> None:
    """The smallest differences that a type has, and NULL."""
    one, other = VALUES[column]
    row = {name: values[0] for name, values in VALUES.items()}

    def rows(value: str) -> str:
        return f"SELECT {', '.join({**row, column: value}.values())} FROM range(3)"

    assert are_same(session, rows(one), rows(one))
    assert not are_same(session, rows(one), rows(other))
    assert not are_same(session, rows(one), rows("NULL"))
    assert are_same(session, rows("NULL"), rows("NULL"))


@pytest.mark.parametrize("value", ["'nan'", "'inf'", "'-inf'", "1e308", "5e-324", "-0.0::DOUBLE", "0.0"])
def test_floats_are_themselves_alone(session: Session, value: str) -> None:
    others = ["'nan'", "'inf'", "'-inf'", "1e308", "5e-324", "'-0.0'", "0.0", "NULL"]
    its = "'-0.0'" if value.startswith("-0") else value
    found = [other for other in others if are_same(session, f"VALUES ({its})", f"VALUES ({other})", "x DOUBLE")]
    assert found == [its]


some_rows = st.lists(st.tuples(st.integers(0, 2), st.sampled_from([None, 0.5, -0.0, 0.0])), max_size=5)


@settings(max_examples=60)
@given(some_rows, some_rows)
def test_rows_count_as_often_as_they_occur_in_any_order(
    session: Session, one: list[tuple[int, Any]], other: list[tuple[int, Any]]
) -> None:
    def sql(rows: list[tuple[int, Any]]) -> str:
        values = ", ".join(f"({n}, {'NULL' if x is None else repr(str(x))})" for n, x in rows)
        return f"VALUES {values}" if rows else "SELECT 1, 1.0 WHERE false"

    expected = sorted(map(repr, one)) == sorted(map(repr, other))
    assert are_same(session, sql(one), sql(other), "n BIGINT, x DOUBLE") == expected


def test_names_of_columns_mean_nothing(session: Session) -> None:
    types = 'sign BIGINT, c0 BIGINT, z0 DOUBLE, "select" BIGINT'
    assert are_same(session, "VALUES (1, 2, 3, 4)", "VALUES (1, 2, 3, 4)", types)
    assert not are_same(session, "VALUES (1, 2, 3, 4)", "VALUES (1, 2, 3, 5)", types)


def test_a_table_that_is_gone_cannot_be_compared(session: Session) -> None:
    made, gone = version(session, "one", "VALUES (1)", "n BIGINT"), version(session, "gone", "VALUES (1)", "n BIGINT")
    session.execute("DROP TABLE s.gone")
    with pytest.raises(NotComparable):
        same_rows(session, rows_of(made), rows_of(gone))


@pytest.mark.parametrize("name", backends.known())
def test_every_warehouse_has_the_question(name: str, session: Session) -> None:
    made = version(session, "one", "SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL WHERE false")
    assert "GROUP BY" in backends.dialect(name).compile(differing(rows_of(made), rows_of(made))).upper()


def step(cutoff: bool | None = None) -> TransformStep:
    p = Pipeline("p")

    @p.transform(cutoff=cutoff)
    def t(raw: ibis.Table) -> ibis.Table:
        return raw

    return t


def made(rows: int | None = 3, **columns: str) -> Version:
    its = columns or {"n": "int64"}
    return Version("t", "v", "transform", "", TableName("s", "t"), its, its, rows, TableDetails(), "run")


def test_it_is_asked_where_it_may_be_and_costs_little() -> None:
    assert is_worthwhile(step(), made(), made(), 0)
    assert not is_worthwhile(step(), made(3), made(4), 0)
    assert not is_worthwhile(step(), made(None), made(None), 0)
    assert not is_worthwhile(step(), made(n="int64"), made(n="int32"), 0)
    assert not is_worthwhile(step(), made(a="int64", b="int64"), made(b="int64", a="int64"), 0)
    assert not is_worthwhile(step(), made(n="array<int64>"), made(n="array<int64>"), 0)
    large = ALWAYS_UP_TO + 1
    assert not is_worthwhile(step(), made(large), made(large), large)
    assert is_worthwhile(step(), made(large), made(large), 10 * large)
    assert is_worthwhile(step(cutoff=True), made(large), made(large), large)
    assert [step(cutoff).is_compared for cutoff in (None, True, False)] == [True, True, False]

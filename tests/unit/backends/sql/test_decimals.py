"""The digits that SQL gives decimals, which ibis does not tell; DuckDB says what is right."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import duckdb
import ibis
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from ibis.common.exceptions import UnsupportedOperationError

from entrepot import backends
from entrepot.backends.sql.decimals import Digits, digits, written

TABLE = ibis.table({"a": "decimal(5, 2)", "b": "decimal(7, 3)", "i": "int32"}, name="t", database="main")

WAYS = {
    "times": lambda x, y: x * y,
    "plus": lambda x, y: x + y,
    "minus": lambda x, y: x - y,
    "times_written": lambda x, y: x * Decimal("0.125"),
    "one_less": lambda x, y: 1 - x,
    "either": lambda x, y: ibis.ifelse(x > 0, x, y),
    "first": ibis.coalesce,
    "least": ibis.least,
    "negative": lambda x, y: -x,
}


def exactly(left: Digits, right: Digits) -> Digits:
    return Digits(left.whole + right.whole, left.places + right.places)


@settings(max_examples=40, database=None)
@given(st.lists(st.tuples(st.sampled_from(sorted(WAYS)), st.sampled_from("abix"), st.booleans()), max_size=5))
def test_places_are_those_of_duckdb(steps: list[tuple[str, str, bool]]) -> None:
    made = TABLE.mutate(x=TABLE.a)
    for way, other, is_united in steps:
        made = made.mutate(x=WAYS[way](made.x, made[other]))
        made = made.union(made.filter(made.i < 0)) if is_united else made
    found = digits(made.x.op(), exactly)
    assert found is not None
    assume(found.places <= 18)
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE t (a DECIMAL(5, 2), b DECIMAL(7, 3), i INTEGER)")
        sql = backends.dialect("duckdb").compile(made.select("x"))
        (_, type_, *_rest) = connection.execute(f"DESCRIBE {sql}").fetchall()[0]
    assert type_.endswith(f",{found.places})"), sql


@pytest.mark.parametrize("text", ["0", "0.1", "-12.50", "1E+3", "123456789.000000001", "0E-9"])
def test_a_number_that_is_written_down_has_its_own_digits(text: str) -> None:
    whole, places = written(Decimal(text))
    with duckdb.connect() as connection:
        sql = f"SELECT CAST('{Decimal(text):f}' AS DECIMAL({whole + places}, {places}))"
        assert connection.execute(sql).fetchone() == (Decimal(text),)


def test_a_mean_is_a_float_whatever_ibis_says() -> None:
    totals = TABLE.group_by("i").aggregate(mean=TABLE.a.mean(), sum=TABLE.a.sum())
    assert digits(totals.mean.op(), exactly) is None
    assert digits((totals.sum * totals.mean).op(), exactly) is None
    assert digits(totals["sum"].op(), exactly) == Digits(13, 2)


def compiled(backend: str, build: Any, dtype: str) -> str:
    table = ibis.table({"x": dtype}, name="t", database="main")
    return backends.dialect(backend).compile(table.select(v=build(table.x)))


def test_a_product_is_bignumeric_where_numeric_has_no_place_for_it() -> None:
    assert "BIGNUMERIC" not in compiled("bigquery", lambda x: x * (1 - x), "decimal(15, 4)")
    assert "BIGNUMERIC" in compiled("bigquery", lambda x: x * x, "decimal(15, 5)")


def test_a_factor_has_the_places_of_the_product_where_snowflake_would_round() -> None:
    assert "CAST" not in compiled("snowflake", lambda x: x * x, "decimal(15, 6)")
    assert "DECIMAL(38, 14)" in compiled("snowflake", lambda x: x * x, "decimal(15, 7)")


@pytest.mark.parametrize(
    ("backend", "dtype", "says"),
    [
        ("snowflake", "decimal(38, 19)", r"decimal\(38, 19\) and decimal\(38, 19\) has 38 places.* have 37"),
        ("databricks", "decimal(18, 9)", None),
        ("databricks", "decimal(38, 3)", None),
        ("databricks", "decimal(38, 4)", r"of the 8 places of a product of decimal\(38, 4\).* keeps 6: cast"),
    ],
)
def test_a_product_that_would_be_rounded_is_refused(backend: str, dtype: str, says: str | None) -> None:
    if says is None:
        compiled(backend, lambda x: x * x, dtype)
        return
    with pytest.raises(UnsupportedOperationError, match=says):
        compiled(backend, lambda x: x * x, dtype)

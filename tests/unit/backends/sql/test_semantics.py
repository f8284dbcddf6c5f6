"""What is refused when a run is planned, since warehouses would compute it otherwise; and numbers beside Python's."""

from __future__ import annotations

from collections.abc import Callable
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import duckdb
import ibis
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ibis.common.exceptions import IbisError

from entrepot import backends
from tests.conformance.target import BACKENDS

TABLE = ibis.table({"s": "string", "i": "int64", "at": "timestamp", "zoned": "timestamp('UTC')"}, name="t")

REFUSED: list[tuple[Callable[[Any], Any], str]] = [
    (lambda t: t.s.hash(), "another number on every warehouse"),
    (lambda t: t.at.strftime("%U"), "strftime cannot write %U alike on all warehouses"),
    (lambda t: t.at.strftime("%Y-%"), "ends within a code"),
    (lambda t: t.at.strftime(t.s), "has to be written down"),
    (lambda t: t.s.re_replace("a", t.s), "has to be written down"),
    (lambda t: t.s.re_replace("a", "\\n"), "a backslash needs a digit or another backslash after it"),
    (lambda t: t.at.cast("timestamp('Europe/Rome')"), "cast it to timestamp\\('UTC'\\) first"),
    (lambda t: t.zoned.cast("timestamp('Europe/Rome')").cast(str), "use strftime"),
    (lambda t: t.zoned.cast("timestamp('Europe/Romulus')").hour(), "there is no time zone 'Europe/Romulus'"),
]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("build", "says"), REFUSED, ids=lambda value: value if isinstance(value, str) else "")
def test_what_cannot_be_made_alike_is_refused(backend: str, build: Callable[[Any], Any], says: str) -> None:
    with pytest.raises(IbisError, match=says):
        backends.dialect(backend).compile(TABLE.select(v=build(TABLE)))


@pytest.mark.parametrize("zone", ["UTC", "Etc/UTC", "GMT"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_clocks_that_show_utc_need_no_conversion(backend: str, zone: str) -> None:
    hour = TABLE.select(v=TABLE.at.cast(f"timestamp('{zone}')").hour())
    assert "zone(" not in backends.dialect(backend).compile(hour).lower()


def test_seconds_since_1970_do_not_end_in_2038() -> None:
    assert TABLE.at.epoch_seconds().type().is_int64()


@settings(max_examples=25)
@given(
    st.lists(
        st.tuples(
            st.integers(-(2**63) + 1, 2**63 - 1), st.integers(-(2**40), 2**40).filter(bool), st.floats(-1e15, 1e15)
        ),
        min_size=1,
        max_size=40,
    )
)
def test_whole_numbers_are_as_in_python(rows: list[tuple[int, int, float]]) -> None:
    """DuckDB's own: what the others make of these expressions is held by the conformance suite."""
    t = ibis.table({"n": "int64", "i": "int64", "j": "int64", "x": "float64"}, name="t")
    query = t.order_by("n").select(
        floor=t.i // t.j, rest=t.i % t.j, whole=t.x.cast("int64"), right=t.i >> 3, by_ten=t.i // 10
    )
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE t (n BIGINT, i BIGINT, j BIGINT, x DOUBLE)")
        connection.executemany("INSERT INTO t VALUES (?, ?, ?, ?)", [[n, *row] for n, row in enumerate(rows)])
        found = connection.sql(backends.dialect("duckdb").compile(query)).fetchall()
    assert found == [
        (
            i // j,
            abs(i) % abs(j) * (1 if i > 0 else -1),
            int(Decimal(x).quantize(Decimal(1), ROUND_HALF_UP)),
            i >> 3,
            i // 10,
        )
        for i, j, x in rows
    ]

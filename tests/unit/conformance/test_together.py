"""Cases that are computed together come out as if each were computed alone."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import ibis
import pytest
from ibis import _

from tests.conformance import together
from tests.conformance.cases import Outcome
from tests.conformance.operations import CASES
from tests.conformance.target import Inputs, Target, opened
from tests.conformance.together import Together, holds
from tests.conformance.values import rows_of


@pytest.fixture
def warehouse(tmp_path: Path) -> Iterator[Target]:
    with opened("duckdb", {"type": "duckdb", "path": str(tmp_path / "w.duckdb")}) as made:
        yield made


def test_nearly_all_operations_are(warehouse: Target) -> None:
    """Were it none, nothing would fail: all would be computed alone, and take their time."""
    cases = [case for case in CASES if case.expected is not Outcome.FAILS]
    made = Together(warehouse, {case.id: partial(case.build, Inputs(warehouse)) for case in cases})
    assert [case.id for case in cases if made.table(case.id) is None] == ["join-with_rows_brought_along"]


def test_each_has_its_own_rows_under_its_own_names(warehouse: Target) -> None:
    people = warehouse.input("people")
    made = Together(
        warehouse,
        {
            "two": lambda: people.filter(_.id <= 2).select("id", "name"),
            "none": lambda: people.filter(_.id < 0).select("id"),
            "nulls": lambda: people.filter(_.id == 4).select("age", id=_.id + 1),
        },
    )
    found = {id: made.table(id) for id in ("two", "none", "nulls")}
    assert {id: table.column_names for id, table in found.items() if table is not None} == {
        "two": ["id", "name"],
        "none": ["id"],
        "nulls": ["age", "id"],
    }
    assert {id: sorted(rows_of(table)) for id, table in found.items() if table is not None} == {
        "two": [(1, "Ada"), (2, "Grace")],
        "none": [],
        "nulls": [(None, 5)],
    }


def test_types_are_those_of_the_warehouse_and_not_what_ibis_expects(warehouse: Target) -> None:
    """A text where ibis expects a number must not become one, or fail, because others stand beside it."""

    @ibis.udf.scalar.builtin(name="typeof")
    def said_to_be_a_number(value: float) -> float: ...

    rates = warehouse.input("people").filter(_.id <= 2)
    odd = rates.select(v=said_to_be_a_number(_.rate))
    made = Together(warehouse, {"one": lambda: rates.select("id"), "odd": lambda: odd})
    found = made.table("odd")
    assert found is not None
    assert rows_of(found) == [("DOUBLE",), ("DOUBLE",)]


def test_what_is_refused_or_cannot_be_built_is_left_to_be_computed_alone(
    warehouse: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    people = warehouse.input("people")

    def broken() -> ibis.Table:
        raise ValueError("no such expression")

    whole = {"good": lambda: people.select("id"), "broken": broken}
    refused = {"refused": lambda: people.select(v=_.name.cast("int64")), "neighbour": lambda: people.select("name")}
    monkeypatch.setattr(together, "AT_ONCE", 2)
    made = Together(warehouse, {**whole, **refused})
    assert {id: made.table(id) is not None for id in (*whole, *refused, "unknown")} == {
        "good": True,
        "broken": False,
        "refused": False,
        "neighbour": False,
        "unknown": False,
    }


def test_only_what_is_asserted_is_a_verdict() -> None:
    def wrong() -> None:
        raise AssertionError

    def odd() -> None:
        raise TypeError("the check itself is broken")

    assert holds(lambda: None)
    assert not holds(wrong)
    with pytest.raises(TypeError):
        holds(odd)

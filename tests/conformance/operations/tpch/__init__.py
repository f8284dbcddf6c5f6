"""TPC-H's 22 queries: what people ask of a warehouse, of decimals and of floats. They are held against plain SQL."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from functools import partial
from typing import Any

import ibis

from tests.conformance.cases import Case, group
from tests.conformance.operations.tpch.oracle import results
from tests.conformance.operations.tpch.queries import QUERIES
from tests.conformance.values import Row, check_rows


class AsTheyCome:
    """The tables, with their decimals."""

    def __init__(self, inputs: Any) -> None:
        self._inputs = inputs

    def __getattr__(self, name: str) -> ibis.Table:
        return getattr(self._inputs, f"tpch_{name}")


class AsFloats(AsTheyCome):
    """The same with every decimal cast to a float64."""

    def __getattr__(self, name: str) -> ibis.Table:
        table = super().__getattr__(name)
        return table.mutate({n: table[n].cast("float64") for n, dtype in table.schema().items() if dtype.is_decimal()})


def _exact(query: str, found: list[Row]) -> None:
    """A decimal is one of SQL's too, and has all its digits."""
    check_rows(found, results()[query])
    for row, wanted in zip(found, results()[query], strict=True):
        kinds = [[type(value) for value in each if isinstance(value, Decimal | float)] for each in (row, wanted)]
        assert kinds[0] == kinds[1], f"decimals or floats: {kinds[0]}, and not {kinds[1]}"


def _near(query: str, found: list[Row]) -> None:
    check_rows(found, results()[query])


def _case(name: str, tables: type[AsTheyCome], check: Callable[[str, list[Row]], None]) -> Case:
    return Case(name, lambda inputs: QUERIES[name](tables(inputs)), partial(check, name))


WITHOUT = ("q04", "q12", "q13", "q16", "q21")
"""Queries that read no decimals."""

TPCH = [
    *group("tpch", "TPC-H's 22 queries", [_case(name, AsTheyCome, _exact) for name in QUERIES]),
    *group(
        "tpch_floats",
        "Those of TPC-H's that read decimals, with all of them cast to float64",
        [_case(name, AsFloats, _near) for name in QUERIES if name not in WITHOUT],
    ),
]

"""Tables that warehouses have a hard time with: numbers that overflow, times that nobody can tell, long decimals."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import ibis
from ibis import _

from entrepot import Pipeline, Table

hard = Pipeline("hard")


@hard.ingest(tables=["numbers"])
def source() -> Iterator[dict[str, Any]]:
    """Numbers whose squares have more than 64 bits."""
    yield from ({"n": 10**18 + n} for n in range(3))


@hard.transform
def squares(numbers: Table) -> Table:
    """Too large for a BIGINT."""
    return numbers.select(n=_.n * _.n)


@hard.transform
def roots(squares: Table) -> Table:
    """Reads what cannot be computed."""
    return squares.select(n=_.n.sqrt())


@hard.transform
def late(numbers: Table) -> Table:
    """Times after the year 9999."""
    return numbers.select("n", at=ibis.timestamp("9999-12-31") + ibis.interval(days=400))


@hard.transform
def exact(numbers: Table) -> Table:
    """Decimals of more than twenty digits, on both sides of the point."""
    return numbers.select(
        "n", d=_.n.cast("decimal(38, 16)") + ibis.literal("0.1234567890123456").cast("decimal(38, 16)")
    )

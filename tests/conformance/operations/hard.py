"""How cases of hard values are made: an expression over the table `hard`, and what Python makes of each of its rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import ibis

from tests.conformance.cases import Outcome
from tests.conformance.operations.tables import HARD, Hard
from tests.conformance.values import Row

Made = tuple[Callable[[Any], ibis.Table], list[Row]]


def each(column: str, build: Callable[[Any], Any], python: Callable[[Hard], Any], ids: Sequence[int] = ()) -> Made:
    """An expression over the rows of these ids, or all, and what Python makes of each; of NULL it is NULL."""
    rows = [row for row in HARD if not ids or row.id in ids]
    return (
        lambda t: t.hard.filter(t.hard.id.isin([row.id for row in rows])).select("id", v=build(t.hard)),
        [(row.id, None if getattr(row, column) is None else python(row)) for row in rows],
    )


def texts(build: Callable[[Any], Any], python: Callable[[str], Any]) -> Made:
    return each("s", lambda h: build(h.s), lambda row: python(row.s or ""))


def one(build: Callable[[Any], Any], value: Any) -> Made:
    """An expression that gives one value, of the one row of `hard` that is an `a`."""
    return lambda t: t.hard.filter(t.hard.id == 1).select(v=build(t.hard)), [(value,)]


def written(text: str) -> Callable[[Any], Any]:
    """A text that no optimiser can read before it runs."""
    return lambda h: h.s.replace("a", "") + text


def fails(build: Callable[[Any], Any]) -> tuple[Callable[[Any], ibis.Table], Outcome]:
    return lambda t: t.hard.select(v=build(t.hard)), Outcome.FAILS

"""Which functions need not be called again at each plan: those that see nothing else than before."""

from __future__ import annotations

import datetime
import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ibis
import pytest
from ibis import _
from ibis import now as moment

from entrepot import Pipeline, Table
from entrepot.identity.expression import schema_from
from entrepot.identity.purity import seen_by
from entrepot.planning.resolve import resolve

LIMIT = 3
KINDS = ("a", "b")
KNOWN = {"a": 1}
FILE = Path("kinds")
WAYS = [len]


def helper(sales: Table) -> Table:
    return sales.filter(_.id > 1)


def _closed_over(value: Any) -> Callable[..., Any]:
    return lambda sales: sales.filter(_.id > value)


def _imports(sales: Table) -> Table:
    import os as system

    return sales.filter(_.kind == system.environ["HOME"])


CLOSED: dict[str, Callable[..., Any]] = {
    "an expression": lambda sales: sales.filter(_.id > 1),
    "ibis": lambda sales: sales.mutate(x=ibis.now()),
    "a function of ibis": lambda sales: sales.mutate(x=moment()),
    "constants": lambda sales: sales.filter(_.id > LIMIT, _.kind.isin(KINDS)),
    "a constant in a closure": _closed_over(3),
    "a function within": lambda sales: sales.pipe(lambda t: t.filter(_.id > len(t.columns))),
}

OPEN: dict[str, Callable[..., Any]] = {
    "a file": lambda sales: sales.filter(_.kind == open("kinds").read()),  # noqa: SIM115
    "a path": lambda sales: sales.filter(_.kind == FILE.read_text()),
    "the environment": lambda sales: sales.filter(_.kind == os.environ["KIND"]),
    "the date": lambda sales: sales.filter(_.id > datetime.date.today().year),
    "a helper": lambda sales: helper(sales).select("id"),
    "what may change": lambda sales: sales.filter(_.id > KNOWN["a"]),
    "functions in a list": lambda sales: sales.filter(_.id > WAYS[0]("a")),
    "an object in a closure": _closed_over([3]),
    "an import": _imports,
    "an evaluation": lambda sales: eval("sales"),
    "deep within": lambda sales: sales.pipe(lambda t: t.filter(_.kind == os.environ["KIND"])),
    "a partial function": functools.partial(helper),
    "a decorated function": functools.wraps(helper)(lambda sales: sales),
}


@pytest.mark.parametrize("name", CLOSED)
def test_a_function_that_sees_constants_and_ibis_alone_is_known(name: str) -> None:
    assert seen_by(CLOSED[name]) is not None


@pytest.mark.parametrize("name", OPEN)
def test_a_function_that_may_see_more_is_known(name: str) -> None:
    assert seen_by(OPEN[name]) is None


def test_a_constant_that_another_sets_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    p = Pipeline("shop")
    p.ingest(name="sales")(lambda: None)
    p.transform(name="a")(CLOSED["constants"])
    raw = {"sales": schema_from({"id": "int64", "kind": "string"})}
    before = resolve(p.graph, raw, {})
    assert resolve(p.graph, raw, {}).steps["a"] is before.steps["a"]
    monkeypatch.setitem(globals(), "LIMIT", 4)
    assert resolve(p.graph, raw, {}).identities != before.identities

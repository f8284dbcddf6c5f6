"""What is no function of its inputs is known from the expression, or from the code, and the plan says why."""

from __future__ import annotations

import datetime
import random
import time
import uuid
from collections.abc import Callable
from datetime import date as day
from typing import Any

import ibis
import numpy as np
import pandas as pd
import pytest
from ibis import _
from pandera import ibis as pandera
from sklearn.linear_model import LinearRegression

from entrepot import Dashboard, Pipeline, Table, split
from entrepot.identity.expression import described, input_table, nodes_of, schema_from
from entrepot.identity.volatility import ANY_ROWS, CHANCE, CLOCK
from entrepot.planning.resolve import resolve

SALES = {"id": "int64", "price": "float64", "day": "date", "at": "timestamp"}


def sales() -> ibis.Table:
    return input_table("sales", schema_from(SALES))


@ibis.udf.scalar.builtin
def gen_random_uuid() -> str: ...


@ibis.udf.scalar.builtin(name="NOW")
def this_moment() -> datetime.datetime: ...


@ibis.udf.scalar.builtin
def soundex(text: str) -> str: ...


@ibis.udf.scalar.python
def age(year: int) -> int:
    return day.today().year - year


@ibis.udf.scalar.python
def twice(number: int) -> int:
    return number * 2


EXPRESSIONS: dict[str, tuple[str, Callable[[], ibis.Table]]] = {
    "now": (CLOCK, lambda: sales().filter(_.at > ibis.now() - ibis.interval(days=1))),
    "today": (CLOCK, lambda: sales().mutate(x=ibis.today())),
    "now, deep within": (CLOCK, lambda: sales().join(sales().filter(_.day == ibis.today()).view(), "id", how="anti")),
    "a function of the warehouse": (CLOCK, lambda: sales().mutate(x=this_moment())),
    "a function in Python": (CLOCK, lambda: sales().mutate(x=age(_.id))),
    "random": (CHANCE, lambda: sales().filter(ibis.random() < 0.5)),
    "uuid": (CHANCE, lambda: sales().mutate(x=ibis.uuid())),
    "a sample": (CHANCE, lambda: sales().sample(0.5)),
    "a random function of the warehouse": (CHANCE, lambda: sales().mutate(x=gen_random_uuid())),
    "any ten rows": (ANY_ROWS, lambda: sales().limit(10)),
    "any but ten rows": (ANY_ROWS, lambda: sales().limit(None, offset=10)),
    "some rows of groups": (ANY_ROWS, lambda: sales().group_by("id").agg(n=_.count()).limit(1)),
    "the first ten rows": ("", lambda: sales().order_by("id").limit(10)),
    "the first ten rows, of some columns": ("", lambda: sales().order_by("id").select("id").limit(10)),
    "no rows": ("", lambda: sales().limit(0)),
    "a sample with a seed": ("", lambda: sales().sample(0.5, seed=3)),
    "a literal time": ("", lambda: sales().filter(_.at > ibis.timestamp("2026-01-01"))),
    "a part of a time": ("", lambda: sales().mutate(x=_.at.date())),
    "another function of the warehouse": ("", lambda: sales().mutate(x=soundex(_.id.cast("string")))),
    "another function in Python": ("", lambda: sales().mutate(x=twice(_.id))),
}


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_an_expression_shows_what_is_no_function_of_its_inputs(name: str) -> None:
    why, build = EXPRESSIONS[name]
    assert described(nodes_of(build())).varies == why


def _helped() -> object:
    return datetime.datetime.now(datetime.UTC)


PYTHON: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "datetime": (CLOCK, lambda sales: datetime.datetime.now(datetime.UTC)),
    "a class by its name": (CLOCK, lambda sales: day.today()),
    "time": (CLOCK, lambda sales: time.time()),
    "pandas": (CLOCK, lambda sales: pd.Timestamp.now()),
    "ibis": (CLOCK, lambda sales: sales.mutate(x=ibis.now())),
    "a helper": (CLOCK, lambda sales: _helped()),
    "random": (CHANCE, lambda sales: random.choice(sales.ids)),
    "numpy": (CHANCE, lambda sales: np.random.rand(3)),
    "uuid": (CHANCE, lambda sales: uuid.uuid4()),
    "a generator with a seed": ("", lambda sales: random.Random(3)),
    "numpy with a seed": ("", lambda sales: np.random.default_rng(3)),
    "how long it took": ("", lambda sales: time.monotonic()),
    "a time from elsewhere": ("", lambda sales: datetime.datetime(2026, 1, 1) + datetime.timedelta(1)),
}


@pytest.mark.parametrize("name", PYTHON)
def test_code_shows_it_too(name: str) -> None:
    why, function = PYTHON[name]
    p = Pipeline("shop")
    p.ingest(name="sales")(lambda: None)
    p.transform(name="rows", engine="python", schema={"id": "int64"})(function)
    p.publish(name="page")(function)
    found = resolve(p.graph, {"sales": schema_from(SALES)}, {}).varying
    assert found == ({"rows": why, "page": why} if why else {})


def test_an_import_within_shows_it() -> None:
    def stamped(sales: Table) -> Dashboard:
        from datetime import datetime as dt

        return Dashboard(f"Sales until {dt.now()}", panels=[])

    p = Pipeline("shop")
    p.ingest(name="sales")(lambda: None)
    p.publish(name="page")(stamped)
    assert resolve(p.graph, {"sales": schema_from(SALES)}, {}).varying == {"page": CLOCK}


def test_a_split_and_a_contract_show_it() -> None:
    fresh = pandera.DataFrameSchema(
        {"id": pandera.Column(int), "at": pandera.Column(checks=pandera.Check(lambda data: data.table.at < ibis.now()))}
    )
    p = Pipeline("shop")
    p.ingest(name="sales")(lambda: None)
    p.transform(name="copied", contract=fresh)(lambda sales: sales)
    p.train(name="m", features="copied", target="price", columns=["id"], score="r2",
            split=split.Where(lambda t: t.day > ibis.today()))(lambda: LinearRegression(positive=True))  # fmt: skip
    found = resolve(p.graph, {"sales": schema_from(SALES)}, {}).varying
    assert found == {"copied.contract": CLOCK, "m": CLOCK}

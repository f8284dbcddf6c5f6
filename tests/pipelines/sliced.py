"""A table of which one column, or its rows, change with a parameter, and all kinds of steps that read it."""

from __future__ import annotations

from typing import Any

import ibis
import pyarrow as pa
from ibis import _
from sklearn.linear_model import LinearRegression

from entrepot import Dashboard, Export, Model, Panel, Pipeline, Table, split

sliced = Pipeline("sliced", parameters={"label": "a", "least": 0, "rate": 0.25})


@sliced.ingest(tables=["raw"])
def source() -> Any:
    return pa.table({"id": range(100), "shop": [f"s{n % 3}" for n in range(100)], "price": [n / 4 for n in range(100)]})


@sliced.transform
def orders(raw: Table, label: str, least: int, rate: float) -> Table:
    return raw.filter(_.id >= least).mutate(tax=_.price * rate, label=ibis.literal(label))


@sliced.transform
def by_shop(orders: Table) -> Table:
    return orders.group_by("shop").agg(total=_.tax.sum(), orders=_.count())


@sliced.transform
def labels(orders: Table) -> Table:
    return orders.select("label").distinct()


@sliced.transform(engine="python", schema={"columns": "int64"})
def counted(orders: pa.RecordBatchReader) -> Any:
    yield [{"columns": len(orders.read_all().column_names)}]


@sliced.check(orders, severity="warn")
def cheap(orders: Table) -> Table:
    return orders.filter(_.price < 1).select("id", "price")


@sliced.train(features="orders", target="tax", columns=["price"], score="r2", split=split.Share(key="id"))
def model() -> LinearRegression:
    return LinearRegression()


@sliced.transform
def scored(orders: Table, model: Model) -> Table:
    return model.predict(orders, keep=["id"])


@sliced.publish
def page(by_shop: Table) -> Dashboard:
    return Dashboard("Shops", panels=[Panel("All", by_shop)])


@sliced.publish
def file(labels: Table) -> Export:
    return Export(labels, format="csv")

"""A check that uses one column of a table of which another changes with a parameter, and a page of that table."""

from __future__ import annotations

from typing import Any

import ibis
from ibis import _

from entrepot import Dashboard, Panel, Pipeline, Table

guarded = Pipeline("guarded", parameters={"label": "a"})


@guarded.ingest(tables={"raw": {"id": "int64", "price": "float64"}})
def source() -> Any:
    yield [{"id": number, "price": number / 4} for number in range(10)]


@guarded.transform
def orders(raw: Table, label: str) -> Table:
    return raw.mutate(label=ibis.literal(label))


@guarded.check(orders)
def dear(orders: Table) -> Table:
    return orders.filter(_.price > 100).select("id", "price")


@guarded.publish
def page(orders: Table) -> Dashboard:
    return Dashboard("Orders", panels=[Panel("All", orders)])

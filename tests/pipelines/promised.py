"""Tables that promise to be fresh, and a source that can be broken."""

from __future__ import annotations

from pathlib import Path

from entrepot import Files, Pipeline, Table

promised = Pipeline("promised", parameters={"folder": "", "broken": ""})


@promised.ingest(fresh_within="1h")
def orders(folder: str) -> object:
    return Files(f"{folder}/*.csv", disposition="append")


@promised.ingest(attempts=1)
def rates(broken: str) -> object:
    if broken and Path(broken).exists():
        raise ConnectionError("the service answered 503")
    return [{"rate": 2}]


@promised.transform(fresh_within="2d")
def bills(orders: Table, rates: Table) -> Table:
    return orders.cross_join(rates).mutate(due=lambda t: t.amount * t.rate)


@promised.transform(fresh_within="1s")
def names(orders: Table) -> Table:
    """Has the same rows, whatever comes."""
    return orders.filter(orders.amount < 0).select("amount")


@promised.transform(fresh_within="30d", target_lag="30d")
def resting(orders: Table) -> Table:
    return orders.select("amount")

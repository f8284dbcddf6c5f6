"""Tables that are computed by parts, each beside the same as a whole: `daily` and `daily_whole`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ibis
from ibis import _

from entrepot import ByInterval, ByKey, Pipeline, Table
from tests.pipelines.written import written

parts = Pipeline("parts", parameters={"folder": "", "bonus": 0})

COLUMNS = {
    "orders": {"id": "int64", "at": "timestamp", "shop": "string", "customer": "int64", "amount": "int64"},
    "visits": {"day": "date", "shop": "string", "n": "int64"},
    "shops": {"shop": "string", "country": "string"},
}
HINTS: dict[str, Any] = {
    "orders": {"write_disposition": "merge", "primary_key": "id"},
    "visits": {"write_disposition": "append"},
    "shops": {"write_disposition": "replace"},
}


@parts.ingest(tables=[*COLUMNS])
def source(folder: str) -> Any:
    """What a test has written."""
    return written(folder, COLUMNS, HINTS)


def both(by: ByInterval | ByKey) -> Callable[[Callable[..., Table]], Callable[..., Table]]:
    """Declares a table by parts and as a whole."""

    def declare(function: Callable[..., Table]) -> Callable[..., Table]:
        parts.transform(incremental=by)(function)
        parts.transform(name=f"{function.__name__}_whole")(function)
        return function

    return declare


@both(ByInterval("day", batch=2))
def daily(orders: Table, bonus: int) -> Table:
    return orders.group_by(day=_.at.date(), shop=_.shop).agg(total=_.amount.sum() + bonus, n=_.count())


@both(ByInterval("hour", every="hour"))
def hourly(orders: Table) -> Table:
    return orders.filter(_.amount > 1).mutate(hour=_.at.truncate("h")).select("id", "hour", "amount")


@both(ByInterval("month", every="month", batch=1))
def monthly(daily: Table) -> Table:
    return daily.group_by(month=_.day.truncate("M")).agg(total=_.total.sum(), best=_.total.max())


@both(ByInterval("day", batch=3))
def beside(orders: Table, visits: Table, shops: Table) -> Table:
    days = visits.group_by("day", "shop").agg(visits=_.n.sum())
    sold = orders.group_by(day=_.at.date(), shop=_.shop).agg(total=_.amount.sum())
    return (
        sold.left_join(days, ["day", "shop"])
        .select("day", "shop", "total", "visits")
        .left_join(shops, "shop")
        .select("day", "shop", "total", "visits", "country")
    )


@both(ByInterval("day"))
def trailing(daily: Table) -> Table:
    window = ibis.range_window(
        preceding=ibis.interval(days=2), following=ibis.interval(days=1), group_by=_.shop, order_by=_.day
    )
    return daily.mutate(around=_.total.sum().over(window))


@both(ByInterval("at"))
def ranked(orders: Table) -> Table:
    return orders.mutate(rank=ibis.row_number().over(group_by=_.at.date(), order_by=[_.amount, _.id])).drop("shop")


@both(ByInterval("day", every="week"))
def quiet(visits: Table, orders: Table) -> Table:
    sold = orders.mutate(day=_.at.date())
    return visits.anti_join(sold, ["day", "shop"]).group_by("day").agg(n=_.n.sum())


@both(ByInterval("day"))
def events(visits: Table, orders: Table) -> Table:
    one = visits.select("day", "shop", "n")
    other = orders.select(day=_.at.date(), shop=_.shop, n=_.amount)
    return one.union(other).distinct()


@both(ByInterval("at"))
def visited(orders: Table, visits: Table) -> Table:
    return orders.semi_join(visits.filter(_.n > 1), "shop").drop("amount")


@both(ByInterval("day"))
def chained(visits: Table, orders: Table) -> Table:
    sold = orders.select(shop_sold=_.shop, day_sold=_.at.date(), amount=_.amount)
    days = visits.group_by(day_of=_.day).agg(visits=_.n.sum())
    both = visits.join(sold, visits.shop == sold.shop_sold)
    return both.left_join(days, [visits.day == days.day_of, sold.day_sold == days.day_of]).select(
        "day", "n", "amount", "visits"
    )


@both(ByKey("shop"))
def busy(orders: Table, visits: Table) -> Table:
    large = orders.filter(orders.amount >= orders.amount.mean().as_scalar()).group_by("shop").agg(large=_.count())
    return large.left_join(visits.group_by("shop").agg(n=_.n.sum()), "shop").select("shop", "large", "n")


@both(ByKey("customer"))
def customers(orders: Table, bonus: int) -> Table:
    return orders.group_by("customer").agg(total=_.amount.sum() + bonus, first=_.at.min())


@both(ByKey("customer"))
def numbered(orders: Table) -> Table:
    return orders.mutate(number=ibis.row_number().over(group_by=_.customer, order_by=[_.at, _.id])).select(
        "id", "customer", "number"
    )


@both(ByKey("customer"))
def loyal(numbered: Table, orders: Table) -> Table:
    its = numbered.join(orders, ["id", "customer"]).select("id", "customer", "number", "shop", "amount")
    return its.group_by("customer", "shop").agg(n=_.number.max(), total=_.amount.sum())


@both(ByKey("shop", "day"))
def crowds(visits: Table) -> Table:
    return visits.group_by("day", "shop").agg(n=_.n.sum()).filter(_.n > 3)


@both(ByKey("shop"))
def of_country(shops: Table, visits: Table) -> Table:
    return shops.left_join(visits, "shop").group_by("shop", "country").agg(n=_.n.sum())

"""Tables by days of which something may be frozen, each beside the same as a whole; and one that reads such a one.

`rule` stands for the code: each is another. 1 has a column more, 2 sums as floats.
"""

from __future__ import annotations

from typing import Any

import ibis
from ibis import _

from entrepot import ByInterval, Pipeline, Table
from tests.pipelines.written import written

frozen = Pipeline("frozen", parameters={"folder": "", "rule": 0})

COLUMNS = {
    "orders": {"id": "int64", "at": "timestamp", "shop": "string", "amount": "int64"},
    "shops": {"shop": "string", "country": "string"},
}
HINTS: dict[str, Any] = {
    "orders": {"write_disposition": "merge", "primary_key": "id"},
    "shops": {"write_disposition": "replace"},
}


@frozen.ingest(tables=[*COLUMNS])
def source(folder: str) -> Any:
    """What a test has written."""
    return written(folder, COLUMNS, HINTS)


def daily_rule(orders: Table, shops: Table, rule: int) -> Table:
    total = _.amount.sum().cast("float64") if rule == 2 else _.amount.sum() + rule
    more = {"n": _.count()} if rule == 1 else {}
    sold = orders.group_by(day=_.at.date(), shop=_.shop).agg(total=total, **more)
    return sold.left_join(shops, "shop").select("day", "shop", "total", "country", *more)


def around_rule(orders: Table, rule: int) -> Table:
    window = ibis.range_window(
        preceding=ibis.interval(days=2), following=ibis.interval(days=1), group_by=_.shop, order_by=_.day
    )
    sold = orders.group_by(day=_.at.date(), shop=_.shop).agg(total=_.amount.sum() + rule // 2)
    return sold.mutate(around=_.total.sum().over(window))


def reader_rule(daily: Table) -> Table:
    more = {"n": daily["n"].sum()} if "n" in daily.columns else {}
    return daily.group_by("day").agg(total=daily.total.sum(), countries=daily.country.nunique(), **more)


frozen.transform(name="daily", incremental=ByInterval("day", batch=3))(daily_rule)
frozen.transform(name="daily_whole")(daily_rule)
frozen.transform(name="around", incremental=ByInterval("day"))(around_rule)
frozen.transform(name="around_whole")(around_rule)
frozen.transform(name="reader", incremental=ByInterval("day"))(reader_rule)
frozen.transform(name="reader_whole")(reader_rule)

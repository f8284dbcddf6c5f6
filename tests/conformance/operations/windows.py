"""Windows, ordering, limits and reshaping."""

from __future__ import annotations

from typing import Any

import ibis
from ibis import _

from tests.conformance.cases import Case, group
from tests.conformance.operations.tables import PEOPLE
from tests.conformance.values import Row

_IN_TIME = ibis.window(order_by="at")


def _sampled(rows: list[Row]) -> None:
    assert {row[0] for row in rows} <= {p.id for p in PEOPLE}
    assert len(rows) == len(set(rows))


WINDOWS = group(
    "window",
    "Windows",
    [
        Case(
            "row_number",
            lambda t: t.orders.select("id", n=ibis.row_number().over(group_by="item", order_by="at")),
            [(10, 0), (12, 1), (15, 2), (11, 0), (16, 1), (13, 0), (14, 1)],
        ),
        Case(
            "rank",
            lambda t: t.orders.select("id", n=ibis.rank().over(order_by=["item"])),
            [(13, 0), (14, 0), (11, 2), (16, 2), (10, 4), (12, 4), (15, 4)],
        ),
        Case(
            "dense_rank",
            lambda t: t.orders.select("id", n=ibis.dense_rank().over(order_by=["item"])),
            [(13, 0), (14, 0), (11, 1), (16, 1), (10, 2), (12, 2), (15, 2)],
        ),
        Case(
            "percent_rank",
            lambda t: t.wide.select("id", n=ibis.percent_rank().over(order_by="id")),
            [(1, 0.0), (2, 1.0)],
        ),
        Case(
            "cume_dist",
            lambda t: t.wide.select("id", n=ibis.cume_dist().over(order_by="id")),
            [(1, 0.5), (2, 1.0)],
        ),
        Case(
            "ntile",
            lambda t: t.orders.select("id", n=ibis.ntile(3).over(order_by="id")),
            [(10, 0), (11, 0), (12, 0), (13, 1), (14, 1), (15, 2), (16, 2)],
        ),
        Case(
            "lag",
            lambda t: t.orders.select("id", v=_.id.lag().over(_IN_TIME)),
            [(10, None), (11, 10), (12, 11), (13, 12), (14, 13), (15, 14), (16, 15)],
        ),
        Case(
            "lag_two_with_default",
            lambda t: t.orders.select("id", v=_.id.lag(2, -1).over(_IN_TIME)),
            [(10, -1), (11, -1), (12, 10), (13, 11), (14, 12), (15, 13), (16, 14)],
        ),
        Case(
            "lead_within_groups",
            lambda t: t.orders.select("id", v=_.id.lead().over(group_by="person", order_by="at")),
            [(10, 11), (11, None), (12, 16), (16, None), (13, None), (14, None), (15, None)],
        ),
        Case(
            "cumulative_sum",
            lambda t: t.orders.select("id", v=_.quantity.sum().over(ibis.cumulative_window(order_by="id"))),
            [(10, 3), (11, 4), (12, 14), (13, 14), (14, 16), (15, 17), (16, 19)],
        ),
        Case(
            "cumulative_mean",
            lambda t: t.wide.select("id", v=_.q1.cummean(order_by="id")),
            [(1, 10.0), (2, 10.5)],
        ),
        Case(
            "cumulative_max",
            lambda t: t.orders.select("id", v=_.quantity.cummax(order_by="id")),
            [(10, 3), (11, 3), (12, 10), (13, 10), (14, 10), (15, 10), (16, 10)],
        ),
        Case(
            "rolling_rows",
            lambda t: t.orders.select("id", v=_.id.sum().over(rows=(-1, 1), order_by="id")),
            [(10, 21), (11, 33), (12, 36), (13, 39), (14, 42), (15, 45), (16, 31)],
        ),
        Case(
            "rolling_range_of_numbers",
            lambda t: t.orders.select("id", v=_.id.count().over(range=(-2, 0), order_by="id")),
            [(10, 1), (11, 2), (12, 3), (13, 3), (14, 3), (15, 3), (16, 3)],
        ),
        Case(
            "rolling_range_of_time",
            lambda t: t.orders.select("id", v=_.id.count().over(range=(-ibis.interval(days=2), 0), order_by="at")),
            [(10, 1), (11, 2), (12, 3), (13, 4), (14, 2), (15, 2), (16, 1)],
        ),
        Case(
            "total_of_the_group",
            lambda t: t.orders.select("id", v=_.amount.max().over(group_by="item")),
            [(10, 1.1), (12, 1.1), (15, 1.1), (11, 12.5), (16, 12.5), (13, 7.77), (14, 7.77)],
        ),
        Case(
            "share_of_the_whole",
            lambda t: t.wide.select("id", v=_.q1 / _.q1.sum()),
            [(1, 10 / 21), (2, 11 / 21)],
        ),
        Case(
            "first_and_last",
            lambda t: t.orders.select(
                "id",
                a=_.id.first().over(group_by="item", order_by="at"),
                b=_.id.last().over(rows=(None, None), group_by="item", order_by="at"),
            ),
            [(10, 10, 15), (12, 10, 15), (15, 10, 15), (11, 11, 16), (16, 11, 16), (13, 13, 14), (14, 13, 14)],
        ),
        Case(
            "nth",
            lambda t: t.orders.select("id", v=_.id.nth(1).over(rows=(None, None), group_by="item", order_by="at")),
            [(10, 12), (12, 12), (15, 12), (11, 16), (16, 16), (13, 14), (14, 14)],
        ),
        Case(
            "filter_on_a_window",
            lambda t: (
                t.orders.mutate(n=ibis.row_number().over(group_by="item", order_by=ibis.desc("at")))
                .filter(_.n == 0)
                .select("id")
            ),
            [(15,), (16,), (14,)],
        ),
        Case(
            "z_score",
            lambda t: t.wide.select("id", z=(_.q1 - _.q1.mean()) / _.q1.std()),
            [(1, -0.5 / 0.5**0.5), (2, 0.5 / 0.5**0.5)],
        ),
    ],
)

ORDER = group(
    "order",
    "Order, limits and samples",
    [
        Case(
            "nulls_last_ascending",
            lambda t: t.people.select("id", n=ibis.row_number().over(order_by=[_.rate, _.id])),
            [(4, 0), (5, 1), (1, 2), (2, 3), (6, 4), (3, 5)],
        ),
        Case(
            "nulls_last_descending",
            lambda t: t.people.select("id", n=ibis.row_number().over(order_by=[ibis.desc(_.rate), _.id])),
            [(6, 0), (2, 1), (1, 2), (5, 3), (4, 4), (3, 5)],
        ),
        Case(
            "nulls_first",
            lambda t: t.people.select("id", n=ibis.row_number().over(order_by=[ibis.asc(_.rate, nulls_first=True)])),
            [(3, 0), (4, 1), (5, 2), (1, 3), (2, 4), (6, 5)],
        ),
        Case(
            "limit_keeps_nulls_last",
            lambda t: t.people.order_by(_.rate).limit(5).select("id"),
            [(4,), (5,), (1,), (2,), (6,)],
        ),
        Case("offset", lambda t: t.people.order_by("id").limit(2, offset=3).select("id"), [(4,), (5,)]),
        Case("offset_only", lambda t: t.people.order_by("id").limit(None, offset=4).select("id"), [(5,), (6,)]),
        Case("limit_zero", lambda t: t.people.limit(0).select("id"), []),
        Case(
            "text_by_code_point",
            lambda t: t.people.order_by("name").limit(5).select("id"),
            [(1,), (2,), (3,), (4,), (5,)],  # the one with a letter beyond ASCII comes last
        ),
        Case(
            "several_keys",
            lambda t: t.people.order_by([ibis.desc("age"), "name"]).limit(3).select("id"),
            [(5,), (2,), (3,)],
        ),
        Case(
            "top_k",
            lambda t: t.orders.item.topk(2, by=_.quantity.sum(), name="n"),
            [("pen", 14), ("ink", 3)],
        ),
        Case("sample", lambda t: t.people.sample(0.5).select("id"), _sampled),
        Case("random_filter", lambda t: t.people.filter(ibis.random() < 0.5).select("id"), _sampled),
    ],
)


def _long(t: Any) -> Any:
    return t.wide.pivot_longer(["q1", "q2", "q3"], names_to="quarter", values_to="sold")


RESHAPING = group(
    "reshape",
    "Pivots and value counts",
    [
        Case(
            "pivot_longer",
            _long,
            [(1, "q1", 10), (1, "q2", 20), (1, "q3", None), (2, "q1", 11), (2, "q2", None), (2, "q3", 31)],
        ),
        Case(
            "pivot_wider",
            lambda t: (
                t.orders.group_by(["person", "item"])
                .aggregate(n=_.quantity.sum())
                .filter(_.person.notnull())
                .pivot_wider(names_from="item", values_from="n", names=["pen", "ink", "cap"])
            ),
            [(1, 3, 1, None), (2, 10, 2, None), (3, None, None, None), (9, None, None, 2)],
        ),
        Case(
            "value_counts",
            lambda t: t.people.team.value_counts(name="n"),
            [("red", 2), ("blue", 2), ("green", 1), (None, 1)],
        ),
        Case(
            "bucket",
            lambda t: t.people.select("id", b=_.age.bucket([0, 40, 80], include_under=True, include_over=True)),
            [(1, 1), (2, 2), (3, 2), (4, None), (5, 3), (6, 1)],
        ),
        Case(
            "histogram",
            lambda t: t.orders.select("id", b=_.id.histogram(binwidth=2, base=10)),
            [(10, 0), (11, 0), (12, 1), (13, 1), (14, 2), (15, 2), (16, 2)],  # the last bin takes its upper border
        ),
        Case("drop_null", lambda t: t.people.drop_null(["age", "rate"]).select("id"), [(1,), (2,), (5,), (6,)]),
        Case(
            "fill_null_of_a_table",
            lambda t: t.wide.fill_null(0),
            [(1, 10, 20, 0), (2, 11, 0, 31)],
        ),
        Case(
            "across_columns",
            lambda t: t.wide.aggregate(ibis.selectors.across(ibis.selectors.startswith("q"), _.sum())),
            [(21, 20, 31)],
        ),
        Case(
            "drop_rename_relocate",
            lambda t: t.wide.drop("q3").rename(first="q1").relocate("q2", before="id"),
            [(20, 1, 10), (None, 2, 11)],
        ),
    ],
)

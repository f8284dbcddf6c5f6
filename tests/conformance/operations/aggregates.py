"""Aggregates, exact and approximate."""

from __future__ import annotations

import statistics
from collections.abc import Callable

import ibis
from ibis import _

from tests.conformance.cases import Case, group
from tests.conformance.operations.tables import NUMBERS, PEOPLE
from tests.conformance.values import Row

_AGES = [p.age for p in PEOPLE if p.age is not None]
_X = [(p.age, p.rate) for p in PEOPLE if p.age is not None and p.rate is not None]


def _between(low: float, high: float) -> Callable[[list[Row]], None]:
    def check(rows: list[Row]) -> None:
        assert len(rows) == 1, rows
        assert low <= rows[0][0] <= high, rows

    return check


def _correlation() -> float:
    return statistics.correlation(*zip(*_X, strict=True))


AGGREGATES = group(
    "aggregate",
    "Aggregates",
    [
        Case("sum", lambda t: t.numbers.aggregate(v=_.i.sum()), [(1000000007,)]),
        Case(
            "sum_of_decimals",
            lambda t: t.numbers.aggregate(v=_.p.sum()),
            [(sum(n.p for n in NUMBERS if n.p is not None),)],
        ),
        Case("mean", lambda t: t.people.aggregate(v=_.age.mean()), [(sum(_AGES) / len(_AGES),)]),
        Case("mean_of_decimals", lambda t: t.orders.aggregate(v=_.amount.mean()), [(42.24 / 6,)]),
        Case(
            "min_max",
            lambda t: t.people.aggregate(a=_.born.min(), b=_.pay.max(), c=_.name.max(), d=_.rate.min()),
            [(PEOPLE[0].born, PEOPLE[3].pay, "Łukasz", -2.0)],
        ),
        Case("std_sample", lambda t: t.people.aggregate(v=_.age.std()), [(statistics.stdev(_AGES),)]),
        Case("std_population", lambda t: t.people.aggregate(v=_.age.std(how="pop")), [(statistics.pstdev(_AGES),)]),
        Case("var_sample", lambda t: t.people.aggregate(v=_.age.var()), [(statistics.variance(_AGES),)]),
        Case("std_of_one_row", lambda t: t.people.filter(_.id == 1).aggregate(v=_.age.std()), [(None,)]),
        Case("median", lambda t: t.people.aggregate(v=_.age.median()), [(45,)]),
        Case("median_between", lambda t: t.wide.aggregate(v=_.q1.median()), [(10.5,)]),
        Case("quantile", lambda t: t.orders.aggregate(v=_.id.quantile(0.25)), [(11.5,)]),
        Case("approx_median", lambda t: t.orders.aggregate(v=_.id.approx_median()), _between(12, 14)),
        Case("approx_quantile", lambda t: t.orders.aggregate(v=_.id.approx_quantile(0.25)), _between(11, 12)),
        Case("approx_nunique", lambda t: t.orders.aggregate(v=_.item.approx_nunique()), [(3,)]),
        Case(
            "count",
            lambda t: t.people.aggregate(a=_.count(), b=_.age.count(), c=_.age.nunique(), d=_.team.nunique()),
            [(6, 5, 4, 3)],
        ),
        Case(
            "count_where",
            lambda t: t.people.aggregate(a=_.id.count(where=_.age > 40), b=_.rate.sum(where=_.active)),
            [(3, -1.4)],
        ),
        Case("count_distinct_rows", lambda t: t.orders.select("item", "amount").aggregate(n=_.nunique()), [(5,)]),
        Case("mode", lambda t: t.people.aggregate(v=_.age.mode()), [(45,)]),
        Case(
            "any_all",
            lambda t: t.people.aggregate(a=_.active.any(), b=_.active.all(), c=(_.id > 0).all(), d=(_.id > 9).any()),
            [(True, False, True, False)],
        ),
        Case(
            "argmax_argmin",
            lambda t: t.people.aggregate(a=_.name.argmax(_.pay), b=_.name.argmin(_.born)),
            [("Barbara", "Ada")],
        ),
        Case(
            "first_last",
            lambda t: t.orders.aggregate(a=_.id.first(order_by=_.at), b=_.id.last(order_by=_.at)),
            [(10, 16)],
        ),
        Case(
            "group_concat",
            lambda t: (
                t.people.filter(_.team == "red")
                .group_by("team")
                .aggregate(v=_.name.group_concat("; ", order_by=_.name))
            ),
            [("red", "Ada; Grace")],
        ),
        Case(
            "collect",
            lambda t: t.orders.group_by("item").aggregate(v=_.id.collect(order_by=_.id)).select("item", n=_.v.length()),
            [("pen", 3), ("ink", 2), ("cap", 2)],
        ),
        Case("correlation", lambda t: t.people.aggregate(v=_.age.corr(_.rate, how="pop")), [(_correlation(),)]),
        Case(
            "covariance",
            lambda t: t.wide.aggregate(v=_.id.cov(_.q1, how="sample"), w=_.id.cov(_.q1, how="pop")),
            [(0.5, 0.25)],
        ),
        Case(
            "by_group",
            lambda t: t.orders.group_by("item").aggregate(s=_.quantity.sum(), m=_.amount.max()),
            [("pen", 14, 1.1), ("ink", 3, 12.5), ("cap", 2, 7.77)],
        ),
        Case(
            "group_by_null",
            lambda t: t.people.group_by("team").aggregate(n=_.count()),
            [("red", 2), ("blue", 2), ("green", 1), (None, 1)],
        ),
        Case(
            "group_by_expression",
            lambda t: t.people.group_by(old=_.age > 40).aggregate(n=_.count()),
            [(True, 3), (False, 2), (None, 1)],
        ),
        Case(
            "having",
            lambda t: t.people.group_by("team").having(_.count() > 1).aggregate(n=_.count()),
            [("red", 2), ("blue", 2)],
        ),
        Case(
            "of_no_rows",
            lambda t: t.people.filter(_.id < 0).aggregate(n=_.count(), s=_.age.sum(), m=_.name.max()),
            [(0, None, None)],
        ),
        Case("groups_of_no_rows", lambda t: t.people.filter(_.id < 0).group_by("team").aggregate(n=_.count()), []),
        Case(
            "sum_of_booleans", lambda t: t.people.aggregate(v=_.active.sum(), w=_.active.cast("int64").sum()), [(3, 3)]
        ),
        Case("mean_of_booleans", lambda t: t.people.aggregate(v=_.active.mean()), [(0.6,)]),
        Case(
            "nan_in_a_sum", lambda t: t.specials.filter(_.id.isin([1, 6])).aggregate(v=_.value.sum()), [(float("nan"),)]
        ),
        Case(
            "bit_operations",
            lambda t: t.wide.aggregate(a=_.q1.bit_and(), b=_.q1.bit_or(), c=_.q1.bit_xor()),
            [(10, 11, 1)],
        ),
        Case(
            "aggregate_of_aggregate",
            lambda t: t.orders.group_by("item").aggregate(n=_.count()).aggregate(m=_.n.max(), k=_.count()),
            [(3, 3)],
        ),
        Case(
            "rollup_by_union",
            lambda t: (
                t.orders.group_by("item")
                .aggregate(n=_.count())
                .union(t.orders.aggregate(item=ibis.null("string"), n=_.count()).select("item", "n"))
            ),
            [("pen", 3), ("ink", 2), ("cap", 2), (None, 7)],
        ),
    ],
)

"""Joins of every kind, and set operations."""

from __future__ import annotations

from typing import Any

import ibis
from ibis import _

from tests.conformance.cases import Case, group
from tests.conformance.operations.tables import ORDERS, PEOPLE, Order

_NOBODY: list[str | None] = [None]


def _matched(order: Order) -> list[str | None]:
    return [p.name for p in PEOPLE if p.id == order.person]


def _pairs(people: Any) -> Any:
    other = people.view()
    on = [people.team == other.team, people.id < other.id]
    return people.join(other, on).select(people.name, other=other.name)


def _null_safe(people: Any) -> Any:
    other = people.view()
    return people.join(other, people.team.identical_to(other.team)).aggregate(n=_.count())


def _on(t: Any) -> Any:
    return t.people.id == t.orders.person


JOINS = group(
    "join",
    "Joins",
    [
        Case(
            "inner",
            lambda t: t.people.join(t.orders, _on(t)).select("name", "item"),
            [(p.name, o.item) for p in PEOPLE for o in ORDERS if o.person == p.id],
        ),
        Case(
            "left",
            lambda t: t.orders.left_join(t.people, t.orders.person == t.people.id).select(t.orders.id, "name"),
            [(o.id, name) for o in ORDERS for name in _matched(o) or _NOBODY],
        ),
        Case(
            "right",
            lambda t: t.people.right_join(t.orders, _on(t)).select("name", "item"),
            [(name, o.item) for o in ORDERS for name in _matched(o) or _NOBODY],
        ),
        Case(
            "outer",
            lambda t: t.people.outer_join(t.orders, _on(t)).select("name", "item"),
            [(name, o.item) for o in ORDERS for name in _matched(o) or _NOBODY]
            + [(p.name, None) for p in PEOPLE if p.id not in {o.person for o in ORDERS}],
        ),
        Case(
            "semi",
            lambda t: t.people.semi_join(t.orders, _on(t)).select("name"),
            [("Ada",), ("Grace",), ("Edsger",)],
        ),
        Case(
            "anti",
            lambda t: t.orders.anti_join(t.people, t.orders.person == t.people.id).select("id"),
            [(14,), (15,)],  # NULL matches nothing, so the row stays
        ),
        Case(
            "cross",
            lambda t: t.people.select("name").cross_join(t.wide.select("q1")),
            [(p.name, q) for p in PEOPLE for q in (10, 11)],
        ),
        Case(
            "self",
            lambda t: _pairs(t.people),
            [("Ada", "Grace"), ("Edsger", "Barbara")],
        ),
        Case(
            "inequality",
            lambda t: t.people.join(t.orders, [t.people.joined < t.orders.at]).select("name", t.orders.id),
            [(p.name, o.id) for p in PEOPLE for o in ORDERS if p.joined and p.joined < o.at],
        ),
        Case(
            "null_keys_never_match",
            lambda t: t.people.join(t.people.view(), "team").aggregate(n=_.count()),
            [(9,)],
        ),
        Case(
            "null_safe",
            lambda t: _null_safe(t.people),
            [(10,)],
        ),
        Case(
            "several_keys",
            lambda t: t.orders.join(t.orders.view(), ["item", "amount"]).aggregate(n=_.count()),
            [(10,)],
        ),
        Case(
            "same_names_get_a_suffix",
            lambda t: t.people.select("id", "name").join(t.orders.select("id", "person"), [("id", "person")]),
            [(p.id, p.name, o.id, o.person) for p in PEOPLE for o in ORDERS if o.person == p.id],
        ),
        Case(
            "asof",
            lambda t: t.trades.asof_join(t.quotes, "at", predicates="symbol").select("id", "price"),
            [(1, 1.0), (2, 2.0), (3, None), (4, 5.0)],
        ),
        Case(
            "with_rows_brought_along",
            lambda t: t.people.join(
                ibis.memtable({"team": ["red", "blue", 'it\'s "😀"'], "floor": [1, 2, 3]}), "team"
            ).select("name", "floor"),
            [("Ada", 1), ("Grace", 1), ("Edsger", 2), ("Barbara", 2)],
        ),
        Case(
            "chain_of_three",
            lambda t: (
                t.orders.join(t.people, t.orders.person == t.people.id)
                .join(t.wide, t.people.id == t.wide.id)
                .select("item", "name", "q1")
            ),
            [("pen", "Ada", 10), ("ink", "Ada", 10), ("pen", "Grace", 11), ("ink", "Grace", 11)],
        ),
        Case(
            "with_aggregate",
            lambda t: t.people.left_join(
                t.orders.group_by("person").aggregate(spent=(_.amount * _.quantity).sum(), n=_.count()),
                [("id", "person")],
            ).select("name", "spent", "n"),
            [
                ("Ada", 15.3, 2),
                ("Grace", 36, 2),
                ("Edsger", None, 1),
                ("Barbara", None, None),
                ("Donald", None, None),
                ("Łukasz", None, None),
            ],
        ),
    ],
)

SETS = group(
    "set",
    "Set operations and subqueries",
    [
        Case(
            "union_all",
            lambda t: t.people.select("team").union(t.people.select("team")),
            [(p.team,) for p in PEOPLE] * 2,
        ),
        Case(
            "union_distinct",
            lambda t: t.people.select("team").union(t.people.select("team"), distinct=True),
            [("red",), ("blue",), ("green",), (None,)],
        ),
        Case(
            "intersect",
            lambda t: t.people.select("id").intersect(t.orders.select(id=_.person)),
            [(1,), (2,), (3,)],
        ),
        Case(
            "difference",
            lambda t: t.people.select("id").difference(t.orders.select(id=_.person)),
            [(4,), (5,), (6,)],
        ),
        Case(
            "isin_values",
            lambda t: t.people.filter(_.team.isin(["red", "green"])).select("id"),
            [(1,), (2,), (6,)],
        ),
        Case(
            "notin_values",
            lambda t: t.people.filter(_.team.notin(["red", "green"])).select("id"),
            [(3,), (4,)],  # NULL is in no list, and not in no list
        ),
        Case(
            "isin_subquery",
            lambda t: t.people.filter(_.id.isin(t.orders.filter(_.item == "ink").person)).select("id"),
            [(1,), (2,)],
        ),
        Case(
            "notin_subquery",
            lambda t: t.people.filter(_.id.notin(t.orders.filter(_.person.notnull()).person)).select("id"),
            [(4,), (5,), (6,)],
        ),
        Case(
            "scalar_subquery",
            lambda t: t.people.filter(t.people.age > t.people.age.mean().as_scalar()).select("id"),
            [(5,)],
        ),
        Case(
            "exists_subquery",
            lambda t: t.people.filter((t.orders.person == t.people.id).any()).select("id"),
            [(1,), (2,), (3,)],
        ),
        Case(
            "nested_subqueries",
            lambda t: t.orders.filter(
                _.person.isin(t.people.filter(_.id.isin(t.wide.filter(_.q2.isnull()).id)).id)
            ).select("id"),
            [(12,), (16,)],
        ),
        Case("distinct", lambda t: t.orders.select("item").distinct(), [("pen",), ("ink",), ("cap",)]),
        Case(
            "distinct_on",
            lambda t: t.orders.filter(_.item == "cap").distinct(on="item", keep="first").select("item", "amount"),
            [("cap", 7.77)],
        ),
        Case(
            "distinct_of_nulls_and_empty",
            lambda t: t.texts.filter(_.id.isin([2, 3])).union(t.texts.filter(_.id.isin([2, 3]))).select("s").distinct(),
            [("",), (None,)],
        ),
    ],
)

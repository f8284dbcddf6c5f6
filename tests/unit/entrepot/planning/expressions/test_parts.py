"""Which rows of its inputs a part of a table needs; and what cannot be computed by parts."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import ibis
import pytest
from ibis import _

from entrepot import BadInput, ByInterval, ByKey, Pipeline, PipelineError, Table
from entrepot.errors import EntrepotError
from entrepot.identity.expression import input_table
from entrepot.language.incremental import Incremental
from entrepot.planning.expressions.parts import Needed, needed

SALES = ibis.schema({"at": "timestamp", "day": "date", "shop": "string", "n": "int64", "tags": "array<string>"})
SHOPS = ibis.schema({"shop": "string", "since": "timestamp", "country": "string"})
ZONED = ibis.schema({"at": "timestamp('Europe/Zurich')", "n": "int64"})

VISITS = ibis.schema({"day": "date", "shop": "string", "number": "int32"})

sales, shops, zoned, visits = (
    input_table(name, schema)
    for name, schema in (("sales", SALES), ("shops", SHOPS), ("zoned", ZONED), ("visits", VISITS))
)
Rule = Callable[[], Table]
DAY, MONTH, AT, SHOP = ByInterval("day"), ByInterval("month", every="month"), ByInterval("at"), ByKey("shop")
BY_DAY, BY_AT = Needed(("day",)), Needed(("at",))


def trailing(days: int, following: int = 0) -> ibis.Value:
    window = ibis.range_window(preceding=ibis.interval(days=days), following=following, order_by=_.day)
    return _.n.sum().over(window)


FOUND: dict[str, tuple[Incremental, Rule, dict[str, Needed]]] = {
    "columns of rows": (AT, lambda: sales.filter(_.n > 1).mutate(m=_.n * 2).order_by("m"), {"sales": BY_AT}),
    "groups by a date": (DAY, lambda: sales.group_by(day=_.at.date()).agg(n=_.n.sum()), {"sales": BY_AT}),
    "groups by a cast": (DAY, lambda: sales.group_by(day=_.at.cast("date")).agg(n=_.n.sum()), {"sales": BY_AT}),
    "groups by a month": (
        MONTH,
        lambda: sales.group_by(month=_.day.truncate("M"), shop=_.shop).agg(n=_.n.median()),
        {"sales": BY_DAY},
    ),
    "groups of groups": (
        MONTH,
        lambda: (
            sales.group_by(d=_.at.truncate("D"), shop=_.shop)
            .agg(n=_.n.sum())
            .group_by(month=_.d.truncate("M"))
            .agg(best=_.n.max())
        ),
        {"sales": BY_AT},
    ),
    "a join on a day": (
        DAY,
        lambda: sales.join(shops.mutate(day=_.since.date()), ["day", "shop"]).select("day", "country"),
        {"sales": BY_DAY, "shops": Needed(("since",))},
    ),
    "a join on what comes after": (
        AT,
        lambda: shops.join(sales, [shops.since == sales.at]).select("at", "country"),
        {"sales": BY_AT, "shops": Needed(("since",))},
    ),
    "joins of three": (
        DAY,
        lambda: (
            sales.left_join(since := shops.mutate(since=_.since.date()), sales.day == since.since)
            .join(visits, since.since == visits.day)
            .select("day", "country", "number")
        ),
        {"sales": BY_DAY, "shops": Needed(("since",)), "visits": Needed(("day",))},
    ),
    "a join that need not match": (  # a row without visits may have a shop since any day
        DAY,
        lambda: (
            sales.join(shops, sales.shop == shops.shop)
            .left_join(visits, [sales.day == visits.day, shops.since.date() == visits.day])
            .select("day", "country", "number")
        ),
        {"sales": BY_DAY, "visits": Needed(("day",))},
    ),
    "a join on two tables that need not match": (
        DAY,
        lambda: (
            sales.join(shops, sales.shop == shops.shop)
            .left_join(visits, [sales.day == shops.since.date(), sales.shop == visits.shop])
            .select("day", "country", "number")
        ),
        {"sales": BY_DAY},
    ),
    "NULL that is the same as NULL": (
        DAY,
        lambda: (
            sales.left_join(shops, sales.day == shops.since.date())
            .left_join(visits, shops.since.date().identical_to(visits.day))
            .select("day", "country", "number")
        ),
        {"sales": BY_DAY, "shops": Needed(("since",))},
    ),
    "keys of other types": (
        ByKey("n"),
        lambda: sales.left_join(visits, sales.n == visits.number).select("n", "number"),
        {"sales": Needed(("n",))},
    ),
    "a join on something else": (DAY, lambda: sales.left_join(shops, "shop").drop("shop_right"), {"sales": BY_DAY}),
    "an anti join": (AT, lambda: sales.anti_join(shops, "shop"), {"sales": BY_AT}),
    "a table with itself": (
        DAY,
        lambda: sales.join(sales.view(), ["day", "shop"]).select("day", n="n_right"),
        {"sales": BY_DAY},
    ),
    "a subquery": (DAY, lambda: sales.filter(_.shop.isin(shops.shop)), {"sales": BY_DAY}),
    "a window within a day": (
        AT,
        lambda: sales.mutate(r=ibis.rank().over(group_by=_.at.date(), order_by=_.n)),
        {"sales": BY_AT},
    ),
    "a range of days": (DAY, lambda: sales.mutate(s=trailing(7, 2)), {"sales": Needed(("day",), before=7, after=2)}),
    "ranges one upon the other": (
        DAY,
        lambda: sales.mutate(n=trailing(7)).mutate(s=trailing(2)),
        {"sales": Needed(("day",), before=9)},
    ),
    "a range of less than an interval": (
        ByInterval("day", every="month"),
        lambda: sales.mutate(s=trailing(7)),
        {"sales": Needed(("day",), before=1)},
    ),
    "a union": (
        AT,
        lambda: sales.select("at", "shop").union(shops.select(at="since", shop="shop"), distinct=True),
        {"sales": BY_AT, "shops": Needed(("since",))},
    ),
    "elements of arrays": (AT, lambda: sales.unnest("tags"), {"sales": BY_AT}),
    "a key": (SHOP, lambda: sales.group_by("shop").agg(n=_.n.sum()), {"sales": Needed(("shop",))}),
    "a key of two columns": (
        ByKey("shop", "day"),
        lambda: sales.mutate(r=ibis.rank().over(group_by=[_.day, _.shop, _.n])).distinct(),
        {"sales": Needed(("shop", "day"))},
    ),
    "a key of two tables": (
        SHOP,
        lambda: shops.left_join(sales, "shop").group_by("shop").agg(n=_.n.sum()),
        {"sales": Needed(("shop",)), "shops": Needed(("shop",))},
    ),
}
REFUSED: dict[str, tuple[Incremental, Rule, str]] = {
    "no such column": (ByInterval("hour"), lambda: sales, "has no column 'hour'"),
    "no time": (ByInterval("n"), lambda: sales, "'n' is of type int64, not a date or timestamp in UTC"),
    "another time zone": (AT, lambda: zoned, "Europe/Zurich"),
    "hours of a date": (ByInterval("day", every="hour"), lambda: sales, "of an hour, and 'day' is a date"),
    "first rows": (AT, lambda: sales.order_by("at").limit(3), "what Limit gives depends on all rows"),
    "a sample": (AT, lambda: sales.sample(0.5, seed=1), "what Sample gives depends on all rows"),
    "another group": (DAY, lambda: sales.group_by("shop").agg(day=_.day.max()), "'day' is not among the groups"),
    "a longer group": (
        ByInterval("month"),
        lambda: sales.group_by(month=_.at.truncate("M")).agg(n=_.n.sum()),
        "'month' is computed; it has to be a column of an input as it is, cast to a date, or truncated to what",
    ),
    "weeks of a month": (MONTH, lambda: sales.select(month=_.at.truncate("W")), "within one month"),
    "a time that is moved": (AT, lambda: sales.mutate(at=_.at + ibis.interval(hours=1)), "'at' is computed"),
    "a time that replaces NULL": (AT, lambda: sales.fill_null({"at": datetime(2026, 1, 1)}), "is replaced"),
    "a window over all": (AT, lambda: sales.mutate(s=_.n.cumsum(order_by=_.at)), "group it by 'at' or order it"),
    "a window of rows": (AT, lambda: sales.mutate(s=_.n.lag().over(order_by=_.at)), "a window is over rows of several"),
    "a mean of all": (AT, lambda: sales.filter(_.n > _.n.mean()), "no input would be read by parts"),
    "a share of all": (AT, lambda: sales.mutate(n=_.n / _.n.sum()), "a window is over rows of several parts"),
    "a window of another column": (
        DAY,
        lambda: sales.mutate(
            s=_.n.sum().over(ibis.range_window(preceding=ibis.interval(days=7), following=0, order_by=_.at))
        ),
        "a window is over rows of several parts",
    ),
    "a rank over a range": (
        DAY,
        lambda: sales.mutate(
            r=ibis.row_number().over(ibis.range_window(preceding=ibis.interval(days=7), following=0, order_by=_.day))
        ),
        "a window is over rows of several parts",
    ),
    "rows of the same table": (
        AT,
        lambda: sales.filter(_.n == sales.select(m=sales.n).filter(_.m > 1).m.max().as_scalar()),
        "no input would be read by parts",
    ),
    "a key that is computed": (SHOP, lambda: sales.mutate(shop=_.shop.upper()), "has to be a column of an input as it"),
    "half a key of each": (
        ByKey("shop", "day"),
        lambda: sales.select("day", "n").cross_join(shops).select("shop", "day"),
        "no input would be read by parts",
    ),
    "the clock": (AT, lambda: sales.filter(_.at < ibis.now()), "it reads the clock, so no part stays as it is"),
}


@pytest.mark.parametrize("kind", FOUND)
def test_what_a_part_needs(kind: str) -> None:
    by, rule, expected = FOUND[kind]
    assert needed(rule().op(), by) == expected


@pytest.mark.parametrize("kind", [kind for kind in REFUSED if kind != "the clock"])
def test_what_cannot_be_computed_by_parts(kind: str) -> None:
    by, rule, said = REFUSED[kind]
    with pytest.raises(EntrepotError, match=r"it (is|cannot be) computed by") as caught:
        needed(rule().op(), by)
    assert said in str(caught.value)


@pytest.mark.parametrize("kind", ["first rows", "another group", "the clock", "no such column"])
def test_a_pipeline_that_cannot_be_is_refused_with_its_place(kind: str) -> None:
    by, rule, said = REFUSED[kind]
    shop = Pipeline("shop")
    shop.ingest(tables={"sales": {name: str(dtype) for name, dtype in SALES.items()}}, name="source")(_nothing)

    @shop.transform(incremental=by)
    def wrong(sales: Table) -> Table:
        return rule()

    with pytest.raises(PipelineError) as caught:
        assert shop.graph
    assert f"transform 'wrong': it {'is' if kind == 'no such column' else 'cannot be'} computed by" in str(caught.value)
    assert said in str(caught.value)


def _nothing() -> list[dict[str, object]]:
    return []


def test_a_python_transform_has_no_parts() -> None:
    shop = Pipeline("shop")
    shop.ingest(tables=["sales"], name="source")(_nothing)
    shop.transform(engine="python", schema={"day": "date"}, incremental=DAY, name="days")(lambda sales: sales)
    with pytest.raises(PipelineError, match="runs in Python, so it cannot be computed by intervals of 'day'"):
        assert shop.graph


def test_words_that_are_unknown_are_refused_where_they_stand() -> None:
    with pytest.raises(BadInput, match="unknown every 'dya'; did you mean 'day'"):
        ByInterval("at", every="dya")  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="names no column"):
        ByKey()

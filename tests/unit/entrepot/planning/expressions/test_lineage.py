"""What a column is made of: what is not named has no part in it, whatever the expression and the rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import reduce
from typing import Any

import hypothesis
import ibis
import ibis.expr.datatypes as dt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ibis import _

from entrepot.identity.expression import bind, input_table, nodes_of, schema_from
from entrepot.language.model import Model
from entrepot.planning.expressions.lineage import Lineage, Source, trace
from tests.unit.entrepot.identity.test_expression import COMPUTATIONS
from tests.unit.entrepot.seeds import printed

SALES = {"id": "int64", "shop": "string", "price": "float64", "day": "date", "tags": "array<int64>"}


def sales() -> ibis.Table:
    return input_table("sales", schema_from(SALES))


def shops() -> ibis.Table:
    return input_table("shops", schema_from({"shop": "string", "city": "string", "rent": "float64"}))


def lineage(expression: ibis.Table) -> Lineage:
    return trace(nodes_of(expression))


def said(expression: ibis.Table) -> dict[str, str]:
    """The lineage, in short: each column's, and the rows' as that of `*`."""
    found = lineage(expression)
    return {name: _said(part) for name, part in {**found.columns, "*": found.rows}.items()}


def _said(part: Any) -> str:
    direct = [f"{table}.{column or '*'} {how}" for (table, column), how in sorted(part.made_of.items(), key=str)]
    indirect = [
        f"{table}.{column or '*'} by {', '.join(sorted(ways))}"
        for (table, column), ways in sorted(part.decided_by.items(), key=str)
        if ways
    ]
    return "; ".join(direct + indirect)


RISK = Model("risk", features=("price",), dtype=dt.boolean, has_probabilities=True)

CASES: list[tuple[ibis.Table, dict[str, str]]] = [
    (sales().select("id", number="price"), {"id": "sales.id identity", "number": "sales.price identity", "*": ""}),
    (
        sales().mutate(x=_.price * 2 + _.id).select("x"),
        {"x": "sales.id transformation; sales.price transformation", "*": ""},
    ),
    (sales().filter(_.price > 1).select("id"), {"id": "sales.id identity", "*": "sales.price by filter"}),
    (
        sales().group_by("shop").agg(total=_.price.sum(), n=_.count()),
        {
            "shop": "sales.shop identity",
            "total": "sales.price aggregation",
            "n": "",
            "*": "sales.shop by group",
        },
    ),
    (
        sales().filter(_.id > 1).agg(n=_.count(), total=_.price.sum() + 1),
        {
            "n": "sales.id by filter",
            "total": "sales.price aggregation; sales.id by filter",
            "*": "sales.id by filter",
        },
    ),
    (
        sales().select("id", place=ibis.row_number().over(order_by=_.price, group_by=_.shop)),
        {"id": "sales.id identity", "place": "sales.price by window; sales.shop by window", "*": ""},
    ),
    (
        sales().join(shops(), "shop").select("id", "city"),
        {
            "id": "sales.id identity",
            "city": "shops.city identity",
            "*": "sales.shop by join; shops.shop by join",
        },
    ),
    (
        sales().join(other := sales().view(), _.id == other.id).select("id", earlier=other.price),
        {"id": "sales.id identity", "earlier": "sales.price identity", "*": "sales.id by join"},
    ),
    (
        sales().select(x="shop").union(shops().select(x=_.city.upper())),
        {"x": "sales.shop identity; shops.city transformation", "*": ""},
    ),
    (
        sales().select("id", "shop").distinct().select("id"),
        {"id": "sales.id identity", "*": "sales.id by group; sales.shop by group"},
    ),
    (sales().order_by("price").limit(3).select("id"), {"id": "sales.id identity", "*": "sales.price by sort"}),
    (
        sales().select("id", tag=_.tags.unnest()),
        {"id": "sales.id identity", "tag": "sales.tags transformation", "*": "sales.tags by unnest"},
    ),
    (sales().unnest("tags").select("id"), {"id": "sales.id identity", "*": "sales.tags by unnest"}),
    (
        sales().filter(_.shop.isin(shops().shop)).select("id"),
        {"id": "sales.id identity", "*": "sales.shop by filter; shops.shop by filter"},
    ),
    (
        sales().select(share=_.price / _.price.sum()),
        {"share": "sales.price aggregation", "*": ""},
    ),
    (
        RISK.predict(sales(), keep="id", classes=[True]),
        {
            "id": "sales.id identity",
            "prediction": "risk.* transformation; sales.price transformation",
            "probability_true": "risk.* transformation; sales.price transformation",
            "*": "",
        },
    ),
    (
        sales().fill_null({"price": 0.0}).select("price", "shop"),
        {"price": "sales.price transformation", "shop": "sales.shop identity", "*": ""},
    ),
]


@pytest.mark.parametrize(("expression", "wanted"), CASES, ids=range(len(CASES)))
def test_columns_are_told_of_what_they_are_made(expression: ibis.Table, wanted: dict[str, str]) -> None:
    assert said(expression) == wanted


@pytest.mark.parametrize("name", COMPUTATIONS)
def test_every_expression_has_a_lineage_with_ids_of_its_own(name: str) -> None:
    made = COMPUTATIONS[name]()
    found, again = lineage(made), lineage(COMPUTATIONS[name]())
    assert [*found.columns] == [*made.columns]
    assert found == again
    tables = {source.table for source in found.uses}
    assert tables == {node.name for node in made.op().find(ibis.expr.operations.UnboundTable)}


def test_ids_do_not_depend_on_the_process() -> None:
    script = (
        "from tests.unit.entrepot.planning.expressions.test_lineage import *\n"
        "for name, build in COMPUTATIONS.items():\n"
        "    found = lineage(build())\n"
        "    print(name, found.rows.id, [part.id for part in found.columns.values()])"
    )
    noise = "import ibis\nfor i in range(7): ibis.memtable({'a': [i]}).view(); ibis.param('int64')\n"
    assert len(printed(script, ["1"]) | printed(noise + script, ["2"])) == 1


def test_what_is_computed_differently_has_another_id() -> None:
    by_ids: dict[Any, list[str]] = {}
    for name, build in COMPUTATIONS.items():
        found = lineage(build())
        ids = (found.rows.id, *((column, part.id) for column, part in found.columns.items()))
        by_ids.setdefault(ids, []).append(name)
    assert [names for names in by_ids.values() if len(names) > 1] == []


# Random expressions over real rows. In each, what a limit or a number of rows takes is decided by all columns.

COLUMNS = ("a", "b", "c")
_names = st.sampled_from(COLUMNS)
_values: st.SearchStrategy[Any] = st.recursive(
    st.tuples(st.just("column"), _names) | st.tuples(st.just("number"), st.integers(-1, 2)),
    lambda inner: st.tuples(st.sampled_from(["+", "-", "max", "if"]), inner, inner),
    max_leaves=3,
)
_VERBS: dict[str, st.SearchStrategy[Any]] = {
    "mutate": st.tuples(st.just("mutate"), _names, _values),
    "filter": st.tuples(st.just("filter"), _values, _values),
    "swap": st.tuples(st.just("swap"), st.permutations(COLUMNS)),
    "top": st.tuples(st.just("top"), st.integers(0, 3)),
    "sorted": st.tuples(st.just("sorted"), _names),
    "over": st.tuples(st.just("over"), _names, _names, st.sampled_from(["sum", "max", "count"])),
    "rank": st.tuples(st.just("rank"), _names, _names),
    "number": st.tuples(st.just("number"), _names),
    "aggregate": st.tuples(st.just("aggregate"), _names, st.sampled_from(["sum", "max", "nunique"]), _values),
    "whole": st.tuples(st.just("whole"), _values),
    "join": st.tuples(st.just("join"), st.sampled_from(["inner", "left", "outer", "anti", "semi"]), _names, _names),
    "self": st.tuples(st.just("self"), _names, _names),
    "union": st.tuples(st.just("union"), st.booleans(), _values),
    "minus": st.tuples(st.just("minus"), _values),
    "distinct": st.tuples(st.just("distinct"), _names),
    "unnest": st.tuples(st.just("unnest"), _names, _names, st.booleans()),
    "isin": st.tuples(st.just("isin"), _names, _names),
    "largest": st.tuples(st.just("largest"), _names),
    "fill": st.tuples(st.just("fill"), _names, st.booleans()),
    "drop null": st.tuples(st.just("drop null"), _names),
}
_verbs = st.sampled_from(sorted(_VERBS)).flatmap(_VERBS.__getitem__)
_rows = st.lists(st.tuples(*[st.none() | st.integers(0, 3)] * 3), min_size=2, max_size=5)


def _value(t: ibis.Table, recipe: Any) -> Any:
    match recipe:
        case ("column", name):
            return t[name]
        case ("number", number):
            return ibis.literal(number, "int64")
        case ("+", left, right):
            return (_value(t, left) + _value(t, right)) % 7
        case ("-", left, right):
            return (_value(t, left) - _value(t, right)) % 7
        case ("max", left, right):
            return ibis.greatest(_value(t, left), _value(t, right))
        case (_, left, right):
            return ibis.ifelse(_value(t, left) > 1, _value(t, right), 0)


def _apply(t: ibis.Table, recipe: Any, other: ibis.Table) -> ibis.Table:  # noqa: PLR0912 - a case each
    match recipe:
        case ("mutate", name, value):
            return t.mutate(**{name: _value(t, value)})
        case ("filter", left, right):
            return t.filter(_value(t, left) <= _value(t, right))
        case ("swap", names):
            return t.select(**dict(zip(COLUMNS, (t[name] for name in names), strict=True)))
        case ("top", n):
            return t.order_by(*COLUMNS).limit(n)
        case ("sorted", name):
            return t.order_by(name)
        case ("over", name, by, how):
            return t.mutate(**{name: getattr(t[name], how)().over(group_by=by) % 7})
        case ("rank", name, by):
            return t.mutate(**{name: ibis.dense_rank().over(order_by=by)})
        case ("number", name):
            return t.mutate(**{name: ibis.row_number().over(order_by=COLUMNS)})
        case ("aggregate", by, how, value):
            return t.group_by(a=t[by]).agg(b=getattr(t.c + _value(t, value), how)() % 7, c=t.count())
        case ("whole", value):
            return t.agg(a=(t.c + _value(t, value)).sum() % 7, b=t.count(), c=t.b.max())
        case ("join", "anti" | "semi" as how, one, two):
            return t.join(other, [t[one] == other[two]], how=how)
        case ("join", how, one, two):
            return t.join(other, [t[one] == other[two]], how=how).select(t.a, other.b, t.c)
        case ("self", one, two):
            again = t.view()
            return t.join(again, [t[one] == again[two]]).select(t.a, again.b, t.c)
        case ("union", distinct, value):
            return t.union(other.mutate(b=_value(other, value)), distinct=distinct)
        case ("minus", value):
            return t.difference(other.mutate(b=_value(other, value)))
        case ("distinct", name):
            return t.mutate(**{name: 1}).distinct()
        case ("unnest", name, beside, is_column):
            if is_column:
                return t.mutate(**{name: ibis.array([t[name], t[beside]]).unnest()})
            return t.mutate(d=ibis.array([t[name], t[beside]])).unnest("d").select("a", "b", c="d")
        case ("isin", name, of):
            return t.filter(t[name].isin(other[of]))
        case ("largest", name):
            return t.mutate(**{name: t[name] + other.a.max().as_scalar()})
        case ("fill", name, one):
            return t.fill_null({name: 5}) if one else t.fill_null(5)
        case (_, name):
            return t.drop_null([name])


def _build(recipe: list[Any]) -> ibis.Table:
    t, other = (input_table(name, schema_from(dict.fromkeys(COLUMNS, "int64"))) for name in ("t", "other"))
    return reduce(lambda made, verb: _apply(made, verb, other).cast(t.schema()).select(*COLUMNS), recipe, t)


def _joins(recipe: list[Any]) -> tuple[int, int]:
    verbs = [verb for verb, *_ in recipe]
    return verbs.count("self"), verbs.count("join") + verbs.count("unnest")


# Of few kinds each, so that the same ones meet in many orders.
_recipes = (
    st.sets(st.sampled_from(sorted(_VERBS)), min_size=1, max_size=3)
    .flatmap(lambda names: st.lists(st.sampled_from(sorted(names)).flatmap(_VERBS.__getitem__), min_size=1, max_size=6))
    .filter(lambda recipe: _joins(recipe) <= (1, 2))
)


@st.composite
def edits(draw: st.DrawFn, recipe: list[Any]) -> list[Any]:
    """A recipe with one change: two verbs in the other order, one with other arguments, one more, or one less."""
    edited = list(recipe)
    place = draw(st.integers(0, len(recipe)))
    how = draw(st.sampled_from(["other order", "other arguments", "more", "less"])) if place < len(recipe) else "more"
    if how == "more":
        edited.insert(place, draw(_verbs))
    elif how == "other arguments":
        edited[place] = draw(_VERBS[edited[place][0]])
    else:
        verb = edited.pop(place)
        if how == "other order":
            edited.insert(place + 1, verb)
    return edited


@pytest.fixture(scope="module")
def warehouse() -> ibis.BaseBackend:
    return ibis.duckdb.connect()


Rows = list[tuple[int | None, ...]]


def _load(warehouse: Any, tables: dict[str, Rows]) -> None:
    for name, rows in tables.items():
        warehouse.raw_sql(f"CREATE OR REPLACE TEMP TABLE {name} (a BIGINT, b BIGINT, c BIGINT)")
        if rows:
            listed = ", ".join(str(row).replace("None", "NULL") for row in rows)
            warehouse.raw_sql(f"INSERT INTO {name} VALUES {listed}")


def _computed(warehouse: Any, expression: ibis.Table, columns: list[str]) -> Counter[tuple[Any, ...]]:
    """The rows of some columns, in no order."""
    tables = {name: warehouse.table(name, database=("temp", "main")).op() for name in ("t", "other")}
    found = bind(expression, tables).to_pyarrow()
    if not columns:
        return Counter({(): len(found)})
    return Counter(zip(*(found[name].to_pylist() for name in columns), strict=True))


@settings(max_examples=300)
@given(_recipes, _rows, _rows, st.sampled_from(["t", "other"]), st.sampled_from(COLUMNS), st.data())
def test_what_is_not_named_as_a_source_changes_nothing(
    warehouse: Any, recipe: list[Any], t: Rows, other: Rows, table: str, column: str, data: st.DataObject
) -> None:
    expression = _build(recipe)
    found, source = lineage(expression), Source(table, column)
    tables = {"t": t, "other": other}
    if source in found.rows.uses:
        return
    independent = [name for name, part in found.columns.items() if source not in part.uses]
    _load(warehouse, tables)
    before = _computed(warehouse, expression, independent)
    place = COLUMNS.index(column)
    changed = [(*row[:place], data.draw(st.none() | st.integers(0, 3)), *row[place + 1 :]) for row in tables[table]]
    _load(warehouse, {table: changed})
    assert _computed(warehouse, expression, independent) == before


@settings(max_examples=300)
@given(_recipes, _rows, _rows, st.data())
def test_columns_and_rows_of_the_same_ids_are_the_same(
    warehouse: Any, recipe: list[Any], t: Rows, other: Rows, data: st.DataObject
) -> None:
    edited = data.draw(edits(recipe))
    hypothesis.assume(_joins(edited) <= (1, 2))
    one, another = _build(recipe), _build(edited)
    left, right = lineage(one), lineage(another)
    if left.rows.id != right.rows.id:
        return
    same = [name for name in COLUMNS if left.columns[name].id == right.columns[name].id]
    _load(warehouse, {"t": t, "other": other})
    assert _computed(warehouse, one, same) == _computed(warehouse, another, same)


def _twice(then: Callable[[ibis.Table], ibis.Table]) -> ibis.Table:
    """Each of an array's elements beside each."""
    return then(sales().mutate(x=_.tags.unnest()).mutate(y=_.tags.unnest()))


PAIRS: list[tuple[ibis.Table, ibis.Table, str]] = [
    (
        sales().mutate(x=_.price.sum().over(group_by="shop")).filter(_.id > 1),
        sales().filter(_.id > 1).mutate(x=_.price.sum().over(group_by="shop")),
        "x",
    ),
    (sales().union(sales().mutate(price=_.price * 2)), sales().union(sales().mutate(price=_.price * 3)), "price"),
    (
        _twice(lambda t: t.filter(_.x > 1)).select("id", "x"),
        _twice(lambda t: t.filter(_.x > 1)).select("id", x="y"),
        "x",
    ),
    (
        sales().unnest("tags").mutate(x="tags").drop("tags").join(sales().select("id", "tags"), "id").unnest("tags"),
        sales()
        .unnest("tags")
        .mutate(x="tags")
        .drop("tags")
        .join(sales().select("id", "tags"), "id")
        .unnest("tags")
        .mutate(x="tags"),
        "x",
    ),
    (sales().mutate(x=_.count()).limit(5), sales().limit(5).mutate(x=_.count()), "x"),
    (
        sales().mutate(x=ibis.row_number().over(order_by="id")).semi_join(shops(), "shop").select("x"),
        sales().semi_join(shops(), "shop").select(x=ibis.row_number().over(order_by="id")),
        "x",
    ),
]


@pytest.mark.parametrize(("one", "other", "column"), PAIRS, ids=range(len(PAIRS)))
def test_what_is_computed_over_other_rows_has_another_id(one: ibis.Table, other: ibis.Table, column: str) -> None:
    left, right = lineage(one), lineage(other)
    assert {name for name, part in left.columns.items() if part.id != right.columns[name].id} == {column}


def test_what_is_not_used_can_change_without_a_trace() -> None:
    for change in (
        lambda t: t.mutate(city=t.shop.upper()),
        lambda t: t.mutate(price=t.price * 2),
        lambda t: t.select("id", "shop", "day"),
        lambda t: t.mutate(place=ibis.row_number().over(order_by=t.price)),
    ):
        one, another = (lineage(each.filter(_.shop == "a").select("id", "day")) for each in (sales(), change(sales())))
        assert one == another

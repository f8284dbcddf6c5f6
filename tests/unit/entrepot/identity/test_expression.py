"""One hash for one computation: the identity of ibis expressions."""

from __future__ import annotations

import datetime
import decimal
import json
import uuid
from collections.abc import Callable
from functools import reduce
from operator import and_, or_
from typing import Any

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.operations as ops
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ibis import _

from entrepot.identity.expression import bind, described, foreign, input_table, nodes_of, schema_from, schema_to
from tests.unit.entrepot.seeds import printed

SALES = {"id": "int64", "shop": "string", "price": "float64", "day": "date", "at": "timestamp", "tags": "array<int64>"}
SHOPS = {"shop": "string", "city": "string", "rent": "float64"}


def identity(expression: ibis.Table) -> str:
    return described(nodes_of(expression)).hash


def sales(**types: str) -> ibis.Table:
    return input_table("sales", schema_from(SALES | types))


def shops() -> ibis.Table:
    return input_table("shops", schema_from(SHOPS))


@ibis.udf.scalar.builtin
def soundex(text: str) -> str: ...


@ibis.udf.scalar.builtin(name="soundex", database="tools")
def soundex_of_another_schema(text: str) -> str: ...


@ibis.udf.scalar.builtin(name="soundex", signature=((str,), bytes))
def soundex_of_another_type(text): ...  # type: ignore[no-untyped-def]


@ibis.udf.scalar.python
def plus_one(x: int) -> int:
    return x + 1


@ibis.udf.scalar.python(name="plus_one")
def plus_two(x: int) -> int:
    return x + 2


@ibis.udf.scalar.pyarrow(name="plus_one")
def plus_one_in_arrow(x: int) -> int:
    return x + 1


@ibis.udf.agg.builtin
def kurtosis(x: float) -> float: ...


@ibis.udf.agg.builtin
def skewness(x: float, where: bool = True) -> float: ...


def _self_join(how: str = "inner") -> ibis.Table:
    t = sales()
    other = t.view()
    return t.join(other, t.shop == other.shop, how=how).select(t.id, before=other.id)


def _two_views(swap: bool) -> ibis.Table:
    t = sales()
    a, b = t.view(), t.view()
    made = t.join(a, t.id == a.id).join(b, t.id == b.id)
    return made.select(t.id, x=(b if swap else a).price, y=a.price)


def _rows(*ids: int, **options: Any) -> ibis.Table:
    return sales().semi_join(ibis.memtable({"id": list(ids)}, **options), "id")


def _over(**window: Any) -> ibis.Table:
    return sales().mutate(x=_.price.sum().over(ibis.window(**window)))


COMPUTATIONS: dict[str, Callable[[], ibis.Table]] = {
    "all": sales,
    "another input": shops,
    "a column": lambda: sales().select("id"),
    "columns": lambda: sales().select("id", "price"),
    "columns in another order": lambda: sales().select("price", "id"),
    "a renamed column": lambda: sales().select(number="id"),
    "dropped columns": lambda: sales().drop("id", "price"),
    "another dropped column": lambda: sales().drop("id"),
    "filter": lambda: sales().filter(_.price > 1),
    "filter or equal": lambda: sales().filter(_.price >= 1),
    "filter by another number": lambda: sales().filter(_.price > 2),
    "filter by the number as float": lambda: sales().filter(_.price > 1.0),
    "filter by the number as text": lambda: sales().filter(_.price > ibis.literal(1, "int64")),
    "filter by both": lambda: sales().filter(_.price > 1, _.id > 1),
    "filter by either": lambda: sales().filter((_.price > 1) | (_.id > 1)),
    "filter by a set": lambda: sales().filter(_.shop.isin(["a", "b"])),
    "filter by another set": lambda: sales().filter(_.shop.isin(["a", "c"])),
    "filter by no set": lambda: sales().filter(_.shop.notin(["a", "b"])),
    "filter by another table": lambda: sales().filter(_.shop.isin(shops().shop)),
    "sort": lambda: sales().order_by("id"),
    "sort down": lambda: sales().order_by(ibis.desc("id")),
    "sort with nulls first": lambda: sales().order_by(ibis.asc("id", nulls_first=True)),
    "sort by two": lambda: sales().order_by("id", "price"),
    "limit": lambda: sales().limit(5),
    "limit and offset": lambda: sales().limit(5, offset=1),
    "distinct": lambda: sales().distinct(),
    "sample": lambda: sales().sample(0.5, seed=1),
    "sample with another seed": lambda: sales().sample(0.5, seed=2),
    "sample of blocks": lambda: sales().sample(0.5, method="block", seed=1),
    "count": lambda: sales().agg(n=_.count()),
    "count under another name": lambda: sales().agg(m=_.count()),
    "count of a column": lambda: sales().agg(n=_.id.count()),
    "count of distinct": lambda: sales().agg(n=_.id.nunique()),
    "count where": lambda: sales().agg(n=_.count(where=_.id > 1)),
    "count by shop": lambda: sales().group_by("shop").agg(n=_.count()),
    "count by day": lambda: sales().group_by("day").agg(n=_.count()),
    "sum by shop": lambda: sales().group_by("shop").agg(n=_.price.sum()),
    "variance of the sample": lambda: sales().agg(v=_.price.var()),
    "variance of the population": lambda: sales().agg(v=_.price.var(how="pop")),
    "quantile": lambda: sales().agg(q=_.price.quantile(0.5)),
    "another quantile": lambda: sales().agg(q=_.price.quantile(0.9)),
    **{
        f"{how} join": lambda how=how: sales().join(shops(), "shop", how=how)  # type: ignore[misc]
        for how in ("inner", "left", "right", "outer", "semi", "anti")
    },
    "join on another column": lambda: sales().join(shops(), [(_.shop, shops().city)]),
    "cross join": lambda: sales().cross_join(shops()),
    "self join": _self_join,
    "left self join": lambda: _self_join("left"),
    "two views": lambda: _two_views(swap=False),
    "two views, the other": lambda: _two_views(swap=True),
    "union": lambda: sales().union(sales().filter(_.id > 1)),
    "union of distinct": lambda: sales().union(sales().filter(_.id > 1), distinct=True),
    "intersection": lambda: sales().intersect(sales().filter(_.id > 1)),
    "difference": lambda: sales().difference(sales().filter(_.id > 1)),
    "difference the other way": lambda: sales().filter(_.id > 1).difference(sales()),
    "window": lambda: _over(order_by="id"),
    "window by shop": lambda: _over(order_by="id", group_by="shop"),
    "window of some rows": lambda: _over(order_by="id", preceding=3, following=0),
    "window of more rows": lambda: _over(order_by="id", preceding=4, following=0),
    "window of following rows": lambda: _over(order_by="id", preceding=0, following=3),
    "window of a range": lambda: _over(order_by="id", range=(-3, 0)),
    "window downwards": lambda: _over(order_by=ibis.desc("id")),
    "lag": lambda: sales().mutate(x=_.price.lag(1).over(order_by="id")),
    "lag by two": lambda: sales().mutate(x=_.price.lag(2).over(order_by="id")),
    "lead": lambda: sales().mutate(x=_.price.lead(1).over(order_by="id")),
    "cast": lambda: sales().mutate(x=_.price.cast("int64")),
    "cast to less": lambda: sales().mutate(x=_.price.cast("int32")),
    "try to cast": lambda: sales().mutate(x=_.price.try_cast("int64")),
    "cast to decimal": lambda: sales().mutate(x=_.price.cast("decimal(9, 2)")),
    "cast to another decimal": lambda: sales().mutate(x=_.price.cast("decimal(9, 3)")),
    "round": lambda: sales().mutate(x=_.price.round()),
    "round to two": lambda: sales().mutate(x=_.price.round(2)),
    "case": lambda: sales().mutate(x=ibis.cases((_.price > 1, "a"), (_.price > 2, "b"), else_="c")),
    "case in another order": lambda: sales().mutate(x=ibis.cases((_.price > 2, "b"), (_.price > 1, "a"), else_="c")),
    "coalesce": lambda: sales().mutate(x=ibis.coalesce(_.price, 0.0)),
    "fill nulls": lambda: sales().fill_null({"price": 0.0, "shop": ""}),
    "fill other nulls": lambda: sales().fill_null({"price": 1.0, "shop": ""}),
    "drop nulls": lambda: sales().drop_null(["price"]),
    "drop rows of nulls": lambda: sales().drop_null(["price"], how="all"),
    "now": lambda: sales().mutate(x=ibis.now()),
    "today": lambda: sales().mutate(x=ibis.today()),
    "random": lambda: sales().mutate(x=ibis.random()),
    "year": lambda: sales().mutate(x=_.day.year()),
    "day truncated": lambda: sales().mutate(x=_.at.truncate("D")),
    "hour truncated": lambda: sales().mutate(x=_.at.truncate("h")),
    "a day later": lambda: sales().mutate(x=_.at + ibis.interval(days=1)),
    "an hour later": lambda: sales().mutate(x=_.at + ibis.interval(hours=1)),
    "unnest": lambda: sales().unnest("tags"),
    "unnest with offset": lambda: sales().unnest("tags", offset="n"),
    "unnest keeping the empty": lambda: sales().unnest("tags", keep_empty=True),
    "map": lambda: sales().mutate(x=_.tags.map(lambda x: x + 1)),
    "map otherwise": lambda: sales().mutate(x=_.tags.map(lambda x: x + 2)),
    "map with index": lambda: sales().mutate(x=_.tags.map(lambda x, i: x + i)),
    "map to index": lambda: sales().mutate(x=_.tags.map(lambda x, i: i + i)),
    "filter an array": lambda: sales().mutate(x=_.tags.filter(lambda x: x > 1)),
    "struct": lambda: sales().mutate(x=ibis.struct({"a": _.id, "b": _.price})),
    "struct in another order": lambda: sales().mutate(x=ibis.struct({"b": _.price, "a": _.id})),
    "array": lambda: sales().mutate(x=ibis.array([_.id, 1])),
    "rows": lambda: _rows(1, 2),
    "other rows": lambda: _rows(1, 3),
    "rows twice": lambda: _rows(1, 2, 2),
    "rows of another type": lambda: _rows(1, 2, schema={"id": "int8"}),
    "rows with two columns": lambda: ibis.memtable(pa.table({"a": [1], "b": [2]})),
    "rows with two columns, reordered": lambda: ibis.memtable(pa.table({"b": [2], "a": [1]})),
    "a function": lambda: sales().mutate(x=soundex(_.shop)),
    "a function of another schema": lambda: sales().mutate(x=soundex_of_another_schema(_.shop)),
    "a function of another type": lambda: sales().mutate(x=soundex_of_another_type(_.shop)),
    "a function in Python": lambda: sales().mutate(x=plus_one(_.id)),
    "another function in Python": lambda: sales().mutate(x=plus_two(_.id)),
    "a function in Arrow": lambda: sales().mutate(x=plus_one_in_arrow(_.id)),
    "an aggregate function": lambda: sales().agg(x=kurtosis(_.price)),
    "an aggregate function where": lambda: sales().agg(x=skewness(_.price, where=_.id > 1)),
    "an aggregate function where otherwise": lambda: sales().agg(x=skewness(_.price, where=_.id > 2)),
}


def test_every_computation_has_an_identity_of_its_own() -> None:
    made = {name: identity(build()) for name, build in COMPUTATIONS.items()}
    by_hash: dict[str, list[str]] = {}
    for name, hashed in made.items():
        by_hash.setdefault(hashed, []).append(name)
    assert [names for names in by_hash.values() if len(names) > 1] == []


@pytest.mark.parametrize("name", COMPUTATIONS)
def test_building_an_expression_again_gives_the_same_identity(name: str) -> None:
    assert identity(COMPUTATIONS[name]()) == identity(COMPUTATIONS[name]())


def test_identities_do_not_depend_on_the_process() -> None:
    script = (
        "from tests.unit.entrepot.identity.test_expression import *\n"
        "print({n: identity(b()) for n, b in COMPUTATIONS.items()})"
    )
    noise = "import ibis\nfor i in range(7): ibis.memtable({'a': [i]}).view(); ibis.param('int64')\n"
    seen = printed(script, ["1"]) | printed(noise + script, ["2"])
    assert len(seen) == 1
    assert "self join" in seen.pop()


LITERALS = [
    None, True, False, 0, 1, -1, 0.0, -0.0, 1.0, float("nan"), float("inf"), "1", "", b"1",
    decimal.Decimal("1.0"), decimal.Decimal("1.5"),
    datetime.date(2020, 1, 1), datetime.datetime(2020, 1, 1), datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC),
    datetime.datetime(2020, 1, 1, microsecond=1), datetime.time(1), datetime.time(2),
    datetime.timedelta(days=1), datetime.timedelta(hours=1),
    uuid.UUID(int=1), uuid.UUID(int=2), [1, 2], [2, 1], [1, None], ["1"], {"a": 1}, {"a": 2}, {"b": 1}, {"a": [1]},
    10**18, "x" * 10_000, "x" * 10_001, list(range(2_000)), list(range(2_001)),
]  # fmt: skip


UNORDERED: dict[str, Callable[[list[str]], ibis.Table]] = {
    "one of some values": lambda names: sales().filter(_.shop.isin(names)),
    "none of some values": lambda names: sales().mutate(x=_.shop.notin(names)),
    "conditions": lambda names: sales().filter(*[_.shop != name for name in names]),
    "conditions with and": lambda names: sales().filter(reduce(and_, [_.shop != name for name in names])),
    "conditions with or": lambda names: sales().filter(reduce(or_, [_.shop == name for name in names])),
    "conditions of a join": lambda names: sales().join(shops(), [sales().shop == shops().shop, *[
        sales().shop != name for name in names]]),
    "columns that are dropped": lambda names: sales().mutate(**dict.fromkeys("abcd", 1)).drop(*names),
    "columns that may not be empty": lambda names: sales().mutate(**dict.fromkeys("abcd", 1)).drop_null(names),
    "columns that are filled": lambda names: sales().mutate(**dict.fromkeys("abcd", 1)).fill_null(
        dict.fromkeys(names, 2)),
    "what a window is over": lambda names: sales().mutate(**dict.fromkeys("abcd", 1)).mutate(
        n=_.price.sum().over(group_by=names)),
}  # fmt: skip


@pytest.mark.parametrize("name", UNORDERED)
@given(st.permutations(["a", "b", "c", "d"]))
def test_an_order_that_changes_nothing_leaves_no_trace(name: str, order: list[str]) -> None:
    """People write sets there, which have another order in each process."""
    assert identity(UNORDERED[name](order)) == identity(UNORDERED[name](["a", "b", "c", "d"]))
    assert identity(UNORDERED[name](order)) != identity(UNORDERED[name](order[1:]))


def test_sets_have_one_identity_in_all_processes() -> None:
    script = (
        "from tests.unit.entrepot.identity.test_expression import *\n"
        "print({n: identity(b({'a', 'b', 'c', 'd'})) for n, b in UNORDERED.items() if not n.startswith('what')})"
    )
    seen = printed(script, ["1", "2", "3", "random"])
    assert len(seen) == 1


def test_literals_of_different_values_or_types_differ() -> None:
    made = [identity(sales().mutate(x=ibis.literal(value))) for value in LITERALS]
    made += [identity(sales().mutate(x=ibis.literal(1, type))) for type in ("int16", "int32", "int64", "decimal(4, 1)")]
    assert len(set(made)) == len(made)


@pytest.mark.parametrize("plain", [1, 1.5, "a", True])
def test_literals_from_numpy_are_those_of_python(plain: Any) -> None:
    scalar = np.array([plain])[0]
    dtype = ibis.literal(scalar).type()
    assert identity(sales().mutate(x=ibis.literal(scalar))) == identity(sales().mutate(x=ibis.literal(plain, dtype)))


def test_a_nan_that_is_used_twice_is_that_of_two_literals() -> None:
    nan = ibis.literal(float("nan"))
    shared = sales().mutate(x=nan, y=nan)
    assert identity(shared) == identity(sales().mutate(x=ibis.literal(float("nan")), y=ibis.literal(float("nan"))))


def test_rows_count_by_content_wherever_they_come_from() -> None:
    rows = {"a": [1, 2], "b": ["x", None]}
    tables = [
        rows,
        pd.DataFrame(rows),
        pa.table(rows),
        pa.concat_tables([pa.table(rows).slice(0, 1), pa.table(rows).slice(1)]),
    ]
    schema = {"a": "int64", "b": "string"}
    assert len({identity(ibis.memtable(each, schema=schema)) for each in tables}) == 1


def test_names_in_the_source_leave_no_trace() -> None:
    def short() -> ibis.Table:
        return sales().filter(_.price > 1).mutate(x=_.tags.map(lambda x: x + 1)).order_by(_.id)

    def long() -> ibis.Table:
        everything = sales()
        dear = everything.filter(everything.price > 1)
        more = dear.mutate(x=dear.tags.map(lambda element: element + 1))
        return more.order_by(more.id)

    assert identity(short()) == identity(long())


def test_parameters_of_nested_functions_over_arrays_are_told_apart() -> None:
    def made(f: Callable[[Any], Any]) -> str:
        return identity(sales(tags="array<array<int64>>").mutate(x=_.tags.map(f)))

    inner = made(lambda row: row.map(lambda x: x + 1))
    assert made(lambda a: a.map(lambda b: b + 1)) == inner
    assert made(lambda a: a.map(lambda b: b + a.length())) not in (
        inner,
        made(lambda a: a.map(lambda b: a.length() + b)),
    )


def test_siblings_over_arrays_may_share_a_parameters_name() -> None:
    one = sales().mutate(x=_.tags.map(lambda x: x + 1), y=_.tags.map(lambda x: x * 2))
    other = sales().mutate(x=_.tags.map(lambda a: a + 1), y=_.tags.map(lambda b: b * 2))
    assert identity(one) == identity(other)


WIDER = {"id": "int32", "price": "float32", "at": "timestamp(6)", "shop": "!string", "day": "!date"}
INDIFFERENT = [
    n for n in COMPUTATIONS if "cast" not in n and "rows" not in n and "python" not in n.lower() and "nulls" not in n
]


@pytest.mark.parametrize("name", INDIFFERENT)
def test_the_types_of_the_inputs_do_not_count(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = identity(COMPUTATIONS[name]())
    monkeypatch.setitem(SALES, "id", "int64")
    for column, type in WIDER.items():
        monkeypatch.setitem(SALES, column, type)
    assert identity(COMPUTATIONS[name]()) == before


# Random expressions: a recipe is plain data, so that what is built twice from it has nothing but its meaning in common.

_columns = st.sampled_from(["a", "b", "c"])
_values: st.SearchStrategy[Any] = st.recursive(
    st.tuples(st.just("column"), _columns)
    | st.tuples(st.just("number"), st.integers(-2, 2) | st.sampled_from([0.5, 1.5])),
    lambda inner: st.tuples(st.sampled_from(["+", "-", "*", "max"]), inner, inner) | st.tuples(st.just("abs"), inner),
    max_leaves=4,
)
_tests = st.tuples(st.sampled_from(["<", "<=", "=="]), _values, _values)
_verbs = st.one_of(
    st.tuples(st.just("filter"), _tests),
    st.tuples(st.just("mutate"), _columns, _values),
    st.tuples(st.just("sort"), _columns, st.booleans()),
    st.tuples(st.just("limit"), st.integers(0, 3)),
    st.tuples(st.just("window"), _columns, _columns, st.integers(0, 2)),
    st.tuples(st.just("aggregate"), _columns, st.sampled_from(["sum", "mean", "max"])),
    st.tuples(st.just("join"), st.sampled_from(["inner", "left", "anti"]), _columns),
    st.tuples(st.just("cast"), _columns, st.sampled_from(["int64", "string"])),
)
_recipes = st.lists(_verbs, max_size=5)


def _value(t: ibis.Table, recipe: Any) -> Any:
    match recipe:
        case ("column", name):
            return t[name].cast("float64")
        case ("number", number):
            return ibis.literal(number)
        case ("abs", inner):
            return _value(t, inner).abs()
        case ("max", left, right):
            return ibis.greatest(_value(t, left), _value(t, right))
        case ("+", left, right):
            return _value(t, left) + _value(t, right)
        case ("-", left, right):
            return _value(t, left) - _value(t, right)
        case (_, left, right):
            return _value(t, left) * _value(t, right)


def _apply(t: ibis.Table, recipe: Any) -> ibis.Table:
    match recipe:
        case ("filter", (how, left, right)):
            a, b = _value(t, left), _value(t, right)
            return t.filter(a < b if how == "<" else a <= b if how == "<=" else a == b)
        case ("mutate", name, value):
            return t.mutate(**{name: _value(t, value)})
        case ("sort", name, down):
            return t.order_by(ibis.desc(name) if down else name)
        case ("limit", n):
            return t.limit(n)
        case ("window", name, by, preceding):
            over = ibis.window(group_by=by, order_by="a", preceding=preceding, following=0)
            return t.mutate(**{name: t[name].cast("float64").sum().over(over)})
        case ("aggregate", name, how):
            number = t[name].cast("float64")
            return t.group_by("a").agg(b=getattr(number, how)(), c=t.count())
        case ("join", how, name):
            other = input_table("other", schema_from({"a": "float64", "k": "string"}))
            return t.join(other, [(t[name].cast("string"), "k")], how=how).select(t.a, t.b, t.c)
        case (_, name, type):
            return t.cast({name: type})


def _build(recipe: list[Any]) -> ibis.Table:
    start = input_table("t", schema_from({"a": "float64", "b": "float64", "c": "string"}))
    return reduce(_apply, recipe, start)


@given(_recipes, _recipes)
def test_two_expressions_have_one_identity_exactly_if_they_are_equal(one: list[Any], other: list[Any]) -> None:
    left, right = _build(one), _build(other)
    assert (identity(left) == identity(right)) == left.equals(right)


@given(_recipes, st.data())
def test_any_edit_of_a_recipe_changes_the_identity_if_it_changes_the_expression(
    one: list[Any], data: st.DataObject
) -> None:
    place = data.draw(st.integers(0, len(one)))
    edited = [*one[:place], data.draw(_verbs), *one[place + data.draw(st.integers(0, 1)) :]]
    left, right = _build(one), _build(edited)
    assert (identity(left) == identity(right)) == left.equals(right)


@given(_recipes)
def test_an_expression_built_twice_has_one_identity(recipe: list[Any]) -> None:
    assert identity(_build(recipe)) == identity(_build(recipe))


# What else expressions need.


def test_what_is_no_input_of_the_step_is_found() -> None:
    other = ibis.table({"id": "int64"}, name="elsewhere")
    assert foreign(nodes_of(sales().join(other, "id"))) == ["elsewhere"]
    assert len(foreign(nodes_of(sales().filter(_.id > ibis.param("int64"))))) == 1
    assert foreign(nodes_of(_self_join())) == []


@pytest.mark.parametrize("kind", [and_, or_])
def test_a_chain_of_conditions_counts_by_its_parts_however_long_and_nested(kind: Callable[[Any, Any], Any]) -> None:
    conditions = [sales().id == number for number in range(300)]
    halves = kind(reduce(kind, conditions[:100]), reduce(kind, conditions[:99:-1]))
    kept = reduce(kind, conditions)
    assert identity(sales().filter(kept)) == identity(sales().filter(halves))
    assert identity(sales().filter(kept)) != identity(sales().filter(reduce(kind, conditions[1:])))
    assert identity(sales().mutate(x=kept, y=~kept)) == identity(sales().mutate(x=halves, y=~halves))


def test_binding_replaces_the_inputs_by_tables() -> None:
    real = ibis.table(schema_from(SALES), name="sales__0123", database="shop__v")
    bound = bind(_self_join(), {"sales": real.op()})
    assert [t.name for t in bound.op().find(ops.UnboundTable)] == ["sales__0123"]


TYPES = [
    "int8", "uint64", "float32", "boolean", "string", "binary", "date", "time", "timestamp", "timestamp(6)",
    "timestamp('UTC')", "timestamp('Europe/Paris', 3)", "decimal", "decimal(38, 9)", "uuid", "json", "interval('s')",
    "array<int64>", "array<!int64>", "map<string, array<float64>>",
    "struct<a: int64, b: struct<c: string>>", "macaddr", "inet",
]  # fmt: skip


@pytest.mark.parametrize("text", TYPES)
def test_types_survive_being_written_down(text: str) -> None:
    schema = schema_from({"x": text})
    assert schema_from(schema_to(schema)) == schema


_LEAVES = st.one_of(
    st.sampled_from([t for t in TYPES if "<" not in t]).map(dt.dtype),
    st.builds(
        dt.Timestamp, timezone=st.sampled_from([None, "UTC", "Europe/Paris"]), scale=st.integers(0, 9) | st.none()
    ),
    st.integers(1, 38).flatmap(lambda p: st.builds(dt.Decimal, st.just(p), st.integers(0, p))),
    st.builds(dt.Interval, st.sampled_from(["Y", "M", "D", "h", "m", "s", "ms", "us", "ns"])),
    st.builds(dt.String, length=st.integers(1, 99) | st.none()),
    st.builds(dt.JSON, binary=st.booleans()),
)
_NAMES = st.text(max_size=5) | st.sampled_from(
    ["a b", "@x", "1y", "z-z", "a:b", 'q"q', "__x61x", "é", "a<b>", "x, y", ""]
)


def _nested(inner: st.SearchStrategy[dt.DataType]) -> st.SearchStrategy[dt.DataType]:
    structs = st.dictionaries(_NAMES, inner, max_size=3).map(dt.Struct)
    maps = st.builds(dt.Map, st.just(dt.string), inner)
    arrays = st.builds(dt.Array, inner, length=st.none() | st.integers(1, 9))
    return (arrays | maps | structs).flatmap(lambda t: st.booleans().map(lambda n: t.copy(nullable=n)))


@settings(max_examples=100, deadline=None)
@given(st.recursive(_LEAVES, _nested, max_leaves=6))
def test_every_type_survives_being_written_down(dtype: dt.DataType) -> None:
    schema = ibis.schema({"x": dtype.copy(nullable=True)})
    assert schema_from(json.loads(json.dumps(schema_to(schema)))) == schema


def test_whether_a_column_may_be_null_is_not_written_down() -> None:
    assert schema_to(ibis.schema({"x": dt.int64(nullable=False)})) == {"x": "int64"}

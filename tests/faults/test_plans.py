"""No plan hangs: what is used several times is written once, and what nobody could compute is refused in a sentence."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from operator import and_, or_

import ibis
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entrepot import Pipeline, Table
from entrepot.activities.transform.compilation import check
from entrepot.backends.duckdb.dialect import DIALECT
from entrepot.errors import BadInput, PipelineError
from entrepot.identity.expression import input_table, nodes_of, schema_from
from entrepot.planning.expressions.bounds import check_bounds
from entrepot.planning.graph import Graph
from entrepot.planning.plan import address, decide
from entrepot.planning.resolve import Computed, resolve
from entrepot.planning.selection import select

COLUMNS = {"a": "int64", "b": "int64"}


def joined(table: ibis.Table, times: int) -> ibis.Table:
    for _ in range(times):
        table = table.join(table, "a")[["a", "b"]]
    return table


def chained(table: ibis.Table, times: int) -> ibis.Table:
    for number in range(times):
        table = table.mutate(b=table.b + number)
    return table


def grouped(table: ibis.Table, times: int) -> ibis.Table:
    for _ in range(times):
        table = table.group_by("a").agg(b=table.b.sum())
    return table


def doubled(table: ibis.Table, times: int) -> ibis.Table:
    value = table.b
    for _ in range(times):
        value = (value + value).name("b")
    return table.select(b=value)


@pytest.mark.parametrize("times", [1, 5, 20, 40])
def test_a_table_that_is_joined_with_itself_again_and_again_is_written_once(times: int) -> None:
    made = joined(input_table("t", schema_from(COLUMNS)), times)
    check_bounds(nodes_of(made))
    assert DIALECT.compile(made).count("SELECT") <= times + 1


@settings(max_examples=10)
@given(st.lists(st.integers(0, 3), max_size=5), st.integers(1, 3))
def test_self_joins_give_the_rows_that_python_gives(keys: list[int], times: int) -> None:
    expected = {key: keys.count(key) ** (2**times) for key in keys}
    rows = ibis.memtable({"a": keys, "b": keys}, schema=COLUMNS)
    counted = joined(rows, times).group_by("a").agg(n=ibis._.count())
    connection = ibis.duckdb.connect()
    connection._run_pre_execute_hooks(counted)
    assert dict(connection.con.execute(DIALECT.compile(counted)).fetchall()) == expected


@pytest.mark.parametrize(
    ("made", "times", "what"),
    [
        (chained, 300, "its expression chains 301 operations over tables, and at most 250 go: split the step"),
        (doubled, 18, "its expression would be SQL of 786,431 operations, and at most 200,000 go: split the step"),
        (grouped, 120, "its expression is nested too deeply: split the step"),
    ],
    ids=["chained", "doubled", "grouped"],
)
def test_what_nobody_could_compute_is_refused_with_the_step(made: object, times: int, what: str) -> None:
    pipeline = Pipeline("large")

    @pipeline.ingest(tables={"t": COLUMNS})
    def source() -> object: ...

    @pipeline.transform
    def big(t: Table) -> Table:
        return made(t, times)  # type: ignore[operator]

    def planned() -> None:
        check(pipeline.graph, resolve(pipeline.graph, {}, {}), {}, ["big"], DIALECT)

    with pytest.raises(PipelineError) as caught:
        planned()
    assert f"transform 'big': {what}" in str(caught.value)


def summed(table: ibis.Table, times: int) -> ibis.Table:
    return table.mutate(b=reduce(lambda value, number: value + number, range(times), table.b))


def conditioned(table: ibis.Table, times: int) -> ibis.Table:
    return table.filter(reduce(or_, [table.a == number for number in range(times + 1)]))


def excluded(table: ibis.Table, times: int) -> ibis.Table:
    return table.filter(reduce(and_, [~(table.a == number) for number in range(times + 1)]))


def listed(table: ibis.Table, times: int) -> ibis.Table:
    return table.filter(table.a.isin(range(times + 1)))


def united(table: ibis.Table, times: int) -> ibis.Table:
    return ibis.union(table, *(table.filter(table.a > number) for number in range(times)))


GROWN = [joined, chained, grouped, doubled, summed, conditioned, excluded, listed, united]


@settings(max_examples=10)
@given(st.lists(st.tuples(st.sampled_from(GROWN), st.sampled_from([1, 3, 20, 150, 600])), min_size=1, max_size=3))
def test_whatever_a_step_asks_for_there_is_a_plan_or_a_sentence(
    asked: list[tuple[Callable[[ibis.Table, int], ibis.Table], int]],
) -> None:
    pipeline = Pipeline("large")

    @pipeline.ingest(tables={"t": COLUMNS})
    def source() -> object: ...

    @pipeline.transform
    def big(t: Table) -> Table:
        for made, times in asked:
            t = made(t, times)
            t = t.mutate(a=t.a) if "a" in t.columns else t.mutate(a=t.b)
        return t

    said = "transform 'big'"
    try:
        check(pipeline.graph, resolve(pipeline.graph, {}, {}), {}, ["big"], DIALECT)
    except PipelineError as error:
        said = str(error)
    assert "transform 'big'" in said
    assert len(said) < 2_000


def test_a_table_of_thousands_of_columns_is_planned() -> None:
    pipeline = Pipeline("wide")

    @pipeline.ingest(tables={"t": {f"c{number}": "int64" for number in range(2_000)}})
    def source() -> object: ...

    @pipeline.transform
    def wider(t: Table) -> Table:
        return t.mutate(**{f"d{number}": t[f"c{number}"] + 1 for number in range(500)})

    found = resolve(pipeline.graph, {}, {})
    check(pipeline.graph, found, {}, ["wider"], DIALECT)
    assert len(found.known["wider"]) == 2_500


def deep(steps: int) -> Graph:
    """A graph in which each step reads the one before."""
    pipeline = Pipeline("deep")

    @pipeline.ingest(tables={"t0": COLUMNS})
    def source() -> object: ...

    for number in range(steps):
        scope: dict[str, Callable[..., object]] = {}
        exec(f"def t{number + 1}(t{number}): ...", scope)
        pipeline.transform(scope[f"t{number + 1}"])
    return Graph.build("deep", pipeline.steps, {})


def test_a_chain_of_thousands_of_steps_is_planned() -> None:
    graph, every = deep(2_000), frozenset(f"t{number}" for number in range(1, 2_001)) | {"source"}
    computed = dict.fromkeys(graph.steps, Computed("same"))
    addressed = address(graph, computed, {"t0": "loaded"}, every, {})
    plan = decide(graph, computed, addressed, every, {}, {}, environment="prod", sequence=0, ingested={})
    assert len(plan.to_run()) == 2_000
    assert len(set(addressed.versions.values())) == 2_001
    assert select(graph, "t1+") == every - {"source"}
    assert select(graph, " ".join(sorted(every))) == every
    assert len(select(graph, "+".join(["5", "t1000", "5"]))) == 11


def test_a_selection_of_too_many_terms_is_refused() -> None:
    graph = deep(3)
    assert select(graph, "t1 " * 100_000) == {"t1"}
    with pytest.raises(BadInput, match="the selection has 20,000 terms, and at most 10,000 go"):
        select(graph, " ".join(f"t{number}" for number in range(20_000)))

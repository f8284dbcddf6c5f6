"""No plan hangs: what is used several times is written once, and what nobody could compute is refused in a sentence."""

from __future__ import annotations

import ibis
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entrepot import Pipeline, Table
from entrepot.activities.transform.compilation import check
from entrepot.backends.duckdb.dialect import DIALECT
from entrepot.errors import PipelineError
from entrepot.identity.expression import input_table, nodes_of, schema_from
from entrepot.planning.bounds import check_bounds
from entrepot.planning.resolve import resolve

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

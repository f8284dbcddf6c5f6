"""What a warehouse cannot compute, or cannot call a column, is found when a run is planned, with the step."""

from __future__ import annotations

import ibis
import pytest
from ibis import _

from entrepot import Pipeline, Table, backends
from entrepot.activities.transform.compilation import check
from entrepot.errors import PipelineError
from entrepot.planning.resolve import resolve

COLUMNS = {"id": "int64", "at": "timestamp", "tags": "array<string>"}


@ibis.udf.scalar.python
def twice(number: int) -> int:
    return number * 2


def refused(backend: str, pipeline: Pipeline) -> str:
    graph = pipeline.graph
    resolved = resolve(graph, {}, {})
    with pytest.raises(PipelineError) as error:
        check(graph, resolved, {}, graph.steps, backends.dialect(backend))
    return str(error.value)


def made(transform: object) -> Pipeline:
    pipeline = Pipeline("shop")

    @pipeline.ingest(tables={"raw": COLUMNS})
    def source() -> list[object]:
        return []

    pipeline.transform(transform)  # type: ignore[arg-type]
    return pipeline


def doubled(raw: Table) -> Table:
    return raw.mutate(number=twice(_.id))


def two_names(raw: Table) -> Table:
    return raw.select("id", ID=_.id + 1)


def long_name(raw: Table) -> Table:
    return raw.select(**{"x" * 300: _.id})


@pytest.mark.parametrize("backend", ["snowflake", "bigquery", "databricks"])
def test_a_python_function_in_an_expression_is_refused_with_the_step_and_its_place(backend: str) -> None:
    said = refused(backend, made(doubled))
    assert "pipeline 'shop' has 1 problem" in said
    assert (
        f"test_compilation.py:{doubled.__code__.co_firstlineno}: transform 'doubled': {backend} cannot compute it"
        in said
    )


@pytest.mark.parametrize("backend", ["duckdb", "snowflake", "bigquery", "databricks"])
def test_names_that_fold_into_one_are_refused(backend: str) -> None:
    said = refused(backend, made(two_names))
    assert "transform 'two_names': the columns 'id' and 'ID' differ only in case, and are one to a warehouse" in said


def test_a_name_that_is_too_long_is_refused() -> None:
    assert "300 characters" in refused("snowflake", made(long_name))


@pytest.mark.parametrize("backend", ["duckdb", "snowflake", "bigquery", "databricks"])
def test_what_every_warehouse_can_compute_passes(backend: str) -> None:
    def fine(raw: Table) -> Table:
        return raw.group_by(day=_.at.truncate("D")).agg(n=_.count(), most=_.id.max())

    pipeline = made(fine)
    graph = pipeline.graph
    check(graph, resolve(graph, {}, {}), {}, graph.steps, backends.dialect(backend))

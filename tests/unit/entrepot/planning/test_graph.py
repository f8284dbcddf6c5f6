"""A pipeline is validated when its graph is built: every problem at once, with file and line."""

from __future__ import annotations

import inspect
import itertools
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ibis import _

from entrepot import BadInput, Model, Pipeline, PipelineError, Table
from entrepot.errors import Problem
from entrepot.language.step import Step
from entrepot.planning.graph import Graph

SALES = {"id": "int64", "shop": "string", "price": "float64"}


def pipeline(**options: Any) -> Pipeline:
    made = Pipeline("shop", **options)

    @made.ingest(tables=["sales", "shops"])
    def source() -> None: ...

    return made


def declared() -> Pipeline:
    made = Pipeline("shop", parameters={"most": 3})

    @made.ingest(tables={"sales": SALES})
    def source() -> None: ...

    return made


def build(made: Pipeline) -> Graph:
    return made.graph


def problems(made: Pipeline) -> list[str]:
    with pytest.raises(PipelineError) as caught:
        build(made)
    return [problem.text for problem in caught.value.problems]


def test_steps_come_after_what_they_need_and_otherwise_as_written() -> None:
    p = pipeline()

    @p.transform
    def last(middle: Table) -> Table: ...

    @p.transform
    def middle(sales: Table) -> Table: ...

    @p.transform
    def other(shops: Table) -> Table: ...

    assert list(p.graph.steps) == ["source", "middle", "last", "other"]
    assert p.graph.upstream["last"] == {"middle"}
    assert p.graph.downstream["source"] == {"middle", "other"}


def test_a_circle_is_shown_as_a_path() -> None:
    p = pipeline()
    for name, reads in {"a": "c", "b": "a", "c": "b"}.items():
        _transform(p, name, [reads])
    assert problems(p) == ["the steps need each other in a circle: a → b → c → a"]


def test_a_circle_is_told_where_it_begins_and_not_where_somebody_reads_it() -> None:
    p = pipeline()

    @p.transform
    def reader(b: Table) -> Table: ...

    @p.transform
    def a(b: Table) -> Table: ...

    @p.transform
    def b(a: Table) -> Table: ...

    with pytest.raises(PipelineError) as caught:
        build(p)
    (problem,) = caught.value.problems
    assert (problem.text, problem.at) == ("the steps need each other in a circle: a → b → a", a.at)


def test_a_step_that_reads_itself_is_told_once() -> None:
    p = pipeline()
    _transform(p, "a", ["a"])
    assert problems(p) == ["transform 'a' needs itself"]


def test_an_unknown_input_is_told_with_the_nearest_names() -> None:
    p = pipeline(parameters={"since": 2013})

    @p.transform
    def dear(sale: Table) -> Table: ...

    (problem,) = problems(p)
    assert problem.startswith("transform 'dear': unknown input 'sale'; did you mean 'sales'?")
    assert "Known: 'dear', 'nominal_time', 'sales', 'shops', 'since'" in problem


def test_the_name_of_an_ingest_step_is_ambiguous_if_it_brings_other_tables() -> None:
    p = pipeline()
    _transform(p, "a", ["source"])
    assert problems(p) == [
        "transform 'a': 'source' is ambiguous: that ingest step brings 'sales', 'shops'; name one of them"
    ]


def test_a_name_is_taken_once() -> None:
    p = pipeline()
    first = _transform(p, "a", ["sales"])
    _transform(p, "a", ["shops"])
    _transform(p, "sales", ["shops"])
    assert problems(p) == [
        f"the name 'a' is taken already, at {first.at}",
        f"the name 'sales' is taken already, at {p.steps[0].at}",
    ]


@pytest.mark.parametrize("name", ["main", "entrepot", "run", "nominal_time"])
def test_reserved_names_are_refused(name: str) -> None:
    p = pipeline()
    _transform(p, name, ["sales"])
    assert problems(p) == [f"{name!r} is reserved; choose another name"]


@pytest.mark.parametrize("name", ["Sales", "a__b", "_a", "1a", "a-b", "a" * 41])
def test_names_that_a_warehouse_would_not_take_are_refused(name: str) -> None:
    p = pipeline()
    p.transform(name=name)(lambda sales: sales)
    (problem,) = problems(p)
    assert problem.startswith(f"{name!r} cannot name a step or table: use at most 40 lower-case letters")


def test_the_pipelines_own_name_follows_the_same_rule() -> None:
    with pytest.raises(PipelineError, match="'My Shop' cannot name a pipeline"):
        build(Pipeline("My Shop"))


def test_a_parameter_and_a_step_cannot_share_a_name() -> None:
    p = pipeline(parameters={"a": 1})
    _transform(p, "a", ["sales"])
    assert problems(p) == ["'a' is both a transform step and a parameter of the pipeline"]


def test_the_nominal_time_is_no_parameter_of_a_pipelines_own() -> None:
    p = pipeline(parameters={"nominal_time": ""})
    _transform(p, "a", ["sales", "nominal_time"])
    assert problems(p) == ["'nominal_time' is no parameter of a pipeline's own: a step that takes it gets the run's"]


def test_a_check_on_nothing_is_refused() -> None:
    p = pipeline()

    @p.check()
    def unguarding(sales: Table) -> Table: ...

    @p.check("sales")
    def blind() -> Table: ...

    @p.check("seles")
    def astray(sales: Table) -> Table: ...

    assert problems(p) == [
        "check 'unguarding' guards nothing: name the table, as in `check(departures)`",
        "check 'blind' looks at nothing: give its function a table as parameter",
        "check 'astray': unknown input 'seles'; did you mean 'sales'? Known: 'nominal_time', 'sales', 'shops'",
    ]


def test_a_parameter_is_no_table() -> None:
    p = pipeline(parameters={"since": 2013})

    @p.check("since")
    def guarding(sales: Table) -> Table: ...

    @p.train(features="since", target="x", score="r2")
    def model() -> Any: ...

    assert problems(p) == [
        "check 'guarding' guards 'since', which is a parameter and not a table",
        "train 'model' learns from 'since', which is a parameter and not a table",
    ]


def test_tables_and_models_are_told_apart_by_their_annotations() -> None:
    p = pipeline()

    @p.train(features="sales", target="price", score="r2")
    def model(): ...  # type: ignore[no-untyped-def]

    @p.transform
    def a(model: Table) -> Table: ...

    @p.transform
    def b(sales: Model) -> Table: ...

    @p.train(features="model", target="price", score="r2")
    def again(): ...  # type: ignore[no-untyped-def]

    assert problems(p) == [
        "transform 'a' takes 'model' as a Table, but it is a model",
        "transform 'b' takes 'sales' as a Model, but it is a table",
        "train 'again': its features 'model' are a model, not a table",
    ]


def test_options_with_unknown_values_are_refused() -> None:
    p = pipeline()
    p.transform(name="a", engine="spark")(lambda sales: sales)  # type: ignore[call-overload]
    p.transform(name="b", engine="python")(lambda sales: sales)
    p.check("sales", name="c", severity="fatal")(lambda sales: sales)  # type: ignore[arg-type]
    p.ingest(name="d", tables=[])(lambda: None)
    p.train(name="e", features="sales", target="x", score=[])(lambda: None)
    assert [text.partition(":")[0] for text in problems(p)] == [
        "transform 'a'", "transform 'b' runs in Python, so it must declare its `schema`", "check 'c'",
        "ingest 'd' brings no table", "train 'e' names no score",
    ]  # fmt: skip


def test_every_problem_is_told_at_once_with_file_and_line() -> None:
    p = declared()
    line = inspect.currentframe().f_lineno  # type: ignore[union-attr]

    @p.transform
    def one(nothing: Table) -> Table: ...

    @p.transform
    def two(sales: Table) -> Table:
        return sales.filter(_.no_such_column > 1)

    with pytest.raises(PipelineError) as caught:
        build(p)
    assert [str(problem.at) for problem in caught.value.problems] == [
        f"{__file__}:{line + 2}",
        f"{__file__}:{line + 5}",
    ]
    assert str(caught.value).startswith(f"pipeline 'shop' has 2 problems:\n  {__file__}:{line + 2}: transform 'one'")


class TestWithDeclaredSchemas:
    """Where every raw table declares its schema, the expressions are built with the graph."""

    def test_a_transform_that_returns_no_table_is_refused(self) -> None:
        p = declared()

        @p.transform
        def nothing(sales: Table) -> None: ...

        @p.transform
        def a_column(sales: Table) -> Any:
            return sales.price

        assert problems(p) == [
            "transform 'nothing': it must return an ibis table expression, and returned nothing",
            "transform 'a_column': it must return an ibis table expression, and returned a FloatingColumn",
        ]

    def test_a_target_that_is_no_column_is_refused_with_the_nearest(self) -> None:
        p = declared()

        @p.train(features="sales", target="prize", score="r2")
        def model() -> Any: ...

        (problem,) = problems(p)
        assert problem.startswith(
            "train 'model': 'sales' has no such column: unknown column 'prize'; did you mean 'price'?"
        )

    def test_an_unknown_column_in_an_expression_is_refused(self) -> None:
        p = declared()
        p.transform(name="a")(lambda sales: sales.select("idd"))
        assert problems(p)[0].startswith("transform 'a' raised")

    def test_an_unknown_type_in_a_declaration_is_refused(self) -> None:
        p = Pipeline("shop")
        p.ingest(name="sales", tables={"sales": {"id": "int63"}})(lambda: None)
        assert problems(p)[0].startswith("ingest 'sales' raised")

    def test_an_expression_that_reads_another_table_is_refused(self) -> None:
        import ibis

        p = declared()
        p.transform(name="a")(lambda sales: sales.join(ibis.table({"id": "int64"}, name="elsewhere"), "id"))
        assert problems(p) == [
            "transform 'a': it reads 'elsewhere'; a step reads only its inputs, named by its parameters"
        ]

    def test_what_is_downstream_of_a_problem_is_not_told_too(self) -> None:
        p = declared()
        p.transform(name="a")(lambda sales: None)
        _transform(p, "b", ["a"])
        assert len(problems(p)) == 1

    def test_parameters_have_their_defaults(self) -> None:
        p = declared()
        p.transform(name="a")(lambda sales, most: sales.limit(most))
        assert list(p.graph.steps) == ["source", "a"]

    def test_nothing_is_built_before_every_schema_is_known(self) -> None:
        p = declared()
        p.ingest(name="more")(lambda: None)
        p.transform(name="a")(lambda sales: None)
        assert list(p.graph.steps) == ["source", "more", "a"]


def test_a_contract_is_a_check_of_its_own() -> None:
    import pandera.ibis as pa

    p = pipeline()
    p.transform(name="a", contract=pa.DataFrameSchema({"id": pa.Column(int)}))(lambda sales: sales)
    assert list(p.graph.steps) == ["source", "a", "a.contract"]
    assert p.graph.upstream["a.contract"] == {"a"}


def test_one_table_may_be_named_without_a_list() -> None:
    p = Pipeline("shop")
    p.ingest(name="source", tables="sales")(lambda: None)
    assert p.graph.producers == {"sales": "source"}


def test_a_step_added_later_is_in_the_graph() -> None:
    p = pipeline()
    assert "a" not in p.graph.steps
    _transform(p, "a", ["sales"])
    assert "a" in p.graph.steps


def test_what_is_no_function_cannot_be_a_step() -> None:
    import functools

    with pytest.raises(BadInput, match=r"a step is a function, and functools\.partial"):
        pipeline().transform(functools.partial(lambda sales, n: sales, n=1))


@pytest.mark.parametrize("kind", ["ingest", "transform", "publish"])
def test_an_option_that_no_step_has_is_named(kind: str) -> None:
    sentence = (
        rf"pipeline 'shop', @{kind}: unknown option 'descripton'; did you mean 'description'\? Known: .*'depends'"
    )
    with pytest.raises(BadInput, match=sentence):
        getattr(pipeline(), kind)(descripton="Sales")


def test_importing_the_graph_brings_no_heavy_library() -> None:
    script = "import sys, entrepot.pipeline; print({'ibis', 'sklearn', 'pandas'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_problems_without_a_place_are_told_too() -> None:
    assert str(Problem("it is wrong")) == "it is wrong"


@given(st.lists(st.sets(st.integers(0, 9)), max_size=10))
def test_any_graph_is_either_in_order_or_has_a_circle(reads: list[set[int]]) -> None:
    p = pipeline()
    for number, others in enumerate(reads):
        _transform(p, f"t{number}", ["sales", *(f"t{o}" for o in sorted(others) if o < len(reads) and o != number)])
    try:
        graph: Graph = p.graph
    except PipelineError as error:
        path = error.problems[0].text.partition(": ")[2].split(" → ")
        edges = {(f"t{o}", f"t{n}") for n, others in enumerate(reads) for o in others}
        assert path[0] == path[-1]
        assert all(edge in edges for edge in itertools.pairwise(path))
    else:
        position = {name: number for number, name in enumerate(graph.steps)}
        assert all(position[o] < position[n] for n, others in graph.upstream.items() for o in others)


def _transform(p: Pipeline, name: str, reads: list[str]) -> Step:
    namespace: dict[str, Any] = {}
    exec(f"def {name}({', '.join(reads)}): return {reads[0]}", namespace)
    return p.transform(namespace[name])

"""Steps as SQL, before anything runs: what a warehouse cannot compute is found when a run is planned."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

import ibis
import ibis.expr.operations as ops
import ibis.expr.schema as sch

from entrepot.backends.dialect import Dialect
from entrepot.errors import BadInput, PipelineError, Problem
from entrepot.identity.expression import bind
from entrepot.language.model import Model, Predict
from entrepot.language.step import Step
from entrepot.planning.bounds import TOO_DEEP
from entrepot.planning.graph import Graph
from entrepot.planning.resolve import Resolved, arguments, expression


def check(
    graph: Graph, resolved: Resolved, parameters: Mapping[str, Any], steps: Iterable[str], dialect: Dialect
) -> None:
    """Compiles what the warehouse will compute.

    Raises:
        PipelineError: with each step that it cannot compute, or whose columns it cannot have, and why.
    """
    problems = []
    for name in steps:
        step = graph.steps[name]
        try:
            for table in step.outputs:
                dialect.check_table(table)
            for table in step.output_tables:
                columns = resolved.known.get(table, ())
                dialect.check_columns(columns if isinstance(columns, sch.Schema) else ())
            if step.is_sql and name in resolved.steps:  # else what it reads is not known yet
                made = resolved.steps[name].expression
                assert made is not None
                inputs = arguments(step, resolved.known, parameters)
                if step.takes_time:  # at another time it is another, which nobody asks for again
                    _compiled(dialect, made, inputs, pretty=False)
                else:
                    _checked(dialect, made.op(), inputs)
        except BadInput as error:
            problems.append(Problem(f"{step.kind} {name!r}: {error}", step.at))
    if problems:
        raise PipelineError(graph.name, problems)


@lru_cache(maxsize=20_000)
def _checked(dialect: Dialect, made: ops.Relation, inputs: tuple[tuple[str, Any], ...]) -> None:
    """Compiles an expression; remembered, since a plan is often the same as the one before."""
    _compiled(dialect, made.to_expr(), inputs, pretty=False)


def select(dialect: Dialect, step: Step, inputs: tuple[tuple[str, Any], ...]) -> str:
    """The SELECT that makes a transform's table, or finds a check's violating rows, over tables called as its inputs.

    Raises:
        BadInput: if the warehouse lacks an operation or a type that it needs.
    """
    tables = {name: ibis.table(each, name=name).op() for name, each in inputs if isinstance(each, sch.Schema)}
    return _compiled(dialect, bind(expression(step, inputs), tables), inputs, pretty=True)


def _compiled(dialect: Dialect, made: ibis.Table, inputs: tuple[tuple[str, Any], ...], *, pretty: bool) -> str:
    notes, computed = _without_models(made, dict(inputs))
    if not dialect.python_functions and (named := _in_python(computed)):
        raise BadInput(f'{dialect.name} cannot compute it: {named!r} is a function in Python; use engine="python"')
    try:
        return "\n".join([*notes, dialect.compile(computed, pretty=pretty)])
    except ibis.common.exceptions.IbisError as error:
        what = " ".join(str(error).split()) or type(error).__name__
        raise BadInput(f"{dialect.name} cannot compute it: {what}") from None
    except RecursionError:
        raise BadInput(TOO_DEEP) from None


def _in_python(made: ibis.Table) -> str | None:
    """The name of a function that the expression calls and that is written in Python."""
    called = made.op().find((ops.ScalarUDF, ops.AggUDF))
    return next((str(node.__func_name__) for node in called if node.__input_type__.name != "BUILTIN"), None)


def _without_models(made: ibis.Table, known: Mapping[str, Any]) -> tuple[list[str], ibis.Table]:
    """Each `predict` as a table of its scores: what it is as SQL is known once the model is fitted and verified."""
    notes = []
    while predicts := made.op().find(Predict, ordered=True):
        node = predicts[0]
        assert isinstance(known[node.model], Model)
        name = f"{node.model}_scores"
        notes.append(f"-- {name}: the rows that {node.model}.predict(...) scores, as SQL if that agrees with the model")
        made = made.op().replace({node: ibis.table(node.schema, name=name).op()}).to_expr()
    return notes, made

"""Steps as SQL, before anything runs: what a warehouse cannot compute is found when a run is planned."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import ibis
import ibis.expr.operations as ops
import ibis.expr.schema as sch

from entrepot import backends
from entrepot.activities.runtime.isolation.builder import Builder
from entrepot.backends import TableName
from entrepot.backends.base import physical
from entrepot.backends.dialect import Dialect
from entrepot.errors import BadInput, EntrepotError, PipelineError, Problem
from entrepot.identity.expression import bind
from entrepot.language.model import Model, Predict
from entrepot.language.step import Step
from entrepot.planning.expressions.bounds import TOO_DEEP
from entrepot.planning.graph import Graph
from entrepot.planning.resolve import Asking, Inputs, Resolved, arguments, expression, resolve_step

Compile = Callable[[Graph, Asking, str], Sequence[EntrepotError | None]]
"""Compiles steps for a warehouse that is named by its dialect: of each, why it cannot be, if so."""


def compiled(_: object, step: Step, inputs: Inputs, dialect: str) -> None:
    """Compiles a step's expression; asked of its process.

    Raises:
        BadInput: if the warehouse lacks an operation or a type that the step needs.
    """
    made = resolve_step(step, inputs).built
    assert made is not None
    _compiled(backends.dialect(dialect), made.read(), inputs, pretty=False)


def compile_here(graph: Graph, asked: Asking, dialect: str) -> list[EntrepotError | None]:
    """Compiles in this process."""
    found: list[EntrepotError | None] = []
    for step, inputs in asked:
        try:
            compiled(graph, step, inputs, dialect)
            found.append(None)
        except BadInput as error:
            found.append(error)
    return found


def compile_by(builder: Builder) -> Compile:
    """Compiles in a builder's process; what was compiled once need not be again."""
    return lambda graph, asked, dialect: builder.given(asked, compiled, dialect)


def check(
    graph: Graph,
    resolved: Resolved,
    parameters: Mapping[str, Any],
    steps: Iterable[str],
    dialect: Dialect,
    compile: Compile = compile_here,
) -> None:
    """Compiles what the warehouse will compute.

    Raises:
        PipelineError: with each step that it cannot compute, or whose columns it cannot have, and why.
    """
    refused: dict[str, EntrepotError] = {}
    asked: list[tuple[Step, Inputs]] = []
    names = list(steps)
    for name in names:
        step = graph.steps[name]
        try:
            for table in step.outputs:
                dialect.check_table(table)
            for table in step.output_tables:
                columns = resolved.known.get(table, ())
                dialect.check_columns(columns if isinstance(columns, sch.Schema) else ())
        except BadInput as error:
            refused[name] = error
        if name not in refused and step.is_sql and name in resolved.steps:  # else what it reads is not known yet
            asked.append((step, arguments(step, resolved.known, parameters)))
    found = compile(graph, asked, dialect.name)
    refused |= {step.name: error for (step, _), error in zip(asked, found, strict=True) if error is not None}
    if refused:
        problems = [(graph.steps[name], refused[name]) for name in names if name in refused]
        raise PipelineError(graph.name, [Problem(f"{s.kind} {s.name!r}: {error}", s.at) for s, error in problems])


def select(dialect: Dialect, step: Step, inputs: Inputs, places: Mapping[str, TableName] | None = None) -> str:
    """The SELECT that makes a transform's table, or finds a check's violating rows.

    Args:
        places: Where the tables stand that it reads. By default they are called as its inputs.

    Raises:
        BadInput: if the warehouse lacks an operation or a type that it needs.
    """
    its = {name: each for name, each in inputs if isinstance(each, sch.Schema)}
    there = places or {}
    tables = {
        name: (physical(there[name], each) if name in there else ibis.table(each, name=name)).op()
        for name, each in its.items()
    }
    return _compiled(dialect, bind(expression(step, inputs), tables), inputs, pretty=True)


def _compiled(dialect: Dialect, made: ibis.Table, inputs: Inputs, *, pretty: bool) -> str:
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

"""From a graph and the schemas of its raw tables to what every step computes. Pure, and remembered for each schema."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.schema as sch

from entrepot.code import digest, function_identity, installed
from entrepot.errors import EntrepotError, PipelineError, Problem, Unavailable, listed, unknown
from entrepot.estimator import contract_identity, estimator_identity
from entrepot.expression import foreign, identity, input_table, schema_from, schema_to
from entrepot.graph import Graph
from entrepot.model import Model
from entrepot.raised import line_of, may_pass, said
from entrepot.split import Where
from entrepot.step import CheckStep, IngestStep, PublishStep, Step, TrainStep, TransformStep


@dataclass(frozen=True)
class Resolved:
    """What every step of a graph computes, as far as the raw tables that are known allow."""

    identities: Mapping[str, str]
    """Step to the hash of what it computes. Ingest steps have none: what they bring is known by content."""
    known: Mapping[str, sch.Schema | Model]
    """Table to its columns as ibis infers them; train step to its model."""


def resolve(graph: Graph, raw: Mapping[str, sch.Schema], parameters: Mapping[str, Any]) -> Resolved:
    """Builds every step's expression over unbound tables. Steps downstream of unknown raw tables are left out.

    Raises:
        PipelineError: with every step that cannot be built and why.
        Unavailable: for one that may be built the next time.
    """
    known: dict[str, sch.Schema | Model] = dict(raw)
    identities: dict[str, str] = {}
    problems: list[Problem] = []
    first: BaseException | None = None
    for step in graph.steps.values():
        if not isinstance(step, IngestStep) and not all(name in known for name in graph.table_inputs(step)):
            continue
        try:
            if isinstance(step, IngestStep):
                known = {**_declared(step), **known}
                continue
            identities[step.name], made = resolve_step(step, arguments(step, known, parameters))
            if made is not None:
                known[step.name] = made
        except EntrepotError as error:
            problems.append(Problem(f"{step.kind} {step.name!r}: {said(error)}", step.at))
        except BaseException as error:
            text = f"{step.kind} {step.name!r} raised {said(error)}"
            if may_pass(error):  # it asks somebody who does not answer now
                raise Unavailable(f"{step.at}: {text}") from error
            first = first or error
            line = line_of(error, step.at.file)
            problems.append(Problem(f"{text}, at {line}" if line else text, step.at))
    if problems:
        raise PipelineError(graph.name, problems) from first
    return Resolved(identities, known)


def _declared(step: IngestStep) -> dict[str, sch.Schema]:
    return {table: schema_from(columns) for table, columns in step.tables.items() if columns is not None}


def arguments(
    step: Step, known: Mapping[str, sch.Schema | Model], parameters: Mapping[str, Any]
) -> tuple[tuple[str, Any], ...]:
    """A step's inputs by name, hashable: schemas, models, and values of parameters."""
    names = dict.fromkeys((*((step.features,) if isinstance(step, TrainStep) else ()), *step.inputs))
    return tuple((name, known[name] if name in known else _Value(parameters[name])) for name in names)


class _Value:
    """A parameter's value, hashable by what it is."""

    def __init__(self, value: Any) -> None:
        self.value = value
        self.key = (type(value).__name__, repr(value))

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Value) and self.key == other.key


@lru_cache(maxsize=20_000)
def expression(step: TransformStep | CheckStep, inputs: tuple[tuple[str, Any], ...]) -> tuple[ibis.Table, str]:
    """A step's ibis expression over its unbound inputs, and the hash of what it computes.

    Raises:
        EntrepotError: if the function returns no table.
    """
    made = step.function(**{name: _stand_in(name, value) for name, value in inputs})
    if not isinstance(made, ibis.Table):
        what = "nothing" if made is None else f"a {type(made).__name__}"
        raise EntrepotError(f"it must return an ibis table expression, and returned {what}")
    if others := foreign(made):
        raise EntrepotError(f"it reads {listed(others)}; a step reads only its inputs, named by its parameters")
    return made, digest([identity(made), installed(step.depends)])


def _stand_in(name: str, value: Any) -> Any:
    if isinstance(value, sch.Schema):
        return input_table(name, value)
    return value.value if isinstance(value, _Value) else value


def resolve_step(step: Step, inputs: tuple[tuple[str, Any], ...]) -> tuple[str, sch.Schema | Model | None]:
    """The hash of what a step computes from inputs made by `arguments`, and the table or model that comes of it.

    Raises:
        EntrepotError: if it computes nothing that Entrepot knows; whatever the user's function raises.
    """
    if isinstance(step, TransformStep):
        if step.engine == "python":
            declared = schema_from(step.schema or {})
            return digest([_code(step, inputs), list(schema_to(declared).items())]), declared
        made, hashed = expression(step, inputs)
        # As the catalog keeps it: whether a column may be NULL is left out.
        return hashed, schema_from(schema_to(made.schema()))
    if isinstance(step, CheckStep):
        if step.contract is not None:
            return contract_identity(step.contract), None
        _, hashed = expression(step, inputs)
        return digest([hashed, step.severity]), None
    if isinstance(step, TrainStep):
        return _resolve_training(step, inputs)
    if isinstance(step, PublishStep):
        return _code(step, inputs), None
    raise TypeError(f"cannot resolve {step!r}")


def _code(step: Step, inputs: tuple[tuple[str, Any], ...]) -> str:
    values = [[name, value.key] for name, value in inputs if isinstance(value, _Value)]
    return digest([_function_code(step), values])


def publish_identity(step: PublishStep, parameters: Mapping[str, Any]) -> str:
    """The hash of what a publish step makes: its code, and the parameters that it reads."""
    return _code(step, tuple((name, _Value(parameters[name])) for name in step.inputs if name in parameters))


@lru_cache(maxsize=20_000)
def _function_code(step: Step) -> str:
    # A step gets its inputs by the names of its parameters, so those are more than names of locals.
    return digest([function_identity(step.function, step.depends), step.inputs])


def feature_columns(step: TrainStep, schema: sch.Schema) -> tuple[str, ...]:
    """The columns that a train step fits on."""
    return step.columns or tuple(n for n in schema if n != step.target and n not in step.split.columns())


@lru_cache(maxsize=2_000)
def _resolve_training(step: TrainStep, inputs: tuple[tuple[str, Any], ...]) -> tuple[str, Model]:
    from sklearn.base import is_classifier

    given = dict(inputs)
    schema = given.pop(step.features)
    for name in (step.target, *(step.columns or ()), *(c for c in step.split.columns() if not _is_where(step))):
        if name not in schema:
            raise EntrepotError(f"{step.features!r} has no such column: {unknown('column', name, schema)}")
    if step.columns and step.target in step.columns:
        raise EntrepotError(f"the target {step.target!r} is among its own features")
    _check_scorers(step)
    estimator = step.function(**{name: _stand_in(name, value) for name, value in given.items()})
    if not (hasattr(estimator, "fit") and hasattr(estimator, "predict")):
        raise EntrepotError(
            f"it must return an unfitted scikit-learn estimator, and returned a {type(estimator).__name__}"
        )
    columns = feature_columns(step, schema)
    split: Any = repr(step.split)
    if isinstance(step.split, Where):
        split = identity(ibis.Table.select(t := input_table(step.features, schema), test=step.split.test(t)))
    described = estimator_identity(estimator, step.function.__module__)
    hashed = digest([described, step.target, columns, split, step.score, installed(step.depends)])
    classifies = bool(is_classifier(estimator))
    dtype = schema[step.target] if classifies else dt.float64
    return hashed, Model(step.name, columns, dtype, classifies)


def _is_where(step: TrainStep) -> bool:
    return isinstance(step.split, Where)


def _check_scorers(step: TrainStep) -> None:
    from sklearn.metrics import get_scorer_names

    known = get_scorer_names()
    for name in step.score:
        if name not in known:
            raise EntrepotError(unknown("score", name, known))

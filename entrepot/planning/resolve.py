"""From a graph and the schemas of its raw tables to what every step computes.

Functions are called anew each time: what they see beside their inputs (a file, the date, the environment) may have
changed, and then their expressions have. What the others gave is remembered for each schema.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache, singledispatch
from typing import Any

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.operations as ops
import ibis.expr.schema as sch

from entrepot.errors import EntrepotError, PipelineError, Problem, Unavailable, listed, unknown
from entrepot.identity.code import Code, function_code, installed, stable_hash
from entrepot.identity.estimator import contract_code, estimator_identity
from entrepot.identity.expression import Nodes, described, foreign, input_table, nodes_of, schema_from, schema_to
from entrepot.identity.purity import seen_by
from entrepot.identity.version import Frozen
from entrepot.language.incremental import Incremental
from entrepot.language.model import Model
from entrepot.language.split import Share, Where
from entrepot.language.step import CheckStep, PublishStep, Step, TrainStep, TransformStep
from entrepot.planning.expressions.bounds import TOO_DEEP, check_bounds
from entrepot.planning.expressions.built import Built
from entrepot.planning.expressions.lineage import Lineage, Source, trace
from entrepot.planning.expressions.parts import Needed, needed
from entrepot.planning.graph import Graph
from entrepot.planning.slices import Content, Contents, content_of
from entrepot.tracebacks import author_line, describe, is_transient


@dataclass(frozen=True)
class Computed:
    """What a step computes."""

    identity: str
    """The hash of it."""
    made: sch.Schema | Model | None = None
    """The columns of its table as ibis infers them, or its model."""
    built: Built | None = None
    """Its expression over the unbound inputs, where a warehouse computes it."""
    varies: str = ""
    """Why it is no function of its inputs, as `entrepot.identity.volatility` says it; empty, if it is one."""
    lineage: Lineage | None = None
    """Of its table, where a warehouse computes it."""
    uses: frozenset[Source] | None = None
    """What it uses of its inputs; None: all that they are."""
    needs: Mapping[str, Needed] | None = None
    """Where it is computed by parts: what a part needs of each input that is not needed as a whole."""

    def content(self, version: str, inputs: Contents, frozen: Frozen | None = None) -> Content:
        """What its version contains, if it is made of these inputs.

        Args:
            frozen: Which of its rows are another version's.
        """
        return content_of(version, None if self.varies else self.lineage, inputs).beside(frozen)


@dataclass(frozen=True)
class Resolved:
    """What the steps of a graph compute, as far as the tables that are known allow."""

    steps: Mapping[str, Computed]
    """Ingest steps are not among them: what they bring is known by content."""
    known: Mapping[str, sch.Schema | Model]
    """Table to its columns as ibis infers them; train step to its model."""

    @property
    def identities(self) -> dict[str, str]:
        """Step to the hash of what it computes."""
        return {name: step.identity for name, step in self.steps.items()}

    @property
    def varying(self) -> dict[str, str]:
        """The steps that are no function of their inputs, and why."""
        return {name: step.varies for name, step in self.steps.items() if step.varies}


Inputs = tuple[tuple[str, Any], ...]
"""What a step is built of, as `arguments` makes it."""


Asking = Sequence[tuple[Step, Inputs]]
"""Steps, each with its inputs."""
Build = Callable[[Graph, Asking], Sequence["Computed | EntrepotError"]]
"""What each step computes, or a PipelineError that says why it cannot be built, or Unavailable."""


def planned(graph: Graph, step: Step, inputs: Inputs) -> Computed:
    """What a step computes.

    Raises:
        PipelineError: with why it cannot be built.
        Unavailable: if it may be built the next time.
    """
    with _told_of(graph, step):
        return resolve_step(step, inputs)


def build_here(graph: Graph, asked: Asking) -> list[Computed | EntrepotError]:
    """What each step computes, by calls of the steps' functions in this process."""
    found: list[Computed | EntrepotError] = []
    for step, inputs in asked:
        try:
            found.append(planned(graph, step, inputs))
        except EntrepotError as error:
            found.append(error)
    return found


@contextmanager
def _told_of(graph: Graph, step: Step) -> Iterator[None]:
    """What is raised becomes a problem of the step."""
    what = f"{step.kind} {step.name!r}"
    try:
        yield
    except EntrepotError as error:
        raise PipelineError(graph.name, [Problem(f"{what}: {describe(error)}", step.at)]) from error.__cause__
    except BaseException as error:
        text = f"{what} raised {describe(error)}"
        if is_transient(error):  # it asks somebody who does not answer now
            raise Unavailable(f"{step.at}: {text}") from error
        line = author_line(error, step.at.file)
        problem = Problem(f"{text}, at {line}" if line else text, step.at)
        raise PipelineError(graph.name, [problem]) from error


def resolve(
    graph: Graph,
    given: Mapping[str, sch.Schema | Model],
    parameters: Mapping[str, Any],
    selected: Container[str] | None = None,
    build: Build = build_here,
) -> Resolved:
    """Builds every step's expression over unbound tables. Steps downstream of unknown tables are left out.

    Args:
        given: What is known before: the raw tables, and what steps that are not selected have made.
        selected: The steps that are asked for; None: all.
        build: Calls the functions of steps; it is given at once what can be built at once.

    Raises:
        PipelineError: with every step that cannot be built and why.
        Unavailable: for one that may be built the next time.
    """
    known: dict[str, sch.Schema | Model] = dict(given)
    computed: dict[str, Computed] = {}
    failed: dict[str, PipelineError] = {}
    waiting: dict[str, tuple[Step, Inputs]] = {}

    def take(asked: Asking, found: Sequence[Computed | EntrepotError]) -> None:
        for (step, _), each in zip(asked, found, strict=True):
            if isinstance(each, PipelineError):
                failed[step.name] = each
            elif isinstance(each, EntrepotError):
                raise each
            else:
                computed[step.name] = each
                if each.made is not None:
                    known[step.name] = each.made

    def build_waiting() -> None:
        asked = [*waiting.values()]
        waiting.clear()
        take(asked, build(graph, asked))

    for step in graph.steps.values():
        reads = graph.table_inputs(step)
        if not waiting.keys().isdisjoint(reads):
            build_waiting()
        is_asked_for = step.is_source or selected is None or step.name in selected
        if not is_asked_for or not all(name in known for name in reads):
            continue
        try:
            with _told_of(graph, step):
                for name, columns in step.declared.items():
                    known.setdefault(name, schema_from(columns))
        except PipelineError as error:
            failed[step.name] = error
            continue
        if step.is_source:
            continue
        asked = (step, arguments(step, known, parameters))
        if step.is_called_to_plan:
            waiting[step.name] = asked
        else:
            take([asked], build_here(graph, [asked]))
    build_waiting()
    order = [name for name in graph.steps if name in failed]
    problems = [problem for name in order for problem in failed[name].problems]
    first = next((cause for name in order if (cause := failed[name].__cause__) is not None), None)
    if problems:
        raise PipelineError(graph.name, problems) from first
    return Resolved(computed, known)


def arguments(step: Step, known: Mapping[str, sch.Schema | Model], parameters: Mapping[str, Any]) -> Inputs:
    """A step's inputs by name, hashable: schemas, models, and values of parameters."""
    return tuple((name, known[name] if name in known else _Value(parameters[name])) for name in step.reads)


class _Value:
    """A parameter's value, hashable by what it is."""

    def __init__(self, value: Any) -> None:
        self.value = value
        self.key = (type(value).__name__, repr(value))

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Value) and self.key == other.key


def expression(step: Step, inputs: Inputs) -> ibis.Table:
    """A step's ibis expression over its unbound inputs.

    Raises:
        EntrepotError: if the function returns no table, or one of what is no input of the step.
    """
    made = _built(step, inputs)
    _check_inputs(nodes_of(made))
    return made


def _built(step: Step, inputs: Inputs) -> ibis.Table:
    made = step.function(**{name: _stand_in(name, value) for name, value in inputs})
    if not isinstance(made, ibis.Table):
        what = "nothing" if made is None else f"a {type(made).__name__}"
        raise EntrepotError(f"it must return an ibis table expression, and returned {what}")
    by = _incremental(step)
    parts = [made[name].notnull() for name in by.columns if name in made.columns] if by else []
    return made.filter(parts) if parts else made


def _incremental(step: Step) -> Incremental | None:
    return step.incremental if isinstance(step, TransformStep) else None


def _check_inputs(nodes: Nodes) -> None:
    if others := foreign(nodes):
        raise EntrepotError(f"it reads {listed(others)}; a step reads only its inputs, named by its parameters")


def _stand_in(name: str, value: Any) -> Any:
    if isinstance(value, sch.Schema):
        return input_table(name, value)
    return value.value if isinstance(value, _Value) else value


@singledispatch
def resolve_step(step: Step, inputs: Inputs) -> Computed:
    """What a step computes from inputs made by `arguments`: by its code, unless its kind has a rule of its own.

    Raises:
        EntrepotError: if it computes nothing that Entrepot knows; whatever the user's function raises.
    """
    if step.is_source:
        raise TypeError(f"what {step.name!r} brings is known once it has loaded")
    code = _code(step, inputs)
    return Computed(code.hash, varies=code.varies)


@resolve_step.register
def _resolve_transform(step: TransformStep, inputs: Inputs) -> Computed:
    if step.is_sql:
        return _resolve_expression(step, inputs)
    declared = schema_from(step.schema or {})
    code = _code(step, inputs)
    return Computed(stable_hash([code.hash, list(schema_to(declared).items())]), declared, varies=code.varies)


@resolve_step.register
def _resolve_check(step: CheckStep, inputs: Inputs) -> Computed:
    if step.is_sql:
        rows = _resolve_expression(step, inputs)
        return replace(rows, identity=stable_hash([rows.identity, step.severity]))
    contract = contract_code(step.contract)
    return Computed(contract.hash, varies=contract.varies)


def seen(step: Step) -> tuple[Hashable, ...] | None:
    """What a step sees beside its inputs, if it is worth remembering what it gave for them; None, if it is not."""
    return None if step.takes_time else seen_by(step.function)  # at another time it is another, which nobody asks for


def _resolve_expression(step: Step, inputs: Inputs) -> Computed:
    beside = seen(step)
    return _described(step, inputs) if beside is None else _remembered(step, inputs, beside)


@lru_cache(maxsize=20_000)
def _remembered(step: Step, inputs: Inputs, seen: tuple[Hashable, ...]) -> Computed:
    return _described(step, inputs)


def _described(step: Step, inputs: Inputs) -> Computed:
    made = _built(step, inputs)
    nodes = nodes_of(made)
    _check_inputs(nodes)
    check_bounds(nodes)
    by = _incremental(step)
    try:
        found = described(nodes)
        needs = needed(made.op(), by) if by else None
    except RecursionError:
        raise EntrepotError(TOO_DEEP) from None
    if by and found.varies:
        raise EntrepotError(f"it cannot be computed {by}: {found.varies}, so no part stays as it is")
    # As the catalog keeps it: whether a column may be NULL is left out. Of a check's rows nobody reads the columns.
    columns = schema_from(schema_to(made.schema())) if step.produces else None
    packages = installed(step.depends)
    lineage = trace(nodes).by(packages) if packages else trace(nodes)
    # An expression that takes all columns of an input has them in its order.
    identity = stable_hash([found.hash, packages, list(columns or ())])
    its = lineage if step.produces else None
    return Computed(identity, columns, Built(nodes), found.varies, its, lineage.uses, needs)


def _code(step: Step, inputs: Inputs) -> Code:
    values = [[name, value.key] for name, value in inputs if isinstance(value, _Value)]
    code = function_code(step.function, step.depends)
    # A step gets its inputs by the names of its parameters, so those are more than names of locals.
    return Code(stable_hash([stable_hash([code.hash, step.inputs]), values]), code.varies)


def publish_identity(step: PublishStep, parameters: Mapping[str, Any]) -> str:
    """The hash of what a publish step makes: its code, and the parameters that it reads."""
    return _code(step, tuple((name, _Value(parameters[name])) for name in step.inputs if name in parameters)).hash


def feature_columns(step: TrainStep, schema: sch.Schema) -> tuple[str, ...]:
    """The columns that a train step fits on."""
    return step.columns or tuple(n for n in schema if n != step.target and n not in step.split.columns())


def dividing_columns(step: TrainStep, schema: sch.Schema) -> tuple[str, ...]:
    """The columns by which a train step's rows are divided: for a share of all rows, whatever may tell rows apart."""
    if isinstance(step.split, Share) and step.split.key is None:
        return tuple(name for name, dtype in schema.items() if name != step.target and _is_plain(dtype))
    return () if isinstance(step.split, Where) else step.split.columns()


def _is_plain(dtype: dt.DataType) -> bool:
    return isinstance(dtype, dt.Numeric | dt.Boolean | dt.String | dt.Date | dt.Timestamp)


@resolve_step.register
def _resolve_training(step: TrainStep, inputs: Inputs) -> Computed:
    from sklearn.base import is_classifier

    given = dict(inputs)
    schema = given.pop(step.features)
    columns = feature_columns(step, schema)
    for name in (step.target, *columns, *dividing_columns(step, schema)):
        if name not in schema:
            raise EntrepotError(f"{step.features!r} has no such column: {unknown('column', name, schema)}")
    _check_features(step, columns, schema)
    _check_scorers(step)
    estimator = step.function(**{name: _stand_in(name, value) for name, value in given.items()})
    if not _is_estimator(estimator):
        what = f"the class {estimator.__name__}" if isinstance(estimator, type) else f"a {type(estimator).__name__}"
        raise EntrepotError(f"it must return an unfitted scikit-learn estimator, and returned {what}")
    split = _split_code(step, schema)
    shaped = estimator_identity(estimator, step.function.__module__)
    hashed = stable_hash([shaped, step.target, columns, split.hash, step.score, installed(step.depends)])
    classifies = bool(is_classifier(estimator))
    dtype = schema[step.target] if classifies else dt.float64
    # What shows no `predict` before it is fitted, such as a stack without a final estimator, shows no probabilities.
    probable = hasattr(estimator, "predict_proba") or not hasattr(estimator, "predict")
    read = (None, step.target, *columns, *dividing_columns(step, schema))
    uses = frozenset(Source(step.features, name) for name in read)
    return Computed(
        hashed,
        Model(step.name, columns, dtype, classifies and probable),
        varies=split.varies,
        uses=uses | _split_uses(step, schema),
    )


def _is_estimator(made: Any) -> bool:
    from sklearn.base import is_classifier, is_regressor

    if isinstance(made, type) or not hasattr(made, "fit"):
        return False
    return hasattr(made, "predict") or (hasattr(made, "get_params") and (is_classifier(made) or is_regressor(made)))


def _check_features(step: TrainStep, columns: tuple[str, ...], schema: sch.Schema) -> None:
    if step.target in columns:
        raise EntrepotError(f"the target {step.target!r} is among its own features")
    for name in columns:
        if not (_is_plain(schema[name]) and not schema[name].is_temporal()):
            raise EntrepotError(
                f"its feature {name!r} is of type {schema[name]}; features are numbers, booleans and text: "
                "make one of it in a transform, or leave it out of `columns`"
            )


def _split_code(step: TrainStep, schema: sch.Schema) -> Code:
    """What decides which rows are kept for scoring.

    Raises:
        EntrepotError: if the target does.
    """
    refusal = f"the split reads the target {step.target!r}: rows chosen by what is to be learnt would bias the model"
    if not isinstance(step.split, Where):
        if step.target in step.split.columns():
            raise EntrepotError(refusal)
        return Code(repr([step.split, *dividing_columns(step, schema)]))
    test = _test(step.features, step.split, schema)
    table = input_table(step.features, schema)
    if any(field.name == step.target for field in test.op().find(ops.Field) if field.rel == table.op()):
        raise EntrepotError(refusal)
    return described(nodes_of(test))


def _split_uses(step: TrainStep, schema: sch.Schema) -> frozenset[Source]:
    """What decides which rows are kept for scoring, beside `dividing_columns`."""
    return (
        trace(nodes_of(_test(step.features, step.split, schema))).uses if isinstance(step.split, Where) else frozenset()
    )


def _test(features: str, split: Where, schema: sch.Schema) -> ibis.Table:
    """Which rows are kept for scoring, as an expression."""
    table = input_table(features, schema)
    return table.select(test=split.test(table))


def _check_scorers(step: TrainStep) -> None:
    from sklearn.metrics import get_scorer_names

    known = get_scorer_names()
    for name in step.score:
        if name not in known:
            raise EntrepotError(unknown("score", name, known))

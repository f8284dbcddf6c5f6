"""The graph of a pipeline: who needs whom, in which order, and everything that is wrong with it."""

from __future__ import annotations

import datetime
import heapq
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from entrepot.errors import PipelineError, Problem, listed, unknown
from entrepot.language import contract
from entrepot.language.names import CONTRACT_SUFFIX, LONGEST_NAME, LONGEST_NESTED, NAME, NESTED, NOMINAL_TIME, RESERVED
from entrepot.language.step import CheckStep, IngestStep, PublishStep, Step, TrainStep, TransformStep


@dataclass(frozen=True)
class Graph:
    """A validated pipeline. Build it with `Graph.build`."""

    name: str
    steps: Mapping[str, Step]
    """In an order in which every step comes after what it needs, and otherwise as they were written."""
    producers: Mapping[str, str]
    """Every table and model to the step that makes it. Differs from the step's own name for ingest steps only."""
    upstream: Mapping[str, frozenset[str]]
    """Step to the steps that it needs directly."""
    parameters: Mapping[str, Any]
    """Names to default values, with any nominal time."""

    @staticmethod
    def build(
        name: str,
        steps: Iterable[Step],
        parameters: Mapping[str, Any],
        further: Callable[[Graph], Iterable[Problem]] = lambda graph: (),
    ) -> Graph:
        """Validates the steps and puts them in order.

        Args:
            further: Finds what else is wrong, given the graph of those steps that are sound so far.

        Raises:
            PipelineError: with every problem, not only the first.
        """
        written = [*steps]
        given, parameters = parameters, {NOMINAL_TIME: datetime.datetime(2000, 1, 1), **parameters}
        written += [_contract_check(s) for s in written if isinstance(s, TransformStep) and s.contract is not None]
        problems = [*_name_problems(name, written, given), *_step_problems(written)]
        producers = {table: step.name for step in written for table in _makes(step)}
        by_name = {step.name: step for step in written}
        problems += _input_problems(written, by_name, producers, parameters)
        upstream = {
            step.name: frozenset(producers[i] for i in needs(step) if i in producers and producers[i] != step.name)
            for step in by_name.values()
        }
        order, cyclic = _in_order(list(by_name), upstream)
        if cyclic:
            first = by_name[min(cyclic, key=lambda n: (by_name[n].at.file, by_name[n].at.line))]
            path = " → ".join(_cycle(cyclic, upstream))
            problems.append(Problem(f"the steps need each other in a circle: {path}", first.at))
        wrong = {problem.at for problem in problems}
        sound = {n: by_name[n] for n in order if by_name[n].at not in wrong}
        graph = Graph(name, sound, producers, upstream, dict(parameters))
        problems += further(graph)
        if problems:
            raise PipelineError(name, sorted(problems, key=_place))
        return graph

    @cached_property
    def downstream(self) -> Mapping[str, frozenset[str]]:
        """Step to the steps that need it directly."""
        found: dict[str, set[str]] = {name: set() for name in self.steps}
        for step, sources in self.upstream.items():
            for source in sources:
                found[source].add(step)
        return {name: frozenset(steps) for name, steps in found.items()}

    def reach(
        self, start: Iterable[str], neighbours: Mapping[str, frozenset[str]], depth: int | None = None
    ) -> set[str]:
        """Every step reached from `start` over `upstream` or `downstream`, at most `depth` levels away."""
        seen: set[str] = set()
        level = set(start)
        while level and depth != 0:
            level = {n for step in level for n in neighbours[step]} - seen
            seen |= level
            depth = None if depth is None else depth - 1
        return seen

    def outputs(self, step: Step) -> tuple[str, ...]:
        """The names under which a step's results are published: tables, a model, an artifact. Checks have none."""
        return (
            tuple(step.tables) if isinstance(step, IngestStep) else () if isinstance(step, CheckStep) else (step.name,)
        )

    def takes_time(self, step: Step) -> bool:
        """Whether it takes the run's nominal time."""
        return NOMINAL_TIME in step.inputs

    def table_inputs(self, step: Step) -> tuple[str, ...]:
        """The tables and models that a step reads, without the pipeline's parameters."""
        return tuple(i for i in needs(step) if i in self.producers)


def needs(step: Step) -> tuple[str, ...]:
    """The names that a step reads: its function's parameters, and the features of a train step."""
    extra = (step.features,) if isinstance(step, TrainStep) else ()
    return tuple(dict.fromkeys((*extra, *step.inputs)))


def _makes(step: Step) -> Iterable[str]:
    """The tables and models that other steps can read."""
    if isinstance(step, IngestStep):
        return step.tables
    return () if isinstance(step, CheckStep | PublishStep) else (step.name,)


def _contract_check(step: TransformStep) -> CheckStep:
    return CheckStep(
        name=step.name + CONTRACT_SUFFIX,
        function=step.function,
        inputs=(step.name,),
        at=step.at,
        description=f"The contract of {step.name}",
        owner=step.owner,
        tags=step.tags,
        guards=(step.name,),
        contract=step.contract,
    )


def _name_problems(name: str, steps: list[Step], parameters: Mapping[str, Any]) -> Iterable[Problem]:
    if not NAME.fullmatch(name) or len(name) > LONGEST_NAME or name in RESERVED:
        yield Problem(f"{name!r} cannot name a pipeline: {_NAME_RULE}")
    if NOMINAL_TIME in parameters:
        yield Problem(f"{NOMINAL_TIME!r} is no parameter of a pipeline's own: a step that takes it gets the run's")
    first: dict[str, Step] = {}
    for step in steps:
        own = () if isinstance(step, CheckStep) and step.contract is not None else (step.name,)
        for each in dict.fromkeys((*own, *_makes(step)) if own else ()):
            if each in RESERVED:
                yield Problem(f"{each!r} is reserved; choose another name", step.at)
            elif not _is_name(each, step):
                yield Problem(f"{each!r} cannot name a step or table: {_NAME_RULE}", step.at)
            if each in first:
                yield Problem(f"the name {each!r} is taken already, at {first[each].at}", step.at)
            elif each in parameters:
                yield Problem(f"{each!r} is both a {step.kind} step and a parameter of the pipeline", step.at)
            first.setdefault(each, step)


def _is_name(name: str, step: Step) -> bool:
    if NAME.fullmatch(name):
        return len(name) <= LONGEST_NAME
    is_table = isinstance(step, IngestStep) and name in step.tables
    return is_table and NESTED.fullmatch(name) is not None and len(name) <= LONGEST_NESTED


_NAME_RULE = (
    f"use at most {LONGEST_NAME} lower-case letters, digits and single underscores, and begin with a letter "
    f"(reserved: {listed(RESERVED)})"
)


def _step_problems(steps: list[Step]) -> Iterable[Problem]:
    for step in steps:
        if isinstance(step, TransformStep) and step.contract is not None:
            yield from (
                Problem(f"transform {step.name!r}: {said}", step.at) for said in contract.problems(step.contract)
            )
        if isinstance(step, CheckStep) and not step.inputs:
            yield Problem(f"check {step.name!r} looks at nothing: give its function a table as parameter", step.at)
        if isinstance(step, CheckStep) and not step.guards:
            yield Problem(f"check {step.name!r} guards nothing: name the table, as in `check(departures)`", step.at)
        if isinstance(step, TransformStep) and step.engine == "python" and not step.schema:
            yield Problem(f"transform {step.name!r} runs in Python, so it must declare its `schema`", step.at)
        if isinstance(step, TransformStep) and step.engine not in ("warehouse", "python"):
            yield Problem(
                f"transform {step.name!r}: {unknown('engine', step.engine, ['warehouse', 'python'])}", step.at
            )
        if isinstance(step, CheckStep) and step.severity not in ("block", "warn"):
            yield Problem(f"check {step.name!r}: {unknown('severity', step.severity, ['block', 'warn'])}", step.at)
        if isinstance(step, IngestStep) and not step.tables:
            yield Problem(f"ingest {step.name!r} brings no table: name them in `tables`", step.at)
        if isinstance(step, TrainStep) and not step.score:
            yield Problem(f"train {step.name!r} names no score", step.at)


def _input_problems(
    steps: list[Step], by_name: Mapping[str, Step], producers: Mapping[str, str], parameters: Mapping[str, Any]
) -> Iterable[Problem]:
    for step in steps:
        is_contract = isinstance(step, CheckStep) and step.contract is not None
        readable = {} if isinstance(step, IngestStep) else producers
        reads = dict.fromkeys((*needs(step), *(step.guards if isinstance(step, CheckStep) else ())))
        for name in reads:
            if name == step.name and not is_contract:
                yield Problem(f"{step.kind} {step.name!r} needs itself", step.at)
            elif name not in readable and name not in parameters:
                if isinstance(step, IngestStep):
                    text = f"it reads only parameters of the pipeline; {unknown('parameter', name, parameters)}"
                elif name in by_name and isinstance(by_name[name], IngestStep):
                    tables = by_name[name].tables  # type: ignore[attr-defined]
                    text = f"{name!r} is ambiguous: that ingest step brings {listed(tables)}; name one of them"
                else:
                    text = unknown("input", name, [*producers, *parameters])
                yield Problem(f"{step.kind} {step.name!r}: {text}", step.at)
            elif name not in readable and name not in step.inputs:
                what = "learns from" if isinstance(step, TrainStep) else "guards"
                yield Problem(
                    f"{step.kind} {step.name!r} {what} {name!r}, which is a parameter and not a table", step.at
                )
            else:
                yield from _kind_problem(step, name, by_name.get(producers.get(name, "")))


def _kind_problem(step: Step, name: str, producer: Step | None) -> Iterable[Problem]:
    if producer is None or (isinstance(step, CheckStep) and step.contract is not None):
        return
    wanted = str(step.function.__annotations__.get(name, "")).rpartition(".")[2].strip("'>")
    is_model = isinstance(producer, TrainStep)
    if wanted == "Table" and is_model:
        yield Problem(f"{step.kind} {step.name!r} takes {name!r} as a Table, but it is a model", step.at)
    elif wanted == "Model" and not is_model:
        yield Problem(f"{step.kind} {step.name!r} takes {name!r} as a Model, but it is a table", step.at)
    elif is_model and isinstance(step, TrainStep) and step.features == name:
        yield Problem(f"train {step.name!r}: its features {name!r} are a model, not a table", step.at)


def _place(problem: Problem) -> tuple[str, int]:
    return (problem.at.file, problem.at.line) if problem.at else ("", 0)


def _in_order(names: list[str], upstream: Mapping[str, frozenset[str]]) -> tuple[list[str], set[str]]:
    """Kahn's algorithm; among the steps that are ready, the one written first comes first. Also what is in a cycle."""
    position = {name: i for i, name in enumerate(names)}
    waiting = {name: len(upstream[name]) for name in names}
    users: dict[str, list[str]] = {name: [] for name in names}
    for name in names:
        for source in upstream[name]:
            users[source].append(name)
    ready = [position[name] for name in names if not waiting[name]]
    heapq.heapify(ready)
    order: list[str] = []
    while ready:
        name = names[heapq.heappop(ready)]
        order.append(name)
        for user in users[name]:
            waiting[user] -= 1
            if not waiting[user]:
                heapq.heappush(ready, position[user])
    return order, set(names) - set(order)


def _cycle(cyclic: set[str], upstream: Mapping[str, frozenset[str]]) -> list[str]:
    """One circle among steps of which each needs another: walk upstream until a step comes again."""
    path = [min(cyclic)]
    while True:
        following = min(upstream[path[-1]] & cyclic)
        if following in path:
            return [*path[path.index(following) :], following][::-1]
        path.append(following)

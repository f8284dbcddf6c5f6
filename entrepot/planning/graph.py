"""The graph of a pipeline: who needs whom, in which order, and everything that is wrong with it."""

from __future__ import annotations

import datetime
import heapq
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from typing import Any, TypeVar

from entrepot.errors import PipelineError, Problem, listed, unknown
from entrepot.language.names import NOMINAL_TIME, PIPELINE, RAW, RESERVED, STEP
from entrepot.language.step import Step

S = TypeVar("S", bound=Step)


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
        written += [implied for step in written for implied in step.implied()]
        problems = [*_name_problems(name, written, given)]
        problems += [Problem(text, step.at) for step in written for text in step.problems()]
        producers = {name: step.name for step in written for name in step.readable}
        by_name = {step.name: step for step in written}
        problems += _input_problems(written, by_name, producers, parameters)
        upstream = {
            step.name: frozenset(producers[i] for i in step.reads if i in producers and producers[i] != step.name)
            for step in by_name.values()
        }
        order, circle = _in_order({name: sorted(upstream[name]) for name in by_name})
        if circle:
            first = circle.index(min(circle))
            path = " → ".join([*circle[first:], *circle[: first + 1]])
            at = min((by_name[name].at for name in circle), key=lambda at: (at.file, at.line))
            problems.append(Problem(f"the steps need each other in a circle: {path}", at))
        wrong = {problem.at for problem in problems}
        sound = {n: by_name[n] for n in order if by_name[n].at not in wrong}
        graph = Graph(name, sound, producers, upstream, dict(parameters))
        problems += further(graph)
        if problems:
            raise PipelineError(name, sorted(problems, key=_place))
        return graph

    @cached_property
    def makers(self) -> Mapping[str, str]:
        """Every name that is published to the step that makes it."""
        return {name: step.name for step in self.steps.values() for name in step.outputs}

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

    def of(self, kind: type[S]) -> list[S]:
        """The steps of one kind."""
        return [step for step in self.steps.values() if isinstance(step, kind)]

    def table_inputs(self, step: Step) -> tuple[str, ...]:
        """The tables and models that a step reads, without the pipeline's parameters."""
        return tuple(name for name in step.reads if name in self.producers)


def _name_problems(name: str, steps: list[Step], parameters: Mapping[str, Any]) -> Iterable[Problem]:
    if problem := PIPELINE.problem(name):
        yield Problem(problem)
    if NOMINAL_TIME in parameters:
        yield Problem(f"{NOMINAL_TIME!r} is no parameter of a pipeline's own: a step that takes it gets the run's")
    first: dict[str, Step] = {}
    for step in steps:
        for each in step.names:
            if each in RESERVED:
                yield Problem(f"{each!r} is reserved; choose another name", step.at)
            elif problem := (RAW if _is_nested(each, step) else STEP).problem(each):
                yield Problem(problem, step.at)
            if each in first:
                yield Problem(f"the name {each!r} is taken already, at {first[each].at}", step.at)
            elif each in parameters:
                yield Problem(f"{each!r} is both a {step.kind} step and a parameter of the pipeline", step.at)
            first.setdefault(each, step)


def _is_nested(name: str, step: Step) -> bool:
    return step.is_source and name in step.output_tables and "__" in name


def _input_problems(
    steps: list[Step], by_name: Mapping[str, Step], producers: Mapping[str, str], parameters: Mapping[str, Any]
) -> Iterable[Problem]:
    for step in steps:
        readable = {} if step.is_source else producers
        for name in dict.fromkeys((*step.reads, *step.mentions)):
            if name == step.name:
                yield Problem(f"{step.kind} {step.name!r} needs itself", step.at)
            elif name not in readable and name not in parameters:
                text = _unknown_input(step, name, by_name.get(name), producers, parameters)
                yield Problem(f"{step.kind} {step.name!r}: {text}", step.at)
            elif name not in readable and name not in step.inputs:
                yield Problem(
                    f"{step.kind} {step.name!r} {step.mentions[name]} {name!r}, which is a parameter and not a table",
                    step.at,
                )
            elif name in producers and (problem := step.input_problem(name, by_name[producers[name]].produces)):
                yield Problem(problem, step.at)


def _unknown_input(
    step: Step, name: str, other: Step | None, producers: Iterable[str], parameters: Iterable[str]
) -> str:
    """What to say of a name that is neither an output that the step can read nor a parameter."""
    if step.is_source:
        return f"it reads only parameters of the pipeline; {unknown('parameter', name, parameters)}"
    if other is not None and other.is_source:
        return f"{name!r} is ambiguous: that ingest step brings {listed(other.output_tables)}; name one of them"
    return unknown("input", name, [*producers, *parameters])


def _place(problem: Problem) -> tuple[str, int]:
    return (problem.at.file, problem.at.line) if problem.at else ("", 0)


def _in_order(upstream: Mapping[str, Iterable[str]]) -> tuple[list[str], list[str]]:
    """The steps, each after what it needs, and of those that are ready the one written first; and a circle, if any."""
    names = list(upstream)
    position = {name: number for number, name in enumerate(names)}
    sorter, circle = TopologicalSorter(upstream), []
    try:
        sorter.prepare()
    except CycleError as error:
        circle = error.args[1][:-1]
    ready: list[int] = []
    order: list[str] = []
    while sorter.is_active():
        for name in sorter.get_ready():
            heapq.heappush(ready, position[name])
        order.append(names[heapq.heappop(ready)])
        sorter.done(order[-1])
    return order, circle

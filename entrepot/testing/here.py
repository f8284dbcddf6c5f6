"""A pipeline's own code called in this process, where a worker calls it in processes of its own.

What is called is the same: a test's debugger, coverage and patches are what it would not see elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any

import ibis
import pyarrow as pa

from entrepot.activities.runtime.context import ActivityContext, attribute_errors
from entrepot.activities.runtime.isolation.builder import Builder
from entrepot.activities.runtime.isolation.call import Asked, Call, Question
from entrepot.activities.runtime.isolation.processes import Read, StepProcesses
from entrepot.activities.runtime.tenant import Tenants
from entrepot.activities.transform.transform import Computation
from entrepot.language.step import CheckStep, Step, TransformStep
from entrepot.pipeline import Pipeline
from entrepot.planning.graph import Graph
from entrepot.registry import Registry


class GivenPipeline(Registry):
    """Finds the one pipeline that is at hand, wherever it was declared."""

    def __init__(self, pipeline: Pipeline) -> None:
        super().__init__({pipeline.name: f"{__name__}:{pipeline.name}"})
        self._pipeline = pipeline

    def load(self, name: str) -> Pipeline:
        """The pipeline."""
        return self._pipeline


class CallHere(Call):
    """What a function gets as its first argument, where it needs no worker to read and write for it."""

    def __init__(
        self, graph: Graph, asked: Asked, feeds: Mapping[str, pa.RecordBatchReader], read: Read | None
    ) -> None:
        self.asked = asked
        self.batches: list[pa.RecordBatch] = []
        """What it has given."""
        self._graph = graph
        self._feeds = feeds
        self._read = read

    @property
    def graph(self) -> Graph:
        """Of the pipeline at hand."""
        return self._graph

    def report(self, rows: dict[str, int]) -> None:
        """Tells nobody."""

    def give(self, batch: pa.RecordBatch) -> None:
        """Keeps a batch."""
        self.batches.append(batch)

    def feed(self, name: str) -> pa.RecordBatchReader:
        """The batches that were read for it."""
        return self._feeds[name]

    def read(self, expression: ibis.Table) -> pa.Table:
        """The rows of an expression."""
        assert self._read is not None
        return self._read(expression).read_all()


class BuilderHere(Builder):
    """Asks a pipeline's steps in this process."""

    def __init__(self, work: ActivityContext, tenants: Tenants, pipeline: str, read: Read) -> None:
        super().__init__(work, tenants, pipeline)
        self._read = read

    def _ask(self, questions: Sequence[Question]) -> list[Any]:
        graph = self._tenants.registry.load(self._pipeline).graph
        return [
            each.function(CallHere(graph, Asked(each.function, ()), {}, self._read), step, *each.arguments)
            for each in questions
            for step in [graph.steps[each.step]]
        ]


class CodeHere(StepProcesses):
    """Runs a step's code in this process."""

    def _call(
        self,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        feeds: Mapping[str, pa.RecordBatchReader],
        read: Read | None,
    ) -> Generator[pa.RecordBatch, None, Any]:
        asked = Asked(function, arguments, self.step.name, {name: reader.schema for name, reader in feeds.items()})
        graph = self.tenants.registry.load(self.pipeline).graph
        call = CallHere(graph, asked, feeds, read)
        with attribute_errors(self.step):
            found = function(call, *arguments)
        yield from call.batches
        return found


class ComputationHere(Computation):
    """Transforms and checks, whose code runs in this process."""

    def processes(self, step: TransformStep | CheckStep) -> StepProcesses:
        """This one."""
        return code_here(self._work, self._tenants, step)


def code_here(work: ActivityContext, tenants: Tenants, step: Step) -> StepProcesses:
    """Runs a step's code in this process."""
    [pipeline] = work.tenant.pipelines
    return CodeHere(work, tenants, pipeline, step)

"""A change, as a pull request brings it: built into an environment of its own and held against `prod`.

By a worker of this process alone, with the code that stands here, on a task queue of its own: no other worker takes
its runs, and it takes nobody else's. Their server is the one that is configured, so that whoever collects garbage in
the same warehouse knows of these runs; where none is, one of its own, for as long as it takes.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from temporalio.client import Client, WorkflowHandle
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.service import RPCError

from entrepot.activities.runtime.isolation.processes import PROCESSES
from entrepot.activities.runtime.slots import slots_workflow_id
from entrepot.activities.runtime.tenant import Tenants
from entrepot.errors import BadInput, EntrepotError, PipelineError, Unavailable
from entrepot.language.names import DEFAULT_ENVIRONMENT
from entrepot.language.step import KINDS, IngestStep
from entrepot.planning.graph import Graph
from entrepot.planning.plan import Plan
from entrepot.protocol import activities
from entrepot.protocol.environments import EnvironmentDiff
from entrepot.worker import process
from entrepot.worker.cli import follow
from entrepot.worker.client import TASK_QUEUE, connect, names_a_server, run_workflow_id
from entrepot.worker.config.settings import Settings
from entrepot.worker.local import dev
from entrepot.worker.telemetry import logs
from entrepot.workflows.progress import Progress, RunSummary


@dataclass(frozen=True)
class Built:
    """What came of one pipeline."""

    pipeline: str
    error: str = ""
    """Why it was not built, or not compared."""
    is_refused: bool = False
    """Whether that is bad input: of a name, a module, the graph."""
    is_first: bool = False
    """Whether `prod` shows nothing to compare with."""
    progress: Progress | None = None
    """Every step; of a failed run, how far it came. None: there was nothing to run, or it was refused."""
    plan: Plan | None = None
    """What ran, and why."""
    diff: EnvironmentDiff | None = None
    """Against what `prod` shows; None, if the run failed, or one of them shows nothing."""

    @property
    def breaking(self) -> tuple[str, ...]:
        """What `prod` shows and would not any more, once this is promoted: tables with a column less or another type,
        and names that go."""
        if self.diff is None:
            return ()
        gone = [each.name for each in self.diff.only_right if not each.stays]
        return (*(each.name for each in self.diff.changed if each.impact == "breaking"), *gone)


@dataclass(frozen=True)
class Site:
    """Where changes of a tenant's pipelines are built: one environment, and the worker that does it."""

    client: Client
    task_queue: str
    tenants: Tenants
    tenant: str
    environment: str

    async def build(self, pipeline: str, select: str | None = None) -> Built:
        """Makes the environment anew of `prod`, runs what the code that stands here changes, and compares.

        Args:
            select: The steps that run. By default sources are asked for what `prod` does not show alone.

        Raises:
            Unavailable: if the server cannot be used any more.
        """
        try:
            return await self._built(pipeline, select)
        except RPCError as error:
            raise _away(error) from error
        except EntrepotError as error:
            return Built(pipeline, str(error), is_refused=isinstance(error, BadInput | PipelineError))

    async def drop(self, pipelines: Iterable[str] | None = None) -> list[str]:
        """Drops the environment, of all pipelines or of some. Returns those that had something there."""
        wanted = None if pipelines is None else {*pipelines}
        names = [name for name in await self._environments() if wanted is None or name in wanted]
        for name in names:
            await self._drop(name)
        return names

    async def _built(self, pipeline: str, select: str | None) -> Built:
        # Importing it may take a while, during which the worker has to answer.
        graph = (await asyncio.to_thread(self.tenants.pipeline, self.tenant, pipeline)).graph
        if pipeline in await self._environments(pipeline):
            await self._drop(pipeline)
        shown = (await self._environments(pipeline, DEFAULT_ENVIRONMENT)).get(pipeline, 0)
        names: list[str] = []
        if shown:
            asked = {"environment": self.environment, "like": DEFAULT_ENVIRONMENT, "pipeline": pipeline}
            created = await self._execute("Create", asked, self._id(pipeline, "create"))
            names = created["shows"][pipeline]
        wanted = select or (_all_but_sources(graph, names) if shown else None)
        if wanted == "":
            return Built(pipeline, diff=await self._compared(pipeline))
        value: dict[str, Any] = {"pipeline": pipeline, "environment": self.environment}
        value |= {"select": wanted} if wanted else {}
        handle = await self._start("Pipeline", value, run_workflow_id(self.tenant, pipeline, self.environment))
        try:
            RunSummary.model_validate(await self._ended(handle))
        except (follow.RunFailed, BadInput) as error:
            progress, plan = await _said(handle)
            refused = isinstance(error, BadInput)
            return Built(pipeline, str(error), refused, is_first=not shown, progress=progress, plan=plan)
        progress, plan = await _said(handle)
        diff = await self._compared(pipeline) if shown else None
        return Built(pipeline, is_first=not shown, progress=progress, plan=plan, diff=diff)

    async def _compared(self, pipeline: str) -> EnvironmentDiff:
        asked = {"pipeline": pipeline, "environment": self.environment, "against": DEFAULT_ENVIRONMENT}
        return EnvironmentDiff.model_validate(await self._execute("Diff", asked, self._id(pipeline, "diff")))

    async def _drop(self, pipeline: str) -> None:
        asked = {"environment": self.environment, "pipeline": pipeline}
        await self._execute("Drop", asked, self._id(pipeline, "drop"))

    async def _environments(self, pipeline: str | None = None, environment: str | None = None) -> dict[str, int]:
        """The pipelines that have an environment, and how many names each shows there."""
        value = {"tenant": self.tenant, **({"pipeline": pipeline} if pipeline else {})}
        rows = await follow.answer(self.client, activities.ENVIRONMENTS.name, value, task_queue=self.task_queue)
        wanted = environment or self.environment
        return {row["pipeline"]: row["names"] for row in rows if row["environment"] == wanted}

    def _id(self, pipeline: str, what: str) -> str:
        return f"{run_workflow_id(self.tenant, pipeline, self.environment)}:{what}"

    async def _execute(self, workflow: str, value: dict[str, Any], workflow_id: str) -> Any:
        return await self._ended(await self._start(workflow, value, workflow_id))

    async def _start(self, workflow: str, value: dict[str, Any], workflow_id: str) -> WorkflowHandle[Any, Any]:
        about = f"{workflow} of {value['pipeline']} in {self.environment}"
        # One of these runs that is left over is of an earlier commit, and its worker may be gone.
        terminate = WorkflowIDConflictPolicy.TERMINATE_EXISTING
        value = {"tenant": self.tenant, **value}
        return await follow.start(
            self.client, workflow, value, workflow_id, about, task_queue=self.task_queue, if_taken=terminate
        )

    async def _ended(self, handle: WorkflowHandle[Any, Any]) -> Any:
        try:
            return await follow.result(handle)
        except BaseException as error:
            if not isinstance(error, EntrepotError):  # nobody is left who would go on with it
                with suppress(RPCError):
                    await handle.terminate("its worker ended")
            raise


@asynccontextmanager
async def site(settings: Settings, tenants: Tenants, tenant: str, environment: str) -> AsyncIterator[Site]:
    """A worker for one environment while the block runs.

    Raises:
        Unavailable: if the server that is configured does not answer, or refuses what it is asked.
    """
    dev.end_as_by_ctrl_c()
    process.warm_up()
    PROCESSES.fork_here()
    its = f"{TASK_QUEUE}-{environment}-"
    task_queue = f"{its}{uuid.uuid4().hex[:8]}"
    async with _server(settings) as client:
        try:
            await process.register_search_attributes(client)
            left = f"WorkflowId STARTS_WITH '{slots_workflow_id(tenant, its)}' AND ExecutionStatus = 'Running'"
            async for each in client.list_workflows(left):  # of a worker that was killed
                await _end_slots(client, each.id)
        except RPCError as error:
            raise _away(error) from error
        async with process.create(client, tenants, task_queue=task_queue):
            try:
                yield Site(client, task_queue, tenants, tenant, environment)
            finally:
                await _end_slots(client, slots_workflow_id(tenant, task_queue))


def _away(error: RPCError) -> Unavailable:
    return Unavailable(f"Temporal cannot be used: {error.message}")


async def _end_slots(client: Client, workflow_id: str) -> None:
    with suppress(RPCError):  # there is none, if nothing ran
        await client.get_workflow_handle(workflow_id).terminate("its task queue is gone")


@asynccontextmanager
async def _server(settings: Settings) -> AsyncIterator[Client]:
    """A client of the server that is configured or at the usual place; else of one of its own."""
    try:
        client = await connect(logs.runtime())
    except Unavailable:
        if names_a_server():
            raise
    else:
        yield client
        return
    async with dev.server(settings.state, dev.free_port(), dev.free_port()) as running:
        yield running.client


async def _said(handle: WorkflowHandle[Any, Any]) -> tuple[Progress | None, Plan | None]:
    """What a run that has ended says of its steps."""
    try:
        progress: Progress = await handle.query("progress", result_type=Progress)
        found = await handle.query("plan")
    except RPCError:
        return None, None
    return progress, Plan.model_validate(found) if found else None


def _all_but_sources(graph: Graph, shown: Iterable[str]) -> str:
    """What computes, and the ingest steps of which a table is not shown yet; empty, if that is nothing."""
    there = {*shown}
    new = [step.name for step in graph.of(IngestStep) if not there.issuperset(step.outputs)]
    kinds = {step.kind for step in graph.steps.values() if not step.is_source}
    return " ".join([*(f"kind:{kind}" for kind in KINDS if kind in kinds), *new])

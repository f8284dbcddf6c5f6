"""The worker: serves every tenant of the tenant file from three task queues, of workflows, of steps, and its own."""

from __future__ import annotations

import asyncio
import gc
import importlib
import signal
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from importlib.metadata import version
from typing import Any

import pydantic
from joblib import cpu_count
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest, ListSearchAttributesRequest
from temporalio.client import Client
from temporalio.worker import Interceptor, Worker, WorkerDeploymentConfig
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from entrepot.activities.ingest import ingest
from entrepot.activities.ingest.ingest import IngestActivities
from entrepot.activities.ingest.intervals.preparation import BackfillActivities
from entrepot.activities.ingest.sources.dlt import setup
from entrepot.activities.ingest.sources.probe import ProbeActivities
from entrepot.activities.maintenance.environments.environments import EnvironmentActivities
from entrepot.activities.maintenance.gc import GcActivities
from entrepot.activities.maintenance.products.products import ProductActivities
from entrepot.activities.maintenance.repair import RepairActivities
from entrepot.activities.ml.train import TrainActivities
from entrepot.activities.parity.parity import ParityActivities
from entrepot.activities.plan import PlanActivities
from entrepot.activities.publish.publish import PublishActivities
from entrepot.activities.runtime.hooks import HooksActivities
from entrepot.activities.runtime.isolation.processes import load_with
from entrepot.activities.runtime.slots import SlotsActivities
from entrepot.activities.runtime.tenant import Tenants
from entrepot.activities.runtime.triggers import TriggerActivities
from entrepot.activities.transform.transform import TransformActivities
from entrepot.activities.transform.verdicts import VerdictActivities
from entrepot.protocol.activities import Activity, work_queue
from entrepot.worker.client import TASK_QUEUE
from entrepot.worker.deployments import build
from entrepot.worker.deployments.served import Answers, Elsewhere, own_queue
from entrepot.worker.telemetry.health import ping
from entrepot.worker.telemetry.logs import log
from entrepot.worker.telemetry.metrics import Measured
from entrepot.worker.turns import Turns
from entrepot.workflows.around.hooks import Hook
from entrepot.workflows.around.slots import Slots, VersionedSlots
from entrepot.workflows.around.trigger import Trigger, VersionedTrigger
from entrepot.workflows.around.watch import VersionedWatch, Watch
from entrepot.workflows.backfill import Backfill, BackfillInterval
from entrepot.workflows.environments import Create, Diff, Promote
from entrepot.workflows.maintenance import Drop, Gc, Repair, Rollback
from entrepot.workflows.parity import Parity
from entrepot.workflows.pipeline import Ingest, Pipeline, Publish, Train, Transform
from entrepot.workflows.search_attributes import SEARCH_ATTRIBUTES

WORKFLOWS = (
    Pipeline,
    Ingest,
    Transform,
    Train,
    Publish,
    Backfill,
    BackfillInterval,
    Rollback,
    Create,
    Diff,
    Promote,
    Gc,
    Drop,
    Repair,
    Parity,
    Slots,
    Hook,
    Trigger,
    Watch,
)
_VERSIONED: dict[type, type] = {Slots: VersionedSlots, Trigger: VersionedTrigger, Watch: VersionedWatch}
VERSIONED = tuple(_VERSIONED.get(each, each) for each in WORKFLOWS)
"""The same, where runs stay on the code that they began with."""
ROOMS = (
    PlanActivities,
    IngestActivities,
    BackfillActivities,
    TransformActivities,
    TrainActivities,
    PublishActivities,
    EnvironmentActivities,
    ProductActivities,
    GcActivities,
    RepairActivities,
    VerdictActivities,
    ParityActivities,
    SlotsActivities,
    HooksActivities,
    TriggerActivities,
    ProbeActivities,
)
_SHORT = 1000
"""Activities that do not take long."""
_OWN = 8
"""Questions that a worker answers at once about itself."""
GRACE = timedelta(seconds=20)
"""How long activities go on after the worker was told to stop; then they are cancelled and begin again elsewhere."""
AFTER_GRACE = timedelta(seconds=5)
"""How long those that are cancelled have to end; then the process ends without them."""


def create(
    client: Client,
    tenants: Tenants,
    *,
    task_queue: str = TASK_QUEUE,
    slots: int = 16,
    deployment: WorkerDeploymentConfig | None = None,
) -> Workers:
    """A worker over connected tenants. `slots` is how many steps it runs at the same time."""
    load_with(tenants)
    implemented = [*implementations(tenants).values(), ping]
    version = deployment.version if deployment and deployment.use_worker_versioning else None
    return Workers(
        client,
        implemented,
        task_queue=task_queue,
        slots=slots,
        interceptors=[Measured(tenants), Elsewhere(tenants, task_queue, version)],
        deployment=deployment,
        own=[Answers(tenants).served],
    )


class Workers:
    """What one process serves: workflows and what is short from one task queue, what may take long from another, and
    from a third what it alone is asked.

    So a failure is recorded, a run planned or cancelled, however many steps run or hang.

    Args:
        throttle: How long heartbeats are held back. Further progress within it is lost if the worker dies.
        deployment: Which code it runs, and whether runs are pinned to it. By default Entrepot's release is told, and
            they are not: where pipelines are reloaded as they change, there is no code to be pinned to.
        own: Activities for which this process is asked, and no other.
    """

    def __init__(
        self,
        client: Client,
        activities: Iterable[Callable[..., Any]],
        *,
        task_queue: str,
        slots: int = 16,
        throttle: timedelta = timedelta(seconds=2),
        interceptors: Sequence[Interceptor] = (),
        deployment: WorkerDeploymentConfig | None = None,
        own: Sequence[Callable[..., Any]] = (),
    ) -> None:
        every = list(activities)
        in_turns = [*interceptors, Turns(cpu_count())]
        of_workflows = worker(
            client,
            every,
            task_queue=task_queue,
            slots=_SHORT,
            throttle=throttle,
            workflows=VERSIONED if deployment and deployment.use_worker_versioning else WORKFLOWS,
            interceptors=in_turns,
            deployment=deployment,
        )
        of_steps = worker(
            client,
            every,
            task_queue=work_queue(task_queue),
            slots=slots,
            throttle=throttle,
            interceptors=in_turns,
            deployment=deployment,
        )
        itself = own_queue(task_queue, client.identity)
        of_itself = [worker(client, own, task_queue=itself, slots=_OWN, throttle=throttle)] if own else []
        self._each = [*of_itself, of_workflows, of_steps]

    async def __aenter__(self) -> Workers:
        for each in self._each:
            await each.__aenter__()
        return self

    async def __aexit__(self, kind: Any = None, error: Any = None, trace: Any = None) -> None:
        """Takes no new work, and waits for what runs; what goes on for longer than `GRACE` is cancelled."""
        await asyncio.gather(*(each.__aexit__(kind, error, trace) for each in self._each))


def worker(
    client: Client,
    activities: Iterable[Callable[..., Any]],
    *,
    task_queue: str,
    slots: int,
    throttle: timedelta,
    workflows: Sequence[type] = (),
    interceptors: Sequence[Interceptor] = (),
    deployment: WorkerDeploymentConfig | None = None,
) -> Worker:
    """A worker of one task queue. Every worker is made here: a test holds that."""
    return Worker(
        client,
        task_queue=task_queue,
        # Unless it is told, the SDK hashes the code of every imported module: seconds at each start.
        deployment_config=deployment or build.unversioned(f"entrepot-{version('entrepot')}"),
        workflows=workflows,
        activities=list(activities),
        interceptors=interceptors,
        workflow_runner=sandbox(),
        workflow_failure_exception_types=[pydantic.ValidationError],
        max_concurrent_activities=slots,
        max_concurrent_workflow_tasks=8,
        graceful_shutdown_timeout=GRACE,
        # A task handed over eagerly does not pass through the server's queue, and so not by its fairness.
        disable_eager_activity_execution=True,
        max_heartbeat_throttle_interval=throttle,
        default_heartbeat_throttle_interval=throttle,
    )


def implementations(tenants: Tenants) -> dict[Activity[Any, Any], Callable[..., Any]]:
    """Every activity and what implements it."""
    return {declared: method for room in ROOMS for declared, method in room(tenants).implemented().items()}


def sandbox() -> SandboxedWorkflowRunner:
    """How workflow code is run. Ours is deterministic: importing it anew for each run would only cost time."""
    restrictions = SandboxRestrictions.default.with_passthrough_modules(
        "pydantic",
        "pydantic_core",
        "entrepot",
    )
    return SandboxedWorkflowRunner(restrictions=restrictions)


async def register_search_attributes(client: Client) -> None:
    """Adds Entrepot's search attributes to the namespace, where they are missing."""
    listed = await client.operator_service.list_search_attributes(
        ListSearchAttributesRequest(namespace=client.namespace)
    )
    missing = [key.name for key in SEARCH_ATTRIBUTES if key.name not in listed.custom_attributes]
    if missing:
        keyword = IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD
        await client.operator_service.add_search_attributes(
            AddSearchAttributesRequest(namespace=client.namespace, search_attributes=dict.fromkeys(missing, keyword))
        )


class Stop:
    """What SIGINT and SIGTERM ask of a worker: to take no new work; asked again, to end at once."""

    def __init__(self) -> None:
        self._asked, self._again = asyncio.Event(), asyncio.Event()
        for each in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(each, self._ask)

    def _ask(self) -> None:
        (self._again if self._asked.is_set() else self._asked).set()

    def is_set(self) -> bool:
        """Whether it was asked."""
        return self._asked.is_set()

    async def wait(self) -> None:
        """Until it is asked."""
        await self._asked.wait()

    async def patience(self, ending: asyncio.Task[None]) -> bool:
        """Whether the work has ended in time, before somebody asked again."""
        again = asyncio.create_task(self._again.wait())
        longest = (GRACE + AFTER_GRACE).total_seconds()
        await asyncio.wait({ending, again}, timeout=longest, return_when=asyncio.FIRST_COMPLETED)
        again.cancel()
        return ending.done()


def run(main: Coroutine[Any, Any, None]) -> None:
    """Runs a program that ends the process with its end: it does not wait for threads that nobody can interrupt."""
    asyncio.Runner().run(main)  # to close it would wait for them


@asynccontextmanager
async def serving(
    client: Client, tenants: Tenants, *, slots: int = 16, deployment: WorkerDeploymentConfig | None = None
) -> AsyncIterator[Stop]:
    """Serves while the block runs. What does not end in time afterwards is left alone: see `run`."""
    await register_search_attributes(client)
    stop = Stop()
    workers = create(client, tenants, slots=slots, deployment=deployment)
    await workers.__aenter__()
    try:
        yield stop
    finally:
        ending = asyncio.create_task(workers.__aexit__())
        if await stop.patience(ending):
            ending.result()
            for tenant in tenants.tenants.values():
                tenant.close()
        else:
            log.warning("some work has not ended and is left; it begins again when Temporal misses its heartbeats")


def load() -> None:
    """Imports what is heavy, and uses once what loads and caches much at its first use.

    So does the process from which those for user code are forked.
    """
    for name in _HEAVY:
        importlib.import_module(name)
    setup.install()
    ingest.warm_up()


def warm_up() -> None:
    """Loads what the first run would otherwise wait for.

    In the main thread and before anything is served: two threads that import the same packages in different orders can
    fail with a deadlock, and dlt wants its settings before user code is imported.
    """
    load()
    # What is loaded by now stays: the garbage collector need not walk through it again, as it else would many times
    # while a plan builds thousands of expressions.
    gc.collect()
    gc.freeze()


_HEAVY = (
    "altair",
    "onnx",
    "orbital",
    "pandas",
    "pandera.ibis",
    "pyarrow.csv",
    "pyarrow.json",
    "pyarrow.parquet",
    "skops.io",
    "sklearn.dummy",
    "sklearn.linear_model",
    "sklearn.metrics",
    "sklearn.pipeline",
    "vl_convert",
)

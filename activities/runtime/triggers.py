"""What triggers are told, and what they ask: who has published, which code there is, whether a run has ended."""

from __future__ import annotations

import asyncio
import datetime
import threading
from typing import Any

from temporalio import activity
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowFailureError
from temporalio.common import Priority, WorkflowIDConflictPolicy
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode

from entrepot.activities.runtime.activity import Activities, implements, implements_async
from entrepot.activities.runtime.context import ActivityContext
from entrepot.activities.runtime.tenant import Tenants
from entrepot.identity import imported
from entrepot.protocol import activities
from entrepot.protocol.triggers import (
    Announcement,
    Cause,
    Marks,
    ProbeInput,
    RunAsked,
    RunEnded,
    TriggerSettings,
    TriggerState,
)

MADE_BY, SETTINGS = "made_by", "trigger"
"""In a trigger's memo: for which task queue it was made, and by which settings it works."""


def trigger_workflow_id(tenant: str, pipeline: str) -> str:
    """The id of a pipeline's trigger."""
    return f"{tenant}/{pipeline}:trigger"


async def start(
    client: Client, tenant: str, pipeline: str, settings: TriggerSettings, task_queue: str, **signal: Any
) -> None:
    """Starts a pipeline's trigger, unless it is there; and signals it, where a signal is given."""
    await client.start_workflow(
        "Trigger",
        TriggerState(tenant=tenant, pipeline=pipeline, settings=settings),
        id=trigger_workflow_id(tenant, pipeline),
        task_queue=task_queue,
        id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
        static_summary=f"begins runs of {pipeline} for {tenant}",
        memo={MADE_BY: task_queue, SETTINGS: settings.model_dump(mode="json")},
        priority=Priority(fairness_key=tenant),
        **signal,
    )


class TriggerActivities(Activities):
    """The activities `announce`, `code` and `run_ended`."""

    def __init__(self, tenants: Tenants) -> None:
        super().__init__(tenants)
        self._codes: dict[imported.Stamps, str] = {}
        self._lock = threading.Lock()

    @implements_async(activities.ANNOUNCE)
    async def announce(self, request: Announcement) -> None:
        """Tells triggers that a pipeline has published. One that is not there is started: nothing is lost."""
        info, context = activity.info(), request.context
        tenants = self._tenants
        tenants.get(context.tenant)
        now = datetime.datetime.now(datetime.UTC).replace(tzinfo=None).isoformat(timespec="seconds")
        cause = Cause(of=f"{context.tenant}/{context.pipeline}", key=request.key, what=request.what, at=now)

        async def tell(listener: str) -> None:
            tenant, _, pipeline = listener.partition("/")
            its = tenants.tenants.get(tenant)
            settings = its.pipelines[pipeline].trigger if its and pipeline in its.pipelines else None
            if settings is not None:  # else the tenant file has just lost it
                told = {"start_signal": "happened", "start_signal_args": [cause]}
                await start(activity.client(), tenant, pipeline, settings, info.task_queue, **told)

        await asyncio.gather(*map(tell, request.listeners))

    @implements(activities.CODE)
    def code(self, work: ActivityContext, request: ProbeInput) -> Marks:
        """Which code of a pipeline this worker has: the content of its modules' files, as it imported them."""
        self._tenants.pipeline(request.tenant, request.pipeline)
        stamps = frozenset(self._tenants.registry.stamps(request.pipeline).items())
        with self._lock:
            if stamps not in self._codes:
                self._codes[stamps] = imported.content(stamps)
            return Marks(marks={request.pipeline: self._codes[stamps]})

    @implements_async(activities.RUN_ENDED)
    async def run_ended(self, request: RunAsked) -> RunEnded:
        """Whether a run has ended. One that Temporal has forgotten has."""
        handle = activity.client().get_workflow_handle(request.workflow_id)
        try:
            described = await handle.describe()
            if described.status == WorkflowExecutionStatus.RUNNING:
                return RunEnded(has_ended=False)
            await handle.result(follow_runs=False)
        except WorkflowFailureError as error:
            kind = error.cause.type if isinstance(error.cause, ApplicationError) else None
            return RunEnded(has_ended=True, failure=kind or type(error.cause).__name__)
        except RPCError as error:
            if error.status != RPCStatusCode.NOT_FOUND:
                raise
        return RunEnded(has_ended=True)

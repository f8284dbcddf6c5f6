"""Whom each worker serves, as it says itself: it has a task queue of its own, on which it can be asked.

Workers of one task queue may have tenant files of different age, or code with different pipelines, and Temporal gives
the work to any of them. One that does not know a tenant looks whether another does: then the run waits until that one
takes its work. What no worker knows is refused at once: it is mistyped, or still has to be written into their file.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from pydantic import BaseModel
from temporalio import activity
from temporalio.client import ActivityFailureError, Client
from temporalio.common import WorkerDeploymentVersion
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput, Interceptor

from entrepot.activities.runtime.tenant import Tenants
from entrepot.errors import NotYetKnown, listed
from entrepot.worker.deployments.workers import ServingWorker, of_version, unversioned, workers
from entrepot.worker.telemetry.about import about

ANSWER = timedelta(seconds=3)
"""How long a worker may take to say whom it serves: it died a moment ago, or is of a release that is not asked."""


class Served(BaseModel):
    """Whom a worker serves."""

    tenants: dict[str, tuple[str, ...]]
    """Its tenants, and the pipelines that each runs."""
    behind: str = ""
    """Why it has not taken up what its tenant file says now."""

    def knows(self, tenant: str, pipeline: str | None) -> bool:
        """Whether it serves a tenant, and the pipeline of it, if one is meant."""
        return tenant in self.tenants and (pipeline is None or pipeline in self.tenants[tenant])


def own_queue(task_queue: str, identity: str) -> str:
    """The task queue of one worker alone."""
    return f"{task_queue}:{identity}"


@dataclass(frozen=True)
class Answers:
    """What a worker says of itself when it is asked."""

    tenants: Tenants

    @activity.defn(name="served")
    async def served(self) -> Served:
        """Whom it serves now: its tenant file may have changed."""
        self.tenants.renew(self.tenants)
        its = {name: tuple(sorted(tenant.pipelines)) for name, tenant in self.tenants.tenants.items()}
        return Served(tenants=its, behind=self.tenants.behind)


async def asked(client: Client, task_queue: str, found: Iterable[ServingWorker]) -> Mapping[str, Served]:
    """Whom those of the workers serve that take new work and answer, by their identities."""
    identities = {each.identity for each in found if each.is_serving}
    answers = await asyncio.gather(*(_answer(client, own_queue(task_queue, each)) for each in identities))
    return {identity: answer for identity, answer in zip(identities, answers, strict=True) if answer}


def missing(answers: Mapping[str, Served], tenants: Tenants) -> list[str]:
    """What workers do not serve of these tenants and their pipelines, and what they say of it; a sentence each."""
    found = []
    for identity, served in answers.items():
        named = (
            f"{name}/{pipeline}"
            for name, tenant in tenants.tenants.items()
            for pipeline in tenant.pipelines
            if not served.knows(name, pipeline)
        )
        if unknown := list(named):
            found.append(f"{identity} does not know {listed(unknown)}: give it the same tenant file, or start it again")
        if served.behind:
            found.append(f"{identity}: {served.behind}")
    return found


async def _answer(client: Client, queue: str) -> Served | None:
    try:
        answer: Served = await client.execute_activity(
            "served",
            id=f":served:{uuid.uuid4().hex}",
            task_queue=queue,
            schedule_to_close_timeout=ANSWER,
            result_type=Served,
        )
        return answer
    except (ActivityFailureError, RPCError):
        return None


class Elsewhere(Interceptor):
    """Looks, where a tenant or pipeline is not known here, whether another worker of the task queue knows it.

    Args:
        tenants: Whom this worker serves.
        task_queue: What it takes work from.
        version: Of the deployment that it belongs to, if it does: what is pinned to that goes to no other.
    """

    def __init__(self, tenants: Tenants, task_queue: str, version: WorkerDeploymentVersion | None) -> None:
        self._tenants, self._task_queue, self._version = tenants, task_queue, version

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        """Called by the worker for each activity."""
        return _Activity(next, self)

    async def check(self, tenant: str, pipeline: str | None) -> None:
        """Raises NotYetKnown for what is not known here, if that may pass."""
        self._tenants.renew(self._tenants)
        its = self._tenants.tenants.get(tenant)
        if its is not None and (pipeline is None or pipeline in its.pipelines):
            return
        client = activity.client()
        if why := self._tenants.behind or await self._who_knows(client, tenant, pipeline):
            what = f"tenant {tenant!r}" + (f", pipeline {pipeline!r}" if pipeline else "")
            raise ApplicationError(
                f"{what}: not known to the worker {client.identity}, and waits for one that knows it: {why}",
                type=NotYetKnown.__name__,
                # A workflow calls again by itself, for longer than a step is tried.
                non_retryable=bool(activity.info().workflow_id),
            )

    async def _who_knows(self, client: Client, tenant: str, pipeline: str | None) -> str:
        """Which other worker knows it, in a sentence; empty if none does."""
        try:
            found = await workers(client, self._task_queue)
        except RPCError:  # the server restarts, or does not know of workers
            return ""
        its = self._version
        fit = of_version(found, its.deployment_name, its.build_id) if its else unversioned(found)
        answers = await asked(client, self._task_queue, (each for each in fit if each.identity != client.identity))
        knowing = sorted(identity for identity, served in answers.items() if served.knows(tenant, pipeline))
        return f"{knowing[0]} does" if knowing else ""


class _Activity(ActivityInboundInterceptor):
    def __init__(self, next: ActivityInboundInterceptor, elsewhere: Elsewhere) -> None:
        super().__init__(next)
        self._elsewhere = elsewhere

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        names = about(input.args)
        if tenant := names.get("tenant"):
            await self._elsewhere.check(tenant, names.get("pipeline"))
        return await super().execute_activity(input)

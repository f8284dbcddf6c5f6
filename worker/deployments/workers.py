"""The workers that serve the task queue, as they tell Temporal: when they ask for work, live on, and end."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from dataclasses import dataclass

from temporalio.api.enums.v1 import WorkerStatus
from temporalio.api.taskqueue.v1 import PollerInfo
from temporalio.api.worker.v1 import WorkerHeartbeat
from temporalio.api.workflowservice.v1 import ListWorkersRequest
from temporalio.client import Client
from temporalio.common import WorkerDeploymentVersion

from entrepot.protocol.activities import work_queue
from entrepot.worker.client import TASK_QUEUE, pollers

SILENCE = datetime.timedelta(seconds=75)
"""A worker that is silent for longer was killed: the SDK's tell that they live every 60 seconds, ours more often."""


@dataclass(frozen=True)
class ServingWorker:
    """A worker that is there, or was lately."""

    identity: str
    """Its process and its machine."""
    version: WorkerDeploymentVersion
    """Its build id; and its deployment, empty for one that is not versioned."""
    state: str
    """serving, silent (it was killed, or cannot reach Temporal), stopping, ended"""
    started: datetime.datetime
    seen: datetime.datetime
    running: int
    """Steps."""
    slots: int
    """Most steps at the same time; 0 before it has told."""

    @property
    def is_serving(self) -> bool:
        """Whether it takes new work."""
        return self.state == "serving"


async def workers(client: Client, task_queue: str = TASK_QUEUE) -> list[ServingWorker]:
    """Those that serve it, or were lately, the newest first.

    Raises:
        RPCError: if the server does not know of workers, as before 1.29.
    """
    steps = {_key(each): each for each in await _heartbeats(client, work_queue(task_queue))}
    now = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
    found = [_worker(each, steps.get(_key(each)), now) for each in await _heartbeats(client, task_queue)]
    asking = [_asking(each) for each in await pollers(client, task_queue)]
    new = [each for each in asking if now - each.seen < SILENCE and _is_news(each, found)]
    return sorted([*found, *new], key=lambda worker: worker.started, reverse=True)


def _is_news(asking: ServingWorker, found: Iterable[ServingWorker]) -> bool:
    """Whether nothing was heard of a worker yet but that it asks for work: its first sign of life comes later."""
    its = [each for each in found if (each.identity, each.version) == (asking.identity, asking.version)]
    return all(not each.is_serving and each.seen < asking.seen for each in its)


async def _heartbeats(client: Client, task_queue: str) -> list[WorkerHeartbeat]:
    found: list[WorkerHeartbeat] = []
    asked = ListWorkersRequest(namespace=client.namespace, query=f'TaskQueue="{task_queue}"', page_size=200)
    while True:
        listed = await client.workflow_service.list_workers(asked)
        found += [each.worker_heartbeat for each in listed.workers_info]
        asked.next_page_token = listed.next_page_token
        if not asked.next_page_token:
            return found


def of_version(found: Iterable[ServingWorker], deployment: str, build_id: str) -> list[ServingWorker]:
    """Those of them that take work for a version."""
    wanted = WorkerDeploymentVersion(deployment, build_id)
    return [each for each in found if each.is_serving and each.version == wanted]


def unversioned(found: Iterable[ServingWorker]) -> list[ServingWorker]:
    """Those of them that take work for runs that are pinned to nothing."""
    return [each for each in found if each.is_serving and not each.version.deployment_name]


def _key(said: WorkerHeartbeat) -> tuple[str, WorkerDeploymentVersion]:
    its = said.deployment_version
    return said.worker_identity, WorkerDeploymentVersion(its.deployment_name, its.build_id)


def _asking(poller: PollerInfo) -> ServingWorker:
    """What is known of a worker that asks for work."""
    its, seen = poller.deployment_options, poller.last_access_time.ToDatetime()
    version = WorkerDeploymentVersion(its.deployment_name, its.build_id)
    return ServingWorker(poller.identity, version, "serving", started=seen, seen=seen, running=0, slots=0)


def _worker(said: WorkerHeartbeat, of_steps: WorkerHeartbeat | None, now: datetime.datetime) -> ServingWorker:
    """What a process says of the queue of workflows, and what of that of steps, with which it begins a moment later."""
    slots, seen = (of_steps or WorkerHeartbeat()).activity_task_slots_info, said.heartbeat_time.ToDatetime()
    is_recent = now - seen < SILENCE
    if said.status == WorkerStatus.WORKER_STATUS_RUNNING:
        state = "serving" if is_recent else "silent"
    else:
        state = "stopping" if is_recent else "ended"
    return ServingWorker(
        identity=said.worker_identity,
        version=_key(said)[1],
        state=state,
        started=said.start_time.ToDatetime(),
        seen=seen,
        running=slots.current_used_slots,
        slots=slots.current_used_slots + slots.current_available_slots,
    )

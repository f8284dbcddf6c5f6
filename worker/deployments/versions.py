"""Temporal's worker deployments: which version of the workers gets new runs, and which still have runs to end."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from google.protobuf.timestamp_pb2 import Timestamp
from temporalio.api.deployment.v1 import WorkerDeploymentInfo, WorkerDeploymentVersion
from temporalio.api.enums.v1 import RoutingConfigUpdateState
from temporalio.api.enums.v1 import WorkerDeploymentVersionStatus as Status
from temporalio.api.workflowservice.v1 import (
    DescribeWorkerDeploymentRequest,
    DescribeWorkerDeploymentVersionRequest,
    ListWorkerDeploymentsRequest,
    SetWorkerDeploymentCurrentVersionRequest,
    SetWorkerDeploymentRampingVersionRequest,
)
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from entrepot.errors import BadInput, unknown
from entrepot.worker.client import TASK_QUEUE

_STATUSES = {
    Status.WORKER_DEPLOYMENT_VERSION_STATUS_CURRENT: "current",
    Status.WORKER_DEPLOYMENT_VERSION_STATUS_RAMPING: "ramping",
    Status.WORKER_DEPLOYMENT_VERSION_STATUS_DRAINING: "draining",
    Status.WORKER_DEPLOYMENT_VERSION_STATUS_DRAINED: "drained",
}
_UNDER_WAY = RoutingConfigUpdateState.ROUTING_CONFIG_UPDATE_STATE_IN_PROGRESS
_HEARD_SECONDS = 20.0


@dataclass(frozen=True)
class Version:
    """One version of the workers: a build of a deployment."""

    build_id: str
    status: str
    """new (it never got runs), ramping, current, draining (its runs go on, it gets no new ones), drained"""
    created: datetime.datetime
    was_current: bool
    running: int
    """Runs that are pinned to it and go on."""


@dataclass(frozen=True)
class Deployment:
    """The versions of a group of workers that follow one another."""

    name: str
    versions: Sequence[Version]
    """The newest first."""
    percentage: float
    """Of new runs, those that go to the version that is ramping."""
    token: bytes
    """What it was when it was read: a change by somebody else since is not overwritten."""

    def version(self, build_id: str) -> Version:
        """One of its versions.

        Raises:
            BadInput: if there is none of that build id.
        """
        if found := next((each for each in self.versions if each.build_id == build_id), None):
            return found
        known = [each.build_id for each in self.versions]
        raise BadInput(f"deployment {self.name!r}: {unknown('build id', build_id, known)}")

    def with_status(self, status: str) -> Version | None:
        """The version that has this status, of which it has one at most."""
        return next((each for each in self.versions if each.status == status), None)

    @property
    def previous(self) -> Version:
        """The version that was the current one before.

        Raises:
            BadInput: if there is none.
        """
        current = self.with_status("current")
        older = [v for v in self.versions if v.was_current and v is not current]
        if current is not None:
            older = [v for v in older if v.created < current.created]
        if not older:
            raise BadInput(f"deployment {self.name!r} has had no current version before, so there is no way back")
        return older[0]


async def deployments(client: Client, task_queue: str = TASK_QUEUE) -> list[Deployment]:
    """Those whose workers serve the task queue."""
    names: list[str] = []
    asked = ListWorkerDeploymentsRequest(namespace=client.namespace)
    while True:
        listed = await client.workflow_service.list_worker_deployments(asked)
        names += [each.name for each in listed.worker_deployments]
        asked.next_page_token = listed.next_page_token
        if not asked.next_page_token:
            break
    found = [await _deployment(client, name, task_queue) for name in sorted(names)]
    return [each for each in found if each]


async def _deployment(client: Client, name: str, task_queue: str) -> Deployment | None:
    """The deployment of a name, if any of its versions has served the task queue."""
    asked = DescribeWorkerDeploymentRequest(namespace=client.namespace, deployment_name=name)
    described = await client.workflow_service.describe_worker_deployment(asked)
    info = described.worker_deployment_info
    summaries = sorted(info.version_summaries, key=lambda each: each.create_time.ToDatetime(), reverse=True)
    for each in summaries:  # mostly the first tells it; what has come this moment has no queues yet
        if await _serves(client, each.deployment_version, task_queue):
            break
    else:
        return None
    return Deployment(
        name=name,
        versions=await asyncio.gather(*(_version(client, each) for each in summaries)),
        percentage=info.routing_config.ramping_version_percentage,
        token=described.conflict_token,
    )


async def chosen(client: Client, name: str | None) -> Deployment:
    """The deployment that is meant: the one that is named, else the only one there is.

    Raises:
        BadInput: if there is none, or there are several and none is named.
    """
    found = await deployments(client)
    if named := [each for each in found if each.name == name]:
        return named[0]
    if name is None and len(found) == 1:
        return found[0]
    names = [each.name for each in found]
    if not names:
        raise BadInput(
            f"no worker of a deployment has served the task queue {TASK_QUEUE!r}: start one with "
            "TEMPORAL_DEPLOYMENT_NAME=entrepot entrepot worker"
        )
    problem = unknown("deployment", name, names) if name else f"name one with --deployment; known: {', '.join(names)}"
    raise BadInput(problem)


async def set_current(client: Client, its: Deployment, build_id: str) -> None:
    """Gives all new runs to a version."""
    await client.workflow_service.set_worker_deployment_current_version(
        SetWorkerDeploymentCurrentVersionRequest(
            namespace=client.namespace,
            deployment_name=its.name,
            build_id=its.version(build_id).build_id,
            conflict_token=its.token,
            identity=client.identity,
        )
    )
    await _until_it_holds(client, its.name)


async def ramp(client: Client, its: Deployment, build_id: str, percentage: float) -> None:
    """Gives a part of the new runs to a version, and the others to the current one; 0 ends it."""
    await client.workflow_service.set_worker_deployment_ramping_version(
        SetWorkerDeploymentRampingVersionRequest(
            namespace=client.namespace,
            deployment_name=its.name,
            build_id=its.version(build_id).build_id if percentage else "",
            percentage=percentage,
            conflict_token=its.token,
            identity=client.identity,
        )
    )
    await _until_it_holds(client, its.name)


async def roll_back(client: Client, its: Deployment) -> str:
    """Takes back the ramp, if there is one, else makes the version current that was so before. Returns what it did."""
    if ramping := its.with_status("ramping"):
        await ramp(client, its, ramping.build_id, 0)
        return f"{ramping.build_id} gets no new runs any more"
    previous = its.previous.build_id
    await set_current(client, its, previous)
    return f"{previous} gets all new runs again"


async def _until_it_holds(client: Client, name: str) -> None:
    """Waits a little until every task queue has heard of a change: a run that starts before may begin as it was."""
    asked = DescribeWorkerDeploymentRequest(namespace=client.namespace, deployment_name=name)
    with suppress(TimeoutError):
        async with asyncio.timeout(_HEARD_SECONDS):
            while True:
                described = await client.workflow_service.describe_worker_deployment(asked)
                if described.worker_deployment_info.routing_config_update_state != _UNDER_WAY:
                    return
                await asyncio.sleep(0.5)  # a namespace may read some ten times a second


async def _serves(client: Client, version: WorkerDeploymentVersion, task_queue: str) -> bool:
    """Whether a version has ever served the task queue."""
    try:
        described = await client.workflow_service.describe_worker_deployment_version(
            DescribeWorkerDeploymentVersionRequest(namespace=client.namespace, deployment_version=version)
        )
    except RPCError as error:
        if error.status != RPCStatusCode.NOT_FOUND:
            raise
        return False  # its deployment lists it a moment before it is there, and after it was deleted
    queues = described.worker_deployment_version_info.task_queue_infos
    return any(queue.name == task_queue for queue in queues)


async def _version(client: Client, said: WorkerDeploymentInfo.WorkerDeploymentVersionSummary) -> Version:
    its = said.deployment_version
    of_it = f"TemporalWorkerDeploymentVersion = '{its.deployment_name}:{its.build_id}'"
    pinned = "ExecutionStatus = 'Running' AND TemporalWorkflowVersioningBehavior = 'Pinned'"
    counted = await client.count_workflows(f"{pinned} AND {of_it}")
    return Version(
        build_id=its.build_id,
        status=_STATUSES.get(said.status, "new"),
        created=said.create_time.ToDatetime(),
        was_current=said.last_current_time != Timestamp(),
        running=counted.count,
    )

"""Why a run stands still: no worker takes work for it, or none that knows its tenant."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from temporalio.api.enums.v1 import TaskQueueType, VersioningBehavior
from temporalio.api.sdk.v1 import WorkflowMetadata
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import Client, WorkflowHandle
from temporalio.common import WorkerDeploymentVersion
from temporalio.service import RPCError, RPCStatusCode

from entrepot.errors import listed
from entrepot.worker.client import TASK_QUEUE
from entrepot.worker.deployments.workers import of_version, unversioned, workers
from entrepot.workflows.progress import WAITS

_SOON = timedelta(seconds=2)


async def why(
    client: Client, handle: WorkflowHandle[Any, Any] | None = None, task_queue: str = TASK_QUEUE
) -> str | None:
    """What a run lacks, or an activity without one, and what helps; None if a worker is there for it."""
    try:
        found = await workers(client, task_queue)
        pinned = await _pinned_to(handle) if handle else None
        wanted = pinned or await _current(client, task_queue)
    except RPCError as error:
        if error.status in (RPCStatusCode.UNAVAILABLE, RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.UNIMPLEMENTED):
            return None  # the server restarts, or does not know
        raise
    if of_version(found, wanted.deployment_name, wanted.build_id) if wanted else unversioned(found):
        return await _said(handle) if handle else None
    if pinned:
        build, name = pinned.build_id, pinned.deployment_name
        return (
            f"No worker of build {build} of deployment {name!r} is there, and the run stays on the code that it began "
            f"with; it waits for one. Start one with that code, or cancel the run and start it again"
        )
    if new := sorted({each.version.build_id for each in found if each.is_serving and each.version.deployment_name}):
        return (
            f"The workers that serve the task queue {task_queue!r} have builds that get no new runs yet "
            f"({listed(new)}), so the run waits. Let one: entrepot deployments set-current BUILD"
        )
    its = f" of build {wanted.build_id}, which gets new runs," if wanted else ""
    return f"No worker{its} serves the task queue {task_queue!r}; work waits for one. Start one: entrepot worker"


async def _said(handle: WorkflowHandle[Any, Any]) -> str | None:
    """What the run itself says that it waits for."""
    try:
        shown = await handle.query("__temporal_workflow_metadata", result_type=WorkflowMetadata, rpc_timeout=_SOON)
    except (RPCError, RuntimeError):  # its worker is busy, or away
        return None
    lines = [line for line in shown.current_details.splitlines() if line.startswith(WAITS)]
    return lines[0].removeprefix(WAITS) if lines else None


async def _pinned_to(handle: WorkflowHandle[Any, Any]) -> WorkerDeploymentVersion | None:
    """The version that a run stays with: the one that somebody has moved it to, else the one that it began with."""
    described = await handle.describe()
    its = described.raw_description.workflow_execution_info.versioning_info
    match its.versioning_override.WhichOneof("override"):
        case "pinned":
            version = its.versioning_override.pinned.version
        case None if its.behavior == VersioningBehavior.VERSIONING_BEHAVIOR_PINNED:
            version = its.deployment_version
        case _:  # it goes on with whatever is current
            return None
    return WorkerDeploymentVersion(version.deployment_name, version.build_id)


async def _current(client: Client, task_queue: str) -> WorkerDeploymentVersion | None:
    """The version that gets new runs; None if they go to workers that are not versioned."""
    described = await client.workflow_service.describe_task_queue(
        DescribeTaskQueueRequest(
            namespace=client.namespace,
            task_queue=TaskQueue(name=task_queue),
            task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW,
        )
    )
    current = described.versioning_info.current_deployment_version
    return WorkerDeploymentVersion(current.deployment_name, current.build_id) if current.build_id else None

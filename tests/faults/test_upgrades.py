"""An upgrade in the middle of a run: what began with the old code ends with the old code, or says what it lacks."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflow.v1 import VersioningOverride, WorkflowExecutionOptions
from temporalio.api.workflowservice.v1 import UpdateWorkflowExecutionOptionsRequest
from temporalio.client import Client, WorkflowHandle
from temporalio.runtime import Runtime, TelemetryConfig
from temporalio.testing import WorkflowEnvironment

from entrepot.errors import BadInput
from entrepot.worker import process
from entrepot.worker.client import reach
from entrepot.worker.deployments import build, versions, waiting
from entrepot.worker.deployments.versions import Deployment
from entrepot.worker.deployments.workers import workers
from tests.conftest import House, settings
from tests.waiting import eventually, retried, until_running

T = TypeVar("T")
PIPELINES = {name: f"tests.pipelines.{name}:{name}" for name in ("slow", "awaiting")}


class Upgraded:
    """Workers of one deployment, each on a warehouse of its own, which shows who has done the work."""

    def __init__(self, client: Client, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.client = client
        self.folder = folder
        self.gate = folder / "gate"
        self.task_queue = f"test-{uuid.uuid4().hex}"
        self._environment = monkeypatch
        self._environment.setenv(build.DEPLOYMENT, f"of-{self.task_queue}")

    @asynccontextmanager
    async def worker(self, build_id: str) -> AsyncIterator[House]:
        """A worker of this build while the block runs."""
        self._environment.setenv(build.BUILD_ID, build_id)
        tenants = settings(self.folder / build_id, PIPELINES).connect()
        deployment = build.deployment(tenants.registry.references.values())
        address = self.client.service_client.config.target_host
        client = await reach(address, runtime=_often_alive(), identity=f"{build_id} of {self.task_queue}")
        async with process.create(client, tenants, task_queue=self.task_queue, deployment=deployment):
            await eventually(lambda: self.is_served_by(build_id))
            yield House(client, tenants, self.task_queue, self.folder)
        for tenant in tenants.tenants.values():
            tenant.close()

    async def start(self, pipeline: str = "slow", **parameters: Any) -> WorkflowHandle[Any, Any]:
        value = {"tenant": "acme", "pipeline": pipeline, "parameters": parameters}
        return await self.client.start_workflow("Pipeline", value, id=uuid.uuid4().hex, task_queue=self.task_queue)

    async def start_and_hold(self) -> WorkflowHandle[Any, Any]:
        """A run that is in the middle of a step until the gate opens."""
        handle = await self.start(until=str(self.gate))
        await until_running(handle, "slept")
        return handle

    async def leave_behind(self) -> WorkflowHandle[Any, Any]:
        """A run that is tried again, whose worker, the old one, is gone; new runs go to the new one."""
        async with self.worker("old"):
            await self.set_current("old")
            handle = await self.start("awaiting", until=str(self.gate))
            await retried(handle)
            assert await self.why(handle) is None
            await self.set_current("new")
        return handle

    async def deployment(self) -> Deployment | None:
        return next(iter(await versions.deployments(self.client, self.task_queue)), None)

    async def is_served_by(self, build_id: str) -> bool:
        """Whether Temporal knows of the version, and of a worker of it."""
        serving = [each for each in await workers(self.client, self.task_queue) if each.is_serving]
        its = {each.version.build_id for each in serving}
        return build_id in its & set(await self.statuses())

    async def change(self, how: Callable[[Client, Deployment], Awaitable[T]]) -> T:
        its = await eventually(self.deployment)
        assert its is not None
        return await how(self.client, its)

    async def set_current(self, build_id: str) -> None:
        await self.change(lambda client, its: versions.set_current(client, its, build_id))

    async def statuses(self) -> dict[str, tuple[str, int]]:
        its = await eventually(self.deployment)
        return {each.build_id: (each.status, each.running) for each in its.versions} if its else {}

    async def why(self, handle: WorkflowHandle[Any, Any]) -> str | None:
        return await waiting.why(self.client, handle, self.task_queue)


@pytest.fixture
async def upgraded(temporal: WorkflowEnvironment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Upgraded:
    address = temporal.client.service_client.config.target_host
    return Upgraded(await reach(address, runtime=_often_alive()), tmp_path, monkeypatch)


@cache
def _often_alive() -> Runtime:
    """Of several workers in one process, the later ones are told of with the next sign of life."""
    return Runtime(telemetry=TelemetryConfig(), worker_heartbeat_interval=timedelta(seconds=1))


def shown(house: House) -> list[tuple[Any, ...]]:
    return house.query("SELECT count(*) FROM slow.after")


async def test_a_run_ends_with_the_code_that_it_began_with(upgraded: Upgraded) -> None:
    async with upgraded.worker("old") as old:
        await upgraded.set_current("old")
        middle = await upgraded.start_and_hold()
        async with upgraded.worker("new") as new:
            await upgraded.set_current("new")
            await (await upgraded.start()).result()
            assert shown(new) == [(100,)]
            await eventually(lambda: is_so(upgraded, old=("draining", 1), new=("current", 0)))
            upgraded.gate.touch()
            assert (await middle.result())["outcome"] == "published"
        assert shown(old) == [(100,)]


async def test_a_run_without_a_worker_of_its_code_waits_for_one_and_says_so(upgraded: Upgraded) -> None:
    async with upgraded.worker("new"):
        left = await upgraded.leave_behind()
        lacking = await upgraded.why(left)
        name = f"of-{upgraded.task_queue}"
        assert lacking is not None
        assert lacking.startswith(f"No worker of build old of deployment {name!r} is there, and the run stays on")
        upgraded.gate.touch()
        async with upgraded.worker("old"):
            assert (await left.result())["outcome"] == "published"


async def test_a_run_that_was_moved_on_waits_for_no_worker_of_the_code_that_it_began_with(upgraded: Upgraded) -> None:
    async with upgraded.worker("new"):
        left = await upgraded.leave_behind()
        assert "No worker of build old" in (await upgraded.why(left) or "")
        await upgraded.client.workflow_service.update_workflow_execution_options(
            UpdateWorkflowExecutionOptionsRequest(
                namespace=upgraded.client.namespace,
                workflow_execution=WorkflowExecution(workflow_id=left.id),
                workflow_execution_options=WorkflowExecutionOptions(
                    versioning_override=VersioningOverride(auto_upgrade=True)
                ),
                update_mask=FieldMask(paths=["versioning_override"]),
            )
        )
        assert await upgraded.why(left) is None  # how it ends does not matter: the other worker has another warehouse


async def test_a_tenants_slots_do_not_stay_with_a_version_that_is_gone(upgraded: Upgraded) -> None:
    async with upgraded.worker("old"):
        await upgraded.set_current("old")
        assert (await (await upgraded.start()).result())["outcome"] == "published"
    async with upgraded.worker("new"):
        await upgraded.set_current("new")
        assert (await (await upgraded.start()).result())["outcome"] == "published"


async def test_a_version_gets_no_runs_before_somebody_says_so(upgraded: Upgraded) -> None:
    async with upgraded.worker("first") as first:
        waits = await upgraded.start()
        assert "builds that get no new runs yet ('first')" in (await upgraded.why(waits) or "")
        await upgraded.set_current("first")
        assert (await waits.result())["outcome"] == "published"
        assert shown(first) == [(100,)]
        [found] = await workers(upgraded.client, upgraded.task_queue)
        assert (found.version.build_id, found.state) == ("first", "serving")


async def test_versions_are_ramped_and_rolled_back(upgraded: Upgraded) -> None:
    async with upgraded.worker("a"), upgraded.worker("b"), upgraded.worker("c"):
        with pytest.raises(BadInput, match="has had no current version before"):
            await upgraded.change(versions.roll_back)
        with pytest.raises(BadInput, match=r"unknown build id 'd'\. Known: 'a', 'b', 'c'"):
            await upgraded.set_current("d")
        await upgraded.set_current("a")
        await upgraded.set_current("b")
        await upgraded.change(lambda client, its: versions.ramp(client, its, "c", 100))
        await eventually(lambda: is_so(upgraded, a=("draining", 0), b=("current", 0), c=("ramping", 0)))
        assert await upgraded.change(versions.roll_back) == "c gets no new runs any more"
        assert await upgraded.change(versions.roll_back) == "a gets all new runs again"
        assert (await upgraded.statuses())["a"] == ("current", 0)


async def is_so(upgraded: Upgraded, **expected: tuple[str, int]) -> bool:
    return await upgraded.statuses() == expected

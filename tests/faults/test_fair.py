"""What one tenant runs leaves room for the others, and what a worker runs does not keep it from ending."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.exceptions import CancelledError
from temporalio.service import RPCError
from temporalio.testing import WorkflowEnvironment

from entrepot.protocol.slots import Share
from entrepot.secrets import PAYLOAD_KEYS
from entrepot.worker.client import TASK_QUEUE
from entrepot.worker.config.tenant_schema import TenantSection
from tests.conftest import House, serving, settings
from tests.waiting import SECONDS, eventually
from tests.worker.processes import Place

HANGING = {"hanging": "tests.pipelines.hanging:hanging"}
TENANT = """
[pipelines]
hanging = "tests.pipelines.hanging:hanging"

[tenants.NAME]
backend = { type = "duckdb", path = "acme.duckdb" }
slots = 2
"""


async def granted(client: Client, task_queue: str, tenant: str) -> list[int]:
    """The slots of each of a tenant's runs."""
    slots = client.get_workflow_handle(f"{tenant}:slots:{task_queue}")
    return [Share.model_validate(share).granted for share in await slots.query("shares")]


@pytest_asyncio.fixture
async def house(temporal: WorkflowEnvironment, tmp_path: Path) -> AsyncIterator[House]:
    sections = {
        name: TenantSection(backend={"type": "duckdb", "path": f"{name}.duckdb"}) for name in ("acme", "globex")
    }
    async with serving(temporal.client, settings(tmp_path, HANGING, **sections)) as house:
        try:
            yield house
        finally:
            (tmp_path / "end").touch()


async def hang(house: House, number: int) -> WorkflowHandle[Any, Any]:
    asked = {
        "tenant": "acme",
        "pipeline": "hanging",
        "environment": f"pr_{number}",
        "parameters": {"until": str(house.state / "end")},
    }
    return await house.start("Pipeline", asked)


async def test_steps_that_hang_leave_room_for_other_tenants(house: House) -> None:
    """17 of 16 slots would be taken: of one tenant, 8 run, and the others wait without a slot."""
    handles = [await hang(house, number) for number in range(17)]

    async def is_full() -> bool:
        return sorted(await granted(house.client, house.task_queue, "acme")) == [0] * 9 + [1] * 8

    await eventually(is_full)
    other = await asyncio.wait_for(house.run("hanging", tenant="globex"), SECONDS)
    assert other.outcome == "published"

    [one] = [handle for handle in handles if await progress(handle) == "waiting"][:1]
    await one.cancel()  # whoever waits can be cancelled at once
    with pytest.raises(WorkflowFailureError) as caught:
        await asyncio.wait_for(one.result(), SECONDS)
    assert isinstance(caught.value.cause, CancelledError)

    (house.state / "end").touch()
    left = [handle for handle in handles if handle is not one]
    results = await asyncio.wait_for(asyncio.gather(*(handle.result() for handle in left)), SECONDS)
    assert {result["outcome"] for result in results} == {"published"}
    assert await granted(house.client, house.task_queue, "acme") == []


async def test_a_wide_run_makes_room_for_another_of_its_tenant(temporal: WorkflowEnvironment, tmp_path: Path) -> None:
    """It has both slots, and keeps one of them when the other run comes; at the end, nobody has any."""
    section = TenantSection(backend={"type": "duckdb", "path": "acme.duckdb"}, slots=2)
    known = {"wide": "tests.pipelines.hanging:wide", **HANGING}
    async with serving(temporal.client, settings(tmp_path, known, acme=section)) as house:
        wide = await house.start("Pipeline", {"tenant": "acme", "pipeline": "wide"})

        async def has_both() -> bool:
            return await wide.query("progress") and await granted_or_none(house) == [2]

        await eventually(has_both)
        other = await asyncio.wait_for(house.run("hanging"), SECONDS)
        assert other.outcome == "published"
        waiting = [step["name"] for step in (await wide.query("progress"))["steps"] if step["state"] != "done"]
        assert waiting, "the other run waited for the whole of the wide one"
        assert (await asyncio.wait_for(wide.result(), SECONDS))["outcome"] == "published"
        assert await granted(house.client, house.task_queue, "acme") == []


async def granted_or_none(house: House) -> list[int]:
    try:
        return await granted(house.client, house.task_queue, "acme")
    except RPCError:  # nobody has asked yet
        return []


async def test_a_step_that_takes_longer_than_its_tenant_allows_fails(
    temporal: WorkflowEnvironment, tmp_path: Path
) -> None:
    given = {"backend": {"type": "duckdb", "path": "acme.duckdb"}, "limits": {"timeout": "1s", "attempts": 1}}
    section = TenantSection.model_validate(given)
    async with serving(temporal.client, settings(tmp_path, HANGING, acme=section)) as house:
        handle = await hang(house, 0)
        with pytest.raises(WorkflowFailureError) as caught:
            await asyncio.wait_for(handle.result(), SECONDS)
        (tmp_path / "end").touch()
    said = "tenant 'acme', pipeline 'hanging', 'source', extract: it took longer than its `timeout` of 0:00:01, once"
    assert str(caught.value.cause) == f"TimeoutError: {said}"


async def progress(handle: WorkflowHandle[Any, Any]) -> str:
    asked = await handle.query("progress")
    return str(asked["steps"][0]["state"]) if asked["steps"] else ""


def start(place: Place, grace: int) -> subprocess.Popen[str]:
    """`entrepot worker`, with a grace of so many seconds."""
    short = (
        "from datetime import timedelta; from entrepot.worker import process; "
        f"process.GRACE = timedelta(seconds={grace}); "
    )
    code = f"{short}process.AFTER_GRACE = timedelta(seconds=1); from entrepot.worker.cli.app import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", code, "worker"],
        cwd=place.folder,
        env=place.environment(
            PYTHONHASHSEED="0",
            ENTREPOT_TENANTS="tenants.toml",
            **{PAYLOAD_KEYS: os.environ[PAYLOAD_KEYS]},  # our client encrypts
        ),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@contextmanager
def worker(place: Place, grace: int = 1) -> Iterator[subprocess.Popen[str]]:
    process = start(place, grace)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


class Real:
    """A tenant of its own on the session's server, for workers that are processes."""

    def __init__(self, temporal: WorkflowEnvironment, folder: Path) -> None:
        self.client = temporal.client
        self.tenant = f"t{uuid.uuid4().hex[:8]}"
        self.place = Place(folder, port=int(temporal.client.service_client.config.target_host.rpartition(":")[2]))
        (folder / "tenants.toml").write_text(TENANT.replace("NAME", self.tenant))

    async def hang(self, number: int) -> WorkflowHandle[Any, Any]:
        asked = {
            "tenant": self.tenant,
            "pipeline": "hanging",
            "environment": f"pr_{number}",
            "parameters": {"until": str(self.place.folder / "end")},
        }
        return await self.client.start_workflow("Pipeline", asked, id=uuid.uuid4().hex, task_queue=TASK_QUEUE)

    async def running(self, count: int) -> None:
        """Until so many of its steps run."""

        async def found() -> bool:
            try:
                return sum(await granted(self.client, TASK_QUEUE, self.tenant)) >= count
            except RPCError:  # nobody has asked yet
                return False

        await eventually(found)


@pytest.fixture
def real(temporal: WorkflowEnvironment, tmp_path: Path) -> Real:
    return Real(temporal, tmp_path)


async def test_slots_of_runs_that_were_terminated_come_back(real: Real) -> None:
    """Also those of steps that a worker was at when it was killed: slots belong to runs, not to workers."""
    with worker(real.place) as first:
        holding = [await real.hang(0), await real.hang(1)]
        await real.running(2)
        os.kill(first.pid, signal.SIGKILL)
        for each in holding:
            await each.terminate()
        with worker(real.place) as second:
            waiting = await real.hang(2)
            (real.place.folder / "end").touch()
            assert (await asyncio.wait_for(waiting.result(), SECONDS))["outcome"] == "published"
            (real.place.folder / "end").unlink()
            await real.hang(3)
            await real.running(1)
            await ended(second, signals=1)


async def ended(process: subprocess.Popen[str], signals: int) -> None:
    """A worker has ended after so many signals, and well."""
    for _ in range(signals):
        process.send_signal(signal.SIGTERM)
        await asyncio.sleep(0.2)
    assert await asyncio.to_thread(process.wait, SECONDS) == 0


async def test_a_worker_that_is_told_twice_ends_at_once_though_a_step_hangs(real: Real) -> None:
    with worker(real.place, grace=600) as process:
        await real.hang(0)
        await real.running(1)
        await ended(process, signals=2)

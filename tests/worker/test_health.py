"""What a worker tells of itself: over HTTP, in metrics, in its log, and when it is pinged."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import re
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
import pytest_asyncio
from entrepot_standins.ports import HOST, free_port
from temporalio.client import ActivityFailureError, Client
from temporalio.testing import WorkflowEnvironment

from entrepot.errors import BadInput, Unavailable
from entrepot.protocol.activities import work_queue
from entrepot.worker import process
from entrepot.worker.client import reach
from entrepot.worker.telemetry import health, logs
from tests.conftest import House, settings
from tests.servers.temporal import dev_server
from tests.waiting import eventually
from tests.worker.processes import ROOT

PIPELINES = {"shop": "tests.pipelines.shop:shop", "slow": "tests.pipelines.slow:slow"}


@dataclass
class Watched(House):
    """A worker that listens."""

    port: int = 0

    async def get(self, path: str) -> tuple[int, str]:
        reader, writer = await asyncio.open_connection(HOST, self.port)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
        writer.close()
        return int(head.split()[1]), body

    async def metrics(self) -> dict[str, float]:
        """Each metric's value, by its name and the labels that are ours."""
        _, text = await self.get("/metrics")
        found = {}
        for name, labels, value in re.findall(r"^(entrepot_\w+)(?:\{(.*)\})? (\S+)$", text, re.MULTILINE):
            own = sorted(re.findall(r'(tenant|pipeline|status|error|activity_type|pid)="([^"]+)"', labels))
            found[" ".join([name, *(f"{key}={value}" for key, value in own)])] = float(value)
        return found


@pytest_asyncio.fixture
async def watched(temporal: WorkflowEnvironment, tmp_path: Path) -> AsyncIterator[Watched]:
    port, own_port, queue = free_port(), free_port(), f"test-{uuid.uuid4().hex}"
    address = temporal.client.service_client.config.target_host
    client = await reach(address, runtime=logs.runtime(f"{HOST}:{own_port}"))
    tenants = settings(tmp_path, PIPELINES).connect()
    async with health.listening(client, str(port), own_port, queue):
        async with process.create(client, tenants, task_queue=queue, slots=2):
            yield Watched(client, tenants, queue, tmp_path, port)
        tenants.get("acme").close()


async def until_ready(watched: Watched) -> None:
    async def is_ready() -> bool:
        return await watched.get("/ready") == (200, "ready\n")

    await eventually(is_ready)


async def pinged(client: Client, queue: str, seconds: float) -> str:
    """What a worker answers that takes steps."""
    within = timedelta(seconds=seconds)
    return str(
        await client.execute_activity(
            "ping", id=uuid.uuid4().hex, task_queue=work_queue(queue), schedule_to_close_timeout=within, result_type=str
        )
    )


async def pinged_again_and_again(watched: Watched) -> None:
    while True:
        await pinged(watched.client, watched.task_queue, 1)


async def test_it_says_whether_it_lives_and_works_and_what_it_has_done(watched: Watched) -> None:
    assert await watched.get("/health") == (200, "alive\n")
    await until_ready(watched)
    assert (await watched.get("/other"))[0] == 404

    await watched.run(parameters={"rows": 90})
    await watched.fail(tenant="acme", pipeline="made_up")
    await watched.fail(tenant="nobody", pipeline="shop")
    found = await watched.metrics()
    acme = "pipeline=shop tenant=acme"
    assert found["entrepot_runs_total pipeline=shop status=published tenant=acme"] == 1
    assert found["entrepot_runs_total pipeline=? status=failed tenant=?"] == 2
    assert found[f"entrepot_rows_total activity_type=load {acme}"] == 92
    assert found[f"entrepot_bytes_total activity_type=load {acme}"] > 0
    assert found[f"entrepot_steps_total activity_type=transform {acme}"] >= 4
    assert found[f"entrepot_queue_latency_seconds_count activity_type=extract {acme}"] == 1
    _, shown = await watched.get("/metrics")
    for latency in ("queue", "run"):  # or else minutes and hours could not be told from ten seconds
        ends = re.findall(rf'entrepot_{latency}_latency_seconds_bucket{{.*le="(\d+)"}}', shown)
        assert f"{logs.BUCKETS[-1]:.0f}" in ends
    assert found["entrepot_failures_total activity_type=prepare error=BadInput pipeline=? tenant=acme"] == 1
    assert found["entrepot_failures_total activity_type=prepare error=BadInput pipeline=? tenant=?"] == 1
    assert found["entrepot_slots_taken tenant=acme"] == 0
    assert "entrepot_slots_taken tenant=?" not in found, "what is short takes no slot"
    assert found[f"entrepot_memory_bytes pid={os.getpid()}"] > 50e6
    documented = set(re.findall(r"`(entrepot_\w+)`", (ROOT / "docs/operations.md").read_text()))
    assert {re.sub("_(count|sum|bucket)$", "", each.split()[0]) for each in found} == documented
    assert "made_up" not in (await watched.get("/metrics"))[1]
    assert "nobody" not in (await watched.get("/metrics"))[1]


async def test_one_that_polls_and_cannot_work_is_told_from_one_that_works(watched: Watched, tmp_path: Path) -> None:
    assert await pinged(watched.client, watched.task_queue, 30) == "pong"
    end = tmp_path / "end"
    about = {"tenant": "acme", "pipeline": "slow", "parameters": {"until": str(end)}}
    runs = [await watched.start("Pipeline", {**about, "environment": name}) for name in ("prod", "dev")]
    try:
        with pytest.raises(ActivityFailureError):
            await pinged_again_and_again(watched)  # until both wait for the file
        assert (await watched.metrics())["entrepot_slots_taken tenant=acme"] == 2
        assert (await watched.get("/ready"))[0] == 200
    finally:
        end.touch()
    for run in runs:
        await run.result()


async def test_a_server_that_is_away_makes_it_unready_and_not_dead() -> None:
    port = free_port()
    async with AsyncExitStack() as stack:
        async with dev_server() as server:
            where = f"the Temporal server at {server.client.service_client.config.target_host}"
            await stack.enter_async_context(health.listening(server.client, str(port), free_port(), "nobody-polls-it"))
            watched = Watched(server.client, None, "", Path(), port)  # type: ignore[arg-type]
            assert await watched.get("/ready") == (503, f"{where} has not seen this worker ask for work\n")
        code, said = await watched.get("/ready")
        assert code == 503
        assert said.startswith(f"{where} does not answer: ")
        assert (await watched.get("/health"))[0] == 200


async def test_a_port_that_is_taken_is_told(temporal: WorkflowEnvironment) -> None:
    port = free_port()
    taken = rf"cannot listen at 127\.0\.0\.1:{port}: .*; choose another with --listen"
    async with health.listening(temporal.client, str(port), free_port()):
        with pytest.raises(Unavailable, match=taken):
            await health.listening(temporal.client, str(port), free_port()).__aenter__()


@pytest.mark.parametrize(
    ("given", "meant"), [("9464", (HOST, 9464)), ("0.0.0.0:80", ("0.0.0.0", 80)), ("::1:80", ("::1", 80))]
)
def test_an_address_is_a_port_or_a_host_and_a_port(given: str, meant: tuple[str, int]) -> None:
    assert health.parsed(given) == meant


@pytest.mark.parametrize("given", ["", "http", "host:", "70000", "0", "-1", "1.5"])
def test_what_is_no_address_is_refused(given: str) -> None:
    with pytest.raises(BadInput, match="write HOST:PORT, or a PORT of"):
        health.parsed(given)


async def test_a_line_of_the_log_says_whose_work_it_is(watched: Watched) -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.addFilter(logs._Sentences())
    handler.setFormatter(logs._Json())
    logger = logging.getLogger("temporalio.activity")
    logger.addHandler(handler)
    try:
        await watched.fail(tenant="acme", pipeline="slow", parameters={"most": -1})
    finally:
        logger.removeHandler(handler)
    [line] = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert line["message"].startswith("tenant 'acme', pipeline 'slow': check 'small' ")
    assert {name: line[name] for name in ("level", "tenant", "pipeline", "environment", "step", "attempt")} == {
        "level": "warning",
        "tenant": "acme",
        "pipeline": "slow",
        "environment": "prod",
        "step": "small",
        "attempt": 1,
    }
    assert len(line["run"]) == 36
    assert "traceback" not in line
    with pytest.raises(BadInput, match="unknown form of logs 'xml'"):
        logs.configure(form="xml")

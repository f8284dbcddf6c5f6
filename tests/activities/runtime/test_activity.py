"""What every activity has of the decorator: requests that fit, heartbeats, interruption, and failures in a sentence."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from entrepot.activities.runtime import activity
from entrepot.activities.runtime.activity import Activities, context_of, implements
from entrepot.activities.runtime.context import ActivityContext
from entrepot.activities.runtime.tenant import PipelineSettings, Tenant, Tenants
from entrepot.backends import QueryTag
from entrepot.errors import BadInput, StepFailed, Unavailable
from entrepot.language.names import EVERY_PIPELINE
from entrepot.protocol.activities import Activity
from entrepot.protocol.maintenance import GcInput
from entrepot.protocol.messages import Context, StepRef, Target
from entrepot.registry import Registry

OF_RUN = Activity("probe", StepRef, str)
BY_HAND = Activity("look", Target, str)
REQUEST = StepRef(context=Context(tenant="acme", pipeline="shop", run="r1"), step="orders")
HOURS = "SELECT count(*) FROM range(10_000_000) a, range(10_000_000) b WHERE a.range % 7 = b.range % 11"


class Probes(Activities):
    """Activities that do what a test says."""

    act: Callable[[ActivityContext], str]

    @implements(OF_RUN)
    def probe(self, work: ActivityContext, request: StepRef) -> str:
        return self.act(work)

    @implements(BY_HAND)
    def look(self, work: ActivityContext, request: Target) -> str:
        return f"{request.pipeline} {context_of(request).run == ActivityEnvironment().info.workflow_run_id}"


@pytest.fixture
def probes(tmp_path: Path) -> Iterator[Probes]:
    backend = {"type": "duckdb", "path": str(tmp_path / "acme.duckdb")}
    tenant = Tenant("acme", backend, str(tmp_path / "lake"), {"shop": PipelineSettings("shop")})
    yield Probes(Tenants({"acme": tenant}, Registry({})))
    tenant.close()


async def test_it_returns_what_the_method_does(probes: Probes) -> None:
    probes.act = lambda work: f"{work.tenant.name} {work.tag.run} {work.tag.step}"
    assert await ActivityEnvironment().run(probes.probe, REQUEST) == "acme r1 orders"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (StepFailed("no"), "tenant 'acme', pipeline 'shop', probe 'orders': no (it is not tried again)"),
        (StepFailed("'orders' broke"), "tenant 'acme', pipeline 'shop': 'orders' broke (it is not tried again)"),
        (BadInput("tenant 'acme': 'orders' lacks it"), "pipeline 'shop': tenant 'acme': 'orders' lacks it"),
        (BadInput("tenant 'acme': no pipeline 'shop', 'orders'"), "tenant 'acme': no pipeline 'shop', 'orders'"),
        (Unavailable("away"), "tenant 'acme', pipeline 'shop', probe 'orders': away (attempt 1)"),
        (
            KeyboardInterrupt(),
            "tenant 'acme', pipeline 'shop', probe 'orders': KeyboardInterrupt (it is not tried again)",
        ),
    ],
)
async def test_a_failure_says_whose_it_is_where_the_sentence_does_not(
    probes: Probes, error: BaseException, said: str
) -> None:
    def act(work: ActivityContext) -> str:
        raise error

    probes.act = act
    with pytest.raises(ApplicationError) as caught:
        await ActivityEnvironment().run(probes.probe, REQUEST)
    assert caught.value.message == said
    assert caught.value.non_retryable == ("not tried" in said or isinstance(error, BadInput))


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        (None, "look takes one JSON object with 'environment', 'pipeline', 'tenant', and got nothing"),
        ({"tenant": "acme", "pipelin": "shop"}, "look: the field 'pipeline' is missing; unknown field 'pipelin'"),
        ({"tenant": "acne", "pipeline": "shop"}, "unknown tenant 'acne'; did you mean 'acme'? Known: 'acme'"),
    ],
)
async def test_what_people_start_by_itself_is_refused_in_a_sentence(probes: Probes, payload: Any, said: str) -> None:
    with pytest.raises(ApplicationError) as caught:
        await ActivityEnvironment().run(probes.look, payload)
    assert caught.value.message.startswith(said)
    assert (caught.value.type, caught.value.non_retryable) == ("BadInput", True)


async def test_what_people_start_by_itself_is_a_run_of_its_own(probes: Probes) -> None:
    payload: Any = {"tenant": "acme", "pipeline": "shop"}
    assert await ActivityEnvironment().run(probes.look, payload) == "shop True"


async def test_all_pipelines_have_a_name_in_failures() -> None:
    context = await ActivityEnvironment().run(_context, GcInput(tenant="acme"))
    assert (context.pipeline, context.environment) == (EVERY_PIPELINE, "prod")


async def _context(request: GcInput) -> Context:
    return context_of(request)


async def test_it_tells_how_far_it_has_come(probes: Probes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activity, "HEARTBEAT_SECONDS", 0.01)
    environment, beats = ActivityEnvironment(), list[Any]()
    environment.on_heartbeat = lambda *details: beats.extend(details)

    def act(work: ActivityContext) -> str:
        work.progress["orders"] = 7
        while not beats:
            time.sleep(0.001)
        return "done"

    probes.act = act
    assert await asyncio.wait_for(environment.run(probes.probe, REQUEST), 60) == "done"
    assert beats[0] == {"orders": 7}


async def test_a_statement_that_hangs_is_interrupted_when_it_is_cancelled(probes: Probes) -> None:
    environment, begun = ActivityEnvironment(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def act(work: ActivityContext) -> str:
        with work.session() as session:
            loop.call_soon_threadsafe(begun.set)
            connection: Any = session
            return str(connection._connection.execute(HOURS).fetchall())

    probes.act = act
    running = asyncio.ensure_future(environment.run(probes.probe, REQUEST))
    await asyncio.wait_for(begun.wait(), 60)
    await asyncio.sleep(0.2)
    environment.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(asyncio.shield(running), 60)
    backend = probes._tenants.get("acme").backend
    with backend.session(QueryTag("acme", "test", "test")):  # nobody holds it any more
        pass


async def test_however_many_wait_for_their_warehouses_another_begins(probes: Probes) -> None:
    many, begun, end = 100, threading.Semaphore(0), threading.Event()

    def act(work: ActivityContext) -> str:
        begun.release()
        end.wait(60)
        return "done"

    probes.act = act
    waiting = [asyncio.ensure_future(ActivityEnvironment().run(probes.probe, REQUEST)) for _ in range(many)]
    try:
        assert await asyncio.to_thread(lambda: all(begun.acquire(timeout=30) for _ in range(many)))
        assert await ActivityEnvironment().run(probes.look, Target(tenant="acme", pipeline="shop")) == "shop True"
    finally:
        end.set()
    assert await asyncio.gather(*waiting) == ["done"] * many

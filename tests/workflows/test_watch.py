"""Who is told that a promise to be fresh is broken, and kept again: on a real server, by a real worker."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import WorkflowExecutionStatus, WorkflowHandle
from temporalio.testing import WorkflowEnvironment

from entrepot.protocol.environments import WatchState
from entrepot.worker.config.settings import Settings
from entrepot.worker.config.tenant_schema import TenantSection
from entrepot.worker.schedules import watches
from entrepot.workflows.around import watch
from tests.conftest import House, serving
from tests.servers.webhooks import Webhooks, http_server
from tests.waiting import eventually

PIPELINES = {"promised": "tests.pipelines.promised:promised"}


@pytest.fixture
def webhook() -> Iterator[Webhooks]:
    with http_server() as server:
        yield server


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WHILE_NOT_FRESH", "SOONEST"):
        monkeypatch.setattr(watch, name, timedelta(seconds=0.5))


def tenant_of(state: Path) -> str:
    """Of one test alone: watches have ids of their own."""
    return f"acme-{state.name}".replace("_", "-")[:50].lower()


@asynccontextmanager
async def watched(temporal: WorkflowEnvironment, state: Path, **its: Any) -> AsyncIterator[House]:
    backend = {"type": "duckdb", "path": "acme.duckdb"}
    parameters = {"folder": str(state), "broken": str(state / "broken")}
    section = TenantSection.model_validate(
        {"backend": backend, "settings": {"promised": {"parameters": parameters, **its.pop("settings", {})}}, **its}
    )
    async with serving(temporal.client, Settings(None, state, PIPELINES, {tenant_of(state): section})) as house:
        yield house


async def started(house: House, state: Path) -> WorkflowHandle[Any, Any]:
    """A watch, as `entrepot schedules apply` starts it."""
    await watches.start(house.client, tenant_of(state), "promised", house.task_queue)
    return house.client.get_workflow_handle(watches.watch_workflow_id(tenant_of(state), "promised"))


async def known(its: WorkflowHandle[Any, Any]) -> WatchState:
    return WatchState.model_validate(await its.query("state"))


async def told(webhook: Webhooks, count: int) -> list[dict[str, Any]]:
    async def is_told() -> bool:
        return len(webhook.requests) >= count

    await eventually(is_told)
    assert len(webhook.requests) == count
    return [request.json for request in webhook.requests]


async def looks(its: WorkflowHandle[Any, Any], times: int) -> None:
    """Until it has looked again so often."""
    for _ in range(times):
        before = (await known(its)).look.next

        async def has_looked(before: str = before) -> bool:
            return (await known(its)).look.next != before

        await eventually(has_looked)


MODULE = """
from entrepot import Pipeline, Table

kept = Pipeline("kept")

@kept.ingest(fresh_within="30d")
def numbers():
    return [{"n": 1}]

@kept.transform(fresh_within="PROMISE")
def doubled(numbers: Table) -> Table:
    return numbers.mutate(twice=numbers.n * 2)
"""


async def test_a_breach_and_its_end_are_told_once_each(
    temporal: WorkflowEnvironment, tmp_path: Path, webhook: Webhooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is promised changes, so that nothing depends on how fast runs are."""
    monkeypatch.syspath_prepend(str(tmp_path))
    module, tenant = tmp_path / "kept.py", tenant_of(tmp_path)
    module.write_text(MODULE.replace("PROMISE", "1h"))
    section = TenantSection.model_validate(
        {"backend": {"type": "duckdb", "path": "acme.duckdb"}, "on_late": {"webhook": webhook.url}}
    )
    loaded = Settings(None, tmp_path, {"kept": "kept:kept"}, {tenant: section})
    async with serving(temporal.client, loaded, reload=True) as house:
        await watches.start(house.client, tenant, "kept", house.task_queue)
        its = house.client.get_workflow_handle(watches.watch_workflow_id(tenant, "kept"))
        await looks(its, 1)
        await house.run("kept", tenant)
        await its.signal("look")
        await looks(its, 1)
        assert ((await known(its)).breaches, webhook.requests) == ((), [])  # unknown, and then fresh
        module.write_text(MODULE.replace("PROMISE", "1s"))
        await its.signal("look")
        (late,) = await told(webhook, 1)
        assert (late["event"], late["tables"], late["environment"]) == ("late", ["doubled"], "prod")
        assert late["text"].startswith(f"kept for {tenant} in prod is late with 1 table: doubled; doubled (promised ")
        (reason,) = late["reasons"]
        assert reason.startswith(f"doubled (promised within 1s) since {late['since']} UTC: `numbers` last arrived at ")
        await looks(its, 3)
        (still,) = (await known(its)).breaches
        assert (still.table, still.since) == ("doubled", late["since"])
        module.write_text(MODULE.replace("PROMISE", "2h"))
        _, fresh = await told(webhook, 2)
        assert (fresh["event"], fresh["tables"], fresh["since"]) == ("fresh", ["doubled"], late["since"])
        assert fresh["reasons"][0].startswith("doubled: until ")
        assert (await known(its)).breaches == ()
        await house.run("kept", tenant)
        module.write_text(MODULE.replace("PROMISE", "1s"))
        await its.signal("look")
        *_, again = await told(webhook, 3)
        assert again["since"] > late["since"]
        keys = [request.headers["idempotency-key"] for request in webhook.requests]
        assert len(set(keys)) == 3
        assert keys[0].removesuffix("-late") == keys[1].removesuffix("-fresh")


async def test_who_begins_anew_tells_nobody_twice(
    temporal: WorkflowEnvironment, tmp_path: Path, webhook: Webhooks
) -> None:
    (tmp_path / "1.csv").write_text("id,amount\n1,10\n")
    async with watched(temporal, tmp_path, on_late={"webhook": webhook.url}) as house:
        await house.run("promised", tenant_of(tmp_path))
        its = await started(house, tmp_path)
        await told(webhook, 1)
        await its.terminate()
        its = await started(house, tmp_path)
        await looks(its, 2)
        assert [each.table for each in (await known(its)).breaches] == ["names"]
        await told(webhook, 1)
        await its.cancel()

        async def is_cancelled() -> bool:
            return (await its.describe()).status == WorkflowExecutionStatus.CANCELED

        await eventually(is_cancelled)


async def test_environments_are_those_of_which_hooks_are_told(
    temporal: WorkflowEnvironment, tmp_path: Path, webhook: Webhooks
) -> None:
    (tmp_path / "1.csv").write_text("id,amount\n1,10\n")
    its = {"on_late": [], "hooks_for": ["pr_*"], "settings": {"on_late": {"webhook": webhook.url}}}
    async with watched(temporal, tmp_path, **its) as house:
        for environment in ("prod", "dev", "pr_1"):
            await house.run("promised", tenant_of(tmp_path), environment=environment)
        watching = await started(house, tmp_path)
        (late,) = await told(webhook, 1)
        assert late["environment"] == "pr_1"
        await looks(watching, 2)
        await told(webhook, 1)


async def test_a_warehouse_that_is_away_makes_nothing_late(
    temporal: WorkflowEnvironment, tmp_path: Path, webhook: Webhooks
) -> None:
    (tmp_path / "acme.duckdb").mkdir()  # which no warehouse can be opened on
    (tmp_path / "1.csv").write_text("id,amount\n1,10\n")
    async with watched(temporal, tmp_path, on_late={"webhook": webhook.url}) as house:
        its = await started(house, tmp_path)

        async def has_failed() -> bool:
            return (await known(its)).look.failures > 2

        await eventually(has_failed)
        state = await known(its)
        assert (state.breaches, webhook.requests) == ((), [])
        assert "acme.duckdb" in state.look.error
        (tmp_path / "acme.duckdb").rmdir()
        await house.run("promised", tenant_of(tmp_path))
        await told(webhook, 1)
        assert (await known(its)).look.failures == 0


async def test_it_continues_as_new_with_what_it_knows(
    temporal: WorkflowEnvironment, tmp_path: Path, webhook: Webhooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "1.csv").write_text("id,amount\n1,10\n")
    async with watched(temporal, tmp_path, on_late={"webhook": webhook.url}) as house:
        await house.run("promised", tenant_of(tmp_path))
        its = await started(house, tmp_path)
        await told(webhook, 1)
        first = (await its.describe()).run_id
        before = await known(its)
        with monkeypatch.context() as patched:
            patched.setattr(watch, "is_long", lambda: watch.workflow.info().run_id == first)

            async def is_another() -> bool:
                return (await its.describe()).run_id != first

            await eventually(is_another)
        assert (await (await its.describe()).memo())["made_by"] == house.task_queue
        after = await known(its)
        assert [each.since for each in after.breaches] == [each.since for each in before.breaches]
        await looks(its, 2)
        await told(webhook, 1)

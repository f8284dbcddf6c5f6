"""Runs that something has caused: a publish, a source, new code; on a real server, with real workers."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from temporalio.api.enums.v1 import PendingActivityState
from temporalio.client import WorkflowExecutionStatus, WorkflowHandle
from temporalio.testing import WorkflowEnvironment

from entrepot.activities.runtime import triggers
from entrepot.protocol import activities
from entrepot.protocol.activities import Activity
from entrepot.protocol.triggers import TriggerSettings, TriggerState
from entrepot.worker import process
from entrepot.worker.config.settings import Settings
from entrepot.worker.config.tenant_schema import TenantSection
from entrepot.workflows.around import trigger
from entrepot.workflows.search_attributes import CAUSE
from tests.conftest import House, serving
from tests.servers.temporal import dev_server
from tests.waiting import eventually

PIPELINES = {name: f"tests.pipelines.{name}:{name}" for name in ("shop", "slow", "noticed")}


def acme(file: str = "acme.duckdb", **pipelines: Any) -> TenantSection:
    backend = {"type": "duckdb", "path": file}
    runs = sorted({"shop", "slow", *pipelines})
    return TenantSection.model_validate({"backend": backend, "pipelines": runs, "settings": pipelines})


@asynccontextmanager
async def triggered(
    temporal: WorkflowEnvironment, state: Path, other: str = "", **pipelines: Any
) -> AsyncIterator[House]:
    """A house in which pipelines have triggers. The tenant is of this test alone: triggers have ids of their own."""
    tenants = {own_name("acme", state): acme(**pipelines)} | ({other: acme("globex.duckdb")} if other else {})
    async with serving(temporal.client, Settings(None, state, PIPELINES, tenants)) as house:
        yield house


def own_name(name: str, state: Path) -> str:
    return f"{name}-{state.name}".replace("_", "-")[:50].lower()


def tenant_of(house: House) -> str:
    return next(iter(house.tenants.tenants))


async def started(house: House, pipeline: str) -> WorkflowHandle[Any, Any]:
    """A trigger, as `entrepot schedules apply` starts it."""
    tenant = tenant_of(house)
    settings = house.tenants.tenants[tenant].pipelines[pipeline].trigger
    assert settings is not None
    await triggers.start(house.client, tenant, pipeline, settings, house.task_queue)
    return handle(house, pipeline)


def handle(house: House, pipeline: str) -> WorkflowHandle[Any, Any]:
    return house.client.get_workflow_handle(triggers.trigger_workflow_id(tenant_of(house), pipeline))


async def state(its: WorkflowHandle[Any, Any]) -> TriggerState:
    return TriggerState.model_validate(await its.query("state"))


async def ask(house: House, declared: Activity[Any, Any], value: dict[str, Any]) -> list[dict[str, Any]]:
    answer: list[dict[str, Any]] = await house.client.execute_activity(
        declared.name,
        value,
        id=uuid.uuid4().hex,
        task_queue=house.task_queue,
        result_type=list,
        start_to_close_timeout=timedelta(minutes=1),
    )
    return answer


async def after_runs(its: WorkflowHandle[Any, Any], count: int) -> TriggerState:
    """What a trigger knows once so many of its runs have ended."""

    async def has_ended() -> TriggerState | None:
        try:
            found = await state(its)
        except Exception:  # it has not been started yet
            return None
        assert found.runs <= count
        return found if found.runs == count and found.running is None else None

    found = await eventually(has_ended)
    assert found is not None
    return found


async def runs_of(house: House, pipeline: str) -> list[Any]:
    """The runs that triggers have begun, each as it describes itself."""
    query = f"WorkflowType = 'Pipeline' AND Tenant = '{tenant_of(house)}' AND Pipeline = '{pipeline}'"
    found = [each async for each in house.client.list_workflows(query)]
    described = [await house.client.get_workflow_handle(each.id, run_id=each.run_id).describe() for each in found]
    return [each for each in described if CAUSE in each.typed_search_attributes]


async def test_a_publish_begins_one_run_that_says_why(temporal: WorkflowEnvironment, tmp_path: Path) -> None:
    its = {"trigger": {"published": ["shop"]}}
    async with triggered(temporal, tmp_path, slow=its) as house:
        tenant = tenant_of(house)
        first = await house.run("shop", tenant=tenant)  # nobody has applied anything: it is started
        assert first.outcome == "published"
        found = await after_runs(handle(house, "slow"), 1)
        assert found.pending == {}
        assert found.last.endswith(": done")

        async def is_listed() -> list[Any]:
            return await runs_of(house, "slow")

        (run,) = await eventually(is_listed)
        assert run.id == found.last.partition(",")[0]
        assert run.typed_search_attributes[CAUSE] == f"{tenant}/shop"
        why = (await run.memo())["why"]
        assert why.startswith(f"{tenant}/shop published {len(first.moved)} tables at ")
        assert first.run in why
        # The lists of runs and publishes say so, too.
        asked = {"tenant": tenant, "pipeline": "slow"}
        (row,) = await ask(house, activities.RUNS, asked)
        (publish,) = await ask(house, activities.HISTORY, asked)
        assert row["cause"] == publish["cause"] == f"trigger: {why}"
        # A run with nothing to do is no cause, nor is one that publishes elsewhere.
        assert (await house.run("shop", tenant=tenant)).outcome == "nothing to do"
        assert (await house.run("shop", tenant=tenant, environment="dev")).outcome == "published"
        # A rollback is one.
        await house.run("shop", tenant=tenant, parameters={"limit": 70.0})
        await after_runs(handle(house, "slow"), 2)
        rolled = await house.start("Rollback", {"tenant": tenant, "pipeline": "shop"})
        await rolled.result()
        found = await after_runs(handle(house, "slow"), 3)
        assert "was rolled back" in found.last


async def test_a_publish_of_another_tenant_who_granted_it(temporal: WorkflowEnvironment, tmp_path: Path) -> None:
    other = own_name("globex", tmp_path)
    async with triggered(temporal, tmp_path, other, slow={"trigger": {"published": [f"{other}/shop"]}}) as house:
        await house.run("shop", tenant=other)
        found = await after_runs(handle(house, "slow"), 1)
        assert f"since {other}/shop published" in found.last


async def test_what_is_told_twice_is_one_cause(temporal: WorkflowEnvironment, tmp_path: Path) -> None:
    async with triggered(temporal, tmp_path, slow={"trigger": {"published": ["shop"]}}) as house:
        its = await started(house, "slow")
        cause = {"of": f"{tenant_of(house)}/shop", "key": "run-1", "what": "it was told", "at": "2026-11-20T06:00:00"}
        for _ in range(3):
            await its.signal("happened", cause)
        await its.signal("happened", {**cause, "of": "somebody/else", "key": "2"})
        await its.signal("happened", {"nonsense": True})
        await after_runs(its, 1)
        # One that was terminated, and starts anew, does not begin that run again.
        before = (await state(its)).last.partition(",")[0]
        await its.terminate()
        await (await started(house, "slow")).signal("happened", cause)
        found = await after_runs(handle(house, "slow"), 1)
        assert found.last.partition(",")[0] == before
        assert len(await runs_of(house, "slow")) <= 1


async def test_what_happens_while_a_run_goes_on_is_one_more(temporal: WorkflowEnvironment, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    its = {"trigger": {"published": ["shop"]}, "parameters": {"until": str(gate)}}
    async with triggered(temporal, tmp_path, slow=its) as house:
        waiting = await started(house, "slow")
        cause = {"of": f"{tenant_of(house)}/shop", "what": "it published", "at": "2026-11-20T06:00:00"}
        await waiting.signal("happened", {**cause, "key": "0"})

        async def is_running() -> bool:
            return (await state(waiting)).running is not None

        await eventually(is_running)
        for number in range(1, 6):
            await waiting.signal("happened", {**cause, "key": str(number)})
        kept = await state(waiting)
        assert kept.pending[cause["of"]].count == 5
        gate.touch()
        found = await after_runs(waiting, 2)
        assert "it published (the last of 5 since 2026-11-20T06:00:00)" in found.last


async def test_paused_it_keeps_what_happens(temporal: WorkflowEnvironment, tmp_path: Path) -> None:
    async with triggered(temporal, tmp_path, slow={"trigger": {"published": ["shop"]}}) as house:
        its = await started(house, "slow")
        await its.signal("pause", "quarter end")
        cause = {"of": f"{tenant_of(house)}/shop", "key": "1", "what": "it published", "at": "2026-11-20T06:00:00"}
        await its.signal("happened", cause)
        kept = await state(its)
        assert (kept.paused, kept.runs, len(kept.pending)) == ("quarter end", 0, 1)
        await its.signal("resume")
        await after_runs(its, 1)


async def test_new_files_begin_a_run(temporal: WorkflowEnvironment, tmp_path: Path) -> None:
    files = tmp_path / "in"
    files.mkdir()
    parameters = {"folder": str(files)}
    its = {"trigger": {"source": "10s"}, "parameters": parameters}
    async with triggered(temporal, tmp_path, noticed=its) as house:
        settings = TriggerSettings(source=0.5)
        await triggers.start(house.client, tenant_of(house), "noticed", settings, house.task_queue)
        watching = handle(house, "noticed")
        (files / "a.csv").write_text("id\n1\n")
        found = await after_runs(watching, 1)
        assert "since the source of " in found.last
        assert found.last.endswith(": done")
        assert house.query("SELECT count(*) FROM noticed.events", tenant_of(house)) == [(1,)]
        (files / "b.csv").write_text("id\n2\n3\n")
        found = await after_runs(watching, 2)
        assert house.query("SELECT count(*) FROM noticed.events", tenant_of(house)) == [(3,)]
        assert "since the source of events has something new" in found.last


async def test_a_probe_that_fails_says_so_and_is_asked_less_often(
    temporal: WorkflowEnvironment, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    broken.touch()
    parameters = {"folder": str(tmp_path), "broken": str(broken)}
    async with triggered(temporal, tmp_path, noticed={"trigger": {"source": "10s"}, "parameters": parameters}) as house:
        settings = TriggerSettings(source=0.2)
        await triggers.start(house.client, tenant_of(house), "noticed", settings, house.task_queue)
        watching = handle(house, "noticed")

        async def has_failed() -> TriggerState | None:
            found = await state(watching)
            return found if "source" in found.looked and found.looked["source"].failures >= 3 else None

        found = await eventually(has_failed)
        assert found is not None
        assert found.runs == 0
        looked = found.looked["source"]
        assert "answered 503" in looked.error
        assert looked.next > looked.since
        # Other causes still do what they do.
        broken.unlink()
        await after_runs(watching, 1)
        assert (await state(watching)).looked["source"].failures == 0


async def test_cancelled_while_it_looks_it_ends_though_the_look_ends_well(
    temporal: WorkflowEnvironment, tmp_path: Path
) -> None:
    waits = tmp_path / "waits"
    waits.touch()
    parameters = {"folder": str(tmp_path), "waits": str(waits)}
    async with triggered(temporal, tmp_path, noticed={"trigger": {"source": "10s"}, "parameters": parameters}) as house:
        watching = await started(house, "noticed")

        async def looks() -> bool:
            described = (await watching.describe()).raw_description
            return any(
                each.state == PendingActivityState.PENDING_ACTIVITY_STATE_STARTED
                for each in described.pending_activities
            )

        await eventually(looks)
        await watching.cancel()

        async def is_cancel_asked() -> bool:
            described = (await watching.describe()).raw_description
            return any(
                each.state == PendingActivityState.PENDING_ACTIVITY_STATE_CANCEL_REQUESTED
                for each in described.pending_activities
            )

        await eventually(is_cancel_asked)
        waits.unlink()

        async def is_cancelled() -> bool:
            return (await watching.describe()).status == WorkflowExecutionStatus.CANCELED

        await eventually(is_cancelled)


async def test_a_source_that_cannot_be_probed_is_named(temporal: WorkflowEnvironment, tmp_path: Path) -> None:
    async with triggered(temporal, tmp_path, shop={"trigger": {"source": "10s"}}) as house:
        its = await started(house, "shop")

        async def has_failed() -> str:
            found = await state(its)
            return found.looked["source"].error if "source" in found.looked else ""

        said = await eventually(has_failed)
        assert "ingest 'source'" in said
        assert "give the step a `probe=`" in said


MODULE = """
from entrepot import Pipeline, Table

deployed_shop = Pipeline("deployed_shop")

@deployed_shop.ingest
def numbers():
    return [{"n": 1}]

@deployed_shop.transform
def doubled(numbers: Table) -> Table:
    return numbers.mutate(twice=numbers.n * FACTOR)
"""


async def test_new_code_begins_a_run(
    temporal: WorkflowEnvironment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trigger, "CODE_EVERY", timedelta(seconds=0.3))
    monkeypatch.syspath_prepend(str(tmp_path))
    module = tmp_path / "deployed_shop.py"
    module.write_text(MODULE.replace("FACTOR", "2"))
    name = own_name("acme", tmp_path)
    section = TenantSection.model_validate(
        {
            "backend": {"type": "duckdb", "path": "acme.duckdb"},
            "pipelines": ["deployed_shop"],
            "settings": {"deployed_shop": {"trigger": {"deployed": True}}},
        }
    )
    references = {"deployed_shop": "deployed_shop:deployed_shop"}
    loaded = Settings(None, tmp_path, references, {name: section})
    async with serving(temporal.client, loaded, reload=True) as house:
        its = await started(house, "deployed_shop")

        async def is_known() -> bool:
            return "code" in (await state(its)).looked

        await eventually(is_known)
        assert (await state(its)).runs == 0  # what is there is no news
        module.write_text(MODULE.replace("FACTOR", "20"))
        found = await after_runs(its, 1)
        assert "since new code was deployed: done" in found.last
        assert house.query("SELECT twice FROM deployed_shop.doubled", name) == [(20,)]


async def test_a_conflict_is_no_lost_cause(temporal: WorkflowEnvironment, tmp_path: Path) -> None:
    """Its run meets one that publishes first: it begins again."""
    gate = tmp_path / "gate"
    its = {"trigger": {"published": ["shop"]}, "parameters": {"until": str(gate)}}
    async with triggered(temporal, tmp_path, slow=its) as house:
        tenant = tenant_of(house)
        waiting = await started(house, "slow")
        cause = {"of": f"{tenant}/shop", "key": "0", "what": "it published", "at": "2026-11-20T06:00:00"}
        await waiting.signal("happened", cause)

        async def is_planned() -> bool:
            running = (await state(waiting)).running
            if running is None:
                return False
            try:
                plan = await house.client.get_workflow_handle(running.workflow_id).query("plan")
            except Exception:
                return False
            return plan is not None and bool(plan["moves"])

        await eventually(is_planned)
        other = await house.start(
            "Pipeline",
            {"tenant": tenant, "pipeline": "slow", "parameters": {"until": "", "seconds": 0.0}},
        )
        await other.result()
        gate.touch()
        found = await after_runs(waiting, 1)
        assert found.last.endswith(": done")


async def test_it_continues_as_new_while_a_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trigger, "WATCH", timedelta(seconds=0.2))
    gate = tmp_path / "gate"
    its = {"trigger": {"published": ["shop"]}, "parameters": {"until": str(gate)}}
    soon = ["--dynamic-config-value", "limit.historyCount.suggestContinueAsNew=50"]
    async with dev_server(dev_server_extra_args=soon) as server, AsyncExitStack() as stack:
        await process.register_search_attributes(server.client)
        house = await stack.enter_async_context(triggered(server, tmp_path, slow=its))
        waiting = await started(house, "slow")
        of = f"{tenant_of(house)}/shop"
        cause = {"of": of, "key": "0", "what": "it published", "at": "2026-11-20T06:00:00"}
        await waiting.signal("happened", cause)

        async def is_running() -> bool:
            return (await state(waiting)).running is not None

        await eventually(is_running)
        before = (await waiting.describe()).run_id
        for number in range(50):
            await waiting.signal("happened", {**cause, "key": f"more {number}"})

        async def is_another() -> bool:
            return (await waiting.describe()).run_id != before

        await eventually(is_another)
        kept = await state(waiting)
        assert kept.running is not None
        assert kept.pending[of].count == 50
        memo = await (await waiting.describe()).memo()
        assert memo["made_by"] == house.task_queue
        assert TriggerSettings.model_validate(memo["trigger"]) == kept.settings
        gate.touch()
        found = await after_runs(waiting, 2)
        assert found.pending == {}


async def test_cancelled_it_ends_and_its_run_goes_on(temporal: WorkflowEnvironment, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    its = {"trigger": {"published": ["shop"]}, "parameters": {"until": str(gate)}}
    async with triggered(temporal, tmp_path, slow=its) as house:
        waiting = await started(house, "slow")
        cause = {"of": f"{tenant_of(house)}/shop", "key": "0", "what": "it published", "at": "2026-11-20T06:00:00"}
        await waiting.signal("happened", cause)

        async def run() -> str:
            running = (await state(waiting)).running
            return running.workflow_id if running else ""

        begun = house.client.get_workflow_handle(await eventually(run))
        await waiting.cancel()

        async def is_cancelled() -> bool:
            return (await waiting.describe()).status == WorkflowExecutionStatus.CANCELED

        await eventually(is_cancelled)
        gate.touch()
        assert (await begun.result())["outcome"] == "published"


PROMISED = """
from pathlib import Path
from entrepot import Pipeline, Table

PIPELINE = Pipeline("PIPELINE", parameters={"broken": ""})

@PIPELINE.ingest
def numbers(broken: str):
    if broken and Path(broken).exists():
        raise ValueError("the service says no")
    return [{"n": 1}]

@PIPELINE.transform(fresh_within="1h")
def doubled(numbers: Table) -> Table:
    return numbers.mutate(twice=numbers.n * 2)

@PIPELINE.transform
def unpromised(numbers: Table) -> Table:
    return numbers.mutate(thrice=numbers.n * 3)
"""
MORE = """
@PIPELINE.transform(fresh_within="2h")
def more(doubled: Table) -> Table:
    return doubled.mutate(four=doubled.twice * 2)
"""


@asynccontextmanager
async def promising(
    temporal: WorkflowEnvironment, state: Path, monkeypatch: pytest.MonkeyPatch, pipeline: str, **its: Any
) -> AsyncIterator[tuple[House, Path]]:
    """A pipeline that runs for its promises alone, looked at often; and its module."""
    for name in ("AT_LEAST", "SOONEST", "FIRST_PAUSE"):
        monkeypatch.setattr(trigger, name, timedelta(seconds=0.3))
    monkeypatch.syspath_prepend(str(state))
    module = state / f"{pipeline}.py"
    module.write_text(PROMISED.replace("PIPELINE", pipeline))
    section = TenantSection.model_validate(
        {
            "backend": {"type": "duckdb", "path": "acme.duckdb"},
            "settings": {
                pipeline: {"trigger": {"promises": True, **its}, "parameters": {"broken": str(state / "broken")}}
            },
        }
    )
    loaded = Settings(None, state, {pipeline: f"{pipeline}:{pipeline}"}, {own_name("acme", state): section})
    async with serving(temporal.client, loaded, reload=True) as house:
        yield house, module


async def test_only_what_a_promise_needs_is_run(
    temporal: WorkflowEnvironment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with promising(temporal, tmp_path, monkeypatch, "kept_shop") as (house, module):
        its = await started(house, "kept_shop")
        found = await after_runs(its, 1)  # nothing was there: it is not known to be fresh
        assert found.last.endswith("since to keep the promise of doubled: 1h: done")
        shown = "SELECT view_name FROM duckdb_views() WHERE schema_name = 'kept_shop' ORDER BY ALL"
        assert house.query(shown, tenant_of(house)) == [("doubled",), ("numbers",)]
        module.write_text((PROMISED + MORE).replace("PIPELINE", "kept_shop"))
        found = await after_runs(its, 2)
        assert found.last.endswith("since to keep the promise of more: 2h: done")
        assert house.query(shown, tenant_of(house)) == [("doubled",), ("more",), ("numbers",)]
        # What is fresh is not run, however often it is looked at.
        for _ in range(3):
            before = (await state(its)).looked["promise"].next

            async def has_looked(before: str = before) -> bool:
                return (await state(its)).looked["promise"].next != before

            await eventually(has_looked)
        assert ((await state(its)).runs, (await state(its)).tried) == (2, {})

        async def is_listed() -> bool:
            return len(await runs_of(house, "kept_shop")) == 2

        await eventually(is_listed)
        assert {each.typed_search_attributes[CAUSE] for each in await runs_of(house, "kept_shop")} == {"promise"}
        rows = await ask(house, activities.RUNS, {"tenant": tenant_of(house), "pipeline": "kept_shop"})
        assert rows[0]["cause"] == "trigger: to keep the promise of more: 2h"


async def test_what_cannot_be_kept_is_tried_less_and_less_often_and_elsewhere_than_in_prod(
    temporal: WorkflowEnvironment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken").touch()
    async with promising(temporal, tmp_path, monkeypatch, "broken_shop", environment="dev") as (house, _):
        its = await started(house, "broken_shop")

        async def is_tried() -> TriggerState | None:
            found = await state(its)
            return found if "doubled" in found.tried and found.tried["doubled"].times >= 3 else None

        found = await eventually(is_tried)
        assert found is not None
        assert found.runs >= 3
        (tmp_path / "broken").unlink()

        async def is_kept() -> bool:
            found = await state(its)
            return found.last.endswith(": done") and not found.tried

        await eventually(is_kept)
        shown = "SELECT DISTINCT schema_name FROM duckdb_views() WHERE schema_name LIKE 'broken_shop%'"
        assert house.query(shown, tenant_of(house)) == [("broken_shop__dev",)]
        rows = await ask(house, activities.RUNS, {"tenant": tenant_of(house), "pipeline": "broken_shop"})
        assert {row["environment"] for row in rows} == {"dev"}
        assert "the service says no" in rows[-1]["what"]


def test_its_state_is_small_whatever_happens() -> None:
    settings = TriggerSettings(published=("acme/shop",), source=60, deployed=True)
    its = TriggerState(tenant="acme", pipeline="flights", settings=settings)
    from entrepot.protocol.triggers import Cause

    for number in range(5000):
        its = its.told(Cause(of="acme/shop", key=str(number), what="x" * 200, at="2026-11-20T06:00:00"))
    assert len(json.dumps(its.model_dump(mode="json"))) < 10_000
    assert its.pending["acme/shop"].count == 5000

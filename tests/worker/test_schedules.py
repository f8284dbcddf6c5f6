"""Schedules against a real Temporal server, and the real `temporal` command beside us."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionExecutionStartWorkflow,
    ScheduleActionStartWorkflow,
    ScheduleIntervalSpec,
    ScheduleSpec,
    ScheduleUpdate,
    ScheduleUpdateInput,
    WorkflowExecutionStatus,
)

from entrepot.errors import BadInput
from entrepot.worker import process
from entrepot.worker.config.settings import Settings, local
from entrepot.worker.config.tenant_schema import OVERLAPS, TenantSection
from entrepot.worker.local.dev import temporal_binary
from entrepot.worker.payloads.server import CodecServer
from entrepot.worker.process import create
from entrepot.worker.schedules import cron, reconcile
from entrepot.worker.schedules.changes import Change
from tests.servers.temporal import dev_server
from tests.waiting import eventually

TEMPORAL = temporal_binary()


def settings(
    *its: dict[str, Any],
    tenant: str = "acme",
    state: Path = Path("state"),
    gc: Mapping[str, Any] = {},
    **references: str,
) -> Settings:
    section = TenantSection.model_validate(
        {
            "backend": {"type": "duckdb", "path": "x.duckdb"},
            "schedules": [{"pipeline": "flights", **each} for each in its],
            "gc": gc,
        }
    )
    return Settings(Path("tenants.toml"), state, references, {tenant: section})


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with dev_server() as environment:
        yield environment.client


async def cli(client: Client, *arguments: str) -> str:
    with CodecServer("127.0.0.1", 0, "").serving() as codec:
        process = await asyncio.create_subprocess_exec(
            TEMPORAL,
            *arguments,
            "--address",
            client.service_client.config.target_host,
            "--codec-endpoint",
            codec,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return out.decode()


async def actions(client: Client, loaded: Settings) -> dict[str, str]:
    return {change.id: change.action for change in await reconcile.plan(client, loaded)}


async def listed(client: Client, ids: set[str]) -> None:
    """Waits for the list of schedules, which the server keeps apart from the schedules, a moment behind."""

    async def is_so() -> bool:
        return {each.id async for each in await client.list_schedules()} == ids

    await eventually(is_so)


EVERYTHING = (
    {"cron": "*/15 6-9 * * mon-fri", "time_zone": "Europe/Zurich", "jitter": "5m", "catch_up": "6h"},
    {
        "every": "90m",
        "environment": "dev",
        "overlap": "buffer_one",
        "select": "a+",
        "parameters": {"x": 1.5, "é": ["ö"]},
    },
    {"cron": "@daily", "name": "nightly", "paused": True},
)


async def test_apply_makes_them_and_a_second_time_changes_nothing(client: Client) -> None:
    loaded = settings(*EVERYTHING)
    ids = ["acme/flights", "acme/flights/dev", "acme/flights#nightly", "acme:gc"]
    assert await actions(client, loaded) == dict.fromkeys(ids, "create")
    assert [each.action for each in await reconcile.apply(client, loaded)] == ["create"] * 4
    again = await reconcile.apply(client, loaded)
    assert [(each.action, each.drift) for each in again] == [("unchanged", ())] * 4
    assert [each.paused for each in again] == [None, None, reconcile.PAUSED_NOTE, None]
    for id in ids:
        assert (await client.get_schedule_handle(id).describe()).info.last_updated_at is None


async def test_each_tenants_garbage_is_collected_by_itself(client: Client) -> None:
    kept = {"every": "6h", "keep_days": 30.0}
    (created,) = await reconcile.apply(client, settings(gc=kept))
    assert created.sentence == "+ acme:gc: create, every 6h"
    (same,) = await reconcile.apply(client, settings(gc=kept))
    assert same.action == "unchanged"
    action = (await client.get_schedule_handle("acme:gc").describe()).schedule.action
    assert isinstance(action, ScheduleActionStartWorkflow)
    assert (action.workflow, action.id) == ("Gc", "acme:gc")
    assert await client.data_converter.decode(action.args) == [{"tenant": "acme", "keep_days": 30.0}]
    (changed,) = await reconcile.plan(client, settings())
    assert {each.what for each in changed.drift} == {"when", "input"}


@pytest.mark.parametrize("overlap", OVERLAPS)
async def test_every_overlap_policy_arrives(client: Client, overlap: str) -> None:
    loaded = settings({"every": "1h", "overlap": overlap})
    await reconcile.apply(client, loaded)
    assert await actions(client, loaded) == {"acme/flights": "unchanged", "acme:gc": "unchanged"}
    described = await client.get_schedule_handle("acme/flights").describe()
    assert described.schedule.policy.overlap.name == overlap.upper()


async def test_cron_is_read_as_the_server_reads_it(client: Client) -> None:
    """What the server makes of an expression, `cron.parse` makes of it; and what is written back means the same."""
    chance = random.Random(7)

    def field(low: int, high: int) -> str:
        parts = []
        for _ in range(chance.randint(1, 3)):
            first, last = sorted(chance.sample(range(low, high + 1), 2))
            step = chance.randint(1, high)
            parts.append(
                chance.choice(
                    ["*", f"*/{step}", f"{first}", f"{first}-{last}", f"{first}-{last}/{step}", f"{first}/{step}"]
                )
            )
        return ",".join(parts)

    expressions = [
        *cron.SHORTHANDS,
        "0 0 * * 7",
        "0 0 * * 5-7",
        "0 0 * * 0-7",
        "0 0 * * 1-7/2",
        "0 0 * * sun-sat",
        "0 0 29 feb *",
        *(" ".join([field(0, 59), field(0, 23), field(1, 28), field(1, 12), field(0, 7)]) for _ in range(60)),
    ]
    action = ScheduleActionStartWorkflow("Pipeline", id="x", task_queue="x")

    async def as_server(number: int, spec: ScheduleSpec) -> str:
        handle = await client.create_schedule(f"{number}", Schedule(action, spec))
        described = await handle.describe()
        await handle.delete()
        (calendar,) = described.schedule.spec.calendars
        return cron.text(calendar)

    for number, expression in enumerate(expressions):
        ours = cron.parse(expression)
        theirs = await as_server(number, ScheduleSpec(cron_expressions=[expression]))
        assert cron.text(ours) == theirs, expression
        assert await as_server(number, ScheduleSpec(calendars=[ours])) == theirs, expression
        assert await as_server(number, ScheduleSpec(cron_expressions=[theirs])) == theirs, expression


async def test_the_server_refuses_what_we_refuse(client: Client) -> None:
    action = ScheduleActionStartWorkflow("Pipeline", id="x", task_queue="x")
    for expression in (
        "60 * * * *",
        "5-1 * * * *",
        "*/0 * * * *",
        "0,,1 * * * *",
        "0 0 L * *",
        "0 0 0 * *",
        "0 0 * * 8",
    ):
        with pytest.raises(ValueError, match="not a valid cron expression"):
            cron.parse(expression)
        with pytest.raises(Exception, match="Invalid schedule spec"):
            await client.create_schedule("x", Schedule(action, ScheduleSpec(cron_expressions=[expression])))


async def test_what_somebody_changed_with_the_cli_is_shown_and_put_right(client: Client) -> None:
    loaded = settings({"cron": "0 6 * * *", "time_zone": "Europe/Zurich"})
    await reconcile.apply(client, loaded)
    await cli(
        client,
        *("schedule", "update", "--schedule-id", "acme/flights", "--cron", "0 7 * * *", "--workflow-id", "mine"),
        *("--type", "Pipeline", "--task-queue", "entrepot", "--input", '{"tenant": "acme", "pipeline": "flights"}'),
        *("--overlap-policy", "AllowAll", "--run-timeout", "1h", "--pause-on-failure"),
    )
    change, collecting = await reconcile.plan(client, loaded)
    assert (change.action, collecting.action) == ("update", "unchanged")
    assert {each.what: (each.actual, each.desired) for each in change.drift} == {
        "when": ("0 7 * * *", "0 6 * * *"),
        "time zone": ("UTC", "Europe/Zurich"),
        "overlap": ("allow_all", "skip"),
        "catch up": ("365d", "1d"),
        "workflow id": ("mine", "acme/flights"),
        "summary": ("none", "flights for acme in prod, by schedule"),
        "search attributes of its runs": ("none", "Tenant=acme Pipeline=flights Environment=prod"),
        "fairness key": ("none", "acme"),
        "run timeout": ("1:00:00", "none"),
        "pause on failure": ("True", "none"),
    }
    assert await reconcile.apply(client, loaded) == [change, collecting]
    assert await actions(client, loaded) == {"acme/flights": "unchanged", "acme:gc": "unchanged"}


async def test_the_same_written_differently_is_no_drift(client: Client) -> None:
    loaded = settings({"cron": "0 6 * * mon-fri"}, {"every": "1d", "name": "b"})
    await reconcile.apply(client, loaded)

    def other_words(current: ScheduleUpdateInput) -> ScheduleUpdate:
        spec = current.description.schedule.spec
        if spec.calendars:
            spec.calendars, spec.cron_expressions = [], ["00 06 * * 1,2,3,4,5"]
        return ScheduleUpdate(current.description.schedule)

    for id in ("acme/flights", "acme/flights#b"):
        await client.get_schedule_handle(id).update(other_words)
    ids = ["acme/flights", "acme/flights#b", "acme:gc"]
    assert await actions(client, loaded) == dict.fromkeys(ids, "unchanged")


async def test_a_change_of_the_file_is_an_update(client: Client) -> None:
    await reconcile.apply(client, settings({"every": "1h", "parameters": {"x": 1}}))
    change, collecting = await reconcile.apply(
        client, settings({"cron": "@hourly", "parameters": {"x": 2}, "jitter": "90s"})
    )
    given = '{"parameters": {"x": %d}, "pipeline": "flights", "tenant": "acme"}'
    assert [str(each) for each in change.drift] == [
        "when: every 1h → 0 * * * *",
        "jitter: none → 90s",
        f"input: {given % 1} → {given % 2}",
    ]
    assert collecting.action == "unchanged"
    described = await client.get_schedule_handle("acme/flights").describe()
    assert not described.schedule.spec.intervals


async def test_pausing_and_resuming_is_the_operators(client: Client) -> None:
    await reconcile.apply(client, settings({"every": "1h"}, {"every": "1h", "environment": "dev", "paused": True}))
    await cli(client, "schedule", "toggle", "-s", "acme/flights", "--pause", "--reason", "quarter end")
    await cli(client, "schedule", "toggle", "-s", "acme/flights/dev", "--unpause", "--reason", "go")
    changed = settings({"every": "2h"}, {"every": "2h", "environment": "dev", "paused": True})
    for loaded, action in ((changed, "update"), (changed, "unchanged")):
        found = [(each.action, each.paused) for each in await reconcile.apply(client, loaded)]
        assert found == [(action, "quarter end"), (action, None), ("unchanged", None)]


async def test_only_what_entrepot_made_is_deleted_or_changed(client: Client) -> None:
    theirs = Schedule(
        ScheduleActionStartWorkflow("Pipeline", id="x", task_queue="entrepot"),
        ScheduleSpec(intervals=[ScheduleIntervalSpec(timedelta(hours=1))]),
    )
    await client.create_schedule("acme/other", theirs)
    await client.create_schedule("globex/flights", theirs, memo={"made_by": "somebody"})
    await reconcile.apply(client, settings({"every": "1h"}, {"every": "1h", "environment": "dev"}))
    await listed(client, {"acme/other", "globex/flights", "acme/flights", "acme/flights/dev", "acme:gc"})
    loaded = settings({"every": "1h"})
    loaded = Settings(
        Path("tenants.toml"), loaded.state, {}, {**loaded.tenants, **settings({"every": "2h"}, tenant="globex").tenants}
    )
    assert {each.id: each.action for each in await reconcile.apply(client, loaded)} == {
        "acme/flights": "unchanged",
        "acme/flights/dev": "delete",
        "globex/flights": "foreign",
        "acme:gc": "unchanged",
        "globex:gc": "create",
    }
    await listed(client, {"acme/other", "globex/flights", "acme/flights", "acme:gc", "globex:gc"})
    assert (await client.get_schedule_handle("globex/flights").describe()).info.last_updated_at is None


async def test_a_tenant_that_left_loses_its_schedules(client: Client) -> None:
    await reconcile.apply(client, settings({"every": "1h"}, tenant="globex"))
    await listed(client, {"globex/flights", "globex:gc"})
    assert await actions(client, settings()) == {
        "acme:gc": "create",
        "globex/flights": "delete",
        "globex:gc": "delete",
    }
    await reconcile.apply(client, settings())
    await listed(client, {"acme:gc"})
    assert await actions(client, settings()) == {"acme:gc": "unchanged"}


async def test_without_a_tenant_file_nothing_is_deleted(client: Client, tmp_path: Path) -> None:
    await reconcile.apply(client, settings({"every": "1h"}))
    await listed(client, {"acme/flights", "acme:gc"})
    with pytest.raises(BadInput, match=r"^there is no tenant file here, .* name it with --tenants$"):
        await reconcile.apply(client, local(str(tmp_path)))
    assert await actions(client, settings({"every": "1h"})) == {"acme/flights": "unchanged", "acme:gc": "unchanged"}


PIPELINE = """
from entrepot import Pipeline, Table

flights = Pipeline("flights", parameters={"least": 0})

@flights.ingest
def numbers():
    yield [{"id": n} for n in range(10)]

@flights.transform
def chosen(numbers: Table, least: int) -> Table:
    return numbers.filter(numbers.id >= least)
"""


async def test_the_cli_lists_describes_triggers_and_the_run_works(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "scheduled_flights.py").write_text(PIPELINE)
    monkeypatch.syspath_prepend(str(tmp_path))
    loaded = settings(
        {"cron": "0 6 * * *", "environment": "dev", "parameters": {"least": 4}},
        state=tmp_path,
        flights="scheduled_flights:flights",
    )
    await reconcile.apply(client, loaded)
    await listed(client, {"acme/flights/dev", "acme:gc"})
    for its, ids in (
        ("Tenant = 'acme'", ["acme/flights/dev", "acme:gc"]),
        ("Environment = 'dev'", ["acme/flights/dev"]),
    ):
        entries = json.loads(await cli(client, "schedule", "list", "-o", "json", "--query", its))
        assert sorted(entry["scheduleId"] for entry in entries) == ids
    assert "0 6 * * *" in await cli(client, "schedule", "describe", "-s", "acme/flights/dev")

    async with create(client, loaded.connect()):
        await cli(client, "schedule", "trigger", "-s", "acme/flights/dev")
        started: list[str] = []

        async def is_started() -> bool:
            described = await client.get_schedule_handle("acme/flights/dev").describe()
            for each in described.info.recent_actions:
                assert isinstance(each.action, ScheduleActionExecutionStartWorkflow)
                started.append(each.action.workflow_id)
            return bool(started)

        await eventually(is_started)
        run = client.get_workflow_handle(started[0])
        summary = await run.result()
    assert {step["name"]: step["rows"] for step in summary["steps"]} == {"numbers": 10, "chosen": 6}
    described = await run.describe()
    assert described.id.startswith("acme/flights/dev-20")
    assert await described.static_summary() == "flights for acme in dev, by schedule"
    names = {pair.key.name: pair.value for pair in described.typed_search_attributes}
    assert (names["Tenant"], names["Pipeline"], names["Environment"]) == ("acme", "flights", "dev")
    assert "TemporalScheduledStartTime" in names
    assert described.raw_description.workflow_execution_info.priority.fairness_key == "acme"


async def test_a_hundred_at_once(client: Client) -> None:
    tenants = {f"t{n}": settings({"every": "1h"}, tenant=f"t{n}").tenants[f"t{n}"] for n in range(100)}
    loaded = Settings(Path("tenants.toml"), Path("state"), {}, tenants)
    ids = [f"t{n}{its}" for n in range(100) for its in ("/flights", ":gc")]
    assert {each.id: each.action for each in await reconcile.apply(client, loaded)} == dict.fromkeys(ids, "create")
    assert await actions(client, loaded) == dict.fromkeys(ids, "unchanged")


def triggered(tmp_path: Path, **pipelines: Mapping[str, Any]) -> Settings:
    section = TenantSection.model_validate(
        {
            "backend": {"type": "duckdb", "path": "x.duckdb"},
            "pipelines": sorted({"shop", "flights", *pipelines}),
            "settings": pipelines,
        }
    )
    references = {"shop": "tests.pipelines.shop:shop", "flights": "tests.pipelines.slow:slow"}
    return Settings(Path("tenants.toml"), tmp_path, references, {"acme": section})


async def test_triggers_are_reconciled_as_schedules_are(client: Client, tmp_path: Path) -> None:
    id, wanted = "acme/flights:trigger", {"trigger": {"published": ["shop"], "debounce": "2m"}}
    loaded = triggered(tmp_path, flights=wanted)
    await process.register_search_attributes(client)

    def of_trigger(changes: Sequence[Change]) -> Change:
        (found,) = (change for change in changes if change.id == id)
        return found

    created = of_trigger(await reconcile.apply(client, loaded))
    assert created.sentence == f"+ {id}: create, when acme/shop published, once it is calm for 2m"
    assert of_trigger(await reconcile.apply(client, loaded)).action == "unchanged"
    handle = client.get_workflow_handle(id)
    async with create(client, loaded.connect()):
        await handle.signal("pause", "not now")
        cause = {"of": "acme/shop", "key": "1", "what": "it published", "at": "2026-11-20T06:00:00"}
        await handle.signal("happened", cause)
        more = triggered(tmp_path, flights={"trigger": {"published": ["shop"], "deployed": True, "quiet": "1h"}})
        changed = of_trigger(await reconcile.apply(client, more))
        assert changed.sentence == (f"~ {id}: update, deployed: no → yes; debounce: 2m → none; quiet: none → 1h")

        async def is_done() -> bool:
            return of_trigger(await reconcile.plan(client, more)).action == "unchanged"

        await eventually(is_done)
        state = await handle.query("state")
        assert (state["paused"], list(state["pending"])) == ("not now", ["acme/shop"])  # what it knew, it knows
        gone = of_trigger(await reconcile.apply(client, triggered(tmp_path)))
        assert gone.action == "delete"

        async def is_gone() -> bool:
            return (await handle.describe()).status == WorkflowExecutionStatus.CANCELED

        await eventually(is_gone)
        ids = {change.id for change in await reconcile.plan(client, triggered(tmp_path))}
        assert ids == {"acme:gc"}


async def test_a_workflow_of_somebody_else_is_left_alone(client: Client, tmp_path: Path) -> None:
    await client.start_workflow("Other", id="acme/flights:trigger", task_queue="elsewhere")
    loaded = triggered(tmp_path, flights={"trigger": {"deployed": True}})
    (foreign,) = (change for change in await reconcile.apply(client, loaded) if change.is_workflow)
    assert foreign.action == "foreign"
    assert foreign.sentence.endswith("Delete it: temporal workflow terminate --workflow-id acme/flights:trigger")


async def test_a_watch_is_made_where_something_is_promised_and_somebody_is_told(client: Client, tmp_path: Path) -> None:
    id = "acme/promised:freshness"

    def watching(hook: Mapping[str, Any] | None) -> Settings:
        backend = {"type": "duckdb", "path": "x.duckdb"}
        section = TenantSection.model_validate({"backend": backend} | ({"on_late": hook} if hook else {}))
        references = {name: f"tests.pipelines.{name}:{name}" for name in ("promised", "shop")}
        references["elsewhere"] = "no_such_module_here:elsewhere"
        return Settings(Path("tenants.toml"), tmp_path, references, {"acme": section})

    await process.register_search_attributes(client)
    assert await actions(client, watching(None)) == {"acme:gc": "create"}
    told = watching({"webhook": "https://acme.example/late"})
    changes = {change.id: change for change in await reconcile.apply(client, told)}
    # `shop` promises nothing; what cannot be imported here may: the workers know.
    assert sorted(changes) == ["acme/elsewhere:freshness", id, "acme:gc"]
    assert changes[id].sentence == f"+ {id}: create, tells when a promise to be fresh is broken, and kept again"
    assert await actions(client, told) == dict.fromkeys(changes, "unchanged")
    handle = client.get_workflow_handle(id)
    async with create(client, told.connect()):
        assert {change.action for change in await reconcile.apply(client, watching(None)) if change.is_workflow} == {
            "delete"
        }

        async def are_gone() -> bool:
            return await actions(client, watching(None)) == {"acme:gc": "unchanged"}

        await eventually(are_gone)
        assert (await handle.describe()).status == WorkflowExecutionStatus.CANCELED

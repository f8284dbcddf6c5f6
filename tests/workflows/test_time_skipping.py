"""What a run does over hours and days, with the time skipped: retries, long waits, series.

Here alone activities are stand-ins: it is the orchestration that is tested.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio
from temporalio import activity
from temporalio.api.enums.v1 import EventType, IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest
from temporalio.api.workflowservice.v1 import RecordActivityTaskHeartbeatRequest
from temporalio.client import WorkflowFailureError, WorkflowHandle
from temporalio.exceptions import ApplicationError
from temporalio.testing import WorkflowEnvironment

from entrepot.activities.runtime.activity import to_application_error
from entrepot.errors import BadInput, Unavailable
from entrepot.language.limits import DEFAULTS, OwnLimits, StepLimits
from entrepot.planning.plan import Plan, PlannedStep
from entrepot.protocol import activities
from entrepot.protocol.messages import (
    Batch,
    ExtractRequest,
    Load,
    LoadRequest,
    PlanRequest,
    Prepared,
    Promoted,
    PromoteRequest,
    RecordFailureRequest,
    RunInput,
    StepResult,
    TableLoad,
)
from entrepot.protocol.slots import SlotsGranted, SlotsRequest
from entrepot.worker import process
from entrepot.workflows.calls import retries
from entrepot.workflows.progress import RunSummary
from entrepot.workflows.search_attributes import SEARCH_ATTRIBUTES
from tests.servers.temporal import skipping_server

PLAN = Plan(
    steps=(
        PlannedStep(name="source", kind="ingest", action="skip", why="loaded"),
        PlannedStep(name="orders", kind="transform", action="run", why="new", inputs=("raw",)),
        PlannedStep(name="other", kind="transform", action="run", why="new", inputs=("raw",)),
        PlannedStep(name="totals", kind="transform", action="run", why="new", inputs=("orders",)),
    ),
    versions={"raw": "r1", "orders": "o1", "other": "x1", "totals": "t1"},
    moves={"raw": "r1", "orders": "o1", "other": "x1", "totals": "t1"},
    removed=(),
    sequence=0,
)


@pytest_asyncio.fixture(scope="module")
async def skipping() -> AsyncIterator[WorkflowEnvironment]:
    """A Temporal server whose time passes at once when nobody works."""
    async with skipping_server() as environment:
        keyword = IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD
        attributes = dict.fromkeys((key.name for key in SEARCH_ATTRIBUTES), keyword)
        await environment.client.operator_service.add_search_attributes(  # this server cannot list those it has
            AddSearchAttributesRequest(namespace="default", search_attributes=attributes)
        )
        yield environment


@dataclass
class Stage:
    """Activities under their real names that note when they were called, and fail or wait as a test tells them."""

    environment: WorkflowEnvironment
    task_queue: str = field(default_factory=lambda: uuid.uuid4().hex)
    calls: list[tuple[str, float]] = field(default_factory=list)
    act: dict[str, Callable[[int], Any]] = field(default_factory=dict)
    """What a call of an activity or step does, given its attempt."""
    recorded: list[RecordFailureRequest] = field(default_factory=list)
    limits: StepLimits = DEFAULTS
    """Of its steps."""

    async def _called(self, name: str) -> None:
        self.calls.append((name, (await self.environment.get_current_time()).timestamp()))
        if name in self.act:
            made = self.act[name](activity.info().attempt)
            if made is not None:
                await made

    async def heartbeat(self) -> None:
        """A heartbeat that has arrived when this returns: the time that is skipped does not wait for one on its way."""
        sent = RecordActivityTaskHeartbeatRequest(namespace="default", task_token=activity.info().task_token)
        await self.environment.client.workflow_service.record_activity_task_heartbeat(sent)

    def activities(self) -> list[Callable[..., Any]]:
        @activity.defn(name=activities.PREPARE.name)
        async def prepare(asked: RunInput) -> Prepared:
            await self._called("prepare")
            steps = {step.name: step.kind for step in PLAN.steps}
            return Prepared(
                backend="duckdb",
                parallel=2,
                weight=1.0,
                selected=tuple(steps),
                kinds=steps,
                ingests=("source",),
                limits=self.limits,
            )

        @activity.defn(name=activities.EXTRACT.name)
        async def extract(asked: ExtractRequest) -> Load:
            await self._called("extract")
            return Load(step=asked.step, tables={"raw": TableLoad(version="r1", rows=1, bytes=1)})

        @activity.defn(name=activities.LOAD.name)
        async def load(request: LoadRequest) -> StepResult:
            await self._called("load")
            return StepResult(name=request.load.step, rows=1, versions={"raw": "r1"})

        @activity.defn(name=activities.PLAN.name)
        async def plan(request: PlanRequest) -> Plan:
            await self._called("plan")
            return PLAN

        @activity.defn(name=activities.TRANSFORM.name)
        async def transform(batch: Batch) -> list[StepResult]:
            await self._called(batch.steps[0])
            return [StepResult(name=name, rows=1) for name in batch.steps]

        @activity.defn(name=activities.PROMOTE.name)
        async def commit(request: PromoteRequest) -> Promoted:
            await self._called("promote")
            return Promoted(moved=tuple(request.moves), sequence=request.sequence + 1)

        @activity.defn(name=activities.RECORD_FAILURE.name)
        async def record_failure(failed: RecordFailureRequest) -> None:
            await self._called("record_failure")
            self.recorded.append(failed)

        @activity.defn(name=activities.SLOTS.name)
        async def slots(asked: SlotsRequest) -> SlotsGranted:
            await self._called("slots" if asked.wanted else "slots given back")
            return SlotsGranted(number=asked.number, slots=asked.wanted)

        return [prepare, extract, load, plan, transform, commit, record_failure, slots]

    async def start(self, **more: Any) -> WorkflowHandle[Any, Any]:
        asked = {"tenant": "acme", "pipeline": "shop"}
        return await self.environment.client.start_workflow(
            "Pipeline", asked, id=uuid.uuid4().hex, task_queue=self.task_queue, **more
        )

    async def run(self) -> RunSummary:
        return RunSummary.model_validate(await (await self.start()).result())

    async def fail(self) -> ApplicationError:
        handle = await self.start()
        with pytest.raises(WorkflowFailureError) as caught:
            await handle.result()
        assert isinstance(caught.value.cause, ApplicationError)
        return caught.value.cause

    def waits(self, name: str) -> list[float]:
        """The seconds between the calls of an activity."""
        times = [at for called, at in self.calls if called == name]
        return [round(after - before) for before, after in itertools.pairwise(times)]

    def count(self, name: str) -> int:
        return sum(called == name for called, _ in self.calls)


@asynccontextmanager
async def serving(stage: Stage) -> AsyncIterator[Stage]:
    throttle = timedelta(milliseconds=1)  # it is counted in real time
    async with process.Workers(
        stage.environment.client, stage.activities(), task_queue=stage.task_queue, throttle=throttle
    ):
        yield stage


@pytest_asyncio.fixture
async def stage(skipping: WorkflowEnvironment) -> AsyncIterator[Stage]:
    async with serving(Stage(skipping)) as stage:
        yield stage


def away(until_attempt: int | None = None) -> Callable[[int], None]:
    """A warehouse that cannot be reached, for good or until an attempt."""

    def act(attempt: int) -> None:
        if until_attempt is None or attempt < until_attempt:
            raise to_application_error(Unavailable("the warehouse does not answer"), "tenant 'acme', pipeline 'shop'")

    return act


def known_elsewhere(until_call: int | None = None) -> Callable[[int], None]:
    """A worker that does not know the tenant, as another does, takes all calls, or those before one."""
    calls = itertools.count(1)

    def act(attempt: int) -> None:
        if until_call is None or next(calls) < until_call:
            raise ApplicationError("not known to the worker 1@a: 1@b does", type="NotYetKnown", non_retryable=True)

    return act


@pytest.mark.parametrize("name", ["prepare", "orders", "promote"])
async def test_what_a_worker_does_not_know_waits_for_one_that_does(stage: Stage, name: str) -> None:
    stage.act[name] = known_elsewhere(until_call=4)
    run = await stage.run()
    assert (run.outcome, len(run.moved)) == ("published", 4)
    assert stage.waits(name) == [1, 2, 4]


async def test_what_was_known_for_long_waits_as_long_as_what_never_was(stage: Stage) -> None:
    """The worker that had it dies after a quarter of an hour, and one takes it that does not know the tenant."""
    calls = itertools.count(1)

    async def known_at_first(number: int) -> None:
        if number == 1:
            for _ in range(60):
                await stage.heartbeat()
                await stage.environment.sleep(15)
        if number < 3:
            raise ApplicationError("not known to the worker 1@a: 1@b does", type="NotYetKnown", non_retryable=True)

    stage.act["extract"] = lambda attempt: known_at_first(next(calls))
    assert (await stage.run()).outcome == "published"
    assert stage.count("extract") == 3


async def test_it_waits_for_a_while_and_shows_it(stage: Stage) -> None:
    stage.act["orders"] = known_elsewhere()
    handle = await stage.start()
    with pytest.raises(WorkflowFailureError) as caught:
        await handle.result()
    assert isinstance(caught.value.cause, ApplicationError)
    assert (caught.value.cause.message, caught.value.cause.type) == (
        "not known to the worker 1@a: 1@b does",
        "NotYetKnown",
    )
    assert 600 <= sum(stage.waits("orders")) <= 620
    assert (await handle.query("progress"))["waits"] == "not known to the worker 1@a: 1@b does"
    assert [each.status for each in stage.recorded] == ["failed"]


async def test_a_warehouse_that_comes_back_costs_only_time(stage: Stage) -> None:
    stage.act["orders"] = away(until_attempt=4)
    run = await stage.run()
    assert (run.outcome, len(run.moved)) == ("published", 4)
    assert stage.waits("orders") == [1, 2, 4]
    assert run.seconds >= 7
    assert stage.count("other") == 1


async def test_a_warehouse_that_stays_away_fails_the_run_with_its_sentence(stage: Stage) -> None:
    stage.act["orders"] = away()
    failure = await stage.fail()
    assert failure.message == "tenant 'acme', pipeline 'shop': the warehouse does not answer (attempt 5)"
    assert (failure.type, failure.non_retryable) == ("Unavailable", True)
    assert stage.count("orders") == retries().maximum_attempts
    assert stage.waits("orders") == [1, 2, 4, 8][: retries().maximum_attempts - 1]
    assert stage.count("totals") == stage.count("promote") == 0
    assert [(failed.status, failed.error) for failed in stage.recorded] == [("failed", failure.message)]


async def test_what_will_not_help_is_not_tried_again(stage: Stage) -> None:
    def refuse(attempt: int) -> None:
        raise to_application_error(BadInput("there is no column 'x'"), "transform 'orders'")

    stage.act["orders"] = refuse
    failure = await stage.fail()
    assert (failure.type, failure.message) == ("BadInput", "transform 'orders': there is no column 'x'")
    assert stage.count("orders") == 1


async def test_a_failure_that_cannot_be_recorded_is_told_nevertheless(stage: Stage) -> None:
    stage.act["orders"] = away()
    stage.act["record_failure"] = away()
    assert "the warehouse does not answer" in (await stage.fail()).message
    assert stage.count("record_failure") == retries().maximum_attempts


async def test_a_failed_step_lets_its_neighbours_end_and_starts_nothing_new(stage: Stage) -> None:
    def refuse(attempt: int) -> None:
        raise to_application_error(BadInput("no"), "transform 'other'")

    async def slowly() -> None:
        for _ in range(5):
            activity.heartbeat()
            await asyncio.sleep(0.1)

    stage.act |= {"other": refuse, "orders": lambda attempt: slowly()}
    await stage.fail()
    assert (stage.count("orders"), stage.count("totals"), stage.count("promote")) == (1, 0, 0)


async def test_a_run_that_is_cancelled_while_it_gives_its_slots_back_has_given_them_back(stage: Stage) -> None:
    begun, heard = asyncio.Event(), asyncio.Event()

    async def slowly() -> None:
        begun.set()
        while not heard.is_set():
            activity.heartbeat()
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)  # longer than until the next heartbeat would tell that it is cancelled
        activity.heartbeat()
        await asyncio.sleep(0.1)

    stage.act["slots given back"] = lambda attempt: slowly()
    run = await stage.start()
    await asyncio.wait_for(begun.wait(), 60)
    # This server breaks if it is told to cancel an activity that has just ended.
    while await activities_under_way(run) != [activities.SLOTS.name]:
        await asyncio.sleep(0.01)
    await run.cancel()
    while not await has_heard_that_it_is_cancelled(run):
        await asyncio.sleep(0.01)
    heard.set()
    with contextlib.suppress(WorkflowFailureError):
        await run.result()
    events = (await run.fetch_history()).events
    requests = {
        event.event_id
        for event in events
        if event.activity_task_scheduled_event_attributes.activity_type.name == activities.SLOTS.name
    }
    answered = {event.activity_task_completed_event_attributes.scheduled_event_id for event in events}
    assert requests
    assert requests <= answered


async def activities_under_way(run: WorkflowHandle[Any, Any]) -> list[str]:
    """The names of the activities that a run waits for, once it has heard of all that have ended."""
    events = (await run.fetch_history()).events
    if events[-1].event_type != EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED:
        return []
    ended = {event.activity_task_completed_event_attributes.scheduled_event_id for event in events}
    return [
        event.activity_task_scheduled_event_attributes.activity_type.name
        for event in events
        if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED and event.event_id not in ended
    ]


async def has_heard_that_it_is_cancelled(run: WorkflowHandle[Any, Any]) -> bool:
    """Whether it has done something since."""
    kinds = [event.event_type for event in (await run.fetch_history()).events]
    asked, done = EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED, EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED
    return asked in kinds and done in kinds[kinds.index(asked) :]


async def test_a_source_that_answers_after_hours_is_waited_for(stage: Stage) -> None:
    async def hours() -> None:
        for _ in range(2 * 3600 // 15):
            await stage.heartbeat()
            await stage.environment.sleep(15)

    stage.act["extract"] = lambda attempt: hours()
    run = await stage.run()
    assert run.outcome == "published"
    assert run.seconds >= 2 * 3600
    assert stage.count("extract") == 1


async def test_a_series_of_runs_goes_on_after_one_that_failed(stage: Stage) -> None:
    """As a schedule would start them, once a day."""
    outcomes = []
    for day in range(30):
        stage.act = {"promote": away()} if day == 12 else {}
        handle = await stage.start()
        try:
            outcomes.append((await handle.result())["outcome"])
        except WorkflowFailureError:
            outcomes.append("failed")
        await stage.environment.sleep(timedelta(days=1))
    assert outcomes == ["published"] * 12 + ["failed"] + ["published"] * 17
    assert sum(1 for failed in stage.recorded if failed.status == "failed") == 1


async def test_what_is_no_step_has_no_limits_of_steps(stage: Stage) -> None:
    """The last here, and its last attempt alone gives no sign of life: the server stops to pass over time for as long
    as an attempt lasts, and for one that it has given up it never goes on, so that what comes after takes its time."""
    stage.limits = OwnLimits(timeout=timedelta(minutes=5), attempts=2).over(DEFAULTS)
    fails = away(until_attempt=DEFAULTS.attempts)

    def act(attempt: int) -> Any:
        return fails(attempt) or stage.environment.sleep(31)

    stage.act["plan"] = act
    failure = await stage.fail()
    assert f"plan: its worker gave no sign of life for 30 s, {DEFAULTS.attempts} times" in failure.message
    assert stage.count("plan") == DEFAULTS.attempts

"""The time for which a run computes: instead of the clock, and the same whenever the run comes."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from temporalio.client import (
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleBackfill,
    ScheduleCalendarSpec,
    ScheduleOverlapPolicy,
    ScheduleRange,
    ScheduleSpec,
    ScheduleState,
    WorkflowHandle,
)
from temporalio.testing import WorkflowEnvironment

from entrepot.workflows.progress import RunSummary
from tests.conftest import House, serving, settings
from tests.waiting import eventually

THIRD = datetime.datetime(2026, 1, 3)


@pytest_asyncio.fixture
async def timed(temporal: WorkflowEnvironment, tmp_path: Path) -> AsyncIterator[House]:
    """The pipeline whose steps take the nominal time, for the tenant acme."""
    async with serving(temporal.client, settings(tmp_path, {"timed": "tests.pipelines.timed:timed"})) as house:
        yield house


async def run(house: House, time: str, **more: Any) -> RunSummary:
    return await house.run("timed", parameters={"nominal_time": time}, **more)


def shown(house: House) -> tuple[int, datetime.datetime]:
    """How many bills are overdue, and when."""
    [(count,)], [(at,)] = house.query("SELECT count(*) FROM timed.overdue"), house.query("SELECT seen FROM timed.stamp")
    return count, at


def whys(summary: RunSummary) -> dict[str, str]:
    return {step.name: step.why for step in summary.steps if step.kind != "ingest"}


@pytest.mark.fast
async def test_two_runs_with_one_nominal_time_compute_once(timed: House) -> None:
    await run(timed, "2026-01-03")
    assert shown(timed) == (2, THIRD)
    again = await run(timed, "2026-01-03T01:00:00+01:00")  # the same, elsewhere
    assert (again.outcome, again.steps) == ("nothing to do", [])
    other = await run(timed, "2026-01-05")
    takes = "it takes the run's nominal time, 2026-01-05 00:00:00 UTC"
    assert whys(other) == {
        "overdue": f"its code or a parameter changed; {takes}",
        "stamp": f"its code or a parameter changed; {takes}",
        "all_paid": f"not checked yet; {takes}",
    }
    assert shown(timed) == (4, datetime.datetime(2026, 1, 5))
    back = await run(timed, "2026-01-03")
    assert (back.steps, back.moved, shown(timed)) == ([], ["overdue", "stamp"], (2, THIRD))


async def test_a_check_that_takes_the_time_finds_since_when(timed: House) -> None:
    await run(timed, "2026-01-01")
    first = await run(timed, "2026-01-02")
    await run(timed, "2026-01-03")
    standing = (await run(timed, "2026-01-03")).standing
    assert [(step.name, step.warned, step.stands and step.stands.run) for step in standing] == [
        ("all_paid", True, first.run)
    ]


async def test_without_a_schedule_it_is_when_the_run_began(timed: House) -> None:
    handle = await timed.start("Pipeline", {"tenant": "acme", "pipeline": "timed"})
    await handle.result()
    began = (await handle.describe()).start_time.replace(tzinfo=None)
    count, at = shown(timed)
    assert count == 5
    assert datetime.timedelta() <= at - began < datetime.timedelta(seconds=10)


async def test_a_run_that_a_schedule_starts_late_computes_for_when_it_was_wanted(timed: House) -> None:
    action = ScheduleActionStartWorkflow(
        "Pipeline", {"tenant": "acme", "pipeline": "timed"}, id=uuid.uuid4().hex, task_queue=timed.task_queue
    )
    midnight = ScheduleCalendarSpec(hour=[ScheduleRange(0)])
    schedule = Schedule(action, spec=ScheduleSpec(calendars=[midnight]), state=ScheduleState(paused=True))
    handle = await timed.client.create_schedule(f"timed-{uuid.uuid4().hex}", schedule)
    try:
        day = THIRD.replace(tzinfo=datetime.UTC)
        every = ScheduleBackfill(
            start_at=day - datetime.timedelta(hours=1),
            end_at=day + datetime.timedelta(hours=1),
            overlap=ScheduleOverlapPolicy.ALLOW_ALL,
        )
        await handle.backfill(every)
        started = await eventually(lambda: _started(timed, action.id))
        assert started is not None
        await started.result()
    finally:
        await handle.delete()
    assert shown(timed) == (2, THIRD)
    assert (await run(timed, THIRD.isoformat())).steps == []


async def _started(house: House, id: str) -> WorkflowHandle[Any, Any] | None:
    async for found in house.client.list_workflows(f"WorkflowId STARTS_WITH '{id}'"):
        return house.client.get_workflow_handle(found.id)
    return None


async def test_what_is_no_time_is_refused(timed: House) -> None:
    failure = await timed.fail(tenant="acme", pipeline="timed", parameters={"nominal_time": "tomorrow"})
    assert "the parameter 'nominal_time' is a datetime, and the run sets it to 'tomorrow'" in failure.message

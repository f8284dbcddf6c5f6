"""A tenant's slots: requests that come twice or late, and what those had that ended without a word."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st
from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowHandle
from temporalio.testing import WorkflowEnvironment

from entrepot.protocol import activities
from entrepot.protocol.slots import Share, SlotsAsked, SlotsGranted, SlotsRequest, SlotsState
from entrepot.workflows.around.slots import LOOK_AT_MOST_AFTER, Slots
from tests.conftest import House, serving, settings

MOST = 4
RUNS = ("r1", "r2", "r3")


def asked(run: str, number: int, held: int, wanted: int, *, workflow_id: str = "", most: int = MOST) -> SlotsAsked:
    return SlotsAsked(
        tenant="acme", workflow_id=workflow_id or run, run=run, number=number, held=held, wanted=wanted, most=most
    )


@given(
    wishes=st.lists(st.tuples(st.sampled_from(RUNS), st.integers(1, 6)), min_size=1, max_size=15),
    late=st.lists(st.tuples(st.integers(0, 14), st.integers(0, 14)), max_size=15),
)
def test_requests_that_come_again_or_late_change_nothing(
    wishes: list[tuple[str, int]], late: list[tuple[int, int]]
) -> None:
    """Each run asks for so many with what it has; after some requests, one of those before arrives once more."""
    once, twice = Slots(SlotsState(tenant="acme")), Slots(SlotsState(tenant="acme"))
    sent: list[SlotsAsked] = []
    for at, (run, wanted) in enumerate(wishes):
        held = next((min(share.granted, wanted) for share in once.shares() if share.request.run == run), 0)
        sent.append(asked(run, at + 1, held, wanted))
        assert twice.want(sent[-1]) == once.want(sent[-1])
        for _, which in (pair for pair in late if pair[0] == at and pair[1] <= at):
            twice.want(sent[which])
        assert [share.granted for share in twice.shares()] == [share.granted for share in once.shares()]
    assert sum(share.granted for share in twice.shares()) <= MOST


@pytest_asyncio.fixture
async def house(temporal: WorkflowEnvironment, tmp_path: Path) -> AsyncIterator[House]:
    async with serving(temporal.client, settings(tmp_path, {})) as house:
        yield house


async def test_an_attempt_that_comes_again_is_the_same_request(house: House) -> None:
    request = SlotsRequest(tenant="acme", workflow_id="shop", run="r1", number=1, held=0, wanted=1)
    for _ in range(2):
        granted = await house.client.execute_activity(
            activities.SLOTS.name,
            request,
            id=uuid.uuid4().hex,
            task_queue=house.task_queue,
            schedule_to_close_timeout=LOOK_AT_MOST_AFTER,
            result_type=SlotsGranted,
        )
        assert granted == SlotsGranted(number=1, slots=1)
    history = await house.client.get_workflow_handle(f"acme:slots:{house.task_queue}").fetch_history()
    kind = EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED
    assert [event.event_type for event in history.events].count(kind) == 1


@dataclass
class Asking:
    """A run that asks by the test's hand: its workflow is one that nobody works at."""

    slots: WorkflowHandle[Slots, None]
    workflow: WorkflowHandle[object, object]
    number: int = 0

    @property
    def run(self) -> str:
        return str(self.workflow.first_execution_run_id)

    async def want(self, wanted: int, held: int = 0) -> int:
        self.number += 1
        request = asked(self.run, self.number, held, wanted, workflow_id=self.workflow.id, most=2)
        return (await self.slots.execute_update(Slots.want, request)).slots

    async def has(self) -> int | None:
        """How many it has; None if nothing is known of it."""
        shares = map(Share.model_validate, await self.slots.query(Slots.shares))
        return next((share.granted for share in shares if share.request.run == self.run), None)

    async def until_it_has(self, slots: int | None) -> None:
        while await self.has() != slots:
            await asyncio.sleep(0.05)


async def asking(house: House, count: int) -> list[Asking]:
    """So many runs of a tenant with two slots."""
    slots = await house.client.start_workflow(
        Slots.run, SlotsState(tenant="acme"), id=f"acme:slots:{house.task_queue}", task_queue=house.task_queue
    )
    nobody = f"nobody-{house.task_queue}"
    return [
        Asking(slots, await house.client.start_workflow("Pipeline", id=uuid.uuid4().hex, task_queue=nobody))
        for _ in range(count)
    ]


async def ended(runs: list[Asking]) -> None:
    for each in runs:
        await each.workflow.terminate()


async def test_what_a_run_had_that_was_terminated_comes_back_however_busy_the_others_are(house: House) -> None:
    gone, *others = runs = await asking(house, 4)
    assert [await each.want(1) for each in runs] == [1, 1, 0, 0]
    await gone.workflow.terminate()

    async def take_turns() -> None:
        while True:
            for each in others:
                await each.until_it_has(1)
                await each.want(0)
                await each.want(1)

    turns = asyncio.create_task(take_turns())
    try:
        await asyncio.wait_for(gone.until_it_has(None), 30)
        assert not turns.done()
    finally:
        turns.cancel()
        await asyncio.wait({turns})
        await ended(others)


async def test_what_a_run_had_that_was_terminated_comes_to_one_that_has_some_and_wants_more(house: House) -> None:
    gone, wide = await asking(house, 2)
    assert [await gone.want(1), await wide.want(2)] == [1, 1]
    await gone.workflow.terminate()
    await asyncio.wait_for(wide.until_it_has(2), 30)
    await ended([wide])

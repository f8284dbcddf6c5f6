"""A tenant whose warehouse does not answer keeps its own short activities waiting, and nobody else's."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import Any

from temporalio import activity
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput, Interceptor

from entrepot.activities.runtime.activity import HEARTBEAT_SECONDS
from entrepot.protocol.activities import CLOSED_RUNS, SLOTS
from entrepot.worker.telemetry.about import about

_OF_TEMPORAL = (SLOTS.name, CLOSED_RUNS.name)
"""They ask Temporal alone, and wait for no warehouse."""


class Turns(Interceptor):
    """Lets so many activities of one tenant run at once; the others wait, without keeping a thread.

    Args:
        most: Of one tenant.
    """

    def __init__(self, most: int) -> None:
        self._turns: defaultdict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(most))

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        """Called by the worker for each activity."""
        return _Turn(next, self._turns)


class _Turn(ActivityInboundInterceptor):
    def __init__(self, next: ActivityInboundInterceptor, turns: defaultdict[str, asyncio.Semaphore]) -> None:
        super().__init__(next)
        self._turns = turns

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        if activity.info().activity_type in _OF_TEMPORAL:
            return await super().execute_activity(input)
        turns = self._turns[about(input.args).get("tenant", "")]
        await _acquired(turns)
        try:
            return await super().execute_activity(input)
        finally:
            turns.release()


async def _acquired(turns: asyncio.Semaphore) -> None:
    """Waits for a turn, with signs of life."""
    waiting = asyncio.create_task(turns.acquire())
    try:
        while not (await asyncio.wait({waiting}, timeout=HEARTBEAT_SECONDS))[0]:
            activity.heartbeat()
    except asyncio.CancelledError:
        waiting.cancel()
        if (await asyncio.wait({waiting}))[0] and not waiting.cancelled():
            turns.release()
        raise

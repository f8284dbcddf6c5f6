"""Waits for what comes about by itself: by looks, again and again, and never for a time that is thought to suffice."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

from temporalio.client import WorkflowExecutionStatus, WorkflowHandle

SECONDS = 300.0
"""After which it is taken not to come about any more; long, since machines of tests may be busy."""
_PAUSE = 0.05

T = TypeVar("T")


def until(look: Callable[[], T]) -> T:
    """What a look finds, once it finds something."""
    deadline = time.monotonic() + SECONDS
    while not (found := look()):
        assert time.monotonic() < deadline, f"it did not come about: the last look found {found!r}"
        time.sleep(_PAUSE)
    return found


async def eventually(look: Callable[[], Awaitable[T]]) -> T:
    """The same, while other tasks go on: also for lists of Temporal's server, which come a moment late."""
    deadline = time.monotonic() + SECONDS
    while not (found := await look()):
        assert time.monotonic() < deadline, f"it did not come about: the last look found {found!r}"
        await asyncio.sleep(_PAUSE)
    return found


async def until_running(handle: WorkflowHandle[Any, Any], step: str) -> None:
    """Until a step of a run has started."""

    async def is_running() -> bool:
        described = await handle.describe()
        assert described.status == WorkflowExecutionStatus.RUNNING, f"the run ended before {step} started"
        progress = await handle.query("progress")
        return any(each["name"] == step and each["state"] == "running" for each in progress["steps"])

    await eventually(is_running)


async def retried(handle: WorkflowHandle[Any, Any]) -> str:
    """What an activity of a run said when it failed, as soon as it is tried again."""

    async def said() -> str:
        described = await handle.describe()
        again = [each for each in described.raw_description.pending_activities if each.attempt > 1]
        return str(await described.data_converter.decode_failure(again[0].last_failure)) if again else ""

    return await eventually(said)


def is_alive(pid: int) -> bool:
    """Whether a process is there, and not just waiting to be buried."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"

"""Workflows that were started with older code go on with today's: recorded histories are replayed."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from temporalio import workflow
from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer

from entrepot.worker import process
from entrepot.worker.client import OPTIONS

FOLDER = Path(__file__).parent / "histories"
HISTORIES = sorted(FOLDER.rglob("*.json"))
"""A folder for each release."""


def replayer(*workflows: type) -> Replayer:
    return Replayer(
        workflows=list(workflows or process.WORKFLOWS),
        workflow_runner=process.sandbox(),
        **OPTIONS,
    )


def newest(stem: str) -> WorkflowHistory:
    """The history of that name that the last release left."""
    path = max(FOLDER.glob(f"*/{stem}.json"), key=lambda path: tuple(map(int, path.parent.name.split("."))))
    return WorkflowHistory.from_json(stem, path.read_text())


def test_there_are_histories_of_every_kind() -> None:
    assert {path.stem for path in HISTORIES} >= {
        "first_run",
        "nothing_to_do",
        "cancelled",
        "check_blocks",
        "in_batches",
        "slots",
        "trigger",
        "trigger_promises",
        "watch",
        "hook",
    }


@pytest.mark.parametrize("path", HISTORIES, ids=lambda path: f"{path.parent.name}/{path.stem}")
async def test_a_recorded_history_replays(path: Path) -> None:
    await replayer().replay_workflow(WorkflowHistory.from_json(path.stem, path.read_text()))


@workflow.defn(name="Pipeline", sandboxed=False)
class Other:
    """A workflow that does something else than what was recorded."""

    @workflow.run
    async def run(self, input: object = None) -> None:
        await asyncio.sleep(1)


async def test_a_workflow_that_decides_otherwise_is_caught() -> None:
    with pytest.raises(workflow.NondeterminismError):
        await replayer(Other).replay_workflow(newest("first_run"))


async def test_slots_go_on_with_the_code_of_a_later_version() -> None:
    await replayer(*process.VERSIONED).replay_workflow(newest("slots"))

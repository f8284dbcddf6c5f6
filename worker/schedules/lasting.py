"""Workflows that go on for ever, for pipelines of the tenant file: reconciled as schedules are."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from temporalio.client import Client, WorkflowExecutionDescription, WorkflowExecutionStatus, WorkflowHandle
from temporalio.service import RPCError, RPCStatusCode

from entrepot.activities.runtime.triggers import MADE_BY
from entrepot.worker.client import TASK_QUEUE
from entrepot.worker.payloads.codec import CannotDecrypt
from entrepot.worker.schedules.changes import Actual, Change, change_of, each_of


@dataclass(frozen=True)
class Wanted:
    """One as the tenant file wants it."""

    when: str
    """What it does, for people."""
    facts: Mapping[str, str]
    start: Callable[[Client], Awaitable[None]]
    update: Callable[[WorkflowHandle[Any, Any]], Awaitable[None]] | None = None
    """Makes one that does something else what it is to be. Default: it has no facts."""


async def plan(
    client: Client, type: str, wanted: Mapping[str, Wanted], facts: Callable[[Mapping[str, Any]], dict[str, str]]
) -> list[Change]:
    """What `make` is to do. Changes nothing.

    Args:
        type: Of the workflows.
        wanted: By id.
        facts: What one does, by its memo.
    """
    actual = await _actual(client, type, wanted, facts)
    changes = [change_of(id, each.when, each.facts, actual.get(id)) for id, each in wanted.items()]
    gone = sorted(id for id, found in actual.items() if found.ours and id not in wanted)
    return changes + [Change(id, "delete", "") for id in gone]


async def make(client: Client, wanted: Mapping[str, Wanted], change: Change) -> None:
    """Makes one what the tenant file says. What it knows is kept."""
    handle = client.get_workflow_handle(change.id)
    if change.action == "create":
        await wanted[change.id].start(client)
    elif change.action == "update" and (update := wanted[change.id].update) is not None:
        await update(handle)
    elif change.action == "delete":
        await handle.cancel()


async def _actual(
    client: Client, type: str, wanted: Mapping[str, Any], facts: Callable[[Mapping[str, Any]], dict[str, str]]
) -> dict[str, Actual]:
    """Those that there are: those that are listed, and whatever has an id that the file wants."""
    running = client.list_workflows(f"WorkflowType = '{type}' AND ExecutionStatus = 'Running'")
    ids = {*wanted, *[each.id async for each in running]}
    found: dict[str, Actual] = {}

    async def look(id: str) -> None:
        try:
            its = await client.get_workflow_handle(id).describe()
            if its.status == WorkflowExecutionStatus.RUNNING:
                found[id] = await _described(its, type, facts)
        except CannotDecrypt:  # another group's, with a key of its own
            pass
        except RPCError as error:
            if error.status != RPCStatusCode.NOT_FOUND:
                raise

    await each_of(sorted(ids), look)
    return found


async def _described(
    its: WorkflowExecutionDescription, type: str, facts: Callable[[Mapping[str, Any]], dict[str, str]]
) -> Actual:
    memo = await its.memo()
    if its.workflow_type != type or memo.get(MADE_BY) != TASK_QUEUE:
        return Actual(ours=False, facts={})
    return Actual(ours=True, facts=facts(memo))

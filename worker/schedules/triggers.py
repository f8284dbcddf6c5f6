"""One `Trigger` workflow for each trigger of the tenant file, reconciled as schedules are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from temporalio.client import Client, WorkflowExecutionDescription, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

from entrepot.activities.runtime.triggers import MADE_BY, SETTINGS, start, trigger_workflow_id
from entrepot.protocol.triggers import TriggerSettings
from entrepot.worker.client import TASK_QUEUE
from entrepot.worker.config.settings import Settings
from entrepot.worker.payloads.codec import CannotDecrypt
from entrepot.worker.schedules.changes import Actual, Change, change_of, each_of
from entrepot.workflows.around.trigger import described, span

_RUNNING = "WorkflowType = 'Trigger' AND ExecutionStatus = 'Running'"


def desired(settings: Settings) -> dict[str, tuple[str, str, TriggerSettings]]:
    """The triggers that the tenant file wants, by id: `tenant/pipeline:trigger`."""
    return {
        trigger_workflow_id(tenant, pipeline): (tenant, pipeline, section.trigger.of(tenant))
        for tenant, of_tenant in settings.tenants.items()
        for pipeline, section in of_tenant.settings.items()
        if section.trigger is not None
    }


async def plan(client: Client, settings: Settings) -> list[Change]:
    """What `apply` would do. Changes nothing."""
    wanted = desired(settings)
    actual = await _actual(client, wanted)
    changes = [
        change_of(id, f"when {described(its)}", facts(its), actual.get(id)) for id, (_, _, its) in wanted.items()
    ]
    gone = sorted(id for id, found in actual.items() if found.ours and id not in wanted)
    return changes + [Change(id, "delete", "") for id in gone]


async def make(client: Client, settings: Settings, change: Change) -> None:
    """Makes a trigger what the tenant file says. What it knows is kept."""
    handle = client.get_workflow_handle(change.id)
    if change.action == "create":
        await start(client, *desired(settings)[change.id], TASK_QUEUE)
    elif change.action == "update":
        await handle.signal("configure", desired(settings)[change.id][2])
    elif change.action == "delete":
        await handle.cancel()


def facts(settings: TriggerSettings) -> dict[str, str]:
    """What a trigger waits for, as text that is equal if, and only if, it does the same."""
    return {
        "published": ", ".join(settings.published) or "none",
        "source": f"every {span(settings.source)}" if settings.source is not None else "never",
        "deployed": "yes" if settings.deployed else "no",
        "when": settings.when,
        "debounce": span(settings.debounce) if settings.debounce else "none",
        "quiet": span(settings.quiet) if settings.quiet else "none",
    }


async def _actual(client: Client, wanted: Mapping[str, Any]) -> dict[str, Actual]:
    """The triggers that there are: those that are listed, and whatever has an id that the file wants."""
    ids = {*wanted, *[each.id async for each in client.list_workflows(_RUNNING)]}
    found: dict[str, Actual] = {}

    async def look(id: str) -> None:
        try:
            its = await client.get_workflow_handle(id).describe()
            if its.status == WorkflowExecutionStatus.RUNNING:
                found[id] = await _described(its)
        except CannotDecrypt:  # another group's, with a key of its own
            pass
        except RPCError as error:
            if error.status != RPCStatusCode.NOT_FOUND:
                raise

    await each_of(sorted(ids), look)
    return found


async def _described(its: WorkflowExecutionDescription) -> Actual:
    memo = await its.memo()
    if its.workflow_type != "Trigger" or memo.get(MADE_BY) != TASK_QUEUE:
        return Actual(ours=False, facts={})
    settings = TriggerSettings.model_validate(memo[SETTINGS])
    return Actual(ours=True, facts=facts(settings))

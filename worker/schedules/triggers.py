"""One `Trigger` workflow for each trigger of the tenant file."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from temporalio.client import Client, WorkflowHandle

from entrepot.activities.runtime.triggers import SETTINGS, start, trigger_workflow_id
from entrepot.protocol.triggers import TriggerSettings
from entrepot.worker.client import TASK_QUEUE
from entrepot.worker.config.settings import Settings
from entrepot.worker.schedules import lasting
from entrepot.worker.schedules.changes import Change
from entrepot.worker.schedules.lasting import Wanted
from entrepot.workflows.around.trigger import described, span

TYPE = "Trigger"


def desired(settings: Settings) -> dict[str, Wanted]:
    """The triggers that the tenant file wants, by id: `tenant/pipeline:trigger`."""
    return {
        trigger_workflow_id(tenant, pipeline): _wanted(tenant, pipeline, section.trigger.of(tenant))
        for tenant, of_tenant in settings.tenants.items()
        for pipeline, section in of_tenant.settings.items()
        if section.trigger is not None
    }


async def plan(client: Client, wanted: Mapping[str, Wanted]) -> list[Change]:
    """What `apply` would do. Changes nothing."""
    return await lasting.plan(client, TYPE, wanted, _facts_of)


def facts(settings: TriggerSettings) -> dict[str, str]:
    """What a trigger waits for, as text that is equal if, and only if, it does the same."""
    return {
        "published": ", ".join(settings.published) or "none",
        "source": f"every {span(settings.source)}" if settings.source is not None else "never",
        "deployed": "yes" if settings.deployed else "no",
        "promises": "yes" if settings.promises else "no",
        "environment": settings.environment,
        "when": settings.when,
        "debounce": span(settings.debounce) if settings.debounce else "none",
        "quiet": span(settings.quiet) if settings.quiet else "none",
    }


def _wanted(tenant: str, pipeline: str, settings: TriggerSettings) -> Wanted:
    async def update(handle: WorkflowHandle[Any, Any]) -> None:
        await handle.signal("configure", settings)

    begin = partial(start, tenant=tenant, pipeline=pipeline, settings=settings, task_queue=TASK_QUEUE)
    return Wanted(f"when {described(settings)}", facts(settings), begin, update)


def _facts_of(memo: Mapping[str, Any]) -> dict[str, str]:
    return facts(TriggerSettings.model_validate(memo[SETTINGS]))

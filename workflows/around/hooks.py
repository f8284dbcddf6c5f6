"""Hooks: who is told how a run ended, or that a promise is broken.

Each is a workflow of its own, so it neither delays nor fails whoever tells it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.common import RetryPolicy, SearchAttributePair, TypedSearchAttributes, WorkflowIDReusePolicy
from temporalio.exceptions import (
    ActivityError,
    FailureError,
    RetryState,
    TimeoutError,
    WorkflowAlreadyStartedError,
    is_cancelled_exception,
)
from temporalio.workflow import ParentClosePolicy

from entrepot.protocol import activities
from entrepot.protocol.hooks import EventName, RunEvent, WorkflowHook, sentence
from entrepot.protocol.hooks import Hook as AnyHook
from entrepot.protocol.messages import Delivered, Delivery, Target
from entrepot.workflows.calls import Persistence, call, failure, failure_of, parse_input, priority
from entrepot.workflows.search_attributes import ENVIRONMENT, PIPELINE, TENANT

GIVE_UP = timedelta(hours=24)
"""How long a webhook or a mail server that does not answer, or answers that it cannot now, is tried again."""
SENDING = Persistence(
    timeout=timedelta(minutes=2),
    retries=RetryPolicy(initial_interval=timedelta(seconds=2), maximum_interval=timedelta(minutes=10)),
    give_up=GIVE_UP,
)
LONGEST = timedelta(days=7)
"""Somebody's own workflow that has not ended by then is ended, perhaps since nobody serves its task queue."""


@workflow.defn(name="Hook")
class Hook:
    """Tells a webhook or mailboxes what has happened, and goes on trying for a day."""

    @workflow.run
    async def run(self, payload: Any = None) -> Delivered:
        """What was answered."""
        delivery = parse_input(Delivery, payload)
        workflow.set_current_details(f"**{delivery.hook.what}:** {delivery.event.text}")
        try:
            return await call(
                activities.DELIVER,
                delivery,
                summary=delivery.hook.what,
                priority=priority(delivery.tenant),
                persistence=SENDING,
            )
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise
            last = error.cause.cause if isinstance(error.cause, TimeoutError) else None  # what the last attempt said
            failed = failure_of(last or error)
            if error.retry_state is RetryState.TIMEOUT:
                hours = f"{GIVE_UP.total_seconds() / 3600:.0f} hours"
                failed = failure(f"{failed.message}; it is given up after {hours}", failed.type or "Unavailable")
            raise failed from error


def event_of(target: Target, event: EventName, text: str = "", **said: Any) -> RunEvent:
    """An event of the workflow that tells it.

    Args:
        target: Whose pipeline, and where.
        text: The sentence that people read. Default: that of the event.
        said: What else there is to tell: `why`, `error`, `tables`, `warnings`; `since`, `reasons` and `breach`.
    """
    whose = {"tenant": target.tenant, "pipeline": target.pipeline, "environment": target.environment}
    told = {name: each for name, each in said.items() if name not in ("why", "breach")}
    info = workflow.info()
    return RunEvent(
        **whose,
        event=event,
        text=text or sentence(event, **whose, **told),
        run=info.run_id,
        workflow_id=info.workflow_id,
        at=workflow.now().replace(tzinfo=None).isoformat(timespec="seconds"),
        **said,
    )


async def tell(hooks: Iterable[AnyHook], event: RunEvent) -> None:
    """Begins to tell somebody of an event, once, and waits for no more than that it has begun. Never fails."""
    await asyncio.gather(*(_start(hook, event, number) for number, hook in enumerate(hooks)))


async def _start(hook: AnyHook, event: RunEvent, number: int) -> None:
    its = f"{event.workflow_id}:{event.event}:{event.breach or event.run}" + (f":{number + 1}" if number else "")
    told = event.model_dump(mode="json")
    is_own = isinstance(hook, WorkflowHook)
    given = told if is_own else {**_whose(event), "event": told, "hook": hook.model_dump(mode="json")}
    try:
        await workflow.start_child_workflow(
            hook.workflow if isinstance(hook, WorkflowHook) else "Hook",
            given,
            id=its,
            task_queue=hook.task_queue if isinstance(hook, WorkflowHook) else None,
            # Whoever ends, or is ended: what has happened is told.
            parent_close_policy=ParentClosePolicy.ABANDON,
            id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
            execution_timeout=LONGEST if is_own else None,
            search_attributes=_attributes(event),
            static_summary=f"{hook.what}: {event.text}"[:190],
            priority=priority(event.tenant),
        )
    except WorkflowAlreadyStartedError:
        pass
    except FailureError as error:
        if is_cancelled_exception(error):
            raise
        workflow.logger.warning("the hook %s of %s could not be started: %s", hook.what, its, error)


def _whose(event: RunEvent) -> dict[str, str]:
    return {"tenant": event.tenant, "pipeline": event.pipeline}


def _attributes(event: RunEvent) -> TypedSearchAttributes:
    pairs = ((TENANT, event.tenant), (PIPELINE, event.pipeline), (ENVIRONMENT, event.environment))
    return TypedSearchAttributes([SearchAttributePair(key, value) for key, value in pairs])

"""How workflows understand their input, call activities, and fail: always in a sentence."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, timedelta
from typing import Any, TypeVar

from pydantic import BaseModel
from temporalio import workflow
from temporalio.common import Priority, RetryPolicy, SearchAttributeKey
from temporalio.exceptions import (
    ActivityError,
    ApplicationError,
    ChildWorkflowError,
    TimeoutError,
    TimeoutType,
    is_cancelled_exception,
)
from temporalio.workflow import ActivityCancellationType

from entrepot.errors import BadInput, NotYetKnown
from entrepot.language.limits import DEFAULTS, StepLimits
from entrepot.protocol.activities import Activity, Q, R, work_queue
from entrepot.protocol.parsing import parse
from entrepot.tracebacks import cut
from entrepot.workflows.progress import waiting_for
from entrepot.workflows.search_attributes import CAUSE

HEARTBEAT = timedelta(seconds=30)
"""After a worker died, its step starts again on another within this time."""
LONGEST_PAUSE = timedelta(seconds=20)
"""Between two attempts, unless the first pause is longer."""
FIRST_PAUSE, PATIENCE = timedelta(seconds=1), timedelta(minutes=10)
"""While a worker that knows a tenant or pipeline is waited for; and for how long in all."""

_SCHEDULED = SearchAttributeKey.for_datetime("TemporalScheduledStartTime")
"""Set by Temporal on what a schedule starts, also when it makes up for a start that was missed, or fills one back."""

_SCHEDULE = SearchAttributeKey.for_keyword("TemporalScheduledById")

LONGEST_SENTENCE = 2_500
"""Characters of a failure."""


@dataclass(frozen=True)
class Persistence:
    """How an activity is tried again that may wait for hours, but not for ever."""

    timeout: timedelta
    """Of one attempt."""
    retries: RetryPolicy
    give_up: timedelta


async def call(
    activity: Activity[Q, R],
    request: Q,
    *,
    summary: str = "",
    priority: Priority | None = None,
    limits: StepLimits = DEFAULTS,
    waits: Callable[[str], None] | None = None,
    persistence: Persistence | None = None,
) -> R:
    """Runs one activity, as every activity of Entrepot is run.

    A worker that does not know its tenant or pipeline, but knows of another that does, leaves it to that one: then it
    is called again until a worker takes it that knows them, for as long as `PATIENCE`. Its attempts count anew.

    Args:
        waits: Is told what it waits for, and with an empty text that it does not any more. By default it is shown as
            the workflow's current details.
        persistence: Instead of limits.
    """
    until, pause = None, FIRST_PAUSE
    while True:
        try:
            result: R = await workflow.execute_activity(
                activity.name,
                request,
                task_queue=work_queue(workflow.info().task_queue) if activity.is_work else None,
                result_type=activity.result,
                start_to_close_timeout=persistence.timeout if persistence else limits.timeout,
                schedule_to_close_timeout=persistence.give_up if persistence else None,
                heartbeat_timeout=HEARTBEAT,
                retry_policy=persistence.retries if persistence else retries(limits),
                cancellation_type=ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
                summary=summary[:190] or None,
                priority=priority or Priority.default,
            )
        except ActivityError as error:
            until = until or workflow.now() + PATIENCE  # what was known may have run for hours before
            if not _is_not_yet_known(error) or workflow.now() >= until:
                raise
            (waits or _show)(failure_of(error).message)
        else:
            if until is not None:
                (waits or _show)("")
            return result
        await workflow.sleep(pause, summary="until a worker that knows the tenant may take it")
        pause = min(2 * pause, LONGEST_PAUSE)


def check_not_cancelled() -> None:
    """Ends a workflow that was cancelled while it waited for what came to its end all the same, as a short activity
    does: nothing else tells it.

    Raises:
        CancelledError: if it was.
    """
    if workflow.cancellation_reason() is not None:
        raise asyncio.CancelledError


def _show(what: str) -> None:
    workflow.set_current_details(waiting_for(what) if what else "")


def _is_not_yet_known(error: ActivityError) -> bool:
    return isinstance(error.cause, ApplicationError) and error.cause.type == NotYetKnown.__name__


def retries(limits: StepLimits = DEFAULTS) -> RetryPolicy:
    """How often a step is tried, and after which pauses."""
    return RetryPolicy(
        initial_interval=limits.backoff,
        maximum_interval=max(LONGEST_PAUSE, limits.backoff),
        maximum_attempts=limits.attempts,
    )


def nominal_time() -> str:
    """The time for which a workflow computes: when its schedule wanted it, however late it comes; else when it began.

    In UTC, without zone.
    """
    scheduled = workflow.info().typed_search_attributes.get(_SCHEDULED)
    time = scheduled.astimezone(UTC) if scheduled is not None else workflow.now()
    return time.replace(tzinfo=None).isoformat()


def caused_by() -> str:
    """What has begun a workflow: a person (or whatever starts workflows as people do), a schedule, a trigger, or the
    workflow of that id, of which it is a part."""
    info = workflow.info()
    if (schedule := info.typed_search_attributes.get(_SCHEDULE)) is not None:
        return f"schedule {schedule}"
    if info.typed_search_attributes.get(CAUSE) is not None and info.parent is not None:
        return "trigger"
    return info.parent.workflow_id if info.parent is not None else "person"


def code() -> str:
    """The build id of the version that runs a workflow; empty where workers are no versions of a deployment."""
    its = workflow.info().get_current_deployment_version()
    return its.build_id if its is not None and its.deployment_name else ""


def priority(tenant: str, weight: float | None = None, key: int | None = None) -> Priority:
    """A tenant's turn among the others, of workflows and of activities.

    Args:
        key: Which are first: 1 before 5. Default: as the workflow that starts it has it, else 3.

    A name that is too long to be one is refused by an activity, which it needs.
    """
    fair = tenant.encode(errors="replace")[:64].decode(errors="ignore")
    return Priority(priority_key=key, fairness_key=fair, fairness_weight=weight)


def failure(text: str, kind: str) -> ApplicationError:
    """How a workflow fails: in a sentence, which is cut, since Temporal would refuse megabytes for ever."""
    return ApplicationError(cut(text, LONGEST_SENTENCE), type=kind, non_retryable=True)


def failure_of(error: BaseException, limits: StepLimits = DEFAULTS) -> ApplicationError:
    """A workflow's failure: the sentence of the activity that caused it."""
    cause = error.cause if isinstance(error, ActivityError | ChildWorkflowError) and error.cause else error
    if isinstance(cause, ApplicationError):
        return failure(cause.message, cause.type or type(cause).__name__)
    if isinstance(cause, TimeoutError) and isinstance(error, ActivityError):
        return failure(f"{error.activity_type}: {_late(cause.type, limits)}", "TimeoutError")
    return failure(str(cause) or type(cause).__name__, type(cause).__name__)


def _late(kind: TimeoutType | None, limits: StepLimits) -> str:
    times = f"{limits.attempts} times" if limits.attempts != 1 else "once"
    if kind is TimeoutType.START_TO_CLOSE:
        return f"it took longer than its `timeout` of {limits.timeout}, {times}"
    if kind is TimeoutType.HEARTBEAT:
        seconds = f"{HEARTBEAT.total_seconds():.0f} s"
        return (
            f"its worker gave no sign of life for {seconds}, {times}: it was killed, or ran out of memory; "
            "its log may say why"
        )
    return "it was not done in time"


@contextmanager
def in_a_sentence() -> Iterator[None]:
    """An activity that failed fails the workflow, in the activity's own sentence; a cancelled one cancels it."""
    try:
        yield
    except ActivityError as error:
        if is_cancelled_exception(error):
            raise
        raise failure_of(error) from error


M = TypeVar("M", bound=BaseModel)


def parse_input(message: type[M], payload: Any) -> M:
    """A workflow's input. What cannot be understood fails the workflow at once, in a sentence."""
    try:
        return parse(message, payload, workflow.info().workflow_type)
    except BadInput as error:
        raise failure(str(error), "BadInput") from None

"""Starting workflows and activities, and waiting for them, as a client: the `temporal` CLI can start the same."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Mapping
from contextlib import nullcontext, suppress
from datetime import timedelta
from typing import Any, TypeVar

from rich.console import Console
from rich.live import Live
from temporalio.api.workflow.v1 import PendingActivityInfo
from temporalio.client import ActivityFailureError, Client, WorkflowFailureError, WorkflowHandle
from temporalio.common import RetryPolicy, WorkflowIDConflictPolicy
from temporalio.converter import DataConverter
from temporalio.exceptions import ApplicationError, CancelledError, TerminatedError, WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from entrepot.errors import BadInput, EntrepotError, PipelineError, Unavailable
from entrepot.worker.cli import output
from entrepot.worker.client import TASK_QUEUE, connected
from entrepot.worker.deployments import waiting
from entrepot.workflows.calls import priority
from entrepot.workflows.progress import Progress, RunSummary

POLL_SECONDS = 0.4
_PATIENCE_SECONDS, _LOOK_SECONDS = 4.0, 15.0
"""How long a run may stand still before somebody looks whether a worker takes work for it; and then how often."""
_ANSWER_TIMEOUT, _WAIT_TIMEOUT = timedelta(minutes=5), timedelta(minutes=10)
"""For an activity that is executed by itself: while it works, and with waiting for a worker."""
_AWAY_SECONDS = 120.0
"""How long a server is asked again that was there: as long as one takes to be replaced."""
_SAYS_WHY = {
    RPCStatusCode.NOT_FOUND,
    RPCStatusCode.INVALID_ARGUMENT,
    RPCStatusCode.FAILED_PRECONDITION,
    RPCStatusCode.PERMISSION_DENIED,
    RPCStatusCode.UNAUTHENTICATED,
    RPCStatusCode.UNIMPLEMENTED,
}
"""What a server answers that is there. One that has just died is told in several ways."""
_REFUSED = {BadInput.__name__, PipelineError.__name__}
"""What fails a workflow that should not have been started so."""
_LAST_WORD = timedelta(seconds=2)
_NOT_UNDERSTOOD = (
    "No worker can go on with the run, and it waits for one that can: their logs say why. Where payloads are "
    "encrypted, they may lack the key"
)

T = TypeVar("T")


class RunFailed(EntrepotError):
    """The run ended, and not well."""


class Left:
    """Says that a workflow goes on, where its client ends before: on Ctrl-C, or when the server is away for long."""

    def __init__(self, workflow_id: str, what: str = "It") -> None:
        self._workflow_id, self._what = workflow_id, what
        self.is_started = False

    def __enter__(self) -> Left:
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if self.is_started and isinstance(error, KeyboardInterrupt | Unavailable):
            output.err.print(f"{self._what} continues. {how_to_follow(self._workflow_id)}", soft_wrap=True)


def execute(workflow: str, value: dict[str, Any], workflow_id: str, summary: str) -> Any:
    """The result of a short workflow. Ctrl-C stops waiting, not the workflow.

    Raises:
        RunFailed, BadInput: as `start` and `result`.
    """

    async def go(left: Left) -> Any:
        async with connected() as client:
            handle = await start(client, workflow, value, workflow_id, summary)
            left.is_started = True
            return await wait_with_hints(client, handle)

    with Left(workflow_id) as left:
        return asyncio.run(go(left))


def execute_for_its_result(workflow: str, value: dict[str, Any], workflow_id: str, summary: str) -> Any:
    """The result of a workflow that changes nothing, so that Ctrl-C cancels it.

    Raises:
        RunFailed, BadInput: as `start` and `result`.
    """

    async def go() -> Any:
        async with connected() as client:
            handle = await start(client, workflow, value, workflow_id, summary)
            try:
                return await wait_with_hints(client, handle)
            except asyncio.CancelledError:
                with suppress(RPCError):
                    await handle.cancel(rpc_timeout=_LAST_WORD)
                raise

    return asyncio.run(go())


def execute_activity(activity: str, value: Mapping[str, Any], result_type: type = list) -> Any:
    """What an activity returns, rows mostly, without a workflow around it.

    Raises:
        RunFailed, BadInput: as `result`.
    """

    async def go() -> Any:
        async with connected() as client:
            return await answer(client, activity, value, result_type)

    return asyncio.run(go())


async def answer(
    client: Client, activity: str, value: Mapping[str, Any], result_type: type = list, *, task_queue: str = TASK_QUEUE
) -> Any:
    """What an activity returns, rows mostly, asked of a task queue's workers.

    Raises:
        RunFailed, BadInput: as `result`.
    """
    about = "/".join(filter(None, (value["tenant"], value.get("pipeline"))))
    listing = client.execute_activity(
        activity,
        dict(value),
        id=f"{about}:{activity}:{uuid.uuid4().hex[:8]}",
        task_queue=task_queue,
        result_type=result_type,
        start_to_close_timeout=_ANSWER_TIMEOUT,
        schedule_to_close_timeout=_WAIT_TIMEOUT,
        retry_policy=RetryPolicy(maximum_attempts=3),
    )
    try:
        return await _wait_for_answer(client, listing, task_queue)
    except ActivityFailureError as error:
        raise _reason(error, error.cause, f"{activity!r} was") from None


async def start(
    client: Client,
    workflow: str,
    value: dict[str, Any],
    workflow_id: str,
    summary: str,
    *,
    task_queue: str = TASK_QUEUE,
    if_taken: WorkflowIDConflictPolicy = WorkflowIDConflictPolicy.FAIL,
) -> WorkflowHandle[Any, Any]:
    """Starts a workflow under an id that nothing else may have at the same time.

    Args:
        task_queue: Whose workers run it.
        if_taken: What becomes of it, or of what runs under that id.

    Raises:
        BadInput: if it is taken.
    """
    try:
        return await client.start_workflow(
            workflow,
            value,
            id=workflow_id,
            task_queue=task_queue,
            static_summary=summary,
            priority=priority(str(value["tenant"])),
            id_conflict_policy=if_taken,
        )
    except WorkflowAlreadyStartedError as error:
        problem = f"{workflow_id} is running already (run {error.run_id})"
        raise BadInput(f"{problem}. {how_to_follow(workflow_id)}") from None


def how_to_follow(workflow_id: str) -> str:
    """What to type to see a run that goes on, or to end it."""
    watch = f"temporal workflow show --follow --workflow-id {workflow_id}"
    return f"Watch it: {watch}. Stop it: temporal workflow cancel --workflow-id {workflow_id}"


async def result(handle: WorkflowHandle[Any, Any], lines: output.Lines | None = None) -> Any:
    """A workflow's result. While the server is away, it is asked again for some minutes, since the workflow goes on.

    Args:
        lines: Where to say that it is away.

    Raises:
        BadInput: if it refused its input.
        RunFailed: if it failed, or was cancelled or terminated, with the reason.
        RPCError: if the server stays away.
    """
    until: float | None = None
    while True:
        asked = time.monotonic()
        try:
            return await handle.result()
        except WorkflowFailureError as error:
            raise _reason(
                error, error.cause, "the run was", "; nothing of it was published, unless it was just publishing"
            ) from None
        except RPCError as error:
            now = time.monotonic()
            if until is None or now - asked > _AWAY_SECONDS:  # it was there since
                until = now + _AWAY_SECONDS
            if error.status in _SAYS_WHY or now > until:
                raise
            if lines:
                lines.lacking(f"Temporal does not answer any more; it is asked again for {_AWAY_SECONDS:.0f} s")
            await asyncio.sleep(POLL_SECONDS)


def _reason(error: Exception, cause: BaseException | None, what: str, so: str = "") -> EntrepotError:
    """Why something failed on the worker, as the error that it would be here."""
    match cause:
        case ApplicationError():
            return (BadInput if cause.type in _REFUSED else RunFailed)(cause.message)
        case CancelledError():
            return RunFailed(f"{what} cancelled{so}")
        case TerminatedError():
            return RunFailed(f"{what} terminated{so}")
    return RunFailed(str(cause or error))


async def watch(client: Client, handle: WorkflowHandle[Any, Any], console: Console) -> Any:
    """Waits for a run's result and shows its progress meanwhile, live on a terminal, else a line for what happens.

    Raises:
        RunFailed, BadInput: as `result`.
    """
    lines = output.Lines(console)
    ending = asyncio.create_task(result(handle, lines))
    standstill = _Standstill(client, handle, lines)
    with Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else nullcontext() as live:
        pause = POLL_SECONDS
        while not (await asyncio.wait({ending}, timeout=pause))[0]:
            found = await progress(handle, Progress)
            # Every answer carries every step, so a large pipeline is asked less often.
            pause = POLL_SECONDS * max(1.0, len(found.steps) / 100 if found else 1.0)
            if found is not None and found.steps:
                live.update(output.progress(found), refresh=True) if live else lines.states(found.steps)
            await standstill.look()
            lines.retries(await _retries(handle))
    if not live:
        ended = None if ending.exception() else ending.result()
        if ended is not None and "outcome" in ended:
            lines.states(RunSummary.model_validate(ended).steps)
        # Of a comparison; of a run that failed: where, and what was done by then.
        elif last := await progress(handle, Progress):
            lines.states(last.steps)
    return ending.result()


async def wait_with_hints(client: Client, handle: WorkflowHandle[Any, Any]) -> Any:
    """Waits for a workflow's result. Says on standard error if there is no worker, and what is tried again, and why.

    Raises:
        RunFailed, BadInput: as `result`.
    """
    lines = output.Lines(output.err)
    ending = asyncio.create_task(result(handle, lines))
    standstill = _Standstill(client, handle, lines)
    while not (await asyncio.wait({ending}, timeout=2 * POLL_SECONDS))[0]:
        lines.retries(await _retries(handle))
        await standstill.look()
    return ending.result()


class _Standstill:
    """Says what a run lacks: not at once, and not too often."""

    def __init__(self, client: Client, handle: WorkflowHandle[Any, Any], lines: output.Lines) -> None:
        self._client, self._handle, self._lines = client, handle, lines
        self._at = time.monotonic() + _PATIENCE_SECONDS

    async def look(self) -> None:
        """Looks, if it is time to."""
        if time.monotonic() >= self._at:
            self._at = time.monotonic() + _LOOK_SECONDS
            with suppress(RPCError):  # the server is away, which is told of the run itself
                self._lines.lacking(await waiting.why(self._client, self._handle))


async def _wait_for_answer(client: Client, ending: Awaitable[T], task_queue: str) -> T:
    """Waits for what a worker does, and says on standard error if there is none."""
    task = asyncio.ensure_future(ending)
    if not (await asyncio.wait({task}, timeout=_PATIENCE_SECONDS))[0]:
        output.Lines(output.err).lacking(await waiting.why(client, task_queue=task_queue))
    return await task


async def progress(handle: WorkflowHandle[Any, Any], of: type[T]) -> T | None:
    """What a workflow says of its progress; None while nobody can say it."""
    try:
        found: T = await handle.query("progress", result_type=of, rpc_timeout=timedelta(seconds=2))
        return found
    except (RPCError, RuntimeError):  # no worker just now, or the server restarts: the run goes on
        return None


async def _retries(handle: WorkflowHandle[Any, Any]) -> list[output.Retry]:
    """What failed and is tried again at the moment."""
    try:
        described = await handle.describe(rpc_timeout=timedelta(seconds=2))
    except (RPCError, RuntimeError):
        return []
    if described.raw_description.pending_workflow_task.attempt > 2:  # once, a worker may just have gone away
        return [output.Retry("", 0, _NOT_UNDERSTOOD)]
    return [
        output.Retry(each.activity_id, each.attempt - 1, await _why(described.data_converter, each))
        for each in described.raw_description.pending_activities
        if each.attempt > 1
    ]


async def _why(converter: DataConverter, pending: PendingActivityInfo) -> str:
    failed = await converter.decode_failure(pending.last_failure)
    if isinstance(failed, ApplicationError):
        return failed.message
    attempt = f"attempt {pending.attempt - 1} of {pending.maximum_attempts}; it is tried again"
    said = pending.last_failure.message or "its worker went away"
    return f"{pending.activity_type.name}: {said} ({attempt})"

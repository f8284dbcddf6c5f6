"""How a declared activity is implemented: by a plain method that may block. What all of them need stands here, once.

A thread of its own, heartbeats, interruption when it is cancelled, and failures that say whose work it was, of which
step, and whether it is tried again.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import datetime
import functools
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from temporalio import activity
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError

from entrepot.activities.runtime.context import ActivityContext
from entrepot.activities.runtime.hints import noted
from entrepot.activities.runtime.tenant import Tenants
from entrepot.errors import BadInput, EntrepotError, PipelineError, Unavailable
from entrepot.language.names import DEFAULT_ENVIRONMENT, EVERY_PIPELINE
from entrepot.protocol.activities import Activity, Q, R
from entrepot.protocol.maintenance import OfEnvironment
from entrepot.protocol.messages import (
    ATTEMPT_FAILED,
    RUNS,
    Context,
    FailedAttempt,
    Request,
    Target,
    TenantInput,
)
from entrepot.protocol.parsing import parse
from entrepot.tracebacks import NOT_WRITABLE, author_traceback, cut, describe, is_transient, message, origin

HEARTBEAT_SECONDS = 5.0
_LONGEST = 2_400
"""Characters of a failure's sentence: with its causes, each of which repeats it, some KB in all."""
_FIRST_ATTEMPTS = 4
"""A run is told of each of these that fails; then of those whose number is a power of two."""
_TELLING = datetime.timedelta(seconds=2)
_THREADS = ThreadPoolExecutor(max_workers=10_000, thread_name_prefix="entrepot")
"""No activity waits for another's thread: how many run at once, a worker's slots and its tenants' turns say."""


class Activities:
    """The activities of one room: methods marked by `implements` or `implements_async`.

    Args:
        tenants: Whose work is done.
    """

    def __init__(self, tenants: Tenants) -> None:
        self._tenants = tenants

    def implemented(self) -> dict[Activity[Any, Any], Callable[..., Any]]:
        """What a worker registers, by what it implements."""
        marked = {name: getattr(member, "implements", None) for name, member in vars(type(self)).items()}
        return {declared: getattr(self, name) for name, declared in marked.items() if declared is not None}


A = TypeVar("A", bound=Activities)


def implements(
    declared: Activity[Q, R],
) -> Callable[[Callable[[A, ActivityContext, Q], R]], Callable[[A, Q], Coroutine[Any, Any, R]]]:
    """Makes a method the implementation of a declared activity. It is given its work and the request, and may block.

    Whatever it raises becomes an ApplicationError, not retryable where trying again would not help.
    """

    def decorate(method: Callable[[A, ActivityContext, Q], R]) -> Callable[[A, Q], Coroutine[Any, Any, R]]:
        async def execute(self: A, request: Any = None) -> R:
            return await _execute(self._tenants, declared, functools.partial(method, self), request)

        return _defined(declared, method, execute)

    return decorate


def implements_async(
    declared: Activity[Q, R],
) -> Callable[[Callable[[A, Q], Coroutine[Any, Any, R]]], Callable[[A, Q], Coroutine[Any, Any, R]]]:
    """Makes a coroutine the implementation of a declared activity that waits for Temporal alone.

    It is given the request, needs no thread, and opens nothing of a tenant's. What can become of it is as above.
    """

    def decorate(method: Callable[[A, Q], Coroutine[Any, Any, R]]) -> Callable[[A, Q], Coroutine[Any, Any, R]]:
        async def execute(self: A, request: Any = None) -> R:
            try:
                return await method(self, parse(declared.request, request, declared.name))
            except EntrepotError as error:
                raise to_application_error(error) from None

        return _defined(declared, method, execute)

    return decorate


def _defined(
    declared: Activity[Q, R], method: Callable[..., Any], execute: Callable[[A, Q], Coroutine[Any, Any, R]]
) -> Callable[[A, Q], Coroutine[Any, Any, R]]:
    """What a worker registers. It takes any JSON: what Temporal's own converter refuses would be tried for ever."""
    functools.update_wrapper(execute, method)
    del execute.__dict__["__wrapped__"]  # Temporal reads the types of what it calls, which is `execute`
    execute.__annotations__ = {"request": Any, "return": declared.result}
    setattr(execute, "implements", declared)  # noqa: B010 - a function has no such attribute of its own
    return activity.defn(name=declared.name)(execute)


def context_of(request: Request | TenantInput) -> Context:
    """The run that a request is of. What people ask for by itself is one of its own."""
    if isinstance(request, Request):
        return request.context
    info = activity.info()
    return Context(
        tenant=request.tenant,
        pipeline=request.pipeline or EVERY_PIPELINE,
        environment=request.environment if isinstance(request, Target | OfEnvironment) else DEFAULT_ENVIRONMENT,
        run=str(info.workflow_run_id or info.activity_run_id),
    )


async def _execute(
    tenants: Tenants, declared: Activity[Q, R], method: Callable[[ActivityContext, Q], R], payload: Any
) -> R:
    try:
        request = parse(declared.request, payload, declared.name)
        context = context_of(request)
        about, warehouse = (request.about, request.warehouse) if isinstance(request, Request) else ((), "")
        tenant = tenants.get(context.tenant, warehouse)
    except EntrepotError as error:
        raise to_application_error(error) from None
    work = ActivityContext(tenant, context.run, ",".join(about[:3]) or declared.name, activity.info().workflow_id or "")
    outcome = await _in_thread(work, functools.partial(method, work, request))
    if isinstance(outcome, _Failed):
        failure = to_application_error(outcome.error, _where(message(outcome.error), context, declared.name, about))
        if about and not context.backend and not failure.non_retryable:
            await _tell_run(FailedAttempt(steps=about, attempt=activity.info().attempt, why=failure.message))
        raise failure
    return outcome


async def _tell_run(failed: FailedAttempt) -> None:
    """Tells the run of an attempt that is not the last. Each is a few events in its history, so of many only some."""
    info = activity.info()
    is_told = failed.attempt <= _FIRST_ATTEMPTS or failed.attempt.bit_count() == 1
    if info.workflow_id is None or info.workflow_type not in RUNS or is_last_attempt() or not is_told:
        return
    handle = activity.client().get_workflow_handle(info.workflow_id, run_id=info.workflow_run_id)
    with contextlib.suppress(RPCError):  # it is told elsewhere, too
        await handle.signal(ATTEMPT_FAILED, failed, rpc_timeout=_TELLING)


def _where(sentence: str, context: Context, activity: str, about: tuple[str, ...]) -> str:
    """Whose work failed, and of which step, as far as the sentence does not say so itself."""
    tenant, pipeline = f"tenant {context.tenant!r}", f"pipeline {context.pipeline!r}"
    told = sentence.startswith(tenant)
    where = [] if told else [tenant]
    if context.pipeline != EVERY_PIPELINE and not (told and pipeline in sentence) and not sentence.startswith(pipeline):
        where.append(pipeline)
    if about and not any(repr(name) in sentence for name in about):
        where.append(f"{activity} {','.join(about[:3])!r}")
    return ", ".join(where)


async def _in_thread(work: ActivityContext, call: Callable[[], R]) -> R | _Failed:
    """Runs blocking work in a thread, and heartbeats until it ends. When it is cancelled, the work is interrupted."""
    context = contextvars.copy_context()
    future = asyncio.get_running_loop().run_in_executor(_THREADS, context.run, _outcome, call)
    try:
        while not (await asyncio.wait({future}, timeout=HEARTBEAT_SECONDS))[0]:
            activity.heartbeat(*([work.progress] if work.progress else []))
    except asyncio.CancelledError:
        work.stop()
        await asyncio.wait({future})
        raise
    return future.result()


@dataclass(frozen=True)
class _Failed:
    """What the work raised. As a value: some of what code may raise would end the thread, the loop or the worker."""

    error: BaseException


def _outcome(call: Callable[[], R]) -> R | _Failed:
    try:
        return call()
    except BaseException as error:
        return _Failed(error)


def to_application_error(error: BaseException, where: str = "") -> ApplicationError:
    """The failure that Temporal records: a sentence, a type, whether it is tried again, and the author's own lines."""
    refused = isinstance(error, BadInput | PipelineError)
    again = is_transient(error) is not False  # of what says nothing about it, the next attempt knows more
    hint = "" if again and not is_last_attempt() else noted(error)
    most = _LONGEST - len(hint)
    text = cut(": ".join(filter(None, (where, describe(error, most)))), most)
    text += ("" if refused else _attempts(again)) + hint
    failure = ApplicationError(text, type=_type(error), non_retryable=not again)
    if (first := origin(error)) is not None:
        # Temporal shows nothing of a failure beyond 4 KB, so our own lines are left out where there are the author's.
        failure.__cause__ = ApplicationError(describe(first, 200), type=_type(first)).with_traceback(
            author_traceback(first)
        )
    return failure


def _type(error: BaseException) -> str:
    is_disk = isinstance(error, OSError) and error.errno in NOT_WRITABLE
    return Unavailable.__name__ if is_disk else cut(type(error).__name__, 100)


def is_last_attempt() -> bool:
    """Whether the activity is not tried again if this attempt fails."""
    return activity.in_activity() and activity.info().attempt == _most_attempts()


def _most_attempts() -> int:
    policy = activity.info().retry_policy
    return policy.maximum_attempts if policy else 0


def _attempts(again: bool) -> str:
    info, most = activity.info(), _most_attempts()
    if not again:
        return " (it is not tried again)"
    if info.attempt == most:
        return f" (it was tried {most} times)" if most > 1 else ""
    return f" (attempt {info.attempt} of {most}; it is tried again)" if most else f" (attempt {info.attempt})"

"""`Trigger`: begins a pipeline's runs when something has happened. One for each tenant and pipeline, for ever.

It is told of publishes by signals, and looks at sources and code by itself. What happens while a run goes on is kept
for the next. What it knows is one message, with which it continues as new.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.common import SearchAttributePair, TypedSearchAttributes, VersioningBehavior, WorkflowIDReusePolicy
from temporalio.exceptions import (
    ActivityError,
    ApplicationError,
    ChildWorkflowError,
    WorkflowAlreadyStartedError,
    is_cancelled_exception,
)
from temporalio.workflow import ChildWorkflowCancellationType, ParentClosePolicy

from entrepot.language.limits import StepLimits, duration_text
from entrepot.language.names import DEFAULT_ENVIRONMENT
from entrepot.protocol import activities
from entrepot.protocol.activities import Activity
from entrepot.protocol.environments import Needed
from entrepot.protocol.messages import Target
from entrepot.protocol.triggers import (
    CODE,
    PROMISE,
    SOURCE,
    Cause,
    Looked,
    Marks,
    ProbeInput,
    RunAsked,
    Tried,
    TriggerSettings,
    TriggerState,
)
from entrepot.workflows.around.looks import (
    AT_LEAST,
    LONG_LOOK,
    SOONEST,
    failed,
    is_long,
    pause_after,
    text_of,
    time_of,
    trouble,
)
from entrepot.workflows.calls import call, check_not_cancelled, failure_of, priority
from entrepot.workflows.progress import waiting_for
from entrepot.workflows.search_attributes import CAUSE, ENVIRONMENT, PIPELINE, TENANT, label

CODE_EVERY = timedelta(minutes=1)
ONE_LOOK = StepLimits(timeout=timedelta(minutes=1), attempts=1, backoff=timedelta(seconds=1))
"""A probe is to be cheap; one that hangs holds up nobody for longer."""
MOST_ATTEMPTS = 3
"""So often a run begins that has met another one, with which it could not publish."""
MOST_DEBOUNCES = 10
"""What goes on and on happening is waited for no longer than this many times `debounce`."""
FIRST_PAUSE = timedelta(minutes=1)
"""After a run for a promise that has not made its table fresher, the next waits twice as long, then four times ..."""
MOST_NAMED = 10
"""Promises that are named in what a run says of why it began."""
WATCH = timedelta(seconds=30)


def due(state: TriggerState) -> datetime.datetime | None:
    """When the next run is to begin, by what has happened so far; None: nothing has that would do."""
    settings = state.settings
    if not state.pending or (settings.when == "all" and set(settings.causes) - set(state.pending)):
        return None
    firsts = [time_of(each.first) for each in state.pending.values()]
    whole = max(firsts) if settings.when == "all" else min(firsts)
    debounce = timedelta(seconds=settings.debounce)
    calm = max(time_of(each.last) for each in state.pending.values()) + debounce
    at = whole if PROMISE in state.pending else min(calm, whole + MOST_DEBOUNCES * debounce)
    return max(at, time_of(state.began) + timedelta(seconds=settings.quiet)) if state.began else at


@workflow.defn(name="Trigger")
class Trigger:
    """Begins a pipeline's runs when something has happened: once for each."""

    @workflow.init
    def __init__(self, state: TriggerState) -> None:
        self._state = state
        self._has_news = False

    @workflow.query
    def state(self) -> TriggerState:
        """What it waits for, and what it knows."""
        return self._state

    @workflow.signal
    def happened(self, cause: Cause) -> None:
        """Something has, for which there is to be a run."""
        self._take(self._state.told(cause))

    @workflow.signal
    def configure(self, settings: TriggerSettings) -> None:
        """The tenant file says something else now."""
        self._take(self._state.configured(settings))
        workflow.upsert_memo({"trigger": settings.model_dump(mode="json")})

    @workflow.signal
    def pause(self, note: str = "") -> None:
        """No run begins from now on; what happens is kept."""
        self._take(self._state.model_copy(update={"paused": note or "without a note"}))

    @workflow.signal
    def resume(self) -> None:
        """Runs begin again; what has happened meanwhile causes one."""
        self._take(self._state.model_copy(update={"paused": None}))

    @workflow.run
    async def run(self, state: TriggerState) -> None:
        """Goes on until it is cancelled. A run that it has begun goes on by itself."""
        label(Target(tenant=state.tenant, pipeline=state.pipeline, environment=state.settings.environment))
        while True:
            check_not_cancelled()
            self._has_news = False
            self._show()
            if is_long():
                memo = {"made_by": workflow.info().task_queue, "trigger": self._state.settings.model_dump(mode="json")}
                workflow.continue_as_new(self._state, memo=memo)
            now = workflow.now()
            if self._state.running:
                await self._watch()
            elif (at := self._due()) is not None and at <= now:
                self._take(self._state.begun(text_of(now)))
                await self._begin()
            elif looks := [of for of, when in self._looks().items() if when <= now]:
                await self._look(looks[0])
            else:
                await self._wait(min([*self._looks().values(), *([at] if at else [])], default=None))

    async def _wait(self, until: datetime.datetime | None) -> None:
        timeout = until - workflow.now() if until is not None else None
        with suppress(TimeoutError):
            await workflow.wait_condition(lambda: self._has_news, timeout=timeout, timeout_summary="something happens")

    def _take(self, state: TriggerState) -> None:
        self._has_news = self._has_news or state is not self._state
        self._state = state

    def _due(self) -> datetime.datetime | None:
        return None if self._state.paused is not None else due(self._state)

    # Runs

    async def _begin(self) -> None:
        """Begins the run for all that has happened, and waits until it has ended."""
        while (running := self._state.running) is not None:
            state = self._state
            environment = state.settings.environment
            target = {"tenant": state.tenant, "pipeline": state.pipeline}
            target |= {"environment": environment} if environment != DEFAULT_ENVIRONMENT else {}
            target |= {"select": running.select} if running.select else {}
            again = f":{running.attempt}" if running.attempt > 1 else ""
            attributes = {TENANT: state.tenant, PIPELINE: state.pipeline, ENVIRONMENT: environment}
            attributes[CAUSE] = running.causes[:200]
            self._show()
            try:
                run = await workflow.start_child_workflow(
                    "Pipeline",
                    {**target, "why": running.why},
                    id=f"{running.workflow_id}{again}",
                    # Whatever becomes of the trigger, a run that has begun goes on.
                    parent_close_policy=ParentClosePolicy.ABANDON,
                    cancellation_type=ChildWorkflowCancellationType.ABANDON,
                    id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                    search_attributes=TypedSearchAttributes([SearchAttributePair(k, v) for k, v in attributes.items()]),
                    static_summary=f"{state.pipeline} for {state.tenant}: {running.why}"[:190],
                    memo={"why": running.why},
                    priority=priority(state.tenant),
                )
            except WorkflowAlreadyStartedError:  # by a trigger before this one, which was terminated
                return
            await workflow.wait_condition(lambda run=run: run.done() or is_long())  # type: ignore[misc]
            if not run.done():
                return  # it continues as new, and watches
            self._ended(await _outcome(run))

    def _ended(self, failure: ApplicationError | None) -> None:
        running = self._state.running
        assert running is not None
        if failure is not None and failure.type == "Conflict" and running.attempt < MOST_ATTEMPTS:
            once_more = running.model_copy(update={"attempt": running.attempt + 1})
            self._take(self._state.model_copy(update={"running": once_more}))
        else:
            how = f"failed: {failure.message}" if failure is not None else "done"
            self._take(self._state.ended(f"{running.workflow_id}, since {running.why}: {how}"))

    async def _watch(self) -> None:
        """Waits for a run that an execution before this one has begun."""
        running = self._state.running
        assert running is not None
        again = f":{running.attempt}" if running.attempt > 1 else ""
        asked = RunAsked(tenant=self._state.tenant, workflow_id=f"{running.workflow_id}{again}")
        try:
            found = await call(activities.RUN_ENDED, asked, priority=priority(self._state.tenant))
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise
            found = None
        if found is None or not found.has_ended:
            await workflow.sleep(WATCH, summary="until its run has ended")
            return
        self._ended(ApplicationError("see there", type=found.failure) if found.failure else None)
        if self._state.running is not None:
            await self._begin()

    # Looks

    def _looks(self) -> dict[str, datetime.datetime]:
        """What is to be looked at, and when next. While all is there for a run, nothing has to be."""
        wanted = {of for of in (SOURCE, CODE, PROMISE) if of in self._state.settings.causes}
        looked = {of: self._state.looked.get(of, Looked()) for of in sorted(wanted)}
        return {of: time_of(its.next) if its.next else workflow.now() for of, its in looked.items()}

    async def _look(self, of: str) -> None:
        if of == PROMISE:
            await self._look_at_promises()
            return
        state, before, now = self._state, self._state.looked.get(of, Looked()), workflow.now()
        seconds = state.settings.source
        every = CODE_EVERY if of == CODE or seconds is None else timedelta(seconds=seconds)
        asked = ProbeInput(tenant=state.tenant, pipeline=state.pipeline)
        which: Activity[ProbeInput, Marks] = activities.CODE if of == CODE else activities.PROBE
        try:
            marks = (await call(which, asked, summary=of, priority=priority(state.tenant), limits=ONE_LOOK)).marks
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise
            changes = failed(before, failure_of(error, ONE_LOOK).message, every)
            self._found(of, before.model_copy(update=changes))
            return
        looked, changed = compared(of, before, marks, text_of(now + every))
        what = "new code was deployed" if of == CODE else f"the source of {', '.join(changed)} has something new"
        key = json.dumps(marks, sort_keys=True)
        self._found(
            of, looked, Cause(of=of, key=f"{text_of(now)} {key}", what=what, at=text_of(now)) if changed else None
        )

    async def _look_at_promises(self) -> None:
        state, before = self._state, self._state.looked.get(PROMISE, Looked())
        target = {"tenant": state.tenant, "pipeline": state.pipeline, "environment": state.settings.environment}
        asked = ProbeInput.model_validate(target)
        try:
            needed = await call(activities.NEEDED, asked, priority=priority(state.tenant), limits=LONG_LOOK)
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise
            changes = failed(before, failure_of(error, LONG_LOOK).message, SOONEST)
            self._found(PROMISE, before.model_copy(update=changes))
            return
        now = workflow.now()
        chosen, tried, next = to_keep(needed, self._state.tried, now)
        self._take(self._state.model_copy(update={"tried": tried}))
        kept = ", ".join(f"{each.table}: {each.promise}" for each in chosen[:MOST_NAMED])
        kept += f" and {len(chosen) - MOST_NAMED} more" if len(chosen) > MOST_NAMED else ""
        what = f"to keep the promise{'s' if len(chosen) > 1 else ''} of {kept}"
        steps = tuple(sorted({step for each in chosen for step in each.steps}))
        cause = Cause(of=PROMISE, key=text_of(now), what=what, at=text_of(now), steps=steps)
        self._found(PROMISE, Looked(next=text_of(next)), cause if chosen else None)

    def _found(self, of: str, looked: Looked, cause: Cause | None = None) -> None:
        if of in self._state.settings.causes:  # which may have changed meanwhile
            self._take(self._state.found(of, looked, cause))

    # What people see

    def _show(self) -> None:
        state = self._state
        lines = [f"**{state.pipeline}** for **{state.tenant}** runs when {described(state.settings)}", ""]
        if state.paused is not None:
            lines += [f"**Paused:** {state.paused}", ""]
        if state.running is not None:
            lines += [waiting_for(f"{state.running.workflow_id}, since {state.running.why}"), ""]
        lines += [f"- waits to begin a run: {each.sentence}" for each in state.pending.values()]
        if state.pending and (at := self._due()) is not None:
            lines += [f"- its next run begins at {text_of(at)[:19]} UTC"]
        lines += [trouble(of, its) for of, its in state.looked.items() if its.failures]
        lines += [f"- {state.runs} runs; the last: {' '.join(state.last.split())}"] if state.last else []
        workflow.set_current_details("\n".join(lines))


@workflow.defn(name="Trigger", versioning_behavior=VersioningBehavior.AUTO_UPGRADE)
class VersionedTrigger(Trigger):
    """The same, in workers that are versions of a deployment: it goes on with the code that is current."""

    @workflow.init
    def __init__(self, state: TriggerState) -> None:
        super().__init__(state)

    @workflow.run
    async def run(self, state: TriggerState) -> None:
        """As `Trigger`."""
        await super().run(state)


def compared(of: str, before: Looked, marks: dict[str, str], next: str) -> tuple[Looked, list[str]]:
    """What is known after a look, and what has changed since the last.

    A source that is looked at for the first time may have something new. Code has to be found twice: while workers are
    replaced, old and new ones answer in turns; and the first that is found is no news.
    """
    if of == CODE:
        if before.marks is None or marks == before.marks:
            return Looked(marks=marks, next=next), []
        if marks != before.candidate:
            return Looked(marks=before.marks, candidate=marks, next=next), []
        return Looked(marks=marks, next=next), sorted(marks)
    known = before.marks or {}
    return Looked(marks=marks, next=next), sorted(step for step, mark in marks.items() if known.get(step) != mark)


def to_keep(
    needed: Sequence[Needed], tried: Mapping[str, Tried], now: datetime.datetime
) -> tuple[list[Needed], dict[str, Tried], datetime.datetime]:
    """For which tables a run begins now, what was tried then, and when to look again.

    What would need a run before this one is likely to end is taken along. What is as old as when a run for it began had
    that run in vain: the next waits, each time twice as long. It is for all such tables that share a step, and for no
    other, since that would fail with them.
    """
    vain = {each.table: old for each in needed if (old := tried.get(each.table)) and old.as_of == each.as_of}
    begins = {each.table: _next_try(each, vain.get(each.table)) for each in needed}
    due = [each for each in needed if begins[each.table] <= now]
    if chosen := [each for each in due if each.table not in vain]:
        lead = max(each.lead for each in chosen)
        until = {each.table: now + timedelta(seconds=min(lead, each.lead)) for each in needed}
        chosen = [each for each in needed if each.table not in vain and begins[each.table] <= until[each.table]]
    elif due:
        steps = set(due[0].steps)
        again = [each for each in needed if each.table in vain and time_of(each.begin) <= now]
        chosen = [each for each in again if steps & set(each.steps)]
    times = 1 + max((vain[each.table].times for each in chosen if each.table in vain), default=0)
    begun = {each.table: Tried(as_of=each.as_of, times=times, at=text_of(now)) for each in chosen}
    after = {**vain, **begun}
    upcoming = [_next_try(each, after.get(each.table)) for each in needed]
    return chosen, after, max(now + SOONEST, min([*upcoming, now + AT_LEAST]))


def _next_try(needed: Needed, vain: Tried | None) -> datetime.datetime:
    begin = time_of(needed.begin)
    return max(begin, time_of(vain.at) + pause_after(vain.times, FIRST_PAUSE)) if vain is not None else begin


def described(settings: TriggerSettings) -> str:
    """When a trigger begins runs, for people."""
    parts = [f"{each} published" for each in settings.published]
    if settings.source is not None:
        parts.append(f"its sources have something new (every {span(settings.source)})")
    if settings.deployed:
        parts.append("new code is deployed")
    if settings.promises:
        parts.append("a promise to be fresh would be broken")
    text = (" and " if settings.when == "all" else " or ").join(parts)
    text += f", once it is calm for {span(settings.debounce)}" if settings.debounce else ""
    text += f", {span(settings.quiet)} after the run before at the earliest" if settings.quiet else ""
    return text + (f", in {settings.environment}" if settings.environment != DEFAULT_ENVIRONMENT else "")


def span(seconds: float) -> str:
    """A duration, as it is written in the tenant file."""
    return duration_text(timedelta(seconds=seconds))


async def _outcome(run: Any) -> ApplicationError | None:
    try:
        await run
    except ChildWorkflowError as error:
        return failure_of(error)
    return None

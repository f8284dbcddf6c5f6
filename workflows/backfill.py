"""A range of the past, loaded again interval by interval: `Backfill`, and `BackfillInterval` for each.

What is loaded is shown by one run at the end, which computes what follows from it, checks it and publishes it.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Collection, Iterator
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from temporalio import workflow
from temporalio.exceptions import ApplicationError, ChildWorkflowError, is_cancelled_exception

from entrepot.language.interval import Interval, joined, without
from entrepot.language.names import NOMINAL_TIME
from entrepot.protocol import activities
from entrepot.protocol.backfills import (
    LEFT,
    MOST_AT_ONCE,
    BackfillInput,
    BackfillProgress,
    BackfillState,
    Failed,
    IntervalInput,
    LeftOver,
    StandsRequest,
    told,
)
from entrepot.protocol.messages import Backfill as Range
from entrepot.protocol.messages import Context, ExtractRequest, LoadRequest, RunInput, Target
from entrepot.workflows.around.hooks import event_of, tell
from entrepot.workflows.around.slots import Claim
from entrepot.workflows.calls import (
    call,
    check_not_cancelled,
    failure,
    failure_of,
    in_a_sentence,
    nominal_time,
    parse_input,
    priority,
)
from entrepot.workflows.progress import RunSummary, backfill_markdown
from entrepot.workflows.search_attributes import OUTCOME, STAGE, label, label_stage

BEHIND = 4
"""The priority of all that a backfill does: behind runs, which have 3."""
MOST_FAILED = 10
"""After so many intervals that could not be loaded, no other is begun."""
MOST_TOLD = 3
"""So many of them are told with why."""
ATTEMPTS = 5
"""So often an interval is read anew, or the end published, where a run of the same pipeline came first."""


@workflow.defn(name="BackfillInterval")
class BackfillInterval:
    """Loads one interval of a backfill."""

    @workflow.run
    async def run(self, request: IntervalInput) -> int:
        """The steps beside each other; how many rows they brought."""
        context = request.context.model_copy(update={"run": workflow.info().run_id})
        target = Target(tenant=context.tenant, pipeline=str(context.pipeline), environment=context.environment)
        label(target)
        with in_a_sentence():
            loads = (self._load(context, request, name) for name in request.steps)
            ended = await asyncio.gather(*loads, return_exceptions=True)
            await call(activities.END_INTERVAL, target)
            if failed := [each for each in ended if isinstance(each, BaseException)]:
                raise failed[0]
        return sum(each for each in ended if isinstance(each, int))

    async def _load(self, context: Context, request: IntervalInput, name: str) -> int:
        limits = request.limits_of.get(name, request.limits)
        turn = priority(context.tenant)
        extract = ExtractRequest(context=context, step=name, backfill=request.interval, is_all=True)
        load = await call(activities.EXTRACT, extract, summary=name, limits=limits, priority=turn)
        if load.unchanged:
            return 0
        asked = LoadRequest(context=context, load=load, may_follow=not request.one_by_one)
        result = await call(activities.LOAD, asked, summary=name, limits=limits, priority=turn)
        return result.rows or 0


@workflow.defn(name="Backfill")
class Backfill:
    """Loads a range of the past again."""

    def __init__(self) -> None:
        self._progress = BackfillProgress()
        self._one_by_one = self._is_hopeless = False
        self._since: datetime | None = None
        """Since when it loads, beyond what its progress counts; None: it does not, or is paused."""
        self._left: tuple[Interval, ...] = ()
        self._after: dict[str, int] = {}
        """How often each step had been loaded in the environment when it began."""

    @workflow.query
    def progress(self) -> BackfillProgress:
        """How far it has come."""
        return self._now()

    @workflow.update
    def pause(self) -> BackfillProgress:
        """Begins no further interval until `resume`. Those that run come to their end."""
        self._change(paused=True)
        return self._progress

    @pause.validator
    def _may_pause(self) -> None:
        self._check_loads()

    @workflow.update
    def resume(self) -> BackfillProgress:
        """Goes on after `pause`."""
        self._change(paused=False)
        return self._progress

    @resume.validator
    def _may_resume(self) -> None:
        self._check_loads()

    @workflow.update
    def at_once(self, most: Any) -> BackfillProgress:
        """Changes how many intervals are loaded side by side, at most."""
        self._change(at_once=most)
        return self._progress

    @at_once.validator
    def _may_be_at_once(self, most: Any) -> None:
        self._check_loads()
        if not isinstance(most, int) or isinstance(most, bool) or not 1 <= most <= MOST_AT_ONCE:
            raise failure(f"at_once is a whole number from 1 to {MOST_AT_ONCE}, not {most!r}", "BadInput")
        if self._one_by_one and most > 1:
            raise failure(self._progress.notes[0], "BadInput")

    def _check_loads(self) -> None:
        if self._progress.stage not in ("prepare", "load"):
            raise failure(f"nothing is loaded any more: its stage is {self._progress.stage!r}", "BadInput")

    @workflow.run
    async def run(self, payload: Any = None, state: BackfillState | None = None) -> BackfillProgress:
        """Starts with a `BackfillInput`; with a state it goes on with what an execution before it has left."""
        self._request = parse_input(BackfillInput, payload)
        self._claim = Claim(self._request.tenant)
        try:
            with in_a_sentence():
                await self._execute(state)
        except BaseException as error:
            if workflow.in_workflow():  # else it is thrown out of a worker's memory, and goes on elsewhere
                self._ended("cancelled" if is_cancelled_exception(error) else "failed")
            raise
        finally:
            await self._claim.close()
        return self._progress

    async def _execute(self, state: BackfillState | None) -> None:
        request = self._request
        if state is None:
            await self._prepare()
            check_not_cancelled()
        else:
            self._prepared, self._parameters, self._progress = state.prepared, state.parameters, state.progress
            self._one_by_one, self._after = state.one_by_one, state.after
            self._left = tuple(map(_interval, state.left))
        self._priority = priority(request.tenant, self._prepared.weight, BEHIND)
        self._stage("load")
        for attempt in itertools.count(1):
            await self._load_all()
            if not self._progress.failed and workflow.patched("stands"):
                await self._look_whether_it_stands(attempt)
            if not self._rest() or self._is_enough():
                break
            if workflow.info().is_continue_as_new_suggested():
                await self._goes_on()
        if self._progress.failed:
            failed = self._failure()
            # Of a failure of the run at the end, that run tells.
            await tell(self._prepared.hooks.get("failed", ()), event_of(request, "failed", error=failed.message))
            raise failed
        await self._publish()

    async def _look_whether_it_stands(self, attempt: int) -> None:
        """Loads all again, if the environment has gone back to an earlier load meanwhile: by a rollback, or by the
        promotion of another environment."""
        whose = self._request.model_dump(include={"tenant", "pipeline", "environment"})
        asked = StandsRequest(**whose, after=self._after)
        found = await call(activities.STANDS, asked, priority=priority(self._request.tenant))
        if found.stands:
            return
        said = f"{self._request.environment!r} went back to an earlier load meanwhile"
        self._left, self._after = (self._request.pieces.range,), found.after
        self._change(loaded_before=0, done=0, rows=0, notes=(*self._progress.notes, f"{said}, so all is loaded again"))
        if attempt == ATTEMPTS:
            raise failure(f"{said}, {attempt} times; start the backfill again when nobody changes it", "Conflict")

    async def _goes_on(self) -> None:
        """Goes on as a new execution, since the history of this one is long."""
        await self._claim.close()
        await workflow.wait_condition(workflow.all_handlers_finished)
        self._change(running=())
        its = BackfillState(
            prepared=self._prepared,
            parameters=self._parameters,
            one_by_one=self._one_by_one,
            after=self._after,
            progress=self._progress,
            left=tuple(map(_range, self._left)),
        )
        self._remember()
        workflow.continue_as_new(args=[self._request, its])

    async def _prepare(self) -> None:
        request = self._request
        whose = request.model_dump(include={"tenant", "pipeline", "environment"})
        self._change(**whose, start=request.start, end=request.end, at_once=request.at_once)
        run = RunInput(**whose, select=request.select, parameters=request.parameters, dry_run=True)
        self._prepared = await call(activities.PREPARE, run, priority=priority(request.tenant))
        label(request, STAGE.value_set("prepare"))
        found = await call(activities.PREPARE_BACKFILL, request, priority=priority(request.tenant))
        self._parameters = {NOMINAL_TIME: nominal_time(), **self._prepared.parameters, **request.parameters}
        pieces = request.pieces
        self._after = found.after
        self._left = (pieces.range,) if found.left is None else tuple(map(_interval, found.left))
        total, left = pieces.number, sum(pieces.of(each).number for each in self._left)
        self._one_by_one = bool(found.one_by_one)
        notes = [found.one_by_one] if found.one_by_one and self._progress.at_once > 1 else []
        if total > left:
            before = f"{total - left:,} of {total:,} intervals were loaded by the backfill of before"
            notes.append(f"{before}; `again` loads them again")
        at_once = 1 if self._one_by_one else self._progress.at_once
        self._change(total=total, loaded_before=total - left, notes=tuple(notes), at_once=at_once)

    async def _load_all(self) -> None:
        """Loads what is left: until all is, too much has failed, or this execution's history is long."""
        upcoming = self._pieces()
        running: dict[asyncio.Task[int], Interval] = {}
        nothing: Interval | None = None
        following = next(upcoming, nothing)
        try:
            while running or following is not None:
                while following is not None and self._may_begin(len(running)):
                    running[asyncio.create_task(self._load(following))] = following
                    following = next(upcoming, nothing)
                self._change(running=tuple(map(told, running.values())))
                if not running and not self._progress.paused:
                    return  # what follows is not begun
                await workflow.wait_condition(partial(self._is_due, running, following))
                for task in [task for task in running if task.done()]:
                    self._loaded(running.pop(task), task)
        except BaseException:
            for task in running:
                task.cancel()
            ended = await asyncio.gather(*running, return_exceptions=True)
            for interval, rows in zip(running.values(), ended, strict=True):
                if isinstance(rows, int):
                    self._count(interval, rows)
            raise

    def _is_due(self, running: Collection[asyncio.Task[int]], following: Interval | None) -> bool:
        """Whether there is something to do: one has ended, one may begin, or none will."""
        return (
            any(task.done() for task in running)
            or (following is not None and self._may_begin(len(running)))
            or not (running or self._progress.paused)
        )

    def _pieces(self) -> Iterator[Interval]:
        """The intervals that are to be loaded, in their order."""
        return itertools.chain.from_iterable(self._request.pieces.of(each) for each in self._rest())

    def _rest(self) -> tuple[Interval, ...]:
        """What is left, but for what has failed."""
        return without(self._left, (_interval(each.interval) for each in self._progress.failed))

    def _is_enough(self) -> bool:
        """Whether so much has failed that no other interval is begun."""
        return self._is_hopeless or len(self._progress.failed) >= MOST_FAILED

    def _may_begin(self, running: int) -> bool:
        if self._progress.paused or running >= self._progress.at_once:
            return False
        return not self._is_enough() and not workflow.info().is_continue_as_new_suggested()

    async def _load(self, interval: Interval) -> int:
        request = IntervalInput(
            context=Context(
                tenant=self._request.tenant,
                pipeline=self._request.pipeline,
                environment=self._request.environment,
                run=workflow.info().run_id,
                started_at=workflow.now().replace(tzinfo=None).isoformat(),
                parameters=self._parameters,
            ),
            steps=self._prepared.ingests,
            interval=_range(interval),
            one_by_one=self._one_by_one,
            limits=self._prepared.limits,
            limits_of=self._prepared.limits_of,
        )
        async with self._claim.slot():
            return int(
                await self._child(
                    "BackfillInterval", request, told(interval), f"{self._request.pipeline}, {told(interval)}"
                )
            )

    async def _child(self, kind: str, value: Any, name: str, summary: str) -> Any:
        """Runs a child to its end: anew where a run of the same pipeline came first."""
        for attempt in itertools.count(1):
            try:
                return await workflow.execute_child_workflow(
                    kind,
                    value,
                    id=f"{workflow.info().workflow_id}/{name}",
                    priority=self._priority,
                    static_summary=summary,
                )
            except ChildWorkflowError as error:
                if attempt == ATTEMPTS or failure_of(error).type != "Conflict":
                    raise
            await workflow.sleep(timedelta(seconds=attempt), summary="a run of the pipeline came first")
        raise AssertionError

    def _loaded(self, interval: Interval, task: asyncio.Task[int]) -> None:
        error = task.exception()
        if error is None:
            self._count(interval, task.result())
        elif isinstance(error, ChildWorkflowError) and not is_cancelled_exception(error):
            failed = failure_of(error)
            self._is_hopeless |= failed.type == "BadInput"
            each = Failed(interval=_range(interval), why=failed.message)
            self._change(failed=(*self._progress.failed, each))
        else:
            raise error

    def _count(self, interval: Interval, rows: int) -> None:
        self._left = without(self._left, (interval,))
        self._change(done=self._progress.done + 1, rows=self._progress.rows + rows)

    def _failure(self) -> ApplicationError:
        progress = self._progress
        whose = f"tenant {progress.tenant!r}, pipeline {progress.pipeline!r}: "
        every = [
            f"{told(each.interval)}: {each.why.removeprefix(whose)}" for each in sorted(progress.failed, key=_start)
        ]
        more = f"; and {len(every) - MOST_TOLD} more" if len(every) > MOST_TOLD else ""
        loaded = progress.loaded_before + progress.done
        return failure(
            f"{whose}{len(every)} of {progress.total:,} intervals could not be loaded: "
            f"{'; '.join(every[:MOST_TOLD])}{more}. "
            + (f"{loaded:,} are loaded, and the next run publishes them; start" if loaded else "Start")
            + " it again to load what is left",
            "BadInput" if self._is_hopeless else "BackfillFailed",
        )

    async def _publish(self) -> None:
        """Computes what follows from what was loaded, and shows it: as any run, which is one."""
        self._stage("publish")
        await self._claim.close()  # the run has a claim of its own
        request = self._request
        value = request.model_dump(
            mode="json", include={"tenant", "pipeline", "environment", "select", "parameters"}, exclude_none=True
        )
        try:
            ended = await self._child("Pipeline", value, "publish", f"publishes what {request.pipeline} loaded again")
        except ChildWorkflowError as error:
            if is_cancelled_exception(error):
                raise
            failed = failure_of(error)
            raise failure(
                f"all intervals are loaded, and the run that publishes them failed: {failed.message}", str(failed.type)
            ) from error
        summary = RunSummary.model_validate(ended)
        self._change(run=summary.run, outcome=summary.outcome)
        self._stage("done", summary.outcome)

    def _stage(self, stage: str, outcome: str = "") -> None:
        self._change(stage=stage, running=())
        label_stage(stage, *([OUTCOME.value_set(outcome)] if outcome else []))

    def _ended(self, stage: str) -> None:
        self._stage(stage, stage)
        self._remember()

    def _remember(self) -> None:
        """What is left, for the next backfill of the same."""
        ranges = tuple(_range(each) for each in joined(self._left))
        left = LeftOver(asked=self._request.asked, after=self._after, ranges=ranges)
        workflow.upsert_memo({LEFT: left.model_dump(mode="json")})

    def _change(self, **values: Any) -> None:
        """Brings the progress up to date, and what the Web UI shows of it."""
        self._progress = self._now().model_copy(update=values)
        loads = self._progress.stage == "load" and not self._progress.paused
        self._since = workflow.now() if loads else None
        workflow.set_current_details(backfill_markdown(self._progress))

    def _now(self) -> BackfillProgress:
        """The progress, with the time until now."""
        if self._since is None:
            return self._progress
        more = (workflow.now() - self._since).total_seconds()
        return self._progress.model_copy(update={"seconds": self._progress.seconds + more})


def _start(each: Failed) -> Any:
    """Where its interval begins; those of one backfill are of one kind."""
    return each.interval.start


def _interval(range_: Range) -> Interval:
    return Interval(range_.start, range_.end)


def _range(interval: Interval) -> Range:
    assert interval.start is not None
    assert interval.end is not None
    return Range(start=interval.start, end=interval.end)

"""A run, from its input to its publish: prepare, ingest, plan, compute, verify, promote.

`Pipeline` does all of it. `Ingest`, `Transform`, `Train` and `Publish` do the same for the steps of their stage alone;
what they need from the other stages is what the environment shows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import Any, Literal

from temporalio import workflow
from temporalio.common import SearchAttributeUpdate
from temporalio.exceptions import (
    ActivityError,
    ApplicationError,
    CancelledError,
    ChildWorkflowError,
    is_cancelled_exception,
)

from entrepot.language.limits import DEFAULTS, LONGEST, StepLimits
from entrepot.language.names import NOMINAL_TIME
from entrepot.language.step import KINDS, Step, StepKind
from entrepot.planning.plan import Plan, PlannedStep
from entrepot.planning.stages import Compute, Ingest, Promote, Stage, Verify, stages
from entrepot.protocol import activities
from entrepot.protocol.activities import Activity, Q, R
from entrepot.protocol.hooks import EventName, Hooks
from entrepot.protocol.messages import (
    ATTEMPT_FAILED,
    OF_RUN,
    Batch,
    Context,
    ExtractRequest,
    FailedAttempt,
    LoadRequest,
    PlanRequest,
    Prepared,
    Promoted,
    PromoteRequest,
    RecordFailureRequest,
    RunInput,
    StepRef,
    StepResult,
    describe_changes,
)
from entrepot.protocol.parity import ParityInput, ParityReport
from entrepot.tracebacks import cut
from entrepot.workflows.around.hooks import event_of, tell
from entrepot.workflows.around.publishes import MOST_TOLD, announced
from entrepot.workflows.around.slots import Claim
from entrepot.workflows.calls import (
    call,
    caused_by,
    check_not_cancelled,
    code,
    failure,
    failure_of,
    in_a_sentence,
    nominal_time,
    parse_input,
    priority,
)
from entrepot.workflows.progress import Outcome, Progress, RunSummary
from entrepot.workflows.search_attributes import BACKEND, OUTCOME, STAGE, label, label_stage
from entrepot.workflows.steps import run_steps, without

MOST_REPLANNED = 20
"""So often a run is planned again, each time with all of its plan in the history. Afterwards nothing is compared."""
LONGEST_WHY = 1_000
"""Characters of what has caused a run, in the catalog."""


class RunWorkflow:
    """What the five workflow types share: one run and its two queries."""

    def __init__(self) -> None:
        self._progress = Progress(run=workflow.info().run_id)

    @workflow.query
    def plan(self) -> Plan | None:
        """Which steps run, which do not, and why each; nothing before the run is planned."""
        return self._progress.plan

    @workflow.query
    def progress(self) -> Progress:
        """Every step's state, rows, seconds and note."""
        return self._progress

    @workflow.signal(name=ATTEMPT_FAILED)
    def attempt_failed(self, failed: FailedAttempt) -> None:
        """A worker tells of it: Temporal does not tell a workflow of attempts."""
        self._progress.tried(failed)
        workflow.set_current_details(self._progress.markdown())

    async def _run(self, payload: Any, kinds: frozenset[StepKind]) -> RunSummary:
        request = parse_input(RunInput, payload)
        return await _Run(request, kinds, self._progress).execute()


class _Run:
    """One run's state between its stages."""

    def __init__(self, request: RunInput, kinds: frozenset[StepKind], progress: Progress) -> None:
        self._request = request
        self._kinds = kinds
        self._progress = progress
        self._started = workflow.now()
        self._is_to_show = False
        self._backend, self._parallel = "", 1
        self._plan = Plan(steps=(), versions={})
        """What comes after the ingest; empty before it is known."""
        self._promoted = Promoted(moved=(), sequence=0)
        self._spent = 0
        self._replanned = 0
        self._limits, self._limits_of = DEFAULTS, dict[str, StepLimits]()
        self._raw: dict[str, str] = {}
        """The versions of raw tables that the run has loaded, or found unchanged."""
        self._ingested: dict[str, str] = {}
        """What each ingest step did."""
        self._asked: dict[str, dict[str, Any]] = {}
        """When each ingest step began to ask its source for all that is new, and which versions its tables had then."""
        self._priority = priority(request.tenant)
        self._claim = Claim(request.tenant)
        self._hooks: Hooks = {}
        self._context = Context(
            tenant=request.tenant,
            pipeline=request.pipeline,
            environment=request.environment,
            run=workflow.info().run_id,
            started_at=self._started.replace(tzinfo=None).isoformat(),
            parameters={NOMINAL_TIME: nominal_time(), **request.parameters},
        )
        progress.tenant, progress.pipeline, progress.environment = request.tenant, request.pipeline, request.environment

    async def execute(self) -> RunSummary:
        """The whole run."""
        if not self._request.dry_run:
            self._claim.open()  # while the run is prepared, which need not wait for it
        try:
            return await self._execute_all()
        finally:
            await self._claim.close()

    async def _execute_all(self) -> RunSummary:
        with in_a_sentence():
            prepared = await self._prepare()
            self._priority = priority(self._request.tenant, prepared.weight)
            self._backend, self._parallel = prepared.backend, prepared.parallel
            self._limits, self._limits_of = prepared.limits, prepared.limits_of
            self._hooks = {} if self._request.dry_run else prepared.hooks
            parameters = {**prepared.parameters, **self._context.parameters}
            self._context = self._context.model_copy(update={"parameters": parameters})
            planned = [OUTCOME.value_set("planned")] if self._request.dry_run else []
            label(self._request, BACKEND.value_set(prepared.backend), STAGE.value_set("plan"), *planned)
        try:
            return await self._stages(prepared)
        except BaseException as error:
            if is_cancelled_exception(error):
                await self._failed("cancelled", "the run was cancelled")
            elif isinstance(error, ApplicationError):
                await self._failed("failed", error.message)
            elif isinstance(error, ActivityError | ChildWorkflowError):
                failed = self._failure_of(error)
                await self._failed("failed", failed.message)
                raise failed from error
            raise

    async def _prepare(self) -> Prepared:
        try:
            return await self._call(activities.PREPARE, self._request)
        except ActivityError as error:
            if not is_cancelled_exception(error) and not self._request.dry_run and workflow.patched("hooks"):
                # What did not come so far as to know its hooks has failed, too: a warehouse that is away, code that
                # cannot be imported. Whose tenant or pipeline nobody knows has none.
                with suppress(ActivityError):
                    self._hooks = await self._call(activities.HOOKS, self._request)
                await self._tell("failed", error=failure_of(error).message)
            raise

    async def _tell(self, event: EventName, **said: Any) -> None:
        """Tells those who want to know how the run ended, and does not wait until they do."""
        if not (hooks := self._hooks.get(event)):
            return
        await tell(hooks, event_of(self._request, event, why=self._request.why, **said))

    def _failure_of(self, error: ActivityError | ChildWorkflowError, *steps: str) -> ApplicationError:
        """Its failure; of an activity that could say nothing any more, with whose it was, and of which steps."""
        failed = failure_of(error, self._limits_for(steps) if steps else DEFAULTS)
        if isinstance(error.cause, ApplicationError):
            return failed
        whose = [f"tenant {self._request.tenant!r}", f"pipeline {self._request.pipeline!r}", *map(repr, steps)]
        return failure(f"{', '.join(whose)}, {failed.message}", failed.type or "")

    async def _stages(self, prepared: Prepared) -> RunSummary:
        """The stages, one after another. What the others do is planned when it is known what was ingested."""
        check_not_cancelled()
        selected = self._selected(prepared)
        if self._request.dry_run:
            await self._make_plan(prepared, selected, ingested=None)
            return self._summary("planned", plan=self._plan)
        if ingests := [name for name in prepared.ingests if name in selected]:
            steps = (PlannedStep(name=name, kind="ingest", action="run", why="") for name in ingests)
            await self._execute(Ingest(tuple(steps)), prepared)
        await self._make_plan(prepared, selected, ingested=self._ingested)
        if self._request.select and (cut_off := self._plan.cut_off(frozenset(selected))):
            # A stage alone leaves such steps for later; somebody who named them wants to know.
            reasons = "; ".join(f"{step.name!r} {step.why}" for step in cut_off)
            raise failure(f"the selection {self._request.select!r} cannot be computed: {reasons}", "BadInput")
        for stage in stages(self._plan, prepared.parity):
            await self._execute(stage, prepared)
        made = any(step.kind != "check" for step in self._progress.in_state("done"))
        # What was dropped by hand is shown again, too, though the plan has no move for it.
        worked = made or self._plan.moves or self._plan.removed or self._promoted.moved
        summary = self._summary("published" if worked else "nothing to do")
        warned = " with warnings" if worked and summary.warned else ""
        self._stage("done", OUTCOME.value_set(f"{summary.outcome}{warned}"))
        if worked:
            await self._tell_published()
        return summary

    async def _tell_published(self) -> None:
        moved = tuple(sorted(self._promoted.moved))
        if moved or self._plan.removed:
            await self._tell("published", tables=moved[:MOST_TOLD])
        warned = [f"{step.name}: {step.note}" for step in self._progress.in_state("done") if step.warned]
        if warned:
            await self._tell("warned", tables=moved[:MOST_TOLD], warnings=tuple(warned[:MOST_TOLD]))

    def _selected(self, prepared: Prepared) -> tuple[str, ...]:
        """The selected steps of the kinds that this workflow runs."""
        selected = tuple(n for n in prepared.selected if prepared.kinds[n] in self._kinds)
        if not selected:
            request = self._request
            what = f"the selection {request.select!r}" if request.select else f"pipeline {request.pipeline!r}"
            raise failure(f"{what} has no {' or '.join(sorted(self._kinds))} step", "BadInput")
        return selected

    async def _make_plan(self, prepared: Prepared, selected: tuple[str, ...], ingested: dict[str, str] | None) -> None:
        self._plan = await self._call(activities.PLAN, self._plan_request(prepared, selected, ingested))
        check_not_cancelled()
        self._progress.stage = "plan"
        self._progress.planned(self._plan, prepared.parity)
        self._show()

    def _plan_request(
        self, prepared: Prepared, selected: tuple[str, ...], ingested: dict[str, str] | None
    ) -> PlanRequest:
        return PlanRequest(
            context=self._context, selected=selected, raw=self._raw, ingested=ingested, anew=prepared.anew
        )

    async def _plan_again(
        self, prepared: Prepared, selected: tuple[str, ...], made: frozenset[str], running: frozenset[str]
    ) -> tuple[PlannedStep, ...]:
        """The steps that are to run, now that a table turned out to have the rows of before."""
        self._replanned += 1
        request = self._plan_request(prepared, selected, self._ingested)
        request = request.model_copy(update={"running": tuple(sorted(running))})
        newer = await self._call(activities.PLAN, request, "again")
        self._plan = self._plan.replanned(newer, made | running)
        self._progress.planned(self._plan, prepared.parity)
        self._show()
        return self._plan.to_run()

    async def _execute(self, stage: Stage, prepared: Prepared) -> None:
        match stage:
            case Ingest(steps):
                self._stage("ingest")
                for step in steps:
                    self._progress.set(step.name, "waiting")
                await run_steps(steps, self._parallel, partial(self._in_slot, self._ingest), self._finished)
            case Compute(steps):
                start = partial(self._in_slot, self._compute)
                again = partial(self._plan_again, prepared, self._selected(prepared))
                await run_steps(steps, self._parallel, start, self._finished, again)
            case Verify(tables, warehouse):
                tables = tuple(name for name in tables if name in self._plan.moves)
                if not tables:
                    return
                await self._claim.close()  # the comparison has a claim of its own
                await self._verify(tables, warehouse)
            case Promote():
                await self._promote()

    async def _in_slot(
        self, make: Callable[[list[str]], Awaitable[list[StepResult]]], batch: list[str]
    ) -> list[StepResult]:
        async with self._claim.slot():
            return await make(batch)

    async def _ingest(self, batch: list[str]) -> list[StepResult]:
        name, started = batch[0], workflow.now()
        self._progress.set(name, "running")
        self._show()
        try:
            result = await self._extract_and_load(name)
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise
            raise self._failed_step(batch, error) from error
        self._raw |= result.versions
        if self._request.backfill is None and self._request.replay is None:
            self._asked[name] = {"asked": started.replace(tzinfo=None).isoformat(), "tables": result.versions}
        return [result.model_copy(update={"seconds": (workflow.now() - started).total_seconds()})]

    async def _extract_and_load(self, name: str) -> StepResult:
        extract = ExtractRequest(
            context=self._context,
            step=name,
            refresh=self._request.refresh,
            backfill=self._request.backfill,
            replay=self._request.replay,
        )
        limits = self._limits_for([name])
        load = await self._call(activities.EXTRACT, extract, name, limits)
        if load.unchanged:
            self._ingested[name] = load.why
            return StepResult(name=name, versions=load.known, unchanged=True, note=load.why)
        result = await self._call(activities.LOAD, LoadRequest(context=self._context, load=load), name, limits)
        loaded = "; ".join(filter(None, ("loaded", describe_changes(load.changes))))
        self._ingested[name] = result.note if result.unchanged else loaded
        return result

    async def _compute(self, batch: list[str]) -> list[StepResult]:
        kind = KINDS[self._plan.kind(batch[0])]
        self._stage(kind.stage)
        for name in batch:
            self._progress.set(name, "running")
        self._show()
        try:
            results = await self._call_for(batch, kind)
        except ActivityError as error:
            for name in batch if len(batch) > 1 else ():  # which of them failed, the error says
                self._progress.set(name, "waiting")
            if is_cancelled_exception(error):
                raise
            raise self._failed_step(batch, error) from error
        for name in without(batch, results):
            self._progress.set(name, "waiting")
        return results

    async def _call_for(self, batch: list[str], kind: type[Step]) -> list[StepResult]:
        """Calls the activity that makes these steps, of which only transforms and checks come several at a time."""
        versions, identities = self._plan.versions_for(batch), self._plan.identities_for(batch)
        context, spent = self._context, self._spent
        anew = tuple(name for name in batch if name in self._plan.anew)
        before = {n: v for n, v in self._plan.before.items() if n in batch and self._replanned < MOST_REPLANNED}
        limits = self._limits_for(batch)
        summary = batch[0] if len(batch) == 1 else f"{batch[0]} and {len(batch) - 1} more"
        if kind.is_batched:
            request = Batch(
                context=context,
                steps=tuple(batch),
                versions=versions,
                identities=identities,
                spent=spent,
                anew=anew,
                before=before,
                kept=self._plan.kept_for(batch),
            )
            return await self._call(activities.TRANSFORM, request, summary, limits)
        ref = StepRef(context=context, step=batch[0], versions=versions, identities=identities, spent=spent, anew=anew)
        return [await self._call(activities.OF_ONE_STEP[kind.stage], ref, summary, limits)]

    def _limits_for(self, steps: Sequence[str]) -> StepLimits:
        """The limits of a step, or of a batch: each of its steps has its time, and the least attempts of any count."""
        each = [self._limits_of.get(name, self._limits) for name in steps]
        return StepLimits(
            timeout=min(sum((one.timeout for one in each), timedelta()), LONGEST),
            attempts=min(one.attempts for one in each),
            backoff=max(one.backoff for one in each),
        )

    def _failed_step(self, batch: list[str], error: ActivityError) -> ApplicationError:
        """What steps failed with. Several can fail before the run ends: the progress of each says why."""
        failed = self._failure_of(error, *batch)
        if len(batch) == 1:
            self._progress.set(batch[0], "failed", failed.message)
        return failed

    async def _verify(self, tables: tuple[str, ...], warehouse: str) -> None:
        """Compares what the run is about to publish with the tenant's other warehouse.

        Raises:
            ApplicationError: if they do not agree.
        """
        self._stage("parity")
        request = ParityInput(
            tenant=self._request.tenant,
            pipeline=self._request.pipeline,
            environment=self._request.environment,
            on=[self._backend, warehouse],
            select=" ".join(tables),
            raw=self._plan.versions,
            parameters=self._context.parameters,
        )
        report = ParityReport.model_validate(
            await workflow.execute_child_workflow(
                "Parity",
                request.model_dump(mode="json"),
                id=f"{workflow.info().workflow_id}:parity:{self._context.run[:13]}",
                static_summary=f"do {self._backend} and {warehouse} agree?",
            )
        )
        if not report.agrees:
            differing = [table.name for table in report.tables if not table.agrees]
            why = next((side.why for t in report.tables for side in t.sides if not side.agrees), "")
            raise failure(
                f"{', '.join(differing)} on {self._backend} and {warehouse} do not agree ({why}), so nothing "
                f"was published; see {report.link}",
                "ParityFailed",
            )

    async def _promote(self) -> None:
        self._stage("publish")
        plan = self._plan
        request = PromoteRequest(
            context=self._context,
            sequence=plan.sequence,
            moves=plan.moves,
            removes=plan.removed,
            anew=plan.anew,
            checks={s.name: plan.versions[s.name] for s in plan.steps if s.guards and s.name in plan.versions},
            products=plan.products,
            results=self._results(),
        )
        self._promoted, _ = await asyncio.gather(self._call(activities.PROMOTE, request), self._claim.close())
        count = len(self._promoted.moved)
        what = f"{self._request.tenant}/{self._request.pipeline} published {count} table{'' if count == 1 else 's'}"
        self._promoted = await announced(self._promoted, self._context, what)

    def _results(self) -> dict[str, Any]:
        """What each step did: those that were made, those that asked their sources, and the tables that were left."""
        made = {
            step.name: {
                "rows": step.rows,
                "seconds": step.seconds,
                "scanned": step.scanned,
                "note": step.note,
                "version": self._plan.versions.get(step.name),
            }
            for step in self._progress.in_state("done")
        }
        asked = {name: {**made.get(name, {}), **said} for name, said in self._asked.items()}
        rests = set(self._plan.rests)
        held = (
            step
            for step in self._plan.steps
            if (step.action == "hold" or (step.action == "skip" and step.name in rests))
            and KINDS[step.kind].is_computed_table()
        )
        return {**made, **asked, **{step.name: {"held": step.why} for step in held}, **self._about()}

    def _about(self) -> dict[str, Any]:
        """What the catalog keeps of the run itself."""
        return {OF_RUN: {"cause": caused_by(), "why": cut(self._request.why, LONGEST_WHY), "code": code()}}

    def _summary(self, outcome: Outcome, plan: Plan | None = None) -> RunSummary:
        steps = self._progress.steps
        return RunSummary(
            run=self._context.run,
            tenant=self._request.tenant,
            pipeline=self._request.pipeline,
            environment=self._request.environment,
            outcome=outcome,
            steps=[step for step in steps if step.state not in ("skipped", "held")],
            warned=[step.name for step in steps if step.warned],
            standing=[step for step in steps if step.stands],
            skipped=self._progress.count("skipped"),
            held=self._progress.count("held"),
            moved=sorted(self._promoted.moved),
            removed=list(self._plan.removed) if self._promoted.sequence else [],
            links=self._promoted.links,
            behind=list(self._promoted.behind),
            seconds=(workflow.now() - self._started).total_seconds(),
            stages=self._progress.stages if plan else [],
            plan=plan,
        )

    async def _failed(self, status: Literal["failed", "cancelled"], error: str) -> None:
        self._progress.error = error
        for step in self._progress.in_state("running"):
            step.state = "failed"
        if self._request.dry_run:  # nobody has to look at it, and the catalog keeps runs
            self._stage("plan")
            return
        self._stage(status, OUTCOME.value_set(status))
        try:
            request = RecordFailureRequest(
                context=self._context,
                status=status,
                error=error,
                results={**self._asked, **self._about()},
                moves=self._plan.moves or self._raw,
            )
            told = self._tell("failed", error=error) if status == "failed" else asyncio.sleep(0)
            # Who is told does not wait for a warehouse, which may be what has failed.
            await asyncio.gather(told, self._call(activities.RECORD_FAILURE, request), self._claim.close())
        except (ActivityError, CancelledError, asyncio.CancelledError):
            workflow.logger.warning("the failure of the run could not be recorded in the catalog")

    def _finished(self, result: StepResult) -> None:
        self._spent += result.scanned or 0
        self._progress.finished(result)
        self._show()

    def _stage(self, stage: str, *more: SearchAttributeUpdate[str]) -> None:
        if self._progress.stage != stage:
            self._progress.stage = stage
            label_stage(stage, *more)
        self._show()

    def _show(self) -> None:
        """Brings the Web UI's details up to date, once whatever happens at the same time has happened."""
        if not self._is_to_show:
            self._is_to_show = True
            asyncio.get_running_loop().call_soon(self._show_now)

    def _show_now(self) -> None:
        self._is_to_show = False
        workflow.set_current_details(self._progress.markdown())

    async def _call(self, activity: Activity[Q, R], request: Q, summary: str = "", limits: StepLimits = DEFAULTS) -> R:
        return await call(activity, request, summary=summary, priority=self._priority, limits=limits, waits=self._waits)

    def _waits(self, what: str) -> None:
        self._progress.waits = what
        self._show()

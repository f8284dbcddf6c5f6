"""A run, from its input to its publish: prepare, ingest, plan, compute, commit.

`Pipeline` does all of it. `Ingest`, `Transform`, `Train` and `Publish` do the same for the steps of their stage alone;
what they need from the other stages is what the environment shows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Literal

from temporalio import workflow
from temporalio.common import SearchAttributeKey
from temporalio.exceptions import (
    ActivityError,
    ApplicationError,
    CancelledError,
    ChildWorkflowError,
    is_cancelled_exception,
)

from entrepot.language.names import NOMINAL_TIME
from entrepot.language.step import KINDS, StepKind
from entrepot.planning.plan import Plan, PlannedStep
from entrepot.protocol import activity_names
from entrepot.protocol.messages import (
    Batch,
    Context,
    ExtractRequest,
    Load,
    LoadRequest,
    ParityInput,
    ParityReport,
    PlanRequest,
    Prepared,
    Promoted,
    PromoteRequest,
    RecordFailureRequest,
    RunInput,
    StepRef,
    StepResult,
    told,
)
from entrepot.workflows.calls import call, failure, failure_of, in_a_sentence, nominal_time, parse_input, priority
from entrepot.workflows.progress import Progress, RunSummary
from entrepot.workflows.steps import run_steps

TENANT = SearchAttributeKey.for_keyword("Tenant")
PIPELINE = SearchAttributeKey.for_keyword("Pipeline")
ENVIRONMENT = SearchAttributeKey.for_keyword("Environment")
BACKEND = SearchAttributeKey.for_keyword("Backend")
STAGE = SearchAttributeKey.for_keyword("Stage")
SEARCH_ATTRIBUTES = (TENANT, PIPELINE, ENVIRONMENT, BACKEND, STAGE)


class RunWorkflow:
    """What the five workflow types share: one run and its two queries."""

    def __init__(self) -> None:
        self._plan: Plan | None = None
        self._progress = Progress(run=workflow.info().run_id)

    @workflow.query
    def plan(self) -> Plan | None:
        """Which steps run, which do not, and why each; nothing before the run is planned."""
        return self._plan

    @workflow.query
    def progress(self) -> Progress:
        """Every step's state, rows, seconds and note."""
        return self._progress

    async def _run(self, value: Any, kinds: frozenset[StepKind]) -> RunSummary:
        asked = parse_input(RunInput, value)
        return await _Run(asked, kinds, self._progress, self._planned).execute()

    def _planned(self, plan: Plan) -> None:
        self._plan = plan


class _Run:
    """One run's state between its stages."""

    def __init__(
        self, asked: RunInput, kinds: frozenset[StepKind], progress: Progress, planned: Callable[[Plan], None]
    ) -> None:
        self._asked = asked
        self._kinds = kinds
        self._progress = progress
        self._planned = planned
        self._started = workflow.now()
        self._shown = self._started - timedelta(days=1)
        self._spent = 0
        self._anew: tuple[str, ...] = ()
        self._loaded: dict[str, str] = {}
        """What is said of each ingest step that has loaded."""
        self._priority = priority(asked.tenant)
        self._context = Context(
            tenant=asked.tenant,
            pipeline=asked.pipeline,
            environment=asked.environment,
            run=workflow.info().run_id,
            started_at=self._started.replace(tzinfo=None).isoformat(),
            parameters={NOMINAL_TIME: nominal_time(), **asked.parameters},
        )
        progress.tenant, progress.pipeline, progress.environment = asked.tenant, asked.pipeline, asked.environment

    async def execute(self) -> RunSummary:
        """The whole run."""
        with in_a_sentence():
            prepared = await self._call(activity_names.PREPARE, self._asked, Prepared)
            self._priority = priority(self._asked.tenant, prepared.weight)
            workflow.upsert_search_attributes(
                [
                    TENANT.value_set(self._asked.tenant),
                    PIPELINE.value_set(self._asked.pipeline),
                    ENVIRONMENT.value_set(self._asked.environment),
                    BACKEND.value_set(prepared.backend),
                    STAGE.value_set("plan"),
                ]
            )
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

    def _failure_of(self, error: ActivityError | ChildWorkflowError, *steps: str) -> ApplicationError:
        """Its failure; of an activity that could say nothing any more, with whose it was, and of which steps."""
        failed = failure_of(error)
        if isinstance(error.cause, ApplicationError):
            return failed
        whose = [f"tenant {self._asked.tenant!r}", f"pipeline {self._asked.pipeline!r}", *map(repr, steps)]
        return failure(f"{', '.join(whose)}, {failed.message}", failed.type or "")

    async def _stages(self, prepared: Prepared) -> RunSummary:
        selected = self._of_stage(prepared)
        ingests = [name for name in prepared.ingests if name in selected]
        self._anew = prepared.anew
        if self._asked.dry_run:
            return await self._dry(selected)
        raw: dict[str, str] = {}
        said: dict[str, str] = {}
        if ingests:
            self._stage("ingest")
            for name in ingests:
                self._progress.set(name, "waiting")
            await run_steps(
                [PlannedStep(name=name, kind="ingest", action="run", why="") for name in ingests],
                prepared.parallel,
                lambda batch: self._ingest(batch[0], raw, said),
                self._progress.finished,
            )
            for name in ingests:
                if name in said:
                    self._progress.set(name, "skipped", said[name])
        plan = await self._make_plan(selected, raw, {n: said.get(n) or self._loaded[n] for n in ingests})
        if self._asked.select and (cut_off := plan.cut_off(frozenset(selected))):
            # A stage alone leaves such steps for later; somebody who named them wants to know.
            said_of = "; ".join(f"{step.name!r} {step.why}" for step in cut_off)
            raise failure(f"the selection {self._asked.select!r} cannot be computed: {said_of}", "BadInput")
        await run_steps(plan.to_run(), prepared.parallel, lambda batch: self._compute(plan, batch), self._finished)
        if prepared.parity is not None:
            await self._hold_to(prepared, plan)
        return await self._commit(plan)

    async def _hold_to(self, prepared: Prepared, plan: Plan) -> None:
        """Compares what the run is about to publish with the tenant's other warehouse.

        Raises:
            ApplicationError: if they do not agree.
        """
        tables = sorted(s.name for s in plan.steps if s.name in plan.moves and KINDS[s.kind].is_computed_table())
        if not tables:
            return
        self._stage("parity")
        asked = ParityInput(
            tenant=self._asked.tenant,
            pipeline=self._asked.pipeline,
            environment=self._asked.environment,
            on=[prepared.backend, prepared.parity or ""],
            select=" ".join(tables),
            raw=plan.versions,
            parameters=self._context.parameters,
        )
        report = ParityReport.model_validate(
            await workflow.execute_child_workflow(
                "Parity",
                asked.model_dump(mode="json"),
                id=f"{workflow.info().workflow_id}:parity:{self._context.run[:13]}",
                static_summary=f"do {prepared.backend} and {prepared.parity} agree?",
            )
        )
        if not report.agrees:
            differing = [table.name for table in report.tables if not table.agrees]
            why = next((side.why for t in report.tables for side in t.sides if not side.agrees), "")
            raise failure(
                f"{', '.join(differing)} on {prepared.backend} and {prepared.parity} do not agree ({why}), so nothing "
                f"was published; see {report.link}",
                "ParityFailed",
            )

    def _of_stage(self, prepared: Prepared) -> tuple[str, ...]:
        selected = tuple(n for n in prepared.selected if prepared.kinds[n] in self._kinds)
        if not selected:
            asked = (
                f"the selection {self._asked.select!r}" if self._asked.select else f"pipeline {self._asked.pipeline!r}"
            )
            kinds = " or ".join(sorted(self._kinds))
            raise failure(f"{asked} has no {kinds} step", "BadInput")
        return selected

    async def _dry(self, selected: tuple[str, ...]) -> RunSummary:
        request = PlanRequest(context=self._context, selected=selected, anew=self._anew)
        plan: Plan = await self._call(activity_names.PLAN, request, Plan)
        self._planned(plan)
        self._progress.planned(plan)
        return self._summary("planned", plan, Promoted(moved=(), sequence=plan.sequence), whole=True)

    async def _make_plan(self, selected: tuple[str, ...], raw: dict[str, str], ingested: Mapping[str, str]) -> Plan:
        request = PlanRequest(
            context=self._context, selected=selected, raw=raw, ingested=dict(ingested), anew=self._anew
        )
        plan: Plan = await self._call(activity_names.PLAN, request, Plan)
        self._planned(plan)
        self._progress.planned(plan)
        self._show()
        return plan

    async def _ingest(self, name: str, raw: dict[str, str], said: dict[str, str]) -> list[StepResult]:
        self._progress.set(name, "running")
        self._show()
        try:
            return await self._extracted_and_loaded(name, raw, said)
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise
            raise self._told([name], error) from error

    async def _extracted_and_loaded(self, name: str, raw: dict[str, str], said: dict[str, str]) -> list[StepResult]:
        started = workflow.now()
        asked = ExtractRequest(
            context=self._context,
            step=name,
            refresh=self._asked.refresh,
            backfill=self._asked.backfill,
            replay=self._asked.replay,
        )
        load: Load = await self._call(activity_names.EXTRACT, asked, Load, summary=name)
        if load.unchanged:
            raw |= load.known
            said[name] = load.why
            return [StepResult(name=name, seconds=(workflow.now() - started).total_seconds())]
        result: StepResult = await self._call(
            activity_names.LOAD, LoadRequest(context=self._context, load=load), StepResult, summary=name
        )
        raw |= result.versions
        if result.unchanged:
            said[name] = result.note
        self._loaded[name] = "; ".join(["loaded", told(load.changes)] if load.changes else ["loaded"])
        return [result.model_copy(update={"seconds": (workflow.now() - started).total_seconds()})]

    async def _compute(self, plan: Plan, batch: list[str]) -> list[StepResult]:
        steps = {step.name: step for step in plan.steps}
        kind = KINDS[steps[batch[0]].kind]
        self._stage(kind.stage)
        for name in batch:
            self._progress.set(name, "running")
        self._show()
        read = {name for step in batch for name in (step, *steps[step].inputs)}
        versions = {name: plan.versions[name] for name in sorted(read) if name in plan.versions}
        anew = tuple(name for name in batch if name in plan.anew)
        summary = batch[0] if len(batch) == 1 else f"{batch[0]} and {len(batch) - 1} more"
        try:
            if kind.is_batched:
                request = Batch(
                    context=self._context, steps=tuple(batch), versions=versions, spent=self._spent, anew=anew
                )
                results: list[StepResult] = await self._call(kind.stage, request, list[StepResult], summary=summary)
                for name in batch[len(results) :]:
                    self._progress.set(name, "waiting")
                return results
            ref = StepRef(context=self._context, step=batch[0], versions=versions, spent=self._spent, anew=anew)
            return [await self._call(kind.stage, ref, StepResult, summary=summary)]
        except ActivityError as error:
            for name in batch if len(batch) > 1 else ():  # which of them failed, the error says
                self._progress.set(name, "waiting")
            if is_cancelled_exception(error):
                raise
            raise self._told(batch, error) from error

    def _told(self, batch: list[str], error: ActivityError) -> ApplicationError:
        """What steps failed with. Several can fail before the run ends: the progress of each says why."""
        failed = self._failure_of(error, *batch)
        if len(batch) == 1:
            self._progress.set(batch[0], "failed", failed.message)
        return failed

    async def _commit(self, plan: Plan) -> RunSummary:
        self._stage("publish")
        ran = [step for step in self._progress.steps if step.state == "done"]
        request = PromoteRequest(
            context=self._context,
            sequence=plan.sequence,
            moves=plan.moves,
            removes=plan.removed,
            anew=plan.anew,
            checks={s.name: plan.versions[s.name] for s in plan.steps if s.guards and s.name in plan.versions},
            results={
                step.name: {
                    "rows": step.rows,
                    "seconds": step.seconds,
                    "scanned": step.scanned,
                    "note": step.note,
                    "version": plan.versions.get(step.name),
                }
                for step in ran
            },
        )
        committed: Promoted = await self._call(activity_names.PROMOTE, request, Promoted)
        self._stage("done")
        made = any(step.name not in request.checks for step in ran)
        worked = bool(made or plan.moves or plan.removed or committed.moved)  # what was dropped by hand moves, too
        return self._summary("published" if worked else "nothing to do", plan, committed, whole=False)

    def _summary(self, outcome: Any, plan: Plan, committed: Promoted, *, whole: bool) -> RunSummary:
        return RunSummary(
            run=self._context.run,
            tenant=self._asked.tenant,
            pipeline=self._asked.pipeline,
            environment=self._asked.environment,
            outcome=outcome,
            steps=[s for s in self._progress.steps if s.state not in ("skipped", "held")],
            standing=[s for s in self._progress.steps if s.stands],
            skipped=self._progress.count("skipped"),
            held=self._progress.count("held"),
            moved=sorted(committed.moved),
            links=committed.links,
            seconds=(workflow.now() - self._started).total_seconds(),
            plan=plan if whole else None,
        )

    async def _failed(self, status: Literal["failed", "cancelled"], error: str) -> None:
        self._progress.error = error
        for step in self._progress.steps:
            if step.state == "running":
                step.state = "failed"
        self._stage(status)
        try:
            failed = RecordFailureRequest(context=self._context, status=status, error=error)
            await self._call(activity_names.RECORD_FAILURE, failed, type(None))
        except (ActivityError, CancelledError, asyncio.CancelledError):
            workflow.logger.warning("the failure of the run could not be recorded in the catalog")

    def _finished(self, result: StepResult) -> None:
        self._spent += result.scanned or 0
        self._progress.finished(result)
        self._show()

    def _stage(self, stage: str) -> None:
        if self._progress.stage != stage:
            self._progress.stage = stage
            workflow.upsert_search_attributes([STAGE.value_set(stage)])
        self._show()

    def _show(self) -> None:
        """Brings the Web UI's details up to date, at most once a second: a large pipeline's table is long."""
        now = workflow.now()
        if self._progress.stage in ("done", "failed", "cancelled") or now - self._shown >= timedelta(seconds=1):
            self._shown = now
            workflow.set_current_details(self._progress.markdown())

    async def _call(self, activity: str, message: Any, result: type[Any], summary: str = "") -> Any:
        return await call(activity, message, result, summary=summary, priority=self._priority)

"""Parity: the same pipeline over the same raw load on several warehouses, compared table by table.

Whatever fails on a warehouse, the first one too, is the verdict on the tables that it concerns: the rest goes on, and
the report always comes. Only what fails before there is anything to compare (an unknown name, a pipeline that cannot
be built, a first warehouse that cannot be used) ends it without one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, is_cancelled_exception

from entrepot.language.names import NOMINAL_TIME
from entrepot.language.step import KINDS, Step
from entrepot.planning.plan import Plan, PlannedStep, Same
from entrepot.protocol import activities
from entrepot.protocol.activities import Activity, Q, R
from entrepot.protocol.messages import (
    Batch,
    Context,
    ExtractRequest,
    LoadRequest,
    LoadTablesRequest,
    PlanRequest,
    StepRef,
    StepResult,
)
from entrepot.protocol.parity import (
    Adoption,
    Comparison,
    Compilation,
    ParityInput,
    ParityReport,
    PreparedParity,
    Side,
    TableParity,
)
from entrepot.workflows.around.slots import Claim
from entrepot.workflows.calls import (
    call,
    check_not_cancelled,
    failure_of,
    in_a_sentence,
    nominal_time,
    parse_input,
    priority,
)
from entrepot.workflows.progress import Progress, State, parity_markdown
from entrepot.workflows.search_attributes import BACKEND, label, label_stage
from entrepot.workflows.steps import run_steps

MOST_DETAILS = 1_000_000
"""Bytes of JSON that tables may have together before further ones come without rows and statements: Temporal takes
reports of 2 MB."""
LONGEST_WHY = 1_000
"""Characters of a reason: some engines repeat the whole statement."""
STRIKES = 3
"""After so many pieces of work in a row for which a warehouse could not be used, it is asked for none."""


@workflow.defn
class Parity:
    """Computes a pipeline's tables on several of a tenant's warehouses, and compares them. Publishes nothing."""

    def __init__(self) -> None:
        self._tables: dict[str, TableParity] = {}
        self._progress = Progress(run=workflow.info().run_id, stage="prepare")

    @workflow.query
    def progress(self) -> Progress:
        """What was brought, computed and compared so far, and where, and what is going on."""
        return self._progress

    @workflow.run
    async def run(self, payload: Any = None) -> ParityReport:
        """Starts with a `ParityInput`."""
        request = parse_input(ParityInput, payload)
        self._progress.tenant, self._progress.pipeline = request.tenant, request.pipeline
        self._progress.environment = request.environment
        with in_a_sentence():
            return await _Parity(request, self._tables, self._progress).execute()


class _Parity:
    """One comparison's state between its stages."""

    def __init__(self, request: ParityInput, tables: dict[str, TableParity], progress: Progress) -> None:
        self._request = request
        self._tables = tables
        self._progress = progress
        self._started = workflow.now()
        self._parameters = {NOMINAL_TIME: nominal_time(), **request.parameters}
        self._priority = priority(request.tenant)
        self._claim = Claim(request.tenant)
        self._failed: dict[str, dict[str, str]] = {}
        """Warehouse to the steps and tables that could not be made there, and why."""
        self._strikes: dict[str, int] = {}
        self._given_up: dict[str, str] = {}
        """Warehouses that are asked for nothing any more, and why."""
        self._leased = False

    async def execute(self) -> ParityReport:
        """The whole comparison."""
        self._claim.open()
        try:
            return await self._compare_all()
        finally:
            try:
                await self._claim.close()
            finally:
                await self._end()

    async def _end(self) -> None:
        """Gives the lease back. If that cannot be, it lapses as the lease of whoever died."""
        if not self._leased or not workflow.in_workflow():  # or it is thrown out of a worker's memory, and goes on
            return
        try:
            await self._call(activities.END_PARITY, self._request)
        except ActivityError:
            workflow.logger.warning("the lease could not be given back")

    async def _compare_all(self) -> ParityReport:
        prepared = await self._call(activities.PREPARE_PARITY, self._request)
        self._leased = prepared.leased
        check_not_cancelled()
        self._priority = priority(self._request.tenant, prepared.weight)
        self._parameters = {**prepared.parameters, **self._parameters}
        first, *others = prepared.on
        home = prepared.home or first
        label(self._request, BACKEND.value_set(first))
        self._given_up |= prepared.unreachable
        self._failed |= {name: {} for name in prepared.on}
        self._show(prepared, "compute")
        loads = await self._loads(prepared, home)
        raw = {table: version for tables in loads.values() for table, version in tables.items()}
        await self._compiled(prepared, home, raw)
        if first != home:
            await self._brought(first, loads)
        self._show(prepared, "compute")
        reference = await self._computed(prepared, first, raw, prepared.computed, {})
        await asyncio.gather(*(self._elsewhere(prepared, other, loads, raw, reference) for other in others))
        self._show(prepared, "compare")
        await self._all_compared(prepared, reference)
        tables = [self._tables[name] for name in prepared.tables]
        report = ParityReport(
            run=workflow.info().run_id,
            tenant=self._request.tenant,
            pipeline=self._request.pipeline,
            environment=self._request.environment,
            on=prepared.on,
            agrees=all(table.agrees for table in tables),
            tables=tuple(tables),
            seconds=(workflow.now() - self._started).total_seconds(),
        )
        report = report.model_copy(update={"link": await self._written(report)})
        self._show(prepared, "done")
        return report

    async def _written(self, report: ParityReport) -> str:
        """Where the report's page is; nowhere, if it cannot be written: what it says is the result all the same."""
        try:
            return await self._call(activities.REPORT, report)
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise
            self._note("page", "report", "failed", failure_of(error).message)
            return ""

    async def _loads(self, prepared: PreparedParity, home: str) -> dict[str, dict[str, str]]:
        """Each ingest step's tables and versions; a step that was never loaded is, where the pipeline runs. One that
        cannot be has none."""
        context = self._context(home)

        async def load_of(name: str) -> dict[str, str]:
            try:
                return await loaded(name)
            except ActivityError as error:
                self._fail(prepared.on[0], prepared.brings[name], error)
                return {}

        async def loaded(name: str) -> dict[str, str]:
            ref = StepRef(context=context, step=name, versions=self._request.raw)
            if last := await self._call(activities.LAST_LOAD, ref, name):
                return last
            load = await self._call(activities.EXTRACT, ExtractRequest(context=context, step=name), name)
            return (await self._call(activities.LOAD, LoadRequest(context=context, load=load), name)).versions

        found = await asyncio.gather(*map(load_of, prepared.ingests))
        return dict(zip(prepared.ingests, found, strict=True))

    async def _compiled(self, prepared: PreparedParity, home: str, raw: Mapping[str, str]) -> None:
        """Compiles all steps for every warehouse, so that what one cannot compute is known before anything runs."""
        request = Compilation(context=self._context(home), steps=prepared.computed, raw=dict(raw), on=prepared.on)
        refused = await self._call(activities.COMPILE_PARITY, request, "compile")
        for warehouse, steps in refused.items():
            for step, why in steps.items():
                self._failed[warehouse][step] = why
                self._note(f"{step} on {warehouse}", prepared.kinds[step], "failed", why)

    async def _elsewhere(
        self,
        prepared: PreparedParity,
        warehouse: str,
        loads: Mapping[str, Mapping[str, str]],
        raw: Mapping[str, str],
        reference: Plan,
    ) -> None:
        """The same loads and models, and all transforms, on another warehouse. What fails there is told."""
        context = self._context(warehouse)
        models = {n: v for n, v in reference.versions.items() if prepared.kinds.get(n) == "train"}
        await self._brought(warehouse, loads)
        fitted = {name: version for name, version in models.items() if name not in self._failed[prepared.on[0]]}
        self._failed[warehouse] |= {n: self._failed[prepared.on[0]][n] for n in models if n not in fitted}
        if fitted and warehouse not in self._given_up:
            adoption = Adoption(context=context, versions=fitted, whence=prepared.on[0])
            await self._tried(activities.ADOPT, adoption, "models", "train", warehouse, fitted)
        transforms = tuple(name for name in prepared.computed if KINDS[prepared.kinds[name]].is_computed_table())
        try:
            if warehouse not in self._given_up:
                await self._computed(prepared, warehouse, raw, transforms, models, reference.same)
        except ActivityError as error:
            self._fail(warehouse, transforms, error)

    async def _brought(self, warehouse: str, loads: Mapping[str, Mapping[str, str]]) -> None:
        """The same loads on another warehouse than that where the pipeline runs."""
        for step, tables in loads.items():
            if not tables or warehouse in self._given_up:
                continue
            request = LoadTablesRequest(context=self._context(warehouse), step=step, tables=dict(tables))
            await self._tried(activities.LOAD_TABLES, request, step, "ingest", warehouse, tables)

    async def _tried(
        self, activity: Activity[Q, R], request: Q, name: str, kind: str, warehouse: str, what: Iterable[str]
    ) -> None:
        """Calls an activity that makes these tables or models on a warehouse. Its failure is what is said of them."""
        shown = f"{name} on {warehouse}"
        self._note(shown, kind, "running")
        try:
            await self._call(activity, request, shown)
        except ActivityError as error:
            self._fail(warehouse, what, error)
            self._note(shown, kind, "failed", failure_of(error).message)
        else:
            self._strikes[warehouse] = 0
            self._note(shown, kind, "done")

    async def _computed(
        self,
        prepared: PreparedParity,
        warehouse: str,
        raw: Mapping[str, str],
        selected: tuple[str, ...],
        given: Mapping[str, str],
        same: tuple[Same, ...] = (),
    ) -> Plan:
        """Makes the versions of the selected steps on a warehouse, as far as they can be made there."""
        request = PlanRequest(
            context=self._context(warehouse),
            selected=(*prepared.ingests, *selected),
            raw=dict(raw),
            ingested=dict.fromkeys(prepared.ingests, "loaded"),
            given=dict(given),
            same=same,
            compiled=False,
        )
        plan = await self._call(activities.PLAN, request, f"plan on {warehouse}")
        todo = [step for step in plan.to_run() if KINDS[step.kind].produces]
        steps, failed = {step.name: step for step in plan.steps}, self._failed[warehouse]
        for step in plan.cut_off(frozenset(selected)):
            failed.setdefault(step.name, step.why)

        async def make(batch: list[str]) -> list[StepResult]:
            name, shown = batch[0], f"{batch[0]} on {warehouse}"
            if (why := self._hopeless(warehouse, steps[name])) is not None:
                failed.setdefault(name, why)
                self._note(shown, steps[name].kind, "failed", failed[name])
                return [StepResult(name=name)]
            self._note(shown, steps[name].kind, "running")
            try:
                made = await self._call_for(batch, plan, KINDS[steps[name].kind], warehouse)
            except ActivityError as error:
                if is_cancelled_exception(error):
                    raise
                if len(batch) > 1:  # whichever of them failed: one at a time, the others need not
                    return await make(batch[:1])
                self._fail(warehouse, [name], error)
                made = [StepResult(name=name)]
            else:
                self._strikes[warehouse] = 0
            for result in made:
                state: State = "failed" if result.name in failed else "done"
                shown = f"{result.name} on {warehouse}"
                self._note(shown, steps[result.name].kind, state, failed.get(result.name, ""), result.rows)
            self._show(prepared, "compute")
            return made

        await run_steps(todo, prepared.parallel, make, lambda result: None)
        return plan

    def _hopeless(self, warehouse: str, step: PlannedStep) -> str | None:
        """Why a step need not be tried on a warehouse."""
        failed = self._failed[warehouse]
        if warehouse in self._given_up:
            return self._given_up[warehouse]
        lacking = [name for name in step.inputs if name in failed]
        return failed.get(step.name) or (f"it reads {lacking[0]!r}, which was not computed" if lacking else None)

    def _fail(self, warehouse: str, what: Iterable[str], error: ActivityError) -> None:
        """Notes what could not be made on a warehouse; one that cannot be used again and again is given up.

        Raises:
            ActivityError: if it was cancelled.
        """
        if is_cancelled_exception(error):
            raise error
        why = failure_of(error).message[:LONGEST_WHY]
        self._failed[warehouse] |= dict.fromkeys(what, why)
        is_final = isinstance(error.cause, ApplicationError) and error.cause.non_retryable
        self._strike(warehouse, None if is_final else why)

    def _strike(self, warehouse: str, why: str | None) -> None:
        """Counts that a warehouse could not be used, and why; None: it answered."""
        self._strikes[warehouse] = self._strikes.get(warehouse, 0) + 1 if why else 0
        if why and self._strikes[warehouse] >= STRIKES:
            self._given_up.setdefault(warehouse, f"{warehouse} was asked for nothing more after this: {why}")

    async def _call_for(self, batch: list[str], plan: Plan, kind: type[Step], warehouse: str) -> list[StepResult]:
        """Calls the activity that makes these steps on a warehouse."""
        versions, identities = plan.versions_for(batch), plan.identities_for(batch)
        context, summary = self._context(warehouse), f"{batch[0]} on {warehouse}"
        if not kind.is_batched:
            ref = StepRef(context=context, step=batch[0], versions=versions, identities=identities)
            return [await self._call(activities.OF_ONE_STEP[kind.stage], ref, summary)]
        return await self._call(
            activities.TRANSFORM,
            Batch(context=context, steps=tuple(batch), versions=versions, identities=identities),
            summary,
        )

    async def _all_compared(self, prepared: PreparedParity, reference: Plan) -> None:
        planned = {step.name: step for step in reference.steps}

        async def compare(batch: list[str]) -> list[StepResult]:
            for name in batch:
                self._note(name, "compare", "running")
                table = await self._compared(prepared, reference, name, planned)
                self._tables[name] = table = self._traced(prepared, table)
                differing = [f"{side.backend}: {side.why or side.verdict}" for side in table.sides if not side.agrees]
                self._note(name, "compare", "failed" if differing else "done", "; ".join(differing), table.rows)
            self._show(prepared, "compare")
            return [StepResult(name=name) for name in batch]

        steps = [
            PlannedStep(name=name, kind="ingest", action="run", why="", inputs=prepared.inputs[name])
            for name in prepared.tables
        ]
        await run_steps(steps, prepared.parallel, compare, lambda result: None)

    async def _compared(
        self, prepared: PreparedParity, reference: Plan, name: str, planned: Mapping[str, PlannedStep]
    ) -> TableParity:
        """A table's verdicts. They come from the warehouses, unless the comparison as a whole cannot be made."""
        reads = planned[name].inputs if name in planned else ()
        failed = {on: why for on in prepared.on if (why := self._why_not(on, name)) is not None}
        request = Comparison(
            context=self._context(prepared.on[0]),
            name=name,
            version=reference.versions.get(name, ""),
            on=prepared.on,
            failed=failed,
            inputs={each: reference.versions[each] for each in reads if each in reference.versions},
            fresh=self._request.fresh,
            brief=sum(len(table.model_dump_json()) for table in self._tables.values()) > MOST_DETAILS,
        )
        try:
            table = await self._call(activities.COMPARE, request, name)
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise
            why = failure_of(error).message
            sides = tuple(Side(backend=other, verdict="not compared", why=why) for other in prepared.on[1:])
            return TableParity(name=name, kind="transform", version=request.version, sides=sides)
        for side in table.sides:
            if side.backend not in failed:
                self._strike(side.backend, side.why if side.unavailable else None)
        return table

    def _why_not(self, warehouse: str, name: str) -> str | None:
        """Why a warehouse has no such table; None: it should have."""
        return self._failed[warehouse].get(name) or self._given_up.get(warehouse)

    def _traced(self, prepared: PreparedParity, table: TableParity) -> TableParity:
        """A comparison, with what a difference comes from."""
        reads = [self._tables[name] for name in prepared.inputs[table.name] if name in self._tables]

        def traced(side: Side) -> Side:
            causes = [t.name for t in reads for s in t.sides if s.backend == side.backend and s.verdict == "differs"]
            if side.verdict != "differs" or not causes:
                return side
            return side.model_copy(update={"why": f"{side.why}; it reads {causes[0]!r}, which differs already"})

        return table.model_copy(update={"sides": tuple(map(traced, table.sides))})

    def _note(self, name: str, kind: str, state: State, note: str = "", rows: int | None = None) -> None:
        """Notes how a piece of work stands, for those who watch."""
        step = self._progress.set(name, state)
        step.kind, step.note, step.rows = kind, note, rows

    def _show(self, prepared: PreparedParity, stage: str) -> None:
        if stage != self._progress.stage:
            self._progress.stage = stage
            label_stage(stage)
        workflow.set_current_details(parity_markdown(self._request, prepared, stage, self._tables))

    def _context(self, warehouse: str) -> Context:
        return Context(
            tenant=self._request.tenant,
            pipeline=self._request.pipeline,
            environment=self._request.environment,
            run=workflow.info().run_id,
            started_at=self._started.replace(tzinfo=None).isoformat(),
            parameters=self._parameters,
            backend=warehouse,
        )

    async def _call(self, activity: Activity[Q, R], request: Q, summary: str = "") -> R:
        if not activity.is_work:
            return await call(activity, request, summary=summary, priority=self._priority)
        async with self._claim.slot():
            return await call(activity, request, summary=summary, priority=self._priority)

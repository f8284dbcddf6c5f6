"""Parity: the same pipeline over the same raw load on several warehouses, compared table by table."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from temporalio import workflow
from temporalio.exceptions import ActivityError, is_cancelled_exception

from activities import names
from activities.messages import (
    Adoption,
    Batch,
    BringRequest,
    Comparison,
    Context,
    ExtractRequest,
    Load,
    LoadRequest,
    ParityInput,
    ParityReport,
    PlanRequest,
    PreparedParity,
    Side,
    StepRef,
    StepResult,
    TableParity,
)
from entrepot.plan import Plan, PlannedStep
from workflows.progress import parity_markdown
from workflows.run import (
    BACKEND,
    ENVIRONMENT,
    PIPELINE,
    STAGE,
    TENANT,
    call,
    failure_of,
    in_a_sentence,
    priority,
    understood,
)
from workflows.steps import run_steps


@workflow.defn
class Parity:
    """Computes a pipeline's tables on several of a tenant's warehouses, and compares them. Publishes nothing."""

    def __init__(self) -> None:
        self._tables: dict[str, TableParity] = {}
        self._stage = "prepare"

    @workflow.query
    def progress(self) -> list[TableParity]:
        """The tables that have been compared so far."""
        return list(self._tables.values())

    @workflow.run
    async def run(self, value: Any = None) -> ParityReport:
        """Starts with a `ParityInput`."""
        asked = understood(ParityInput, value)
        with in_a_sentence():
            return await _Parity(asked, self._compared, self._show).execute()

    def _compared(self, table: TableParity) -> None:
        self._tables[table.name] = table

    def _show(self, asked: ParityInput, prepared: PreparedParity, stage: str) -> None:
        if stage != self._stage:
            self._stage = stage
            workflow.upsert_search_attributes([STAGE.value_set(stage)])
        workflow.set_current_details(parity_markdown(asked, prepared, stage, self._tables))


class _Parity:
    """One comparison's state between its stages."""

    def __init__(self, asked: ParityInput, compared: Any, show: Any) -> None:
        self._asked = asked
        self._compared = compared
        self._show = show
        self._started = workflow.now()
        self._priority = priority(asked.tenant)
        self._failed: dict[str, dict[str, str]] = {}
        """Warehouse to the tables that could not be made there, and why."""

    async def execute(self) -> ParityReport:
        """The whole comparison."""
        prepared: PreparedParity = await self._call(names.PREPARE_PARITY, self._asked, PreparedParity)
        self._priority = priority(self._asked.tenant, prepared.weight)
        first, *others = prepared.on
        workflow.upsert_search_attributes(
            [
                TENANT.value_set(self._asked.tenant),
                PIPELINE.value_set(self._asked.pipeline),
                ENVIRONMENT.value_set(self._asked.environment),
                BACKEND.value_set(first),
            ]
        )
        self._show(self._asked, prepared, "compute")
        loads = await self._loads(prepared, first)
        raw = {table: version for tables in loads.values() for table, version in tables.items()}
        reference = await self._computed(prepared, first, raw, prepared.computed, {})
        models = {n: v for n, v in reference.versions.items() if prepared.kinds.get(n) == "train"}
        await asyncio.gather(*(self._elsewhere(prepared, other, loads, raw, models) for other in others))
        self._show(self._asked, prepared, "compare")
        tables = await self._all_compared(prepared, reference)
        report = ParityReport(
            run=workflow.info().run_id,
            tenant=self._asked.tenant,
            pipeline=self._asked.pipeline,
            environment=self._asked.environment,
            on=prepared.on,
            agrees=all(table.agrees for table in tables),
            tables=tuple(tables),
            seconds=(workflow.now() - self._started).total_seconds(),
        )
        link: str = await self._call(names.REPORT, report, str)
        self._show(self._asked, prepared, "done")
        return report.model_copy(update={"link": link})

    async def _loads(self, prepared: PreparedParity, first: str) -> dict[str, dict[str, str]]:
        """Each ingest step's tables and versions; a step that was never loaded is, on the first warehouse."""
        context = self._context(first)

        async def load_of(name: str) -> dict[str, str]:
            ref = StepRef(context=context, step=name, versions=self._asked.raw)
            last: dict[str, str] = await self._call(names.LAST_LOAD, ref, dict[str, str], summary=name)
            if last:
                return last
            asked = ExtractRequest(context=context, step=name)
            load: Load = await self._call(names.EXTRACT, asked, Load, summary=name)
            request = LoadRequest(context=context, load=load)
            loaded: StepResult = await self._call(names.LOAD, request, StepResult, summary=name)
            return loaded.versions

        found = await asyncio.gather(*map(load_of, prepared.ingests))
        return dict(zip(prepared.ingests, found, strict=True))

    async def _elsewhere(
        self,
        prepared: PreparedParity,
        warehouse: str,
        loads: Mapping[str, Mapping[str, str]],
        raw: Mapping[str, str],
        models: Mapping[str, str],
    ) -> None:
        """The same loads and models, and all transforms, on another warehouse. What fails there is told."""
        context = self._context(warehouse)
        try:
            for step, tables in loads.items():
                request = BringRequest(context=context, step=step, tables=dict(tables))
                await self._call(names.BRING, request, StepResult, summary=f"{step} on {warehouse}")
            if models:
                adoption = Adoption(context=context, versions=dict(models), whence=prepared.on[0])
                await self._call(names.ADOPT, adoption, type(None), summary=f"models on {warehouse}")
            transforms = tuple(name for name in prepared.computed if prepared.kinds[name] == "transform")
            await self._computed(prepared, warehouse, raw, transforms, models)
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise
            said = failure_of(error).message
            failed = self._failed.setdefault(warehouse, {})
            for name in prepared.tables:
                failed.setdefault(name, said)

    async def _computed(
        self,
        prepared: PreparedParity,
        warehouse: str,
        raw: Mapping[str, str],
        selected: tuple[str, ...],
        given: Mapping[str, str],
    ) -> Plan:
        """Makes the versions of the selected steps on a warehouse. On the first one, every failure ends it all."""
        is_first = warehouse == prepared.on[0]
        request = PlanRequest(
            context=self._context(warehouse),
            selected=(*prepared.ingests, *selected),
            raw=dict(raw),
            ingested=dict.fromkeys(prepared.ingests, "loaded"),
            given=dict(given),
            compiled=is_first,
        )
        plan: Plan = await self._call(names.PLAN, request, Plan, summary=f"plan on {warehouse}")
        todo = [step for step in plan.to_run() if step.kind in ("transform", "train")]
        failed = self._failed.setdefault(warehouse, {})

        async def make(batch: list[str]) -> list[StepResult]:
            steps = {step.name: step for step in plan.steps}
            if lacking := [n for n in steps[batch[0]].inputs if n in failed]:
                failed[batch[0]] = f"it reads {lacking[0]!r}, which was not computed"
                return [StepResult(name=batch[0])]
            try:
                return await self._made(plan, steps, batch, warehouse)
            except ActivityError as error:
                if is_first or is_cancelled_exception(error):
                    raise
                if len(batch) > 1:  # whichever of them failed: one at a time, the others need not
                    return await make(batch[:1])
                failed[batch[0]] = failure_of(error).message
                return [StepResult(name=batch[0])]

        await run_steps(todo, prepared.parallel, make, lambda result: None)
        return plan

    async def _made(
        self, plan: Plan, steps: Mapping[str, PlannedStep], batch: list[str], warehouse: str
    ) -> list[StepResult]:
        read = {name for step in batch for name in (step, *steps[step].inputs)}
        versions = {name: plan.versions[name] for name in sorted(read) if name in plan.versions}
        summary = f"{batch[0]} on {warehouse}"
        context = self._context(warehouse)
        if steps[batch[0]].kind == "train":
            ref = StepRef(context=context, step=batch[0], versions=versions)
            return [await self._call(names.TRAIN, ref, StepResult, summary=summary)]
        request = Batch(context=context, steps=tuple(batch), versions=versions)
        made: list[StepResult] = await self._call(names.TRANSFORM, request, list[StepResult], summary=summary)
        return made

    async def _all_compared(self, prepared: PreparedParity, reference: Plan) -> list[TableParity]:
        first, *others = prepared.on
        found: dict[str, TableParity] = {}

        async def compare(batch: list[str]) -> list[StepResult]:
            for name in batch:
                there = tuple(other for other in others if name not in self._failed.get(other, {}))
                request = Comparison(
                    context=self._context(first), name=name, version=reference.versions[name], on=(first, *there)
                )
                table: TableParity = await self._call(names.COMPARE, request, TableParity, summary=name)
                table = self._told(prepared, table, others, found)
                found[name] = table
                self._compared(table)
            self._show(self._asked, prepared, "compare")
            return [StepResult(name=name) for name in batch]

        steps = [
            PlannedStep(name=name, kind="ingest", action="run", why="", inputs=prepared.inputs[name])
            for name in prepared.tables
        ]
        await run_steps(steps, prepared.parallel, compare, lambda result: None)
        return [found[name] for name in prepared.tables]

    def _told(
        self, prepared: PreparedParity, table: TableParity, others: list[str], found: Mapping[str, TableParity]
    ) -> TableParity:
        """A comparison, with the warehouses that had nothing to compare, and with what a difference comes from."""
        sides = {side.backend: side for side in table.sides}
        for other in others:
            if (why := self._failed.get(other, {}).get(table.name)) is not None:
                sides[other] = Side(backend=other, verdict="not computed", why=why)
            elif sides[other].verdict == "differs":
                reads = [found[name] for name in prepared.inputs[table.name] if name in found]
                causes = [t.name for t in reads for s in t.sides if s.backend == other and s.verdict == "differs"]
                if causes:
                    why = f"{sides[other].why}; it reads {causes[0]!r}, which differs already"
                    sides[other] = sides[other].model_copy(update={"why": why})
        return table.model_copy(update={"sides": tuple(sides[other] for other in others)})

    def _context(self, warehouse: str) -> Context:
        return Context(
            tenant=self._asked.tenant,
            pipeline=self._asked.pipeline,
            environment=self._asked.environment,
            run=workflow.info().run_id,
            started_at=self._started.replace(tzinfo=None).isoformat(),
            parameters=self._asked.parameters,
            backend=warehouse,
        )

    async def _call(self, activity: str, message: Any, result: Any, summary: str = "") -> Any:
        return await call(activity, message, result, summary=summary, priority=self._priority)

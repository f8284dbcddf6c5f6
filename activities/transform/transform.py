"""Transforms and checks: one table, one version, written once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import ibis
import ibis.expr.operations as ops
import ibis.expr.schema as sch
import pyarrow as pa

from entrepot.activities.catalog.details import Scoring, TableDetails
from entrepot.activities.catalog.records import CheckVerdict
from entrepot.activities.catalog.tables import now
from entrepot.activities.catalog.version import Version
from entrepot.activities.ml.models import known_of
from entrepot.activities.ml.score import Scorer
from entrepot.activities.runtime.activity import Activities, implements
from entrepot.activities.runtime.context import (
    CREATED_MEANWHILE,
    ActivityContext,
    already_created,
    attribute_errors,
    check_planned,
    keep_python_errors,
    version_table_name,
    wait_for_other_runs,
)
from entrepot.activities.runtime.isolation.builder import Builder
from entrepot.activities.runtime.isolation.call import Call
from entrepot.activities.runtime.isolation.processes import StepProcesses
from entrepot.activities.runtime.isolation.tables import read_by
from entrepot.activities.runtime.tenant import Tenants, parameter_values
from entrepot.activities.storage import exact_casts
from entrepot.activities.transform.check import Found, check_contract, check_rows
from entrepot.activities.transform.contract_rules import Broken, Rule, rules_of, values_of_rule
from entrepot.activities.transform.functions import Functions, values
from entrepot.backends import Session
from entrepot.backends.base import physical
from entrepot.errors import StepFailed, unknown
from entrepot.identity.expression import bind, schema_from, schema_to
from entrepot.identity.version import version_schema
from entrepot.language.step import KINDS, CheckStep, Step, TransformStep
from entrepot.planning.graph import Graph
from entrepot.planning.resolve import Computed, Inputs, arguments, resolve_step
from entrepot.planning.slices import Content
from entrepot.protocol import activities
from entrepot.protocol.messages import Batch, Context, StepResult

BATCH_SECONDS = 0.5
BATCH_ROWS = 200_000
"""A batch ends after the step during which this time ran out, and before one that reads more rows than that. What is
left is dealt out anew, so that a long step never waits behind another while there is a free slot."""


class TransformActivities(Activities):
    """The activity `transform`."""

    @implements(activities.TRANSFORM)
    def transform(self, work: ActivityContext, request: Batch) -> list[StepResult]:
        """Computes the first of the steps, and as many more as are small and fit into `BATCH_SECONDS`."""
        started = time.monotonic()
        results: list[StepResult] = []
        work.spent = request.spent
        with (
            work.session() as session,
            Builder(work, self._tenants, request.context.pipeline, read_by(session)) as builder,
        ):
            computation = Computation(self._tenants, work, session, request, builder)
            for name in request.steps:
                is_late = time.monotonic() - started > BATCH_SECONDS
                if results and (is_late or computation.rows_read(name) > BATCH_ROWS):
                    break
                results.append(computation.run(name))
        return results


class Computation:
    """The transforms and checks of one batch, over one session."""

    def __init__(
        self, tenants: Tenants, work: ActivityContext, session: Session, batch: Batch, builder: Builder
    ) -> None:
        self._tenants = tenants
        self._work = work
        self._session = session
        self._batch = batch
        self._builder = builder
        self._context: Context = batch.context
        pipeline = tenants.pipeline(batch.context.tenant, batch.context.pipeline)
        self._graph: Graph = pipeline.graph
        self._parameters = parameter_values(pipeline, batch.context.parameters)
        self._schema = version_schema(work.tenant.settings(pipeline.name).schema)
        self._catalog = work.catalog(session).pipeline(pipeline.name)
        self._versions = self._catalog.versions(batch.versions)
        self._tried: set[str] = set()
        self._functions = Functions(builder)
        self._scanned_before = 0

    def rows_read(self, name: str) -> int:
        """The rows of all tables that a step reads."""
        inputs = self._graph.table_inputs(self._graph.steps[name]) if name in self._graph.steps else ()
        return sum(self._versions[each].rows or 0 for each in inputs if each in self._versions)

    def run(self, name: str) -> StepResult:
        """Computes one step, unless its version is there already.

        Raises:
            StepFailed: if the user's code or the warehouse refused.
            CheckFailed: if a blocking check found violating rows.
        """
        started, self._scanned_before = time.monotonic(), self._session.usage.bytes or 0
        step = self._graph.steps.get(name)
        if not isinstance(step, TransformStep | CheckStep):
            raise StepFailed(f"{name!r} is no transform or check of the code that this worker has; start the run again")
        with attribute_errors(step), self._functions.raising():
            if isinstance(step, CheckStep):
                made = self._check(step, started)
            else:
                made = wait_for_other_runs(self._work, lambda: self._transform(step, started))
        return made.model_copy(update={"scanned": self._scanned()})

    def _scanned(self) -> int | None:
        """Bytes that the step has read so far."""
        total = self._session.usage.bytes
        return None if total is None else total - self._scanned_before

    def _transform(self, step: TransformStep, started: float) -> StepResult:
        version = self._batch.versions[step.name]
        if step.name in self._tried:  # another run was making it, too, and may be done by now
            self._versions |= self._catalog.versions({step.name: version})
        self._tried.add(step.name)
        before, anew = self._versions.get(step.name), self._batch.anew
        if already_created(before, anew, self._context.run):
            return StepResult(name=step.name, rows=self._versions[step.name].rows, note=CREATED_MEANWHILE)
        target = version_table_name(self._schema, step.name, version, anew, self._context.run)
        computed = self.verified(step)
        scoring: Scoring | None = None
        with self._session.transaction():
            if step.engine == "python":
                inferred = schema_from(step.schema or {})
                with keep_python_errors(self._python_batches(step, inferred)) as batches:
                    table = self._session.write(target, inferred, batches)
            else:
                made = self._bound(step, computed)
                inferred = made.schema()
                table, scoring = self._scorer(step).create(target, made)
            seconds = time.monotonic() - started
            made_version = Version(
                name=step.name,
                version=version,
                kind=step.kind,
                identity=computed.identity,
                table=target,
                columns=schema_to(table.columns),
                inferred=schema_to(inferred),
                rows=table.rows,
                details=TableDetails(scoring=scoring, contents=self._content(step, computed, version).ids),
                run=self._context.run,
                scanned=self._scanned(),
                inputs=self._inputs(step),
                seconds=seconds,
            )
            self._catalog.add_version(made_version, before=before)
        self._versions[step.name] = made_version
        said = scoring.said if scoring is not None else ""
        return StepResult(name=step.name, rows=table.rows, seconds=seconds, note=said)

    def _check(self, step: CheckStep, started: float) -> StepResult:
        computed = self.verified(step)
        if step.contract is not None:
            found = self.broken_rules(step)
        else:
            with self.violating(step, computed) as rows:
                found = check_rows(self._session, rows)
        verdict = CheckVerdict(
            name=step.name,
            version=self._batch.versions[step.name],
            identity=computed.identity,
            inputs=self._inputs(step),
            guards=list(step.guards),
            severity=step.severity,
            violations=found.violations,
            sample=found.sample,
            run=self._context.run,
            checked_at=now(),
        )
        self._catalog.add_verdict(verdict)
        return found.result(step, time.monotonic() - started)

    def broken_rules(self, step: CheckStep) -> Found:
        """Which rules of a contract the table breaks that it guards."""
        return check_contract(self._session, self._rules(step))

    @contextmanager
    def violating(self, step: CheckStep, computed: Computed) -> Iterator[ibis.Table]:
        """The rows that violate a rule, while the block runs."""
        scorer = self._scorer(step)
        try:
            yield scorer.replaced(self._bound(step, computed))
        finally:
            scorer.drop_temporary()

    def _rules(self, step: CheckStep) -> list[Broken | Rule]:
        """What a contract demands of the table that it guards: its checks may be anybody's code, and execute."""
        guarded = self._versions[step.guards[0]]
        asked = (guarded.table, tuple(guarded.columns.items()), self._session.dialect.name)
        every: list[Broken | Rule] = self._builder.ask(step, rules_of, *asked)
        for number, each in enumerate(every):
            if isinstance(each, Rule):
                self._functions.answered(each.violating, step, values_of_rule, *asked, number)
        return every

    def processes(self, step: TransformStep | CheckStep) -> StepProcesses:
        """Where a step's code runs."""
        return StepProcesses(self._work, self._tenants, self._context.pipeline, step)

    def _scorer(self, step: TransformStep | CheckStep) -> Scorer:
        return Scorer(self._session, self._versions, self._builder, self.processes(step))

    def _content(self, step: TransformStep, computed: Computed, version: str) -> Content:
        """What the step's version contains."""
        return computed.content(version, {n: self._versions[n].content for n in self._graph.table_inputs(step)})

    def _inputs(self, step: TransformStep | CheckStep) -> dict[str, str]:
        return {name: self._batch.versions[name] for name in self._graph.table_inputs(step)}

    def _arguments(self, step: TransformStep | CheckStep, *, actual: bool) -> tuple[tuple[str, Any], ...]:
        known: dict[str, Any] = {}
        for name in self._graph.table_inputs(step):
            if name not in self._versions:
                raise StepFailed(f"the version {self._batch.versions.get(name)} of {name!r} is gone from the warehouse")
            version = self._versions[name]
            is_table = KINDS[version.kind].produces == "Table"
            known[name] = schema_from(version.columns) if actual and is_table else known_of(version)
        return arguments(step, known, self._parameters)

    def verified(self, step: TransformStep | CheckStep) -> Computed:
        """What the code now computes, which must be what was planned."""
        computed = self._computed(step, self._arguments(step, actual=False))
        check_planned(computed.identity, self._batch.identities.get(step.name))
        return computed

    def _bound(self, step: TransformStep | CheckStep, computed: Computed) -> ibis.Table:
        """The step's expression over the physical tables, built anew if their types are not the inferred ones."""
        actual = self._arguments(step, actual=True)
        if actual != self._arguments(step, actual=False):
            computed = self._computed(step, actual)
        assert computed.built is not None
        made = computed.built.read()
        self._functions.answered(made, step, _values, actual)
        return bind(
            made, {name: self._relation(name) for name in self._graph.table_inputs(step) if self._is_table(name)}
        )

    def _computed(self, step: TransformStep | CheckStep, inputs: Inputs) -> Computed:
        return self._builder.computed(step, inputs) if step.is_called_to_plan else resolve_step(step, inputs)

    def _is_table(self, name: str) -> bool:
        return self._versions[name].table is not None

    def _relation(self, name: str) -> ops.Relation:
        version = self._versions[name]
        assert version.table is not None
        return physical(version.table, schema_from(version.columns)).op()

    def _python_batches(self, step: TransformStep, schema: sch.Schema) -> Iterator[pa.RecordBatch]:
        readers: dict[str, pa.RecordBatchReader] = {}
        given: dict[str, Any] = {}
        for name, value in self._arguments(step, actual=True):
            if isinstance(value, sch.Schema):
                table = self._relation(name).to_expr()
                self._work.check_limits(self._session, table)
                readers[name] = self._session.read(table)
            else:
                given[name] = getattr(value, "value", value)
        yield from self.processes(step).stream(_compute, given, schema.to_pyarrow(), feeds=readers)


def _values(call: Call, step: Step, inputs: Inputs, number: int, rows: pa.Buffer) -> pa.Buffer:
    """What a function of an expression gives for rows; asked of its step's process."""
    with attribute_errors(step):
        built = resolve_step(step, inputs).built
        assert built is not None
        return values(built, number, rows)


def _compute(call: Call, given: Mapping[str, Any], schema: pa.Schema) -> None:
    """Gives what a Python transform yields, in a process of its own."""
    feeds = {name: call.feed(name) for name in call.asked.feeds}
    for number, made in enumerate(call.step.function(**feeds, **given)):
        for batch in _as_batches(made, schema, f"item {number + 1}"):
            call.give(batch)


def _as_batches(made: Any, schema: pa.Schema, which: str) -> Iterator[pa.RecordBatch]:
    """What a Python transform yielded, as batches of the declared schema."""
    if isinstance(made, list | dict):
        yield from _of_rows(made if isinstance(made, list) else [made], schema, which).to_batches()
        return
    if hasattr(made, "__arrow_c_stream__") and not isinstance(made, pa.Table):
        made = pa.table(made)
    if isinstance(made, pa.RecordBatch):
        made = pa.Table.from_batches([made])
    if not isinstance(made, pa.Table):
        raise StepFailed(f"{which} is a {type(made).__name__}; yield Arrow record batches, tables or lists of dicts")
    missing = [name for name in schema.names if name not in made.column_names]
    extra = [name for name in made.column_names if name not in schema.names]
    if missing or extra:
        raise StepFailed(
            f"{which} does not have the declared columns: missing {missing or 'none'}, not declared {extra or 'none'}"
        )
    columns = [_declared(exact_casts.cast, made[field.name], field, which) for field in schema]
    yield from pa.Table.from_arrays(columns, schema=schema).to_batches()


def _of_rows(rows: list[Any], schema: pa.Schema, which: str) -> pa.Table:
    for number, row in enumerate(rows, 1):
        if strange := [key for key in row if key not in schema.names]:
            raise StepFailed(f"{which}, row {number}: {unknown('column', strange[0], schema.names)}")
    columns = [_declared(exact_casts.array, [row.get(field.name) for row in rows], field, which) for field in schema]
    return pa.Table.from_arrays(columns, schema=schema)


def _declared(make: Callable[[Any, pa.DataType], Any], values: Any, field: pa.Field, which: str) -> Any:
    try:
        return make(values, field.type)
    except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
        raise StepFailed(f"{which}: a value of {field.name!r} is no {field.type}, as declared: {error}") from error

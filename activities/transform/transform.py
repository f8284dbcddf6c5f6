"""Transforms and checks: one table, one version, written once."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import ibis
import ibis.expr.operations as ops
import ibis.expr.schema as sch
import pyarrow as pa

from entrepot.activities.catalog.details import ByIntervals, GrowingTableDetails, Scoring, TableDetails
from entrepot.activities.catalog.growing_table import Segment
from entrepot.activities.catalog.records import CheckVerdict
from entrepot.activities.catalog.relations import Relations
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
from entrepot.activities.runtime.hints import hinted
from entrepot.activities.runtime.isolation.builder import Builder
from entrepot.activities.runtime.isolation.call import Call
from entrepot.activities.runtime.isolation.processes import StepProcesses
from entrepot.activities.runtime.isolation.tables import read_by
from entrepot.activities.runtime.tenant import Tenants, parameter_values
from entrepot.activities.storage import exact_casts
from entrepot.activities.transform import cutoff
from entrepot.activities.transform.batches import batches, written_together
from entrepot.activities.transform.check import Found, check_contract, check_rows
from entrepot.activities.transform.contract_rules import Broken, Rule, rules_of, values_of_rule
from entrepot.activities.transform.functions import Functions, values
from entrepot.activities.transform.increments import (
    PART,
    TOGETHER,
    Created,
    Grown,
    Growth,
    Intervals,
    Part,
    Whole,
    segment,
)
from entrepot.backends import CreatedTable, Session, TableName
from entrepot.backends.base import physical
from entrepot.errors import StepFailed, unknown
from entrepot.identity.code import stable_hash
from entrepot.identity.expression import bind, schema_from, schema_to
from entrepot.identity.version import Frozen, version_schema, version_table
from entrepot.language.incremental import ByInterval, moment_of
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


@dataclass(frozen=True)
class _Made:
    """What was made for a version, before it is one."""

    table: TableName
    columns: sch.Schema
    inferred: sch.Schema
    rows: int
    details: TableDetails | GrowingTableDetails
    said: str = ""
    grown: Grown | None = None
    """How, where it was made of an earlier version."""


class TransformActivities(Activities):
    """The activity `transform`."""

    @implements(activities.TRANSFORM)
    def transform(self, work: ActivityContext, request: Batch) -> list[StepResult]:
        """Computes the first of the steps, and as many more as are small and fit into `BATCH_SECONDS`.

        What reads a table that turned out to have the rows of before is left: it may have nothing to do.
        """
        started = time.monotonic()
        results: list[StepResult] = []
        work.spent = request.spent
        with (
            work.session() as session,
            Builder(work, self._tenants, request.context.pipeline, read_by(session)) as builder,
        ):
            computation = Computation(self._tenants, work, session, request, builder)
            for name in request.steps:
                if computation.may_rest(name):
                    continue
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
        self._before = self._catalog.versions(batch.before) if batch.before else {}
        self._resting: set[str] = set()
        self._tried: set[str] = set()
        self._functions = Functions(builder)
        self._scanned_before = 0

    def rows_read(self, name: str) -> int:
        """The rows of all tables that a step reads."""
        inputs = self._graph.table_inputs(self._graph.steps[name]) if name in self._graph.steps else ()
        return sum(self._versions[each].rows or 0 for each in inputs if each in self._versions)

    def may_rest(self, name: str) -> bool:
        """Whether a step reads, directly or not, what was made here and has the rows of before."""
        inputs = self._graph.table_inputs(self._graph.steps[name]) if name in self._graph.steps else ()
        if not self._resting.isdisjoint(inputs):
            self._resting.add(name)
            return True
        return False

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
        looked_at = hinted(self._graph, step, self._context, self._batch.versions)
        with looked_at, attribute_errors(step), self._functions.raising():
            if isinstance(step, CheckStep):
                made = self._check(step, started)
            else:
                made = wait_for_other_runs(self._work, lambda: self._transform(step, started))
                if made.same:
                    self._resting.add(name)
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
        if before is not None and already_created(before, anew, self._context.run):
            return StepResult(
                name=step.name, rows=before.rows, note=CREATED_MEANWHILE, same=bool(before.content.same_as)
            )
        try:
            return self._make(step, started, before, self._before.get(step.name))
        except cutoff.NotComparable:  # no step fails because of that
            return self._make(step, started, before, None)

    def _make(self, step: TransformStep, started: float, stood: Version | None, before: Version | None) -> StepResult:
        """Makes a step's table and records it.

        Args:
            stood: The same version, if it is made anew.
            before: The version that it is compared with.

        Raises:
            NotComparable: if they cannot be compared.
        """
        version, anew = self._batch.versions[step.name], self._batch.anew
        target = version_table_name(self._schema, step.name, version, anew, self._context.run)
        computed = self.verified(step)
        base, why = self._base(step, computed)
        is_same = False
        with self._session.transaction():
            made = self._made(step, computed, target, base, why)
            seconds = time.monotonic() - started
            made_version = Version(
                name=step.name,
                version=version,
                kind=step.kind,
                identity=computed.identity,
                table=made.table,
                columns=schema_to(made.columns),
                inferred=schema_to(made.inferred),
                rows=made.rows,
                details=_with_content(
                    self._recorded(step, computed, made), self._content(step, computed, version, stood)
                ),
                run=self._context.run,
                scanned=self._scanned(),
                inputs=self._inputs(step),
                seconds=seconds,
            )
            if before is not None and (is_same := self._is_same(step, made, made_version, before, base)):
                content = replace(before.content, version=version, same_as=before.content.whole)
                made_version = replace(
                    made_version, details=_with_content(self._recorded(step, computed, made), content)
                )
            self._catalog.add_version(made_version, before=stood)
        self._versions[step.name] = made_version
        said = "; ".join(filter(None, (cutoff.SAME_ROWS if is_same else "", made.said)))
        return StepResult(name=step.name, rows=made.rows, seconds=seconds, note=said, same=is_same)

    def _is_same(
        self, step: TransformStep, made: _Made, version: Version, before: Version, base: Version | None
    ) -> bool:
        """Whether a new version has the rows of one before, if it costs little to know."""
        grown = made.grown
        if grown is None:
            is_worthwhile = cutoff.is_worthwhile(step, version, before, self.rows_read(step.name))
            return is_worthwhile and cutoff.same_rows(self._session, cutoff.rows_of(version), cutoff.rows_of(before))
        if base is None or base.version != before.version or not cutoff.is_comparable(version, before):
            return False
        if grown.before is None or grown.after is None:
            return True
        return cutoff.same_rows(self._session, grown.before, grown.after)

    def _made(
        self, step: TransformStep, computed: Computed, target: TableName, base: Version | None, why: str
    ) -> _Made:
        """Makes a step's table, of an earlier version where that goes."""
        if step.engine == "python":
            inferred = schema_from(step.schema or {})
            with keep_python_errors(self._python_batches(step, inferred)) as batches:
                table = self._session.write(target, inferred, batches)
            return _Made(target, table.columns, inferred, table.rows, TableDetails())
        if base is not None:
            try:
                return self._grown(step, computed, base)
            except Whole as error:
                why = str(error)
        parts = self._batches(step, computed)
        if len(parts) > 1:
            table, scoring, inferred = self._in_batches(step, computed, target, parts)
        else:
            made = self._bound(step, computed)
            inferred = made.schema()
            table, scoring = self._scorer(step).create(target, made)
        how = f"in {len(parts):,} batches" if len(parts) > 1 else ""
        told = f"computed as a whole{how and ' '}{how}: {why}" if why else how
        said = "; ".join(filter(None, (told, scoring.said if scoring is not None else "")))
        return _Made(target, table.columns, inferred, table.rows, TableDetails(scoring=scoring), said)

    def _batches(self, step: TransformStep, computed: Computed) -> list[Intervals]:
        """The parts by which a step is computed as a whole, if it says so."""
        by = step.incremental
        if not isinstance(by, ByInterval) or by.batch is None or computed.needs is None:
            return []
        inputs = {name: self._relation(name).to_expr() for name in computed.needs}
        return batches(self._session, by, computed.needs, inputs)

    def _in_batches(
        self, step: TransformStep, computed: Computed, target: TableName, parts: Sequence[Intervals]
    ) -> tuple[CreatedTable, Scoring | None, sch.Schema]:
        """Makes a table of several, each with the rows of a part, which are written together at the end."""
        made: list[Segment] = []
        scoring: Scoring | None = None
        for number, part in enumerate(parts):
            self._work.check()
            recipe = stable_hash([target.table, number, self._context.run])
            name = TableName(target.schema, version_table(step.name + PART, recipe))
            rows = self._of_part(step, computed, part)
            table, scoring = self._scorer(step).create(name, rows)
            made.append(segment(name, table))
            self._work.progress = {"batches": number + 1, "of": len(parts)}
        numbers = itertools.count(len(parts))

        def named() -> TableName:
            recipe = stable_hash([target.table, next(numbers), self._context.run])
            return TableName(target.schema, version_table(step.name + TOGETHER, recipe))

        table = written_together(self._session, made, target, named, self._work.check)
        return table, scoring, rows.schema()

    def _of_part(self, step: TransformStep, computed: Computed, part: Part) -> ibis.Table:
        """The rows of a part of a step's table, made of those rows of its inputs that it needs."""
        needs = computed.needs or {}

        def of_input(name: str, rows: ibis.Table) -> ibis.Table:
            return part.of_input(rows, needs[name]) if name in needs else rows

        return part.of_table(self._bound(step, computed, of_input))

    def _base(self, step: TransformStep, computed: Computed) -> tuple[Version | None, str]:
        """The version of which a step that is computed by parts is made, and is not collected meanwhile; or why there
        is none.

        Raises:
            StepFailed: if something of it is frozen, and it is not there any more.
        """
        if (kept := self._batch.kept.get(step.name)) is not None:
            base, why = self._held(step.name, kept.base)
            if base is None:
                raise StepFailed(f"{why}, which has what is frozen; start the run again")
            return base, ""
        if computed.needs is None or step.name in self._batch.anew:
            return None, ""
        if self._context.backend:  # where leases are not
            return None, ""
        shown = self._catalog.environment(self._context.environment).head().pointers.get(step.name)
        found = self._catalog.versions({step.name: shown}).get(step.name) if shown else None
        if found is None or found.identity != computed.identity:
            found = self._catalog.newest(step.name, computed.identity)
        if found is None:
            return None, "its code is new" if shown else ""
        return self._held(*found.key)

    def _held(self, name: str, version: str) -> tuple[Version | None, str]:
        """A version that is not collected meanwhile; or why there is none."""
        self._work.leases(self._session, self._catalog.name).hold(self._context.run, name, version)
        held = self._catalog.versions({name: version}).get(name)
        if held is None:
            return None, "the version before was collected"
        said = Relations(self._session).first_problem(held.relations)
        return (None, said) if said else (held, "")

    def _grown(self, step: TransformStep, computed: Computed, base: Version) -> _Made:
        assert step.incremental is not None
        now = {name: self._versions[name] for name in self._graph.table_inputs(step)}
        then, inferred = self._catalog.versions(base.inputs), schema_from(base.inferred)
        kept, again = self._batch.kept.get(step.name), step.name in self._batch.anew

        def create(table: TableName, part: Part) -> Created:
            if isinstance(part, Intervals) and part.is_rest:
                return self._rest(step, computed, table, part)
            made = self._of_part(step, computed, part)
            if made.schema() != inferred:
                raise Whole("the types of its columns changed")
            created, scoring = self._scorer(step).create(table, made)
            return Created(created, made.schema(), scoring)

        growth = Growth(
            self._session,
            step.incremental,
            computed,
            base,
            then,
            now,
            self._batch.versions[step.name],
            self._schema,
            frozen=moment_of(kept.before) if kept else None,
            again=self._context.run if again else "",
        )
        grown = growth.make(create)
        return _Made(grown.view, grown.columns, grown.inferred, grown.rows, grown.details, grown.said, grown)

    def _rest(self, step: TransformStep, computed: Computed, table: TableName, part: Intervals) -> Created:
        """Makes a table with all that is not frozen of a step's."""
        parts = [each for one in self._batches(step, computed) if (each := one.within(part)) is not None]
        if len(parts) > 1:
            created, scoring, inferred = self._in_batches(step, computed, table, parts)
        else:
            made = self._of_part(step, computed, part)
            inferred = made.schema()
            created, scoring = self._scorer(step).create(table, made)
        return Created(created, inferred, scoring)

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

    def _frozen(self, step: TransformStep) -> Frozen | None:
        """Which rows of a step's version are another's."""
        kept = self._batch.kept.get(step.name)
        return kept.frozen if kept else None

    def _recorded(self, step: TransformStep, computed: Computed, made: _Made) -> TableDetails | GrowingTableDetails:
        """What is to be known of how a table was made."""
        by, columns = step.incremental, computed.made
        if not isinstance(by, ByInterval) or not isinstance(columns, sch.Schema):
            return made.details
        intervals = ByIntervals(column=by.column, planned=schema_to(columns))
        return made.details.model_copy(update={"intervals": intervals, "frozen": self._frozen(step)})

    def _content(self, step: TransformStep, computed: Computed, version: str, stood: Version | None) -> Content:
        """What the step's version contains, as far as it follows from what it is made of."""
        if stood is not None and stood.content.same_as:
            return stood.content
        inputs = {name: self._versions[name].content for name in self._graph.table_inputs(step)}
        return computed.content(version, inputs, self._frozen(step))

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

    def _bound(
        self,
        step: TransformStep | CheckStep,
        computed: Computed,
        rows_of: Callable[[str, ibis.Table], ibis.Table] = lambda name, rows: rows,
    ) -> ibis.Table:
        """The step's expression over the physical tables, built anew if their types are not the inferred ones.

        Args:
            rows_of: Which rows of an input, by its name, are read of its table. Default: all.
        """
        actual = self._arguments(step, actual=True)
        if actual != self._arguments(step, actual=False):
            computed = self._computed(step, actual)
        assert computed.built is not None
        made = computed.built.read()
        self._functions.answered(made, step, _values, actual)
        tables = (name for name in self._graph.table_inputs(step) if self._is_table(name))
        return bind(made, {name: rows_of(name, self._relation(name).to_expr()).op() for name in tables})

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


def _with_content(details: TableDetails | GrowingTableDetails, content: Content) -> TableDetails | GrowingTableDetails:
    ids = None if content.ids is None else dict(content.ids)
    return details.model_copy(update={"contents": ids, "same_as": content.same_as})


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

"""Steps computed from given rows, on DuckDB in memory: by the activities of a run, over a catalog of its own."""

from __future__ import annotations

import contextlib
import datetime
import itertools
import re
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, overload

import ibis
import ibis.expr.schema as sch
import pyarrow as pa

from entrepot.activities.catalog.details import ModelDetails, TableDetails
from entrepot.activities.catalog.version import Version
from entrepot.activities.ml import models, train
from entrepot.activities.runtime.context import ActivityContext, attribute_errors, ensure_schemas
from entrepot.activities.runtime.isolation.tables import read_by
from entrepot.activities.runtime.tenant import PipelineSettings, Tenant, Tenants, parameter_values
from entrepot.activities.storage import lake
from entrepot.backends import Session as WarehouseSession
from entrepot.backends import TableName
from entrepot.backends.base import physical
from entrepot.backends.duckdb.memory import InMemory
from entrepot.backends.sql.session import conformed
from entrepot.errors import BadInput, EntrepotError, listed, unknown
from entrepot.identity.expression import schema_from, schema_to
from entrepot.identity.version import version_schema, version_table
from entrepot.language.step import CheckStep, Step, TrainStep, TransformStep
from entrepot.pipeline import Pipeline
from entrepot.planning.graph import Graph
from entrepot.protocol.messages import Batch, Context, StepRef
from entrepot.testing.given import arrow_table
from entrepot.testing.here import BuilderHere, ComputationHere, GivenPipeline, code_here
from entrepot.testing.results import FittedModel, Result
from entrepot.tracebacks import origin

_TENANT = "test"


class Session:
    """A DuckDB in memory in which steps are computed. What one call was given, and has made, no other call sees.

    `compute` and `fit` open one for each call; the pytest fixture `in_memory` is one for all tests.

    Examples:
        ```python
        from entrepot import Pipeline, Table
        from entrepot.testing import Session

        shop = Pipeline("shop")


        @shop.ingest
        def sales(): ...


        @shop.transform
        def by_country(sales: Table) -> Table:
            return sales.group_by("country").agg(total=sales.amount.sum())


        with Session() as session:
            found = session.compute(shop, "by_country", sales=[{"country": "CH", "amount": 80}])
        assert found.rows() == [{"country": "CH", "total": 80}]
        ```
    """

    def __init__(self) -> None:
        self._backend = InMemory()
        self._numbers = itertools.count()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def close(self) -> None:
        """Forgets everything."""
        self._backend.close()

    @overload
    def compute(self, pipeline: Pipeline, step: Step | str, /, **given: Any) -> Result: ...
    @overload
    def compute(self, pipeline: Pipeline, /, **given: Any) -> dict[str, Result]: ...
    def compute(
        self, pipeline: Pipeline, step: Step | str | None = None, /, **given: Any
    ) -> Result | dict[str, Result]:
        """As `compute`."""
        with self._work(pipeline, given) as work:
            if step is not None:
                return work.result(work.step(step))
            return {each.name: work.result(each) for each in work.graph.of(TransformStep) + work.graph.of(CheckStep)}

    def fit(self, pipeline: Pipeline, step: Step | str, /, **given: Any) -> FittedModel:
        """As `fit`."""
        with self._work(pipeline, given) as work:
            return work.model(work.step(step))

    @contextlib.contextmanager
    def _work(self, pipeline: Pipeline, given: Mapping[str, Any]) -> Iterator[_Work]:
        graph = pipeline.graph
        known = [*graph.producers, *graph.parameters]
        if strange := [name for name in given if name not in known]:
            raise BadInput(f"pipeline {pipeline.name!r}: {unknown('table or parameter', strange[0], known)}")
        schema = f"t{next(self._numbers)}"
        in_memory = f"memory://entrepot-{uuid.uuid4().hex}"
        catalog = f"{schema}_catalog"
        tenant = Tenant(
            _TENANT, {"type": "duckdb"}, in_memory, {pipeline.name: PipelineSettings(schema)}, catalog_schema=catalog
        )
        tenant.__dict__["backend"] = self._backend
        tenants = Tenants({_TENANT: tenant}, GivenPipeline(pipeline))
        activity = ActivityContext(tenant, "test", pipeline.name)
        ensure_schemas(activity, pipeline.name)
        with activity.session() as session:
            try:
                parameters = {name: _carried(value) for name, value in given.items() if name in graph.parameters}
                parameter_values(pipeline, parameters)
                context = Context(
                    tenant=_TENANT, pipeline=pipeline.name, environment="test", run="test", parameters=parameters
                )
                work = _Work(pipeline, graph, tenants, activity, session, context, schema, {})
                for name, value in given.items():
                    if name in graph.producers:
                        work.take(name, value)
                yield work
            finally:
                for each in (version_schema(schema), catalog):
                    session.drop_schema(each)
                lake.remove(in_memory)


def _carried(value: Any) -> Any:
    """A parameter as a run carries it: a time as text."""
    return value.isoformat() if isinstance(value, datetime.datetime) else value


@dataclass(frozen=True)
class _Work:
    """What one call computes."""

    pipeline: Pipeline
    graph: Graph
    tenants: Tenants
    activity: ActivityContext
    session: WarehouseSession
    context: Context
    schema: str
    versions: dict[str, str]
    """What there is so far, and its version."""

    def step(self, wanted: Step | str) -> Step:
        """The step of a name, or that makes a table of this name."""
        name = wanted if isinstance(wanted, str) else wanted.name
        if name in self.graph.producers:
            return self.graph.steps[self.graph.producers[name]]
        if name not in self.graph.steps:
            known = [*self.graph.steps, *self.graph.producers]
            raise BadInput(f"pipeline {self.pipeline.name!r}: {unknown('step', name, dict.fromkeys(known))}")
        return self.graph.steps[name]

    def take(self, name: str, value: Any) -> None:
        """Takes what is given for a table."""
        step = self.graph.steps[self.graph.producers[name]]
        if isinstance(step, TrainStep):
            raise BadInput(f"{name!r} is a model: it is fitted; give {step.features!r}, which it learns from")
        declared = step.declared.get(name, {})
        if isinstance(step, TransformStep):
            declared = step.schema or {}
        rows = arrow_table(name, value, declared)
        columns = sch.Schema.from_pyarrow(rows.schema)
        table = TableName(version_schema(self.schema), version_table(name, "given"))
        made = self.session.write(table, columns, rows.to_batches(), rows.schema)
        self._add(
            Version(
                name=name,
                version="given",
                kind=step.kind,
                identity="",
                table=table,
                columns=schema_to(made.columns),
                inferred=schema_to(columns),
                rows=made.rows,
                details=TableDetails(),
                run=self.context.run,
                step=step.name,
            )
        )

    def result(self, step: Step) -> Result:
        """What a step gives."""
        if not isinstance(step, TransformStep | CheckStep):
            does = "fits a model: use `fit`" if isinstance(step, TrainStep) else "has no rows that could be computed"
            raise BadInput(f"{step.kind} {step.name!r} {does}; `compute` takes transforms, checks and contracts")
        if isinstance(step, CheckStep):
            self._need(step)
            return self._violations(step)
        self._make(step.name, ())
        version = self._version(step.name)
        assert version.table is not None
        columns = schema_from(version.columns)
        rows = self.session.fetch(physical(version.table, columns))
        return _result(step.name, columns, rows)

    def model(self, step: Step) -> FittedModel:
        """The model that a step fits."""
        if not isinstance(step, TrainStep):
            raise BadInput(f"{step.kind} {step.name!r} fits no model; known: {listed(self._trained())}")
        self._make(step.name, ())
        version = self._version(step.name)
        details = version.details
        assert isinstance(details, ModelDetails)
        return FittedModel(step.name, models.load(version), details.features, details.scores, details.baseline)

    def _trained(self) -> list[str]:
        return [step.name for step in self.graph.of(TrainStep)]

    def _violations(self, step: CheckStep) -> Result:
        with self._told(step), self._builder() as builder:
            computation = self._computation(step, builder)
            if step.contract is not None:
                broken = computation.broken_rules(step).sample
                text = {"rule": "string", "said": "string"}
                rows = pa.Table.from_pylist(broken, schema_from(text).to_pyarrow())
                return Result(step.name, text, rows)
            with attribute_errors(step), computation.violating(step, computation.verified(step)) as violating:
                return _result(step.name, violating.schema(), self.session.fetch(violating))

    def _make(self, name: str, above: tuple[str, ...]) -> None:
        """Makes a table or model, and what it is made of, unless it is there."""
        if name in self.versions:
            return
        step = self.graph.steps[self.graph.producers[name]]
        if step.is_source:
            needed = f"{above[-1]!r} reads {name!r}" if above else f"{name!r} is a raw table"
            raise BadInput(f"{needed}, which is not given; give its rows: {name}=[{{...}}]")
        self._need(step, above)
        self.versions[name] = "computed"
        with self._told(step), self._builder() as builder:
            if isinstance(step, TrainStep):
                self._fit(step, builder)
            else:
                self._computation(step, builder).run(name)

    def _need(self, step: Step, above: tuple[str, ...] = ()) -> None:
        for each in self.graph.table_inputs(step):
            self._make(each, (*above, step.name))

    def _computation(self, step: Step, builder: BuilderHere) -> ComputationHere:
        versions = {name: self.versions[name] for name in self.graph.table_inputs(step)}
        batch = Batch(context=self.context, steps=(step.name,), versions={**versions, step.name: "computed"})
        return ComputationHere(self.tenants, self.activity, self.session, batch, builder)

    def _fit(self, step: TrainStep, builder: BuilderHere) -> None:
        versions = {step.features: self.versions[step.features], step.name: "computed"}
        features = self._version(step.features)
        parameters = parameter_values(self.pipeline, self.context.parameters)
        ref = StepRef(context=self.context, step=step.name, versions=versions)
        with attribute_errors(step):
            asked = train.ask(builder, step, features, parameters)
            code = code_here(self.activity, self.tenants, step)
            train.fit(asked, code, self.session, ref, {step.features: features}, parameters)

    def _builder(self) -> BuilderHere:
        return BuilderHere(self.activity, self.tenants, self.pipeline.name, read_by(self.session))

    def _add(self, version: Version) -> None:
        self.versions[version.name] = version.version
        self.activity.catalog(self.session).pipeline(self.pipeline.name).add_version(version)

    def _version(self, name: str) -> Version:
        catalog = self.activity.catalog(self.session).pipeline(self.pipeline.name)
        return catalog.versions({name: self.versions[name]})[name]

    @contextlib.contextmanager
    def _told(self, step: Step) -> Iterator[None]:
        """Says of a column that is missing which rows were given."""
        try:
            yield
        except EntrepotError as error:
            column = _missing_column(error)
            inputs = {
                name: [*self._version(name).columns]
                for name in self.graph.table_inputs(step)
                if self._version(name).table is not None
            }
            if column is None or all(column in columns for columns in inputs.values()):
                raise
            had = "; ".join(f"{name!r} has {listed(columns)}" for name, columns in inputs.items())
            raise BadInput(
                f"{step.kind} {step.name!r} ({step.at}) uses a column {column!r}, which it does not find: {had}"
            ) from error


def _missing_column(error: EntrepotError) -> str | None:
    """The column that a step's code looked for in vain, as ibis, Arrow and Python tell it."""
    first = origin(error) or error
    if isinstance(first, AttributeError):
        return first.name if isinstance(first.obj, ibis.Table) else None
    if isinstance(first, KeyError):
        text = str(first.args[0]) if first.args else ""
        found = re.search(r'Field "(.*?)" does not exist', text)
        return found[1] if found else text
    found = re.match(r"Column '(.*?)' is not found in table", str(first))
    return found[1] if found else None


def _result(name: str, columns: sch.Schema, rows: pa.Table) -> Result:
    # As ibis types it: DuckDB adds up whole numbers to decimals, as Arrow has no larger ones.
    table = conformed(rows.to_reader(), columns).read_all()
    return Result(name, schema_to(columns), table)


@overload
def compute(pipeline: Pipeline, step: Step | str, /, **given: Any) -> Result: ...
@overload
def compute(pipeline: Pipeline, /, **given: Any) -> dict[str, Result]: ...
def compute(pipeline: Pipeline, step: Step | str | None = None, /, **given: Any) -> Result | dict[str, Result]:
    """Computes a step from given rows, on DuckDB in memory; and what stands between the two, if it is given none.

    It computes as a run does: expressions are compiled by the same rules, models are fitted, and scored as SQL where
    that agrees with them.

    Args:
        pipeline: The pipeline.
        step: The step, or its name: a transform; a check, which gives the violating rows; or `departures.contract`,
            which gives the broken rules of the contract of `departures`. Default: every transform, check and contract.
        given: By name, rows for tables, and values for parameters; others have their defaults. Rows are dicts, `Rows`,
            a data frame, an Arrow table, or what another call has given. They have the columns that their step uses, or
            more.

    Returns:
        The rows; without a step, a dict of them for all steps, by name.

    Raises:
        BadInput: If a name is unknown, a table that is needed is not given, or its rows lack a column or a type.
        StepFailed: If the step's code raises something else, or DuckDB cannot compute what it says.

    Examples:
        ```python
        from entrepot import Pipeline, Table
        from entrepot.testing import compute

        shop = Pipeline("shop", parameters={"large": 50.0})


        @shop.ingest
        def sales(): ...


        @shop.transform
        def large_sales(sales: Table, large: float) -> Table:
            return sales.filter(sales.amount >= large)


        found = compute(shop, large_sales, sales=[{"amount": 80.0}, {"amount": 20.0}], large=10)
        assert len(found) == 2
        ```
    """
    with Session() as session:
        if step is None:
            return session.compute(pipeline, **given)
        return session.compute(pipeline, step, **given)


def fit(pipeline: Pipeline, step: Step | str, /, **given: Any) -> FittedModel:
    """Fits the model of a train step on given rows.

    Args:
        pipeline: The pipeline.
        step: The train step, or its name.
        given: As for `compute`: the rows of its features, or of tables that these are computed from.

    Raises:
        BadInput: As `compute`, and for a step that fits no model.
        StepFailed: If the model cannot be fitted or scored on these rows.

    Examples:
        ```python
        from entrepot import Pipeline
        from entrepot.testing import fit

        shop = Pipeline("shop")


        @shop.ingest
        def sales(): ...


        @shop.train(features="sales", target="amount", score="r2")
        def amounts():
            from sklearn.linear_model import LinearRegression

            return LinearRegression()


        model = fit(shop, "amounts", sales=[{"amount": 2.0 * n, "pieces": n} for n in range(40)])
        assert model.scores["r2"] > 0.99
        ```
    """
    with Session() as session:
        return session.fit(pipeline, step, **given)

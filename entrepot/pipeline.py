"""What pipeline authors write with: `Pipeline` and its five decorators.

Everything here is inert: a decorator records a function and where it stands. The graph is built and validated by
`Pipeline.graph`, and nothing runs before a worker is asked to run it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from functools import cached_property
from types import FrameType
from typing import Any, TypeVar, get_args, overload

from entrepot.errors import BadInput, Location, PipelineError, Problem, listed, unknown
from entrepot.language.example import Example
from entrepot.language.incremental import Incremental
from entrepot.language.limits import OwnLimits, duration, own_limits, promise
from entrepot.language.promises.product import Product
from entrepot.language.split import Share, Split
from entrepot.language.step import (
    CheckStep,
    Contract,
    Engine,
    IngestStep,
    PublishStep,
    Severity,
    Step,
    TrainStep,
    TransformStep,
)
from entrepot.planning.graph import Graph

S = TypeVar("S", bound=Step)
Function = Callable[..., Any]


def _expression_problems(graph: Graph) -> Iterable[Problem]:
    """What is wrong with the expressions. Before the first ingest it shows only if every raw schema is declared."""
    ingests = graph.of(IngestStep)
    if not ingests or any(schema is None for step in ingests for schema in step.tables.values()):
        return ()
    from entrepot.planning.resolve import resolve  # brings ibis, which importing a pipeline's module need not

    try:
        resolve(graph, {}, graph.parameters)
    except PipelineError as error:
        return error.problems
    return ()


class Pipeline:
    """A named graph of steps.

    Create one at the top level of a module and declare its steps with the decorators `ingest`, `transform`, `check`,
    `train` and `publish`. Importing the module opens no connection and reads no data. A step reads the tables, models
    and parameters that its function's parameters name.

    Args:
        name: Lower-case letters, digits and underscores. It is also the default schema of the tables.
        description: What the pipeline is for; shown wherever it is listed. Default: empty.
        owner: Who is responsible for it and, where a step does not say otherwise, for its steps. Default: empty.
        parameters: Names mapped to default values. A tenant or a run may set another value of the same type. Default:
            none.
        timeout: How long one attempt of each of its steps may take, such as `"10m"`, where the step does not say
            otherwise. Default: that of the tenant, else 24 hours.
        memory: How much memory a step's code may use, such as `"8GB"`. Default: as for `timeout`, else no limit.
        attempts: How often a step is tried, if what failed may pass. Default: as for `timeout`, else 5.
        backoff: The pause before the second attempt, such as `"30s"`; it doubles before each further one. Default: as
            for `timeout`, else one second.

    Raises:
        BadInput: If a limit cannot be understood.

    Examples:
        ```python
        from entrepot import Pipeline, Table

        shop = Pipeline("shop", description="What sells, and where", parameters={"large": 50.0})


        @shop.ingest(tables={"sales": {"country": "string", "amount": "float64"}})
        def sales():
            return [{"country": "CH", "amount": 80.0}, {"country": "FR", "amount": 20.0}]


        @shop.transform
        def by_country(sales: Table, large: float) -> Table:
            return sales.filter(sales.amount >= large).group_by("country").agg(total=sales.amount.sum())


        assert list(shop.graph.steps) == ["sales", "by_country"]
        ```
    """

    def __init__(
        self,
        name: str,
        *,
        description: str = "",
        owner: str = "",
        parameters: Mapping[str, Any] | None = None,
        timeout: str | None = None,
        memory: str | None = None,
        attempts: int | None = None,
        backoff: str | None = None,
    ) -> None:
        self.name = name
        self.limits = self._limits("", timeout=timeout, memory=memory, attempts=attempts, backoff=backoff)
        self.description = description
        self.owner = owner
        self.parameters: dict[str, Any] = dict(parameters or {})
        self.steps: list[Step] = []
        self.examples: list[Example] = []

    def __repr__(self) -> str:
        return f"Pipeline({self.name!r}, steps={[step.name for step in self.steps]})"

    @cached_property
    def graph(self) -> Graph:
        """The validated graph of the steps. A worker builds it when it needs it; a test of a pipeline may, too.

        Raises:
            PipelineError: If the pipeline is not valid; it lists every problem with its file and line.
        """
        return Graph.build(self.name, self.steps, self.parameters, _expression_problems)

    def take_for_valid(self) -> None:
        """Makes the graph without a call of the steps' functions, which were called where that harms nobody.

        Raises:
            PipelineError: If the graph as such is not valid.
        """
        self.__dict__["graph"] = Graph.build(self.name, self.steps, self.parameters)

    @overload
    def ingest(self, function: Function, /) -> IngestStep: ...
    @overload
    def ingest(
        self,
        /,
        *,
        tables: Sequence[str] | Mapping[str, Mapping[str, str] | None] | None = None,
        schema_contract: Contract | Mapping[str, Contract] = "evolve",
        min_rows: int | Mapping[str, int] | None = None,
        max_shrink: float | Mapping[str, float] | None = None,
        probe: Callable[..., object] | None = None,
        fresh_within: str | None = None,
        product: Product | Mapping[str, Product] | None = None,
        name: str | None = None,
        description: str | None = None,
        owner: str | None = None,
        tags: Iterable[str] = (),
        timeout: str | None = None,
        memory: str | None = None,
        attempts: int | None = None,
        backoff: str | None = None,
        depends: Sequence[str] = (),
    ) -> Callable[[Function], IngestStep]: ...
    def ingest(
        self,
        function: Function | None = None,
        /,
        *,
        tables: Sequence[str] | Mapping[str, Mapping[str, str] | None] | None = None,
        schema_contract: Contract | Mapping[str, Contract] = "evolve",
        min_rows: int | Mapping[str, int] | None = None,
        max_shrink: float | Mapping[str, float] | None = None,
        probe: Callable[..., object] | None = None,
        fresh_within: str | None = None,
        product: Product | Mapping[str, Product] | None = None,
        **others: Any,
    ) -> Any:
        """Declares a step that loads raw tables from a source.

        The function returns a `Files`, a `PostgresTable`, a dlt source or resource, an iterable of dicts, Arrow tables
        or data frames, or a dict that maps table names to any of these but a dlt source.

        Args:
            function: The function, if the decorator is written without parentheses.
            tables: The tables that the step loads. A mapping declares their columns (names to ibis types), so that
                everything downstream is validated before the first load. Default: one table, named like the step.
            schema_contract: What happens when the source's columns change. `"evolve"` changes the table; `"freeze"`
                fails the load; `"discard"` ignores new columns, and stores NULL for values that do not fit. One word
                for all tables, or a mapping from tables to words. Default: `"evolve"`.
            min_rows: The number of rows below which a load that replaces a whole table (`replace`, `scd2`) fails. One
                number for all such tables but nested ones and those of rejected rows, or a mapping from tables to
                numbers. Default: no minimum.
            max_shrink: The largest share of a table's rows, from 0 to 1, that such a load may remove; `0.5` is half of
                them. One number, or a mapping as for `min_rows`. Default: no limit.
            probe: A function whose result, which is compared as its `repr`, is another one when the source has
                something new; for triggers. It may take parameters of the pipeline, and has to be cheap. Default: what
                `Files` and a `PostgresTable` can tell by themselves.
            fresh_within: How long ago the source may have been asked for what its tables show, such as `"2h"`; for
                `entrepot freshness`. Default: nothing is promised.
            product: The `Product` that its table is; or a mapping, for those of its tables that are products. It is no
                part of any version. Default: none is one.
            name: The step's name. Default: the function's.
            description: What it does. Default: the first line of the function's docstring.
            owner: Who is responsible for it. Default: the owner of the pipeline.
            tags: Words by which steps are selected (`tag:hourly`). Default: none.
            timeout: How long one attempt may take, such as `"90s"`, `"10m"` or `"6h"`. Default: that of the pipeline,
                else of the tenant, else 24 hours.
            memory: How much memory its code may use, such as `"8GB"`. Default: as for `timeout`, else no limit.
            attempts: How often it is tried, if what failed may pass. Default: as for `timeout`, else 5.
            backoff: The pause before the second attempt, such as `"30s"`; it doubles before each further one. Default:
                as for `timeout`, else one second.
            depends: Installed distributions whose versions, or modules of yours whose source, are part of the versions
                that the step makes. Default: none.

        Raises:
            BadInput: If an option is unknown, names a table that the step does not load, or has no valid value.

        Examples:
            ```python
            from entrepot import Files, Pipeline

            shop = Pipeline("shop")


            @shop.ingest(tables=["sales"], schema_contract="freeze", min_rows=1_000)
            def sales():
                return Files("s3://shop/sales/*.csv", nulls=["NA"])
            ```
        """
        self._check_options(self.ingest, others)

        def declare(f: Function) -> IngestStep:
            common = self._common(f, **others)
            given = [tables] if isinstance(tables, str) else tables if tables is not None else [common["name"]]
            schemas = dict(given) if isinstance(given, Mapping) else dict.fromkeys(given)
            wrong = {schema_contract} if isinstance(schema_contract, str) else {*schema_contract.values()}
            if wrong := wrong - set(get_args(Contract)):
                raise BadInput(
                    f"ingest {common['name']!r}: {unknown('schema_contract', wrong.pop(), get_args(Contract))}"
                )
            options = {"schema_contract": schema_contract, "min_rows": min_rows, "max_shrink": max_shrink}
            for option, value in options.items():
                if strange := [t for t in (value if isinstance(value, Mapping) else ()) if t not in schemas]:
                    raise BadInput(f"ingest {common['name']!r}, {option}: {unknown('table', strange[0], schemas)}")
            shares = max_shrink.values() if isinstance(max_shrink, Mapping) else [max_shrink]
            if bad := [share for share in shares if share is not None and not 0 <= share <= 1]:
                raise BadInput(f"ingest {common['name']!r}: `max_shrink` is a share from 0 to 1, not {bad[0]!r}")
            step = IngestStep(
                **common,
                tables=schemas,
                schema_contract=schema_contract,
                min_rows=min_rows,
                max_shrink=max_shrink,
                probe=probe,
                fresh_within=self._promise(common["name"], fresh_within),
                products=self._products(common["name"], product, schemas),
            )
            return self._add(step)

        return declare(function) if function is not None else declare

    @overload
    def transform(self, function: Function, /) -> TransformStep: ...
    @overload
    def transform(
        self,
        /,
        *,
        engine: Engine = "warehouse",
        schema: Mapping[str, str] | None = None,
        contract: Any = None,
        incremental: Incremental | None = None,
        cutoff: bool | None = None,
        target_lag: str | None = None,
        fresh_within: str | None = None,
        product: Product | None = None,
        name: str | None = None,
        description: str | None = None,
        owner: str | None = None,
        tags: Iterable[str] = (),
        timeout: str | None = None,
        memory: str | None = None,
        attempts: int | None = None,
        backoff: str | None = None,
        depends: Sequence[str] = (),
    ) -> Callable[[Function], TransformStep]: ...
    def transform(
        self,
        function: Function | None = None,
        /,
        *,
        engine: Engine = "warehouse",
        schema: Mapping[str, str] | None = None,
        contract: Any = None,
        incremental: Incremental | None = None,
        cutoff: bool | None = None,
        target_lag: str | None = None,
        fresh_within: str | None = None,
        product: Product | None = None,
        **options: Any,
    ) -> Any:
        """Declares a step that makes one table, named like the step, from other tables.

        Args:
            function: The function, if the decorator is written without parentheses.
            engine: With `"warehouse"` the function receives ibis tables and returns a lazy ibis expression. With
                `"python"` it receives a `pyarrow.RecordBatchReader` for each table and yields record batches, Arrow
                tables or lists of dicts, in bounded memory. Default: `"warehouse"`.
            schema: The result's columns, as names mapped to ibis types. Required with `engine="python"`.
            contract: A `DataFrameModel` or `DataFrameSchema` of `pandera.ibis` that the table must satisfy to be
                published. Default: none.
            incremental: By which parts the warehouse computes it, `ByInterval(...)` or `ByKey(...)`: only those are
                computed anew in which an input has changed. The table is the same. Default: as a whole.
            cutoff: Whether the table, when it was computed anew, is compared with its version before, so that nothing
                that reads it runs if the rows are the same. Default: where that costs little beside the step, which is
                up to a million rows, and beyond where the step reads ten times as many as it makes.
            target_lag: How old it may be, such as `"2h"`: while it is younger, new rows are no reason to make it again;
                other code is. It is no part of any version. Default: what is new is always a reason.
            fresh_within: How long ago the sources of all that it is made of may have been asked, such as `"2h"`; for
                `entrepot freshness`. Default: nothing is promised.
            product: The `Product` that its table is. It is no part of any version. Default: it is none.
            name: The step's name. Default: the function's.
            description: What it does. Default: the first line of the function's docstring.
            owner: Who is responsible for it. Default: the owner of the pipeline.
            tags: Words by which steps are selected (`tag:hourly`). Default: none.
            timeout: How long one attempt may take, such as `"90s"`, `"10m"` or `"6h"`. Default: that of the pipeline,
                else of the tenant, else 24 hours.
            memory: How much memory its code may use, such as `"8GB"`. Default: as for `timeout`, else no limit.
            attempts: How often it is tried, if what failed may pass. Default: as for `timeout`, else 5.
            backoff: The pause before the second attempt, such as `"30s"`; it doubles before each further one. Default:
                as for `timeout`, else one second.
            depends: Installed distributions whose versions, or modules of yours whose source, are part of the version
                of what Python code makes. Default: none.

        Raises:
            BadInput: If an option is unknown, or has no valid value.

        Examples:
            ```python
            from entrepot import Pipeline, Table

            shop = Pipeline("shop")


            @shop.ingest(tables={"sales": {"country": "string", "amount": "float64"}})
            def sales():
                return [{"country": "CH", "amount": 80.0}]


            @shop.transform
            def by_country(sales: Table) -> Table:
                return sales.group_by("country").agg(total=sales.amount.sum())


            @shop.transform(engine="python", schema={"country": "string", "name": "string"})
            def countries(sales):
                for batch in sales:
                    yield [{"country": row["country"], "name": row["country"].title()} for row in batch.to_pylist()]
            ```
        """
        self._check_options(self.transform, options)

        def declare(f: Function) -> TransformStep:
            common = self._common(f, **options)
            return self._add(
                TransformStep(
                    **common,
                    engine=engine,
                    schema=schema,
                    contract=contract,
                    incremental=incremental,
                    cutoff=cutoff,
                    target_lag=self._lag(f, target_lag),
                    fresh_within=self._promise(common["name"], fresh_within),
                    products=self._products(common["name"], product, [common["name"]]),
                )
            )

        return declare(function) if function is not None else declare

    def check(
        self,
        *guards: Step | str,
        severity: Severity = "block",
        name: str | None = None,
        description: str | None = None,
        owner: str | None = None,
        tags: Iterable[str] = (),
        timeout: str | None = None,
        memory: str | None = None,
        attempts: int | None = None,
        backoff: str | None = None,
    ) -> Callable[[Function], CheckStep]:
        """Declares a step that guards tables: its function returns the rows that violate a rule, as an ibis expression.

        Args:
            guards: The tables that it guards, as steps or names. They are published only if the check passes.
            severity: With `"block"`, violating rows stop the run before anything of it is visible. With `"warn"` they
                are recorded and shown, and the run goes on. Default: `"block"`.
            name: The step's name. Default: the function's.
            description: The rule. Default: the first line of the function's docstring.
            owner: Who is responsible for it. Default: the owner of the pipeline.
            tags: Words by which steps are selected (`tag:hourly`). Default: none.
            timeout: How long one attempt may take, such as `"90s"`, `"10m"` or `"6h"`. Default: that of the pipeline,
                else of the tenant, else 24 hours.
            memory: How much memory its code may use, such as `"8GB"`. Default: as for `timeout`, else no limit.
            attempts: How often it is tried, if what failed may pass. Default: as for `timeout`, else 5.
            backoff: The pause before the second attempt, such as `"30s"`; it doubles before each further one. Default:
                as for `timeout`, else one second.

        Examples:
            ```python
            from entrepot import Pipeline, Table

            shop = Pipeline("shop")


            @shop.ingest(tables={"sales": {"amount": "float64"}})
            def sales():
                return [{"amount": 80.0}]


            @shop.transform
            def large(sales: Table) -> Table:
                return sales.filter(sales.amount > 50)


            @shop.check(large, severity="warn")
            def no_impossible_amounts(large: Table) -> Table:
                return large.filter(large.amount > 1e9)
            ```
        """

        def declare(f: Function) -> CheckStep:
            limits: dict[str, Any] = {"timeout": timeout, "memory": memory, "attempts": attempts, "backoff": backoff}
            common = self._common(f, name=name, description=description, owner=owner, tags=tags, **limits)
            names = tuple(g if isinstance(g, str) else g.name for g in guards)
            return self._add(CheckStep(**common, guards=names, severity=severity))

        return declare

    def train(
        self,
        *,
        features: Step | str,
        target: str,
        columns: Sequence[str] | None = None,
        split: Split | None = None,
        score: str | Sequence[str],
        target_lag: str | None = None,
        name: str | None = None,
        description: str | None = None,
        owner: str | None = None,
        tags: Iterable[str] = (),
        timeout: str | None = None,
        memory: str | None = None,
        attempts: int | None = None,
        backoff: str | None = None,
        depends: Sequence[str] = (),
    ) -> Callable[[Function], TrainStep]:
        """Declares a step that fits a model: its function returns an unfitted scikit-learn estimator or pipeline.

        Args:
            features: The table to learn from, as a step or a name. Feature columns are numbers, booleans or text.
            target: The column to predict. Rows in which it is NULL are left out.
            columns: The feature columns. Default: all but the target and what the split reads.
            split: Which rows are kept for scoring: `split.Share`, `split.Time`, `split.Group` or `split.Where`.
                Default: `split.Share(0.25)`, a quarter of the rows.
            score: One scikit-learn scorer or several, by name (`"roc_auc"`). Each is also computed for a baseline that
                ignores the features; the step warns if the model scores below it.
            target_lag: How old it may be, such as `"2h"`: while it is younger, new rows are no reason to make it again;
                other code is. It is no part of any version. Default: what is new is always a reason.
            name: The step's name, and the model's. Default: the function's.
            description: What it predicts. Default: the first line of the function's docstring.
            owner: Who is responsible for it. Default: the owner of the pipeline.
            tags: Words by which steps are selected (`tag:weekly`). Default: none.
            timeout: How long one attempt may take, such as `"90s"`, `"10m"` or `"6h"`. Default: that of the pipeline,
                else of the tenant, else 24 hours.
            memory: How much memory its code may use, such as `"8GB"`. Default: as for `timeout`, else no limit.
            attempts: How often it is tried, if what failed may pass. Default: as for `timeout`, else 5.
            backoff: The pause before the second attempt, such as `"30s"`; it doubles before each further one. Default:
                as for `timeout`, else one second.
            depends: Installed distributions whose versions, or modules of yours whose source, are part of the model's
                version. Default: none.

        Examples:
            ```python
            from sklearn.linear_model import LogisticRegression
            from entrepot import Pipeline, split

            shop = Pipeline("shop")


            @shop.ingest(tables={"sales": {"ordered": "timestamp", "amount": "float64", "returned": "boolean"}})
            def sales(): ...


            @shop.train(
                features=sales.name,
                target="returned",
                columns=["amount"],
                split=split.Time("ordered", start="2026-01-01"),
                score=["roc_auc", "average_precision"],
            )
            def return_model():
                return LogisticRegression()
            ```
        """

        def declare(f: Function) -> TrainStep:
            named: dict[str, Any] = {
                "name": name,
                "description": description,
                "owner": owner,
                "tags": tags,
                "depends": depends,
            }
            limits: dict[str, Any] = {"timeout": timeout, "memory": memory, "attempts": attempts, "backoff": backoff}
            common = self._common(f, **named, **limits)
            return self._add(
                TrainStep(
                    **common,
                    features=features if isinstance(features, str) else features.name,
                    target=target,
                    columns=tuple(columns) if columns is not None else None,
                    split=split if split is not None else Share(),
                    target_lag=self._lag(f, target_lag),
                    score=(score,) if isinstance(score, str) else tuple(score),
                )
            )

        return declare

    @overload
    def publish(self, function: Function, /) -> PublishStep: ...
    @overload
    def publish(
        self,
        /,
        *,
        target_lag: str | None = None,
        name: str | None = None,
        description: str | None = None,
        owner: str | None = None,
        tags: Iterable[str] = (),
        timeout: str | None = None,
        memory: str | None = None,
        attempts: int | None = None,
        backoff: str | None = None,
        depends: Sequence[str] = (),
    ) -> Callable[[Function], PublishStep]: ...
    def publish(self, function: Function | None = None, /, *, target_lag: str | None = None, **options: Any) -> Any:
        """Declares a step that makes an output: its function returns a `Dashboard`, an `Export` or a `Copy`.

        The function receives ibis tables that it may execute, and fitted estimators. What it makes becomes visible
        together with everything else that the run made.

        Args:
            function: The function, if the decorator is written without parentheses.
            target_lag: How old it may be, such as `"2h"`: while it is younger, new rows are no reason to make it again;
                other code is. It is no part of any version. Default: what is new is always a reason.
            name: The step's name. Default: the function's.
            description: What it shows. Default: the first line of the function's docstring.
            owner: Who is responsible for it. Default: the owner of the pipeline.
            tags: Words by which steps are selected (`tag:daily`). Default: none.
            timeout: How long one attempt may take, such as `"90s"`, `"10m"` or `"6h"`. Default: that of the pipeline,
                else of the tenant, else 24 hours.
            memory: How much memory its code may use, such as `"8GB"`. Default: as for `timeout`, else no limit.
            attempts: How often it is tried, if what failed may pass. Default: as for `timeout`, else 5.
            backoff: The pause before the second attempt, such as `"30s"`; it doubles before each further one. Default:
                as for `timeout`, else one second.
            depends: Installed distributions whose versions, or modules of yours whose source, are part of the output's
                version. Default: none.

        Raises:
            BadInput: If an option is unknown.

        Examples:
            ```python
            from entrepot import Export, Pipeline, Table

            shop = Pipeline("shop")


            @shop.ingest(tables={"sales": {"country": "string", "amount": "float64"}})
            def sales():
                return [{"country": "CH", "amount": 80.0}]


            @shop.publish
            def sales_file(sales: Table) -> Export:
                return Export(sales, format="csv")
            ```
        """
        self._check_options(self.publish, options)

        def declare(f: Function) -> PublishStep:
            return self._add(PublishStep(**self._common(f, **options), target_lag=self._lag(f, target_lag)))

        return declare(function) if function is not None else declare

    def example(
        self,
        step: Step | str,
        says: str,
        /,
        *,
        given: Mapping[str, Any],
        expect: Sequence[Mapping[str, Any]],
        ordered: bool = False,
    ) -> None:
        """Declares what a step makes of a few rows. `entrepot test` computes it, on DuckDB in memory.

        Declaring it computes nothing, and it is no part of any version.

        Args:
            step: The step, or its name: a transform; a check, which gives the violating rows; or `orders.contract`,
                which gives the broken rules of the contract of `orders`.
            says: What the example shows, in a few words.
            given: By name, rows for tables (dicts, `Rows`, a data frame or an Arrow table) and values for parameters.
                Steps between these tables and the step are computed, too.
            expect: The rows that are expected, as dicts. Columns that none of them has are not compared; floats
                may differ by a share of 1e-9.
            ordered: Whether the order of the rows counts. Default: it does not, as tables have none.

        Examples:
            ```python
            from entrepot import Pipeline, Table

            shop = Pipeline("shop", parameters={"large": 50.0})


            @shop.ingest
            def sales(): ...


            @shop.transform
            def large_sales(sales: Table, large: float) -> Table:
                return sales.filter(sales.amount >= large)


            shop.example(
                large_sales,
                "a sale of just the limit is large",
                given={"sales": [{"id": 1, "amount": 9.99}, {"id": 2, "amount": 10.0}], "large": 10.0},
                expect=[{"id": 2}],
            )
            ```
        """
        frame: FrameType | None = inspect.currentframe()
        caller = frame.f_back if frame else None
        at = Location(caller.f_code.co_filename, caller.f_lineno) if caller else Location("?", 0)
        name = step if isinstance(step, str) else step.name
        self.examples.append(Example(name, says, given, expect, ordered, at))

    def _limits(self, whose: str, **given: Any) -> OwnLimits:
        try:
            return own_limits(**given)
        except ValueError as error:
            raise BadInput(f"pipeline {self.name!r}{whose}: {error}") from None

    def _lag(self, function: Function, given: str | None) -> timedelta | None:
        try:
            return None if given is None else duration(given)
        except ValueError as error:
            raise BadInput(f"pipeline {self.name!r}, {function.__name__!r}: target_lag: {error}") from None

    def _promise(self, step: str, given: str | None) -> timedelta | None:
        try:
            return promise(given)
        except ValueError as error:
            raise BadInput(f"pipeline {self.name!r}, {step!r}: {error}") from None

    def _products(
        self, step: str, given: Product | Mapping[str, Product] | None, tables: Iterable[str]
    ) -> dict[str, Product]:
        where, known = f"pipeline {self.name!r}, {step!r}: product", list(tables)
        if given is None:
            return {}
        if isinstance(given, Product) and len(known) > 1:
            raise BadInput(f"{where}: say which of {listed(known)} it is, as in {{{known[0]!r}: Product(...)}}")
        every = dict(given) if isinstance(given, Mapping) else dict.fromkeys(known, given)
        for table, product in every.items():
            if table not in known:
                raise BadInput(f"{where}: {unknown('table', table, known)}")
            if not isinstance(product, Product):
                raise BadInput(f"{where}: it is a Product, not {product!r}")
        return every

    def _add(self, step: S) -> S:
        self.steps.append(step)
        self.__dict__.pop("graph", None)
        return step

    def _check_options(self, decorator: Callable[..., Any], others: Mapping[str, object]) -> None:
        """Refuses options that neither the decorator has nor all steps have."""
        options = [
            name
            for of in (decorator, self._common)
            for name, parameter in inspect.signature(of).parameters.items()
            if parameter.kind is parameter.KEYWORD_ONLY
        ]
        if strange := [name for name in others if name not in options]:
            raise BadInput(f"pipeline {self.name!r}, @{decorator.__name__}: {unknown('option', strange[0], options)}")

    def _common(
        self,
        function: Function,
        *,
        name: str | None = None,
        description: str | None = None,
        owner: str | None = None,
        tags: Iterable[str] = (),
        timeout: str | None = None,
        memory: str | None = None,
        attempts: int | None = None,
        backoff: str | None = None,
        depends: Sequence[str] = (),
    ) -> dict[str, Any]:
        code = getattr(inspect.unwrap(function), "__code__", None)
        if code is None:
            raise BadInput(f"pipeline {self.name!r}: a step is a function, and {function!r} is none")
        first_line = (inspect.getdoc(function) or "").partition("\n")[0]
        return {
            "name": name or function.__name__,
            "function": function,
            "inputs": tuple(inspect.signature(function).parameters),
            "at": Location(code.co_filename, code.co_firstlineno),
            "description": description if description is not None else first_line,
            "owner": owner or self.owner,
            "tags": frozenset([tags] if isinstance(tags, str) else tags),
            "limits": self._limits(
                f", {name or function.__name__!r}", timeout=timeout, memory=memory, attempts=attempts, backoff=backoff
            ),
            "depends": tuple(depends),
        }

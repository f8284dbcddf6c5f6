"""What pipeline authors write with: `Pipeline` and its five decorators.

Everything here is inert: a decorator records a function and where it stands. The graph is built and validated by
`Pipeline.graph`, and nothing runs before a worker is asked to run it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, TypeVar, get_args, overload

from entrepot.errors import BadInput, Location, PipelineError, Problem, unknown
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

    Args:
        name: Lower-case letters, digits and underscores. Also the default schema of its tables.
        description: What it is for; shown wherever the pipeline is listed.
        owner: Who answers for it; a step may name its own.
        parameters: Names to default values. A step that has a parameter of such a name gets its value; a tenant or a
            run may set another value of the same type.
    """

    def __init__(
        self,
        name: str,
        *,
        description: str = "",
        owner: str = "",
        parameters: Mapping[str, Any] | None = None,
    ) -> None:
        self.name = name
        self.description = description
        self.owner = owner
        self.parameters: dict[str, Any] = dict(parameters or {})
        self.steps: list[Step] = []

    def __repr__(self) -> str:
        return f"Pipeline({self.name!r}, steps={[step.name for step in self.steps]})"

    @cached_property
    def graph(self) -> Graph:
        """The validated graph.

        Raises:
            PipelineError: with every problem found, and the file and line of each.
        """
        return Graph.build(self.name, self.steps, self.parameters, _expression_problems)

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
        name: str | None = None,
        description: str | None = None,
        owner: str | None = None,
        tags: Iterable[str] = (),
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
        **others: Any,
    ) -> Any:
        """Brings raw tables in.

        The function returns a dlt source or resource, a `Files`, a `PostgresTable`, an iterable of Arrow tables or of
        dicts, or a dict of table names to any of these.

        Args:
            tables: The tables that it brings; default: one, named like the function. A mapping declares their schemas
                (column names to ibis types), so that everything downstream is validated before the first ingest.
            schema_contract: What happens when the source's columns change: `evolve`, `freeze` or `discard`; for all
                tables, or a mapping of tables to it.
            min_rows: A load that replaces a whole table (`replace`, `scd2`) fails if it brings fewer rows. For all such
                tables but nested ones and those of rejected rows, or a mapping of tables to it.
            max_shrink: It fails, too, if a larger share of the rows of before would go: `0.5` is half of them.
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
            for option, said in options.items():
                if strange := [t for t in (said if isinstance(said, Mapping) else ()) if t not in schemas]:
                    raise BadInput(f"ingest {common['name']!r}, {option}: {unknown('table', strange[0], schemas)}")
            shares = max_shrink.values() if isinstance(max_shrink, Mapping) else [max_shrink]
            if bad := [share for share in shares if share is not None and not 0 <= share <= 1]:
                raise BadInput(f"ingest {common['name']!r}: `max_shrink` is a share from 0 to 1, not {bad[0]!r}")
            step = IngestStep(
                **common, tables=schemas, schema_contract=schema_contract, min_rows=min_rows, max_shrink=max_shrink
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
        name: str | None = None,
        description: str | None = None,
        owner: str | None = None,
        tags: Iterable[str] = (),
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
        **options: Any,
    ) -> Any:
        """Makes one table from others.

        Args:
            engine: `warehouse`: the function returns a lazy ibis expression. `python`: it gets a
                `pyarrow.RecordBatchReader` for each table and yields record batches, in bounded memory.
            schema: The result's columns and ibis types; needed with `engine="python"`.
            contract: A pandera (ibis) `DataFrameModel` or `DataFrameSchema` that the table must keep to be published.
            depends: Distributions whose installed versions are part of the version of what Python code makes.
        """
        self._check_options(self.transform, options)

        def declare(f: Function) -> TransformStep:
            return self._add(
                TransformStep(**self._common(f, **options), engine=engine, schema=schema, contract=contract)
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
    ) -> Callable[[Function], CheckStep]:
        """Guards tables before they are published: the function returns the rows that violate a rule.

        Args:
            guards: The tables that it guards.
            severity: `block` stops the run before anything became visible; `warn` is recorded and shown.
        """

        def declare(f: Function) -> CheckStep:
            common = self._common(f, name=name, description=description, owner=owner, tags=tags)
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
        name: str | None = None,
        description: str | None = None,
        owner: str | None = None,
        tags: Iterable[str] = (),
        depends: Sequence[str] = (),
    ) -> Callable[[Function], TrainStep]:
        """Fits the unfitted scikit-learn estimator that the function returns.

        Args:
            features: The table to learn from.
            target: Its column to predict. Rows in which it is NULL are left out.
            columns: The feature columns; default: all but the target and what the split needs.
            split: What is kept for scoring; default: a quarter of the rows, by a hash of all columns but the target.
            score: scikit-learn scorer names; each is also computed for a baseline that ignores the features, below
                which the step warns.
        """

        def declare(f: Function) -> TrainStep:
            common = self._common(f, name=name, description=description, owner=owner, tags=tags, depends=depends)
            return self._add(
                TrainStep(
                    **common,
                    features=features if isinstance(features, str) else features.name,
                    target=target,
                    columns=tuple(columns) if columns is not None else None,
                    split=split if split is not None else Share(),
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
        name: str | None = None,
        description: str | None = None,
        owner: str | None = None,
        tags: Iterable[str] = (),
        depends: Sequence[str] = (),
    ) -> Callable[[Function], PublishStep]: ...
    def publish(self, function: Function | None = None, /, **options: Any) -> Any:
        """Makes something to look at or take away: the function returns a `Dashboard`, an `Export` or a `Copy`."""
        self._check_options(self.publish, options)

        def declare(f: Function) -> PublishStep:
            return self._add(PublishStep(**self._common(f, **options)))

        return declare(function) if function is not None else declare

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
            "depends": tuple(depends),
        }

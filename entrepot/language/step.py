"""The steps of a pipeline, as data. A step is still callable as the function it was made from.

A kind of step is a class: what planning, activities and workflows have to know of it is an attribute or a method of
`Step` that the class overrides. How its identity comes about is registered with `entrepot.planning.resolve`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from entrepot.errors import Location, unknown
from entrepot.language.incremental import Incremental
from entrepot.language.limits import UNSAID, OwnLimits
from entrepot.language.names import CONTRACT_SUFFIX, NOMINAL_TIME
from entrepot.language.promises import contract as contracts
from entrepot.language.promises.product import Product

if TYPE_CHECKING:
    from entrepot.language.split import Split

StepKind = Literal["ingest", "transform", "check", "train", "publish"]
Severity = Literal["block", "warn"]
Engine = Literal["warehouse", "python"]

Contract = Literal["evolve", "freeze", "discard"]
"""`evolve`: the table takes the change. `freeze`: the ingest fails, with the difference. `discard`: the table stays as
it is; columns that it does not have are left out, and values that do not fit are NULL, counted."""

Made = Literal["Table", "Model"]
"""What a step makes for others, as they annotate their parameters."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Step:
    """One function of a pipeline. Its inputs are named by the function's parameters."""

    kind: ClassVar[StepKind]
    stage: ClassVar[str]
    """The stage of a run in which it is made, and the activity that makes it (of a source: `extract` and `load`)."""
    is_source: ClassVar[bool] = False
    """Whether it brings data from outside: it reads no tables, and its versions are known once it has loaded."""
    is_batched: ClassVar[bool] = False
    """Whether one activity may make several, one after another: each is one statement or so."""
    produces: ClassVar[Made | None] = None
    """What its outputs are for the steps that read them; None: no step can read them."""
    folder: ClassVar[str] = ""
    """The folder of the lake that has the files of its versions; empty, if they have none."""
    retains_inputs: ClassVar[bool] = False
    """Whether what a version was made of is kept as long as the version."""

    name: str
    function: Callable[..., Any]
    inputs: tuple[str, ...]
    """Parameter names: tables, models or the pipeline's parameters."""
    at: Location
    description: str = ""
    owner: str = ""
    tags: frozenset[str] = frozenset()
    depends: tuple[str, ...] = ()
    """Distributions whose installed versions belong to the version of what Python code makes."""
    limits: OwnLimits = UNSAID
    """How long it may take, and so on, where it says so itself. No part of any version."""
    target_lag: timedelta | None = None
    """How old what it made may be before new inputs are a reason to make it again. No part of any version."""
    fresh_within: timedelta | None = None
    """How old the data of its tables may be, where that is promised. No part of any version."""
    products: Mapping[str, Product] = field(default_factory=dict)
    """Those of its tables that are data products. No part of any version."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the function itself, as a test of it would."""
        return self.function(*args, **kwargs)

    @classmethod
    def is_computed_table(cls) -> bool:
        """Whether it makes a table from others, so that warehouses can be compared by it."""
        return cls.produces == "Table" and not cls.is_source

    @property
    def reads(self) -> tuple[str, ...]:
        """The tables, models and parameters of the pipeline that it is computed from."""
        return self.inputs

    @property
    def mentions(self) -> Mapping[str, str]:
        """The tables that its decorator names, each with what the step does with it."""
        return {}

    @property
    def guards(self) -> tuple[str, ...]:
        """The tables that must not be published unless it passes."""
        return ()

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names under which its results are published."""
        return (self.name,)

    @property
    def readable(self) -> tuple[str, ...]:
        """The outputs that other steps can read."""
        return self.outputs if self.produces else ()

    @property
    def output_tables(self) -> tuple[str, ...]:
        """The outputs that are tables of the pipeline's schema."""
        return self.outputs if self.produces == "Table" else ()

    @property
    def declared(self) -> Mapping[str, Mapping[str, str]]:
        """The columns of outputs, as names and ibis types, that are known before anything has run."""
        return {}

    @property
    def names(self) -> tuple[str, ...]:
        """The names that no other step may have."""
        return tuple(dict.fromkeys((self.name, *self.readable)))

    @property
    def is_sql(self) -> bool:
        """Whether the warehouse computes it from an ibis expression."""
        return False

    @property
    def is_called_to_plan(self) -> bool:
        """Whether its function says what it computes, and is called for that before anything is computed."""
        return self.is_sql

    @property
    def is_compared(self) -> bool:
        """Whether a new version is compared with the one before, so that nothing below runs if it has the same rows."""
        return False

    @property
    def takes_time(self) -> bool:
        """Whether it takes the run's nominal time."""
        return NOMINAL_TIME in self.inputs

    def implied(self) -> Iterator[Step]:
        """Further steps that it stands for."""
        yield from ()

    def problems(self) -> Iterator[str]:
        """What is wrong with it, whatever the other steps are."""
        for table, product in self.products.items():
            if not (product.owner or self.owner):
                yield f"{self.kind} {self.name!r}: the product {table!r} has no owner; name one in `Product(owner=...)`"

    def input_problem(self, name: str, found: Made | None) -> str | None:
        """What is wrong with reading a table or a model under this name; None, if nothing is."""
        wanted = str(self.function.__annotations__.get(name, "")).rpartition(".")[2].strip("'>")
        if found and wanted in ("Table", "Model") and wanted != found:
            return f"{self.kind} {self.name!r} takes {name!r} as a {wanted}, but it is a {found.lower()}"
        return None


@dataclass(frozen=True, eq=False, kw_only=True)
class IngestStep(Step):
    """Brings raw tables in. `tables` maps each table's name to its declared schema (None: taken from the data)."""

    kind: ClassVar[StepKind] = "ingest"
    stage: ClassVar[str] = "ingest"
    is_source: ClassVar[bool] = True
    produces: ClassVar[Made | None] = "Table"
    tables: Mapping[str, Mapping[str, str] | None]
    schema_contract: Contract | Mapping[str, Contract] = "evolve"
    """What happens when the source's columns change; a mapping says it table by table."""
    min_rows: int | Mapping[str, int] | None = None
    """The rows that a table must have after a load that replaces all of them."""
    max_shrink: float | Mapping[str, float] | None = None
    """The share of a table's rows that such a load may take away at most."""
    probe: Callable[..., object] | None = None
    """Tells, at little cost, whether its source has something new."""

    @property
    def outputs(self) -> tuple[str, ...]:
        """Its tables."""
        return tuple(self.tables)

    @property
    def declared(self) -> Mapping[str, Mapping[str, str]]:
        """Those of the tables whose schemas its author gave."""
        return {table: columns for table, columns in self.tables.items() if columns is not None}

    def contract_of(self, table: str) -> Contract:
        """What happens when a table's columns change."""
        contract = self.schema_contract
        return contract if isinstance(contract, str) else contract.get(table, "evolve")

    def problems(self) -> Iterator[str]:
        """It has to bring something."""
        yield from super().problems()
        if not self.tables:
            yield f"ingest {self.name!r} brings no table: name them in `tables`"


@dataclass(frozen=True, eq=False, kw_only=True)
class TransformStep(Step):
    """Makes one table: as an ibis expression in the warehouse, or as Arrow batches in Python."""

    kind: ClassVar[StepKind] = "transform"
    stage: ClassVar[str] = "transform"
    is_batched: ClassVar[bool] = True
    produces: ClassVar[Made | None] = "Table"
    engine: Engine = "warehouse"
    schema: Mapping[str, str] | None = None
    """Column names to ibis types; needed where `engine` is `python`, since Python code shows no schema."""
    contract: Any = None
    """A pandera schema or model for ibis tables, checked before the table is published."""
    incremental: Incremental | None = None
    """By which parts it is computed; None: as a whole."""
    cutoff: bool | None = None
    """Whether a new version is compared with the one before; None: where that costs little. No part of any version."""

    @property
    def is_compared(self) -> bool:
        """Unless it says otherwise."""
        return self.cutoff is not False

    @property
    def is_sql(self) -> bool:
        """Unless it runs in Python."""
        return self.engine != "python"

    def implied(self) -> Iterator[Step]:
        """The check that its contract stands for."""
        if self.contract is not None:
            yield CheckStep(
                name=self.name + CONTRACT_SUFFIX,
                function=self.function,
                inputs=(self.name,),
                at=self.at,
                description=f"The contract of {self.name}",
                owner=self.owner,
                tags=self.tags,
                limits=self.limits,
                guards=(self.name,),
                contract=self.contract,
            )

    def problems(self) -> Iterator[str]:
        """What a check cannot hold of its contract; an engine that there is not; a schema that is missing."""
        yield from super().problems()
        if self.contract is not None:
            yield from (f"transform {self.name!r}: {problem}" for problem in contracts.problems(self.contract))
        if self.engine == "python" and not self.schema:
            yield f"transform {self.name!r} runs in Python, so it must declare its `schema`"
        if self.engine == "python" and self.incremental is not None:
            yield f"transform {self.name!r} runs in Python, so it cannot be computed {self.incremental}"
        if self.engine not in ("warehouse", "python"):
            yield f"transform {self.name!r}: {unknown('engine', self.engine, ['warehouse', 'python'])}"
        if self.cutoff is not None and not isinstance(self.cutoff, bool):
            yield f"transform {self.name!r}: `cutoff` is True, False or None, not {self.cutoff!r}"


@dataclass(frozen=True, eq=False, kw_only=True)
class CheckStep(Step):
    """Guards tables: returns the rows that violate a rule; none means passed."""

    kind: ClassVar[StepKind] = "check"
    stage: ClassVar[str] = "transform"
    is_batched: ClassVar[bool] = True
    guards: tuple[str, ...] = ()
    severity: Severity = "block"
    contract: Any = None
    """Set on the check that a transform's contract stands for; such a check has no user function."""

    @property
    def mentions(self) -> Mapping[str, str]:
        """What it guards."""
        return dict.fromkeys(self.guards, "guards")

    @property
    def outputs(self) -> tuple[str, ...]:
        """None: a verdict is not published."""
        return ()

    @property
    def names(self) -> tuple[str, ...]:
        """Its own; that of a contract's check cannot be another's."""
        return (self.name,) if self.contract is None else ()

    @property
    def is_sql(self) -> bool:
        """Unless pandera holds a contract."""
        return self.contract is None

    def problems(self) -> Iterator[str]:
        """It has to look at something and to guard something, in a known way."""
        if not self.inputs:
            yield f"check {self.name!r} looks at nothing: give its function a table as parameter"
        if not self.guards:
            yield f"check {self.name!r} guards nothing: name the table, as in `check(departures)`"
        if self.severity not in ("block", "warn"):
            yield f"check {self.name!r}: {unknown('severity', self.severity, ['block', 'warn'])}"

    def input_problem(self, name: str, found: Made | None) -> str | None:
        """What is wrong with it; nothing, where the function is that of the transform whose contract it is."""
        return super().input_problem(name, found) if self.contract is None else None


@dataclass(frozen=True, eq=False, kw_only=True)
class TrainStep(Step):
    """Fits the scikit-learn estimator that the function returns."""

    kind: ClassVar[StepKind] = "train"
    stage: ClassVar[str] = "train"
    produces: ClassVar[Made | None] = "Model"
    folder: ClassVar[str] = "models"
    retains_inputs: ClassVar[bool] = True
    features: str
    target: str
    columns: tuple[str, ...] | None
    """Feature columns; None: all but the target and what the split needs."""
    split: Split
    score: tuple[str, ...]

    @property
    def is_called_to_plan(self) -> bool:
        """It says which estimator is to be fitted."""
        return True

    @property
    def reads(self) -> tuple[str, ...]:
        """Its features, and the parameters of its function."""
        return tuple(dict.fromkeys((self.features, *self.inputs)))

    @property
    def mentions(self) -> Mapping[str, str]:
        """What it learns from."""
        return {self.features: "learns from"}

    def problems(self) -> Iterator[str]:
        """A model without a score is none."""
        if not self.score:
            yield f"train {self.name!r} names no score"

    def input_problem(self, name: str, found: Made | None) -> str | None:
        """What is wrong with it: its features are a table."""
        if problem := super().input_problem(name, found):
            return problem
        if name == self.features and found == "Model":
            return f"train {self.name!r}: its features {name!r} are a model, not a table"
        return None


@dataclass(frozen=True, eq=False, kw_only=True)
class PublishStep(Step):
    """Makes something to look at or to take away: a dashboard, files, a copy in another schema."""

    kind: ClassVar[StepKind] = "publish"
    stage: ClassVar[str] = "publish"
    folder: ClassVar[str] = "artifacts"


KINDS: Mapping[StepKind, type[Step]] = {
    each.kind: each for each in (IngestStep, TransformStep, CheckStep, TrainStep, PublishStep)
}
"""Every kind by its name, in the order of a run's stages."""

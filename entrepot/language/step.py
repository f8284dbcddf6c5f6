"""The steps of a pipeline, as data. A step is still callable as the function it was made from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from entrepot.errors import Location

if TYPE_CHECKING:
    from entrepot.language.split import Split

StepKind = Literal["ingest", "transform", "check", "train", "publish"]
Severity = Literal["block", "warn"]
Engine = Literal["warehouse", "python"]

Contract = Literal["evolve", "freeze", "discard"]
"""`evolve`: the table takes the change. `freeze`: the ingest fails, with the difference. `discard`: the table stays as
it is; columns that it does not have are left out, and values that do not fit are NULL, counted."""

KINDS: tuple[StepKind, ...] = ("ingest", "transform", "check", "train", "publish")


@dataclass(frozen=True, eq=False, kw_only=True)
class Step:
    """One function of a pipeline. Its inputs are named by the function's parameters."""

    kind: ClassVar[StepKind]

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

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the function itself, as a test of it would."""
        return self.function(*args, **kwargs)


@dataclass(frozen=True, eq=False, kw_only=True)
class IngestStep(Step):
    """Brings raw tables in. `tables` maps each table's name to its declared schema (None: taken from the data)."""

    kind: ClassVar[StepKind] = "ingest"
    tables: Mapping[str, Mapping[str, str] | None]
    schema_contract: Contract | Mapping[str, Contract] = "evolve"
    """What happens when the source's columns change; a mapping says it table by table."""
    min_rows: int | Mapping[str, int] | None = None
    """The rows that a table must have after a load that replaces all of them."""
    max_shrink: float | Mapping[str, float] | None = None
    """The share of a table's rows that such a load may take away at most."""

    def contract_of(self, table: str) -> Contract:
        """What happens when a table's columns change."""
        contract = self.schema_contract
        return contract if isinstance(contract, str) else contract.get(table, "evolve")


@dataclass(frozen=True, eq=False, kw_only=True)
class TransformStep(Step):
    """Makes one table: as an ibis expression in the warehouse, or as Arrow batches in Python."""

    kind: ClassVar[StepKind] = "transform"
    engine: Engine = "warehouse"
    schema: Mapping[str, str] | None = None
    """Column names to ibis types; needed where `engine` is `python`, since Python code shows no schema."""
    contract: Any = None
    """A pandera schema or model for ibis tables, checked before the table is published."""


@dataclass(frozen=True, eq=False, kw_only=True)
class CheckStep(Step):
    """Guards tables: returns the rows that violate a rule; none means passed."""

    kind: ClassVar[StepKind] = "check"
    guards: tuple[str, ...] = ()
    severity: Severity = "block"
    contract: Any = None
    """Set on the check that a transform's contract stands for; such a check has no user function."""


@dataclass(frozen=True, eq=False, kw_only=True)
class TrainStep(Step):
    """Fits the scikit-learn estimator that the function returns."""

    kind: ClassVar[StepKind] = "train"
    features: str
    target: str
    columns: tuple[str, ...] | None
    """Feature columns; None: all but the target and what the split needs."""
    split: Split
    score: tuple[str, ...]


@dataclass(frozen=True, eq=False, kw_only=True)
class PublishStep(Step):
    """Makes something to look at or to take away: a dashboard, files, a copy in another schema."""

    kind: ClassVar[StepKind] = "publish"


@dataclass
class StepOptions:
    """What every kind of step accepts beside its own options."""

    name: str | None = None
    description: str | None = None
    owner: str | None = None
    tags: tuple[str, ...] = ()
    depends: tuple[str, ...] = field(default=())

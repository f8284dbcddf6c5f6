"""What workflows, activities and the command line say to each other. References and counts only, never data.

Light on purpose: workflows import it inside Temporal's sandbox.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from entrepot.identity.frozen import Kept
from entrepot.language.limits import DEFAULTS, StepLimits
from entrepot.language.names import (
    DEFAULT_ENVIRONMENT,
    EnvironmentName,
    Id,
    MaybeId,
    MaybeWarehouse,
    PipelineName,
    PipelineNames,
    TableName,
    TenantName,
)
from entrepot.language.step import StepKind
from entrepot.planning.plan import Same
from entrepot.planning.products.contract import ProductContract
from entrepot.protocol.hooks import EmailHook, Hook, Hooks, RunEvent, WebhookHook

EXAMPLE = ", for example "
"""What stands in a check's sentence before a row that violates it."""


def without_example(said: str) -> str:
    """What a check has found, without the row: counts alone, for where data do not belong."""
    return said.partition(EXAMPLE)[0]


class Message(BaseModel):
    """Immutable, and closed: an unknown field is an error, not a surprise."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class TenantInput(Message):
    """What people start for one tenant: for a pipeline, or for all that it has."""

    tenant: TenantName
    pipeline: PipelineName | None = None


class Target(TenantInput):
    """What every run needs to know: whose pipeline, and where it is published."""

    pipeline: PipelineName
    environment: EnvironmentName = DEFAULT_ENVIRONMENT


class Backfill(Message):
    """A range of a cursor: from `start` to just before `end`. Times are ISO texts."""

    start: str | int | float
    end: str | int | float


OF_RUN = "entrepot"
"""Among what each step of a run did, what holds of the run: `cause`, `why` and `code`. No step is called so."""


class RunInput(Target):
    """The input of `Pipeline`, `Ingest`, `Transform`, `Train` and `Publish`."""

    select: str | None = None
    """Which steps: `departures+`, `tag:hourly`; see `entrepot.planning.selection`. Default: all."""
    parameters: dict[str, Any] = {}
    """Values of the pipeline's parameters for this run."""
    dry_run: bool = False
    """Plan only: nothing is read from sources, written or moved."""
    refresh: bool = False
    """The selected ingest steps ignore saved state, and reload everything."""
    backfill: Backfill | None = None
    """The selected ingest steps load this range of their cursor again; the ingest state stays as it is."""
    replay: EnvironmentName | None = None
    """Sources are not read: ingest steps reuse the landed files of this environment's newest load."""
    force: str | None = None
    """Which of the selected steps are computed anew, though their versions are there; written as `select` is."""
    why: str = ""
    """What has caused the run, in a sentence; empty, if a person or a schedule has."""


class Context(Target):
    """What every activity of a run needs to know of it."""

    pipeline: PipelineNames
    run: Id
    started_at: str = ""
    """UTC, without zone."""
    parameters: dict[str, Any] = {}
    """What the tenant and the run set, and the run's nominal time; pipelines have defaults for the others."""
    backend: MaybeWarehouse = ""
    """Which of the tenant's warehouses; empty: the one where its pipelines run."""


class Request(Message):
    """The request of an activity of a run."""

    context: Context

    @property
    def about(self) -> tuple[str, ...]:
        """The steps or tables that it is about; none: the run itself."""
        return ()

    @property
    def warehouse(self) -> str:
        """The tenant's warehouse to work on; empty: the first, or several."""
        return self.context.backend


class StepRequest(Request):
    """The request of an activity for one step."""

    step: TableName

    @property
    def about(self) -> tuple[str, ...]:
        """The step."""
        return (self.step,)


class Prepared(Message):
    """A run's input, validated against what the worker knows."""

    backend: str
    parallel: int
    weight: float
    parity: str | None = None
    """The warehouse with which tables must agree before they are published."""
    selected: tuple[str, ...]
    kinds: dict[str, StepKind]
    ingests: tuple[str, ...]
    anew: tuple[str, ...] = ()
    """The steps that are computed, though their versions are there."""
    parameters: dict[str, Any] = {}
    """What the tenant and the run set of the pipeline's parameters."""
    limits: StepLimits = DEFAULTS
    """What holds of every step that does not say otherwise."""
    limits_of: dict[str, StepLimits] = {}
    """What holds of the steps that do."""
    hooks: Hooks = {}
    """Who is told how the run ends."""


class StepRef(StepRequest):
    """One step of a run. `versions` has the version of each output, and of each table and model that it reads."""

    versions: dict[TableName, Id] = {}
    identities: dict[TableName, Id] = {}
    """What the step computes, as it was planned."""
    spent: int = 0
    """Bytes that the steps before it have read in the warehouse."""
    anew: tuple[TableName, ...] = ()
    """The step, if it is to be made though its version is there."""


class ExtractRequest(StepRequest):
    """The request of `extract`."""

    refresh: bool = False
    backfill: Backfill | None = None
    replay: EnvironmentName | None = None
    is_all: bool = False
    """Whether the run does nothing else, so that collections need not wait for what it may take."""


class TableLoad(Message):
    """One table's part of a load; what belongs to it stands in the lake, in the manifest of its version."""

    version: Id
    rows: int
    bytes: int
    manifest: str | None = None
    """The hash of that manifest."""


class Load(Message):
    """What an extract brought."""

    step: TableName
    id: MaybeId = ""
    """Its identity: the hash of the load that it came after, and of what it brought."""
    after: int = 0
    """The number of the environment's ingest state when the source was read."""
    tables: dict[TableName, TableLoad] = {}
    """What is new. Those of before a nested one come before it."""
    known: dict[TableName, Id] = {}
    """The versions of tables for which nothing came."""
    fingerprint: str | None = None
    state: str | None = None
    """The lake's file with what the source remembers."""
    changes: dict[str, list[str]] = {}
    """What changed in the columns of which table."""
    unchanged: bool = False
    """There is nothing to load, and nothing new to remember."""
    why: str = ""


def describe_changes(changes: Mapping[str, Sequence[str]]) -> str:
    """What a load changed in the columns of tables, for people."""
    return "; ".join(f"{table}: {', '.join(sentences)}" for table, sentences in changes.items())


class LoadRequest(Request):
    """The request of `load`."""

    load: Load
    may_follow: bool = False
    """Whether it may follow another load than the one after which the source was read: it is of an interval, and rows
    are appended."""

    @property
    def about(self) -> tuple[str, ...]:
        """The step that was extracted."""
        return (self.load.step,)


class LoadTablesRequest(StepRequest):
    """The request of `load_tables`: versions of a step's tables that the lake has, for the context's warehouse."""

    tables: dict[TableName, Id]


class PlanRequest(Request):
    """The request of `plan`. `ingested`: what each ingest step did in this run; None: it is still to come."""

    selected: tuple[TableName, ...]
    raw: dict[TableName, Id] = {}
    ingested: dict[TableName, str] | None = None
    given: dict[TableName, Id] = {}
    """Versions to take for steps that are not selected, instead of those that the environment shows."""
    same: tuple[Same, ...] = ()
    """Versions that have the rows of another where the pipeline runs, which other warehouses do not know."""
    running: tuple[TableName, ...] = ()
    """Steps that are being made, as an earlier plan of the run says: whose rows they have does not count yet."""
    anew: tuple[TableName, ...] = ()
    """Steps that are to be computed though their versions are there."""
    compiled: bool = True
    """Whether what the warehouse cannot compute makes the plan fail; else the step does."""


class Batch(Request):
    """Transforms and checks for one activity: one, or several small ones."""

    steps: tuple[TableName, ...]
    versions: dict[TableName, Id]
    """The versions of these steps and of everything that they read."""
    identities: dict[TableName, Id] = {}
    """What these steps compute, as it was planned."""
    spent: int = 0
    """Bytes that the run's steps before them have read in the warehouse."""
    anew: tuple[TableName, ...] = ()
    """Those of the steps that are to be computed though their versions are there."""
    before: dict[TableName, Id] = {}
    """Those of the steps that are compared with a version before, and which."""
    kept: dict[TableName, Kept] = {}
    """Those of the steps of whose tables something is frozen, and what stays."""

    @property
    def about(self) -> tuple[str, ...]:
        """The steps."""
        return self.steps


class StepResult(Message):
    """How a step ended."""

    name: str
    rows: int | None = None
    bytes: int | None = None
    scanned: int | None = None
    """Bytes that it read in the warehouse, where the warehouse says so."""
    seconds: float = 0.0
    note: str = ""
    """A sentence for people: scores, violations, how rows were scored, where a page is."""
    warned: bool = False
    unchanged: bool = False
    """It found nothing that was not there before."""
    same: bool = False
    """It has made a table that has the rows of another version: what reads it may have nothing to do."""
    versions: dict[str, str] = {}
    """Of an ingest step: the version of each of its tables."""
    details: dict[str, Any] = {}


ATTEMPT_FAILED = "attempt_failed"
"""The signal by which a run is told of one."""
RUNS = frozenset({"Pipeline", "Ingest", "Transform", "Train", "Publish"})
"""The types of workflows that hear it."""


class FailedAttempt(Message):
    """An attempt at steps that failed, and is not the last."""

    steps: tuple[TableName, ...]
    attempt: int
    why: str


class PromoteRequest(Request):
    """What a run publishes: all of it, or nothing."""

    sequence: int
    moves: dict[TableName, Id]
    removes: tuple[TableName, ...] = ()
    anew: tuple[TableName, ...] = ()
    """What was made though its version was there: other environments may show it, too."""
    checks: dict[TableName, Id] = {}
    """The versions of checks, by whose rules pages say what stands."""
    products: dict[TableName, ProductContract | None] = {}
    """What is promised of tables from now on; None: that they are no products any more."""
    results: dict[str, Any] = {}
    """What each step did; and `OF_RUN`."""


class Promoted(Message):
    """What a publish did."""

    moved: tuple[str, ...]
    sequence: int
    links: dict[str, str] = {}
    ahead: tuple[str, ...] = ()
    """After a rollback or a promotion, the ingest steps whose ingest state includes loads that are not shown."""
    again: tuple[str, ...] = ()
    """After a promotion, the ingest steps that go on where the other environment stood: what had been loaded here since
    is asked of their sources again."""
    behind: tuple[str, ...] = ()
    """What does not show yet what was published, and why, each a sentence: the publish stands, and the next one, or
    `doctor --repair`, finishes it."""
    listeners: tuple[str, ...] = ()
    """The triggers that wait for it, as `tenant/pipeline`."""
    hooks: tuple[Hook, ...] = ()
    """Who is told of it, after a rollback or a promotion."""


class RecordFailureRequest(Request):
    """What the catalog keeps of a run that failed or was cancelled."""

    status: Literal["failed", "cancelled"]
    error: str
    results: dict[str, Any] = {}
    """What it has asked of sources before it failed; and `OF_RUN`."""
    moves: dict[str, str] = {}
    """What it would have published."""


class Delivery(TenantInput):
    """The input of `Hook` and of its activity: what is to be told, by a webhook or by email."""

    pipeline: PipelineName
    event: RunEvent
    hook: WebhookHook | EmailHook


class Delivered(Message):
    """That it was."""

    note: str

"""What workflows, activities and the command line say to each other. References and counts only, never data.

Light on purpose: workflows import it inside Temporal's sandbox.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from entrepot.identity.version import DEFAULT_ENVIRONMENT
from entrepot.language.step import StepKind


class Message(BaseModel):
    """Immutable, and closed: an unknown field is an error, not a surprise."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Target(Message):
    """What every workflow needs to know: whose pipeline, and where it is published."""

    tenant: str = Field(min_length=1)
    pipeline: str = Field(min_length=1)
    environment: str = DEFAULT_ENVIRONMENT


class Backfill(Message):
    """A range of a cursor: from `start` to just before `end`. Times are ISO texts."""

    start: str | int | float
    end: str | int | float


class RunInput(Target):
    """The input of `Pipeline`, `Ingest`, `Transform`, `Train` and `Publish`."""

    select: str | None = None
    """Which steps: `departures+`, `tag:hourly`; see `entrepot.planning.selection`. Default: all."""
    parameters: dict[str, Any] = {}
    """Values of the pipeline's parameters for this run."""
    dry_run: bool = False
    """Plan only: nothing is read from sources, written or moved."""
    refresh: bool = False
    """The selected ingest steps forget what they loaded before, and load everything anew."""
    backfill: Backfill | None = None
    """The selected ingest steps load this range of their cursor again; the cursor stays where it is."""
    replay: str | None = None
    """Sources are not asked: ingest steps take from the lake what this environment stands at."""
    force: str | None = None
    """Which of the selected steps are computed anew, though their versions are there; written as `select` is."""


class RollbackInput(Target):
    """The input of `Rollback`."""

    to: str | None = None
    """The run (or the first characters of its id) whose publish is to be restored. Default: the one before."""
    cursor: bool = False
    """Whether the cursors of ingest steps go back, too, so that the next run asks the sources again for what came
    since. Else it goes on behind what was loaded last, and brings back what the rollback took from sight."""


class GcInput(Message):
    """The input of `Gc`."""

    tenant: str = Field(min_length=1)
    pipeline: str | None = Field(default=None, min_length=1)
    """Default: every pipeline that the catalog knows, those included that the tenant does not run any more."""
    keep_days: float = Field(default=7, ge=0)
    """Versions made within these days stay, whether or not anything points at them; and what a pipeline that the tenant
    does not run any more has published within them."""
    keep_publishes: int = Field(default=3, ge=1)
    """What each environment pointed at in its last publishes stays, so that it can be rolled back."""
    dry_run: bool = False


class ChecksInput(Message):
    """The input of the activity `checks`: which verdicts with violating rows are listed."""

    tenant: str = Field(min_length=1)
    pipeline: str = Field(min_length=1)
    table: str | None = None
    """Those that guard this table."""
    run: str | None = None
    """Those of this run: its id, or the first characters of it."""
    environment: str | None = None
    """Those of runs that were to publish there, and those on what it shows now."""


class ParityInput(Target):
    """The input of `Parity`."""

    on: list[str] = []
    """The tenant's warehouses that are compared; the first is what the others are held against. Default: all."""
    select: str | None = None
    """Which tables; see `entrepot.planning.selection`. Default: all."""
    raw: dict[str, str] = {}
    """Versions of raw tables to compute from. Default: those of the newest loads."""
    parameters: dict[str, Any] = {}
    """Values of the pipeline's parameters."""
    fresh: bool = False
    """Every table is digested, whatever earlier comparisons certified."""


class Context(Target):
    """What every activity of a run is told."""

    run: str
    started_at: str = ""
    """UTC, without zone."""
    parameters: dict[str, Any] = {}
    """Those that were given for the run, and its nominal time."""
    backend: str = ""
    """Which of the tenant's warehouses; empty: the one where its pipelines run."""


class Prepared(Message):
    """A run's input, after it was held against what the worker knows."""

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


class StepRef(Message):
    """One step of a run. `versions` has the version of each output, and of each table and model that it reads."""

    context: Context
    step: str
    versions: dict[str, str] = {}
    spent: int = 0
    """Bytes that the steps before it have read in the warehouse."""
    anew: tuple[str, ...] = ()
    """The step, if it is to be made though its version is there."""


class ExtractRequest(Message):
    """What `extract` is told."""

    context: Context
    step: str
    refresh: bool = False
    backfill: Backfill | None = None
    replay: str | None = None


class TableLoad(Message):
    """One table's part of a load; what belongs to it stands in the lake, in the manifest of its version."""

    version: str
    rows: int
    bytes: int


class Load(Message):
    """What an extract brought."""

    step: str
    id: str = ""
    """Its identity: the hash of the load that it came after, and of what it brought."""
    after: int = 0
    """How often the environment's cursor had moved when the source was asked."""
    tables: dict[str, TableLoad] = {}
    """What is new. Those of before a nested one come before it."""
    known: dict[str, str] = {}
    """The versions of tables for which nothing came."""
    fingerprint: str | None = None
    state: str | None = None
    """The lake's file with what the source remembers."""
    changes: dict[str, list[str]] = {}
    """What changed in the columns of which table."""
    unchanged: bool = False
    """There is nothing to load, and nothing new to remember."""
    why: str = ""


def told(changes: Mapping[str, Sequence[str]]) -> str:
    """What a load changed in the columns of tables, for people."""
    return "; ".join(f"{table}: {', '.join(said)}" for table, said in changes.items())


class LoadRequest(Message):
    """What `load` is told."""

    context: Context
    load: Load


class LoadTablesRequest(Message):
    """What `load_tables` is told: versions of a step's tables that the lake has, for the context's warehouse."""

    context: Context
    step: str
    tables: dict[str, str]


class PlanRequest(Message):
    """What `plan` is told. `ingested`: what each ingest step did in this run; None: it is still to come."""

    context: Context
    selected: tuple[str, ...]
    raw: dict[str, str] = {}
    ingested: dict[str, str] | None = None
    given: dict[str, str] = {}
    """Versions to take for steps that are not selected, instead of those that the environment shows."""
    anew: tuple[str, ...] = ()
    """Steps that are to be computed though their versions are there."""
    compiled: bool = True
    """Whether what the warehouse cannot compute makes the plan fail; else the step does."""


class Batch(Message):
    """Transforms and checks for one activity: one, or several small ones."""

    context: Context
    steps: tuple[str, ...]
    versions: dict[str, str]
    """The versions of these steps and of everything that they read."""
    spent: int = 0
    """Bytes that the run's steps before them have read in the warehouse."""
    anew: tuple[str, ...] = ()
    """Those of the steps that are to be computed though their versions are there."""


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
    versions: dict[str, str] = {}
    """Of an ingest step: the version of each of its tables."""
    details: dict[str, Any] = {}


class PromoteRequest(Message):
    """What a run publishes: all of it, or nothing."""

    context: Context
    sequence: int
    moves: dict[str, str]
    removes: tuple[str, ...] = ()
    anew: tuple[str, ...] = ()
    """What was made though its version was there: other environments may show it, too."""
    checks: dict[str, str] = {}
    """The versions of checks, by whose rules pages say what stands."""
    results: dict[str, Any] = {}


class Promoted(Message):
    """What a publish did."""

    moved: tuple[str, ...]
    sequence: int
    links: dict[str, str] = {}
    ahead: tuple[str, ...] = ()
    """After a rollback, the ingest steps whose cursor stands behind loads that are not shown any more."""


class RecordFailureRequest(Message):
    """What the catalog keeps of a run that failed or was cancelled."""

    context: Context
    status: Literal["failed", "cancelled"]
    error: str


class PreparedParity(Message):
    """What is compared, after the input was held against what the worker knows."""

    on: tuple[str, ...]
    ingests: tuple[str, ...]
    computed: tuple[str, ...]
    """Transforms and train steps that are made on the first warehouse; on the others, the transforms of them."""
    kinds: dict[str, StepKind]
    tables: tuple[str, ...]
    """What is compared: raw tables and transforms, each after what it reads."""
    inputs: dict[str, tuple[str, ...]]
    """Table to the tables that it reads."""
    parallel: int
    weight: float
    brings: dict[str, tuple[str, ...]] = {}
    """Ingest step to its tables."""
    unreachable: dict[str, str] = {}
    """Warehouses that nothing can be computed on, and why."""


class Compilation(Message):
    """What `compile_parity` is told: steps, the raw tables that they start from, and the warehouses."""

    context: Context
    steps: tuple[str, ...]
    raw: dict[str, str]
    on: tuple[str, ...]


class Adoption(Message):
    """What `adopt` is told: fitted models that another of the tenant's warehouses knows, to be known here, too."""

    context: Context
    versions: dict[str, str]
    whence: str


class Comparison(Message):
    """What `compare` is told: one table, and the warehouses to compare it on."""

    context: Context
    name: str
    version: str
    on: tuple[str, ...]
    failed: dict[str, str] = {}
    """Those of them that have no such table, and why."""
    inputs: dict[str, str] = {}
    fresh: bool = False
    """What other runs have certified does not count."""
    brief: bool = False
    """Without rows, values and statements: the report has enough of them."""


class Cell(Message):
    """One value that differs."""

    key: dict[str, str]
    """What tells its row from the others."""
    column: str
    left: str | None
    right: str | None


Verdict = Literal["agrees", "agrees within tolerance", "differs", "not compared", "not computed"]


class Side(Message):
    """How a table on one warehouse compares to the same on the first."""

    backend: str
    verdict: Verdict
    engine: str = ""
    rows: int | None = None
    digest: str = ""
    why: str = ""
    cells: tuple[Cell, ...] = ()
    """Some of the values that differ: left on the first warehouse, right on this one."""
    only_left: tuple[dict[str, str | None], ...] = ()
    """Some of the rows that this one lacks."""
    only_right: tuple[dict[str, str | None], ...] = ()
    """Some of the rows that only this one has."""
    certified: bool = False
    certified_by: str = ""
    certified_at: str = ""
    """Told by a certificate of an earlier comparison, in this run, then."""
    unavailable: bool = False
    """It could not be used, though it was tried again."""
    sql: str = ""
    """What computes the table there; where that could not be compared, the statement that failed."""

    @property
    def agrees(self) -> bool:
        """Whether it has the same rows."""
        return self.verdict.startswith("agrees")


class TableParity(Message):
    """One table, compared."""

    name: str
    kind: StepKind
    version: str
    engine: str = ""
    rows: int | None = None
    digest: str = ""
    expression: str = ""
    """As ibis shows it, where warehouses differ."""
    sql: str = ""
    sides: tuple[Side, ...] = ()
    seconds: float = 0.0

    @property
    def agrees(self) -> bool:
        """Whether all warehouses have the same rows."""
        return all(side.agrees for side in self.sides)


class ParityReport(Message):
    """What `Parity` found: its result."""

    run: str
    tenant: str
    pipeline: str
    environment: str
    on: tuple[str, ...]
    agrees: bool
    tables: tuple[TableParity, ...]
    link: str = ""
    """The report as a page in the lake."""
    seconds: float = 0.0

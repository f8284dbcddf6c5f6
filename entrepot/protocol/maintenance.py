"""The messages of what looks after environments and versions: `Rollback`, `Gc`, `Drop`, `Repair`, and the two lists."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from entrepot.language.names import EnvironmentName, Id, PipelineName, TableName
from entrepot.protocol.messages import Message, Target, TenantInput


class RollbackInput(Target):
    """The input of `Rollback`."""

    to: Id | None = None
    """The run (or the first characters of its id) whose publish is to be restored. Default: the one before."""
    cursor: bool = False
    """Whether the ingest states go back, too, so that the next run asks the sources again for what came
    since. Else it goes on behind what was loaded last, and brings back what the rollback took from sight."""
    dry_run: bool = False
    """Only says what would move, or why it cannot."""


class GcInput(TenantInput):
    """The input of `Gc`."""

    pipeline: PipelineName | None = None
    """Default: every pipeline that the catalog knows, those included that the tenant does not run any more."""
    keep_days: float = Field(default=7, ge=0)
    """Versions made within these days stay, whether or not anything points at them; and what a pipeline that the tenant
    does not run any more has published within them."""
    keep_publishes: int = Field(default=3, ge=1)
    """What each environment pointed at in its last publishes stays, so that it can be rolled back."""
    dry_run: bool = False


class GcElsewhere(Message):
    """What a collection removed on a further warehouse, or would remove: of what comparisons have computed there, and
    of copies."""

    removed: list[str] = []
    """The versions; those of copies are told with the pipeline's own."""
    kept: int = 0
    tables: int = 0
    """Tables of no version."""
    bytes: int = 0
    """How much all of that was."""
    unknown: str = ""
    """Why that is not known, or not of all; empty, if it is."""
    free: int = 0
    """What is free in the warehouse's own file."""
    why: str = ""
    """Why it was left alone; empty, if it was not."""


class GcResult(Message):
    """What a collection removed, or would remove."""

    removed: list[str]
    kept: int
    rows: int
    dry_run: bool
    left: list[str] = []
    """What pipelines that the tenant does not run any more have shown; it is gone, too."""
    waiting: list[str] = []
    """What they show still, since it was published not long ago."""
    expired: list[str] = []
    """Environments that expired, each as pipeline and environment; they are dropped."""
    later: list[str] = []
    """Pipelines that were left alone, since a run goes on whose plan is not made: it may take whatever there is."""
    tables: int = 0
    """Tables of no version: what was written together with others since, and what died before it was recorded."""
    files: int = 0
    """Files in the lake."""
    bytes: dict[str, int] = {}
    """How much that was, by place: `tables` in the warehouse, files in the `lake`, what is `free` in the warehouse's
    own file, and `scratch` that killed workers have left on the worker's machine."""
    unknown: dict[str, str] = {}
    """The places of which it is not known, or not of all, each with why."""
    elsewhere: dict[str, GcElsewhere] = {}
    """The same of each further warehouse."""


class OfEnvironment(TenantInput):
    """What people start for an environment of one pipeline, or of several."""

    environment: EnvironmentName


class DropInput(OfEnvironment):
    """The input of `Drop`."""

    pipeline: PipelineName | None = None
    """Default: every pipeline that has something there. `prod` is dropped for one that is named."""
    dry_run: bool = False


class Dropped(Message):
    """What the removal of an environment took from sight, or would take: pipeline to its views and files."""

    removed: dict[str, list[str]]
    dry_run: bool


class RepairInput(TenantInput):
    """The input of `Repair`."""

    pipeline: PipelineName | None = None
    """Default: all that the tenant runs."""
    dry_run: bool = False
    """Only look."""
    from_lake: bool = False
    """Nothing else: raw tables and ingest states that the catalog does not have are read back from the lake."""


class Repaired(Message):
    """What `Repair` found, and what is left to do for runs."""

    found: tuple[str, ...] = ()
    """What differs from the catalog, each a sentence."""
    left: tuple[str, ...] = ()
    """What somebody has to look at, each a sentence."""
    runs: dict[str, dict[str, tuple[str, ...]]] = Field(default_factory=dict)
    """Pipeline and environment to the steps that are to be computed anew."""


class VersionRow(Message):
    """One version, for people."""

    name: str
    kind: str
    version: str
    rows: int | None
    bytes: int | None
    seconds: float | None
    made_at: str
    run: str
    environments: list[str]
    """The environments that point at it."""
    note: str = ""


class ChecksInput(TenantInput):
    """The input of the activity `checks`: which verdicts with violating rows are listed."""

    pipeline: PipelineName
    table: TableName | None = None
    """Those that guard this table."""
    run: Id | None = None
    """Those of this run: its id, or the first characters of it."""
    environment: EnvironmentName | None = None
    """Those of runs that were to publish there, and those on what it shows now."""


class CheckRow(Message):
    """One verdict with violating rows, for people."""

    check: str
    guards: list[str]
    severity: str
    violations: int
    sample: list[dict[str, Any]]
    """The violating rows that were kept."""
    run: str
    checked_at: str
    environments: list[str]
    """Where its run was to publish, and where what it looked at is shown now."""

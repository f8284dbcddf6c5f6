"""The messages of what compares and moves environments, `Create`, `Diff` and `Promote`; of lists about them; and of who
asks, or watches, whether what they show is fresh."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Literal

from entrepot.language.names import DEFAULT_ENVIRONMENT, EnvironmentName, MaybeId, PipelineName
from entrepot.language.step import StepKind
from entrepot.protocol.hooks import Hook
from entrepot.protocol.maintenance import OfEnvironment
from entrepot.protocol.messages import Message, Target, TenantInput
from entrepot.protocol.parity import Cell
from entrepot.protocol.triggers import Look


class CreateInput(OfEnvironment):
    """The input of `Create`."""

    like: EnvironmentName = DEFAULT_ENVIRONMENT
    """The environment whose versions it shows from the beginning."""
    pipeline: PipelineName | None = None
    """Default: every pipeline that the tenant runs and that shows something in the other environment."""


class Created(Message):
    """What an environment that was created shows: pipeline to its names."""

    shows: dict[str, list[str]]
    behind: tuple[str, ...] = ()
    """What does not show yet what it points at, and why, each a sentence, as of a publish."""


class PromoteInput(Target):
    """The input of `Promote`: `environment` is made to show what `like` shows."""

    like: EnvironmentName
    expect: dict[EnvironmentName, MaybeId] = {}
    """What each of the two showed when somebody looked: the run (or the first characters of its id) that had published
    it, as a diff tells it; empty for an environment that showed nothing. Default: what the workflow finds at first."""


class DiffInput(Target):
    """The input of `Diff`: what `environment` has otherwise than `against`."""

    environment: EnvironmentName
    against: EnvironmentName = DEFAULT_ENVIRONMENT
    select: str | None = None
    """Which names; see `entrepot.planning.selection`. Default: all."""


class ShownName(Message):
    """A name that one of two environments shows alone."""

    name: str
    kind: StepKind
    version: str
    rows: int | None = None
    stays: bool = False
    """Whether a promotion leaves it where it is shown: the pipeline still makes it."""


class ColumnChanges(Message):
    """How the columns of one version differ from those of another."""

    added: dict[str, str] = {}
    """Column to its type."""
    removed: dict[str, str] = {}
    retyped: dict[str, tuple[str, str]] = {}
    """Column to its type there, and its type here."""

    @property
    def kind(self) -> str:
        """What it means for who reads the table."""
        if self.removed or self.retyped:
            return "breaking"
        return "additive" if self.added else "same columns"


class RowChanges(Message):
    """How the rows of one version differ from those of another, in the columns that both have."""

    equal: bool | None
    """None: they were not compared."""
    why: str = ""
    """Why not; or what was found, in a sentence."""
    cells: tuple[Cell, ...] = ()
    """Some of the values that differ: left here, right there."""
    only_left: tuple[dict[str, str | None], ...] = ()
    """Some of the rows that are here alone."""
    only_right: tuple[dict[str, str | None], ...] = ()


class ChangedName(Message):
    """A name that shows different versions in two environments: here, and there."""

    name: str
    kind: StepKind
    left: str
    """The version here."""
    right: str
    """The version there."""
    why: str = ""
    """What made it another: its code, or which of its inputs."""
    note: str = ""
    """Of a model, its scores there and here."""
    impact: str = ""
    """Of a table, `breaking`, `additive` or `same columns`, by its columns."""
    columns: ColumnChanges = ColumnChanges()
    left_rows: int | None = None
    right_rows: int | None = None
    rows: RowChanges | None = None
    """Of a table."""


class EnvironmentDiff(Target):
    """What `Diff` found: its result."""

    against: EnvironmentName
    seen: dict[str, str]
    """What each showed: the run that had published it, for `expect` of `Promote`."""
    only_left: tuple[ShownName, ...] = ()
    """What `environment` shows alone."""
    only_right: tuple[ShownName, ...] = ()
    changed: tuple[ChangedName, ...] = ()
    same: int = 0
    """Names that show the same version in both."""
    left_out: int = 0
    """Names that are not told, since there are too many."""
    ahead: tuple[str, ...] = ()
    """Ingest steps of which `against` has loaded what `environment` does not show."""


class EnvironmentRow(Message):
    """One environment of a pipeline, for people."""

    pipeline: str
    environment: str
    names: int
    """How many it shows."""
    differ: int | None
    """How many of its names, and of those of `prod`, are shown otherwise in the two; None of `prod` itself."""
    published_at: str
    """When it was published last, in UTC; empty: nothing was published there."""
    action: str
    run: str
    behind: bool
    """Whether views, pages or files do not show all of that yet."""


class PublishRow(Message):
    """One publish of an environment, for people."""

    sequence: int
    published_at: str
    """In UTC."""
    action: str
    run: str
    moved: int
    """How many names it moved."""
    names: tuple[str, ...]
    """Some of them."""
    why: str
    """What came of whom: the steps that its run computed, the environment or run whose versions these were."""
    cause: str = ""
    """What has begun its run: `person`, `schedule acme/flights`, `trigger` with why; empty: no run did it, or it is
    older than that was recorded."""
    code: str = ""
    """Which code made what it shows: a build id, a git commit, or `content` and the hash of the pipeline's files."""


class RunsInput(TenantInput):
    """The input of the activity `runs`: which runs are listed."""

    environment: EnvironmentName | None = None
    """Those for this environment, by its name; default: for any."""


class RunRow(Message):
    """One run, or what else changed an environment, for people."""

    run: str
    pipeline: str
    environment: str
    """Empty where it is not known: of what still goes on."""
    status: str
    """`running`, `published`, `nothing to do`, `failed`, `cancelled`, `created` or `promoted`."""
    started_at: str
    """In UTC."""
    seconds: float | None
    """How long it took; None while it goes on."""
    what: str
    """What it computed, why it failed, or the workflow that goes on."""
    cause: str = ""
    """What has begun it, as of a publish; empty while it goes on."""


class FreshnessInput(TenantInput):
    """The input of the activity `freshness`: whose promises are looked at, and where."""

    environment: EnvironmentName = DEFAULT_ENVIRONMENT


class FreshnessRow(Message):
    """Whether one table keeps its promise to be fresh, for people and for what watches."""

    pipeline: str
    table: str
    environment: str
    state: Literal["fresh", "late", "unknown"]
    fresh_within: str
    """The promise, in hours, minutes and seconds."""
    as_of: str = ""
    """When the oldest of the sources was asked for what the table shows, in UTC; empty: unknown."""
    due: str = ""
    """Until when it is fresh, or since when it is late, in UTC; empty: unknown."""
    oldest: str = ""
    """The raw table whose source that is."""
    arrived: str = ""
    """When what is shown of that raw table was loaded, in UTC; empty: unknown."""
    failed: int = 0
    """How many runs for the environment failed since `as_of`."""
    reason: str = ""
    """In a sentence: what is the oldest and what happened since; or why nothing is known."""


class Needed(Message):
    """The run that a table needs next, so that its promise is kept."""

    table: str
    promise: str
    """As it is written: `2h`."""
    as_of: str
    """How old it is now; empty: unknown."""
    begin: str
    """When the run has to begin, in UTC, without zone."""
    lead: float
    """How many seconds before the promise would be broken."""
    steps: tuple[str, ...]
    """What the run has to do."""


class WatchInput(TenantInput):
    """The request of `watched`: whose promises are looked at, wherever hooks are told."""

    pipeline: PipelineName


class Watched(Message):
    """What a watch is told."""

    rows: tuple[FreshnessRow, ...] = ()
    """Of each promise in each of these environments; of those that are broken, with the reason."""
    hooks: tuple[Hook, ...] = ()
    """Who is told."""


class Breach(Message):
    """A promise that is broken, and of which somebody was told."""

    environment: EnvironmentName
    table: str
    since: str
    seen: str
    """When it was looked at last: the table, or its promise, may be gone."""


class WatchState(WatchInput):
    """The input of `Watch`, and all that it knows."""

    breaches: tuple[Breach, ...] = ()
    look: Look = Look()


def breach_id(environment: str, since: Mapping[str, str]) -> str:
    """The same for the same breaches, so that a watch that begins anew tells nobody twice.

    Args:
        since: The tables, and since when each is late.
    """
    text = " ".join([environment, *(f"{table} {at}" for table, at in sorted(since.items()))])
    return hashlib.sha256(text.encode()).hexdigest()[:12]

"""The messages of backfills: `Backfill`, and what it says of itself and to its intervals."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, model_validator

from entrepot.language.interval import Interval
from entrepot.language.limits import DEFAULTS, StepLimits
from entrepot.language.names import TableName
from entrepot.planning.pieces import Pieces
from entrepot.protocol.messages import Backfill, Context, Message, Prepared, Target

MOST_AT_ONCE = 50

AtOnce = Annotated[int, Field(ge=1, le=MOST_AT_ONCE)]
"""How many intervals are loaded side by side."""


class BackfillInput(Target):
    """The input of `Backfill`: a range of the cursor of ingest steps, loaded again interval by interval."""

    start: str | int | float
    """Where the range begins: a whole number, or an ISO date or time."""
    end: str | int | float
    """Where it ends, excluded."""
    every: str | int | float = "day"
    """The length of an interval: `hour`, `day`, `week`, `month` or `year`; of a cursor of numbers, how many."""
    select: str | None = None
    """Which steps: the ingest steps among them are loaded again, and the others computed from that. Default: all."""
    parameters: dict[str, Any] = {}
    """Values of the pipeline's parameters."""
    at_once: AtOnce = 4
    """How many intervals are loaded side by side, at most."""
    again: bool = False
    """Whether to begin at the start where the backfill of before, of the same range, did not come to its end. By
    default only those intervals are loaded that it did not load."""

    @model_validator(mode="after")
    def _is_a_range(self) -> BackfillInput:
        self.pieces  # noqa: B018 - it is refused here
        return self

    @property
    def pieces(self) -> Pieces:
        """Its intervals."""
        return Pieces(self.start, self.end, self.every)

    @property
    def asked(self) -> dict[str, Any]:
        """What tells whether two backfills are of the same."""
        return self.model_dump(mode="json", exclude={"at_once", "again"})


class PreparedBackfill(Message):
    """What has to be known before a backfill's first interval."""

    one_by_one: str = ""
    """Why no two intervals may be loaded at once, if so."""
    left: tuple[Backfill, ...] | None = None
    """The parts of the range that the backfill of before left; None: there was none, or it came to its end."""
    after: dict[str, int] = {}
    """How often each step had been loaded in the environment."""


class StandsRequest(Target):
    """The input of `stands`: whether the environment has what a backfill has loaded."""

    after: dict[str, int]
    """How often each step had been loaded there before."""


class Stands(Message):
    """Whether it has; and how often each step has been loaded by now."""

    stands: bool
    after: dict[str, int]


LEFT = "left"
"""The memo of a backfill that did not come to its end."""


class LeftOver(Message):
    """What a backfill leaves to the next one of the same."""

    asked: dict[str, Any]
    after: dict[str, int]
    """How often each step had been loaded in the environment when it began."""
    ranges: tuple[Backfill, ...]
    """The parts of the range that it did not load."""


class IntervalInput(Message):
    """The input of the workflow `BackfillInterval`."""

    context: Context
    steps: tuple[TableName, ...]
    interval: Backfill
    one_by_one: bool = False
    """Whether no other interval is loaded at the same time."""
    limits: StepLimits = DEFAULTS
    limits_of: dict[str, StepLimits] = {}


class Failed(Message):
    """An interval that could not be loaded, and why."""

    interval: Backfill
    why: str

    def __str__(self) -> str:
        return f"{told(self.interval)}: {self.why}"


class BackfillProgress(Message):
    """How far a backfill has come: the answer to the query `progress`, and its result."""

    tenant: str = ""
    pipeline: str = ""
    environment: str = ""
    start: str | int | float = ""
    end: str | int | float = ""
    stage: str = "prepare"
    """`prepare`, `load`, `publish`, `done`, `failed` or `cancelled`."""
    at_once: int = 1
    paused: bool = False
    notes: tuple[str, ...] = ()
    total: int = 0
    """Intervals in all."""
    loaded_before: int = 0
    """Those that the backfill of before has loaded."""
    done: int = 0
    """Those that this one has loaded."""
    rows: int = 0
    """The rows that they brought."""
    running: tuple[str, ...] = ()
    failed: tuple[Failed, ...] = ()
    seconds: float = 0.0
    """For how long it has loaded, without pauses."""
    run: str = ""
    """The run that publishes."""
    outcome: str = ""
    """What came of that run."""

    @property
    def left(self) -> int:
        """Intervals that are still to be loaded."""
        return self.total - self.loaded_before - self.done - len(self.failed)

    @property
    def per_minute(self) -> float | None:
        """How many intervals it loads in a minute; None: it is too early to tell."""
        return 60 * self.done / self.seconds if self.done and self.seconds > 0 else None

    @property
    def seconds_left(self) -> float | None:
        """How long the rest takes at this rate."""
        return None if (rate := self.per_minute) is None else 60 * self.left / rate

    @property
    def line(self) -> str:
        """How far it has come, in a line."""
        parts = [f"{self.loaded_before + self.done:,} of {self.total:,} intervals"]
        if self.failed:
            parts.append(f"{len(self.failed)} failed")
        if self.paused and self.stage in ("prepare", "load"):
            parts.append("paused")
        elif self.stage == "load":
            if (rate := self.per_minute) is not None:
                parts.append(f"{rate:,.0f} a minute" if rate >= 10 else f"{rate:.1f} a minute")
            if self.left and (seconds := self.seconds_left) is not None:
                parts.append(f"{_duration(seconds)} left")
            parts.append(f"at most {self.at_once} at once")
        else:
            parts.append(self.stage)
        return " · ".join(parts)


class BackfillState(Message):
    """What one execution of the workflow leaves to the next, which goes on with it."""

    prepared: Prepared
    parameters: dict[str, Any]
    one_by_one: bool
    after: dict[str, int]
    """How often each step had been loaded in the environment when the first execution began."""
    progress: BackfillProgress
    left: tuple[Backfill, ...]
    """The parts of the range that are still to be loaded, in their order."""


def told(interval: Backfill | Interval) -> str:
    """An interval, for people."""
    return f"{interval.start}..{interval.end}"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"

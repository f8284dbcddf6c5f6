"""What starts runs beside schedules and people: the state of a pipeline's trigger, and what it is told.

All of it is small, whatever happens how often: causes are counted, and known by a hash.
"""

from __future__ import annotations

import hashlib
from typing import Literal

from pydantic import Field

from entrepot.language.names import DEFAULT_ENVIRONMENT, EnvironmentName
from entrepot.protocol.messages import Message, Request, Target, TenantInput

SOURCE, CODE, PROMISE = "source", "code", "promise"
"""What has happened where it is no publish: of those `of` is the pipeline, `tenant/pipeline`."""
_SEEN = 200


class Cause(Message):
    """One thing that has happened, for which there is to be a run."""

    of: str
    key: str
    """What tells it from others: told twice, it is one."""
    what: str
    """A sentence."""
    at: str
    """When, in UTC, without zone."""
    steps: tuple[str, ...] = ()
    """What its run has to do; none: all."""


class Pending(Message):
    """The causes of one kind for which no run has begun."""

    count: int
    keys: str
    """The hash of their keys."""
    first: str
    last: str
    """When they came."""
    what: str
    """The newest."""
    steps: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """All of them."""
        return self.what + (f" (the last of {self.count} since {self.first[:19]})" if self.count > 1 else "")


class TriggerSettings(Message):
    """When a pipeline is to run. Times are in seconds."""

    published: tuple[str, ...] = ()
    """Pipelines, as `tenant/pipeline`."""
    source: float | None = Field(default=None, gt=0)
    """How often its sources are looked at; None: never."""
    deployed: bool = False
    promises: bool = False
    """Whether runs begin that promises to be fresh need."""
    environment: EnvironmentName = DEFAULT_ENVIRONMENT
    """Where its runs publish."""
    when: Literal["any", "all"] = "any"
    debounce: float = Field(default=0, ge=0)
    quiet: float = Field(default=0, ge=0)

    @property
    def causes(self) -> tuple[str, ...]:
        """What it waits for."""
        looks = {SOURCE: self.source is not None, CODE: self.deployed, PROMISE: self.promises}
        return (*self.published, *(of for of, is_asked in looks.items() if is_asked))


class Look(Message):
    """What is known of looks at something, again and again. Times are in UTC, without zone."""

    next: str = ""
    """When it is looked again; empty: now."""
    failures: int = 0
    """So many looks in a row have failed."""
    since: str = ""
    error: str = ""


class Looked(Look):
    """What is known of something that has to be looked at: sources, or code."""

    marks: dict[str, str] | None = None
    """What was found last, by step; None: nothing yet."""
    candidate: dict[str, str] | None = None
    """What was found once, and is to be found again before it counts."""


class Tried(Message):
    """That runs have begun for a table's promise, and it is as old as before."""

    as_of: str
    times: int
    at: str
    """When the last began."""


class Running(Message):
    """The run that a trigger has begun."""

    workflow_id: str
    why: str
    causes: str
    """What has caused it, in a few words."""
    select: str | None = None
    """Which steps; None: all."""
    attempt: int = 1
    """How often it has begun: after a conflict with another run it begins again."""


class TriggerState(TenantInput):
    """The input of `Trigger`, and all that it knows."""

    pipeline: str
    settings: TriggerSettings
    pending: dict[str, Pending] = {}
    seen: tuple[str, ...] = ()
    """Hashes of the causes that came last."""
    looked: dict[str, Looked] = {}
    tried: dict[str, Tried] = {}
    """By table."""
    began: str = ""
    """When its last run began."""
    running: Running | None = None
    runs: int = 0
    last: str = ""
    """How its last run ended."""
    paused: str | None = None
    """Why it begins no run."""

    def told(self, cause: Cause) -> TriggerState:
        """The state after something has happened. What it does not wait for, or has been told, changes nothing."""
        mark = hashlib.sha256(f"{cause.of} {cause.key}".encode()).hexdigest()[:12]
        if cause.of not in self.settings.causes or mark in self.seen:
            return self
        before = self.pending.get(cause.of)
        keys = hashlib.sha256(f"{before.keys if before else ''} {mark}".encode()).hexdigest()
        now = Pending(
            count=before.count + 1 if before else 1,
            keys=keys,
            first=before.first if before else cause.at,
            last=max(cause.at, before.last) if before else cause.at,
            what=cause.what,
            steps=tuple(sorted({*(before.steps if before else ()), *cause.steps})),
        )
        return self._with(pending={**self.pending, cause.of: now}, seen=(*self.seen, mark)[-_SEEN:])

    def configured(self, settings: TriggerSettings) -> TriggerState:
        """The state by other settings: of what is not waited for any more, nothing is kept."""
        pending = {of: each for of, each in self.pending.items() if of in settings.causes}
        looked = {of: each for of, each in self.looked.items() if of in settings.causes}
        if settings.environment != self.settings.environment:  # where nothing is known of promises yet
            pending.pop(PROMISE, None)
            looked.pop(PROMISE, None)
            return self._with(settings=settings, pending=pending, looked=looked, tried={})
        return self._with(settings=settings, pending=pending, looked=looked)

    def begun(self, at: str) -> TriggerState:
        """The state as a run begins, which is for all that has happened until now."""
        keys = " ".join(f"{of} {each.keys}" for of, each in sorted(self.pending.items()))
        short = hashlib.sha256(keys.encode()).hexdigest()[:12]
        running = Running(
            workflow_id=f"{self.tenant}/{self.pipeline}:{short}",
            why="; ".join(self.pending[of].sentence for of in self.settings.causes if of in self.pending),
            causes=", ".join(of for of in self.settings.causes if of in self.pending),
            select=",".join(self.pending[PROMISE].steps) if set(self.pending) == {PROMISE} else None,
        )
        return self._with(pending={}, began=at, running=running, runs=self.runs + 1)

    def ended(self, how: str) -> TriggerState:
        """The state after its run has ended, which may have kept promises."""
        looked = dict(self.looked)
        if PROMISE in looked:
            looked[PROMISE] = looked[PROMISE].model_copy(update={"next": ""})
        return self._with(running=None, last=how, looked=looked)

    def found(self, of: str, looked: Looked, cause: Cause | None = None) -> TriggerState:
        """The state after a look at something, which may be a cause."""
        state = self._with(looked={**self.looked, of: looked})
        return state.told(cause) if cause else state

    def _with(self, **changes: object) -> TriggerState:
        return self.model_copy(update=changes)


class Announcement(Request):
    """The request of `announce`: a run, a promotion or a rollback has published."""

    listeners: tuple[str, ...]
    """The triggers that wait for it, as `tenant/pipeline`."""
    what: str
    """A sentence."""
    key: str


class ProbeInput(Target):
    """The request of `probe` and of `code`."""


class Marks(Message):
    """What was found, by step: another mark where something has changed."""

    marks: dict[str, str]


class RunAsked(TenantInput):
    """The request of `run_ended`: a run by its workflow's id."""

    workflow_id: str


class RunEnded(Message):
    """Whether a run has ended, and how: the type of its failure, or empty."""

    has_ended: bool
    failure: str = ""

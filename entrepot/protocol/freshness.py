"""Whether tables keep what `fresh_within` promises: the messages of who asks, and of who watches for others."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Literal

from entrepot.language.names import DEFAULT_ENVIRONMENT, EnvironmentName, PipelineName
from entrepot.protocol.hooks import Hook
from entrepot.protocol.messages import Message, TenantInput
from entrepot.protocol.triggers import Look


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

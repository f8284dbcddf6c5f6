"""What has to happen to schedules, triggers and watches, so that they are what the tenant file says."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar

_AT_ONCE = 16
"""Requests to Temporal that are under way at the same time."""

T = TypeVar("T")


@dataclass(frozen=True)
class Actual:
    """A schedule, trigger or watch as Temporal has it."""

    ours: bool
    facts: Mapping[str, str]
    paused: str | None = None
    """The note of a paused schedule, which may be empty; None if it is not paused."""


@dataclass(frozen=True)
class Drift:
    """One thing that a schedule does otherwise than the file says."""

    what: str
    actual: str
    desired: str

    def __str__(self) -> str:
        return f"{self.what}: {self.actual} → {self.desired}"


@dataclass(frozen=True)
class Change:
    """What happens to one schedule. `foreign`: the file wants it, but somebody else made a schedule of that id."""

    id: str
    action: Literal["create", "update", "delete", "unchanged", "foreign"]
    when: str = ""
    drift: tuple[Drift, ...] = ()
    paused: str | None = None

    @property
    def is_change(self) -> bool:
        """Whether Temporal is not yet what the file says."""
        return self.action != "unchanged"

    @property
    def is_workflow(self) -> bool:
        """Whether it is of a workflow that goes on for ever, and not of a schedule."""
        return self.id.endswith((":trigger", ":freshness"))

    @property
    def sentence(self) -> str:
        """The change, for people."""
        paused = "" if self.paused is None else f"; paused ({self.paused or 'without a note'})"
        match self.action:
            case "create":
                return f"+ {self.id}: create, {self.when}{paused}"
            case "update":
                return f"~ {self.id}: update, {'; '.join(map(str, self.drift))}{paused}"
            case "delete":
                return f"- {self.id}: delete, the tenant file no longer has it{paused}"
            case "foreign":
                schedule = ("schedule", "schedule delete --schedule-id")
                what, delete = ("workflow", "workflow terminate --workflow-id") if self.is_workflow else schedule
                return (
                    f"! {self.id}: left alone, a {what} of this id exists that Entrepot did not make. Delete it: "
                    f"temporal {delete} {self.id}"
                )
            case "unchanged":
                return f"= {self.id}: unchanged, {self.when}{paused}"


def change_of(id: str, when: str, facts: Mapping[str, str], found: Actual | None, paused: str | None = None) -> Change:
    """What has to happen to one that the file wants.

    Args:
        when: When it runs, for people.
        facts: What it does, as the file says.
        found: What Temporal has.
        paused: The note with which it is paused when it is made; None: it is not.
    """
    if found is None:
        return Change(id, "create", when, paused=paused)
    if not found.ours:
        return Change(id, "foreign", when)
    differing = drift(facts, found.facts)
    return Change(id, "update" if differing else "unchanged", when, differing, found.paused)


def drift(wanted: Mapping[str, str], found: Mapping[str, str]) -> tuple[Drift, ...]:
    """In what two descriptions differ."""
    names = [*wanted, *(name for name in found if name not in wanted)]
    pairs = [(name, found.get(name, "none"), wanted.get(name, "none")) for name in names]
    return tuple(Drift(name, is_, shall) for name, is_, shall in pairs if is_ != shall)


async def each_of(values: Iterable[T], work: Callable[[T], Awaitable[None]]) -> None:
    """Does something for each value, some at the same time; the first failure is raised when all have ended."""
    slots = asyncio.Semaphore(_AT_ONCE)

    async def one(value: T) -> None:
        async with slots:
            await work(value)

    for outcome in await asyncio.gather(*(one(value) for value in values), return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome

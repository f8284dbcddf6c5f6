"""A range of cursor values. What is loaded again, and what that replaces, is said with it."""

from __future__ import annotations

from dataclasses import dataclass

Bound = str | int | float | None
"""A value of a cursor as JSON can hold it; times are ISO texts. None: no bound."""


@dataclass(frozen=True)
class Interval:
    """Values that are at least `start` and less than `end`."""

    start: Bound
    end: Bound

"""Ranges of values: of a cursor that is loaded again, or of time, by which a table is computed."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

Bound = str | int | float | None
"""A value of a cursor as JSON can hold it; times are ISO texts. None: no bound."""


def day_of(bound: str) -> datetime.date:
    """A bound of a cursor of dates.

    Raises:
        ValueError: for what is no date; a time of a day is none.
    """
    at = datetime.datetime.fromisoformat(bound)
    if at.time() != datetime.time():
        raise ValueError(f"{bound!r} is a time")
    return at.date()


@dataclass(frozen=True)
class Interval:
    """Values that are at least `start` and less than `end`."""

    start: Bound
    end: Bound


def joined(intervals: Iterable[Interval]) -> tuple[Interval, ...]:
    """What is in any of some intervals, as intervals in their order that are apart from each other.

    Their bounds have to be of one kind: numbers, or ISO texts of one form, whose order is that of the times.
    """
    found: list[Interval] = []
    for each in sorted(intervals, key=_start):
        if found and not _is_before(found[-1], each):
            found[-1] = Interval(found[-1].start, max(found[-1].end, each.end, key=_end_key))
        else:
            found.append(each)
    return tuple(found)


def without(intervals: Iterable[Interval], others: Iterable[Interval]) -> tuple[Interval, ...]:
    """What is in any of some intervals and in none of the others."""
    left = list(joined(intervals))
    for other in joined(others):
        left = [part for each in left for part in _parts(each, other)]
    return tuple(left)


def _parts(each: Interval, other: Interval) -> list[Interval]:
    """What another interval leaves of one."""
    if _end_key(each.end) <= _start(other) or _end_key(other.end) <= _start(each):
        return [each]
    left = []
    if _start(each) < _start(other):
        left.append(Interval(each.start, other.start))
    if _end_key(other.end) < _end_key(each.end):
        left.append(Interval(other.end, each.end))
    return left


def _is_before(one: Interval, other: Interval) -> bool:
    """Whether an interval ends before another begins."""
    return _end_key(one.end) < _start(other)


def _start(each: Interval) -> tuple[Any, ...]:
    return (0,) if each.start is None else (1, each.start)


def _end_key(end: Bound) -> tuple[Any, ...]:
    return (2,) if end is None else (1, end)

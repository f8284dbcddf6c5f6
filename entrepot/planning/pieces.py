"""A range of a cursor, cut into the intervals that a backfill loads one by one. Ranges, never lists of ticks."""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import get_args

from entrepot.errors import BadInput, unknown
from entrepot.language.incremental import Every
from entrepot.language.interval import Interval
from entrepot.language.names import shown

MOST = 1_000_000
"""Intervals of one range."""

_Value = int | float | datetime.date | datetime.datetime


@dataclass(frozen=True)
class Pieces:
    """A range of a cursor, and how it is cut.

    Intervals of time end where the hour, day, week (on Monday), month or year of the calendar does, so the first and
    the last may be shorter; those of numbers are counted from the start.

    Args:
        start: Where it begins: a whole number, a float, or an ISO date or time as text.
        end: Where it ends, excluded; of the same kind.
        every: The length of an interval: `"hour"`, `"day"`, `"week"`, `"month"` or `"year"`, or how many numbers.

    Raises:
        BadInput: If the bounds are of two kinds, do not go together with `every`, or leave nothing between them.
    """

    start: str | int | float
    end: str | int | float
    every: str | int | float

    def __post_init__(self) -> None:
        start, end = _value(self.start), _value(self.end)
        if _kind(start) != _kind(end):
            raise BadInput(
                f"a range has two bounds of one kind, and {shown(self.start)} is {_kind(start)}, {shown(self.end)} "
                f"{_kind(end)}"
            )
        if not start < end:  # type: ignore[operator]
            raise BadInput(f"there is nothing from {shown(self.start)} to {shown(self.end)}, which is excluded")
        if isinstance(start, int | float):
            if isinstance(self.every, str) or not self.every > 0:
                raise BadInput(f"a range of numbers is cut by a number above 0, not by {shown(self.every)}")
        elif self.every not in get_args(Every):
            what = unknown("every", str(self.every), get_args(Every))
            raise BadInput(f"a range of times is cut by a part of the calendar: {what}")
        elif self.every == "hour" and not isinstance(start, datetime.datetime):
            raise BadInput(f"hours begin at a time such as {self.start}T00:00:00, and {shown(self.start)} is a date")
        if self.number > MOST:
            raise BadInput(
                f"that is {self.number:,} intervals, and at most {MOST:,} go: choose longer ones with `every`"
            )

    @property
    def range(self) -> Interval:
        """All of it."""
        return Interval(_bound(_value(self.start)), _bound(self._end))

    @property
    def number(self) -> int:
        """How many intervals there are."""
        start, end = _value(self.start), self._end
        if isinstance(start, datetime.date) and isinstance(end, datetime.date):
            (first, _), (last, is_begun) = _at(start, self.every), _at(end, self.every)
            return last - first + is_begun
        assert not isinstance(self.start, str)
        assert not isinstance(self.end, str)
        assert not isinstance(self.every, str)
        number = math.ceil((self.end - self.start) / self.every)
        # A sum of floats may be at the end already.
        return number - (number > 1 and self.start + (number - 1) * self.every >= self.end)

    def __iter__(self) -> Iterator[Interval]:
        """The intervals, in their order."""
        at, end = _value(self.start), self._end
        for number in range(1, self.number + 1):
            after = end if number == self.number else self._next(at, number)
            yield Interval(_bound(at), _bound(after))
            at = after

    def of(self, some: Interval) -> Pieces:
        """Those of a part of the range, which begins and ends where one of its intervals does."""
        return replace(self, start=some.start, end=some.end)  # type: ignore[arg-type]

    @property
    def _end(self) -> _Value:
        """Where it ends, with the offset with which it begins."""
        start, end = _value(self.start), _value(self.end)
        if isinstance(start, datetime.datetime) and isinstance(end, datetime.datetime) and start.tzinfo:
            return end.astimezone(start.tzinfo)
        return end

    def _next(self, at: _Value, number: int) -> _Value:
        """Where the interval ends that begins there, which is the so-manieth."""
        if isinstance(at, datetime.date):
            return _following(at, self.every)
        assert not isinstance(self.start, str)
        assert not isinstance(self.every, str)
        return self.start + number * self.every


def _at(value: datetime.date, every: str | int | float) -> tuple[int, bool]:
    """In which interval of the calendar a time is, counted, and whether it is behind the beginning of that."""
    is_later = isinstance(value, datetime.datetime) and value.time() != datetime.time()
    day = value.toordinal()
    if every == "hour":
        assert isinstance(value, datetime.datetime)
        return 24 * day + value.hour, (value.minute, value.second, value.microsecond) != (0, 0, 0)
    if every == "day":
        return day, is_later
    if every == "week":
        return (day - 1) // 7, is_later or value.weekday() > 0
    if every == "month":
        return 12 * value.year + value.month, is_later or value.day > 1
    return value.year, is_later or (value.month, value.day) > (1, 1)


def _following(at: datetime.date, every: str | int | float) -> datetime.date:
    if every == "hour":
        assert isinstance(at, datetime.datetime)
        return at.replace(minute=0, second=0, microsecond=0) + datetime.timedelta(hours=1)
    if isinstance(at, datetime.datetime):
        at = at.replace(hour=0, minute=0, second=0, microsecond=0)
    if every == "day":
        return at + datetime.timedelta(days=1)
    if every == "week":
        return at + datetime.timedelta(days=7 - at.weekday())
    if every == "year" or at.month == 12:
        return at.replace(year=at.year + 1, month=1, day=1)
    return at.replace(month=at.month + 1, day=1)


def _value(bound: str | int | float) -> _Value:
    if not isinstance(bound, str):
        return bound
    for kind in (datetime.date, datetime.datetime):
        try:
            return kind.fromisoformat(bound)
        except ValueError:
            continue
    raise BadInput(f"{shown(bound)} is no number, and no date or time such as 2026-01-31 or 2026-01-31T06:00:00")


def _kind(value: _Value) -> str:
    if isinstance(value, datetime.datetime):
        return "a time with an offset" if value.tzinfo else "a time"
    return "a date" if isinstance(value, datetime.date) else "a number"


def _bound(value: _Value) -> str | int | float:
    return value.isoformat() if isinstance(value, datetime.date) else value

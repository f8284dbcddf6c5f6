"""The intervals of a backfill, held against the hours, days and numbers that are in them."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.errors import BadInput
from entrepot.language.interval import Interval
from entrepot.planning.pieces import Pieces


def day(at: datetime) -> datetime:
    return at.replace(hour=0, minute=0, second=0, microsecond=0)


TRUNCATED = {
    "hour": lambda at: at.replace(minute=0, second=0, microsecond=0),
    "day": day,
    "week": lambda at: day(at) - timedelta(days=at.weekday()),
    "month": lambda at: day(at).replace(day=1),
    "year": lambda at: day(at).replace(month=1, day=1),
}
zones = st.sampled_from([None, UTC, timezone(timedelta(hours=5, minutes=30)), timezone(timedelta(hours=-8))])


@st.composite
def times(draw: st.DrawFn) -> tuple[datetime, datetime, str]:
    """A range of times, and how it is cut; not more than some hundred intervals."""
    every = draw(st.sampled_from(sorted(TRUNCATED)))
    start = draw(st.datetimes(datetime(1, 2, 1), datetime(9998, 1, 1), timezones=st.just(None)))
    longest = {"hour": 10, "day": 200, "week": 900, "month": 4000, "year": 40_000}[every]
    end = min(start + timedelta(seconds=draw(st.integers(1, longest * 86_400))), datetime.max)
    if draw(st.booleans()):  # whole hours and days are what people ask for
        start, end = TRUNCATED[every](start), TRUNCATED[every](end)
        if start == end:
            end += timedelta(days=1)
    zone = draw(zones)
    return start.replace(tzinfo=zone), end.replace(tzinfo=zone), every


@given(times())
def test_intervals_of_time_end_where_the_calendar_says(asked: tuple[datetime, datetime, str]) -> None:
    start, end, every = asked
    pieces = Pieces(start.isoformat(), end.isoformat(), every)
    found = [tuple(map(datetime.fromisoformat, (each.start, each.end))) for each in pieces]  # type: ignore[arg-type]
    assert (found[0][0], found[-1][1]) == (start, end)
    assert all(one[1] == other[0] for one, other in pairwise(found))
    for first, last in found:  # each is in one interval of the calendar ...
        assert TRUNCATED[every](first) == TRUNCATED[every](last - timedelta(microseconds=1))
    for _, border in found[:-1]:  # ... and ends with that
        assert TRUNCATED[every](border) == border
    assert pieces.number == len(found)


@given(
    st.dates(date(1, 1, 1), date(9000, 1, 1)), st.integers(1, 400), st.sampled_from(["day", "week", "month", "year"])
)
def test_dates_stay_dates(start: date, days: int, every: str) -> None:
    end = start + timedelta(days=days)
    found = list(Pieces(start.isoformat(), end.isoformat(), every))
    assert all(len(str(bound)) == 10 for each in found for bound in (each.start, each.end))
    of_times = list(Pieces(f"{start}T00:00:00", f"{end}T00:00:00", every))
    assert [f"{each.start}T00:00:00" for each in found] == [each.start for each in of_times]


@given(st.integers(-(10**18), 10**18), st.integers(1, 1000), st.integers(1, 300))
def test_numbers_are_counted_from_the_start(start: int, length: int, every: int) -> None:
    pieces = Pieces(start, start + length, every)
    inside = [n for each in pieces for n in range(each.start, each.end)]  # type: ignore[arg-type]
    assert inside == list(range(start, start + length))
    assert all(each.end - each.start == every for each in list(pieces)[:-1])  # type: ignore[operator]
    assert pieces.number == len(list(pieces))


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e3), st.floats(1e-3, 1e2))
def test_floats_leave_nothing_out(start: float, length: float, every: float) -> None:
    found = list(Pieces(start, start + length, max(every, length / 1000)))
    assert (found[0].start, found[-1].end) == (start, start + length)
    assert all(one.end == other.start for one, other in pairwise(found))
    assert all(each.start < each.end for each in found)  # type: ignore[operator]


def test_the_end_takes_the_offset_of_the_start() -> None:
    pieces = Pieces("2026-03-29T00:00:00+01:00", "2026-03-29T02:00:00+02:00", "hour")
    assert [each.start for each in pieces] == ["2026-03-29T00:00:00+01:00"]
    assert pieces.range == Interval("2026-03-29T00:00:00+01:00", "2026-03-29T01:00:00+01:00")


@pytest.mark.parametrize(
    ("start", "end", "every", "why"),
    [
        ("2026-01-01", "2026-01-01", "day", "there is nothing from '2026-01-01' to '2026-01-01', which is excluded"),
        ("2026-02-01", "2026-01-01", "day", "there is nothing"),
        (5, 5, 1, "there is nothing from 5 to 5"),
        ("2026-01-01", 7, "day", "two bounds of one kind, and '2026-01-01' is a date, 7 a number"),
        ("2026-01-01", "2026-01-02T00:00:00", "day", "is a date, '2026-01-02T00:00:00' a time"),
        ("2026-01-01T00:00:00", "2026-01-02T00:00:00Z", "day", "a time, '2026-01-02T00:00:00Z' a time with an offset"),
        ("yesterday", "2026-01-02", "day", "'yesterday' is no number, and no date or time such as 2026-01-31"),
        ("2026-01-01", "2026-02-01", "fortnight", "unknown every 'fortnight'. Known: 'day', 'hour', 'month'"),
        ("2026-01-01", "2026-02-01", 7, "a range of times is cut by a part of the calendar"),
        (1, 100, "day", "a range of numbers is cut by a number above 0, not by 'day'"),
        (1, 100, 0, "a range of numbers is cut by a number above 0, not by 0"),
        ("2026-01-01", "2026-02-01", "hour", "hours begin at a time such as 2026-01-01T00:00:00"),
        (0, 10**12, 1, "that is 1,000,000,000,000 intervals, and at most 1,000,000 go"),
        ("1700-01-01T00:00:00", "2026-01-01T00:00:00", "hour", "intervals, and at most 1,000,000 go"),
    ],
)
def test_what_is_no_range(start: Any, end: Any, every: Any, why: str) -> None:
    with pytest.raises(BadInput) as caught:
        Pieces(start, end, every)
    assert why in str(caught.value)

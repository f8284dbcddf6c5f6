"""Arithmetic of intervals, held against the values that are in them."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from entrepot.language.interval import Interval, joined, without

VALUES = range(-1, 13)
bounds = st.one_of(st.none(), st.integers(0, 11))
intervals = st.lists(
    st.tuples(bounds, bounds).filter(lambda pair: None in pair or pair[0] < pair[1]).map(lambda pair: Interval(*pair)),
    max_size=6,
)


def values(some: list[Interval] | tuple[Interval, ...]) -> set[int]:
    def is_in(value: int, each: Interval) -> bool:
        return (each.start is None or value >= int(each.start)) and (each.end is None or value < int(each.end))

    return {value for value in VALUES if any(is_in(value, each) for each in some)}


def are_apart(some: tuple[Interval, ...]) -> bool:
    return all(
        one.end is not None and other.start is not None and one.end < other.start for one, other in pairwise(some)
    )  # type: ignore[operator]


@given(intervals)
def test_joined_has_all_of_them_once(some: list[Interval]) -> None:
    found = joined(some)
    assert values(found) == values(some)
    assert are_apart(found)
    assert joined(found) == found


@given(intervals, intervals)
def test_without_has_what_the_others_leave(some: list[Interval], others: list[Interval]) -> None:
    found = without(some, others)
    assert values(found) == values(some) - values(others)
    assert joined(found) == found


def test_iso_texts_of_one_form_are_in_the_order_of_their_times() -> None:
    days = [Interval(f"{year:04}-12-31", f"{year + 1:04}-01-01") for year in (2024, 999, 2025)]
    whole = Interval("0999-12-31", "2026-01-01")
    assert without([whole], days) == (Interval("1000-01-01", "2024-12-31"), Interval("2025-01-01", "2025-12-31"))

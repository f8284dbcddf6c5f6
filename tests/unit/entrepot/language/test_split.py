"""Rows are divided by their values alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entrepot import BadInput, split

ROWS = 4_000


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    random = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "id": np.arange(ROWS),
            "x": random.normal(size=ROWS),
            "shop": random.choice([f"shop {n}" for n in range(400)], ROWS),
            "day": pd.Timestamp("2013-01-01") + pd.to_timedelta(random.integers(0, 365 * 24, ROWS), "h"),
            "year": random.integers(2000, 2024, ROWS),
        }
    )


SPLITS = [
    split.Share(), split.Share(0.1), split.Share(0.5, seed=3), split.Share(key="id"),
    split.Group("shop"), split.Group("shop", 0.5, seed=3),
    split.Time("day"), split.Time("day", start="2013-10-01"), split.Time("year", start="2020"),
]  # fmt: skip


@pytest.mark.parametrize("how", SPLITS, ids=str)
def test_the_order_of_rows_does_not_count(how: Any, frame: pd.DataFrame) -> None:
    shuffled = frame.sample(frac=1, random_state=1)
    expected = pd.Series(how.mask(frame), frame.index)
    assert (pd.Series(how.mask(shuffled), shuffled.index).sort_index() == expected).all()


@pytest.mark.parametrize("how", [s for s in SPLITS if getattr(s, "start", None) is None], ids=str)
def test_about_the_share_that_was_asked_for_is_kept(how: Any, frame: pd.DataFrame) -> None:
    assert how.mask(frame).mean() == pytest.approx(how.test, abs=0.06)


@settings(deadline=None)
@given(st.integers(0, 10_000), st.floats(0.05, 0.95))
def test_shares_are_right_for_any_seed(seed: int, share: float) -> None:
    frame = pd.DataFrame({"id": np.arange(20_000)})
    assert split.Share(share, seed).mask(frame).mean() == pytest.approx(share, abs=0.02)


@pytest.mark.parametrize("seed", range(1, 6))
def test_seeds_choose_independently(seed: int, frame: pd.DataFrame) -> None:
    one, other = split.Share(seed=0).mask(frame), split.Share(seed=seed).mask(frame)
    assert (one & other).mean() == pytest.approx(0.25 * 0.25, abs=0.02)


def test_groups_stay_whole(frame: pd.DataFrame) -> None:
    held = split.Group("shop").mask(frame)
    assert not set(frame["shop"][held]) & set(frame["shop"][~held])


def test_rows_with_one_key_stay_together(frame: pd.DataFrame) -> None:
    held = split.Share(key="year").mask(frame)
    assert not set(frame["year"][held]) & set(frame["year"][~held])


# Few different rows, and many twins of each.
TWINS = st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["a", "b", None])), min_size=1, max_size=6)


@settings(max_examples=25)
@given(TWINS, st.integers(0, 1_000), st.floats(0.1, 0.9), st.integers(0, 100))
def test_twins_are_spread_in_the_share_that_was_asked_for(rows: list[Any], seed: int, share: float, dice: int) -> None:
    frame = pd.DataFrame(rows * 3_000, columns=["n", "text"])
    late = pd.Series(np.random.default_rng(dice).random(len(frame)) < 0.3)
    held = pd.Series(split.Share(share, seed).mask(frame))
    by_row = held.groupby([frame["n"], frame["text"].fillna("")])
    for counted in (by_row, held.groupby(late)):
        error = np.sqrt(share * (1 - share) / counted.size())
        assert (abs(counted.mean() - share) < 6 * error).all()


@settings(max_examples=25)
@given(TWINS, st.integers(0, 100))
def test_more_rows_move_none_and_the_target_moves_none(rows: list[Any], seed: int) -> None:
    frame = pd.DataFrame(rows * 20, columns=["n", "text"])
    more = pd.concat([frame, frame.assign(n=frame["n"] + 5), frame], ignore_index=True)
    held = split.Share(seed=seed).mask(frame)
    assert (split.Share(seed=seed).mask(more)[: len(frame)] == held).all()


@settings(max_examples=25)
@given(TWINS, st.randoms(use_true_random=False))
def test_rows_have_one_order_however_they_come(rows: list[Any], dice: Any) -> None:
    frame = pd.DataFrame(rows * 5, columns=["n", "text"])
    shuffled = frame.sample(frac=1, random_state=dice.randrange(1_000))
    one, other = (each.iloc[split.order_of(each)].reset_index(drop=True) for each in (frame, shuffled))
    assert one.equals(other)


def test_the_order_of_rows_spreads_twins() -> None:
    frame = pd.DataFrame({"x": [0, 1] * 500})
    first = frame.iloc[split.order_of(frame)]["x"][:500]
    assert first.mean() == pytest.approx(0.5, abs=0.1)


def test_the_order_of_columns_does_not_count(frame: pd.DataFrame) -> None:
    assert (split.Share().mask(frame) == split.Share().mask(frame[frame.columns[::-1]])).all()


WIDTHS: dict[str, list[Any]] = {
    "whole numbers": [pd.Series([-1, 0, 7], dtype=t) for t in ("int8", "int32", "int64", "float32", "float64")],
    "booleans": [pd.Series([True, False]), pd.Series([1, 0]), pd.Series([1.0, -0.0])],
    "times": [pd.Series(pd.to_datetime(["2013-01-01", "2013-06-01"])).dt.as_unit(u) for u in ("s", "ms", "us", "ns")],
    "text": [pd.Series(["a", None], dtype=t) for t in (object, "string")],
}


@pytest.mark.parametrize("what", WIDTHS)
def test_the_width_in_which_a_warehouse_stores_a_value_does_not_count(what: str) -> None:
    made = [
        split.Share(s / 20, 1).mask(pd.DataFrame({"x": each})).tolist() for each in WIDTHS[what] for s in range(1, 20)
    ]
    assert made == made[:19] * len(WIDTHS[what])


def test_a_null_elsewhere_in_a_column_moves_no_row() -> None:
    ids = pd.DataFrame({"id": np.arange(1_000)})
    with_null = pd.DataFrame({"id": pd.Series([*range(1_000), None], dtype="float64")})
    assert (split.Share().mask(ids) == split.Share().mask(with_null)[:-1]).all()


def test_the_latest_rows_are_kept_for_scoring(frame: pd.DataFrame) -> None:
    held = split.Time("day").mask(frame)
    assert frame["day"][held].min() > frame["day"][~held].max()


@pytest.mark.parametrize("start", ["2013-10-01", "2013-10-01T00:00:00+00:00", "2013-10-01T02:00:00+02:00"])
@pytest.mark.parametrize("zone", [None, "UTC", "Europe/Paris"])
def test_a_border_in_time_is_the_same_moment_in_every_zone(start: str, zone: str | None, frame: pd.DataFrame) -> None:
    days = frame["day"] if zone is None else frame["day"].dt.tz_localize("UTC").dt.tz_convert(zone)
    held = split.Time("day", start=start).mask(pd.DataFrame({"day": days}))
    assert (held == (frame["day"] >= pd.Timestamp("2013-10-01"))).all()


def test_dates_without_a_time_have_a_border_too(frame: pd.DataFrame) -> None:
    dates = pd.DataFrame({"day": frame["day"].dt.date})
    assert split.Time("day").mask(dates).mean() == pytest.approx(0.25, abs=0.02)
    assert (split.Time("day", start="2013-10-01").mask(dates) == (frame["day"] >= pd.Timestamp("2013-10-01"))).all()


def test_rows_without_a_time_are_learned_from() -> None:
    frame = pd.DataFrame({"day": pd.to_datetime(["2013-01-01", "NaT", "2013-12-01"])})
    assert split.Time("day", start="2013-06-01").mask(frame).tolist() == [False, False, True]


def test_a_condition_is_answered_by_the_warehouse() -> None:
    frame = pd.DataFrame({split.TEST_COLUMN: [True, False, None]})
    assert split.Where(lambda t: t.x > 1).mask(frame).tolist() == [True, False, False]


@pytest.mark.parametrize("share", [0, 1, -0.5, 25])
def test_a_share_that_leaves_nothing_is_refused(share: float) -> None:
    with pytest.raises(BadInput, match="`test` is a share of the rows, between 0 and 1"):
        split.Share(share)


def test_a_border_that_is_no_time_is_refused(frame: pd.DataFrame) -> None:
    with pytest.raises(BadInput, match="a split cannot start at 'autumn': write a date or time"):
        split.Time("day", start="autumn").mask(frame)

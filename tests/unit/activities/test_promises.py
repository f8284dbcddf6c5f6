"""When a run has to begin so that a promise is kept, and what it has to do."""

from __future__ import annotations

import datetime
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot import Pipeline, Table
from entrepot.activities.catalog.records import Run
from entrepot.activities.maintenance.environments.freshness import Moment, Told
from entrepot.activities.maintenance.environments.promises import before, needed, took
from entrepot.protocol.environments import Needed

START = datetime.datetime(2026, 11, 20, 6, 0)


def at(minute: float) -> datetime.datetime:
    return START + timedelta(minutes=minute)


def shop() -> Pipeline:
    made = Pipeline("shop")

    @made.ingest
    def orders() -> Any: ...

    @made.ingest
    def weather() -> Any: ...

    @made.transform
    def cleaned(orders: Table) -> Table:
        return orders

    @made.transform(fresh_within="2h")
    def daily(cleaned: Table) -> Table:
        return cleaned

    @made.transform(fresh_within="4h", target_lag="3h")
    def resting(weather: Table) -> Table:
        return weather

    @made.transform
    def unpromised(weather: Table) -> Table:
        return weather

    return made


SHOWN = {"orders": "o1", "weather": "w1", "cleaned": "c1", "daily": "d1", "resting": "r1", "unpromised": "u1"}
TOLD = Told("prod", SHOWN, {("orders", "o1"): at(0), ("weather", "w1"): at(0)}, [Moment(SHOWN)])


def found(told: Told, minute: float = 0) -> dict[str, Needed]:
    return {each.table: each for each in needed(shop().graph, told, at(minute))}


def run(minute: float, took: float, *asked: str, status: str = "completed") -> Run:
    did = {name: {"asked": at(minute).isoformat(), "tables": {}} for name in asked}
    return Run("shop", "prod", f"r{minute}", status, at(minute), at(minute + took), did)


def test_a_run_begins_before_the_promise_is_broken_and_does_what_it_needs() -> None:
    daily = found(TOLD)["daily"]
    assert daily.steps == ("daily", "cleaned", "orders")
    assert daily.begin == at(90).isoformat()  # a quarter of the promise before: nobody knows how long runs take
    assert (daily.promise, daily.lead) == ("2h", 30 * 60)
    assert "unpromised" not in found(TOLD)


def test_how_long_runs_took_lately_counts() -> None:
    runs = [run(0, 20, "orders"), run(1, 50, "weather"), run(2, 90, "orders", status="failed")]
    told = replace(TOLD, runs=runs)
    assert found(told)["daily"].begin == at(80).isoformat()  # twice as long as the longest of them before
    assert took([run(n, n, "orders") for n in range(9)], {"orders"}) == 8 * 60
    assert took([run(n, 9 - n, "orders") for n in range(9)], {"orders"}) == 5 * 60  # of the newest five


def test_what_rests_by_its_target_lag_is_not_run_before_that() -> None:
    resting = found(TOLD)["resting"]
    assert resting.begin == at(180).isoformat()
    assert resting.steps == ("resting", "weather")


def test_what_is_unknown_needs_a_run_now_and_what_no_run_can_keep_needs_none() -> None:
    nothing = Told("prod", {}, {}, [])
    daily = found(nothing, 7)["daily"]
    assert (daily.begin, daily.as_of) == (at(7).isoformat(), "")
    assert set(daily.steps) == {"orders", "cleaned", "daily"}


@given(st.integers(1, 366 * 24 * 3600), st.one_of(st.none(), st.floats(0, 1e6)))
def test_it_is_never_begun_too_early_nor_too_late(promise: int, lasted: float | None) -> None:
    lead = before(timedelta(seconds=promise), lasted)
    assert timedelta(seconds=promise / 10 - 1) <= lead <= timedelta(seconds=promise / 2 + 1)
    if lasted is not None and 2 * lasted <= promise / 2:
        assert lead >= timedelta(seconds=2 * lasted) - timedelta(seconds=1)


@pytest.mark.parametrize("minutes", [0.5, 10, 100])
def test_longer_runs_begin_earlier(minutes: float) -> None:
    assert before(timedelta(hours=2), minutes * 60) <= before(timedelta(hours=2), minutes * 120)

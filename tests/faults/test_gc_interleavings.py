"""A collection in the middle of anything: whatever runs, rollbacks and drops are under way, nothing that somebody needs
is gone. Held before each case: every version that nobody points at may go at once (`keep_days=0`)."""

from __future__ import annotations

import datetime

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from temporalio.exceptions import ApplicationError

from entrepot.activities.maintenance import collection
from tests.activities.maintenance.staged import ENVIRONMENTS, opened

Action = tuple[str, int]
ACTIONS = st.tuples(
    st.sampled_from([*["step"] * 7, *["begin"] * 3, *["collect"] * 3, "grow", "grow", "rollback", "drop", "die"]),
    st.integers(0, 5),
)
WHOLE: list[Action] = [("begin", 0), *[("step", 0)] * 6]


@settings(max_examples=4)
@given(st.lists(ACTIONS, min_size=6, max_size=14))
@example([*WHOLE, ("grow", 2), *WHOLE, ("rollback", 0), ("begin", 1), ("collect", 0), *[("step", 0)] * 6])
@example([*WHOLE, ("grow", 1), ("begin", 1), ("step", 0), ("die", 0), ("begin", 0), ("step", 0), ("collect", 0)])
def test_whatever_is_under_way_nothing_is_missing_afterwards(actions: list[Action]) -> None:
    with pytest.MonkeyPatch.context() as patch, opened(patch) as house:
        for action, number in [*WHOLE, *actions]:
            environment, going_on = ENVIRONMENTS[number % 3], sorted(house.runs)
            match action:
                case "begin" if len(going_on) < 3:
                    house.begin(environment)
                case "step" if going_on:
                    house.step(going_on[number % len(going_on)])
                case "die" if going_on:
                    house.end(going_on[number % len(going_on)])
                case "collect":
                    house.collect()
                case "grow":
                    house.events += 1 + number % 2
                case "rollback":
                    house.rollback(environment, cursor=number > 2)
                case "drop" if environment != "prod":
                    house.drop(environment)
        for run in sorted(house.runs):
            while run in house.runs:
                house.step(run)
        house.collect()
        for environment in ENVIRONMENTS:  # every watermark can be gone on from
            house.events += 1
            house.begin(environment)
            while house.runs:
                house.step(min(house.runs))
        house.check()


def test_a_load_that_is_under_way_keeps_the_files_of_before_that_it_found(monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(monkeypatch) as house:
        house.complete()
        house.drop("prod")  # so nobody points at the load, which is still in the lake
        house.begin("dev")
        (run,) = house.runs
        house.step(run)  # extracted: the same rows, so the manifest of before stands for both
        assert house.collect().later == ["growing"]
        while house.runs:
            house.step(run)
        house.check()
        house.complete("dev")


def test_a_run_that_was_given_up_commits_nothing_when_it_wakes(monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(monkeypatch) as house:
        house.complete()
        house.events += 1
        house.begin("prod")
        (run,) = house.runs
        house.step(run)
        house.dead.add(run)
        assert house.collect().files > 0  # what it had put into the lake
        with pytest.raises(ApplicationError, match="was given up"):
            next(house.runs[run])
        house.check()
        house.runs.clear()
        house.complete()


def test_a_planned_run_does_not_keep_the_garbage_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collection, "SKEW", datetime.timedelta())  # of one clock
    with opened(monkeypatch) as house:
        for _ in range(4):
            house.events += 1
            house.complete()
        house.begin("dev")
        (run,) = house.runs
        for _ in range(3):
            house.step(run)  # it has planned
        assert len(house.collect().removed) == 4  # events and totals, twice
        while house.runs:
            house.step(run)
        house.check()

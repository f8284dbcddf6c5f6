"""A collection in the middle of anything: whatever runs, rollbacks and drops are under way, nothing that somebody needs
is gone. Held before each case: every version that nobody points at may go at once (`keep_days=0`)."""

from __future__ import annotations

import datetime
from collections.abc import Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from temporalio.exceptions import ApplicationError

from entrepot.activities.maintenance import collection
from tests.activities.maintenance.staged import ENVIRONMENTS, House, opened

Action = tuple[str, int]
ACTIONS = st.tuples(
    st.sampled_from(
        [
            *(*["step"] * 7, *["begin"] * 3, *["collect"] * 3, "grow", "grow"),
            *("rollback", "promote", "promote", "create", "drop", "die"),
        ]
    ),
    st.integers(0, 5),
)
WHOLE: list[Action] = [("begin", 0), *[("step", 0)] * 6]


def play(house: House, actions: Sequence[Action]) -> None:
    """Does what is asked, as far as it can be, in this order; ends what goes on, and collects."""
    for action, number in actions:
        environment, going_on = ENVIRONMENTS[number % 3], sorted(house.runs)
        match action:
            case "begin" if len(going_on) < 3:
                house.begin(environment)
            case "compare" if len(going_on) < 3:
                house.begin_comparison(environment)
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
            case "promote":
                house.promote(environment, ENVIRONMENTS[(number + 1 + number // 3) % 3])
            case "create" | "drop" if environment != "prod":
                house.create(environment, "prod") if action == "create" else house.drop(environment)
    for run in sorted(house.runs):
        while run in house.runs:
            house.step(run)
    house.collect()


@settings(max_examples=4)
@given(st.lists(ACTIONS, min_size=6, max_size=14))
@example([*WHOLE, ("grow", 2), *WHOLE, ("rollback", 0), ("begin", 1), ("collect", 0), *[("step", 0)] * 6])
@example([*WHOLE, ("grow", 1), ("begin", 1), ("step", 0), ("die", 0), ("begin", 0), ("step", 0), ("collect", 0)])
def test_whatever_is_under_way_nothing_is_missing_afterwards(actions: list[Action]) -> None:
    with pytest.MonkeyPatch.context() as patch, opened(patch) as house:
        play(house, [*WHOLE, *actions])
        for environment in ENVIRONMENTS:  # every watermark can be gone on from
            house.events += 1
            house.begin(environment)
            while house.runs:
                house.step(min(house.runs))
        house.check()


COMPARISONS = st.tuples(
    st.sampled_from([*["step"] * 12, *["compare"] * 3, "begin", *["collect"] * 4, "grow", "grow", "rollback", "die"]),
    st.integers(0, 5),
)
COMPARED: list[Action] = [("compare", 0), *[("step", 0)] * 12]
LOADED: list[Action] = [("begin", 0), *[("step", 0)] * 2, ("die", 0)]
"""And nothing is published: all that a comparison computes is its own."""


@settings(max_examples=3)
@given(st.lists(COMPARISONS, min_size=10, max_size=24))
@example([*COMPARED, ("collect", 0), ("grow", 2), *WHOLE, ("compare", 0), *[("step", 0), ("collect", 0)] * 12])
@example([("compare", 0), ("step", 0), ("begin", 0), *[("step", 1), ("collect", 0), ("step", 0)] * 6, ("rollback", 0)])
@example([*LOADED, ("compare", 0), *[("step", 0), ("collect", 0)] * 12])
@example([*LOADED, *COMPARED, ("compare", 0), *[("step", 0)] * 5, *[("collect", 0), ("step", 0)] * 3])
@example(
    [
        *LOADED,
        ("compare", 0),
        ("step", 0),
        ("grow", 1),
        ("begin", 0),
        *[("step", 1)] * 6,
        *[("step", 0), ("collect", 0)] * 9,
    ]
)
@example([*WHOLE, ("grow", 1), *COMPARED[:8], ("die", 0), ("collect", 0), ("compare", 1), ("collect", 0)])
def test_no_comparison_fails_by_a_collection_and_none_leaves_anything_for_ever(actions: list[Action]) -> None:
    with pytest.MonkeyPatch.context() as patch, opened(patch, two=True) as house:
        patch.setattr(collection, "SKEW", datetime.timedelta())  # of one clock
        play(house, actions)
        house.check_nothing_is_left()
        house.compare()
        house.collect()
        house.check()
        house.check_nothing_is_left()


def test_after_a_collection_a_comparison_computes_what_changed_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(monkeypatch, two=True) as house:
        house.complete()
        house.compare()
        assert house.computed == ["totals"]
        assert not house.collect().elsewhere["other"].removed
        house.compare()
        assert house.computed == ["totals"]
        for _ in range(3):
            house.events += 1
            house.complete()
            house.compare()
        assert len(house.computed) == 4
        with house.catalog("other") as there:
            there.session.execute("CHECKPOINT")  # before, DuckDB does not tell what tables take up
        planned, collected = house.collect(dry_run=True, keep_publishes=1), house.collect(keep_publishes=1)
        assert len(collected.elsewhere["other"].removed) == 6  # events and totals, three times
        assert planned.elsewhere["other"].bytes > 0
        assert planned.elsewhere["other"].model_copy(update={"free": 0}) == collected.elsewhere["other"].model_copy(
            update={"free": 0}
        )
        house.compare()
        assert len(house.computed) == 4
        house.check_nothing_is_left()


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

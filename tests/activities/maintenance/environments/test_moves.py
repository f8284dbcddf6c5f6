"""Whatever is run, created, promoted, rolled back, dropped and collected: each environment shows what a plain dict
says, its rows are those of the versions, and its next load goes on so that no row is lost or doubled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from temporalio.exceptions import ApplicationError

from entrepot.activities.maintenance.environments.environments import EnvironmentActivities
from entrepot.protocol.environments import PromoteInput
from tests.activities.maintenance.staged import ACME, ENVIRONMENTS, House, opened

Pointers = dict[str, str]
Action = tuple[str, int, int]
"""What is done, to which environment, and with which other or with which parameter."""
ACTIONS = st.tuples(
    st.sampled_from([*["run"] * 4, *["grow"] * 2, *["promote"] * 4, "create", "rollback", "back", "drop", "collect"]),
    st.integers(0, 2),
    st.integers(1, 2),
)


@dataclass
class Model:
    """What each environment has to show."""

    house: House
    shows: dict[str, Pointers] = field(default_factory=dict)
    history: dict[str, list[tuple[bool, Pointers]]] = field(default_factory=dict)
    """What each showed, oldest first; whether it was brought there, or gone back to."""
    rows: dict[tuple[tuple[str, str], ...], tuple[int, int]] = field(default_factory=dict)
    """What is pointed at, to the rows of `events` and the parameter of `totals` that it was made with."""

    def play(self, action: Action) -> None:
        what, number, other = action
        name, like = ENVIRONMENTS[number], ENVIRONMENTS[(number + other) % 3]
        match what:
            case "run":
                self.house.complete(name, factor=other)
                found = self.pointers(name)
                assert self.rows.setdefault(_key(found), (self.house.events, other)) == (self.house.events, other)
                self.to(name, found)
            case "grow":
                self.house.events += other
            case "promote":
                done = self.house.promote(like, name)
                assert (done is not None) == bool(self.shows.get(like))
                if done:
                    before = self.shows.get(name, {})
                    assert {*done.moved} == {n for n, v in self.shows[like].items() if before.get(n) != v}
                    self.to(name, self.shows[like])
            case "create":
                can_be = name != "prod" and bool(self.shows.get(like)) and not self.shows.get(name)
                assert (self.house.create(name, like) is not None) == can_be
                if can_be:
                    self.to(name, self.shows[like])
            case "rollback" | "back":
                if self.house.rollback(name, cursor=what == "back"):  # else it is collected, or there is none
                    self.shows[name] = self.earlier(name)
                    self.history[name].append((False, self.shows[name]))
            case "drop" if name != "prod":
                self.house.drop(name)
                self.shows.pop(name, None)
                self.history.pop(name, None)
            case "collect":
                self.house.collect()
        self.check()

    def to(self, name: str, pointers: Pointers) -> None:
        if self.shows.get(name) != pointers:
            self.shows[name] = pointers
            self.history.setdefault(name, []).append((True, pointers))

    def earlier(self, name: str) -> Pointers:
        """What was brought there before what is shown."""
        brought = [pointers for is_forward, pointers in reversed(self.history[name]) if is_forward]
        shown = self.shows[name]
        after = brought[brought.index(shown) + 1 :] if shown in brought else brought
        return next(pointers for pointers in after if pointers != shown)

    def pointers(self, name: str) -> Pointers:
        with self.house.catalog() as catalog:
            return catalog.environment(name).head().pointers

    def check(self) -> None:
        for name in ENVIRONMENTS:
            expected = self.shows.get(name, {})
            assert self.pointers(name) == expected, name
            schema = "growing" if name == "prod" else f"growing__{name}"
            with self.house.catalog() as catalog:
                assert set(catalog.session.relations(schema)) == expected.keys(), name
                if expected:
                    rows, factor = self.rows[_key(expected)]
                    [found] = catalog.session.query(f"SELECT count(*) AS n, sum(id) AS ids FROM {schema}.events")
                    [totals] = catalog.session.query(f"SELECT sum(n) AS n, sum(ids) AS ids FROM {schema}.totals")
                    ids = rows * (rows + 1) // 2
                    assert (found["n"], found["ids"], totals["n"], totals["ids"]) == (rows, ids, rows, factor * ids)
        self.house.check()


def _key(pointers: Pointers) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(pointers.items()))


RUN, RUN_DEV, PROMOTE, GROW = ("run", 0, 1), ("run", 1, 2), ("promote", 0, 1), ("grow", 0, 2)


@settings(max_examples=6)
@given(st.lists(ACTIONS, min_size=4, max_size=9))
@example([RUN_DEV, GROW, RUN_DEV, PROMOTE, GROW, RUN, PROMOTE])  # prod has loaded more than what is promoted
@example([GROW, RUN_DEV, GROW, RUN, GROW, RUN_DEV, PROMOTE])  # both have loaded from the same point on
@example([PROMOTE, ("create", 1, 2), RUN_DEV, PROMOTE, ("rollback", 0, 1), ("drop", 1, 1), ("collect", 0, 1), PROMOTE])
@example([RUN_DEV, PROMOTE, GROW, RUN, ("back", 0, 1), PROMOTE, ("collect", 0, 1), ("create", 2, 1), ("back", 0, 1)])
def test_environments_show_what_a_dict_says_and_go_on_without_loss(actions: Sequence[Action]) -> None:
    with pytest.MonkeyPatch.context() as patch, opened(patch) as house:
        model = Model(house)
        for action in (RUN, *actions):
            model.play(action)
        for number in range(len(ENVIRONMENTS)):  # the source has some more, which each reads from where it stands
            model.play(("grow", 0, 1))
            model.play(("run", number, 1))
        house.collect()


def test_a_promotion_and_a_creation_that_are_tried_again_are_done_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(monkeypatch) as house:
        house.complete()
        house.create("dev", "prod", run="create-1")
        house.events += 1
        house.complete("dev", factor=2)
        assert (
            house.create("dev", "prod", run="create-1") is not None
        )  # its answer was lost, and others published since
        asked = PromoteInput(**ACME, like="dev")
        prepared = house.call(EnvironmentActivities, "prepare_promotion", asked, "promote-1")
        first = house.call(EnvironmentActivities, "promote_environment", prepared, "promote-1")
        house.complete("prod", factor=3)
        again = house.call(EnvironmentActivities, "promote_environment", prepared, "promote-1")
        assert (again.moved, again.sequence) == (first.moved, first.sequence)
        with house.catalog() as catalog:
            assert [each.action for each in catalog.environment("prod").history()] == ["publish", "promote", "publish"]
            assert [each.action for each in catalog.environment("dev").history()] == ["publish", "create"]
        house.check()


def test_nothing_is_promoted_that_nobody_has_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(monkeypatch) as house:
        house.complete()
        house.complete("dev", factor=2)
        with house.catalog() as catalog:
            seen = {name: catalog.environment(name).head().run for name in ("dev", "prod")}
        house.complete("dev", factor=3)
        told = "environment 'dev': it showed what run run-002 had published when it was looked at"
        with pytest.raises(ApplicationError, match=told) as error:
            house.promote("dev", "prod", expect=seen)
        assert error.value.type == "Conflict"
        assert house.promote("dev", "prod", expect={"prod": seen["prod"][:6]}) is not None

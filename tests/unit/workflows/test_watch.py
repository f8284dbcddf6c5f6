"""What a watch tells after a look, and when it looks again: against a simple model of the same rules."""

from __future__ import annotations

import datetime
from datetime import timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from entrepot.protocol.environments import Breach, FreshnessRow, WatchState, breach_id
from entrepot.workflows.around.looks import AT_LEAST, SOONEST
from entrepot.workflows.around.watch import KEPT, WHILE_NOT_FRESH, judged

START = datetime.datetime(2026, 11, 20, 6, tzinfo=datetime.UTC)
NOTHING = WatchState(tenant="acme", pipeline="flights")


def row(
    table: str, state: Any, due: datetime.datetime = START, environment: str = "prod", within: str = "1h"
) -> FreshnessRow:
    told = "" if state == "unknown" else due.replace(tzinfo=None).isoformat(sep=" ")
    return FreshnessRow(
        pipeline="flights", table=table, environment=environment, state=state, fresh_within=within, due=told
    )


def looked(state: WatchState, *rows: FreshnessRow, at: datetime.datetime = START) -> tuple[list[str], WatchState]:
    late, kept, after = judged(state, rows, at)
    return [*(f"{each.table} late" for each in late), *(f"{each.table} fresh" for each in kept)], after


def next_of(state: WatchState) -> datetime.datetime:
    return datetime.datetime.fromisoformat(state.look.next).replace(tzinfo=datetime.UTC)


def test_a_breach_is_told_once_and_once_that_it_is_over() -> None:
    told, state = looked(NOTHING, row("daily", "late"), row("hourly", "fresh"))
    assert told == ["daily late"]
    assert state.breaches[0].since == "2026-11-20 06:00:00"
    told, state = looked(state, row("daily", "late"), row("hourly", "fresh"))
    assert told == []
    told, state = looked(state, row("daily", "fresh"), row("hourly", "late"))
    assert told == ["hourly late", "daily fresh"]
    assert [each.table for each in state.breaches] == ["hourly"]


def test_unknown_is_neither_late_nor_fresh() -> None:
    assert looked(NOTHING, row("daily", "unknown"))[0] == []
    _, state = looked(NOTHING, row("daily", "late"))
    told, state = looked(state, row("daily", "unknown"))
    assert told == []
    assert looked(state, row("daily", "late"))[0] == []
    assert looked(state, row("daily", "fresh"))[0] == ["daily fresh"]


def test_a_breach_of_which_nothing_is_heard_is_forgotten_after_a_while() -> None:
    _, late = looked(NOTHING, row("daily", "late"))
    told, state = looked(late, at=START + KEPT / 2)  # a worker with older code answered, which promises nothing
    assert told == []
    assert looked(state, row("daily", "late"), at=START + KEPT / 2)[0] == []
    assert looked(late, at=START + KEPT)[1].breaches == ()


def test_it_looks_when_something_may_have_changed() -> None:
    soon = START + timedelta(minutes=2)
    assert next_of(looked(NOTHING)[1]) == START + AT_LEAST
    assert next_of(looked(NOTHING, row("daily", "fresh", soon))[1]) == soon + timedelta(seconds=1)
    assert next_of(looked(NOTHING, row("daily", "fresh", START + timedelta(days=300)))[1]) == START + AT_LEAST
    assert next_of(looked(NOTHING, row("daily", "late"))[1]) == START + WHILE_NOT_FRESH
    assert next_of(looked(NOTHING, row("daily", "late"), row("hourly", "fresh", soon))[1]) < START + WHILE_NOT_FRESH
    # What is unknown now may be made, and be late, before long.
    assert next_of(looked(NOTHING, row("daily", "unknown"))[1]) == START + WHILE_NOT_FRESH
    for state in ("unknown", "late"):
        assert next_of(looked(NOTHING, row("daily", state, within="1m"))[1]) == START + timedelta(seconds=30)
    # A worker whose clock is behind says that a promise is kept which was due.
    assert next_of(looked(NOTHING, row("daily", "fresh", START - timedelta(hours=1)))[1]) == START + SOONEST


def test_the_same_breaches_have_the_same_id() -> None:
    one = breach_id("prod", {"a": "1", "b": "2"})
    assert one == breach_id("prod", {"b": "2", "a": "1"})
    assert len({one, breach_id("dev", {"a": "1", "b": "2"}), breach_id("prod", {"a": "1"})}) == 3


states = st.dictionaries(
    st.tuples(st.sampled_from(("prod", "dev")), st.sampled_from("abc")), st.sampled_from(("fresh", "late", "unknown"))
)


@given(st.lists(states, max_size=30))
def test_late_and_fresh_are_told_in_turns_whatever_happens(looks: list[dict[tuple[str, str], str]]) -> None:
    """Each table: late, fresh, late, fresh ...; and what is late at a look was told, unless it is known already."""
    state, is_late = NOTHING, set[tuple[str, str]]()
    for number, found in enumerate(looks):
        rows = tuple(row(table, its, environment=environment) for (environment, table), its in found.items())
        late, kept, state = judged(state, rows, START + timedelta(minutes=number))
        assert {(each.environment, each.table) for each in late} == {
            key for key, its in found.items() if its == "late" and key not in is_late
        }
        assert {(each.environment, each.table) for each in kept} == {
            key for key, its in found.items() if its == "fresh" and key in is_late
        }
        is_late = {key for key in is_late if found.get(key) != "fresh"} | {k for k, s in found.items() if s == "late"}
        assert {(each.environment, each.table) for each in state.breaches} == is_late
        assert all(isinstance(each, Breach) for each in state.breaches)

"""When a trigger's next run is to begin, and for what: against a simple model of the same rules."""

from __future__ import annotations

import datetime
import itertools
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.protocol.environments import Needed
from entrepot.protocol.triggers import CODE, PROMISE, SOURCE, Cause, Looked, Tried, TriggerSettings, TriggerState
from entrepot.workflows.around.looks import pause_after
from entrepot.workflows.around.trigger import FIRST_PAUSE, compared, described, due, to_keep

START = datetime.datetime(2026, 11, 20, 6, tzinfo=datetime.UTC)
PIPELINES = ("acme/a", "acme/b")


def at(second: float) -> str:
    return (START + timedelta(seconds=second)).replace(tzinfo=None).isoformat()


def cause(of: str, key: str, second: float) -> Cause:
    return Cause(of=of, key=key, what=f"{of} {key}", at=at(second))


def trigger(**settings: object) -> TriggerState:
    its = TriggerSettings.model_validate({"published": PIPELINES, **settings})
    return TriggerState(tenant="acme", pipeline="c", settings=its)


def seconds(state: TriggerState) -> float | None:
    found = due(state)
    return (found - START).total_seconds() if found is not None else None


def test_any_cause_is_enough_unless_all_are_asked_for() -> None:
    one = cause("acme/a", "1", 5)
    assert seconds(trigger()) is None
    assert seconds(trigger().told(one)) == 5
    assert seconds(trigger(when="all").told(one)) is None
    assert seconds(trigger(when="all").told(one).told(cause("acme/b", "1", 60))) == 60


def test_debounce_waits_until_it_is_calm_but_not_for_ever() -> None:
    state = trigger(debounce=10)
    for number, second in enumerate(range(0, 500, 5)):
        state = state.told(cause("acme/a", str(number), second))
        assert seconds(state) == min(second + 10, 100)


def test_quiet_is_counted_from_the_run_before() -> None:
    state = trigger(quiet=3600).told(cause("acme/a", "1", 5))
    assert seconds(state) == 5
    state = state.begun(at(6)).ended("done").told(cause("acme/a", "2", 10))
    assert seconds(state) == 3606
    assert seconds(state.begun(at(3606)).told(cause("acme/a", "3", 9000))) == 9000


told = st.tuples(st.sampled_from((*PIPELINES, "acme/strange")), st.integers(0, 30))


@given(st.lists(st.one_of(told, st.just("run")), max_size=60))
def test_each_cause_has_exactly_one_run(steps: list[tuple[str, int] | str]) -> None:
    """Told in any order, any number of times, with runs in between: each counts once, and for the next run alone."""
    state, waiting, seen, ids = trigger(), set[str](), set[tuple[str, int]](), list[str]()
    for second, step in enumerate(steps):
        if isinstance(step, str):
            if due(state) is None:
                assert not waiting
                continue
            assert {f"{of}" for of in state.pending} == {one.partition(" ")[0] for one in waiting}
            assert sum(each.count for each in state.pending.values()) == len(waiting)
            state = state.begun(at(second))
            assert state.running is not None
            ids.append(state.running.workflow_id)
            waiting.clear()
            state = state.ended("done")
        else:
            of, number = step
            before = state
            state = state.told(cause(of, str(number), second))
            if of != "acme/strange" and step not in seen:
                waiting.add(f"{of} {number}")
                seen.add(step)
            else:
                assert state is before
    assert len(set(ids)) == len(ids)


def test_the_same_causes_have_the_same_run_wherever_it_is_computed() -> None:
    one = trigger().told(cause("acme/a", "1", 5)).told(cause("acme/b", "1", 6)).begun(at(9))
    two = trigger().told(cause("acme/b", "1", 5)).told(cause("acme/a", "1", 7)).begun(at(20))
    assert one.running is not None
    assert two.running is not None
    assert one.running.workflow_id == two.running.workflow_id
    assert one.running.why == "acme/a 1; acme/b 1"
    assert one.running.causes == "acme/a, acme/b"


def test_other_settings_keep_what_they_wait_for_too() -> None:
    state = trigger().told(cause("acme/a", "1", 5)).told(cause("acme/b", "1", 5))
    state = state.configured(TriggerSettings(published=("acme/b",), source=60))
    assert set(state.pending) == {"acme/b"}
    assert state.told(cause("acme/b", "1", 9)) is state


def test_the_first_look_at_a_source_may_find_something_and_at_code_does_not() -> None:
    marks = {"orders": "1", "prices": "1"}
    looked, changed = compared(SOURCE, Looked(), marks, at(60))
    assert changed == ["orders", "prices"]
    assert compared(SOURCE, looked, marks, at(120))[1] == []
    assert compared(SOURCE, looked, {**marks, "prices": "2"}, at(120))[1] == ["prices"]
    assert compared(CODE, Looked(), {"shop": "1"}, at(60))[1] == []


def test_workers_that_are_replaced_answer_in_turns() -> None:
    looked, found = Looked(), []
    for code in "aababaabbbbabbb":
        looked, changed = compared(CODE, looked, {"shop": code}, at(0))
        found.append(bool(changed))
    assert found == [code == "x" for code in "........x......"]


@pytest.mark.parametrize("every", [10, 60, 300, 7200])
def test_looks_that_fail_are_made_less_often(every: int) -> None:
    pauses = [pause_after(failures, timedelta(seconds=every)).total_seconds() for failures in range(1, 2000)]
    assert pauses == sorted(pauses)
    assert min(pauses) >= every
    assert max(pauses) == max(every, 3600)


def test_it_says_when_it_begins() -> None:
    its = TriggerSettings(published=("acme/a",), source=300, deployed=True, debounce=120, quiet=3600)
    assert described(its) == (
        "acme/a published or its sources have something new (every 5m) or new code is deployed, once it is calm for "
        "2m, 1h after the run before at the earliest"
    )
    assert " and " in described(its.model_copy(update={"when": "all"}))


def need(table: str, begin: float, lead: float = 600, as_of: str = "x", **more: object) -> Needed:
    values = {"promise": "2h", "steps": (table, "orders"), **more}
    return Needed.model_validate({"table": table, "begin": at(begin), "lead": lead, "as_of": as_of, **values})


def names(needed: list[Needed]) -> list[str]:
    return [each.table for each in needed]


def test_what_is_due_for_a_promise_is_run_with_what_is_due_before_that_run_ends() -> None:
    every = [need("now", 0), need("soon", 500), need("later", 700)]
    chosen, tried, next = to_keep(every, {}, START)
    assert names(chosen) == ["now", "soon"]
    assert set(tried) == {"now", "soon"}
    assert next == START + 2 * FIRST_PAUSE
    assert names(to_keep(every[1:], {}, START)[0]) == []  # nothing is run for what is fresh
    assert to_keep(every[1:], {}, START)[2] == START + timedelta(seconds=500)


def test_what_is_run_in_vain_is_run_less_and_less_often() -> None:
    now, tried, begun = START, dict[str, Tried](), list[float]()
    while now < START + timedelta(days=1):
        chosen, tried, next = to_keep([need("daily", 0)], tried, now)
        begun += [(now - START).total_seconds()] if chosen else []
        assert next > now
        now = next
    pauses = [after - before for before, after in itertools.pairwise(begun)]
    assert pauses[:4] == [120, 240, 480, 960]
    assert max(pauses) == 3600
    # One that has helped counts no more.
    chosen, tried, _ = to_keep([need("daily", 90_000, as_of="y")], tried, now)
    assert (chosen, tried) == ([], {})


def test_what_is_run_in_vain_keeps_nothing_else_from_being_fresh() -> None:
    """Many tables of a source that is away are one run, less and less often; one of another source is never with it."""
    broken = [need(f"t{n}", 60 * n, steps=("orders", f"t{n}")) for n in range(20)]
    now, tried, failed, age = START, dict[str, Tried](), list[float](), 0.0
    while now < START + timedelta(hours=12):
        second = (now - START).total_seconds()
        fine = need("fine", age + 1200, steps=("weather", "fine"), as_of=str(age))
        chosen, tried, now = to_keep([*broken, fine], tried, now)
        if names(chosen) == ["fine"]:
            age = second
        elif chosen:
            assert "fine" not in names(chosen) or second <= 1200  # it was not known yet what fails
            failed.append(second)
        assert second - age < 2 * 1200
    assert len([at for at in failed if at > 4 * 3600]) <= 9  # once an hour, all of them


def test_the_run_for_a_promise_does_only_that_unless_something_else_has_happened() -> None:
    its = trigger(promises=True, debounce=600)
    cause = Cause(of=PROMISE, key="1", what="to keep the promise of daily: 2h", at=at(0), steps=("daily", "orders"))
    state = its.told(cause)
    assert seconds(state) == 0  # which no debounce delays
    begun = state.begun(at(1)).running
    assert begun is not None
    assert (begun.select, begun.causes, begun.why) == ("daily,orders", "promise", "to keep the promise of daily: 2h")
    both = state.told(Cause(of="acme/a", key="1", what="it published", at=at(0))).begun(at(1)).running
    assert both is not None
    assert (both.select, both.causes) == (None, "acme/a, promise")
    again = state.told(cause.model_copy(update={"key": "2", "steps": ("hourly",)})).begun(at(1)).running
    assert again is not None
    assert again.select == "daily,hourly,orders"


def test_another_environment_knows_nothing_of_promises_yet() -> None:
    cause = Cause(of=PROMISE, key="1", what="to keep it", at=at(0), steps=("daily",))
    state = trigger(promises=True).told(cause).found(PROMISE, Looked(next=at(9)))
    settings = state.settings.model_copy(update={"environment": "staging"})
    assert (state.configured(settings).pending, state.configured(settings).looked) == ({}, {})
    assert described(settings).endswith("or a promise to be fresh would be broken, in staging")

"""How old what is shown is, over graphs, runs and failures."""

from __future__ import annotations

import datetime
import inspect
import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot import Pipeline
from entrepot.activities.catalog.environment import PUBLISH, UNDO, Publish
from entrepot.activities.catalog.records import Run
from entrepot.activities.maintenance.environments.freshness import Moment, Told, ages, judged, moments_of
from entrepot.errors import BadInput
from entrepot.planning.graph import Graph
from entrepot.protocol.environments import FreshnessRow

START = datetime.datetime(2026, 1, 1)
RAW = ("r0", "r1", "r2")


def at(minutes: float) -> datetime.datetime:
    return START + datetime.timedelta(minutes=minutes)


def graph_of(reads: dict[str, list[str]], fresh_within: str = "2h") -> Graph:
    """Raw tables, and transforms that read these tables."""
    p = Pipeline("shop")
    for raw in RAW:
        p.ingest(name=raw, fresh_within=fresh_within)(lambda: None)
    for name, inputs in reads.items():

        def function(**tables: Any) -> Any: ...

        kinds = inspect.Parameter.POSITIONAL_OR_KEYWORD
        function.__signature__ = inspect.Signature([inspect.Parameter(i, kinds) for i in inputs])  # type: ignore[attr-defined]
        p.transform(name=name, fresh_within=fresh_within)(function)
    return p.graph


@st.composite
def histories(draw: st.DrawFn) -> tuple[dict[str, list[str]], list[tuple[str, set[str], dict[str, int]]]]:
    """Which table reads which; and runs: how each ended, what was selected, and what the sources had."""
    reads: dict[str, list[str]] = {}
    for number in range(draw(st.integers(1, 5))):
        known = [*RAW, *reads]
        reads[f"t{number}"] = draw(st.lists(st.sampled_from(known), min_size=1, max_size=3, unique=True))
    names = [*RAW, *reads]
    run = st.tuples(
        st.sampled_from(["completed", "completed", "failed"]),
        st.one_of(st.just(set(names)), st.sets(st.sampled_from(names)), st.just(set(RAW))),
        st.fixed_dictionaries(dict.fromkeys(RAW, st.integers(0, 2))),
    )
    return reads, draw(st.lists(run, max_size=12))


@given(histories())
def test_a_table_is_as_old_as_the_oldest_source_of_what_it_was_made_of(
    history: tuple[dict[str, list[str]], list[tuple[str, set[str], dict[str, int]]]],
) -> None:
    """A version is written as what it was made of, down to the raw tables: so it says of itself how old it is."""
    reads, runs = history
    asked: dict[tuple[str, str], datetime.datetime] = {}
    loaded: dict[str, str] = {}  # the ingest states
    shown: dict[str, str] = {}
    moments = []
    for number, (status, selected, contents) in enumerate(runs):
        pointers = dict(shown)
        for raw in selected & set(RAW):
            loaded[raw] = pointers[raw] = f"{raw}v{contents[raw]}"
            asked[raw, loaded[raw]] = at(number)
        held = {name for name in reads if name not in selected}
        for name, inputs in reads.items():
            if name in selected and all(each in pointers for each in inputs):
                pointers[name] = f"{name}({' '.join(pointers[each] for each in inputs)})"
            else:
                held.add(name)
        if status == "completed":
            shown = pointers
            moments.append(Moment(dict(shown), frozenset(held)))
    graph = graph_of(reads)
    found = ages(graph, asked, moments)
    for name, version in shown.items():
        made_of = {(raw, leaf) for leaf, raw in re.findall(r"((r\d)v\d)", version)}
        oldest = min(made_of, key=lambda each: (asked[each], each[0]))
        age = found[name][version]
        assert (age.as_of, age.table, age.version) == (asked[oldest], *oldest)
    told = Told("prod", shown, asked, moments)
    for row in judged(graph, told, at(60)):
        assert (row.state == "unknown") == (row.table not in shown) == (row.as_of == "")


def judge(told: Told, table: str, now: datetime.datetime) -> FreshnessRow:
    (row,) = (each for each in judged(graph_of({"t": ["r0", "r1"]}), told, now) if each.table == table)
    return row


SHOWN = {"r0": "a", "r1": "b", "t": "w"}
TOLD = Told(
    environment="prod",
    shown=SHOWN,
    asked={("r0", "a"): at(10), ("r1", "b"): at(40)},
    moments=[Moment(SHOWN)],
    asks={"r0": at(10), "r1": at(40)},
    arrivals={("r0", "a"): at(5)},
)


def failed(minutes: float, error: str = "HTTP 503\nmore") -> Run:
    return Run("shop", "prod", f"f{minutes}", "failed", at(minutes), at(minutes + 1), {}, "", error)


def test_the_promise_is_kept_to_the_moment_and_then_broken() -> None:
    row = judge(TOLD, "t", at(130))
    assert (row.state, row.as_of, row.due) == ("fresh", "2026-01-01 00:10:00", "2026-01-01 02:10:00")
    assert (row.oldest, row.arrived, row.failed) == ("r0", "2026-01-01 00:05:00", 0)
    row = judge(TOLD, "t", at(130.1))
    assert (row.state, row.due, row.fresh_within) == ("late", "2026-01-01 02:10:00", "2h")
    assert judge(TOLD, "r1", at(131)).state == "fresh"


def test_the_reason_says_what_has_failed_since() -> None:
    told = replace(TOLD, runs=[failed(5, "before"), failed(60), failed(50, "HTTP 500")])
    row = judge(told, "t", at(300))
    assert row.failed == 2
    assert row.reason == (
        "`r0` last arrived at 2026-01-01 00:05:00, its source was last asked at 2026-01-01 00:10:00; its runs have "
        "failed 2 times since, the last at 2026-01-01 01:01:00: HTTP 503"
    )
    assert judge(TOLD, "t", at(300)).reason.endswith("no run for prod has asked since")
    assert judge(TOLD, "r1", at(60)).reason == "the source of `r1` was last asked at 2026-01-01 00:40:00"
    elsewhere = replace(TOLD, asks={"r0": at(3)})  # the newest ask that found it was for another environment
    assert judge(elsewhere, "t", at(300)).reason.endswith("no run for prod has asked since")
    newer = replace(TOLD, asks={**TOLD.asks, "r0": at(60)}, runs=[failed(60, "a check blocks")])
    assert "what its source had at 2026-01-01 01:00:00 is not in it; its runs have failed once since" in (
        judge(newer, "t", at(300)).reason
    )


def test_a_run_that_computes_nothing_makes_as_fresh_as_the_inputs() -> None:
    """What a step uses of its input has not changed: its version stays, and was made from an older one."""
    shown = {**SHOWN, "r0": "a2"}
    told = replace(TOLD, shown=shown, asked={**TOLD.asked, ("r0", "a2"): at(90)})
    assert judge(replace(told, moments=[Moment(SHOWN), Moment(shown)]), "t", at(100)).as_of == "2026-01-01 00:40:00"
    left = [Moment(SHOWN), Moment(shown, frozenset({"t"}))]
    assert judge(replace(told, moments=left), "t", at(100)).as_of == "2026-01-01 00:10:00"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"shown": {}}, "nothing is published in prod"),
        ({"shown": {"r0": "a", "r1": "b"}}, "prod does not show it"),
        ({"shown": {**SHOWN, "r0": "backfilled"}}, "no run is recorded that left it up to date"),
        ({"asked": {("r1", "b"): at(0)}}, "no run is recorded that asked the source of `r0`"),
        ({"moments": []}, "no run is recorded that left it up to date"),
    ],
)
def test_what_is_not_known_is_said(changes: dict[str, Any], reason: str) -> None:
    if changes.get("shown", {}).get("r0") == "backfilled":
        changes["shown"] = {**changes["shown"], "t": "w2"}
        changes["asked"] = {**TOLD.asked, ("r0", "backfilled"): at(50)}
    row = judge(replace(TOLD, **changes), "t", at(300))
    assert (row.state, row.as_of, row.due, row.oldest) == ("unknown", "", "", "")
    assert row.reason.startswith(reason)


def test_a_table_of_no_raw_table_and_one_that_promises_nothing() -> None:
    p = Pipeline("shop")
    p.transform(name="constant", fresh_within="90m")(lambda: None)
    p.transform(name="other")(lambda: None)
    (row,) = judged(p.graph, replace(TOLD, shown={"constant": "1"}, moments=[Moment({"constant": "1"})]), at(0))
    assert (row.table, row.state, row.reason, row.fresh_within) == (
        "constant",
        "unknown",
        "it is made of no raw table",
        "90m",
    )


def test_a_chain_of_thousands() -> None:
    reads = {f"t{number}": [f"t{number - 1}" if number else "r0"] for number in range(3000)}
    shown = {"r0": "a", **{name: name for name in reads}}
    asked = {("r0", "a"): at(7)}
    assert ages(graph_of(reads), asked, [Moment(shown)])["t2999"]["t2999"].as_of == at(7)


def run(name: str, started: float, ended: float, status: str = "completed", **held: str) -> Run:
    summary = {table: {"held": why} for table, why in held.items()}
    return Run("shop", "prod", name, status, at(started), at(ended), summary)


def publish(sequence: int, minutes: float, run: str, action: str = PUBLISH) -> Publish:
    return Publish(sequence, {"t": f"v{sequence}"}, run, action, published_at=at(minutes))


def test_moments_are_what_runs_left_and_nothing_that_is_uncertain() -> None:
    history = {"prod": [publish(3, 30, "undone", UNDO), publish(2, 29, "undone"), publish(1, 10, "one")]}
    assert moments_of([run("one", 0, 11, t="not selected")], history) == [Moment({"t": "v1"}, frozenset({"t"}))]
    assert moments_of([run("idle", 12, 13)], history) == [Moment({"t": "v1"})]
    assert moments_of([run("early", 0, 5)], history) == []  # nothing was shown then
    assert moments_of([run("between", 5, 12)], history) == []  # what it saw is not known
    assert moments_of([run("undone", 25, 31)], history) == []
    assert moments_of([run("failed", 12, 13, "failed"), run("elsewhere", 12, 13)], {}) == []


@pytest.mark.parametrize("kind", ["ingest", "transform"])
@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ("soon", "`fresh_within`: 'soon' is not a valid duration"),
        (2, "`fresh_within`: 2 is not a valid duration"),
        ("0s", "`fresh_within`: '0s' is not a valid duration"),
        ("9999999d", "`fresh_within`: '9999999d' is longer than 366 days"),
    ],
)
def test_a_promise_that_cannot_be_understood(kind: str, given: Any, problem: str) -> None:
    with pytest.raises(BadInput, match="pipeline 'shop', 'late': ") as caught:
        getattr(Pipeline("shop"), kind)(name="late", fresh_within=given)(lambda: None)
    assert problem in str(caught.value)

"""Whatever dies when: the run ends as one that nothing disturbed, by every row, version, cursor and pointer.

`python -m tests.crash` takes all boundaries for all faults; `make test` takes a fixed small sample.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.crash import state
from tests.crash.cases import FullLake, House
from tests.crash.conftest import alone, report, sample

pytestmark = [pytest.mark.crash, pytest.mark.timeout(900)]

Record = Any


def test_the_boundaries_are_found(house: House) -> None:
    """The instruments see the code: each activity of a run, and what is written in it."""
    found = {(boundary.name.partition("[")[0], boundary.kind) for boundary in house.boundaries}
    activities = {"prepare", "extract", "load", "plan", "transform", "train", "publish", "promote"}
    assert found >= {(activity, "activity") for activity in activities}
    assert found >= {(activity, "session") for activity in activities - {"extract", "plan"}}
    assert found >= {(activity, "lake") for activity in ("extract", "train", "publish", "promote")}


async def test_the_worker_dies(house: House, every: int, record_property: Record) -> None:
    outcomes = await house.disturb("kill", sample(alone(house.boundaries), every))
    report(record_property, "duckdb", house, outcomes)


async def test_the_worker_dies_without_transactions(plain_house: House, every: int, record_property: Record) -> None:
    # To the source and the lake it is all the same.
    chosen = [b for b in alone(plain_house.boundaries) if b.kind in ("session", "activity")]
    outcomes = await plain_house.disturb("kill", sample(chosen, every))
    report(record_property, "without transactions", plain_house, outcomes)


async def test_the_worker_is_told_to_end(house: House, every: int, record_property: Record) -> None:
    outcomes = await house.disturb("term", sample(alone(house.boundaries), every))
    report(record_property, "duckdb", house, outcomes)


async def test_the_server_dies(house: House, every: int, record_property: Record) -> None:
    outcomes = await house.disturb("server", sample(alone(house.boundaries), every))
    report(record_property, "duckdb", house, outcomes)


async def test_the_connection_is_cut(house: House, every: int, record_property: Record) -> None:
    of_sessions = [b for b in alone(house.boundaries) if b.kind == "session"]
    report(record_property, "duckdb", house, await house.disturb("cut", sample(of_sessions, every)))


async def test_the_disk_is_full(house: House, every: int, record_property: Record) -> None:
    writing = [b for b in house.boundaries if b.kind in ("session", "lake") and b.place == "before"]
    report(record_property, "duckdb", house, await house.disturb("disk", sample(writing, every)))


async def test_the_lake_is_full_for_good(house: House, every: int) -> None:
    writing = [b for b in house.boundaries if b.kind == "lake" and b.place == "before"]
    for boundary in sample([b for b in writing if not b.name.startswith("promote[")], 4 * every):
        found = await house.with_full_lake(boundary)
        assert found.problem, boundary
        _is_all_or_nothing(house, found)


async def test_the_lake_is_full_for_good_when_pointers_move(house: House, plain_house: House, every: int) -> None:
    for each in (house, plain_house):
        publishing = [b for b in each.boundaries if b.kind == "lake" and b.place == "before" and "promote[" in b.name]
        for boundary in sample(publishing, every):
            found = await each.with_full_lake(boundary)
            assert not found.problem, boundary
            _is_all_or_nothing(each, found)


def _is_all_or_nothing(house: House, found: FullLake) -> None:
    """Nothing is published, or all of it but what the run says; and the next run, with room again, finishes it."""
    if found.problem:
        before = state.read(house.template)
        assert (found.seen.shown, found.seen.files) == (before.shown, before.files), found.boundary
    else:
        assert found.seen.shown == house.expected.shown, found.boundary
        assert found.behind, found.boundary
        late = {name for name, text in house.expected.files.items() if found.seen.files.get(name) != text}
        assert all(any(name.removeprefix("lake/") in said for said in found.behind) for name in late), found.boundary
    assert (found.after, found.difference.said) == ("", []), found.boundary


async def test_the_run_is_cancelled_and_run_again(house: House, every: int, record_property: Record) -> None:
    outcomes = await house.disturb("cancel", sample(alone(house.boundaries), every))
    report(record_property, "duckdb", house, outcomes)

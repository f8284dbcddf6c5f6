"""What others are known to get wrong, each at the boundaries where it would happen."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from pathlib import Path

import duckdb
import pytest

from entrepot.backends import QueryTag
from entrepot.backends.duckdb.backend import DuckDB
from tests.crash import family, pipeline, small, state
from tests.crash.boundaries import Boundary, Control
from tests.crash.cases import House, Outcome, Scenario
from tests.crash.conftest import sample
from tests.crash.house import Nursery, Server
from tests.crash.state import State

pytestmark = [pytest.mark.crash, pytest.mark.timeout(900)]

WAITING = (
    "extract[shop]/manifest.write:",
    "load[shop]/warehouse_loader.",
    "load[shop]/ingest._loaded:update entrepot.ingest_states",
    "promote[",
)
"""Where one run waits for another."""


@pytest.fixture(params=["with transactions", "without transactions"])
def any_house(request: pytest.FixtureRequest, house: House, plain_house: House) -> House:
    return house if request.param == "with transactions" else plain_house


def _about(house: House, *words: str, activity: str = "load") -> list[Boundary]:
    """The boundaries of an activity that are about one of some things."""
    its = [b for b in house.boundaries if b.name.startswith(f"{activity}[") and b.kind == "session"]
    return [b for b in its if any(word in b.name for word in words)]


def _all_good(outcomes: list[Outcome]) -> None:
    assert outcomes
    assert not [str(outcome) for outcome in outcomes if not outcome.is_good]


async def test_rows_are_not_appended_again_after_the_state_failed(any_house: House, every: int) -> None:
    """dlt 4052: the rows were there, the state table failed, and the next load brought the rows once more."""
    of_state = _about(any_house, "entrepot.ingest_states", "entrepot.loads")
    _all_good(await any_house.disturb("cut", sample(of_state, every)))
    _all_good(await any_house.disturb("disk", sample([b for b in of_state if b.place == "before"], every)))


async def test_a_third_run_brings_nothing_after_the_state_failed(any_house: House, every: int) -> None:
    """The same: the source has nothing new, and so there is no other row, version, load or publish."""
    for boundary in sample(_about(any_house, "entrepot.ingest_states", "entrepot.loads"), max(4, every)):
        outcome = await any_house.disturbed(Control("cut", boundary, any_house.is_plain))
        assert outcome.is_good, str(outcome)
        before = state.read(outcome.folder)
        third = await any_house.run_in(outcome.folder)
        assert not third.problem
        assert not third.behind
        after = state.read(outcome.folder)
        assert after.rows == before.rows
        changed = {table for table in after.catalog if after.catalog[table] != before.catalog[table]}
        assert changed == {"runs"}, boundary


@pytest.mark.parametrize("is_plain", [False, True], ids=["with transactions", "without transactions"])
async def test_what_hangs_from_a_key_goes_with_it_after_death_in_a_merge(
    parents: tuple[Server, Nursery], tmp_path: Path, every: int, is_plain: bool
) -> None:
    """The same for nested tables and deletions: the lists of documents that are gone or came anew are not left."""
    scenario = Scenario({"pipeline": "family"}, family.bring, runs=2)
    house = House(*parents, tmp_path / "cases", is_plain, scenario)
    await house.prepare()
    orders, items = (house.expected.rows[f"family.{table}"].total() for table in ("orders", "orders__items"))
    assert (orders, items) == family.expected()
    its = [b for b in house.boundaries if b.name.startswith("load[") and b.kind == "session" and b.place == "before"]
    _all_good(await house.disturb("kill", sample(its, every)))


async def test_a_key_is_not_there_twice_after_death_in_a_merge(any_house: House, every: int) -> None:
    """dlt 3023: a merge that was killed was done again over its own half."""
    _all_good(await any_house.disturb("kill", sample(_about(any_house, ".customers"), every)))
    assert max(_ids(any_house.expected, "crash.customers").values()) == 1


async def test_a_part_of_a_load_is_never_seen(any_house: House, every: int) -> None:
    """dlt 2837: of a load with several tables, those that had been loaded were shown."""
    before = await any_house.left_by_death(any_house.boundaries[0])
    for boundary in sample(_about(any_house, ""), 2 * every):
        assert _seen(await any_house.left_by_death(boundary)) == _seen(before), boundary


async def test_who_reads_meanwhile_sees_all_or_nothing(any_house: House, every: int) -> None:
    """The same beside a worker that dies and one that goes on; with transactions, for all tables at once."""
    before, after = _sums(any_house.template), _sums(any_house.undisturbed)
    whole = {one for each in (before, after) for one in zip(WATCHED, each, strict=True)}
    dying = sample(_about(any_house, "", activity="promote"), max(8, every))
    for boundary in [*sample(_about(any_house, ""), max(8, every)), *dying]:
        folder = any_house.copy()
        is_over = threading.Event()
        reading = asyncio.create_task(asyncio.to_thread(_watched, folder, is_over))
        outcome = await any_house.run_in(folder, "kill", boundary)
        is_over.set()
        seen = await reading
        assert outcome.is_good, str(outcome)
        assert seen[0] == before
        if any_house.is_plain:
            assert {one for each in seen for one in zip(WATCHED, each, strict=True)} <= whole
        else:
            assert set(seen) <= {before, after}
        assert _sums(folder) == after


async def test_a_part_of_a_publish_is_never_seen(house: House, every: int) -> None:
    """The same for what a run publishes, where the warehouse has transactions; elsewhere views follow one by one."""
    before = await house.left_by_death(house.boundaries[0])
    committed = False
    for boundary in sample(_about(house, "crash.", "COMMIT", activity="promote"), every):
        committed |= "COMMIT" in boundary.name and boundary.place == "after"
        found = _seen(await house.left_by_death(boundary))
        assert found in (_seen(before), _seen(house.expected)), boundary
        assert not committed or found == _seen(house.expected), boundary


async def test_runs_at_the_same_time_do_not_double_rows(any_house: House) -> None:
    """SQLMesh 3866: two runs of one model at once both inserted. Here one of them may fail, in a clear sentence."""
    ends, difference = await any_house.at_the_same_time(3)
    # Their loads are one, and each of the runs may check what it made of it, and say so.
    assert not [said for said in difference.said if not said.startswith("catalog.checks has")]
    assert (difference.lost, difference.doubled) == (0, 0)
    assert "completed" in ends
    told = [end for end in ends if end != "completed"]
    assert all("start it again" in end for end in told), told


async def test_what_a_run_is_about_to_read_may_be_removed_by_another_that_brings_the_same(
    plain_house: House, every: int
) -> None:
    """Without transactions both make the same tables, and the first that is through with one removes it."""
    made = [
        b for b in plain_house.boundaries if b.name.startswith("load[shop]/warehouse_loader.") and b.place == "after"
    ]
    for_a_moment = [b for b in made if "_files:load" in b.name and "__s__" in b.name]
    assert for_a_moment
    others = [boundary for boundary in made if boundary not in for_a_moment]
    for boundary in [*for_a_moment, *sample(others, every)]:
        folder = plain_house.copy()
        ends = await plain_house.two_runs(folder, boundary, workers=1)
        assert "completed" in ends
        assert all(end == "completed" or "start it again" in end for end in ends), (str(boundary), ends)
        got = state.read(folder)
        difference = state.compare(plain_house.expected, got, is_same_run=False, is_plain=True)
        assert (difference.lost, difference.doubled) == (0, 0), (str(boundary), difference)


@pytest.mark.parametrize("is_plain", [False, True], ids=["with transactions", "without transactions"])
@pytest.mark.parametrize("where", WAITING)
async def test_runs_at_the_same_time_that_find_other_rows_do_not_double_any(
    parents: tuple[Server, Nursery], tmp_path: Path, where: str, is_plain: bool
) -> None:
    """The same where the source gets more rows after one of two runs has asked it."""
    house = House(*parents, tmp_path / "cases", is_plain, Scenario({"pipeline": "small"}, pipeline.bring, runs=2))
    await house.prepare()
    boundary = next(b for b in house.boundaries if b.name.startswith(where) and b.kind in ("session", "lake"))
    folder = house.copy()
    ends = await house.two_runs(folder, boundary, lambda: pipeline.bring(folder, 3))
    assert "completed" in ends
    assert all(end == "completed" or "start it again" in end for end in ends), ends
    last = await house.run_in(folder)  # for what one of them has left
    assert not last.problem
    assert not last.behind
    assert small.seen(folder) == small.expected(3)


WATCHED = {
    "crash.orders": "updated",
    "crash.visits": "updated",
    "crash.customers": "updated",
    "crash.prices": "updated",
    "crash.paid": "updated",
    "crash.labels": "id",
    "crash.totals": "total",
}
"""What people see, and a column of each whose sum tells one batch from two."""
_SUMS = "SELECT " + ", ".join(f"(SELECT sum({column})::BIGINT FROM {table})" for table, column in WATCHED.items())

Sums = tuple[int, ...]


def _sums(folder: Path) -> Sums:
    with duckdb.connect(str(folder / "acme.duckdb"), read_only=True) as connection:
        return connection.execute(_SUMS).fetchall()[0]


def _watched(folder: Path, is_over: threading.Event) -> list[Sums]:
    """What somebody finds who asks again and again, taking turns with the workers."""
    backend = DuckDB(str(folder / "acme.duckdb"), {})
    found: list[Sums] = []
    while not is_over.is_set():
        with backend.session(QueryTag("acme", "test", "test")) as session:
            found.append(session._connection.execute(_SUMS).fetchall()[0])  # type: ignore[attr-defined]
    backend.close()
    return found


def _seen(found: State) -> dict[str, Counter[str]]:
    """What people query: everything but the versions."""
    return {name: rows for name, rows in found.rows.items() if "__v." not in name}


def _ids(found: State, table: str) -> Counter[str]:
    ids: Counter[str] = Counter()
    for row, count in found.rows[table].items():
        ids[row.partition(",")[0]] += count
    return ids

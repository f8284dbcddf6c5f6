"""What others are known to get wrong, each at the boundaries where it would happen."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.crash.boundaries import Boundary
from tests.crash.cases import House, Outcome
from tests.crash.conftest import sample
from tests.crash.state import State

pytestmark = [pytest.mark.crash, pytest.mark.timeout(900)]


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


async def test_rows_are_not_appended_again_after_the_state_could_not_be_written(any_house: House, every: int) -> None:
    """dlt 4052: the rows were there, the state table failed, and the next load brought the rows once more."""
    of_state = _about(any_house, "entrepot.cursors", "entrepot.loads")
    _all_good(await any_house.disturb("cut", sample(of_state, every)))
    _all_good(await any_house.disturb("disk", sample([b for b in of_state if b.place == "before"], every)))


async def test_a_key_is_not_there_twice_after_death_in_a_merge(any_house: House, every: int) -> None:
    """dlt 3023: a merge that was killed was done again over its own half."""
    _all_good(await any_house.disturb("kill", sample(_about(any_house, ".customers"), every)))
    assert max(_ids(any_house.expected, "crash.customers").values()) == 1


async def test_a_part_of_a_load_is_never_seen(any_house: House, every: int) -> None:
    """dlt 2837: of a load with several tables, those that had been loaded were shown."""
    before = await any_house.left_by_death(any_house.boundaries[0])
    for boundary in sample(_about(any_house, ""), 2 * every):
        assert _seen(await any_house.left_by_death(boundary)) == _seen(before), boundary


async def test_a_part_of_a_publish_is_never_seen(house: House, every: int) -> None:
    """The same for what a run publishes, where the warehouse has transactions; elsewhere views follow one by one."""
    before = await house.left_by_death(house.boundaries[0])
    committed = False
    for boundary in sample(_about(house, "crash.", "COMMIT", activity="commit"), every):
        committed |= "COMMIT" in boundary.name and boundary.place == "after"
        found = _seen(await house.left_by_death(boundary))
        assert found in (_seen(before), _seen(house.expected)), boundary
        assert not committed or found == _seen(house.expected), boundary


async def test_runs_at_the_same_time_do_not_double_rows(any_house: House) -> None:
    """SQLMesh 3866: two runs of one model at once both inserted. Here one of them may fail, in a clear sentence."""
    ends, difference = await any_house.at_the_same_time(3)
    assert not difference.said
    assert "completed" in ends
    told = [end for end in ends if end != "completed"]
    assert all("start it again" in end for end in told), told


def _seen(state: State) -> dict[str, Counter[str]]:
    """What people query: everything but the versions."""
    return {name: rows for name, rows in state.rows.items() if "__v." not in name}


def _ids(state: State, table: str) -> Counter[str]:
    ids: Counter[str] = Counter()
    for row, count in state.rows[table].items():
        ids[row.partition(",")[0]] += count
    return ids

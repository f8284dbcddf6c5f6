"""A long ingest that dies at 80 % goes on from there: its source is not asked again for what is in the lake."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.crash import long
from tests.crash.boundaries import Control
from tests.crash.cases import House, Scenario
from tests.crash.house import Nursery, Server
from tests.servers.postgres import Server as Postgres

pytestmark = [pytest.mark.crash, pytest.mark.timeout(300)]

PIECES = {"copied": 10, "appended": 20, "lines": 10, "events": 9, "rows": 8}
"""The least that there are of each step."""


@pytest.mark.parametrize("step", PIECES)
async def test_it_asks_for_the_rest_alone(
    step: str, parents: tuple[Server, Nursery], postgres: Postgres, tmp_path: Path
) -> None:
    scenario = Scenario(
        {"pipeline": "long", "select": step}, lambda folder, _: long.bring(folder, postgres.url), runs=1
    )
    house = House(*parents, tmp_path / "cases", scenario=scenario)
    await house.prepare()
    (whole,) = long.asked(house.undisturbed)
    last = next(b for b in reversed(house.boundaries) if b.place == "before" and ":lake.write checkpoint" in b.name)
    what, checkpoints = last.repeats
    pieces = checkpoints - 1  # the last one says that the source has ended
    assert pieces >= PIECES[step]

    dies_at = round(0.8 * pieces)  # the piece is in the lake, but no checkpoint says so: it is asked for again
    outcome = await house.disturbed(Control("kill", replace(last, name=f"{what}#{dies_at}")))
    assert outcome.is_good, str(outcome)
    _, second = long.asked(outcome.folder)
    noted = (dies_at - 1) * long.CHUNK_ROWS if step == "events" else sum(whole[: dies_at - 1])
    # dlt asks for an item more in each chunk, to see that this one is full; a cursor begins at the last row again.
    more = long.ITEM_ROWS * (pieces - dies_at + 1) if step == "events" else 1
    assert 0 < sum(second) <= long.ROWS - noted + more

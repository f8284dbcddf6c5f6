"""A long ingest that dies at 80 % goes on from there: its source is not asked again for what is in the lake."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from tests.crash import long
from tests.crash.boundaries import Control
from tests.crash.cases import House, Scenario
from tests.crash.house import Nursery, Server
from tests.servers.postgres import Server as Postgres

pytestmark = [pytest.mark.crash, pytest.mark.timeout(300)]

PIECES = {"copied": 5, "appended": 10, "lines": 15, "events": 10, "rows": 8}
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
    pieces = checkpoints - 1  # the last checkpoint says that the source has ended
    assert pieces >= PIECES[step]

    dies_at = round(0.8 * pieces)  # its rows are in the lake, but no checkpoint says so: they are asked for again
    outcome, folder = await house.disturbed(Control("kill", replace(last, name=f"{what}#{dies_at}")))
    assert outcome.is_good, str(outcome)
    first, second = long.asked(folder)
    noted = (dies_at - 1) * whole // pieces
    print(step, pieces, whole, first, second, noted)

"""Whatever dies while an environment is created or promoted: it ends as one that nothing disturbed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.crash import pipeline
from tests.crash.boundaries import Boundary
from tests.crash.cases import House, Scenario
from tests.crash.conftest import alone, report, sample
from tests.crash.house import Nursery, Server

pytestmark = [pytest.mark.crash, pytest.mark.timeout(900)]

CRASH = {"pipeline": pipeline.crash.name}
AHEAD = (CRASH, {**CRASH, "environment": "dev"})
"""What `dev` has loaded and computed, and `prod` has not."""


def bring(folder: Path, number: int) -> None:
    """A batch for each of the runs before."""
    if number <= len(AHEAD):
        pipeline.bring(folder, number)


SCENARIOS = {
    "Promote": Scenario({**CRASH, "like": "dev"}, bring, runs=3, workflow="Promote", before=AHEAD),
    "Create": Scenario({"environment": "pr_1", "like": "dev"}, bring, runs=3, workflow="Create", before=AHEAD),
}


@pytest.mark.parametrize("is_plain", [False, True], ids=["duckdb", "without transactions"])
@pytest.mark.parametrize("workflow", SCENARIOS)
async def test_the_worker_dies(
    workflow: str,
    is_plain: bool,
    parents: tuple[Server, Nursery],
    tmp_path: Path,
    every: int,
    record_property: Any,
) -> None:
    house = House(*parents, tmp_path / "cases", is_plain=is_plain, scenario=SCENARIOS[workflow])
    await house.prepare()
    found = alone(house.boundaries)
    assert _writes(found) >= {"insert", "update", "repoint_view", "lake.write"}
    warehouse = "without transactions" if is_plain else "duckdb"
    report(record_property, f"{warehouse}, {workflow}", house, await house.disturb("kill", sample(found, every)))


def _writes(boundaries: list[Boundary]) -> set[str]:
    return {boundary.operation for boundary in boundaries}

"""What is skipped may be, and what runs had to: the clock, and what a function sees beside its inputs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from temporalio.testing import WorkflowEnvironment

from tests.conftest import House, serving, settings
from workflows.progress import RunSummary


@pytest_asyncio.fixture
async def watched(temporal: WorkflowEnvironment, tmp_path: Path) -> AsyncIterator[House]:
    """The pipeline whose steps see more than their inputs, for the tenant acme."""
    (tmp_path / "kinds").write_text("a b")
    async with serving(temporal.client, settings(tmp_path, {"watched": "tests.pipelines.watched:watched"})) as house:
        yield house


async def run(house: House, **more: Any) -> RunSummary:
    parameters = {"folder": str(house.state), **more.pop("parameters", {})}
    return await house.run("watched", parameters=parameters, **more)


def whys(summary: RunSummary) -> dict[str, str]:
    return {step.name: step.why for step in summary.steps}


async def test_a_check_that_reads_the_clock_finds_when_data_stop(watched: House) -> None:
    until = {"fresh_until": int(time.time()) + 8}
    first = await run(watched, parameters=until)
    assert [step.note for step in first.steps if step.name == "stale"] == ["passed"]
    while time.time() < until["fresh_until"] + 1:
        await asyncio.sleep(0.2)
    second = await run(watched, parameters=until)
    assert whys(second) == {
        "stale": "it reads the clock, so it runs every time",
        "stamped": "it reads the clock, so it runs every time",
    }
    assert [step.note[:16] for step in second.steps if step.name == "stale"] == ["2 violating rows"]


async def test_a_transform_that_reads_the_clock_is_computed_every_time(watched: House) -> None:
    seen = []
    for _ in range(2):
        await run(watched)
        seen += watched.query("SELECT DISTINCT looked_at FROM watched.stamped")
    assert len(set(seen)) == 2


async def test_a_run_of_checks_alone_has_published_nothing(watched: House) -> None:
    await run(watched)
    again = await run(watched, select="chosen")
    assert ([step.name for step in again.steps], again.outcome) == (["stale"], "nothing to do")


async def test_a_file_that_is_read_while_an_expression_is_built_is_read_at_every_plan(watched: House) -> None:
    await run(watched)
    assert watched.query("SELECT count(*) FROM watched.chosen") == [(2,)]
    (watched.state / "kinds").write_text("a b c")
    assert whys(await run(watched))["chosen"] == "its code or a parameter changed"
    assert watched.query("SELECT count(*) FROM watched.chosen") == [(3,)]
    (watched.state / "kinds").write_text("b c a")  # the same set
    assert "chosen" not in whys(await run(watched))


@pytest.mark.fast
async def test_two_runs_with_nothing_new_differ_by_what_reads_the_clock_alone(watched: House) -> None:
    await run(watched)
    assert set(whys(await run(watched))) == {"stale", "stamped"}

"""What may be old stays as it is while it is young: new rows are no reason to make it again, and other code is."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from temporalio.testing import WorkflowEnvironment

from entrepot import Pipeline
from entrepot.errors import BadInput
from entrepot.workflows.progress import RunSummary
from tests.conftest import House, serving, settings


@pytest_asyncio.fixture
async def house(temporal: WorkflowEnvironment, tmp_path: Path) -> AsyncIterator[House]:
    async with serving(temporal.client, settings(tmp_path, {"lagging": "tests.pipelines.lagging:lagging"})) as its:
        yield its


async def run(house: House, *amounts: int, **more: Any) -> RunSummary:
    sales = [{"id": number, "amount": amount} for number, amount in enumerate(amounts)]
    (house.state / "sales.json").write_text(json.dumps(sales))
    parameters = {"folder": str(house.state), **more.pop("parameters", {})}
    return await house.run("lagging", parameters=parameters, **more)


def computed(summary: RunSummary) -> set[str]:
    return {step.name for step in summary.steps if step.kind != "ingest"}


def shown(house: House) -> list[tuple[Any, ...]]:
    return house.query("SELECT total, slow FROM lagging.both")


async def age(house: House, name: str, hours: int) -> None:
    """Makes what a step made older than it is."""
    house.query(f"UPDATE entrepot.versions SET made_at = made_at - INTERVAL {hours} HOUR WHERE name = '{name}'")


async def test_what_is_young_enough_stays(house: House) -> None:
    assert computed(await run(house, 1, 2)) == {"totals", "slow", "both", "file"}
    assert computed(await run(house, 1, 2, 3)) == {"totals", "both"}
    assert shown(house) == [(6, 3)]
    planned = await run(house, 1, 2, 3, dry_run=True)
    assert planned.plan is not None
    why = next(step.why for step in planned.plan.steps if step.name == "slow")
    assert why.startswith("what it reads changed; made at ")
    assert why.endswith(" UTC, and it may be 1h old")
    await age(house, "slow", 2)
    assert computed(await run(house, 1, 2, 3)) == {"slow", "both"}
    assert shown(house) == [(6, 6)]
    assert (await run(house, 1, 2, 3)).outcome == "nothing to do"


async def test_other_code_force_and_what_was_dropped_are_reasons(house: House) -> None:
    await run(house, 1)
    assert computed(await run(house, 1, 2, parameters={"factor": 2})) >= {"slow"}
    assert shown(house) == [(3, 6)]
    assert "slow" not in computed(await run(house, 1, 2, 3, parameters={"factor": 2}))
    assert "slow" in computed(await run(house, 1, 2, 3, parameters={"factor": 2}, force="slow"))
    assert shown(house) == [(6, 12)]
    assert "slow" not in computed(await run(house, 1, 2, 3, 4, parameters={"factor": 2}))
    for (table,) in house.query("SELECT table_name FROM duckdb_tables() WHERE table_name LIKE 'slow%'"):
        house.query(f'DROP TABLE lagging__v."{table}"')
    assert "slow" in computed(await run(house, 1, 2, 3, 4, parameters={"factor": 2}))
    assert shown(house) == [(10, 20)]


async def test_an_environment_that_shows_nothing_of_it_computes_it(house: House) -> None:
    await run(house, 1)
    assert "slow" in computed(await run(house, 1, 2, environment="dev"))
    assert house.query("SELECT total, slow FROM lagging__dev.both") == [(3, 3)]


@pytest.mark.parametrize("given", ["soon", "", "0h", 2])
def test_a_lag_that_is_none(given: Any) -> None:
    with pytest.raises(BadInput, match=r"pipeline 'p', 'slow': target_lag: .* is not a valid duration"):

        @Pipeline("p").transform(target_lag=given)
        def slow(sales: Any) -> Any: ...

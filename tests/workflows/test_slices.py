"""What a step uses of its inputs decides whether it runs: what it does not use may change."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest_asyncio
from temporalio.testing import WorkflowEnvironment

from entrepot.planning.plan import Plan
from entrepot.workflows.progress import RunSummary
from tests.conftest import House, serving, settings

UNUSED = "uses none of what changed in orders ('label')"
BESIDE_MODELS = "source orders by_shop cheap page"
"""A model keeps what it was made of."""


@pytest_asyncio.fixture
async def sliced(temporal: WorkflowEnvironment, tmp_path: Path) -> AsyncIterator[House]:
    async with serving(temporal.client, settings(tmp_path, {"sliced": "tests.pipelines.sliced:sliced"})) as house:
        yield house


async def run(house: House, **more: Any) -> RunSummary:
    return await house.run("sliced", **more)


async def whys(house: House, **more: Any) -> dict[str, str]:
    """What a run did, or why it did nothing, by step."""
    handle = await house.start("Pipeline", {"tenant": "acme", "pipeline": "sliced", **more})
    await handle.result()
    plan = Plan.model_validate(await handle.query("plan"))
    return {step.name: step.why if step.action == "skip" else step.action for step in plan.steps}


def shown(house: House) -> list[Any]:
    tables = {"by_shop": "shop", "scored": "id", "orders": "id", "labels": "label"}
    return [house.query(f"SELECT * FROM sliced.{name} ORDER BY {by}") for name, by in tables.items()]


async def test_a_column_that_few_use_computes_those_alone(sliced: House) -> None:
    await run(sliced)
    found = await whys(sliced, parameters={"label": "b"})
    assert {name for name, why in found.items() if why == "run"} == {"orders", "labels", "counted", "file"}
    assert {name for name, why in found.items() if why == UNUSED} == {"by_shop", "cheap", "model", "scored"}
    assert found["page"] == "nothing changed"
    changed = shown(sliced)
    assert sliced.query("SELECT * FROM sliced.labels") == [("b",)]
    again = await whys(sliced, parameters={"label": "b"})
    assert not [name for name, why in again.items() if why == "run"]
    everything = await whys(sliced, parameters={"label": "b"}, force="by_shop model scored")
    assert {name for name, why in everything.items() if why == "run"} == {"by_shop", "model", "scored"}
    assert shown(sliced) == changed


async def test_a_column_that_much_uses_and_rows_compute_what_uses_them(sliced: House) -> None:
    await run(sliced)
    rate = await whys(sliced, parameters={"rate": 0.5})
    assert {name for name, why in rate.items() if why == "run"} == {
        *("orders", "by_shop", "counted", "model", "scored", "page"),
    }
    rows = await whys(sliced, parameters={"rate": 0.5, "least": 50})
    assert {name for name, why in rows.items() if why == "run"} >= {"orders", "by_shop", "cheap", "model", "labels"}
    assert sliced.query("SELECT sum(orders) FROM sliced.by_shop") == [(50,)]


async def test_a_verdict_stands_where_what_it_does_not_use_has_changed(sliced: House) -> None:
    first = await run(sliced, select=BESIDE_MODELS)
    second = await run(sliced, parameters={"label": "b"}, select=BESIDE_MODELS)
    [stands] = [step.stands for step in second.standing if step.name == "cheap"]
    assert stands is not None
    assert stands.run == first.run
    for _round in range(2):
        told = re.findall(r'<details class="checks".*?</details>', Path(first.links["page"]).read_text(), re.DOTALL)
        assert "4 violating rows" in told[0]
        await (await sliced.start("Gc", {"tenant": "acme", "keep_days": 0, "keep_publishes": 1})).result()
        assert sliced.query("SELECT count(*) FROM entrepot.versions WHERE name = 'orders'") == [(1,)]
        await run(sliced, parameters={"label": "b"}, select=BESIDE_MODELS)


async def test_what_was_made_of_a_version_that_is_gone_can_be_made_again(sliced: House) -> None:
    await run(sliced, select=BESIDE_MODELS)
    await run(sliced, parameters={"label": "b"}, select=BESIDE_MODELS)
    await (await sliced.start("Gc", {"tenant": "acme", "keep_days": 0, "keep_publishes": 1})).result()
    before = sliced.query("SELECT * FROM sliced.by_shop ORDER BY shop")
    [(schema, table)] = sliced.query(
        "SELECT physical_schema, physical_table FROM entrepot.versions WHERE name = 'by_shop'"
    )
    sliced.query(f'DROP TABLE {schema}."{table}"')
    found = await whys(sliced, parameters={"label": "b"}, select=BESIDE_MODELS)
    assert {name for name, why in found.items() if why == "run"} == {"by_shop"}
    assert sliced.query("SELECT * FROM sliced.by_shop ORDER BY shop") == before


async def test_a_selected_step_stays_over_what_is_shown_of_another(sliced: House) -> None:
    await run(sliced)
    await run(sliced, parameters={"label": "b"}, select="orders")
    found = await whys(sliced, parameters={"label": "b"}, select="by_shop labels")
    assert found["by_shop"] == "uses none of what changed in orders"
    assert found["labels"] == "run"
    everything = await whys(sliced, parameters={"label": "b"})
    assert {name for name, why in everything.items() if why == "run"} == {"counted", "file"}


async def test_a_rollback_shows_what_was_shown(sliced: House) -> None:
    await run(sliced)
    before = shown(sliced)
    await run(sliced, parameters={"label": "b"})
    assert shown(sliced) != before
    await (await sliced.start("Rollback", {"tenant": "acme", "pipeline": "sliced"})).result()
    assert shown(sliced) == before
    assert not [why for why in (await whys(sliced)).values() if why == "run"]

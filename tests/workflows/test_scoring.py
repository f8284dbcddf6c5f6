"""How rows are scored: in the warehouse where SQL agrees with the estimator, else through the estimator itself."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from temporalio.testing import WorkflowEnvironment

from tests.conftest import House, serving, settings


@pytest_asyncio.fixture
async def house(temporal: WorkflowEnvironment, tmp_path: Path) -> AsyncIterator[House]:
    async with serving(temporal.client, settings(tmp_path, {"scores": "tests.pipelines.scores:scores"})) as served:
        yield served


@pytest.mark.fast
async def test_what_sql_cannot_say_is_streamed_and_the_catalog_says_why(house: House) -> None:
    run = await house.run("scores")
    notes = {step.name: step.note for step in run.steps}
    assert notes["by_neighbours"].startswith("scored streamed through the estimator: the model cannot be SQL: ")
    [(details,)] = house.query("SELECT details FROM entrepot.versions WHERE name = 'by_neighbours'")
    [evidence] = json.loads(details)["scoring"]["models"]
    assert (evidence["model"], evidence["path"]) == ("neighbours", "streamed")
    columns = [row[:2] for row in house.query("DESCRIBE scores.by_neighbours")]
    assert columns == [("id", "BIGINT"), ("kind", "VARCHAR"), ("prediction", "VARCHAR"), ("probability_high", "DOUBLE")]
    [(rows, right)] = house.query("SELECT count(*), avg((kind = prediction)::INT) FROM scores.by_neighbours")
    assert rows == 1176
    assert right > 0.9


async def test_predictions_can_stand_anywhere_in_an_expression(house: House) -> None:
    run = await house.run("scores")
    note = next(step.note for step in run.steps if step.name == "by_both")
    assert "through the estimator" in note
    assert "in the warehouse as SQL" in note
    rows = house.query("SELECT sum(rows), sum(said) FROM scores.by_both")
    assert rows == [(1200, 1176)]
    left = house.query(
        "SELECT table_name FROM information_schema.tables WHERE table_name LIKE 'scored\\_\\_%' ESCAPE '\\'"
    )
    assert left == []  # tables of scores within an expression go when it is computed


async def test_each_split_is_honest_about_how_many_rows_it_scores_on(house: House) -> None:
    await house.run("scores")
    found = house.query("SELECT name, details FROM entrepot.versions WHERE kind = 'train' ORDER BY name")
    counts = {name: json.loads(details)["rows"] for name, details in found}
    assert counts["line"]["scored_on"] == 300 - 12  # a quarter, less those with no y
    assert sum(counts["neighbours"].values()) == 1176
    assert 1176 * 0.1 < counts["neighbours"]["scored_on"] < 1176 * 0.5  # whole groups, about 30 % of twelve

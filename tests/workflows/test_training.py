"""What a train step keeps: a model that was scored honestly, and that is there when it is loaded again."""

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
    async with serving(
        temporal.client, settings(tmp_path, {"learning": "tests.pipelines.learning:learning"})
    ) as served:
        yield served


async def test_a_model_learns_and_is_scored_on_rows_like_all(house: House) -> None:
    await house.run("learning", select="+rate")
    [(details,)] = house.query("SELECT details FROM entrepot.versions WHERE name = 'rate'")
    found = json.loads(details)
    assert found["rows"]["scored_on"] == pytest.approx(1_000, abs=100)
    assert found["scores"]["roc_auc"] == pytest.approx(0.5, abs=0.05)  # there is nothing to learn
    [(true,)] = house.query("SELECT avg(sold::INT) FROM learning.visits")
    assert found["baseline"]["neg_log_loss"] == pytest.approx(-0.645, abs=0.02)
    assert true == pytest.approx(0.345, abs=0.02)


async def test_a_model_that_is_worse_than_a_guess_is_told(house: House) -> None:
    summary = await house.run("learning", select="+contrary")
    [step] = [step for step in summary.steps if step.name == "contrary"]
    assert step.warned
    assert step.note.endswith("; below the baseline in 'accuracy': a guess that ignores the features is better")


async def test_estimators_get_the_same_kind_of_rows_when_they_learn_and_when_they_predict(house: House) -> None:
    await house.run("learning", select="+by_typed")
    assert house.query("SELECT count(*), count(probability_true) FROM learning.by_typed") == [(3555, 3555)]


async def test_no_row_to_score_is_no_row(house: House) -> None:
    await house.run("learning", select="+no_visit")
    assert house.query("SELECT count(*) FROM learning.no_visit") == [(0,)]


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ("unnamed", "the model could not be loaded again, since it holds 'tests.pipelines.learning.<lambda>'"),
        ("forgetful", "the model predicts otherwise when it is loaded again"),
        ("undecided", "the score 'roc_auc' of LogisticRegression is nan on the "),
    ],
)
async def test_a_model_that_cannot_be_used_is_no_version(step: str, said: str, house: House) -> None:
    error = await house.fail(tenant="acme", pipeline="learning", select=f"+{step}")
    assert said in error.message
    assert house.query(f"SELECT count(*) FROM entrepot.versions WHERE name = '{step}'") == [(0,)]

"""What `entrepot.testing` computes is what a run computes, table by table."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from temporalio.testing import WorkflowEnvironment

from entrepot.errors import StepFailed
from entrepot.language.step import CheckStep, IngestStep, TransformStep
from entrepot.testing import Session
from entrepot.worker.config.settings import DEMO
from entrepot.worker.reading import OpenTenant
from tests.conftest import serving, settings

REFERENCES = {
    "shop": "tests.pipelines.shop:shop",
    "scores": "tests.pipelines.scores:scores",
    "sliced": "tests.pipelines.sliced:sliced",
    "deadly": "tests.pipelines.deadly:deadly",
    **DEMO,
}
DICE = random.Random(13)
PARAMETERS: dict[str, list[dict[str, Any]]] = {
    "shop": [{"rows": DICE.randint(20, 900), "limit": DICE.uniform(0, 100)} for _ in range(4)],
    "scores": [{}],
    "deadly": [{}],
    "sliced": [{"least": DICE.randint(0, 40), "rate": DICE.random(), "label": DICE.choice("abc")} for _ in range(3)],
    "flights": [{"late_after": 20}],
}
CASES = [(pipeline, parameters) for pipeline, every in PARAMETERS.items() for parameters in every]


@pytest.mark.parametrize(("pipeline", "parameters"), CASES, ids=str)
async def test_every_table_and_check_is_that_of_a_run(
    temporal: WorkflowEnvironment, tmp_path: Path, in_memory: Session, pipeline: str, parameters: dict[str, Any]
) -> None:
    async with serving(temporal.client, settings(tmp_path, {pipeline: REFERENCES[pipeline]})) as house:
        summary = await house.run(pipeline, parameters=parameters)
        made = house.tenants.pipeline("acme", pipeline)
        shown = OpenTenant(house.tenants.get("acme"))[pipeline]
        raw = {table: shown.table(table) for step in made.graph.of(IngestStep) for table in step.tables}
        found = in_memory.compute(made, **raw, **parameters)
        for step in made.graph.of(TransformStep):
            same(found[step.name].to_arrow(), shown.table(step.name).to_pyarrow())
        warned = {step.name for step in summary.steps if step.kind == "check" and step.warned}
        assert {step.name for step in made.graph.of(CheckStep) if len(found[step.name])} == warned


async def test_decimals_keep_their_digits_and_what_a_run_refuses_is_refused(
    temporal: WorkflowEnvironment, tmp_path: Path, in_memory: Session
) -> None:
    async with serving(temporal.client, settings(tmp_path, {"hard": "tests.pipelines.hard:hard"})) as house:
        await house.run("hard", select="+exact")
        failure = await house.fail(tenant="acme", pipeline="hard", select="squares")
        hard, shown = house.tenants.pipeline("acme", "hard"), OpenTenant(house.tenants.get("acme"))["hard"]
        numbers = shown.table("numbers")
        exact = in_memory.compute(hard, "exact", numbers=numbers).to_arrow()
        assert exact.sort_by("n") == shown.table("exact").to_pyarrow().sort_by("n")
        with pytest.raises(StepFailed) as caught:
            in_memory.compute(hard, "squares", numbers=numbers)
        assert str(caught.value) in str(failure)


def same(one: pa.Table, other: pa.Table) -> None:
    """Rows in any order; sums of floats are added up in any order, too."""
    assert one.schema.names == other.schema.names
    pd.testing.assert_frame_equal(in_order(one), in_order(other), rtol=1e-9, atol=1e-12)


def in_order(table: pa.Table) -> pd.DataFrame:
    frame = table.to_pandas()
    keys = [name for name in table.column_names if not pa.types.is_floating(table.schema.field(name).type)]
    return frame.sort_values([*keys, *(name for name in frame if name not in keys)], ignore_index=True)

"""A table that was computed anew and has the rows of before stops all that is below it."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from temporalio.client import WorkflowFailureError
from temporalio.testing import WorkflowEnvironment

from entrepot.planning.plan import Plan
from entrepot.worker.config.tenant_schema import TenantSection
from entrepot.workflows.progress import Progress
from tests.conftest import House, serving, settings
from tests.pipelines.resting import LEAVES, OWN, PARAMETERS, READS, expected

PIPELINES = {"sliced": "tests.pipelines.sliced:sliced"} | {n: f"tests.pipelines.resting:{n}" for n in ("few", "many")}


@pytest_asyncio.fixture
async def house(temporal: WorkflowEnvironment, tmp_path: Path) -> AsyncIterator[House]:
    async with serving(temporal.client, settings(tmp_path, PIPELINES)) as house:
        yield house


class Did:
    """What a run did: which steps it computed, why it skipped others, what it published, and how often it planned."""

    def __init__(self, plan: Plan, progress: Progress, result: dict[str, Any], plans: int) -> None:
        self.ran = {step.name for step in progress.in_state("done")} - {"source"}
        self.why = {step.name: step.why for step in plan.steps if step.action == "skip"}
        self.notes = {step.name: step.note for step in progress.in_state("done")}
        self.moved = {*result.get("moved", [])}
        self.outcome = result.get("outcome", "failed")
        self.details, self.plans = progress.markdown(), plans


async def did(house: House, pipeline: str, **more: Any) -> Did:
    handle = await house.start("Pipeline", {"tenant": "acme", "pipeline": pipeline, **more})
    try:
        result: dict[str, Any] = await handle.result()
    except WorkflowFailureError:
        result = {}
    plan = Plan.model_validate(await handle.query("plan"))
    progress = Progress.model_validate(await handle.query("progress"))
    scheduled = [
        event.activity_task_scheduled_event_attributes.activity_type.name
        for event in (await handle.fetch_history()).events
        if event.HasField("activity_task_scheduled_event_attributes")
    ]
    return Did(plan, progress, result, scheduled.count("plan"))


async def test_nothing_below_the_same_rows_runs(house: House) -> None:
    """Transforms by SQL and Python, a check, a model and what it scores, a page and a file."""
    await did(house, "sliced")
    other = await did(house, "sliced", parameters={"least": -5})
    assert (other.ran, other.notes["orders"]) == ({"orders"}, "same rows as before")
    assert (other.outcome, other.moved, other.plans) == ("published", {"orders"}, 2)
    readers = ("by_shop", "labels", "counted", "cheap", "model", "scored")
    assert {other.why[name] for name in readers} == {"orders has the same rows as before"}
    assert {other.why[name] for name in ("page", "file")} == {"nothing changed"}
    assert "| by_shop\u2003 | ·\u00a0skipped" in other.details
    again = await did(house, "sliced", parameters={"least": -5})
    assert (again.outcome, again.plans) == ("nothing to do", 1)


async def test_only_what_may_rest_is_compared_and_a_step_can_say_otherwise(house: House) -> None:
    """Here all that reads the table has new code, too."""
    await did(house, "few")
    every = await did(house, "few", parameters={"first": -1, "floor": -1, "least": -1})
    assert every.ran == {"ids", "levels", "both"}
    assert (every.notes["ids"], every.notes["both"]) == ("", "same rows as before")


async def test_what_was_collected_is_still_the_same(house: House) -> None:
    """The version whose rows another has may be gone; what was made of it is up to date."""
    await did(house, "few")
    for first in (-1, -2, -3):
        assert (await did(house, "few", parameters={"first": first})).ran == {"ids"}
        await (await house.start("Gc", {"tenant": "acme", "keep_days": 0, "keep_publishes": 1})).result()
    assert (await did(house, "few", parameters={"first": -3})).outcome == "nothing to do"
    assert (await did(house, "few", parameters={"first": 1})).ran >= {"ids", "both", "totals", "page"}


async def test_a_rollback_shows_what_was_and_the_next_run_has_one_step(house: House) -> None:
    await did(house, "few")
    await did(house, "few", parameters={"first": -1})
    await (await house.start("Rollback", {"tenant": "acme", "pipeline": "few"})).result()
    back = await did(house, "few")
    assert (back.outcome, back.ran) == ("nothing to do", set())
    forth = await did(house, "few", parameters={"first": -1})
    assert (forth.ran, forth.moved) == (set(), {"ids"})


async def test_a_forced_step_runs_whatever_it_reads(house: House) -> None:
    await did(house, "few")
    forced = await did(house, "few", parameters={"first": -1}, force="totals")
    assert forced.ran == {"ids", "totals", "not_too_much"}


async def test_a_step_that_was_run_alone_lets_others_rest_later(house: House) -> None:
    await did(house, "few")
    assert (await did(house, "few", parameters={"first": -1}, select="ids")).ran == {"ids"}
    later = await did(house, "few", parameters={"first": -1})
    assert (later.outcome, later.why["both"]) == ("nothing to do", "ids has the same rows as before")


async def test_a_run_that_failed_leaves_what_it_found(house: House) -> None:
    """It was made and not published: the next run knows it."""
    await did(house, "few")
    failed = await did(house, "few", parameters={"first": -1, "least": -1, "more": 2, "most": 1})
    assert failed.outcome == "failed"
    after = await did(house, "few", parameters={"first": -1, "least": -1})
    assert (after.ran, after.moved) == (set(), {"ids", "both"})


async def test_a_large_pipeline_stops_in_the_midst_of_a_batch(house: House) -> None:
    await did(house, "many")
    same = await did(house, "many", parameters={"first": -1, "floor": -1})
    roots = {f"root_{number}" for number in range(LEAVES)}
    assert same.ran == {"ids", "levels", *roots}
    assert same.moved == same.ran
    assert (await did(house, "many", parameters={"first": -1, "floor": -1})).outcome == "nothing to do"
    other = await did(house, "many", parameters={"first": -1, "floor": 2})
    assert other.ran >= {"levels", "both", *(f"leaf_{number}" for number in range(LEAVES))}
    assert house.query("SELECT count(*), min(other) FROM many.leaf_7") == [(12, 9)]
    assert (await did(house, "many", parameters={"first": -1, "floor": 2})).outcome == "nothing to do"


@pytest.mark.parametrize("seed", [1, 2])
async def test_any_edits_give_what_a_rebuild_gives_and_run_nothing_below_the_same(house: House, seed: int) -> None:
    """Every table is as computed by hand; a step runs only if its own code or the rows of an input are others."""
    draw = random.Random(seed)
    values = dict(PARAMETERS)
    await did(house, "few")
    shown = {"raw": Counter([0]), **expected(values)}
    stands, rested = dict(values), 0
    for _round in range(10):
        for name in draw.sample([*OWN.values(), "below"], draw.choice([1, 1, 2, 3])):
            values[name] = draw.choice([0, 1, 20, 1000] if name == "most" else [-2, -1, 0, 0, 1, 2])
        values["below"] = abs(values["below"])
        found = await did(house, "few", parameters=values)
        rested += any("same rows as before" in why for why in found.why.values())
        now = {"raw": Counter([values["below"]]), **expected(values)}
        for step in found.ran - {"not_too_much"}:  # which runs again where it has blocked
            own = step in OWN and values[OWN[step]] != stands[OWN[step]]
            assert own or any(now[name] != shown[name] for name in READS[step]), (step, stands, values)
        if any(row[2] > values["most"] for row in now["totals"]):
            assert found.outcome == "failed"
            continue
        shown, stands = now, dict(values)
        for name in ("ids", "levels", "both", "totals", "counted"):
            assert Counter(house.query(f"SELECT * FROM few.{name}")) == now[name], (name, values)
        assert (await did(house, "few", parameters=values)).outcome == "nothing to do"
    assert rested > 2


async def test_another_warehouse_that_has_to_agree_computes_the_same_versions(
    temporal: WorkflowEnvironment, tmp_path: Path
) -> None:
    """It has not found out that rows are the same, and is told."""
    section = TenantSection(
        backend={"type": "duckdb", "path": "acme.duckdb"},
        backends={"other": {"type": "duckdb", "path": "other.duckdb"}},
        parity="other",
    )
    async with serving(temporal.client, settings(tmp_path, PIPELINES, acme=section)) as house:
        await did(house, "few")
        same = await did(house, "few", parameters={"first": -1})
        assert (same.ran, same.moved) == ({"ids"}, {"ids"})
        below = await did(house, "few", parameters={"first": -1, "least": 1, "more": 1})
        assert (below.outcome, below.ran) == ("published", {"both", "totals", "counted", "not_too_much", "page"})
        asked = {"tenant": "acme", "pipeline": "few", "parameters": {"first": -1, "least": 1, "more": 1}}
        report = await (await house.start("Parity", asked)).result()
        assert report["agrees"]
        assert len(report["tables"]) == 6

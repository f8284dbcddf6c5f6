"""Runs, as people start them: one JSON object, a real server, a real worker, a real warehouse."""

from __future__ import annotations

import asyncio
import contextlib
import csv
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import WorkflowFailureError

from entrepot.workflows.search_attributes import OUTCOME
from tests.conftest import House

EVERY_STEP = {
    "source", "orders", "by_country", "labels", "positive", "known_country", "return_model", "return_risk", "board",
    "risks", "shared", "orders.contract",
}  # fmt: skip
NOT_OF_LIMIT = {"by_country", "board", "shared"}
"""They use nothing of what the parameter `limit` changes in `orders`."""


@pytest.mark.fast
async def test_the_whole_chain_makes_and_publishes_everything(shop: House) -> None:
    run = await shop.run()
    assert run.outcome == "published"
    assert {step.name for step in run.steps} == EVERY_STEP
    assert all(step.state == "done" for step in run.steps)
    assert shop.query("SELECT count(*) FROM shop.orders") == [(600,)]
    assert shop.query("SELECT sum(orders), typeof(any_value(ids)) FROM shop.by_country") == [(600, "BIGINT")]
    assert shop.query("SELECT count(*) FROM shop.labels WHERE label LIKE 'order %'") == [(600,)]
    assert shop.query("SELECT count(*) FROM reporting.countries") == [(3,)]
    columns = [row[0] for row in shop.query("DESCRIBE shop.return_risk")]
    assert columns == ["id", "country", "prediction", "probability_true"]


async def test_names_that_people_query_are_views_on_immutable_tables(shop: House) -> None:
    await shop.run()
    views = shop.query(
        "SELECT table_name FROM information_schema.tables WHERE table_schema = 'shop' AND table_type = 'VIEW'"
    )
    assert {name for (name,) in views} == {"orders_raw", "countries", "orders", "by_country", "labels", "return_risk"}
    tables = shop.query("SELECT table_name FROM information_schema.tables WHERE table_schema = 'shop__v'")
    assert {name.rpartition("__")[0] for (name,) in tables} == {name for (name,) in views} | {"shared"}  # a copy's


@pytest.mark.fast
async def test_a_second_run_has_nothing_to_do(shop: House) -> None:
    await shop.run()
    again = await shop.run()
    assert again.outcome == "nothing to do"
    assert (again.steps, again.skipped) == ([], len(EVERY_STEP))
    assert shop.query("SELECT count(*) FROM entrepot.publishes") == [(1,)]
    assert shop.query("SELECT status, count(*) FROM entrepot.runs GROUP BY 1") == [("completed", 2)]


async def test_histories_are_as_small_as_the_docs_say(shop: House) -> None:
    """52 events and at most ten for each step; fewer where nothing is to be done."""
    events = []
    for _ in range(2):
        handle = await shop.start("Pipeline", {"tenant": "acme", "pipeline": "shop"})
        await handle.result()
        events.append(len((await handle.fetch_history()).events))
    first, again = events
    assert 52 < first <= 52 + 10 * len(EVERY_STEP)
    assert 40 <= again <= 52


async def test_a_changed_parameter_recomputes_exactly_what_is_downstream_of_it(shop: House) -> None:
    await shop.run()
    run = await shop.run(parameters={"limit": 60.0})
    assert {step.name for step in run.steps} == EVERY_STEP - {"source"} - NOT_OF_LIMIT
    reasons = {step.name: step.why for step in run.steps}
    assert reasons["orders"] == "its code or a parameter changed"
    assert reasons["labels"] == "orders changed"
    back = await shop.run()
    assert (back.outcome, back.steps) == ("published", [])  # pointers moved back, nothing was computed


async def test_a_dry_run_plans_and_changes_nothing(shop: House) -> None:
    planned = await shop.run(dry_run=True)
    assert planned.outcome == "planned"
    assert planned.plan is not None
    assert {step.action for step in planned.plan.steps} == {"run"}
    assert shop.query("SELECT count(*) FROM entrepot.versions") == [(0,)]
    await shop.run()
    planned = await shop.run(dry_run=True, parameters={"limit": 60.0})
    assert planned.plan is not None
    assert {step.name for step in planned.plan.steps if step.action == "skip"} == NOT_OF_LIMIT
    assert len(planned.plan.moves) == 5


async def test_an_environment_costs_no_storage(shop: House) -> None:
    await shop.run()
    before = shop.query("SELECT count(*) FROM entrepot.versions")
    run = await shop.run(environment="dev")
    assert (run.outcome, run.steps) == ("published", [])
    assert shop.query("SELECT count(*) FROM entrepot.versions") == before
    assert shop.query("SELECT count(*) FROM shop__dev.orders") == [(600,)]


async def test_two_runs_that_need_the_same_version_compute_it_once(shop: House) -> None:
    runs = await asyncio.gather(*(shop.run(environment=environment) for environment in ("prod", "dev", "pr_1")))
    assert [run.outcome for run in runs] == ["published"] * 3
    [(rows, distinct)] = shop.query("SELECT count(*), count(DISTINCT name) FROM entrepot.versions")
    assert rows == distinct
    assert shop.query("SELECT count(*) FROM shop__pr_1.return_risk") == [(600,)]


async def test_environments_do_not_see_each_others_changes(shop: House) -> None:
    await shop.run()
    await shop.run(environment="dev", parameters={"limit": 99.0})
    large = "SELECT count(*) FILTER (is_large) FROM {}.orders"
    assert shop.query(large.format("shop"))[0] > shop.query(large.format("shop__dev"))[0]


async def test_stages_can_be_run_one_by_one(shop: House) -> None:
    for workflow, made in [
        ("Ingest", {"source"}),
        ("Transform", {"orders", "by_country", "labels", "positive", "known_country", "orders.contract"}),
        ("Train", {"return_model"}),
    ]:
        run = await shop.run(workflow=workflow)
        assert {step.name for step in run.steps} == made, workflow
    await shop.run(workflow="Transform")
    published = await shop.run(workflow="Publish")
    assert {step.name for step in published.steps} == {"board", "risks", "shared"}
    assert (await shop.run()).outcome == "nothing to do"


async def test_a_selection_computes_what_it_names_and_holds_the_rest(shop: House) -> None:
    await shop.run()
    run = await shop.run(select="by_country+", parameters={"limit": 70.0})
    assert run.steps == []  # by_country reads the published orders, which do not change
    run = await shop.run(select="tag:hourly", parameters={"limit": 70.0})
    assert {step.name for step in run.steps} == {"orders", "orders.contract", "positive", "known_country"}
    assert run.held == len(EVERY_STEP) - 5  # the checks of what is selected come with it


async def test_pages_files_and_models_are_in_the_lake(shop: House) -> None:
    run = await shop.run()
    page = Path(run.links["board"]).read_text()
    assert "<title>" in page
    assert "Countries" in page
    with open(run.links["risks"], newline="") as file:
        assert len(list(csv.DictReader(file))) == 600
    [(details,)] = shop.query("SELECT details FROM entrepot.versions WHERE name = 'return_model'")
    for word in ("sha256", "roc_auc", "baseline", "scikit-learn", "amount"):
        assert word in details


async def test_the_catalog_says_how_rows_were_scored_and_why(shop: House) -> None:
    run = await shop.run()
    note = next(step.note for step in run.steps if step.name == "return_risk")
    assert note.startswith("scored in the warehouse as SQL: within ")
    [(details,)] = shop.query("SELECT details FROM entrepot.versions WHERE name = 'return_risk'")
    assert '"path": "sql"' in details
    assert '"tolerance": 1e-06' in details


async def test_warnings_are_kept_with_a_sample_and_shown(shop: House) -> None:
    run = await shop.run()
    warned = [step for step in run.steps if step.warned]
    # Which orders come back is drawn by lot: there is nothing to learn.
    assert [step.name for step in warned] == ["known_country", "return_model"]
    [(violations, sample)] = shop.query("SELECT violations, sample FROM entrepot.checks WHERE name = 'known_country'")
    assert violations == shop.query("SELECT count(*) FROM shop.orders WHERE country = 'IT'")[0][0]
    assert '"country": "IT"' in sample


async def test_queries_tell_the_plan_and_the_progress(shop: House) -> None:
    handle = await shop.start("Pipeline", {"tenant": "acme", "pipeline": "shop"})
    await handle.result()
    plan = await handle.query("plan")
    assert {step["name"] for step in plan["steps"]} == EVERY_STEP
    progress = await handle.query("progress")
    assert progress["stage"] == "done"
    described = await handle.describe()
    attributes = {pair.key.name: pair.value for pair in described.typed_search_attributes}
    assert attributes["Tenant"] == "acme"
    assert attributes["Backend"] == "duckdb"
    assert attributes["Stage"] == "done"
    assert attributes["Outcome"] == "published with warnings"


async def test_a_list_of_runs_tells_what_came_of_each(shop: House) -> None:
    """In the attribute `Outcome`; what was refused before it began is none of them, and a plan is no incident."""
    asked = {"tenant": "acme", "pipeline": "shop"}

    async def outcome(workflow: str, **value: Any) -> object:
        handle = await shop.start(workflow, {**asked, **value})
        with contextlib.suppress(WorkflowFailureError):
            await handle.result()
        attributes = (await handle.describe()).typed_search_attributes
        return attributes.get(OUTCOME)

    assert await outcome("Pipeline", dry_run=True) == "planned"
    assert await outcome("Pipeline") == "published with warnings"
    assert await outcome("Pipeline") == "nothing to do"
    assert await outcome("Pipeline", select="labels") == "nothing to do"
    assert await outcome("Pipeline", parameters={"limit": 90.0}) == "published with warnings"
    assert await outcome("Rollback", dry_run=True) == "planned"
    assert await outcome("Rollback") == "rolled back"
    assert await outcome("Rollback", to="beef") is None
    assert await outcome("Pipeline", select="nothing") is None
    assert await outcome("Pipeline", environment="dev", select="risks") == "failed"


@pytest.mark.fast
async def test_a_rollback_moves_pointers_and_nothing_else(shop: House) -> None:
    first = await shop.run()
    large = "SELECT count(*) FILTER (is_large) FROM shop.orders"
    before = shop.query(large)
    await shop.run(parameters={"limit": 90.0})
    assert shop.query(large) != before
    versions = shop.query("SELECT count(*) FROM entrepot.versions")
    moved = await (await shop.start("Rollback", {"tenant": "acme", "pipeline": "shop"})).result()
    assert "orders" in moved["moved"]
    assert shop.query(large) == before
    assert shop.query("SELECT count(*) FROM entrepot.versions") == versions
    later = await (await shop.start("Rollback", {"tenant": "acme", "pipeline": "shop", "to": first.run[:20]})).result()
    assert later["sequence"] >= moved["sequence"]


async def test_collection_keeps_what_is_shown_and_removes_the_rest(shop: House) -> None:
    await shop.run()
    await shop.run(parameters={"limit": 60.0})
    asked = {"tenant": "acme", "pipeline": "shop", "keep_days": 0, "keep_publishes": 1}
    planned = await (await shop.start("Gc", {**asked, "dry_run": True})).result()
    collected = await (await shop.start("Gc", asked)).result()
    assert planned["removed"] == collected["removed"]
    assert {name.partition("@")[0] for name in collected["removed"]} >= {"orders", "labels", "return_model"}
    assert shop.query("SELECT count(*) FROM shop.orders") == [(600,)]
    assert (await shop.run(parameters={"limit": 60.0})).outcome == "nothing to do"
    assert {step.name for step in (await shop.run()).steps} >= {"orders"}  # what was collected is made anew


@pytest.mark.parametrize("workflow", ["Ingest", "Transform", "Train", "Publish", "Pipeline"])
async def test_every_workflow_type_refuses_bad_input_in_a_sentence(shop: House, workflow: str) -> None:
    failure = await shop.fail(workflow, tenant="acme", pipelin="shop")
    assert failure.type == "BadInput"
    assert "unknown field 'pipelin'; did you mean 'pipeline'?" in failure.message

"""Environments that are made of one another, compared and promoted: real runs, on a real server."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from temporalio.client import WorkflowFailureError
from temporalio.testing import WorkflowEnvironment

from entrepot.activities.catalog.records import failed_environment
from entrepot.protocol.environments import ChangedName, EnvironmentDiff
from entrepot.protocol.messages import Promoted
from entrepot.worker import reading
from tests.conftest import House, serving, settings

SHOP = {"tenant": "acme", "pipeline": "shop"}
NAMES = {
    "orders_raw", "countries", "orders", "by_country", "labels", "return_model", "return_risk", "board", "risks",
    "shared",
}  # fmt: skip


@pytest_asyncio.fixture
async def compared(temporal: WorkflowEnvironment, tmp_path: Path) -> AsyncIterator[House]:
    async with serving(temporal.client, settings(tmp_path, {"compared": "tests.pipelines.compared:compared"})) as house:
        await house.run("compared")
        yield house


async def create(house: House, environment: str = "dev", **more: Any) -> dict[str, list[str]]:
    handle = await house.start("Create", {"tenant": "acme", "environment": environment, **more})
    ended: dict[str, list[str]] = (await handle.result())["shows"]
    return ended


async def promote(house: House, pipeline: str = "shop", like: str = "dev", **more: Any) -> Promoted:
    handle = await house.start("Promote", {"tenant": "acme", "pipeline": pipeline, "like": like, **more})
    return Promoted.model_validate(await handle.result())


async def diff(house: House, pipeline: str = "shop", environment: str = "dev", **more: Any) -> EnvironmentDiff:
    asked = {"tenant": "acme", "pipeline": pipeline, "environment": environment, **more}
    return EnvironmentDiff.model_validate(await (await house.start("Diff", asked)).result())


async def refused(house: House, workflow: str, **more: Any) -> str:
    failure = await house.fail(workflow, **{**SHOP, **more})
    assert failure.type == "BadInput"
    return failure.message


def views(house: House, schema: str) -> set[str]:
    found = house.query(f"SELECT table_name FROM information_schema.tables WHERE table_schema = '{schema}'")
    return {name for (name,) in found}


@pytest.mark.fast
async def test_what_was_computed_in_an_environment_is_shown_by_another_and_not_computed_again(shop: House) -> None:
    await shop.run()
    assert await create(shop) == {"shop": sorted(NAMES)}
    assert (await shop.run(environment="dev")).outcome == "nothing to do"
    in_dev = await shop.run(environment="dev", parameters={"limit": 60.0})
    in_dev_large = shop.query("SELECT count(*) FROM shop__dev.orders WHERE is_large")
    before = shop.query("SELECT count(*) FROM shop.orders WHERE is_large")
    found = await diff(shop)
    assert {each.name for each in found.changed} == set(in_dev.moved)
    made = shop.query("SELECT count(*) FROM entrepot.versions")
    moved = await promote(shop, expect=found.seen)
    assert set(moved.moved) == set(in_dev.moved)
    assert shop.query("SELECT count(*) FROM entrepot.versions") == made
    assert shop.query("SELECT count(*) FROM shop.orders WHERE is_large") == in_dev_large != before
    risks = Path(moved.links["risks"])
    assert risks.read_bytes() == Path(str(risks).replace("/prod/", "/dev/")).read_bytes()
    assert "passed" in Path(moved.links["board"]).read_text()
    assert (await promote(shop)).moved == ()
    assert (await shop.run(parameters={"limit": 60.0})).outcome == "nothing to do"
    await (await shop.start("Rollback", SHOP)).result()
    assert shop.query("SELECT count(*) FROM shop.orders WHERE is_large") == before


async def test_a_part_can_be_run_where_everything_is_shown(shop: House) -> None:
    await shop.run()
    await create(shop)
    run = await shop.run(environment="dev", select="by_country+", parameters={"limit": 60.0})
    assert run.outcome == "nothing to do"
    assert views(shop, "shop__dev") == views(shop, "shop")
    assert shop.query("SELECT count(*) FROM reporting__dev.countries") == [(3,)]


async def test_what_is_asked_for_in_vain_gets_a_sentence(shop: House) -> None:
    assert "unknown environment 'dev'. Known: none" in await refused(shop, "Promote", like="dev")
    await shop.run()
    await shop.run(environment="pr_2", dry_run=True)
    assert "environment 'pr_2' was never published. Those that show something: 'prod'" in await refused(
        shop, "Promote", like="pr_2"
    )
    assert "'prod' is named twice" in await refused(shop, "Promote", like="prod")
    assert "'prod' is named twice" in await refused(shop, "Diff", environment="prod")
    assert "unknown environment 'stage'. Known: 'dev', 'pr_*', 'prod'" in await refused(
        shop, "Promote", like="prod", environment="stage"
    )
    assert "the schemas of versions end in '__v'" in await refused(shop, "Promote", like="v")
    assert "`expect` names what the two environments showed: unknown environment 'pr_1'" in await refused(
        shop, "Promote", like="prod", environment="dev", expect={"pr_1": "x"}
    )
    assert "'prod' is not made of another environment" in await refused(shop, "Create", environment="prod", like="dev")
    assert "unknown environment 'pr_9'" in await refused(shop, "Create", environment="dev", like="pr_9")
    await create(shop)
    assert "exists: run" in await refused(shop, "Create", environment="dev")
    failure = await shop.fail("Create", tenant="acme", environment="dev")
    assert "'dev' exists for 'shop'. Promote 'prod' into it, or drop it first" in failure.message
    assert "the field 'like' is missing; unknown field 'from'" in await refused(shop, "Promote", **{"from": "dev"})
    assert "unknown step 'ordrs'" in await refused(shop, "Diff", environment="dev", select="ordrs")


async def test_of_two_promotions_into_one_environment_none_goes_past_the_other(shop: House) -> None:
    await shop.run()
    for name, limit in (("dev", 60.0), ("pr_1", 70.0)):
        await shop.run(environment=name, parameters={"limit": limit})
    seen = (await diff(shop)).seen
    ends = await asyncio.gather(
        promote(shop, expect={"prod": seen["prod"]}),
        promote(shop, like="pr_1", expect={"prod": seen["prod"]}),
        return_exceptions=True,
    )
    assert sorted(isinstance(end, Promoted) for end in ends) == [False, True]
    [refused] = [end.cause for end in ends if isinstance(end, BaseException)]  # type: ignore[attr-defined]
    assert refused.type == "Conflict"
    assert shop.query("SELECT action FROM entrepot.publishes WHERE environment = 'prod' ORDER BY sequence") == [
        ("publish",),
        ("promote",),
    ]


async def test_names_that_are_not_shown_stay_unless_no_step_makes_them(shop: House) -> None:
    await shop.run()
    await shop.run(environment="dev", select="source orders", parameters={"limit": 60.0})
    shop.query(
        "UPDATE entrepot.environments SET pointers = replace(pointers, '\"labels\"', '\"formerly\"') "
        "WHERE environment = 'prod'"
    )
    found = await diff(shop)
    assert {each.name for each in found.only_right if each.stays} == NAMES - {
        *("orders_raw", "countries", "orders", "labels"),
    }
    assert [each.name for each in found.only_right if not each.stays] == ["formerly"]
    await promote(shop)
    [(pointers,)] = shop.query("SELECT pointers FROM entrepot.environments WHERE environment = 'prod'")
    assert "formerly" not in pointers
    assert "return_risk" in pointers


async def test_a_table_that_somebody_made_by_hand_stops_a_promotion_before_anything_moves(shop: House) -> None:
    await shop.run(environment="dev")
    shop.query("CREATE SCHEMA IF NOT EXISTS shop; CREATE TABLE shop.orders AS SELECT 1 AS mine")
    message = await refused(shop, "Promote", like="dev")
    assert "shop.orders is a table that Entrepot has not made" in message
    assert views(shop, "shop") == {"orders"}
    assert shop.query("SELECT count(*) FROM entrepot.environments WHERE environment = 'prod'") == [(0,)]
    assert (await create(shop, "pr_1", like="dev"))["shop"] == sorted(NAMES)


# What a failed run has left


async def environments(house: House) -> dict[str, dict[str, Any]]:
    rows = await house.client.execute_activity(
        "environments",
        {"tenant": "acme"},
        id=uuid.uuid4().hex,
        task_queue=house.task_queue,
        start_to_close_timeout=timedelta(minutes=1),
    )
    return {row["environment"]: row for row in rows}


async def test_what_a_failed_run_has_left_is_looked_at_and_gone_on_from(compared: House) -> None:
    dear = {"at": 3, "price": 20_000.0}
    handle = await compared.start("Pipeline", {"tenant": "acme", "pipeline": "compared", "parameters": dear})
    with pytest.raises(WorkflowFailureError):
        await handle.result()
    left = failed_environment(str(handle.first_execution_run_id))
    row = (await environments(compared))[left]
    assert (row["action"], row["names"], row["behind"]) == ("left", 5, False)
    assert row["published_at"]
    tenant = compared.tenants.get("acme")
    _, [shown] = reading.rows(tenant, "compared", "priced", left, "id = 3", 9)
    assert shown["price"] == 20_000.0
    assert compared.query("SELECT price FROM compared.priced WHERE id = 3") == [(0.375,)]
    found = await diff(compared, "compared", left, against="prod")
    assert {each.name: each.rows.why for each in found.changed if each.rows} == {
        "priced": "1 row differs, in 'price'",
        "summed": "",
    }
    refused = await compared.fail("Promote", tenant="acme", pipeline="compared", like=left)
    assert "'not_dear' of priced" in refused.message
    assert "blocks: 1 violating row" in refused.message
    failure = await compared.fail(tenant="acme", pipeline="compared", environment=left)
    assert "is what a failed run has left" in failure.message

    await create(compared, "dev", like=left)
    assert compared.query("SELECT price FROM compared__dev.priced WHERE id = 3") == [(20_000.0,)]
    done = await compared.run("compared", environment="dev", parameters={**dear, "worst": 9_000.0})
    assert [step.name for step in done.steps if step.kind == "transform"] == []  # nothing is computed again
    assert (await promote(compared, "compared")).moved == ("priced", "summed")
    assert left not in await environments(compared)  # somebody has published since
    assert reading.rows(tenant, "compared", "priced", left, None, 9)[0] == ["id", "price"]
    await (await compared.start("Drop", {"tenant": "acme", "environment": "dev"})).result()
    await compared.run("compared")
    await (await compared.start("Gc", {"tenant": "acme", "keep_days": 0, "keep_publishes": 1})).result()
    failure = await compared.fail("Create", tenant="acme", environment="dev", pipeline="compared", like=left)
    assert f"no run has left '{left}', or it was collected since" in failure.message


# What checks have found


async def test_what_blocks_must_have_looked_at_what_is_promoted(compared: House) -> None:
    await create(compared)
    ingested = await compared.run("compared", workflow="Transform", environment="dev", parameters={"at": 3})
    assert ingested.outcome == "published"
    compared.query("DELETE FROM entrepot.checks WHERE name = 'not_dear'")
    asked = {"tenant": "acme", "pipeline": "compared", "like": "dev"}
    failure = await compared.fail("Promote", **asked)
    assert failure.type == "CheckFailed"
    assert "'not_dear' has never looked at these versions" in failure.message
    assert "entrepot run compared --environment dev" in failure.message
    await compared.run("compared", environment="dev", parameters={"at": 3})
    assert (await promote(compared, "compared")).moved == ("priced", "summed")


async def test_what_blocks_and_was_violated_since_is_refused(compared: House) -> None:
    await create(compared)
    await compared.run("compared", environment="dev", parameters={"columns": "more"})
    late = await compared.fail(
        tenant="acme", pipeline="compared", environment="dev", parameters={"columns": "more", "late": True}
    )
    assert late.type == "CheckFailed"
    failure = await compared.fail("Promote", tenant="acme", pipeline="compared", like="dev")
    assert failure.type == "CheckFailed"
    assert "check 'in_time' of reshaped" in failure.message
    assert "blocks: 1 violating row" in failure.message
    assert compared.query("SELECT count(*) FROM information_schema.columns WHERE table_name = 'reshaped'") != []
    assert (await diff(compared, "compared")).changed[0].name == "reshaped"


async def test_a_verdict_on_what_has_not_changed_counts(temporal: WorkflowEnvironment, tmp_path: Path) -> None:
    """`dear` uses nothing of what a label changes: it looked at other orders, and holds for these."""
    async with serving(temporal.client, settings(tmp_path, {"guarded": "tests.pipelines.guarded:guarded"})) as house:
        await house.run("guarded")
        run = await house.run("guarded", environment="dev", parameters={"label": "b"})
        assert "not checked yet" not in Path(run.links["page"]).read_text()
        assert house.query("SELECT count(*) FROM entrepot.checks") == [(1,)]
        moved = await promote(house, "guarded")
        assert set(moved.moved) == {"orders", "page"}
        assert "dear of orders" in (page := Path(moved.links["page"]).read_text())
        assert "not checked yet" not in page
        assert house.query("SELECT DISTINCT label FROM guarded.orders") == [("b",)]
        assert house.query("SELECT count(*) FROM entrepot.checks") == [(1,)]


# What differs


async def changed(house: House, name: str, **parameters: Any) -> ChangedName:
    await house.run("compared", environment="dev", parameters=parameters)
    found = await diff(house, "compared", select=name)
    assert found.same + len(found.changed) == 1
    return found.changed[0]


async def test_a_cell_is_found_among_many_rows(compared: House) -> None:
    found = await changed(compared, "priced", at=7_777, price=-1.5)
    assert (found.why, found.impact) == ("its code or a parameter changed", "same columns")
    assert (found.left_rows, found.right_rows) == (12_000, 12_000)
    assert found.rows is not None
    assert (found.rows.equal, found.rows.why) == (False, "1 row differs, in 'price'")
    [cell] = found.rows.cells
    assert (cell.key, cell.column, cell.left, cell.right) == ({"id": "7777"}, "price", "-1.5", "972.125")


async def test_rows_that_one_has_alone_are_shown(compared: House) -> None:
    found = await changed(compared, "priced", least=3)
    assert found.rows is not None
    assert found.rows.why == "3 rows differ"
    assert [row["id"] for row in found.rows.only_right] == ["0", "1", "2"]
    assert found.rows.only_left == ()
    assert (found.left_rows, found.right_rows) == (11_997, 12_000)


@pytest.mark.parametrize(
    ("columns", "impact", "equal"),
    [("more", "additive", True), ("fewer", "breaking", True), ("text", "breaking", None)],
)
async def test_columns_break_or_are_added(compared: House, columns: str, impact: str, equal: bool | None) -> None:
    found = await changed(compared, "reshaped", columns=columns)
    assert found.impact == impact
    assert found.rows is not None
    told = found.columns
    assert {
        "more": told.added == {"twice": "float64"},
        "fewer": told.removed == {"price": "float64"},
        "text": told.retyped == {"price": ("float64", "string")},
    }[columns]
    if columns == "text":
        assert "'price' cannot be compared" in found.rows.why
    else:
        assert found.rows.equal is equal


async def test_values_without_a_schema_of_columns_are_compared(compared: House) -> None:
    found = await changed(compared, "listed", least=2)
    assert found.rows is not None
    assert (found.rows.equal, found.rows.why) == (False, "50 rows differ, in 'ids'")


async def test_last_digits_of_floats_are_no_difference(compared: House) -> None:
    found = await changed(compared, "summed", at=1)
    assert found.rows is not None
    assert found.rows.equal


async def test_all_kinds_of_steps_are_told(shop: House) -> None:
    await shop.run()
    await shop.run(environment="dev", parameters={"limit": 60.0, "rows": 500})
    found = {each.name: each for each in (await diff(shop)).changed}
    assert found["orders_raw"].why == "other loads"
    assert found["orders"].why == "its code or a parameter changed and orders_raw changed"
    assert found["by_country"].why == "orders changed"
    assert found["return_model"].note.startswith("roc_auc ")
    assert "→" in found["return_model"].note
    assert found["return_model"].rows is None
    assert found["shared"].rows is not None
    assert not found["shared"].rows.equal
    assert found["board"].why == "by_country changed"


async def test_two_that_show_the_same_differ_in_nothing(shop: House) -> None:
    await shop.run()
    await create(shop)
    found = await diff(shop)
    assert (found.changed, found.only_left, found.only_right, found.same) == ((), (), (), len(NAMES))

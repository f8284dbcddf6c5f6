"""Whether tables are fresh, told by what runs have asked and found."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from temporalio.client import ActivityFailureError
from temporalio.testing import WorkflowEnvironment

from tests.conftest import House, serving, settings
from tests.waiting import eventually


@pytest_asyncio.fixture
async def house(temporal: WorkflowEnvironment, tmp_path: Path) -> AsyncIterator[House]:
    known = {"promised": "tests.pipelines.promised:promised"}
    async with serving(temporal.client, settings(tmp_path / "state", known)) as house:
        yield house


async def asked(house: House, **more: Any) -> dict[str, dict[str, Any]]:
    rows = await house.client.execute_activity(
        "freshness",
        {"tenant": "acme", **more},
        id=uuid.uuid4().hex,
        task_queue=house.task_queue,
        result_type=list,
        start_to_close_timeout=timedelta(minutes=1),
    )
    return {row["table"]: row for row in rows}


@pytest.mark.fast
async def test_a_source_that_was_asked_in_vain_is_as_fresh_as_the_ask(house: House, tmp_path: Path) -> None:
    given = {"folder": str(tmp_path), "broken": str(tmp_path / "broken")}

    async def run(**more: Any) -> str:
        begun = int(time.time())

        async def is_later() -> bool:  # times are told in seconds
            return int(time.time()) > begun

        await eventually(is_later)
        return (await house.run("promised", parameters=given, **more)).outcome

    (tmp_path / "1.csv").write_text("id,amount\n1,10\n")
    assert {row["reason"] for row in (await asked(house)).values()} == {"nothing is published in prod"}
    assert await run() == "published"
    first = await asked(house)
    assert {row["state"] for name, row in first.items() if name != "names"} == {"fresh"}
    # Nothing new came, and nothing was computed.
    assert await run() == "nothing to do"
    second = await asked(house)
    assert all(second[name]["as_of"] > row["as_of"] for name, row in first.items())
    assert all(second[name]["arrived"] == row["arrived"] != "" for name, row in first.items())
    # Something came, and only what loads it ran: what is made of it is as old as before.
    (tmp_path / "2.csv").write_text("id,amount\n2,20\n")
    assert await run(workflow="Ingest", select="orders") == "published"
    third = await asked(house)
    assert third["orders"]["as_of"] > second["orders"]["as_of"] == third["names"]["as_of"]
    assert third["names"]["oldest"] == "orders"
    # One source fails, after the other was asked.
    (tmp_path / "broken").touch()
    for _ in range(2):
        await house.fail(tenant="acme", pipeline="promised", parameters=given)

    async def is_late() -> bool:
        return (await asked(house))["names"]["state"] == "late"

    await eventually(is_late)
    fourth = await asked(house, pipeline="promised")
    assert fourth["names"]["state"] == "late"
    assert fourth["bills"]["failed"] == 2
    assert "what its source had at " in fourth["names"]["reason"]
    assert "its runs have failed 2 times since, the last at" in fourth["names"]["reason"]
    assert "ConnectionError: the service answered 503" in fourth["names"]["reason"]
    # All is well again: `names` has the version of before, and is as fresh as what it read.
    (tmp_path / "broken").unlink()
    assert await run() == "published"
    fifth = await asked(house)
    assert fifth["resting"]["as_of"] == second["resting"]["as_of"]  # which need not be made again yet
    assert len({row["as_of"] for name, row in fifth.items() if name != "resting"}) == 1
    assert fifth["names"]["as_of"] > third["orders"]["as_of"]
    assert datetime.fromisoformat(fifth["bills"]["due"]) - datetime.fromisoformat(fifth["bills"]["as_of"]) == (
        timedelta(days=2)
    )
    # An environment shows what the other shows.
    handle = await house.start("Create", {"tenant": "acme", "pipeline": "promised", "environment": "dev"})
    await handle.result()
    dev = await asked(house, environment="dev")
    assert {name: row["as_of"] for name, row in dev.items()} == {name: row["as_of"] for name, row in fifth.items()}
    with pytest.raises(ActivityFailureError) as caught:
        await asked(house, environment="pr_1")
    assert "unknown environment 'pr_1'. Known: 'dev', 'prod'" in str(caught.value.cause)


async def test_a_replay_asks_nobody(house: House, tmp_path: Path) -> None:
    given = {"folder": str(tmp_path)}
    (tmp_path / "1.csv").write_text("id,amount\n1,10\n")
    await house.run("promised", parameters=given, select="orders names")
    before = await asked(house)
    await house.run("promised", parameters=given, select="orders names", replay="prod")
    assert {name: row["as_of"] for name, row in (await asked(house)).items()} == {
        name: row["as_of"] for name, row in before.items()
    }
    assert (before["bills"]["state"], before["bills"]["reason"]) == ("unknown", "prod does not show it")
    runs = house.query("SELECT summary FROM entrepot.runs ORDER BY started_at")
    assert ['"asked"' in summary for (summary,) in runs] == [True, False]
    assert ['"bills": {"held": ' in summary for (summary,) in runs] == [True, True]

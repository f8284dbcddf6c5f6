"""Tables of which something is frozen, through real runs: what plans, lines and the catalog say of them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from temporalio.client import WorkflowFailureError
from temporalio.testing import WorkflowEnvironment

from entrepot.workflows.progress import RunSummary
from tests.conftest import House, serving, settings
from tests.pipelines.frozen import frozen


@pytest_asyncio.fixture
async def house(temporal: WorkflowEnvironment, tmp_path: Path) -> AsyncIterator[House]:
    async with serving(temporal.client, settings(tmp_path, {"frozen": "tests.pipelines.frozen:frozen"})) as its:
        yield its


@pytest.fixture(autouse=True)
def _thawed() -> Iterator[None]:
    yield
    freeze(None)


def freeze(before: str | None) -> None:
    for name in ("daily", "around"):
        object.__setattr__(frozen.graph.steps[name].incremental, "frozen_before", before)  # type: ignore[attr-defined]


def bring(folder: Path, *orders: tuple[int, str], country: str = "CH") -> None:
    rows = [{"id": key, "at": f"{day}T10:00:00", "shop": "a", "amount": 1} for key, day in orders]
    (folder / "orders.json").write_text(json.dumps(rows))
    (folder / "shops.json").write_text(json.dumps([{"shop": "a", "country": country}]))


async def run(house: House, folder: Path, rule: int = 0, **more: Any) -> RunSummary:
    return await house.run("frozen", parameters={"folder": str(folder), "rule": rule}, **more)


def notes(summary: RunSummary) -> dict[str, str]:
    return {step.name: step.note for step in summary.steps if step.name in ("daily", "around", "reader")}


def whys(summary: RunSummary) -> dict[str, str]:
    assert summary.plan is not None
    return {step.name: step.why for step in summary.plan.steps if step.name in ("daily", "around", "reader")}


async def test_what_plans_and_lines_say(house: House, tmp_path: Path) -> None:
    freeze("2026-02-01")
    bring(tmp_path, (1, "2026-01-29"), (2, "2026-01-31"), (3, "2026-02-02"))
    await run(house, tmp_path)
    bring(tmp_path)
    assert (await run(house, tmp_path)).outcome == "nothing to do"

    planned = await run(house, tmp_path, rule=3, dry_run=True)
    assert whys(planned)["daily"] == (
        "its code or a parameter changed, so it is computed anew from 2026-02-01 on; what is before is frozen"
    )
    changed = await run(house, tmp_path, rule=3)
    assert notes(changed) == {
        "daily": "from 2026-02-01 anew: its code is new",
        "around": "from 2026-02-01 anew: its code is new",
        "reader": "2026-02-02 anew",
    }
    assert house.query("SELECT day::text, total FROM frozen.daily ORDER BY 1") == [
        ("2026-01-29", 1),
        ("2026-01-31", 1),
        ("2026-02-02", 4),
    ]
    assert (await run(house, tmp_path, rule=3)).outcome == "nothing to do"

    bring(tmp_path, (4, "2026-01-30"))
    late = await run(house, tmp_path, rule=3)
    assert notes(late) == {
        "daily": "same rows as before; nothing of it changed; what changed in 2026-01-30 was left: it is frozen",
        "around": "2026-02-01 anew; what changed in 2026-01-29 to 2026-01-31 was left: it is frozen",
    }, "its reader rests"

    bring(tmp_path, country="FR")
    other = await run(house, tmp_path, rule=3)
    assert notes(other)["daily"] == "from 2026-02-01 anew: shops changed, of which each part reads all"
    planned = await run(house, tmp_path, rule=3, force="daily", dry_run=True)
    assert whys(planned)["daily"] == "to be computed anew from 2026-02-01 on; what is before is frozen"
    forced = await run(house, tmp_path, rule=3, force="daily")
    assert notes(forced)["daily"] == "from 2026-02-01 anew: it is made once more"
    assert house.query("SELECT country FROM frozen.daily ORDER BY day") == [("CH",), ("CH",), ("FR",)]

    freeze("2026-01-30")
    planned = await run(house, tmp_path, rule=3, dry_run=True)
    assert whys(planned)["daily"] == (
        "it was frozen before 2026-02-01, so it is computed by intervals of 'day' from 2026-01-30 on; "
        "what is before is frozen"
    )
    freeze(None)
    planned = await run(house, tmp_path, rule=3, dry_run=True)
    assert whys(planned)["daily"] == "it was frozen before 2026-02-01, so it is computed by intervals of 'day'"
    assert notes(await run(house, tmp_path, rule=3))["daily"] == "up to 2026-01-31 anew"
    assert house.query("SELECT * FROM frozen.daily EXCEPT SELECT * FROM frozen.daily_whole") == []


async def test_other_code_in_another_environment_keeps_what_is_frozen(house: House, tmp_path: Path) -> None:
    freeze("2026-02-01")
    bring(tmp_path, (1, "2026-01-29"), (3, "2026-02-02"))
    await run(house, tmp_path)
    await (await house.start("Create", {"tenant": "acme", "environment": "dev", "like": "prod"})).result()
    bring(tmp_path)
    await run(house, tmp_path, rule=3, environment="dev")
    assert house.query("SELECT total FROM frozen__dev.daily ORDER BY day") == [(1,), (4,)]
    asked = {"tenant": "acme", "pipeline": "frozen", "environment": "dev", "against": "prod"}
    found = await (await house.start("Diff", asked)).result()
    assert {each["why"] for each in found["changed"] if each["name"] == "daily"} == {"its code or a parameter changed"}
    promoted = {"tenant": "acme", "pipeline": "frozen", "environment": "prod", "like": "dev"}
    await (await house.start("Promote", promoted)).result()
    assert house.query("SELECT total FROM frozen.daily ORDER BY day") == [(1,), (4,)]
    assert (await run(house, tmp_path, rule=3)).outcome == "nothing to do"


async def test_columns_of_other_types_are_refused_before_anything_runs(house: House, tmp_path: Path) -> None:
    freeze("2026-02-01")
    bring(tmp_path, (1, "2026-01-29"), (3, "2026-02-02"))
    await run(house, tmp_path)
    bring(tmp_path)
    await run(house, tmp_path, rule=2)
    assert house.query("SELECT typeof(total), total FROM frozen.daily ORDER BY day") == [("DOUBLE", 1.0)] * 2
    with pytest.raises(WorkflowFailureError) as refused:
        await run(house, tmp_path, rule=0)
    said = str(refused.value.cause)
    assert "its column 'total' was float64 and is int64 now, which its frozen rows cannot be shown with" in said
    assert "tests/pipelines/frozen.py" in said
    freeze(None)
    await run(house, tmp_path, rule=0)
    assert house.query("SELECT typeof(total) FROM frozen.daily") == [("BIGINT",)] * 2


async def test_what_was_dropped_or_emptied_by_hand_is_computed_as_a_whole(house: House, tmp_path: Path) -> None:
    freeze("2026-02-01")
    bring(tmp_path, (1, "2026-01-29"), (3, "2026-02-02"))
    await run(house, tmp_path)
    bring(tmp_path)
    await run(house, tmp_path, rule=3)
    first = first_segment(house)
    house.query(f'DELETE FROM frozen__v."{first}"')
    repaired = await (await house.start("Repair", {"tenant": "acme"})).result()
    assert any(first in each for each in repaired["found"]), repaired
    assert house.query("SELECT total FROM frozen.daily ORDER BY day") == [(1,), (1,)], "by the code with its defaults"
    assert not (await (await house.start("Repair", {"tenant": "acme"})).result())["found"]
    await run(house, tmp_path, rule=3)
    first = first_segment(house)
    house.query(f'DROP TABLE frozen__v."{first}"')
    planned = await run(house, tmp_path, rule=3, dry_run=True)
    assert whys(planned)["daily"].endswith(f"{first} is gone, so nothing stays of it"), whys(planned)
    await run(house, tmp_path, rule=3)
    assert house.query("SELECT total FROM frozen.daily ORDER BY day") == [(4,), (4,)]


def first_segment(house: House) -> str:
    """The oldest table that what is shown of `daily` is made of."""
    [(details,)] = house.query(
        "SELECT v.details FROM entrepot.versions AS v, entrepot.environments AS e WHERE v.name = 'daily' "
        "AND v.version = json_extract_string(e.pointers, '$.daily') AND e.environment = 'prod'"
    )
    table: str = json.loads(details)["segments"][0]["table"]
    return table

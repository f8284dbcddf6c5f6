"""Tables that are computed by parts, through real runs: whatever happens, each is as it would be as a whole."""

from __future__ import annotations

import datetime
import json
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from temporalio.client import WorkflowFailureError
from temporalio.testing import WorkflowEnvironment

from entrepot.workflows.progress import RunSummary
from tests.conftest import House, serving, settings
from tests.pipelines import parts

TABLES = [name for name in parts.parts.graph.steps if f"{name}_whole" in parts.parts.graph.steps]
KEYS = {"customers": ["customer"], "numbered": ["customer"], "loyal": ["customer"]}
KEYS |= {"crowds": ["shop", "day"], "of_country": ["shop"], "busy": ["shop"]}
TIMES = {"hourly": "hour", "monthly": "month", "ranked": "at", "visited": "at"}
START = datetime.datetime(2025, 12, 20)


class Source:
    """What the sources have, in files, as a test changes it."""

    def __init__(self, folder: Path, seed: int = 1) -> None:
        self.folder = folder
        self.random = random.Random(seed)
        self.shops = {"a": "CH"}
        folder.mkdir()

    def bring(self, *tables: str) -> None:
        """New rows of some tables; others bring nothing."""
        chance = self.random
        orders, visits = [], []
        for _ in range(chance.randint(1, 5) if "orders" in tables else 0):
            at = (START + datetime.timedelta(hours=chance.randint(0, 400))).isoformat()
            its = {"id": chance.randint(1, 40), "at": chance.choice([at] * 9 + [None])}
            its |= {"shop": chance.choice("abc"), "customer": chance.randint(1, 6), "amount": chance.randint(0, 9)}
            orders += [its | {"gone": chance.random() < 0.2}]
        for _ in range(chance.randint(1, 3) if "visits" in tables else 0):
            day = (START + datetime.timedelta(days=chance.randint(0, 16))).date().isoformat()
            visits += [{"day": day, "shop": chance.choice("abc"), "n": chance.randint(1, 4)}]
        if "shops" in tables:
            self.shops[chance.choice("abc")] = chance.choice(["CH", "FR"])
        rows = {
            "orders": list({row["id"]: row for row in orders}.values()),
            "visits": visits,
            "shops": [{"shop": shop, "country": country} for shop, country in self.shops.items()],
        }
        for name, its_rows in rows.items():
            (self.folder / f"{name}.json").write_text(json.dumps(its_rows))


@pytest_asyncio.fixture
async def house(temporal: WorkflowEnvironment, tmp_path: Path) -> AsyncIterator[House]:
    async with serving(temporal.client, settings(tmp_path, {"parts": "tests.pipelines.parts:parts"})) as its:
        yield its


@pytest.fixture
def source(tmp_path: Path) -> Source:
    return Source(tmp_path / "source")


async def run(house: House, source: Source, bonus: int = 0, **more: Any) -> RunSummary:
    return await house.run("parts", parameters={"folder": str(source.folder), "bonus": bonus}, **more)


def check(house: House, schema: str = "parts") -> None:
    """Each table has the rows of its twin, but those of no part."""
    for name in TABLES:
        columns = KEYS.get(name, [TIMES.get(name, "day")])
        of_a_part = " AND ".join(f'"{column}" IS NOT NULL' for column in columns)
        whole = Counter(house.query(f"SELECT * FROM {schema}.{name}_whole WHERE {of_a_part}"))
        assert Counter(house.query(f"SELECT * FROM {schema}.{name}")) == whole, name
        environment = schema.rpartition("__")[2] if "__" in schema else "prod"
        counted = house.query(
            f"SELECT row_count FROM entrepot.versions AS v, entrepot.environments AS e WHERE v.name = '{name}' "
            f"AND v.version = json_extract_string(e.pointers, '$.{name}') AND e.environment = '{environment}'"
        )
        assert counted == [(sum(whole.values()),)], name


def notes(summary: RunSummary) -> dict[str, str]:
    return {step.name: step.note for step in summary.steps if step.name in TABLES}


async def test_only_what_changed_is_computed_anew(house: House, source: Source) -> None:
    source.bring("orders", "visits", "shops")
    first = await run(house, source)
    assert {name: note for name, note in notes(first).items() if note} == {"monthly": "in 2 batches"}
    check(house)
    at = datetime.datetime(2026, 1, 2, 3).isoformat()
    order = {"id": 1000, "at": at, "shop": "a", "customer": 7, "amount": 5}
    (source.folder / "orders.json").write_text(json.dumps([order]))
    (source.folder / "visits.json").write_text("[]")
    second = await run(house, source)
    check(house)
    assert notes(second) == {
        "daily": "2026-01-02 anew",
        "hourly": "2026-01-02 03:00 anew",
        "monthly": "2026-01 anew",
        "beside": "2026-01-02 anew",
        "trailing": "2026-01-01 to 2026-01-04 anew",
        "ranked": "2026-01-02 anew",
        "quiet": "2025-12-29 anew",
        "visited": "2026-01-02 anew",
        "events": "2026-01-02 anew",
        "chained": "computed as a whole: orders changed, of which each part reads all",
        "busy": "computed as a whole: orders changed, of which each part reads all",
        "customers": "1 key anew",
        "numbered": "1 key anew",
        "loyal": "1 key anew",
    }
    for rows in ("orders", "visits"):
        (source.folder / f"{rows}.json").write_text("[]")
    assert (await run(house, source)).outcome == "nothing to do"
    third = await run(house, source, bonus=1)
    assert notes(third)["daily"] == "computed as a whole in 2 batches: its code is new"
    check(house)


async def test_what_was_dropped_or_is_forced_is_computed_as_a_whole(house: House, source: Source) -> None:
    source.bring("orders", "visits", "shops")
    await run(house, source)
    source.bring("orders")
    await run(house, source)
    tables = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'parts__v'"
    [(part,)] = house.query(f"{tables} AND starts_with(table_name, 'daily__p')")
    house.query(f'DROP TABLE parts__v."{part}"')
    source.bring()
    repaired = await run(house, source)
    assert notes(repaired) == {"daily": "in 2 batches"}
    check(house)
    [(keys,)] = house.query(f"{tables} AND starts_with(table_name, 'customers__k')")
    house.query(f'DROP TABLE parts__v."{keys}"')
    repaired = await (await house.start("Repair", {"tenant": "acme"})).result()
    assert any(keys in each for each in repaired["found"]), repaired
    check(house)
    source.bring("orders")
    forced = await run(house, source, force="customers")
    assert notes(forced)["customers"] == ""
    assert notes(forced)["daily"].endswith("anew")
    check(house)


async def test_whatever_happens_the_tables_are_as_a_whole(house: House, source: Source) -> None:
    source.bring("orders", "visits", "shops")
    await run(house, source)
    chance, anew = source.random, Counter[str]()
    for _ in range(18):
        source.bring(*chance.choice([["orders"], ["visits"], ["orders", "visits"], ["shops", "orders"]]))
        environment = chance.choice(["prod", "prod", "dev"])
        summary = await run(house, source, bonus=int(chance.random() < 0.1), environment=environment)
        anew.update(name for name, note in notes(summary).items() if note.endswith("anew"))
        check(house, "parts" if environment == "prod" else "parts__dev")
        if chance.random() < 0.3:
            asked = {"tenant": "acme", "keep_days": 0, "keep_publishes": chance.choice([1, 2])}
            await (await house.start("Gc", asked)).result()
        if chance.random() < 0.2:
            with suppress(WorkflowFailureError):  # there may be no publish left to go back to
                await (await house.start("Rollback", {"tenant": "acme", "pipeline": "parts"})).result()
            check(house)
    assert anew.keys() == {*TABLES}

"""Heads that somebody changed, and heads of what is gone for good: restored from their history, or gone back."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from temporalio.testing import WorkflowEnvironment

from tests.conftest import House, serving, settings

NOWHERE = "0123456789abcdef"
NOTHING = {"found": [], "left": [], "runs": {}}


@pytest.fixture
async def house(temporal: WorkflowEnvironment, tmp_path: Path) -> AsyncIterator[House]:
    async with serving(temporal.client, settings(tmp_path, {"one": "tests.pipelines.owned:one"})) as house:
        await house.run("one", parameters={"rows": 2})
        await house.run("one")
        yield house


async def repaired(house: House, **more: Any) -> Any:
    return await (await house.start("Repair", {"tenant": "acme", **more})).result()


def saying(house: House, table: str, column: str, change: dict[str, str] | None, where: str = "true") -> None:
    """Changes by hand what a head or its history says; without a change, to what is none."""
    [(text,)] = house.query(f"SELECT {column} FROM entrepot.{table} WHERE environment = 'prod' AND {where}")
    new = json.dumps({**json.loads(text), **change} if change is not None else None)
    house.query(f"UPDATE entrepot.{table} SET {column} = '{new}' WHERE environment = 'prod' AND {where}")


def shown(house: House) -> int:
    [(rows,)] = house.query("SELECT count(*) FROM one.doubled")
    return int(rows)


def lose(house: House, change: str = "DROP TABLE {}") -> None:
    """The newest raw table is no more what it was, and neither has the lake its load."""
    [(version, schema, table)] = house.query(
        "SELECT version, physical_schema, physical_table FROM entrepot.versions "
        "WHERE name = 'numbers' AND row_count = 3"
    )
    house.query(change.format(f'{schema}."{table}"'))
    loads = [path for path in (house.state / "lake").rglob("*") if path.is_file() and version in str(path)]
    assert len(loads) == 2
    for path in loads:
        path.unlink()


def by_hand(statement: str) -> Callable[[House], Any]:
    return lambda house: house.query(statement)


def cut(house: House) -> None:
    [path] = (house.state / "lake").rglob("heads/prod.json")
    path.write_text('{"environment": "pr')


CHANGED: list[tuple[Callable[[House], Any], str]] = [
    (lambda house: saying(house, "environments", "pointers", {"numbers": NOWHERE}), "not what was written ('numbers')"),
    (lambda house: saying(house, "environments", "pointers", {"doubled": NOWHERE}), "not what was written ('doubled')"),
    (lambda house: saying(house, "environments", "pointers", {"other": NOWHERE}), "not what was written ('other')"),
    (lambda house: saying(house, "environments", "pointers", None), "cannot be read"),
    (lambda house: saying(house, "ingest_states", "tables", {"numbers": NOWHERE}), "not what was written ('numbers')"),
    (by_hand("UPDATE entrepot.environments SET pointers = '{}'"), "not what was written"),
    (by_hand("UPDATE entrepot.environments SET sequence = 1"), "is as after change 1, and there were 2"),
    (by_hand("DELETE FROM entrepot.environments"), "is gone: restored from its history"),
    (by_hand("DELETE FROM entrepot.ingest_states"), "is gone: restored from its history"),
    (cut, "heads/prod.json cannot be read: written again from the catalog"),
]


async def test_heads_that_were_changed_are_restored_from_their_history(house: House) -> None:
    heads = (
        "SELECT sequence, pointers FROM entrepot.environments",
        "SELECT sequence, tables FROM entrepot.ingest_states",
    )
    before = [house.query(each) for each in heads]
    for change, said in CHANGED:
        change(house)
        assert said in " ".join((await repaired(house, dry_run=True))["found"])
        found = await repaired(house)
        assert said in " ".join(found["found"])
        assert not found["left"]
        assert await repaired(house, dry_run=True) == NOTHING, said
        assert [house.query(each) for each in heads] == before
        assert (await house.run("one")).outcome == "nothing to do", said
        assert shown(house) == 3


async def test_a_head_that_cannot_be_read_goes_back_where_its_state_has_no_history(house: House) -> None:
    """As of somebody who died before it was written there."""
    house.query("UPDATE entrepot.environments SET pointers = '{'; DELETE FROM entrepot.publishes WHERE sequence = 2")
    found = " ".join((await repaired(house))["found"])
    assert "cannot be read" in found
    assert "restored from its history, as after change 1" in found
    assert await repaired(house, dry_run=True) == NOTHING
    assert shown(house) == 2
    assert (await house.run("one")).outcome == "published"
    assert shown(house) == 3


@pytest.mark.parametrize("change", ["DROP TABLE {}", "DELETE FROM {} WHERE n = 0"])
async def test_what_is_gone_for_good_lets_its_environment_go_back(house: House, change: str) -> None:
    await house.run("one", environment="dev", parameters={"rows": 2})
    lose(house, change)
    looked = await repaired(house, dry_run=True)
    found = await repaired(house)
    assert found["left"] == looked["left"] == []
    assert found["found"] == looked["found"]
    assert "and the lake does not have the load of 'numbers'" in found["found"][0]
    assert "environment 'prod'" in found["found"][0]
    assert ": goes back to what run " in found["found"][0]
    assert await repaired(house) == NOTHING
    assert shown(house) == 2
    assert (await house.run("one")).outcome == "published"
    assert shown(house) == 3
    assert house.query("SELECT count(*) FROM one.numbers") == [(3,)]
    assert await repaired(house) == NOTHING


async def test_a_history_that_says_so_too_lets_its_environment_go_back(house: House) -> None:
    for table, column in (("environments", "pointers"), ("publishes", "pointers")):
        saying(house, table, column, {"numbers": NOWHERE, "other": NOWHERE}, "sequence = 2")
    assert ": goes back to what run " in (await repaired(house))["found"][0]
    assert await repaired(house) == NOTHING
    assert shown(house) == 2
    assert (await house.run("one")).outcome == "published"
    for table in ("ingest_states", "loads"):
        newest = f"sequence = (SELECT max(sequence) FROM entrepot.{table})"
        saying(house, table, "tables", {"numbers": NOWHERE}, newest)
    assert ": goes back to the load of run " in (await repaired(house))["found"][0]
    assert await repaired(house) == NOTHING
    assert (await house.run("one")).outcome in ("published", "nothing to do")
    assert shown(house) == 3


async def test_a_name_that_no_step_makes_is_taken_away_where_it_is_gone(house: House) -> None:
    for table in ("environments", "publishes"):
        saying(house, table, "pointers", {"other": NOWHERE}, "sequence = 2")
    said = ["other is not in the catalog, and no step makes it: taken away"]
    assert (await repaired(house, dry_run=True))["found"] == said
    assert (await repaired(house))["found"] == said
    assert await repaired(house) == NOTHING
    assert (await house.run("one")).outcome == "nothing to do"


async def test_where_nothing_is_whole_it_is_said_what_helps(house: House) -> None:
    lose(house)
    house.query("DELETE FROM entrepot.publishes WHERE sequence = 1")
    for dry_run in (True, False):
        left = " ".join((await repaired(house, dry_run=dry_run))["left"])
        assert "It cannot go back either, since nothing that it showed before is whole" in left
        assert "`entrepot run one --environment prod --refresh` loads everything anew" in left
    assert shown(house) == 3  # what was computed of it stands
    await house.run("one", refresh=True)
    assert await repaired(house) == NOTHING
    assert house.query("SELECT count(*) FROM one.numbers") == [(3,)]


async def test_tables_that_grow_go_back_and_load_again_what_came_since(growing: House, tmp_path: Path) -> None:
    source, asked = tmp_path / "events.json", {"parameters": {"folder": str(tmp_path)}, "select": "events"}
    for until in (2, 4):
        source.write_text(json.dumps([{"id": n} for n in range(1, until + 1)]))
        await growing.run("growing", **asked)
    [(version,)] = growing.query("SELECT version FROM entrepot.versions WHERE name = 'events' AND row_count = 4")
    [(details,)] = growing.query(f"SELECT details FROM entrepot.versions WHERE version = '{version}'")
    newest = json.loads(details)["segments"][-1]
    growing.query(f'DROP TABLE {newest["schema_name"]}."{newest["table"]}"')
    for path in (growing.state / "lake").rglob("*"):
        if path.is_file() and version in str(path):
            path.unlink()
    assert ": goes back to what run " in (await repaired(growing))["found"][0]
    assert growing.query("SELECT count(*) FROM growing.events") == [(2,)]
    await growing.run("growing", **asked)
    assert growing.query("SELECT list(id ORDER BY id) FROM growing.events") == [([1, 2, 3, 4],)]
    assert await repaired(growing) == NOTHING

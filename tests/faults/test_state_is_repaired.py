"""Whatever of catalog and lake cannot be read any more is mended, with a sentence for each; or it is said why not."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from temporalio.testing import WorkflowEnvironment

from tests.conftest import House, serving, settings


@pytest.fixture
async def house(temporal: WorkflowEnvironment, tmp_path: Path) -> AsyncIterator[House]:
    async with serving(temporal.client, settings(tmp_path, {"one": "tests.pipelines.owned:one"})) as house:
        await house.run("one")
        await house.run("one", environment="dev")
        yield house


async def repaired(house: House, **more: Any) -> Any:
    return await (await house.start("Repair", {"tenant": "acme", **more})).result()


def in_lake(house: House, pattern: str) -> list[Path]:
    return list((house.state / "lake").rglob(pattern))


def unreadable(table: str, column: str, where: str) -> Callable[[House], Any]:
    change = f"""UPDATE entrepot.{table} SET {column} = '{{"kind": "tab' WHERE {where}"""
    return lambda house: house.query(change)


def without_manifests(house: House) -> None:
    for path in in_lake(house, "load.json"):
        path.unlink()


def with_a_checkpoint(house: House) -> None:
    [manifest] = in_lake(house, "*.manifest.json")
    (manifest.parent / "checkpoint.json").write_text('{"stream": 1, "parts": {"num')


def changed(folder: str) -> Callable[[House], Any]:
    """One of the files in a folder of the lake is another one."""
    return lambda house: next(path for path in in_lake(house, "taken_away.csv") if folder in str(path)).write_text("n")


DAMAGES: list[tuple[Callable[[House], Any], list[str]]] = [
    (
        unreadable("versions", "details", "name = 'numbers'"),
        ["in 'versions' cannot be read", "numbers is not in the catalog"],
    ),
    (
        unreadable("versions", "details", "name = 'doubled'"),
        ["in 'versions' cannot be read", "doubled is not in the catalog"],
    ),
    (lambda house: house.query("DELETE FROM entrepot.versions WHERE name = 'doubled'"), ["doubled is not in the"]),
    (
        unreadable("environments", "pointers", "environment = 'prod'"),
        ["the catalog's row of one, prod in 'environments' cannot be read", "restored from its history"],
    ),
    (
        unreadable("ingest_states", "tables", "environment = 'prod'"),
        ["the catalog's row of one, source, prod in 'ingest_states' cannot be read", "restored from its history"],
    ),
    (unreadable("runs", "summary", "status = 'completed'"), ["in 'runs' cannot be read", "forgotten"]),
    (without_manifests, ["written again from its copy beside the load's files"]),
    (with_a_checkpoint, ["checkpoint.json cannot be read: removed"]),
    (changed("/published/dev/"), ["published/dev/one/taken_away.csv is not the file that was published"]),
    (changed("/artifacts/"), ["taken_away.csv is not the file that was written"]),
]


async def test_what_cannot_be_read_is_mended(house: House) -> None:
    for damage, said in DAMAGES:
        damage(house)
        looked = await repaired(house, dry_run=True)
        found = await repaired(house)
        assert all(any(part in each for each in found["found"]) for part in said), found
        assert looked["found"], said
        assert not found["left"], found
        assert await repaired(house, dry_run=True) == {"found": [], "left": [], "runs": {}}, said
        for schema in ("one", "one__dev"):
            assert house.query(f"SELECT count(*) FROM {schema}.doubled") == [(3,)]
        assert {len(path.read_text().splitlines()) for path in in_lake(house, "published/*/one/*.csv")} == {4}
        assert (await house.run("one")).outcome == "nothing to do", said


async def test_what_its_history_cannot_tell_is_forgotten_and_published_anew(house: House) -> None:
    house.query("UPDATE entrepot.environments SET pointers = '{'; UPDATE entrepot.publishes SET pointers = '{'")
    found = await repaired(house)
    assert "neither can its history: forgotten, so the next run makes it anew" in " ".join(found["found"])
    assert (await house.run("one")).outcome == "published"
    assert house.query("SELECT count(*) FROM one.doubled") == [(3,)]


async def test_a_table_that_cannot_be_restored_stays_and_the_others_are(house: House) -> None:
    """One environment's is dropped, and the lake has lost the file of another's, whose table is whole."""
    await house.run("one", environment="dev", parameters={"rows": 2})
    of_two, of_three = house.query(
        "SELECT physical_schema, physical_table, version FROM entrepot.versions WHERE name = 'numbers' "
        "ORDER BY row_count"
    )
    [file] = [
        Path(part["file"])
        for path in in_lake(house, "load.json")
        if of_three[2] in str(path)
        for part in json.loads(path.read_text())["parts"]
    ]
    kept = file.read_bytes()
    file.unlink()
    house.query(f"DROP TABLE {of_two[0]}.\"{of_two[1]}\"; DELETE FROM entrepot.versions WHERE name = 'doubled'")
    found = await repaired(house)
    [not_restored] = [said for said in found["left"] if said.startswith("numbers is not restored: ")]
    assert f"{file} is gone from the lake; run it once with `refresh`" in not_restored
    assert "doubled is not in the catalog" in " ".join(found["found"])
    assert set(found["runs"]["one"]) == {"prod", "dev"}
    assert house.query(f'SELECT count(*) FROM {of_three[0]}."{of_three[1]}"') == [(3,)]
    file.write_bytes(kept)
    assert not (await repaired(house))["left"]
    assert house.query("SELECT count(*) FROM one__dev.numbers") == [(2,)]


async def test_what_cannot_be_mended_is_said(house: House) -> None:
    for path in [*in_lake(house, "load.json"), *in_lake(house, "*.manifest.json")]:
        path.unlink()
    [left] = (await repaired(house))["left"]
    assert "the lake does not have the load of 'numbers'" in left
    assert "no copy of it stands beside the load's files" in left


@pytest.mark.parametrize("change", ["cut", "removed"])
async def test_a_file_of_a_load_that_is_another_is_said(house: House, change: str) -> None:
    [manifest] = in_lake(house, "load.json")
    path = Path(json.loads(manifest.read_text())["parts"][0]["file"])
    path.write_bytes(path.read_bytes()[:-1]) if change == "cut" else path.unlink()
    [left] = (await repaired(house))["left"]
    assert str(path) in left
    assert {"cut": "is not the file that was written", "removed": "is gone from the lake"}[change] in left
    assert "its rows stand in the warehouse alone; run it once with `refresh`" in left

"""What somebody dropped, replaced or emptied by hand is found, and made good; what is forced is computed anew."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from temporalio.testing import WorkflowEnvironment

from entrepot.worker.config.tenant_schema import TenantSection
from tests.conftest import House, serving, settings


@pytest.fixture
async def house(temporal: WorkflowEnvironment, tmp_path: Path) -> AsyncIterator[House]:
    tenant = TenantSection(
        backend={"type": "duckdb", "path": "acme.duckdb"},
        backends={"other": {"type": "duckdb", "path": "other.duckdb"}},
    )
    async with serving(temporal.client, settings(tmp_path, {"one": "tests.pipelines.owned:one"}, acme=tenant)) as house:
        await house.run("one")
        await house.run("one", environment="dev")
        yield house


def table_of(house: House, name: str) -> str:
    """Where the version stands that is shown under a name."""
    [(schema, table)] = house.query(
        f"SELECT physical_schema, physical_table FROM entrepot.versions WHERE name = '{name}'"
    )
    return f'{schema}."{table}"'


def by_hand(house: House, change: str, name: str) -> None:
    table = table_of(house, name)
    for statement in {
        "dropped": [f"DROP TABLE {table}"],
        "emptied": [f"DELETE FROM {table}"],
        "made a view": [f"DROP TABLE {table}", f"CREATE VIEW {table} AS SELECT 7 AS n"],
    }[change]:
        house.query(statement)


async def repaired(house: House, **more: Any) -> Any:
    return await (await house.start("Repair", {"tenant": "acme", **more})).result()


def is_whole(house: House) -> bool:
    """Whether both environments show everything."""
    views = [f"{schema}.{t}" for schema in ("one", "one__dev") for t in ("numbers", "doubled")]
    views += ["reporting.totals", "reporting__dev.totals"]
    return all(house.query(f"SELECT count(*) FROM {view}") == [(3,)] for view in views)


@pytest.mark.parametrize("name", ["numbers", "doubled", "shared"])
@pytest.mark.parametrize("change", ["dropped", "emptied", "made a view"])
async def test_tables_are_repaired_in_all_environments(house: House, change: str, name: str) -> None:
    table = table_of(house, name).replace('"', "")
    by_hand(house, change, name)
    said = {"dropped": "is gone", "emptied": "has 0 rows, and was made with 3", "made a view": "is a view now"}[change]
    looked = await repaired(house, dry_run=True)
    assert set(looked["found"]) == {f"{table} {said}"}
    assert not looked["left"]
    assert await repaired(house) == looked
    assert is_whole(house)
    assert await repaired(house) == {"found": [], "left": [], "runs": {}}
    assert (await house.run("one")).outcome == "nothing to do"
    await (await house.start("Gc", {"tenant": "acme", "keep_days": 0})).result()
    assert is_whole(house)


@pytest.mark.parametrize("name", ["numbers", "doubled"])
async def test_a_run_makes_a_table_anew_that_was_dropped(house: House, name: str) -> None:
    """The cheap look that every run takes: whether tables are there, not how many rows they have."""
    by_hand(house, "dropped", name)
    assert (await house.run("one", parameters={"rows": 4})).outcome == "published"  # a step that reads what is gone
    assert house.query("SELECT count(*) FROM one.doubled") == [(4,)]
    run = await house.run("one")
    assert house.query("SELECT count(*) FROM one.doubled") == [(3,)]
    if name == "doubled":
        assert "doubled" in {step.name for step in run.steps}
    assert is_whole(house)


async def test_a_run_makes_a_copy_anew_that_was_dropped(house: House) -> None:
    by_hand(house, "dropped", "shared")
    run = await house.run("one")
    assert [step.name for step in run.steps] == ["shared"]
    assert (await house.run("one", environment="dev")).outcome in ("published", "nothing to do")
    assert is_whole(house)
    assert (await house.run("one")).outcome == "nothing to do"


async def test_views_are_pointed_back(house: House) -> None:
    house.query("DROP VIEW one.doubled; CREATE OR REPLACE VIEW reporting.totals AS SELECT 1 AS mine")
    found = await repaired(house)
    assert set(found["found"]) == {"one.doubled is gone", "reporting.totals has 1 rows, and was made with 3"}
    assert is_whole(house)


async def test_a_table_in_the_place_of_a_view_is_left_to_its_owner(house: House) -> None:
    house.query("DROP VIEW one.doubled; CREATE TABLE one.doubled AS SELECT 1 AS mine")
    found = await repaired(house)
    assert found["left"] == ["one.doubled is a table now; drop or rename it, and repair again"]
    assert house.query("SELECT mine FROM one.doubled") == [(1,)]
    house.query("DROP TABLE one.doubled")
    await repaired(house)
    assert is_whole(house)


async def test_a_file_that_is_gone_is_made_anew(house: House) -> None:
    for path in (house.state / "lake" / "acme" / "artifacts").rglob("*.csv"):
        path.unlink()
    (found,) = (await repaired(house))["found"][:1]
    assert found.endswith("taken_away.csv is gone from the lake")
    assert (await house.run("one")).outcome == "nothing to do"
    assert list((house.state / "lake" / "acme" / "artifacts").rglob("*.csv"))


async def test_what_is_forced_is_computed_anew_beside_what_is_shown(house: House) -> None:
    before = table_of(house, "doubled")
    planned = await house.run("one", force="doubled", dry_run=True)
    assert planned.plan is not None
    assert {s.name: s.why for s in planned.plan.steps if s.action == "run"}["doubled"] == "to be computed anew"
    run = await house.run("one", force="doubled+")
    assert {step.name for step in run.steps} == {"doubled", "shared", "taken_away"}
    assert table_of(house, "doubled") != before
    shown = house.query("SELECT sql FROM duckdb_views() WHERE view_name = 'doubled'")
    assert len(shown) == 2
    assert not [sql for (sql,) in shown if before.replace('"', "") in sql.replace('"', "")]
    assert is_whole(house)
    assert (await house.run("one")).outcome == "nothing to do"
    stands = "SELECT count(*) FROM duckdb_tables() WHERE table_name LIKE 'doubled__%'"
    assert house.query(stands) == [(2,)]
    await (await house.start("Gc", {"tenant": "acme", "keep_days": 0})).result()
    assert house.query(stands) == [(1,)]
    assert is_whole(house)


async def test_what_cannot_be_forced_is_refused(house: House) -> None:
    for asked, said in [
        ({"force": "source"}, "'source' cannot be forced: an ingest loads everything anew with `refresh`"),
        ({"force": "doubled", "select": "shared"}, "'doubled' cannot be forced: not in the selection 'shared'"),
        ({"force": "dubled"}, "did you mean 'doubled'"),
    ]:
        failure = await house.fail(tenant="acme", pipeline="one", **asked)
        assert failure.type == "BadInput"
        assert said in failure.message

"""A publish is one row of the catalog. What people see follows it; what cannot is told, and finished by who comes."""

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
        await house.run("one", parameters={"to": "other"})
        yield house


def elsewhere(house: House, sql: str) -> list[tuple[Any, ...]]:
    """What the tenant's other warehouse answers."""
    from entrepot.backends import QueryTag

    other: Any = house.tenants.get("acme").at("other").backend
    with other.session(QueryTag("acme", "test", "test")) as session:
        return session._connection.execute(sql).fetchall()  # type: ignore[no-any-return]


def published(house: House) -> Path:
    return house.state / "lake" / "acme" / "published" / "prod" / "one" / "taken_away.csv"


def counts(house: House) -> tuple[int, int, int]:
    """The rows that people see: in the table, in the copy on the other warehouse, and in the file."""
    [(here,)] = house.query("SELECT count(*) FROM one.doubled")
    [(there,)] = elsewhere(house, "SELECT count(*) FROM reporting.totals")
    return here, there, len(published(house).read_text().splitlines()) - 1


async def repaired(house: House, **more: Any) -> Any:
    return await (await house.start("Repair", {"tenant": "acme", **more})).result()


async def test_a_file_that_cannot_follow_is_told_and_written_by_the_next_run(house: House) -> None:
    folder = published(house).parent
    folder.rename(folder.with_name("away"))
    folder.write_text("no folder can be made here")
    run = await house.run("one", parameters={"rows": 4, "to": "other"})
    assert run.outcome == "published"
    [said] = run.behind
    assert said.startswith("the file published/prod/one/taken_away.csv: ")
    assert house.query("SELECT status FROM entrepot.runs WHERE run = '" + run.run + "'") == [("completed",)]
    folder.unlink()
    again = await house.run("one", parameters={"rows": 4, "to": "other"})
    assert (again.outcome, again.behind) == ("nothing to do", [])
    assert counts(house) == (4, 4, 4)


async def test_a_view_on_another_warehouse_that_cannot_follow_is_told_and_moved_by_a_repair(house: House) -> None:
    elsewhere(house, "DROP VIEW reporting.totals; CREATE TABLE reporting.totals AS SELECT 1 AS mine")
    run = await house.run("one", parameters={"rows": 4, "to": "other"})
    assert run.outcome == "published"
    [said] = run.behind
    assert said.startswith("the views on other: ")
    assert house.query("SELECT count(*) FROM one.doubled") == [(4,)]
    looked = await repaired(house, dry_run=True)
    assert looked["found"] == [f"one in prod does not show all of what run {run.run} published"]
    elsewhere(house, "DROP TABLE reporting.totals")
    assert (await repaired(house))["left"] == []
    assert counts(house) == (4, 4, 4)
    assert (await repaired(house, dry_run=True))["found"] == []


async def test_a_rollback_that_cannot_be_followed_says_so_and_stands(house: House) -> None:
    await house.run("one", parameters={"rows": 4, "to": "other"})
    folder = published(house).parent
    folder.rename(folder.with_name("away"))
    folder.write_text("no folder can be made here")
    back = await (await house.start("Rollback", {"tenant": "acme", "pipeline": "one"})).result()
    assert [said.partition(":")[0] for said in back["behind"]] == ["the file published/prod/one/taken_away.csv"]
    folder.unlink()
    await repaired(house)
    assert counts(house) == (3, 3, 3)

"""Each name in a warehouse has one owner; what an environment showed before, and shows no more, is gone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
from temporalio.testing import WorkflowEnvironment

from entrepot.worker.config.tenant_schema import PipelineSection, TenantSection
from tests.conftest import House, serving, settings

OWNED = "tests.pipelines.owned"
PIPELINES = {name: f"{OWNED}:{name}" for name in ("one", "two", "hidden")}


class Houses:
    """Workers that serve the same warehouse, each with settings of its own."""

    def __init__(self, temporal: WorkflowEnvironment, folder: Path) -> None:
        self._client = temporal.client
        self.folder = folder

    def open(self, pipelines: dict[str, str] = PIPELINES, **schemas: str) -> AbstractAsyncContextManager[House]:
        tenant = TenantSection(
            backend={"type": "duckdb", "path": "acme.duckdb"},
            backends={"other": {"type": "duckdb", "path": "other.duckdb"}},
            pipelines=[*pipelines],
            settings={name: PipelineSection(schema=schemas.get(name)) for name in pipelines},
        )
        return serving(self._client, settings(self.folder, pipelines, acme=tenant))


@pytest.fixture
def houses(temporal: WorkflowEnvironment, tmp_path: Path) -> Houses:
    return Houses(temporal, tmp_path)


@pytest.fixture
async def house(houses: Houses) -> AsyncIterator[House]:
    async with houses.open() as house:
        yield house


def seen(house: House) -> set[str]:
    """The views of a warehouse, and the files that are published."""
    views = house.query("SELECT schema_name || '.' || view_name FROM duckdb_views() WHERE NOT internal")
    files = (house.state / "lake" / "acme" / "published").rglob("*.*")
    return {view for (view,) in views} | {str(path.relative_to(house.state / "lake" / "acme")) for path in files}


ONE = {"one.numbers", "one.doubled", "reporting.totals", "published/prod/one/taken_away.csv"}


async def refused(house: House, pipeline: str, **more: Any) -> str:
    failure = await house.fail(tenant="acme", pipeline=pipeline, **more)
    assert failure.type == "BadInput"
    return failure.message


async def test_a_second_owner_is_refused_by_the_plan_and_both_are_named(house: House) -> None:
    await house.run("one")
    said = await refused(house, "two", dry_run=True)
    assert "reporting.totals belongs to pipeline 'one' of tenant 'acme', environment 'prod'" in said
    assert "cannot belong to pipeline 'two' of tenant 'acme', environment 'prod' (which shows 'shared' there)" in said
    assert "entrepot env drop prod --pipeline one" in said
    assert house.query("SELECT count(*) FROM entrepot.versions WHERE pipeline = 'two'") == [(0,)]
    await house.run("two", environment="dev")  # there, it is reporting__dev.totals
    await house.run("two", parameters={"copy": "other_totals"})
    assert seen(house) >= ONE | {"reporting.other_totals", "reporting__dev.totals"}


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"schema": "two", "copy": "doubled"}, "two.doubled belongs to pipeline 'two'"),
        ({"schema": "TWO", "copy": "Doubled"}, "belongs to pipeline 'two'"),
        ({"schema": "entrepot", "copy": "environments"}, "the schema 'entrepot' holds Entrepot's own tables"),
        ({"schema": "two__v"}, "the schema 'two__v' is named as those of versions are"),
        ({"schema": "one", "copy": "doubled"}, "'doubled' and 'shared' would both be shown as one.doubled"),
        ({"to": "nowhere"}, "unknown backend 'nowhere'"),
    ],
)
async def test_a_copy_goes_over_nobody_elses_name(house: House, parameters: dict[str, str], said: str) -> None:
    await house.run("two", select="source doubled")
    assert said in await refused(house, "one", parameters=parameters)
    assert house.query("SELECT count(*) FROM entrepot.versions WHERE pipeline = 'one'") in ([(0,)], [(1,)])


async def test_what_the_code_does_not_show_is_refused_before_the_copy_is_made(house: House) -> None:
    await house.run("one")
    failure = await house.fail(tenant="acme", pipeline="hidden")
    assert "publish 'shared' (" in failure.message
    assert "reporting.totals belongs to pipeline 'one'" in failure.message
    assert house.query("SELECT name FROM entrepot.versions WHERE pipeline = 'hidden'") == [("numbers",)]


@pytest.mark.parametrize(("kind", "where"), [("TABLE", "one.doubled"), ("VIEW", "reporting.totals")])
async def test_what_somebody_made_by_hand_is_left_alone(house: House, kind: str, where: str) -> None:
    house.query("CREATE SCHEMA one; CREATE SCHEMA reporting")
    house.query(f"CREATE {kind} {where} AS SELECT 'mine' AS whose")
    said = await refused(house, "one")
    assert f"{where} is a {kind.lower()} that Entrepot has not made" in said
    assert "drop or rename it" in said
    assert house.query(f"SELECT whose FROM {where}") == [("mine",)]
    house.query(f"DROP {kind} {where}")
    await house.run("one")
    assert seen(house) == ONE


async def test_a_view_that_became_a_table_by_hand_is_told(house: House) -> None:
    await house.run("one")
    house.query("DROP VIEW one.doubled; CREATE TABLE one.doubled AS SELECT 1 AS n")
    assert "one.doubled is a table that Entrepot has not made" in await refused(house, "one")


@pytest.mark.parametrize("name", ["one.doubled", "reporting.totals"])
async def test_a_view_that_was_dropped_by_hand_is_there_after_the_next_run(house: House, name: str) -> None:
    await house.run("one")
    house.query(f"DROP VIEW {name}")
    run = await house.run("one")
    assert (run.outcome, run.steps) == ("published", [])
    assert seen(house) == ONE
    assert (await house.run("one")).outcome == "nothing to do"


@pytest.mark.parametrize(
    ("parameters", "instead"),
    [
        ({"copy": "sums"}, {"reporting.totals": "reporting.sums"}),
        ({"schema": "elsewhere"}, {"reporting.totals": "elsewhere.totals"}),
        ({"form": "parquet"}, {"published/prod/one/taken_away.csv": "published/prod/one/taken_away.parquet"}),
        ({"to": "other"}, {"reporting.totals": ""}),
    ],
)
async def test_what_is_shown_elsewhere_now_is_gone_from_where_it_was(
    house: House, parameters: dict[str, str], instead: dict[str, str]
) -> None:
    await house.run("one")
    await house.run("one", parameters=parameters)
    assert seen(house) == {instead.get(name, name) for name in ONE} - {""}
    await house.run("one")  # and back
    assert seen(house) == ONE


async def test_a_pipeline_that_moved_to_another_schema_leaves_nothing(houses: Houses) -> None:
    async with houses.open() as house:
        await house.run("one")
        await house.run("one", environment="dev")
    async with houses.open(one="moved") as house:
        run = await house.run("one")
        assert (run.outcome, run.steps) == ("published", [])
        moved = {name.replace("one.", "moved.") for name in ONE}
        assert {name for name in seen(house) if "dev" not in name} == moved
        assert (await house.run("one")).outcome == "nothing to do"


async def test_a_publish_step_that_was_dropped_leaves_nothing(houses: Houses) -> None:
    async with houses.open() as house:
        await house.run("one")
    async with houses.open({"one": f"{OWNED}:fewer"}) as house:
        await house.run("one")
        assert seen(house) == {"one.numbers", "one.doubled"}
        assert house.query("SELECT count(*) FROM entrepot.places WHERE environment = 'prod'") == [(2,)]


async def result(house: House, workflow: str, **value: Any) -> Any:
    return await (await house.start(workflow, {"tenant": "acme", **value})).result()


async def test_an_environment_is_dropped_and_only_that_one(house: House) -> None:
    for environment in ("prod", "dev"):
        await house.run("one", environment=environment)
    planned = await result(house, "Drop", environment="dev", dry_run=True)
    gone = {"one__dev.numbers", "one__dev.doubled", "reporting__dev.totals", "published/dev/one/taken_away.csv"}
    assert set(planned["removed"]["one"]) == gone
    assert seen(house) == ONE | gone
    assert (await result(house, "Drop", environment="dev"))["removed"] == planned["removed"]
    assert seen(house) == ONE
    assert house.query("SELECT count(*) FROM duckdb_schemas() WHERE schema_name LIKE '%__dev'") == [(0,)]
    for table in ("environments", "publishes", "ingest_states", "loads", "places"):
        assert house.query(f"SELECT count(*) FROM entrepot.{table} WHERE environment = 'dev'") == [(0,)], table
    assert (await house.run("one")).outcome == "nothing to do"
    assert (await house.run("one", environment="dev")).outcome == "published"
    assert seen(house) == ONE | gone


async def test_what_is_dropped_has_to_be_there_and_prod_needs_its_pipeline(house: House) -> None:
    await house.run("one")
    refused = await house.fail("Drop", tenant="acme", environment="dve")
    assert "unknown environment 'dve'. Known: 'prod'" in refused.message
    refused = await house.fail("Drop", tenant="acme", environment="prod")
    assert "name the pipeline whose 'prod' is to be dropped" in refused.message
    await result(house, "Drop", environment="prod", pipeline="one")
    assert seen(house) == set()


async def test_a_renamed_pipeline_takes_its_names_over_when_the_old_one_is_dropped(houses: Houses) -> None:
    async with houses.open() as house:
        await house.run("one")
    async with houses.open({"two": PIPELINES["two"]}, two="one") as house:  # `one` is called `two` now
        said = await refused(house, "two")
        assert "one__v belongs to pipeline 'one' of tenant 'acme'" in said
        assert "entrepot gc one --keep-days 0" in said
        await result(house, "Gc", pipeline="one", keep_days=0)
        await house.run("two")
        assert seen(house) == {name.replace("/one/", "/two/") for name in ONE}


async def test_collection_names_and_removes_what_forgotten_pipelines_show(houses: Houses) -> None:
    async with houses.open() as house:
        for name in ("one", "two"):
            await house.run(name, parameters={"copy": name})
    async with houses.open({"two": PIPELINES["two"]}) as house:
        waiting = await result(house, "Gc")
        shown = {"one.numbers", "one.doubled", "reporting.one", "published/prod/one/taken_away.csv"}
        assert (set(waiting["waiting"]), waiting["left"]) == (shown, [])
        planned = await result(house, "Gc", keep_days=0, dry_run=True)
        done = await result(house, "Gc", keep_days=0)
        assert set(planned["left"]) == set(done["left"]) == shown
        assert {name.partition("@")[0] for name in done["removed"]} == {
            f"one.{step}" for step in ("numbers", "doubled", "shared", "taken_away")
        }
        assert seen(house) == {"two.numbers", "two.doubled", "reporting.two", "published/prod/two/taken_away.csv"}
        assert house.query("SELECT count(*) FROM duckdb_schemas() WHERE schema_name = 'one__v'") == [(0,)]
        assert not list((house.state / "lake" / "acme").rglob("one/**/*.parquet"))
        refused = await house.fail("Gc", tenant="acme", pipeline="one")
        assert "unknown pipeline 'one'" in refused.message

"""Two tenants at the same time, on the demo's real data: each has its own warehouse, lake and numbers."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from temporalio.testing import WorkflowEnvironment

from entrepot.worker.config.tenant_schema import PipelineSection, TenantSection
from entrepot.workflows.progress import RunSummary
from tests.conftest import serving, settings


def tenant(name: str, late_after: int) -> TenantSection:
    return TenantSection(
        backend={"type": "duckdb", "path": f"{name}.duckdb"},
        pipelines=["flights"],
        settings={"flights": PipelineSection(parameters={"late_after": late_after})},
    )


@pytest.mark.slow
async def test_two_tenants_run_the_demo_at_once_and_see_nothing_of_each_other(
    temporal: WorkflowEnvironment, tmp_path: Path
) -> None:
    pipelines = {"flights": "entrepot.examples.flights.pipeline:flights"}
    loaded = settings(tmp_path, pipelines, acme=tenant("acme", 15), globex=tenant("globex", 30))
    async with serving(temporal.client, loaded) as house:
        handles = {
            name: await house.start("Pipeline", {"tenant": name, "pipeline": "flights"}) for name in ("acme", "globex")
        }
        ended = await asyncio.gather(*(handle.result() for handle in handles.values()))
        runs = {name: RunSummary.model_validate(each) for name, each in zip(handles, ended, strict=True)}
        assert [(run.tenant, run.outcome) for run in runs.values()] == [("acme", "published"), ("globex", "published")]
        late = "SELECT sum(late), sum(flights) FROM flights.hourly_delays"
        [(acme_late, acme_rows)], [(globex_late, globex_rows)] = house.query(late), house.query(late, "globex")
        assert acme_rows == globex_rows > 300_000
        assert acme_late > globex_late > 0
        for name, other in (("acme", "globex"), ("globex", "acme")):
            recorded = house.query("SELECT DISTINCT run FROM entrepot.runs", name)
            assert recorded == [(runs[name].run,)]
            attached = house.query("SELECT DISTINCT database_name FROM duckdb_tables() WHERE NOT internal", name)
            assert attached == [(name,)]
            assert runs[name].links
            assert all(f"/lake/{name}/" in link for link in runs[name].links.values())
            pages = [path.read_text(errors="replace") for path in (tmp_path / "lake" / name).rglob("*.html")]
            assert pages
            assert not any(other in page for page in pages)
            described = await handles[name].describe()
            attributes = {pair.key.name: pair.value for pair in described.typed_search_attributes}
            assert attributes["Tenant"] == name
        versions = {
            name: dict(house.query("SELECT name, version FROM entrepot.versions", name)) for name in ("acme", "globex")
        }
        same = {name for name, version in versions["acme"].items() if versions["globex"][name] == version}
        assert {"flights", "weather", "departures"} <= same  # the same is at the same address
        assert same.isdisjoint({"hourly_delays", "routes", "flight_features"})  # what is late is each one's choice
        assert (await house.run("flights", "globex")).outcome == "nothing to do"


async def test_a_tenant_runs_its_own_pipelines_in_its_own_environments(
    temporal: WorkflowEnvironment, tmp_path: Path
) -> None:
    shop = "tests.pipelines.shop:shop"
    acme = TenantSection(
        backend={"type": "duckdb", "path": "a.duckdb"},
        pipelines=["shop"],
        settings={"shop": PipelineSection(schema="sales", parameters={"rows": 40})},
        environments=["prod"],
    )
    globex = TenantSection(backend={"type": "duckdb", "path": "b.duckdb"}, pipelines=["slow"])
    loaded = settings(tmp_path, {"shop": shop, "slow": "tests.pipelines.slow:slow"}, acme=acme, globex=globex)
    async with serving(temporal.client, loaded) as house:
        await asyncio.gather(house.run("shop"), house.run("slow", "globex"))
        assert house.query("SELECT count(*) FROM sales.orders") == [(40,)]
        assert house.query("SELECT count(*) FROM slow.after", "globex") == [(100,)]
        refused = await house.fail(tenant="globex", pipeline="shop")
        assert "tenant 'globex': unknown pipeline 'shop'. Known: 'slow'" in refused.message
        refused = await house.fail(tenant="acme", pipeline="shop", environment="dev")
        assert "tenant 'acme': unknown environment 'dev'. Known: 'prod'" in refused.message


async def test_what_cannot_be_an_environment_starts_no_run(temporal: WorkflowEnvironment, tmp_path: Path) -> None:
    any_name = TenantSection(backend={"type": "duckdb", "path": "a.duckdb"}, environments=["*"])
    async with serving(temporal.client, settings(tmp_path, {"shop": "tests.pipelines.shop:shop"}, acme=any_name)) as it:
        for environment, said in [("v", "the schemas of versions end in '__v'"), ("pr_A", "'pr_A' and 'pr_a' are one")]:
            refused = await it.fail(tenant="acme", pipeline="shop", environment=environment)
            assert refused.type == "BadInput"
            assert said in refused.message
        assert (await it.run(environment="pr_a", dry_run=True)).outcome == "planned"

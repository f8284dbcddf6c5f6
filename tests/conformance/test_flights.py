"""The flights example, unchanged, whole on each backend: from raw files to published scores, back, and compared."""

from __future__ import annotations

from pathlib import Path

import pytest
from temporalio.testing import WorkflowEnvironment

from entrepot.activities.parity.digests import DigestedTable, common_kinds, digest_of
from entrepot.activities.runtime.tenant import PipelineSettings, Tenant, Tenants
from entrepot.backends import TableName
from entrepot.protocol.parity import ParityReport
from entrepot.registry import Registry
from entrepot.workflows.progress import RunSummary
from tests.conformance.target import Target
from tests.conftest import House, working

pytestmark = [pytest.mark.area("flights, whole"), pytest.mark.timeout(1500)]


async def test_flights(target: Target, temporal: WorkflowEnvironment, tmp_path: Path) -> None:
    schema = target.new_schema()
    target.adopt(f"{schema}__v")
    tenant = Tenant(
        "acme",
        target.settings,
        str(tmp_path / "lake"),
        {"flights": PipelineSettings(schema)},
        catalog_schema=target.schema,
        others={"reference": {"type": "duckdb", "path": str(tmp_path / "reference.duckdb")}},
    )
    registry = Registry({"flights": "entrepot.examples.flights.pipeline:flights"})
    async with working(temporal.client, Tenants({"acme": tenant}, registry), tmp_path) as house:
        first = await run(house)
        assert first.outcome == "published"
        notes = {step.name: step.note for step in first.steps}
        assert "in the warehouse as SQL" in notes["delay_risk"]
        assert (await run(house)).outcome == "nothing to do"

        view = TableName(schema, "monthly_delays")
        shown = digest(target, view)
        second = await run(house, parameters={"late_after": 60}, select="monthly_delays")
        assert second.moved == ["monthly_delays"]
        assert digest(target, view) != shown
        await (await house.start("Rollback", {"tenant": "acme", "pipeline": "flights"})).result()
        assert digest(target, view) == shown

        handle = await house.start("Parity", {"tenant": "acme", "pipeline": "flights"})
        report = ParityReport.model_validate(await handle.result())
        assert len(report.tables) == 18
        assert {t.name: side.why for t in report.tables for side in t.sides if not side.agrees} == {}


async def run(house: House, **more: object) -> RunSummary:
    return await house.run("flights", **more)


def digest(target: Target, view: TableName) -> str:
    with target.session() as session:
        columns = session.describe(view)
        kinds = {name: kind for name, kind in common_kinds([columns]).items() if kind is not None}
        return digest_of(DigestedTable(session, view, columns), kinds).hex

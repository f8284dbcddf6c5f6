"""Environments, on each backend: made of one another, compared down to the cells, promoted, rolled back and dropped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from temporalio.client import WorkflowFailureError
from temporalio.testing import WorkflowEnvironment

from entrepot.activities.catalog.records import failed_environment
from entrepot.activities.runtime.tenant import PipelineSettings, Tenant, Tenants
from entrepot.backends import TableName
from entrepot.backends.base import count, physical
from entrepot.protocol.environments import EnvironmentDiff
from entrepot.registry import Registry
from tests.conformance.target import Target
from tests.conformance.values import rows_of
from tests.conftest import working

pytestmark = [pytest.mark.area("Environments, and changes before they are shown"), pytest.mark.timeout(900)]

SELECT = "source priced listed reshaped not_dear"


async def test_environments(target: Target, temporal: WorkflowEnvironment, tmp_path: Path) -> None:
    schema = target.new_schema()
    for suffix in ("v", "dev"):
        target.adopt(f"{schema}__{suffix}")
    pipelines = {"compared": PipelineSettings(schema)}
    tenant = Tenant(
        "acme", target.settings, str(tmp_path / "lake"), pipelines, catalog_schema=target.schema, environments=("*",)
    )
    tenants = Tenants({"acme": tenant}, Registry({"compared": "tests.pipelines.compared:compared"}))
    asked = {"tenant": "acme", "pipeline": "compared"}

    def price(environment: str = "") -> float:
        with target.session() as session:
            view = TableName(schema + environment, "priced")
            rows = physical(view, session.describe(view, ["id", "price"]))
            ((found,),) = rows_of(session.fetch(rows.filter(rows.id == 3).select("price")))
            return float(found)

    async with working(temporal.client, tenants, tmp_path) as house:

        async def done(workflow: str, **value: Any) -> Any:
            return await (await house.start(workflow, {"tenant": "acme", **value})).result()

        async def diff(environment: str) -> EnvironmentDiff:
            found = await done("Diff", pipeline="compared", environment=environment, against="prod")
            return EnvironmentDiff.model_validate(found)

        await house.run("compared", select=SELECT)
        assert (await done("Create", environment="dev"))["shows"] == {
            "compared": ["listed", "priced", "raw", "reshaped"]
        }
        assert price("__dev") == price() == 0.375
        run = await house.run("compared", environment="dev", select=SELECT, parameters={"at": 3, "price": 0.5})
        assert [step.name for step in run.steps if step.kind == "transform"] == ["priced"]
        found = await diff("dev")
        (changed,) = found.changed
        assert changed.rows is not None
        assert [(cell.key, cell.column, cell.left, cell.right) for cell in changed.rows.cells] == [
            ({"id": "3"}, "price", "0.5", "0.375")
        ]
        moved = await done("Promote", pipeline="compared", like="dev", expect=found.seen)
        assert moved["moved"] == ["priced"]
        assert price() == 0.5
        await done("Rollback", pipeline="compared")
        assert price() == 0.375

        wanted = {**asked, "select": SELECT, "parameters": {"at": 3, "price": 20_000.0}}
        handle = await house.start("Pipeline", wanted)
        with pytest.raises(WorkflowFailureError):
            await handle.result()
        left = await diff(failed_environment(str(handle.first_execution_run_id)))
        assert [each.rows.cells[0].left for each in left.changed if each.rows] == ["20000.0"]

        await done("Drop", environment="dev")
        with target.session() as session:
            assert not session.tables(f"{schema}__dev")
            assert count(session, physical(TableName(schema, "priced"), session.describe(TableName(schema, "priced"))))

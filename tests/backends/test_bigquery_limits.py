"""Where the warehouse tells before what a step would read, a tenant's limits hold, and what was read is recorded."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from temporalio.testing import WorkflowEnvironment

from entrepot.activities.runtime.tenant import Limits, PipelineSettings, Tenant, Tenants
from entrepot.backends import QueryTag
from entrepot.registry import Registry
from tests.conftest import working

pytestmark = pytest.mark.timeout(900)


async def test_a_tenant_limits_what_a_step_and_a_run_read(
    standin: Callable[[str], Mapping[str, Any]], temporal: WorkflowEnvironment, tmp_path: Path
) -> None:
    tenant = Tenant("acme", standin("bigquery"), str(tmp_path / "lake"), {"shop": PipelineSettings("limited")})
    registry = Registry({"shop": "tests.pipelines.shop:shop"})

    async def fail(limits: Limits) -> str:
        limited = replace(tenant, limits=limits)
        async with working(temporal.client, Tenants({"acme": limited}, registry), tmp_path) as house:
            failure = await house.fail(tenant="acme", pipeline="shop")
            assert failure.type == "LimitExceeded"
            return failure.message

    said = await fail(Limits(bytes_per_step=1000))
    assert "transform 'orders'" in said
    assert "it would read " in said
    assert "the limit of tenant 'acme' for a step is 1 KB; it was not started" in said
    said = await fail(Limits(bytes_per_run=30_000))
    assert "that this run has read, and the limit of tenant 'acme' for a run is 30 KB; it was not started" in said
    async with working(temporal.client, Tenants({"acme": tenant}, registry), tmp_path) as house:
        summary = await house.run()
        assert summary.outcome == "published"
    with tenant.backend.session(QueryTag("acme", "test", "test")) as session:
        (row,) = session.query("SELECT max(scanned) AS scanned FROM entrepot.versions")
        assert row["scanned"] > 0
        (row,) = session.query("SELECT summary FROM entrepot.runs WHERE status = 'completed'")
        assert any(step.get("scanned") for step in json.loads(row["summary"]).values())

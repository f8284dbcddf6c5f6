"""Who is known to depend on a product."""

from __future__ import annotations

from pathlib import Path

import pytest

from entrepot.activities.maintenance.products.gate import ProductGate, consumers
from entrepot.planning.products.contract import ProductContract
from entrepot.protocol.messages import Target
from entrepot.worker.config.tenant_schema import PipelineSection, TenantSection
from entrepot.worker.config.trigger_schema import TriggerSection
from tests.conftest import settings

CONTRACT = ProductContract(version="1.0.0", columns={"id": "int64"}, consumers=("bi",), shown_by=("board", "gone"))


def tenant(pipeline: str, section: PipelineSection) -> TenantSection:
    backend = {"type": "duckdb", "path": f"{pipeline}.duckdb"}
    return TenantSection(backend=backend, pipelines=[pipeline], settings={pipeline: section})


@pytest.mark.parametrize("environment", ["prod", "pr_1"])
def test_consumers_are_named_or_seen(tmp_path: Path, environment: str) -> None:
    known = {"shop": "tests.pipelines.shop:shop", "guarded": "tests.pipelines.guarded:guarded"}
    waiting = PipelineSection(trigger=TriggerSection(published=["acme/shop"]))
    loaded = settings(
        tmp_path,
        known,
        acme=tenant("shop", PipelineSection(grants=["globex", "initech"])),
        globex=tenant("guarded", waiting),
        initech=tenant("guarded", PipelineSection()),
    )
    tenants = loaded.connect()
    target = Target(tenant="acme", pipeline="shop", environment=environment)
    graph = tenants.pipeline("acme", "shop").graph
    assert consumers(tenants, target, graph, CONTRACT) == [
        "bi",
        "publish step 'board'",
        "pipeline globex/guarded",
        "tenant initech",
    ]
    gate = ProductGate(tenants, target, graph, {"orders": CONTRACT})
    (said,) = gate.refused({"orders": None})
    assert said == (
        f"product 'orders' 1.0.0, as {environment} shows it, would break: it is no product any more. It has consumers: "
        "bi, publish step 'board'; keep it, or publish it without them first"
    )
    assert gate.refused({"orders": CONTRACT, "other": None}) == []
    (said,) = gate.refused({"orders": CONTRACT.model_copy(update={"columns": {}})})
    assert "tenant initech; keep what it promises, or declare version '2.0.0'" in said

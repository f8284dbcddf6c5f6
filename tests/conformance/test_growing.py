"""Tables that grow, on each backend: appended, merged with what is nested in them, kept with their history."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ibis
import pytest
from ibis import _
from temporalio.testing import WorkflowEnvironment

from entrepot.activities.runtime.tenant import PipelineSettings, Tenant, Tenants
from entrepot.backends import TableName
from entrepot.backends.base import physical
from entrepot.registry import Registry
from tests.conformance.target import Target
from tests.conformance.values import rows_of
from tests.conftest import working

pytestmark = pytest.mark.timeout(900)

Loads = list[dict[str, list[dict[str, Any]]]]
Rows = list[tuple[Any, ...]]

EVENTS = [{"id": n, "kind": "ab"[n % 2]} for n in range(1, 8)]


def events(table: Callable[[str, str], ibis.Table]) -> ibis.Table:
    return table("events", "id").select("id", "kind")


def customers(table: Callable[[str, str], ibis.Table]) -> ibis.Table:
    return table("customers", "id").select("id", "name")


def items(table: Callable[[str, str], ibis.Table]) -> ibis.Table:
    orders, nested = table("orders", "id"), table("orders__items", "sku")
    return orders.left_join(nested, orders["_dlt_id"] == nested["_dlt_parent_id"]).select(orders["id"], nested["sku"])


def prices(table: Callable[[str, str], ibis.Table]) -> ibis.Table:
    return table("prices", "item").select("item", "price", holds=_.valid_to.isnull())


CASES: dict[str, tuple[Loads, Any, Rows]] = {
    "append": (
        [{"events": EVENTS[:3]}, {"events": EVENTS[:5]}, {"events": EVENTS}],
        events,
        [(n, "ab"[n % 2]) for n in range(1, 8)],
    ),
    "merge with deletions": (
        [
            {"customers": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}, {"id": 3, "name": "c"}]},
            {"customers": [{"id": 2, "name": "B"}, {"id": 3, "name": "c", "gone": True}, {"id": 4, "name": "d"}]},
        ],
        customers,
        [(1, "a"), (2, "B"), (4, "d")],
    ),
    "merge with nested rows": (
        [
            {"orders": [{"id": 1, "items": [{"sku": "x"}, {"sku": "y"}]}, {"id": 2, "items": [{"sku": "z"}]}]},
            {"orders": [{"id": 1, "items": [{"sku": "w"}]}, {"id": 3, "items": [{"sku": "v"}]}]},
        ],
        items,
        [(1, "w"), (2, "z"), (3, "v")],
    ),
    "history of changes": (
        [
            {"prices": [{"item": "pen", "price": 1}, {"item": "ink", "price": 5}]},
            {"prices": [{"item": "pen", "price": 2}, {"item": "cap", "price": 9}]},
        ],
        prices,
        [("cap", 9, True), ("ink", 5, False), ("pen", 1, False), ("pen", 2, True)],
    ),
}


@pytest.mark.area("Append, merge with deletions and with nested rows, history of changes")
@pytest.mark.parametrize("kind", CASES)
async def test_growing(target: Target, temporal: WorkflowEnvironment, tmp_path: Path, kind: str) -> None:
    loads, shown, expected = CASES[kind]
    schema = target.new_schema()
    target.adopt(f"{schema}__v")
    source = tmp_path / "source"
    source.mkdir()
    pipelines = {"growing": PipelineSettings(schema)}
    tenant = Tenant("acme", target.settings, str(tmp_path / "lake"), pipelines, catalog_schema=target.schema)
    tenants = Tenants({"acme": tenant}, Registry({"growing": "tests.pipelines.growing:growing"}))
    async with working(temporal.client, tenants, tmp_path) as house:

        async def load(**more: Any) -> str:
            parameters = {"folder": str(source)}
            return (await house.run("growing", select=next(iter(loads[0])), parameters=parameters, **more)).outcome

        for each in loads:
            for name, rows in each.items():
                Path(source, f"{name}.json").write_text(json.dumps(rows))
            assert await load() == "published"
        assert await load() == "nothing to do"
        with target.session() as session:

            def table(name: str, *columns: str) -> ibis.Table:
                return physical(TableName(schema, name), session.describe(TableName(schema, name), columns))

            assert sorted(rows_of(session.fetch(shown(table))), key=str) == expected

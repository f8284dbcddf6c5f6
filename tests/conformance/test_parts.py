"""Tables that are computed by parts, on each backend: after each load they are as they would be as a whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from temporalio.testing import WorkflowEnvironment

from entrepot.activities.runtime.tenant import PipelineSettings, Tenant, Tenants
from entrepot.backends import TableName
from entrepot.backends.base import physical
from entrepot.registry import Registry
from tests.conformance.target import Target
from tests.conformance.values import rows_of
from tests.conftest import working

pytestmark = pytest.mark.timeout(900)

TABLES = {
    "daily": ("day", "shop", "total", "n"),
    "beside": ("day", "shop", "total", "visits", "country"),
    "hourly": ("id", "hour", "amount"),
    "numbered": ("id", "customer", "number"),
}
"""Each with its columns. Windows over a range of days are not among them: Databricks has none over dates."""


def _order(number: int, at: str, shop: str, customer: int, **more: Any) -> dict[str, Any]:
    return {"id": number, "at": at, "shop": shop, "customer": customer, "amount": number % 5 + 2, **more}


LOADS: list[dict[str, list[dict[str, Any]]]] = [
    {
        "orders": [_order(n, f"2026-01-{1 + n % 5:02}T{n % 24:02}:30:00", "ab"[n % 2], n % 3) for n in range(20)],
        "visits": [{"day": f"2026-01-{day:02}", "shop": "a", "n": day} for day in range(1, 6)],
        "shops": [{"shop": "a", "country": "CH"}, {"shop": "b", "country": "FR"}],
    },
    {
        "orders": [
            _order(3, "2026-01-02T09:15:00", "b", 1),  # it was another day's
            _order(4, "2026-01-05T10:00:00", "a", 1, gone=True),
            _order(30, "2026-02-01T00:00:00", "a", 5),
        ],
        "visits": [{"day": "2026-01-03", "shop": "b", "n": 7}],
    },
    {"orders": [_order(31, "2025-12-31T23:59:59", "b", 0)], "visits": []},
]


@pytest.mark.area("Tables that are computed by intervals of time and by key")
async def test_by_parts_is_as_a_whole(target: Target, temporal: WorkflowEnvironment, tmp_path: Path) -> None:
    schema = target.new_schema()
    target.adopt(f"{schema}__v")
    source = tmp_path / "source"
    source.mkdir()
    pipelines = {"parts": PipelineSettings(schema)}
    tenant = Tenant("acme", target.settings, str(tmp_path / "lake"), pipelines, catalog_schema=target.schema)
    tenants = Tenants({"acme": tenant}, Registry({"parts": "tests.pipelines.parts:parts"}))
    select = " ".join(["source", *TABLES, *(f"{name}_whole" for name in TABLES)])
    async with working(temporal.client, tenants, tmp_path) as house:
        for number, load in enumerate(LOADS):
            for name, rows in load.items():
                Path(source, f"{name}.json").write_text(json.dumps(rows))
            run = await house.run("parts", select=select, parameters={"folder": str(source)})
            said = {step.name: step.note for step in run.steps if step.name in TABLES}
            assert {*said} == {*TABLES}
            assert all(note.endswith("anew") == (number > 0) for note in said.values()), said
            with target.session() as session:
                for name, columns in TABLES.items():
                    pair = [TableName(schema, each) for each in (name, f"{name}_whole")]
                    found = [rows_of(session.fetch(physical(t, session.describe(t, columns)))) for t in pair]
                    assert sorted(found[0], key=str) == sorted(found[1], key=str), name

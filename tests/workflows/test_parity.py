"""The same pipeline over the same load on several warehouses: here two DuckDB files, one of which can be led astray."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from temporalio.testing import WorkflowEnvironment

from activities.messages import ParityReport
from tests.conftest import House, serving, settings
from worker.sections import TenantSection


@pytest_asyncio.fixture
async def two(temporal: WorkflowEnvironment, tmp_path: Path) -> AsyncIterator[House]:
    """The shop for a tenant with two DuckDB files."""
    section = TenantSection(
        backend={"type": "duckdb", "path": "acme.duckdb"},
        backends={"other": {"type": "duckdb", "path": "other.duckdb"}},
    )
    async with serving(
        temporal.client, settings(tmp_path, {"shop": "tests.pipelines.shop:shop"}, acme=section)
    ) as house:
        yield house


async def parity(house: House, **more: object) -> ParityReport:
    handle = await house.start("Parity", {"tenant": "acme", "pipeline": "shop", **more})
    return ParityReport.model_validate(await handle.result())


async def test_two_warehouses_agree(two: House) -> None:
    report = await parity(two)
    assert report.agrees
    assert report.on == ("duckdb", "other")
    print([t.name for t in report.tables], report.seconds, report.link)
    assert {side.verdict for table in report.tables for side in table.sides} == {"agrees"}
    again = await parity(two)
    assert all(side.certified for table in again.tables for side in table.sides)

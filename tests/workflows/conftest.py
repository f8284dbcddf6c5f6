"""What tests of whole runs share, beside what all tests do."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio
from temporalio.testing import WorkflowEnvironment

from entrepot.worker.config.tenant_schema import TenantSection
from tests.conftest import serving, settings
from tests.workflows.ingesting import Ingesting


@pytest_asyncio.fixture
async def ingesting(temporal: WorkflowEnvironment, tmp_path: Path) -> AsyncIterator[Ingesting]:
    """The pipeline with every kind of source, for the tenant acme."""
    folder = tmp_path / "source"
    folder.mkdir()
    async with serving(temporal.client, settings(tmp_path, {"ingested": "tests.pipelines.ingested:ingested"})) as house:
        yield Ingesting(house, folder)


@pytest_asyncio.fixture
async def ingesting_into_two(temporal: WorkflowEnvironment, tmp_path: Path) -> AsyncIterator[Ingesting]:
    """The same for a tenant with two warehouses, whose lake is no folder of this machine."""
    folder = tmp_path / "source"
    folder.mkdir()
    section = TenantSection(
        backend={"type": "duckdb", "path": "acme.duckdb"},
        backends={"other": {"type": "duckdb", "path": "other.duckdb"}},
        lake=f"elsewhere://{tmp_path}/elsewhere",
    )
    known = {"ingested": "tests.pipelines.ingested:ingested"}
    async with serving(temporal.client, settings(tmp_path, known, acme=section)) as house:
        yield Ingesting(house, folder)

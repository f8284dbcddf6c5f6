"""What tests of whole runs share, beside what all tests do."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio
from temporalio.testing import WorkflowEnvironment

from tests.conftest import serving, settings
from tests.workflows.ingesting import Ingesting


@pytest_asyncio.fixture
async def ingesting(temporal: WorkflowEnvironment, tmp_path: Path) -> AsyncIterator[Ingesting]:
    """The pipeline with every kind of source, for the tenant acme."""
    folder = tmp_path / "source"
    folder.mkdir()
    async with serving(temporal.client, settings(tmp_path, {"ingested": "tests.pipelines.ingested:ingested"})) as house:
        yield Ingesting(house, folder)

"""Servers of Temporal for tests. Their clients are made as all of Entrepot's are."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from temporalio.testing import WorkflowEnvironment

from entrepot.worker.client import OPTIONS
from entrepot.worker.local.dev import temporal_binary


@asynccontextmanager
async def dev_server(**options: Any) -> AsyncIterator[WorkflowEnvironment]:
    """Temporal's dev server, in memory."""
    binary = temporal_binary()
    async with await WorkflowEnvironment.start_local(dev_server_existing_path=binary, **OPTIONS, **options) as server:
        yield server


@asynccontextmanager
async def skipping_server() -> AsyncIterator[WorkflowEnvironment]:
    """A server whose time passes at once when nobody works."""
    places = os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", "")])
    binary = shutil.which("temporal-test-server", path=places)
    async with await WorkflowEnvironment.start_time_skipping(test_server_existing_path=binary, **OPTIONS) as server:
        yield server

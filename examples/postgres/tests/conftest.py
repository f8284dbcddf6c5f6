"""What the tests share: one PostgreSQL server for the session."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.servers.postgres import Server, running


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A PostgreSQL server of the session's own."""
    with running() as made:
        yield made

"""What pytest gets from Entrepot, by the entry point `pytest11`. Every run of pytest imports it, so it is light."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from entrepot.testing.sessions import Session


@pytest.fixture(scope="session")
def in_memory() -> Iterator[Session]:
    """A DuckDB in memory for all tests: `in_memory.compute(...)` is faster than `compute(...)`, and gives the same."""
    from entrepot.testing.sessions import Session

    with Session() as session:
        yield session

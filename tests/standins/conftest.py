"""Running stand-ins for the tests of this folder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Standin = Callable[[str], dict[str, Any]]


@pytest.fixture(scope="session")
def snowflake(standin: Standin) -> dict[str, Any]:
    return standin("snowflake")


@pytest.fixture(scope="session")
def bigquery(standin: Standin) -> dict[str, Any]:
    return standin("bigquery")

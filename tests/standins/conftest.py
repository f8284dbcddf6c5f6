"""Running stand-ins for the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests import standins


def served(name: str, factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """The settings of a stand-in that runs; a skip with the reason where it cannot (in CI, a failure)."""
    try:
        with standins.running(name, standins.default_home(), factory.mktemp(name)) as settings:
            yield settings
    except standins.NotAvailable as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def snowflake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    yield from served("snowflake", tmp_path_factory)


@pytest.fixture(scope="session")
def bigquery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    yield from served("bigquery", tmp_path_factory)

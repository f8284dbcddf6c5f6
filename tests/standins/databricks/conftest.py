"""A running stand-in for the tests of this folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from databricks import sql


@pytest.fixture(scope="session")
def settings(standin: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
    """What reaches the stand-in, as a tenant's settings say it."""
    return standin("databricks")


@pytest.fixture
def connect(settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Any]]:
    """Opens connections with Databricks' own client, and closes them at the end."""
    opened = []

    def connect(**options: Any) -> Any:
        usual = {
            "server_hostname": settings["host"],
            "http_path": settings["http_path"],
            "access_token": "x",
            "_connection_uri": settings["uri"],
            "use_cloud_fetch": False,
            "enable_telemetry": False,
            "catalog": "main",
            "staging_allowed_local_path": str(tmp_path_factory.getbasetemp()),
            # The client waits for the longest delay that it is given, whatever Retry-After says.
            "_retry_delay_max": 5,
        }
        connection = sql.connect(**{**usual, **options})
        opened.append(connection)
        return connection

    yield connect
    for connection in opened:
        connection.close()

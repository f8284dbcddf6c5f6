"""Running stand-ins for the tests of this folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

Standin = Callable[[str], dict[str, Any]]


@pytest.fixture(scope="session")
def snowflake(standin: Standin) -> dict[str, Any]:
    return standin("snowflake")


@pytest.fixture(scope="session")
def bigquery(standin: Standin) -> dict[str, Any]:
    return standin("bigquery")


@pytest.fixture(scope="session")
def databricks(standin: Standin) -> dict[str, Any]:
    return standin("databricks")


@pytest.fixture
def connect(databricks: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Any]]:
    """Opens connections with Databricks' own client, and closes them at the end."""
    from databricks import sql

    opened = []

    def connect(**options: Any) -> Any:
        usual = {
            "server_hostname": databricks["host"],
            "http_path": databricks["http_path"],
            "access_token": "x",
            "_connection_uri": databricks["uri"],
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

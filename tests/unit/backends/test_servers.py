"""Where tables are, as files of contracts say it: valid by the standard, and without a secret."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from open_data_contract_standard.model import OpenDataContractStandard

from entrepot import backends
from entrepot.backends import Backend

SETTINGS: dict[str, dict[str, Any]] = {
    "duckdb": {"path": "/data/acme.duckdb", "memory_limit": "1GB"},
    "snowflake": {"account": "ab-12", "user": "bot", "database": "sales", "warehouse": "w", "password": "env:SECRET"},
    "bigquery": {"project": "acme-1", "credentials": "env:SECRET"},
    "databricks": {
        "host": "dbc-1.cloud.databricks.com",
        "http_path": "/sql/1.0/warehouses/1",
        "catalog": "main",
        "volume": "main.a.b",
        "token": "env:SECRET",
    },
}
SERVERS: dict[str, dict[str, str]] = {
    "duckdb": {"type": "duckdb", "database": "/data/acme.duckdb"},
    "snowflake": {
        "type": "snowflake",
        "host": "ab-12.snowflakecomputing.com",
        "account": "ab-12",
        "database": "sales",
        "warehouse": "w",
    },
    "bigquery": {"type": "bigquery", "project": "acme-1", "dataset": "shop"},
    "databricks": {"type": "databricks", "host": "dbc-1.cloud.databricks.com", "catalog": "main"},
}


@pytest.mark.parametrize("kind", SETTINGS)
def test_a_server_is_one_of_the_standard_and_has_no_secret(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "hidden")
    backend = backends.create({"type": kind, **SETTINGS[kind]}, "test")
    server = backend.server("shop")
    assert server == ({"schema": "shop"} if kind != "bigquery" else {}) | SERVERS[kind]
    check_valid(server)
    check_valid(Backend.server(backend, "shop"))  # that of a backend of somebody else's


def check_valid(server: dict[str, str]) -> None:
    document = {"apiVersion": "v3.1.0", "kind": "DataContract", "id": "x", "version": "1.0.0", "status": "active"}
    document |= {"servers": [{"server": "prod", **server}]}  # type: ignore[dict-item]
    jsonschema.validate(document, json.loads(OpenDataContractStandard.json_schema()))
    assert "SECRET" not in str(server)
    assert "hidden" not in str(server)

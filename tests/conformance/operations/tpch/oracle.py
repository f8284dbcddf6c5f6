"""What the queries give: plain SQL, which DuckDB computes of the same rows without ibis, to the last digit."""

from __future__ import annotations

import functools
import re
from pathlib import Path

import duckdb

from tests.conformance.operations.tpch.data import TABLES
from tests.conformance.values import Row

SQL = Path(__file__).parent / "queries.sql"
NAME = re.compile(r"^-- (q\d\d)$", re.MULTILINE)


@functools.cache
def results() -> dict[str, list[Row]]:
    """The rows of each query, in its order."""
    _, *parts = NAME.split(SQL.read_text())
    with duckdb.connect() as connection:
        for name, table in TABLES.items():
            connection.register(name, table.arrow())
        return {name: connection.execute(sql).fetchall() for name, sql in zip(parts[::2], parts[1::2], strict=True)}

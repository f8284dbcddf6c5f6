"""A small pipeline for warehouses where each statement takes its time: what is appended, merged and computed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import duckdb
from ibis import _

from entrepot import ByKey, Pipeline, Table
from tests.crash import pipeline

TABLES = ("visits", "customers")
Rows = Counter[tuple[tuple[str, int], ...]]

small = Pipeline("small", description="Two tables that grow, and one computed from them")


@small.ingest(tables=list(TABLES))
def shop() -> Any:
    return pipeline.resources(TABLES)


@small.transform(incremental=ByKey("price"))
def totals(visits: Table) -> Table:
    return visits.group_by("price").agg(rows=_.count(), total=_.x.sum())


def expected(batches: int) -> dict[str, Rows]:
    """What people see after so many batches: each row that was brought, and of customers the newest by their id."""
    brought = [row for batch in range(1, batches + 1) for row in pipeline.rows_of(batch)]
    groups: dict[int, dict[str, int]] = {}
    for row in brought:
        group = groups.setdefault(row["price"], {"price": row["price"], "rows": 0, "total": 0})
        group["rows"] += 1
        group["total"] += row["x"]
    newest = {row["id"]: row for row in brought}
    return {
        "visits": counted(brought),
        "customers": counted(list(newest.values())),
        "totals": counted(list(groups.values())),
    }


def seen(folder: Path) -> dict[str, Rows]:
    """What people see in a case's DuckDB file."""
    with duckdb.connect(str(folder / "acme.duckdb"), read_only=True) as connection:
        found = {table: connection.sql(f"FROM small.{table}").to_arrow_table() for table in expected(1)}
    return {table: counted(rows.to_pylist()) for table, rows in found.items()}


def counted(rows: list[dict[str, Any]]) -> Rows:
    """Rows of whole numbers and booleans, whatever a warehouse calls and orders their columns."""
    return Counter(tuple(sorted((name.lower(), int(value)) for name, value in row.items())) for row in rows)

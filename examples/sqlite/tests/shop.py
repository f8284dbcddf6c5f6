"""A pipeline that a package of this kind serves."""

from __future__ import annotations

from entrepot import Pipeline

from entrepot_sqlite import SqliteTable

shop = Pipeline("ingested", description="Orders of a SQLite file", parameters={"folder": "", "options": {}})


@shop.ingest(tables=["orders"])
def orders(folder: str, options: dict[str, str]) -> SqliteTable:
    return SqliteTable(f"{folder}/shop.sqlite", **options)

"""A tenant's tables in a notebook, by ibis's own API."""

from __future__ import annotations

from pathlib import Path

import ibis
import pytest

from tests.conftest import House


@pytest.mark.fast
async def test_ibis_lists_and_reads_the_tables_of_a_tenant(shop: House, tmp_path: Path) -> None:
    await shop.run()
    shop.tenants.get("acme").backend.close()  # as a worker does when nobody uses the file
    con = ibis.duckdb.connect(tmp_path / "acme.duckdb", read_only=True)
    assert {"shop", "shop__v", "entrepot"} <= set(con.list_databases())
    assert {"orders", "by_country"} <= set(con.list_tables(database="shop"))
    orders = con.table("orders", database="shop")
    assert orders.count().execute() == 600
    assert set(orders.group_by("country").agg(n=ibis._.count()).to_pandas().columns) == {"country", "n"}
    con.disconnect()

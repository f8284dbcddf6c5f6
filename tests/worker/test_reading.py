"""What an environment shows, read as notebooks and `entrepot show` do."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ibis
import pytest
from ibis import _

import entrepot
from entrepot import BadInput, Table
from entrepot.worker import reading
from tests.conftest import House
from tests.worker.processes import ROOT, TENANTS


def large_by_country(orders: Table, by_country: Table) -> Table:
    large = orders.filter(_.is_large).group_by("country").agg(large=_.count())
    return by_country.join(large, "country").select("country", "orders", "large").order_by("country")


async def test_what_is_shown_is_read_and_what_is_not_is_refused_with_what_is(shop: House, tmp_path: Path) -> None:
    (tmp_path / "tenants.toml").write_text(TENANTS)
    acme = shop.tenants.get("acme")
    where: dict[str, Any] = {"tenants": str(tmp_path / "tenants.toml"), "state": str(tmp_path)}

    def rows(table: str = "orders", pipeline: str = "shop", environment: str = "prod", condition: str = "") -> Any:
        return reading.rows(acme, pipeline, table, environment, condition, 1000)[1]

    def refused(sentence: str, asked: Callable[..., Any], *arguments: Any, **more: Any) -> None:
        with pytest.raises(BadInput) as caught:
            asked(*arguments, **more)
        assert sentence in str(caught.value)

    refused("tenant 'acme': nothing was published yet in the file ", rows)
    await shop.run(parameters={"rows": 90})
    await shop.run(parameters={"rows": 80}, environment="dev")

    assert reading.read("orders", "shop", **where).num_rows == len(rows()) == 90
    assert reading.read("orders", "shop", environment="dev", **where).num_rows == len(rows(environment="dev")) == 80
    counted = reading.read(large_by_country, "shop", **where).to_pylist()
    assert counted == [
        {
            "country": country,
            "orders": len(rows(condition=f"country = '{country}'")),
            "large": len(rows(condition=f"COUNTRY = '{country}' AND Is_Large")),
        }
        for country in ("DE", "FR", "IT")
    ]
    assert reading.rows(acme, "shop", "orders", "prod", "id > 85", 3)[0][:2] == ["id", "country"]
    assert len(reading.rows(acme, "shop", "orders", "prod", "id > 85", 3)[1]) == 3

    refused("unknown table 'odrers'; did you mean 'orders'", rows, "odrers")
    refused("unknown table 'odrers'; did you mean 'orders'", reading.read, lambda odrers: odrers, "shop", **where)
    refused("'return_model' is no table; tables: 'by_country', ", rows, "return_model")
    refused("unknown pipeline 'shpo'; did you mean 'shop'?", rows, pipeline="shpo")
    refused("unknown environment 'dve'; did you mean 'dev'? Known: 'dev', 'prod'", rows, environment="dve")
    refused("unknown column 'contry'; did you mean 'country'", rows, condition="contry = 'DE'")
    for wrong in ("id =", "1 = 1; DROP TABLE orders", ")", "select 1"):
        refused(f"the condition {wrong!r} is ", rows, condition=wrong)
    refused("is more than a condition over the table's columns", rows, condition="id IN (SELECT 1)")


HOLDING = """
import sys
import entrepot

with entrepot.open("acme", tenants=sys.argv[1], state=sys.argv[2]) as acme:
    orders = acme["shop"].table("orders")
    print(orders.count().execute(), flush=True)
    sys.stdin.readline()
    print(orders.count().execute(), acme["shop"].table("orders").count().execute())
"""


async def test_an_open_tenant_has_real_tables_of_any_version(shop: House, tmp_path: Path) -> None:
    (tmp_path / "tenants.toml").write_text(TENANTS)
    where: dict[str, Any] = {"tenants": str(tmp_path / "tenants.toml"), "state": str(tmp_path)}
    await shop.run(parameters={"rows": 90})
    [(before,)] = shop.query("SELECT version FROM entrepot.versions WHERE name = 'orders'")
    await shop.run(parameters={"rows": 80})
    await shop.run(parameters={"rows": 70}, environment="dev")
    with entrepot.open("acme", **where) as acme:
        shown = acme["shop"]
        orders = shown.table("orders")
        assert isinstance(orders, ibis.Table)
        assert orders.count().execute() == 80
        assert shown.table("orders", environment="dev").to_pandas().shape[0] == 70
        assert shown.table("orders", version=before).to_pyarrow().num_rows == 90
        assert shown.table("orders", version=before[:8]).count().execute() == 90
        assert len(orders.anti_join(shown.table("orders", version=before), "id").to_pandas()) == 0
        expression = large_by_country(orders, shown.table("by_country"))
        assert expression.to_pyarrow() == reading.read(large_by_country, "shop", **where)
        assert sum(batch.num_rows for batch in orders.to_pyarrow_batches(chunk_size=7)) == 80
        for wrong, sentence in [
            (lambda: shown.table("odrers"), "environment 'prod': unknown table 'odrers'; did you mean 'orders'"),
            (lambda: shown.table("odrers", version=before), "unknown table 'odrers'; did you mean 'orders'"),
            (lambda: shown.table("orders", version="nope"), "unknown version of 'orders' 'nope'. Known: "),
            (lambda: shown.table("orders", version=""), "unknown version of 'orders' ''"),
            (lambda: shown.table("return_model"), "'return_model' is no table; tables: 'by_country', "),
            (lambda: shown.table("orders", environment="dve"), "unknown environment 'dve'; did you mean 'dev'"),
            (lambda: acme["shpo"].table("orders"), "unknown pipeline 'shpo'; did you mean 'shop'?"),
            (lambda: acme["shpo"].table("orders", version="x"), "unknown pipeline 'shpo'; did you mean 'shop'?"),
            (lambda: entrepot.open("amce", **where), "unknown tenant 'amce'; did you mean 'acme'?"),
        ]:
            with pytest.raises(BadInput) as caught:
                wrong()
            assert sentence in str(caught.value)
        [(gone,)] = shop.query(f"SELECT physical_table FROM entrepot.versions WHERE version = '{before}'")
        held = shown.table("orders", version=before)
        shop.query(f'DROP TABLE shop__v."{gone}"')
        with pytest.raises(BadInput, match=f"'shop__v.{gone}' was collected meanwhile; ask for the table again"):
            held.count().execute()
        with pytest.raises(AttributeError, match="cannot do what needs `to_parquet`; it can `execute`, `to_pandas`"):
            orders.to_parquet(tmp_path / "orders.parquet")
        [model] = [row for (row,) in shop.query("SELECT DISTINCT version FROM entrepot.versions WHERE name = 'board'")][
            :1
        ]
        with pytest.raises(BadInput, match="'board' is no table"):
            shown.table("board", version=model)
    with pytest.raises(BadInput, match=r"tenant 'acme' is closed; `entrepot\.open` it again"):
        orders.count().execute()
    with pytest.raises(BadInput, match="tenant 'acme' is closed"):
        shown.table("orders")


async def test_an_open_tenant_holds_up_no_run_and_its_tables_stay_what_they_are(shop: House, tmp_path: Path) -> None:
    (tmp_path / "tenants.toml").write_text(TENANTS)
    await shop.run(parameters={"rows": 90})
    command = [sys.executable, "-c", HOLDING, str(tmp_path / "tenants.toml"), str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as holding:
        assert holding.stdout is not None
        assert await asyncio.to_thread(holding.stdout.readline) == "90\n"
        await shop.run(parameters={"rows": 80})  # in this process, which wants the file
        said, _ = await asyncio.to_thread(holding.communicate, "\n")
        assert said == "90 80\n"

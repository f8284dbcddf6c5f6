"""What an environment shows, read as notebooks and `entrepot show` do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ibis import _

from entrepot import BadInput, Table
from entrepot.worker import reading
from tests.conftest import House
from tests.worker.processes import TENANTS


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

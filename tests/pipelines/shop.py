"""A little of everything: every kind of step, computed in well under a second."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pyarrow as pa
from ibis import _
from pandera import ibis as pandera

from entrepot import Copy, Dashboard, Export, Figure, Model, Panel, Pipeline, Table, split

shop = Pipeline(
    "shop", description="Orders, and which of them come back", owner="ops", parameters={"rows": 600, "limit": 50.0}
)


class Orders(pandera.DataFrameModel):
    id: int = pandera.Field(unique=True)
    amount: float = pandera.Field(ge=0)


@shop.ingest(tables=["orders_raw", "countries"])
def source(rows: int) -> object:
    """Orders and countries, the same at every run."""
    dice = random.Random(7)
    orders = [
        {
            "id": number,
            "country": dice.choice(["DE", "FR", "IT"]),
            "amount": round(dice.uniform(0, 100), 2),
            "day": number % 28,
            "returned": dice.random() < 0.3,
        }
        for number in range(rows)
    ]
    return {"orders_raw": orders, "countries": pa.table({"code": ["DE", "FR"], "name": ["Germany", "France"]})}


@shop.transform(contract=Orders, tags=["hourly"])
def orders(orders_raw: Table, countries: Table, limit: float) -> Table:
    """Orders with their country's name."""
    return orders_raw.left_join(countries, orders_raw.country == countries.code).select(
        orders_raw.id,
        orders_raw.country,
        orders_raw.amount,
        orders_raw.day,
        orders_raw.returned,
        countries.name,
        is_large=orders_raw.amount > limit,
    )


@shop.transform(tags=["hourly"])
def by_country(orders: Table) -> Table:
    return orders.group_by("country").agg(orders=_.count(), ids=_.id.sum(), mean=_.amount.mean())


@shop.transform(engine="python", schema={"id": "int64", "label": "string"})
def labels(orders: pa.RecordBatchReader) -> Iterator[list[dict[str, object]]]:
    for batch in orders:
        yield [{"id": number, "label": f"order {number}"} for number in batch.column("id").to_pylist()]


@shop.check(orders)
def positive(orders: Table) -> Table:
    return orders.filter(_.amount < 0)


@shop.check(orders, severity="warn")
def known_country(orders: Table) -> Table:
    return orders.filter(_.name.isnull())


@shop.train(
    features=orders, target="returned", columns=["amount", "day"], split=split.Share(0.3), score=["roc_auc", "accuracy"]
)
def return_model() -> object:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression())


@shop.transform
def return_risk(orders: Table, return_model: Model) -> Table:
    return return_model.predict(orders, keep=["id", "country"], classes=[True])


@shop.publish
def board(by_country: Table) -> Dashboard:
    total = by_country.orders.sum().execute()
    return Dashboard("Shop", figures=[Figure("orders", f"{total:,}")], panels=[Panel("Countries", by_country)])


@shop.publish
def risks(return_risk: Table) -> Export:
    return Export(return_risk, "csv")


@shop.publish
def shared(by_country: Table) -> Copy:
    return Copy(by_country, schema="reporting", name="countries")

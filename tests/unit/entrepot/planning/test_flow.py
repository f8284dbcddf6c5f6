"""Where columns come from and go to, over several steps."""

from __future__ import annotations

import pytest
from ibis import _
from sklearn.linear_model import LogisticRegression

from entrepot import Model, Pipeline, Table, split
from entrepot.identity.expression import schema_from
from entrepot.planning.expressions.lineage import Source
from entrepot.planning.flow import Edge, Flow
from entrepot.planning.resolve import resolve

SALES = {"id": "int64", "shop": "string", "price": "float64", "returned": "boolean"}


@pytest.fixture(scope="module")
def flow() -> Flow:
    p = Pipeline("shop")
    p.ingest(name="source", tables={"sales": SALES})(lambda: None)

    @p.transform
    def dear(sales: Table) -> Table:
        return sales.filter(_.price > 1).mutate(tax=_.price * 0.2)

    @p.transform
    def by_shop(dear: Table) -> Table:
        return dear.group_by("shop").agg(total=_.tax.sum())

    @p.train(features="dear", target="returned", columns=["tax"], score="roc_auc", split=split.Share(key="id"))
    def risk() -> LogisticRegression:
        return LogisticRegression()

    @p.transform
    def risks(dear: Table, risk: Model) -> Table:
        return risk.predict(dear, keep="id")

    @p.transform(engine="python", schema={"text": "string"})
    def texts(by_shop: Table) -> list[object]:
        return []

    @p.check("dear")
    def no_tax(dear: Table) -> Table:
        return dear.filter(_.tax < 0).select("id")

    @p.publish
    def page(texts: Table) -> None: ...

    return Flow(p.graph, resolve(p.graph, {"sales": schema_from(SALES)}, {}))


def said(edges: list[Edge]) -> list[str]:
    def name(source: Source) -> str:
        return source.table if source.column is None else f"{source.table}.{source.column}"

    return [f"{name(e.target)} {'of' if e.is_direct else 'by'} {name(e.source)}: {', '.join(e.how)}" for e in edges]


def test_what_a_column_is_made_of(flow: Flow) -> None:
    assert said(flow.up([Source("by_shop", "total")])) == [
        "by_shop.total of dear.tax: aggregation",
        "by_shop.total by dear.shop: group",
        "dear.shop of sales.shop: identity",
        "dear.shop by sales.price: filter",
        "dear.tax of sales.price: transformation",
        "dear.tax by sales.price: filter",
    ]


def test_a_prediction_is_made_of_the_model_and_what_that_has_learnt_from(flow: Flow) -> None:
    edges = said(flow.up([Source("risks", "prediction")]))
    assert edges[:2] == ["risks.prediction of dear.tax: transformation", "risks.prediction of risk: transformation"]
    assert {each for each in edges if each.startswith("risk of")} == {
        "risk of dear.id: used",
        "risk of dear.returned: used",
        "risk of dear.tax: used",
    }


def test_what_is_made_of_a_column(flow: Flow) -> None:
    found = {edge.target for edge in flow.down([Source("sales", "shop")])}
    assert found == {
        Source("dear", "shop"),
        Source("by_shop", "shop"),
        Source("by_shop", "total"),
        Source("texts", "text"),
        Source("page", None),
    }


def test_a_check_is_of_what_it_uses(flow: Flow) -> None:
    assert {edge.source.column for edge in flow.up(flow.columns("no_tax")) if edge.target.table == "no_tax"} == {
        "id",
        "tax",
    }


def test_a_raw_table_is_made_of_nothing(flow: Flow) -> None:
    assert flow.up(flow.columns("sales")) == []
    assert flow.down(flow.columns("page")) == []

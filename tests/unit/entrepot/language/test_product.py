"""How authors declare data products, and what of it is refused."""

from __future__ import annotations

from typing import Any

import pytest

from entrepot import BadInput, Pipeline, PipelineError, Product


@pytest.mark.parametrize("version", ["1", "1.0", "v1.0.0", "1.0.0-rc1", "01.0.0", "1.0.0\n", 1, None, ""])
def test_a_version_is_three_numbers(version: Any) -> None:
    with pytest.raises(BadInput, match=r"a product's version is 'MAJOR\.MINOR\.PATCH', such as '1\.0\.0', not"):
        Product(version)


def test_consumers_are_names() -> None:
    assert Product(consumers=["bi", "finance", "bi"]).consumers == ("bi", "finance")
    assert Product(consumers="bi").consumers == ("bi",)
    with pytest.raises(BadInput, match="a product's consumers are names, not ' '"):
        Product(consumers=[" "])
    with pytest.raises(BadInput, match="a product's owner is a text, not 7"):
        Product(owner=7)  # type: ignore[arg-type]


def test_a_product_has_an_owner() -> None:
    shop = Pipeline("shop")

    @shop.ingest(product=Product())
    def sales() -> Any: ...

    with pytest.raises(PipelineError, match="the product 'sales' has no owner; name one in `Product"):
        _ = shop.graph


def test_of_several_tables_it_is_said_which() -> None:
    shop = Pipeline("shop", owner="sales")
    with pytest.raises(BadInput, match=r"say which of 'a', 'b' it is, as in \{'a': Product\(\.\.\.\)\}"):
        shop.ingest(tables=["a", "b"], product=Product())(lambda: None)
    with pytest.raises(BadInput, match="unknown table 'c'"):
        shop.ingest(tables=["a", "b"], product={"c": Product()})(lambda: None)
    with pytest.raises(BadInput, match=r"it is a Product, not '1\.0\.0'"):
        shop.ingest(tables=["a", "b"], product={"a": "1.0.0"})(lambda: None)  # type: ignore[dict-item]
    step = shop.ingest(tables=["a", "b"], product={"a": Product("3.0.0")})(lambda: None)
    assert step.products["a"].version == "3.0.0"

"""Examples that a pipeline declares beside its steps."""

from __future__ import annotations

from typing import Any

import pytest
from ibis import _

from entrepot import Pipeline, Table
from entrepot.planning.resolve import resolve
from entrepot.testing import assert_examples
from entrepot.testing.examples import outcomes


def declared(*, with_examples: bool) -> Pipeline:
    shop = Pipeline("shop", parameters={"large": 50.0})

    @shop.ingest(tables={"sales": {"id": "int64", "amount": "float64"}})
    def source() -> Any: ...

    @shop.transform
    def large_sales(sales: Table, large: float) -> Table:
        return sales.filter(_.amount >= large)

    @shop.transform(engine="python", schema={"id": "int64"})
    def ids(large_sales: Any) -> Any:
        for batch in large_sales:
            yield [{"id": each} for each in batch.column("id").to_pylist()]

    if with_examples:
        shop.example(
            large_sales,
            "the limit itself is large",
            given={"sales": [{"id": 1, "amount": 9.99}, {"id": 2, "amount": 10.0}], "large": 10.0},
            expect=[{"id": 2}],
        )
        shop.example("ids", "over two steps", given={"sales": [{"id": 1, "amount": 80}]}, expect=[{"id": 1}])
    return shop


def test_examples_hold_and_one_that_does_not_is_told() -> None:
    shop = declared(with_examples=True)
    assert_examples(shop)
    shop.example("ids", "what is not so", given={"sales": [{"id": 1, "amount": 80}]}, expect=[{"id": 7}])
    with pytest.raises(AssertionError) as caught:
        assert_examples(shop)
    place, *lines = str(caught.value).splitlines()
    assert place.startswith(f"{__file__}:")
    assert place.endswith(": ids: what is not so")
    assert lines[1:] == ["  - id=7   missing", "  + id=1   not expected"]


def test_they_are_no_part_of_any_version() -> None:
    with_some, without = (declared(with_examples=each).graph for each in (True, False))
    parameters: dict[str, Any] = {"large": 50.0}
    assert resolve(with_some, {}, parameters).identities == resolve(without, {}, parameters).identities
    assert [*with_some.steps] == [*without.steps]


@pytest.mark.parametrize(
    ("example", "sentence"),
    [
        ({"step": "large_sale"}, "unknown step 'large_sale'; did you mean 'large_sales'"),
        ({"given": {"slaes": []}}, "unknown table or parameter 'slaes'; did you mean 'sales'"),
        ({"given": {}}, "'large_sales' reads 'sales', which is not given"),
        ({"given": {"sales": [{"id": 1}]}}, "uses a column 'amount', which it does not find: 'sales' has 'id'"),
        ({"expect": [{"idd": 1}]}, "unknown column 'idd'; did you mean 'id'"),
        ({"expect": [1]}, "the expected row 1 is a int, and no dict"),
        ({"expect": None}, "'large_sales': a NoneType is expected; write the rows as a list of dicts"),
        ({"given": {1: []}}, "the name 1, which is no text"),
        ({"given": [1]}, "`given` is a list; write it as a dict of names to rows and values"),
    ],
)
def test_what_cannot_be_computed_is_bad_input(example: dict[str, Any], sentence: str) -> None:
    shop = declared(with_examples=False)
    given = {"step": "large_sales", "given": {"sales": [{"id": 1, "amount": 80}]}, "expect": [{"id": 1}], **example}
    shop.example(given["step"], "wrong", given=given["given"], expect=given["expect"])
    [found] = outcomes(shop, shop.examples)
    assert found.is_bad_input
    assert sentence in found.why

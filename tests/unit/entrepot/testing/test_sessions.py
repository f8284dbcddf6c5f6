"""Steps of every kind computed from given rows, and the sentences for what cannot be."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import ibis
import pandas as pd
import pandera.ibis as pandera
import pyarrow as pa
import pytest
from ibis import _

from entrepot import BadInput, Dashboard, EntrepotError, Model, Pipeline, Rows, Table
from entrepot.errors import StepFailed
from entrepot.testing import Session, assert_rows, compute, fit

SALES = [
    {"id": 1, "country": "CH", "amount": 80.0},
    {"id": 2, "country": "CH", "amount": 10.0},
    {"id": 3, "country": "FR", "amount": -1.0},
]


class Positive(pandera.DataFrameModel):
    amount: float = pandera.Field(ge=0)


shop = Pipeline("shop", parameters={"large": 50.0, "since": datetime.datetime(2026, 1, 1)})


@shop.ingest(tables=["sales", "countries"])
def source() -> Any: ...


@shop.ingest(tables={"days": {"day": "date", "price": "decimal(10, 2)", "at": "timestamp('UTC')"}})
def calendar() -> Any: ...


@shop.transform(contract=Positive)
def large_sales(sales: Table, large: float) -> Table:
    return sales.mutate(is_large=_.amount >= large)


@shop.transform
def by_country(large_sales: Table, countries: Table) -> Table:
    sums = large_sales.group_by("country").agg(total=_.amount.sum(), ids=_.id.sum(), large=_.is_large.sum())
    return sums.left_join(countries, sums.country == countries.code).select("country", "total", "ids", "large", "name")


@shop.transform(engine="python", schema={"id": "int64", "label": "string"})
def labels(sales: pa.RecordBatchReader, large: float) -> Iterator[list[dict[str, Any]]]:
    for batch in sales:
        yield [{"id": row["id"], "label": f"{row['country']} {large}"} for row in batch.to_pylist()]


@shop.check(large_sales, severity="warn")
def negative(large_sales: Table) -> Table:
    return large_sales.filter(_.amount < 0)


@ibis.udf.scalar.python
def doubled(value: float) -> float:
    return value * FACTOR


FACTOR = 2.0


@shop.transform
def calls_python(sales: Table) -> Table:
    return sales.select("id", twice=doubled(sales.amount))


@shop.transform
def since_then(days: Table, since: datetime.datetime, nominal_time: datetime.datetime) -> Table:
    return days.filter(_.at >= ibis.literal(since, "timestamp('UTC')")).mutate(asked=ibis.literal(nominal_time))


@shop.train(features="sales", target="amount", columns=["id"], score="r2")
def amounts() -> Any:
    from sklearn.linear_model import LinearRegression

    return LinearRegression()


@shop.transform
def expected_amounts(sales: Table, amounts: Model) -> Table:
    return amounts.predict(sales, keep=["id"])


@shop.transform
def raises(sales: Table) -> Table:
    raise ZeroDivisionError("as it is written")


@shop.publish
def page(by_country: Table) -> Dashboard:
    return Dashboard("Shop")


def refused(sentence: str, called: Callable[..., Any] = compute, *arguments: Any, **given: Any) -> EntrepotError:
    with pytest.raises(EntrepotError) as caught:
        called(shop, *arguments, **given)
    assert sentence in str(caught.value)
    return caught.value


def test_a_transform_computes_as_the_warehouse_does(in_memory: Session) -> None:
    found = in_memory.compute(shop, large_sales, sales=SALES)
    assert found.rows() == [{**row, "is_large": row["amount"] >= 50} for row in SALES]
    assert found.columns == ["id", "country", "amount", "is_large"]
    assert found.types["is_large"] == "boolean"
    assert compute(shop, "large_sales", sales=SALES).rows() == found.rows()


def test_parameters_have_their_defaults_or_what_is_given(in_memory: Session) -> None:
    assert [row["is_large"] for row in in_memory.compute(shop, large_sales, sales=SALES, large=5)] == [
        True,
        True,
        False,
    ]


def test_what_stands_between_is_computed_too_unless_it_is_given(in_memory: Session) -> None:
    names = [{"code": "CH", "name": "Switzerland"}]
    found = in_memory.compute(shop, "by_country", sales=SALES, countries=names)
    assert sorted(found.rows(), key=lambda row: row["country"]) == [
        {"country": "CH", "total": 90.0, "ids": 3, "large": 1, "name": "Switzerland"},
        {"country": "FR", "total": -1.0, "ids": 3, "large": 0, "name": None},
    ]
    large = in_memory.compute(shop, large_sales, sales=SALES)
    for given in (large, large.to_arrow(), large.to_pandas(), large.rows()):
        assert_rows(in_memory.compute(shop, "by_country", large_sales=given, countries=names), found.rows())


def test_a_check_gives_the_violating_rows_and_a_contract_the_broken_rules(in_memory: Session) -> None:
    assert in_memory.compute(shop, negative, sales=SALES).to_arrow().column("id").to_pylist() == [3]
    assert len(in_memory.compute(shop, negative, large_sales=SALES[:2])) == 0
    [broken] = in_memory.compute(shop, "large_sales.contract", sales=SALES)
    assert broken["rule"] == "greater_than_or_equal_to(0)"
    assert len(in_memory.compute(shop, "large_sales.contract", sales=SALES[:2])) == 0


def test_python_transforms_and_functions_run_in_this_process(
    in_memory: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert in_memory.compute(shop, labels, sales=SALES[:1]).rows() == [{"id": 1, "label": "CH 50.0"}]
    monkeypatch.setattr(__name__ + ".FACTOR", 3.0)
    assert in_memory.compute(shop, calls_python, sales=SALES[:1]).rows() == [{"id": 1, "twice": 240.0}]


def test_a_model_is_fitted_on_the_rows_and_scores_them(in_memory: Session) -> None:
    line = [{"id": n, "amount": 2.0 * n} for n in range(40)]
    model = in_memory.fit(shop, amounts, sales=line)
    assert model.scores["r2"] == pytest.approx(1)
    assert model.features == ("id",)
    assert model.estimator.coef_[0] == pytest.approx(2)
    scored = {row["id"]: row["prediction"] for row in in_memory.compute(shop, expected_amounts, sales=line)}
    assert scored[30] == pytest.approx(60)
    assert fit(shop, "amounts", sales=line).scores == model.scores


def test_types_come_from_the_values_from_what_steps_declare_and_from_what_is_said(in_memory: Session) -> None:
    given = [{"day": "2026-03-01", "price": "1.10", "at": "2026-03-01T10:00Z"}]
    [row] = in_memory.compute(shop, since_then, days=given, nominal_time=datetime.datetime(2026, 4, 1))
    at = datetime.datetime(2026, 3, 1, 10, tzinfo=datetime.UTC)
    assert row == {
        "day": datetime.date(2026, 3, 1), "price": Decimal("1.10"), "at": at, "asked": datetime.datetime(2026, 4, 1),
    }  # fmt: skip
    assert len(in_memory.compute(shop, since_then, days=given, since=datetime.datetime(2026, 3, 2))) == 0
    assert len(in_memory.compute(shop, since_then, days=[])) == 0
    typed = Rows(
        [{"id": 1, "amount": None, "on": "2026-03-01"}], {"amount": "decimal(9, 3)", "on": "date", "more": "string"}
    )
    found = in_memory.compute(shop, large_sales, sales=typed)
    assert found.types == {
        "id": "int64",
        "amount": "decimal(9, 3)",
        "on": "date",
        "more": "string",
        "is_large": "boolean",
    }
    frame = pd.DataFrame({"id": [1], "amount": [1.5]}, index=[7])
    assert in_memory.compute(shop, large_sales, sales=frame).columns == ["id", "amount", "is_large"]


def test_every_step_at_once(in_memory: Session) -> None:
    whole = Pipeline("whole")
    whole.ingest(tables=["sales"])(source.function)
    for step in (labels, large_sales):
        whole.parameters["large"] = 50.0
        whole.transform(engine=step.engine, schema=step.schema, contract=step.contract)(step.function)
    whole.check("large_sales", severity="warn")(negative.function)
    found = in_memory.compute(whole, sales=SALES)
    assert {name: len(rows) for name, rows in found.items()} == {
        "labels": 3, "large_sales": 3, "negative": 1, "large_sales.contract": 1,
    }  # fmt: skip


def test_one_call_sees_nothing_of_another(in_memory: Session) -> None:
    in_memory.compute(shop, large_sales, sales=SALES)
    refused(
        "'large_sales' reads 'sales', which is not given; give its rows: sales=[{...}]", in_memory.compute, large_sales
    )
    assert len(in_memory.compute(shop, large_sales, sales=SALES[:1])) == 1


def test_columns_that_no_step_uses_may_be_left_out_and_others_get_a_sentence(in_memory: Session) -> None:
    assert in_memory.compute(shop, large_sales, sales=[{"amount": 1.0}]).columns == ["amount", "is_large"]
    error = refused("transform 'large_sales' (", in_memory.compute, large_sales, sales=[{"id": 1}])
    assert str(error).endswith(") uses a column 'amount', which it does not find: 'sales' has 'id'")
    refused("uses a column 'country', which it does not find: 'sales' has 'id'", compute, labels, sales=[{"id": 1}])
    refused(
        "uses a column 'code', which it does not find: 'large_sales' has 'amount', 'country', 'id', 'is_large'; "
        "'countries' has 'name'",
        *(in_memory.compute, by_country),
        sales=SALES,
        countries=[{"name": "Switzerland"}],
    )
    refused("unknown column 'amount'", fit, amounts, sales=[{"id": 1}])


def test_what_is_wrong_with_the_rows_is_told(in_memory: Session) -> None:
    refused("'sales': only NULL is given for 'amount', which tells no type; say it", in_memory.compute, large_sales,
            sales=[{"amount": None}])  # fmt: skip
    refused("'sales': no row is given, and no column known", in_memory.compute, large_sales, sales=[])
    refused("'sales', row 2: it is a int, and no dict", in_memory.compute, large_sales, sales=[{"amount": 1.0}, 2])
    refused("'sales': a int is given, and is no table", in_memory.compute, large_sales, sales=2)
    refused("'sales': a str is given, and is no table", in_memory.compute, large_sales, sales="sales.csv")
    refused("'sales': a dict is given, and is no table", in_memory.compute, large_sales, sales={"amount": 1.0})
    refused("the values of column 'amount' are of no one type", in_memory.compute, large_sales,
            sales=[{"amount": 1}, {"amount": "x"}])  # fmt: skip
    refused("the values of column 'day' are no date", in_memory.compute, since_then, days=[{"day": "the first"}])
    refused(
        "'sales': 'int46' of column 'id' is no type", in_memory.compute, large_sales, sales=Rows([], {"id": "int46"})
    )
    refused("'days': ", in_memory.compute, since_then, days=pa.table({"day": ["the first"]}))


def test_names_that_are_unknown_are_told_with_those_that_are(in_memory: Session) -> None:
    refused("pipeline 'shop': unknown step 'large_sale'; did you mean 'large_sales'", in_memory.compute, "large_sale")
    refused("unknown table or parameter 'slaes'; did you mean 'sales'", in_memory.compute, large_sales, slaes=[])
    refused("the parameter 'large' is a float", in_memory.compute, large_sales, sales=SALES, large="much")
    refused("publish 'page' has no rows that could be computed", in_memory.compute, page)
    refused("train 'amounts' fits a model: use `fit`", in_memory.compute, amounts)
    refused("transform 'large_sales' fits no model; known: 'amounts'", in_memory.fit, large_sales)
    refused(
        "'amounts' is a model: it is fitted; give 'sales'", in_memory.compute, expected_amounts, amounts=[{"id": 1}]
    )


def test_what_a_step_raises_names_it_and_is_the_cause(in_memory: Session) -> None:
    error = refused("ZeroDivisionError: as it is written", in_memory.compute, raises, sales=SALES)
    assert isinstance(error, StepFailed)
    assert not isinstance(error, BadInput)
    assert isinstance(error.__cause__, ZeroDivisionError)
    many = [{"id": 1, "amount": float(n)} for n in range(3)]
    refused("train 'amounts' (", fit, amounts, sales=many[:1])

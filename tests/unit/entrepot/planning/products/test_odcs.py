"""Contracts as Open Data Contract Standard files, which the standard's own schema holds for valid."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import jsonschema
import pandera.ibis as pa
import pytest
import yaml
from open_data_contract_standard.model import OpenDataContractStandard

from entrepot import BadInput, Pipeline, Product, Table
from entrepot.backends.duckdb.dialect import DIALECT
from entrepot.identity.expression import schema_from
from entrepot.planning.products import odcs
from entrepot.planning.products.contract import ProductContract
from entrepot.planning.products.reading import promised, rules_of
from entrepot.planning.products.rules import Rule, implied

shop = Pipeline("shop", owner="sales@acme.example")
COLUMNS = {
    "id": "int64",
    "country": "string",
    "amount": "decimal(12, 2)",
    "at": "timestamp",
    "day": "date",
    "is_new": "boolean",
    "tags": "array<string>",
    "code": "string",
}


@shop.ingest(tables={"raw": COLUMNS})
def source() -> Any: ...


@shop.transform(
    contract=pa.DataFrameSchema(
        {
            "id": pa.Column(int, pa.Check.gt(0)),
            "country": pa.Column(str, pa.Check.isin(["CH", "FR"])),
            "amount": pa.Column(None, [pa.Check.in_range(0, 9, include_max=False), pa.Check(lambda t: t[t.key] != 7)]),
            "code": pa.Column(str, pa.Check.str_matches("^[a-z]+$"), nullable=True, unique=True),
        },
        unique=["country", "id"],
    ),
    fresh_within="2h",
    product=Product("1.2.0", description="All sales: what, where — and “when”", consumers=["finance", "bi"]),
)
def sales(raw: Table) -> Table:
    return raw


@shop.check(sales)
def not_too_many(sales: Table) -> Table:
    """Few are large."""
    return sales.filter(sales.amount > 8)


SERVER = {"type": "duckdb", "database": "/data/acme.duckdb", "schema": "shop"}
TYPES = {name: DIALECT.type(dtype) for name, dtype in schema_from(COLUMNS).items()}
SUBJECT = odcs.Subject("acme", "shop", "prod", "sales", SERVER, TYPES)


@pytest.fixture(scope="module")
def contract() -> ProductContract:
    return promised(shop.graph, "sales", COLUMNS)


def test_the_standard_holds_a_file_for_valid(contract: ProductContract) -> None:
    text = odcs.written(contract, SUBJECT)
    jsonschema.validate(yaml.safe_load(text), json.loads(OpenDataContractStandard.json_schema()))
    its = yaml.safe_load(text)
    assert (its["kind"], its["apiVersion"], its["version"], its["id"]) == (
        "DataContract",
        "v3.1.0",
        "1.2.0",
        "acme/shop/sales",
    )
    assert its["team"]["name"] == "sales@acme.example"
    assert its["description"]["purpose"] == "All sales: what, where — and “when”"
    assert its["servers"] == [{"server": "prod", "environment": "prod", **SERVER}]
    assert its["slaProperties"] == [{"property": "freshness", "value": 2.0, "unit": "h", "element": "sales"}]
    columns = {each["name"]: each for each in its["schema"][0]["properties"]}
    assert {name: each["logicalType"] for name, each in columns.items()} == {
        "id": "integer",
        "country": "string",
        "amount": "number",
        "at": "timestamp",
        "day": "date",
        "is_new": "boolean",
        "tags": "array",
        "code": "string",
    }
    assert {name for name, each in columns.items() if each.get("required")} == {"id", "country", "amount"}
    assert {name: each["primaryKeyPosition"] for name, each in columns.items() if each.get("primaryKey")} == {
        "country": 1,
        "id": 2,
    }
    assert columns["amount"]["physicalType"] == "DECIMAL(12, 2)"


def test_what_is_read_of_a_file_is_what_was_written(contract: ProductContract) -> None:
    (expected,) = odcs.read("sales.odcs.yaml", odcs.written(contract, SUBJECT))
    assert (expected.table, expected.schema, expected.version) == ("sales", "shop", "1.2.0")
    assert expected.columns == tuple(COLUMNS)
    assert expected.physical == TYPES
    assert expected.fresh_within == contract.fresh_within
    assert expected.checks == ("not_too_many",)
    assert all(implied(rule, contract.rules) for rule in expected.rules)
    assert all(implied(rule, expected.rules) for rule in contract.rules)


def test_the_code_of_an_own_check_is_what_it_demands() -> None:
    def written(code: str) -> list[Rule]:
        names: dict[str, Any] = {"pa": pa, "__name__": "shop"}
        exec(
            "class Orders(pa.DataFrameModel):\n    country: str\n    @pa.check('country')\n"
            f"    def known(cls, data):\n        return data.table[data.key] {code}\n",
            names,
        )
        return list(rules_of(names["Orders"], ["country"]))

    assert written("== 'CH'") == written("== 'CH'")
    assert written("== 'CH'") != written("== 'FR'")


def test_json_is_read_as_well(contract: ProductContract) -> None:
    text = odcs.written(contract, SUBJECT)
    assert odcs.read("a.json", json.dumps(yaml.safe_load(text))) == odcs.read("a.yaml", text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "x.yaml is no Open Data Contract Standard file: it has no `kind: DataContract`"),
        ("\0", "x.yaml is no Open Data Contract Standard file: "),
        ("kind: 7", "its `kind` is 7, not 'DataContract'"),
        ("a: &a [*a]", "written out, its aliases are more than 1,000,000 values"),
        (
            "a: &a [1, 1, 1, 1]\n"
            + "".join(f"{y}: &{y} [{', '.join([f'*{x}'] * 9)}]\n" for x, y in pairwise("abcdefgh")),
            "its aliases",
        ),
        ("kind: DataContract", "its `apiVersion` is None"),
        ("kind: DataContract\napiVersion: v3.1.0\nversion: 1.0", "`version`: Input should be a valid string"),
        ("kind: DataContract\napiVersion: v3.1.0\nschema: [{properties: []}]", "a table of its `schema` has no `name`"),
        (
            "kind: DataContract\napiVersion: v3.1.0\nschema: [{name: a, properties: [{logicalType: date}]}]",
            "a column of 'a' has no `name`",
        ),
        (
            (
                "kind: DataContract\napiVersion: v3.1.0\nschema: [{name: a}]\n"
                "slaProperties: [{property: freshness, value: soon}]"
            ),
            "its freshness is a number of s, m, h or d, not 'soon' of None",
        ),
        ("# " + "x" * 1_000_000, "it has 1,000,002 characters, and at most 1,000,000 are read"),
    ],
)
def test_what_is_no_such_file(text: str, said: str) -> None:
    with pytest.raises(BadInput) as caught:
        odcs.read("x.yaml", text)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("unit", "seconds"), [("h", 7200), ("hours", 7200), ("Minutes", 120), ("days", 172800), ("s", 2)]
)
def test_units_of_time(unit: str, seconds: float) -> None:
    text = (
        "kind: DataContract\napiVersion: v3.1.0\nschema: [{name: a}]\n"
        f"slaProperties: [{{property: freshness, value: 2, unit: {unit}}}]"
    )
    assert odcs.read("x.yaml", text)[0].fresh_within == seconds

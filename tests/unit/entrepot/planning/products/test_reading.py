"""What is read of pandera contracts is what they demand of rows, as a check of a table finds it."""

from __future__ import annotations

from typing import Any

import ibis
import pandera.ibis as pa
import pytest

from entrepot.activities.transform.contract_rules import Broken, rules
from entrepot.planning.products.reading import rules_of
from entrepot.planning.products.rules import UNIQUE, Rule
from tests.unit.entrepot.planning.products.test_rules import VALUES, satisfied

CHECKS = [
    pa.Check.gt(1),
    pa.Check.ge(1),
    pa.Check.lt(1),
    pa.Check.le(1),
    pa.Check.eq(1),
    pa.Check.ne(1),
    pa.Check.isin([1, 2]),
    pa.Check.notin({1, 2}),
    pa.Check.in_range(1, 3),
    pa.Check.in_range(1, 3, include_min=False, include_max=False),
    pa.Check.between(0, 2),
]


@pytest.mark.parametrize("nullable", [True, False])
@pytest.mark.parametrize("check", CHECKS, ids=str)
def test_a_rule_demands_what_the_check_demands(check: Any, nullable: bool) -> None:
    schema = pa.DataFrameSchema({"x": pa.Column(float, check, nullable=nullable)})
    read = list(rules_of(schema, ["x"]))
    for value in VALUES:
        table = ibis.memtable([{"x": value}], schema={"x": "float64"})
        found = list(rules(schema, table))
        broken = any(isinstance(each, Broken) or len(each.violating.to_pyarrow()) for each in found)
        assert broken == (not all(satisfied(rule, value) for rule in read)), value


def test_lengths_patterns_keys_and_what_is_named_by_a_pattern() -> None:
    schema = pa.DataFrameSchema(
        {
            "code": pa.Column(str, [pa.Check.str_length(1, 3), pa.Check.str_matches("a+")], unique=True),
            "day_.*": pa.Column(int, pa.Check.ge(0), regex=True, nullable=True),
            "other": pa.Column(int, required=False),
        },
        checks=pa.Check(lambda t: t.table.count() > 0),
        unique=[["code", "day_1"], ["day_1"]],
    )
    read = list(rules_of(schema, ["code", "day_1", "day_2"]))
    assert [(rule.rule, rule.columns) for rule in read] == [
        ("not_null", ("code",)),
        (UNIQUE, ("code",)),
        ("str_length", ("code",)),
        ("str_matches", ("code",)),
        ("greater_than_or_equal_to", ("day_1",)),
        ("greater_than_or_equal_to", ("day_2",)),
        (UNIQUE, ("code", "day_1")),
        (UNIQUE, ("day_1",)),
        ("<lambda>", ()),
    ]
    assert [rule.arguments for rule in read[2:4]] == [
        {"min_value": 1, "max_value": 3, "exact_value": None},
        {"pattern": "a+"},
    ]
    assert [Rule.model_validate_json(rule.model_dump_json()) for rule in read] == read

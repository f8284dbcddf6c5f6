"""Whether rules imply another: held against values, of which every kind between and beyond the constants is tried."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from entrepot.planning.products.changes import changes
from entrepot.planning.products.contract import ProductContract
from entrepot.planning.products.rules import NOT_NULL, UNIQUE, Rule, contradiction, implied

CONSTANTS = range(4)
VALUES: list[Any] = [None, *(number / 2 for number in range(-2, 2 * len(CONSTANTS) + 2))]


def satisfied(rule: Rule, value: Any) -> bool:
    """What pandera's checks mean of one value; they say nothing of NULL."""
    given = rule.arguments
    if rule.rule == NOT_NULL:
        return value is not None
    if value is None:
        return True
    match rule.rule:
        case "greater_than":
            return bool(value > given["min_value"])
        case "greater_than_or_equal_to":
            return bool(value >= given["min_value"])
        case "less_than":
            return bool(value < given["max_value"])
        case "less_than_or_equal_to":
            return bool(value <= given["max_value"])
        case "in_range":
            above = value >= given["min_value"] if given["include_min"] else value > given["min_value"]
            below = value <= given["max_value"] if given["include_max"] else value < given["max_value"]
            return bool(above and below)
        case "isin":
            return value in given["allowed_values"]
        case "notin":
            return value not in given["forbidden_values"]
        case "equal_to":
            return bool(value == given["value"])
        case "not_equal_to":
            return bool(value != given["value"])
    raise AssertionError(rule)


constant = st.sampled_from(CONSTANTS)
several = st.lists(constant, max_size=3, unique=True)
arguments: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    NOT_NULL: st.just({}),
    "greater_than": st.fixed_dictionaries({"min_value": constant}),
    "greater_than_or_equal_to": st.fixed_dictionaries({"min_value": constant}),
    "less_than": st.fixed_dictionaries({"max_value": constant}),
    "less_than_or_equal_to": st.fixed_dictionaries({"max_value": constant}),
    "in_range": st.fixed_dictionaries(
        {"min_value": constant, "max_value": constant, "include_min": st.booleans(), "include_max": st.booleans()}
    ),
    "isin": st.fixed_dictionaries({"allowed_values": several}),
    "notin": st.fixed_dictionaries({"forbidden_values": several}),
    "equal_to": st.fixed_dictionaries({"value": constant}),
    "not_equal_to": st.fixed_dictionaries({"value": constant}),
}
rule = st.sampled_from([*arguments]).flatmap(
    lambda name: arguments[name].map(lambda given: Rule(rule=name, columns=("x",), arguments=given))
)
rules = st.lists(rule, max_size=4).map(tuple)


def one(name: str, **given: Any) -> tuple[Rule, ...]:
    return (Rule(rule=name, columns=("x",), arguments=given),)


def kept(by: tuple[Rule, ...]) -> list[Any]:
    return [value for value in VALUES if all(satisfied(each, value) for each in by)]


@settings(max_examples=1000)
@given(rules, rules)
@example(one("less_than", max_value=3), (*one("less_than_or_equal_to", max_value=3), *one("not_equal_to", value=3)))
@example(
    one("in_range", min_value=0, max_value=3, include_min=False, include_max=False),
    (*one("greater_than", min_value=1), *one("less_than_or_equal_to", max_value=3), *one("less_than", max_value=3)),
)
@example(
    one("isin", allowed_values=[2]), (*one("less_than_or_equal_to", max_value=2), *one("greater_than", min_value=1))
)
def test_a_contract_breaks_if_and_only_if_it_lets_a_value_in_that_the_one_before_did_not(
    old: tuple[Rule, ...], new: tuple[Rule, ...]
) -> None:
    columns = {"x": "float64"}
    found = changes(ProductContract(columns=columns, rules=old), ProductContract(columns=columns, rules=new))
    breaks = any(not all(satisfied(rule, value) for rule in old) for value in kept(new))
    assert any(change.is_breaking for change in found) == breaks


@given(rules)
def test_a_contradiction_is_a_column_that_no_value_satisfies(demanded: tuple[Rule, ...]) -> None:
    assert (contradiction(demanded) == "x") == (not kept(demanded))


@given(rules, rules, rules)
def test_what_breaks_nothing_twice_breaks_nothing_at_once(
    one: tuple[Rule, ...], two: tuple[Rule, ...], three: tuple[Rule, ...]
) -> None:
    def holds(old: tuple[Rule, ...], new: tuple[Rule, ...]) -> bool:
        return all(implied(each, new) for each in old)

    if holds(one, two) and holds(two, three):
        assert holds(one, three)


keys = st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=3, unique=True).map(tuple), max_size=3)
TABLES = [
    rows
    for number in range(3)
    for rows in product(list(product((0, 1), repeat=3)), repeat=number)  # tables of up to two rows show every key
]


@given(keys, keys)
def test_a_key_holds_if_another_tells_rows_apart_by_fewer_columns(old: Any, new: Any) -> None:
    def are_apart(rows: Any, key: tuple[str, ...]) -> bool:
        values = [tuple(row["abc".index(column)] for column in key) for row in rows]
        return len(set(values)) == len(values)

    its = [Rule(rule=UNIQUE, columns=key) for key in new]
    for key in old:
        always = all(are_apart(rows, key) for rows in TABLES if all(are_apart(rows, each) for each in new))
        assert implied(Rule(rule=UNIQUE, columns=key), its) == always


@pytest.mark.parametrize(
    ("rule", "old", "new", "holds"),
    [
        ("str_length", {"min_value": 1, "max_value": 9}, {"min_value": 2, "max_value": 9}, True),
        ("str_length", {"min_value": 1, "max_value": 9}, {"min_value": 2, "max_value": None}, False),
        ("str_matches", {"pattern": "a+"}, {"pattern": "a+"}, True),
        ("str_matches", {"pattern": "a+"}, {"pattern": "a"}, False),
        ("mine", {"code": "1"}, {"code": "2"}, False),
        ("isin", {}, {"allowed_values": [1]}, False),
        ("isin", {"allowed_values": [1]}, {}, False),
        ("isin", {"allowed_values": 1}, {"allowed_values": [1]}, True),
        ("greater_than", {"min_value": [1]}, {"min_value": 2}, False),
        ("greater_than", {"min_value": "2026-01-01"}, {"min_value": "2026-02-01"}, True),
        ("greater_than", {"min_value": "2026-01-01"}, {"min_value": 3}, False),
    ],
)
def test_other_rules(rule: str, old: dict[str, Any], new: dict[str, Any], holds: bool) -> None:
    before, after = (Rule(rule=rule, columns=("x",), arguments=given) for given in (old, new))
    assert implied(before, [after]) is holds

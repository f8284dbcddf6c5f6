"""Which changes of a promise break it."""

from __future__ import annotations

from typing import Any

import pytest

from entrepot.planning.products.changes import changes, is_newer_major, widens
from entrepot.planning.products.contract import ProductContract, contract_in
from entrepot.planning.products.rules import NOT_NULL, UNIQUE, Rule

BEFORE = ProductContract(
    version="1.4.0",
    owner="sales",
    columns={"id": "int32", "country": "string"},
    rules=(Rule(rule=NOT_NULL, columns=("id",)), Rule(rule=UNIQUE, columns=("id", "country"))),
    checks={"no_refunds": ""},
    fresh_within=7200,
)


@pytest.mark.parametrize(
    ("change", "breaking", "additive"),
    [
        ({"owner": "finance", "description": "Other words", "consumers": ("bi",), "version": "1.4.1"}, [], []),
        ({"columns": {"country": "string", "id": "int32"}}, [], []),
        ({"columns": {**BEFORE.columns, "more": "date"}}, [], ["column 'more' is new"]),
        ({"columns": {**BEFORE.columns, "id": "int64"}}, [], ["column 'id' is int64, which holds what int32 did"]),
        ({"columns": {**BEFORE.columns, "id": "int16"}}, ["column 'id' is int16, and was int32"], []),
        ({"columns": {"id": "int32"}}, ["column 'country' is gone"], []),
        ({"rules": BEFORE.rules[1:]}, ["column 'id' may be NULL"], []),
        ({"rules": BEFORE.rules[:1]}, ["not promised any more: rows are unique by 'id', 'country'"], []),
        (
            {"rules": (BEFORE.rules[0], Rule(rule=UNIQUE, columns=("id",)))},
            [],
            ["new: rows are unique by 'id'"],
        ),
        ({"checks": {}}, ["the check 'no_refunds' stops no publish any more"], []),
        ({"checks": {**BEFORE.checks, "b": ""}}, [], ["the check 'b' stops publishes"]),
        ({"fresh_within": 86400}, ["its data may be of 1d, and was promised within 2h"], []),
        ({"fresh_within": None}, ["its data may be of any age, and was promised within 2h"], []),
        ({"fresh_within": 3600}, [], ["its data is promised within 1h"]),
    ],
)
def test_changes(change: dict[str, Any], breaking: list[str], additive: list[str]) -> None:
    found = changes(BEFORE, BEFORE.model_copy(update=change))
    assert [each.said for each in found if each.is_breaking] == breaking
    assert [each.said for each in found if not each.is_breaking] == additive


def test_of_a_function_nobody_can_tell_what_it_demands() -> None:
    def with_code(code: str) -> ProductContract:
        rule = Rule(rule="known", columns=("country",), arguments={"code": code}, said="known")
        return BEFORE.model_copy(update={"rules": (rule,)})

    said = "column 'country' satisfies known, whose code is another now, and nobody can tell that it demands as much"
    assert [(each.said, each.is_breaking) for each in changes(with_code("1"), with_code("2"))] == [
        (said, True),
        ("new: column 'country' satisfies known", False),
    ]
    assert not changes(with_code("1"), with_code("1"))


@pytest.mark.parametrize(
    ("before", "after", "is_wider"),
    [
        ("int8", "int64", True),
        ("uint32", "int64", True),
        ("uint64", "int64", False),
        ("int64", "decimal(19, 0)", True),
        ("int64", "decimal(18, 0)", False),
        ("int64", "float64", False),
        ("float32", "float64", True),
        ("float64", "float32", False),
        ("decimal(10, 2)", "decimal(12, 3)", True),
        ("decimal(10, 2)", "decimal(10, 3)", False),
        ("string(2)", "string", True),
        ("string", "string(2)", False),
        ("!int64", "int64", True),
        ("timestamp(3)", "timestamp(6)", True),
        ("timestamp", "timestamp('UTC')", False),
        ("date", "timestamp", False),
        ("array<int32>", "array<int64>", True),
        ("array<int64>", "array<string>", False),
    ],
)
def test_types_that_hold_all_that_another_did(before: str, after: str, is_wider: bool) -> None:
    assert widens(before, after) is is_wider
    assert widens(before, before)


@pytest.mark.parametrize(
    ("before", "after", "is_newer"),
    [("1.9.9", "2.0.0", True), ("1.0.0", "1.1.0", False), ("9.0.0", "10.0.0", True), ("2.0.0", "1.0.0", False)],
)
def test_major_versions(before: str, after: str, is_newer: bool) -> None:
    two = (BEFORE.model_copy(update={"version": version}) for version in (before, after))
    assert is_newer_major(*two) is is_newer


def test_what_a_version_promises_where_it_was_not_published_so() -> None:
    other = BEFORE.model_copy(update={"version": "2.0.0"})
    assert contract_in({}, "prod") is None
    assert contract_in({"prod": BEFORE, "dev": other}, "pr_1") is BEFORE
    assert contract_in({"dev": other}, "pr_1") is other
    assert contract_in({"prod": BEFORE, "dev": None}, "dev") is None

"""How rows differ: alike by a simple oracle, and told row by row."""

from __future__ import annotations

import datetime
import random
from collections import Counter
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot import BadInput
from entrepot.testing import Result, assert_rows
from entrepot.testing.differences import alike, differences

ROWS = st.lists(
    st.fixed_dictionaries({"a": st.sampled_from([None, 1, 2]), "b": st.sampled_from(["x", "y"])}), max_size=6
)


def result(rows: list[dict[str, Any]]) -> Result:
    types = {"a": "int64", "b": "string"}
    schema = pa.schema({"a": pa.int64(), "b": pa.string()})
    return Result("t", types, pa.Table.from_pylist(rows, schema=schema))


def counted(rows: list[dict[str, Any]]) -> Counter[Any]:
    return Counter((row["a"], row["b"]) for row in rows)


@given(ROWS, ROWS)
def test_rows_in_any_order_are_the_same_if_there_are_as_many_of_each(found: list[Any], expected: list[Any]) -> None:
    different = differences(result(found), expected)
    assert (not different) == (counted(found) == counted(expected))
    # Whatever is told to be missing or not expected makes the two the same.
    corrected = counted(found)
    for each in different:
        corrected -= counted([each.found] if each.found else [])  # type: ignore[list-item]
        corrected += counted([each.expected] if each.expected else [])  # type: ignore[list-item]
    assert corrected == counted(expected)


@given(ROWS, ROWS, st.randoms(use_true_random=False))
def test_rows_in_order_are_the_same_if_the_lists_are(
    found: list[Any], expected: list[Any], dice: random.Random
) -> None:
    assert (not differences(result(found), expected, ordered=True)) == (found == expected)
    shuffled = [*found]
    dice.shuffle(shuffled)
    assert not differences(result(found), shuffled)


@pytest.mark.parametrize(
    ("found", "expected", "same"),
    [
        (0.1 + 0.2, 0.3, True),
        (0.3, 0.3001, False),
        (1e-12, 0.0, True),
        (1e20, 1e20 * (1 + 1e-12), True),
        (float("nan"), float("nan"), True),
        (float("inf"), float("inf"), True),
        (float("inf"), 1e300, False),
        (None, float("nan"), False),
        (None, None, True),
        (None, 0, False),
        (True, 1, False),
        (2, 2.0, True),
        (Decimal("1.10"), Decimal("1.1"), True),
        (Decimal("1.10"), 1.1, True),
        (Decimal("1.10"), Decimal("1.1000000000001"), False),
        (2**62 + 1, 2**62, False),
        (datetime.datetime(2026, 1, 1), datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC), False),
        (datetime.date(2026, 1, 1), datetime.datetime(2026, 1, 1), False),
        ([1.0, {"a": 0.3}], [1.0, {"a": 0.1 + 0.2}], True),
        ([1.0], [1.0, 2.0], False),
        ("1", 1, False),
    ],
)
def test_values_are_alike(found: Any, expected: Any, same: bool) -> None:
    assert alike(found, expected) is same


def test_the_difference_is_told_row_by_row() -> None:
    found = [
        {"month": 1, "late": 0.5, "who": "a"},
        {"month": 2, "late": 0.25, "who": "b"},
        {"month": 9, "late": 1.0, "who": None},
    ]
    expected = [{"month": 2, "late": 0.25}, {"month": 1, "late": 0.75}, {"month": 3, "late": None}]
    with pytest.raises(AssertionError) as caught:
        assert_rows(found, expected)
    assert str(caught.value).splitlines() == [
        "'rows' is not as expected: of 3 rows, in any order, 1 differ, 1 missing, 1 not expected (floats within 1e-09)",
        "  ≠ month=1  late=0.5 (expected 0.75)",
        "  - month=3  late=NULL   missing",
        "  + month=9  late=1.0   not expected",
    ]
    with pytest.raises(AssertionError) as caught:
        assert_rows(found, [{"month": 1}, {"month": 9}, {"month": 2}, {"month": 4}], ordered=True)
    assert str(caught.value).splitlines()[1:] == [
        "  ≠ row 2: month=2 (expected 9)",
        "  ≠ row 3: month=9 (expected 2)",
        "  - row 4: month=4   missing",
    ]


def test_columns_that_are_not_expected_are_not_compared() -> None:
    rows = [{"id": 1, "day": datetime.date(2026, 3, 1), "price": Decimal("1.10")}]
    assert_rows(rows, [{"id": 1}])
    assert_rows(rows, [{"id": 7, "day": "2026-03-01", "price": "1.1"}], columns=["day", "price"])
    assert_rows(pd.DataFrame(rows), pd.DataFrame(rows))
    assert_rows(rows, rows, tolerance=0)
    assert_rows([{"is_new": True, "n": 2}], [{"is_new": np.bool_(True), "n": np.int64(2)}])
    assert_rows([], [])
    assert_rows([{"x": 1.0}], [{"x": 1.05}], tolerance=0.1)


def test_many_differences_are_cut() -> None:
    with pytest.raises(AssertionError, match=r"and 80 more$"):
        assert_rows([{"n": n} for n in range(100)], [])


def test_what_cannot_be_compared_is_told() -> None:
    with pytest.raises(BadInput, match="'rows' is expected to have: unknown column 'moth'; did you mean 'month'"):
        assert_rows([{"month": 1}], [{"moth": 1}])
    with pytest.raises(BadInput, match="the expected row 1 is a int, and no dict"):
        assert_rows([{"month": 1}], [1])
    with pytest.raises(BadInput, match="unknown column 'b'"):
        assert_rows([{"a": 1}], [{"a": 1}], columns=["b"])

"""What happens when a source's columns change."""

from __future__ import annotations

import ibis
import ibis.expr.datatypes as dt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.activities.ingest.schema_evolution import common, differences, evolved
from entrepot.errors import StepFailed

TYPES = [
    "int8", "int32", "int64", "float32", "float64", "decimal(10, 2)", "decimal(38, 9)", "boolean", "string", "date",
    "timestamp(6)", "timestamp('UTC', 6)", "array<int32>", "struct<a: int32>", "struct<a: int64, b: string>",
]  # fmt: skip


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        ("int32", "int64", "int64"),
        ("int64", "float32", "float64"),
        ("decimal(10, 2)", "int32", "decimal(12, 2)"),
        ("decimal(10, 2)", "decimal(8, 4)", "decimal(12, 4)"),
        ("date", "timestamp(6)", "timestamp(6)"),
        ("struct<a: int32>", "struct<a: int64, b: string>", "struct<a: int64, b: string>"),
        ("array<int32>", "array<int64>", "array<int64>"),
        ("int64", "string", None),
        ("boolean", "int64", None),
        ("decimal(38, 0)", "decimal(38, 9)", None),
        ("decimal(10, 2)", "float64", None),
        ("uint64", "int64", "decimal(20, 0)"),
        ("uint64", "decimal(10, 2)", "decimal(22, 2)"),
        ("uint32", "int64", "int64"),
        ("timestamp(6)", "timestamp('UTC', 6)", None),
    ],
)
def test_the_type_that_holds_both(one: str, other: str, both: str | None) -> None:
    assert common(dt.dtype(one), dt.dtype(other)) == (dt.dtype(both) if both else None)


@pytest.mark.parametrize("of", ["{}", "array<{}>", "struct<a: {}>"])
def test_whole_numbers_that_a_double_does_not_hold_have_no_type_with_fractions(of: str) -> None:
    whole, fraction = dt.dtype(of.format("int64")), dt.dtype(of.format("float64"))
    assert common(whole, fraction) == fraction
    assert common(whole, fraction, is_wide=True) is None
    assert common(fraction, whole, is_wide=True) is None


@given(st.sampled_from(TYPES), st.sampled_from(TYPES), st.sampled_from(TYPES))
def test_it_does_not_depend_on_the_order(a: str, b: str, c: str) -> None:
    one, other, third = map(dt.dtype, (a, b, c))
    assert common(one, one) == one
    both, back = common(one, other), common(other, one)
    # The fields of a struct stand in the order in which they came.
    assert (both is None) == (back is None)
    if both is not None and back is not None and not both.is_struct():
        assert both == back
    if both is not None and (every := common(both, third)) is not None:
        assert common(every, one) == every


BEFORE = ibis.schema({"id": "int64", "name": "string", "n": "int32"})


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ({"id": "int64", "name": "string", "n": "int32"}, []),
        ({"id": "int64", "n": "int32", "name": "string"}, []),
        ({"id": "int64", "name": "string"}, ["column 'n' (int32) is gone"]),
        ({**BEFORE, "x": "date"}, ["column 'x' (date) is new"]),
        ({**BEFORE, "n": "int64"}, ["column 'n' was int32 and is int64, wider"]),
        ({**BEFORE, "n": "int8"}, ["column 'n' was int32 and is int8, narrower"]),
        ({**BEFORE, "n": "string"}, ["column 'n' was int32 and is string"]),
        (
            {"id": "int64", "label": "string", "n": "int32"},
            ["column 'name' is gone and 'label' is new, of the same type (renamed?)"],
        ),
    ],
)
def test_differences_are_told(found: dict[str, str], said: list[str]) -> None:
    assert list(differences(BEFORE, ibis.schema(found))) == said


def test_a_table_that_grows_keeps_what_it_had() -> None:
    found = ibis.schema({"id": "int32", "n": "float64", "new": "string"})
    shape, changes = evolved("t", BEFORE, found, "evolve", grows=True)
    assert dict(shape) == dict(ibis.schema({"id": "int64", "name": "string", "n": "float64", "new": "string"}))
    assert len(changes) == 3


def test_a_column_that_a_load_before_lacked_is_not_told_to_be_gone_again() -> None:
    found = ibis.schema({"id": "int64", "n": "int32", "new": "string"})
    shape, changes = evolved("t", BEFORE, found, "evolve", grows=True, absent={"name"})
    assert "name" in shape
    assert changes == ("column 'new' (string) is new",)
    with pytest.raises(StepFailed, match="is frozen"):
        evolved("t", BEFORE, ibis.schema({"id": "int64", "n": "int32"}), "freeze", grows=True, absent={"name"})


def test_a_table_that_is_replaced_takes_what_comes() -> None:
    found = ibis.schema({"id": "string"})
    assert evolved("t", BEFORE, found, "evolve", grows=False)[0] == found


def test_a_frozen_table_says_what_changed() -> None:
    with pytest.raises(StepFailed, match=r"table 't' is frozen.*column 'x' \(date\) is new"):
        evolved("t", BEFORE, ibis.schema({**BEFORE, "x": "date"}), "freeze", grows=False)


def test_a_discarding_table_stays_as_it_is() -> None:
    shape, changes = evolved("t", BEFORE, ibis.schema({**BEFORE, "x": "date"}), "discard", grows=True)
    assert shape == BEFORE
    assert changes == ("column 'x' (date) is new (discarded)",)


def test_no_type_for_both_is_refused() -> None:
    with pytest.raises(StepFailed, match="'n' was int32 and is now string, and no type holds both"):
        evolved("t", BEFORE, ibis.schema({**BEFORE, "n": "string"}), "evolve", grows=True)

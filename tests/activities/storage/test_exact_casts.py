"""Arrow columns as other types: the very values, or a sentence."""

from __future__ import annotations

import datetime as d
import math
import subprocess
import sys
import uuid
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entrepot.activities.storage import exact_casts
from entrepot.activities.transform.transform import _as_batches
from entrepot.errors import StepFailed

NANOSECONDS = 1577836800123456789


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ([1.239], pa.decimal128(10, 2)),
        ([Decimal("12345678901234567.89")], pa.float64()),
        ([2**53 + 1], pa.float64()),
        ([1.5], pa.int64()),
        ([d.datetime(2024, 1, 1, 10)], pa.date32()),
        ([d.datetime(2024, 10, 27, 2, 30)], pa.timestamp("us", "Europe/Paris")),
        ([d.datetime(2024, 3, 31, 2, 30)], pa.timestamp("us", "Europe/Paris")),
    ],
)
def test_what_a_type_does_not_hold_is_refused(values: list[Any], wanted: pa.DataType) -> None:
    with pytest.raises(pa.ArrowInvalid):
        exact_casts.cast(pa.array(values), wanted)


@settings(max_examples=50, deadline=None)
@given(
    values=st.lists(st.floats() | st.none(), max_size=4)
    | st.lists(st.integers(-(2**63), 2**63 - 1) | st.none(), max_size=4)
    | st.lists(st.decimals(places=2, min_value=-(10**20), max_value=10**20) | st.none(), max_size=4),
    wanted=st.sampled_from([pa.float64(), pa.int64(), pa.int32(), pa.decimal128(38, 2), pa.decimal128(12, 1)]),
)
def test_numbers_are_kept_or_refused(values: list[Any], wanted: pa.DataType) -> None:
    try:
        made = exact_casts.cast(pa.array(values), wanted).to_pylist()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return
    for value, found in zip(values, made, strict=True):
        if value is None or found is None:
            assert found is value
        elif isinstance(value, Decimal) and isinstance(found, float):
            assert Decimal(repr(found)) == value  # the nearest to it
        else:
            assert found == value or float(found) == value or (math.isnan(value) and math.isnan(found))


@pytest.mark.parametrize(
    ("column", "values"),
    [
        (pa.array([b"abcd"], pa.binary(4)), [b"abcd"]),
        (pa.array([{"x": b"abcd"}], pa.struct([("x", pa.binary(4))])), [{"x": b"abcd"}]),
        (pa.array([Decimal("1.50")], pa.decimal256(50, 2)), [Decimal("1.50")]),
        (pa.array([1_234_567_000], pa.time64("ns")), [d.time(0, 0, 1, 234567)]),
        (
            pa.ExtensionArray.from_storage(pa.uuid(), pa.array([b"x" * 16], pa.binary(16))),
            [str(uuid.UUID(bytes=b"x" * 16))],
        ),
        (pa.ExtensionArray.from_storage(pa.json_(), pa.array(['{"a": 1}'])), ['{"a": 1}']),
        (pa.array([[1, 2]], pa.list_(pa.int64(), 2)), [[1, 2]]),
    ],
)
def test_types_that_warehouses_lack_become_ones_that_they_have(column: pa.Array, values: list[Any]) -> None:
    assert exact_casts.plain_table(pa.table({"a": column}), "the rows")["a"].to_pylist() == values


@pytest.mark.parametrize(
    "column",
    [
        pa.array([1], pa.duration("us")),
        pa.array([1], pa.time64("ns")),
        pa.array([NANOSECONDS], pa.timestamp("ns", "UTC")),
        pa.array([Decimal(10) ** 45], pa.decimal256(50, 2)),
    ],
)
def test_what_no_type_of_warehouses_holds_is_refused_with_its_column(column: pa.Array) -> None:
    with pytest.raises(StepFailed, match="the rows: the column 'a' is "):
        exact_casts.plain_table(pa.table({"a": column}), "the rows")


SCHEMA = pa.schema([("id", pa.int64()), ("at", pa.timestamp("us")), ("here", pa.timestamp("us", "Europe/Paris"))])


def batches(made: Any) -> list[dict[str, Any]]:
    return [row for batch in _as_batches(made, SCHEMA, "item 1") for row in batch.to_pylist()]


def test_arrow_heeds_zones_where_contracts_are_used() -> None:
    """pandera tells Arrow not to, unless somebody was there before it."""
    moment = "datetime.datetime(2024, 1, 1, 10, tzinfo=datetime.timezone(datetime.timedelta(hours=2)))"
    code = f"import entrepot, pandera.ibis, datetime, pyarrow; print(pyarrow.array([{moment}]).cast('int64')[0])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) == d.datetime(2024, 1, 1, 8, tzinfo=d.UTC).timestamp() * 1_000_000


@pytest.mark.parametrize("ignores", ["", "1"])
def test_times_of_a_python_transform_are_the_same_moments(ignores: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYARROW_IGNORE_TIMEZONE", ignores)
    two = d.timezone(d.timedelta(hours=2))
    (row,) = batches({"at": d.datetime(2024, 1, 1, 10, tzinfo=two), "here": d.datetime(2024, 1, 1, 10)})
    assert row["id"] is None
    assert row["at"] == d.datetime(2024, 1, 1, 8)
    assert row["here"] == d.datetime(2024, 1, 1, 9, tzinfo=d.UTC)


@pytest.mark.parametrize(
    ("made", "sentence"),
    [
        ([{"id": 1}, {"idd": 2}], "item 1, row 2: unknown column 'idd'; did you mean 'id'"),
        ({"id": 1.5}, "item 1: a value of 'id' is no int64, as declared"),
        ({"here": d.datetime(2024, 10, 27, 2, 30)}, "the clocks of Europe/Paris have shown"),
        (pa.table({"id": [1.5], "at": [None], "here": [None]}), "item 1: a value of 'id' is no int64, as declared"),
    ],
)
def test_what_a_python_transform_did_not_declare_is_refused(made: Any, sentence: str) -> None:
    with pytest.raises(StepFailed, match=sentence):
        batches(made)

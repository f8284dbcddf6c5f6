"""Times of 96 bits in Parquet, held against Python: all digits, or a sentence."""

from __future__ import annotations

import datetime
import gzip
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from entrepot.activities.ingest.sources.files import parquet
from entrepot.errors import StepFailed
from entrepot.language.sources import Files
from tests.activities.ingest.sources.reading import read

EPOCH = datetime.datetime(1970, 1, 1)


def old(path: Path, values: Any, **options: Any) -> str:
    """A file with times of 96 bits."""
    pq.write_table(pa.table({"at": values}), path, use_deprecated_int96_timestamps=True, **options)
    return str(path)


def nanoseconds(values: list[int | None]) -> pa.Array:
    return pa.array(values, pa.timestamp("ns"))


def text(value: int) -> str:
    """A number of nanoseconds as a time, with the nanoseconds where there are some."""
    micros, nanos = divmod(value, 1_000)
    return f"{EPOCH + datetime.timedelta(microseconds=micros):%Y-%m-%d %H:%M:%S.%f}" + (f"{nanos:03}" if nanos else "")


FIRST, LAST = -(2**63) // 1_000 * 1_000 + 1_000, 2**63 - 1
"""The nanoseconds that Arrow holds, from the first whole microsecond on."""

TIMES = st.lists(
    st.none() | st.integers(FIRST, LAST) | st.integers(-(10**15), 10**15).map(lambda n: n * 1_000),
    min_size=1,
    max_size=8,
)


@settings(max_examples=15, deadline=None)
@given(values=TIMES, batch=st.integers(1, 4), group=st.integers(1, 4))
@example(values=[1_000, None, -1], batch=2, group=2)
@example(values=[FIRST, LAST], batch=1, group=2)
def test_nanoseconds_are_kept_or_refused(
    values: list[int | None], batch: int, group: int, tmp_path_factory: Any
) -> None:
    path = old(tmp_path_factory.mktemp("times") / "t.parquet", nanoseconds(values), row_group_size=group)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parquet, "BATCH_ROWS", batch)
        exact = read(Files(path, types={"at": "timestamp(9)"})).table()["at"]
        assert exact.cast(pa.int64()).to_pylist() == values
        texts = read(Files(path, types={"at": "string"})).columns()["at"]
        assert texts == [None if value is None else text(value) for value in values]
        lost = [text(value) for value in values if value is not None and value % 1_000]
        if lost:
            with pytest.raises(StepFailed, match=rf"t\.parquet': a value of the column 'at' .*: '{lost[0]}' has nanos"):
                read(Files(path))
        else:
            assert read(Files(path)).table()["at"].cast(pa.int64()).to_pylist() == [
                value if value is None else value // 1_000 for value in values
            ]


def test_nanoseconds_do_not_reach_all_years(tmp_path: Path) -> None:
    path = old(tmp_path / "t.parquet", [datetime.datetime(9999, 12, 31, 23), datetime.datetime(1, 1, 1), None])
    with pytest.raises(StepFailed, match=r"a value of the column 'at' is no timestamp\[ns\]"):
        read(Files(path, types={"at": "timestamp(9)"}))


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (pa.list_(pa.timestamp("ns")), [1]),
        (pa.struct([("x", pa.timestamp("ns"))]), {"x": 1}),
        (pa.map_(pa.string(), pa.timestamp("ns")), [("x", 1)]),
    ],
)
def test_nanoseconds_within_other_values_are_refused(tmp_path: Path, kind: pa.DataType, value: Any) -> None:
    with pytest.raises(StepFailed, match=r"the column 'at' .* has nanoseconds within"):
        read(Files(old(tmp_path / "t.parquet", pa.array([None, value], kind))))


def test_packed_and_under_another_name(tmp_path: Path) -> None:
    path = old(tmp_path / "t.parquet", nanoseconds([1]))
    packed = tmp_path / "t.parquet.gz"
    packed.write_bytes(gzip.compress(Path(path).read_bytes()))
    source = Files(str(packed), rename={"at": "seen"}, types={"at": "timestamp(9)"})
    assert read(source).table()["seen"].cast(pa.int64()).to_pylist() == [1]


def test_files_that_have_the_column_with_nanoseconds_otherwise(tmp_path: Path) -> None:
    old(tmp_path / "1.parquet", nanoseconds([1]))
    pq.write_table(pa.table({"at": nanoseconds([2])}), tmp_path / "2.parquet")
    assert read(Files(str(tmp_path / "*.parquet"))).table()["at"].cast(pa.int64()).to_pylist() == [1, 2]

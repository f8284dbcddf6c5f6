"""Parquet on its way into a warehouse keeps every row, whatever it is cut into and rewritten as."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entrepot.backends.sql import parquet

SCHEMA = pa.schema([("n", pa.int64()), ("t", pa.string())])
ROWS = st.lists(st.lists(st.tuples(st.integers(-9, 9) | st.none(), st.text(max_size=3) | st.none()), max_size=4))


@given(pieces=ROWS)
@settings(max_examples=20, deadline=None)
def test_files_have_the_rows_of_the_batches(
    pieces: list[list[tuple[int, str]]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("files")
    expected = [dict(zip(SCHEMA.names, row, strict=True)) for piece in pieces for row in piece]
    batches = [
        pa.RecordBatch.from_pylist([dict(zip(SCHEMA.names, row, strict=True)) for row in piece], SCHEMA)
        for piece in pieces
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parquet, "FILE_BYTES", 64)
        paths = parquet.written(iter(batches), SCHEMA, str(folder))
    assert paths
    assert [row for path in paths for row in pq.read_table(path).to_pylist()] == expected


def test_a_copy_has_the_other_schema(tmp_path: Path) -> None:
    path = str(tmp_path / "rows.parquet")
    pq.write_table(pa.table({"n": pa.array([1, None], pa.int32()), "extra": [True, False]}), path)
    wanted = pa.schema([("n", pa.decimal128(20, 0)), ("new", pa.string())])

    def column(batch: pa.RecordBatch, field: pa.Field) -> pa.Array:
        if field.name not in batch.schema.names:
            return pa.nulls(len(batch), field.type)
        return batch.column(field.name).cast(pa.decimal128(20, 0))

    copy = parquet.rewritten(path, str(tmp_path), wanted, column)
    assert pq.read_schema(copy) == wanted
    assert pq.read_table(copy).to_pylist() == [{"n": 1, "new": None}, {"n": None, "new": None}]

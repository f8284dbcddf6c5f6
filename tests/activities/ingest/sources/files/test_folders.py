"""Folders such as `year=2024` as columns, held against Python."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from entrepot.activities.ingest.sources.files import files
from entrepot.activities.ingest.sources.files import parquet as files_parquet
from entrepot.activities.ingest.sources.files import text as files_text
from entrepot.activities.ingest.sources.files.folders import NOTHING
from entrepot.errors import BadInput, StepFailed
from entrepot.language.sources import Files, Format
from tests.activities.ingest.sources.reading import read, read_in_two, rows

FORMATS: list[Format] = ["csv", "json", "parquet"]


def put(root: Path, folder: str, columns: dict[str, list[Any]], format: Format, name: str = "t") -> Path:
    """A file with some rows in a folder like `year=2024/month=01`."""
    path = root / folder / f"{name}.{format}"
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    if format == "parquet":
        pq.write_table(pa.table(columns), path, row_group_size=2)
    elif format == "json":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        lines = [list(columns), *([("" if v is None else str(v)) for v in row.values()] for row in rows)]
        path.write_text("".join(",".join(line) + "\n" for line in lines))
    return path


def source(root: Path, **options: Any) -> Files:
    return Files(f"{root}/**/t*", hive_partitioning=True, **options)


def meant(texts: list[str | None]) -> list[Any]:
    """What folders say: numbers or dates where their text is the folder's, else texts."""
    for kind in (int, datetime.date.fromisoformat):
        try:
            values = [None if text is None else kind(text) for text in texts]
        except ValueError:
            continue
        if all(str(v) == t for v, t in zip(values, texts, strict=True) if t is not None) and any(texts):
            return values if all(abs(v) < 2**63 for v in values if isinstance(v, int)) else texts
    return texts


SAID = st.one_of(
    st.lists(st.none() | st.integers(-(2**70), 2**70).map(str), min_size=1, max_size=3),
    st.lists(st.none() | st.integers(0, 12).map(str), min_size=1, max_size=3),
    st.lists(st.none() | st.dates().map(str), min_size=1, max_size=3),
    st.lists(
        st.sampled_from([None, "01", "1", "+1", "-0", "1.10", "1.1", "true", "NaN", "2024-02-30"])
        | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=5),
        min_size=1,
        max_size=3,
    ),
)


@settings(max_examples=10, deadline=None)
@given(said=SAID, format=st.sampled_from(FORMATS), size=st.sampled_from([9, 10_000]))
@example(said=["01", "1", None], format="csv", size=9)
@example(said=["a b/c%", "ä=%20", "", "'"], format="json", size=9)
def test_folders_say_what_python_says(said: list[str | None], format: Format, size: int, tmp_path_factory: Any) -> None:
    root = tmp_path_factory.mktemp("folders")
    for number, text in enumerate(said):
        folder = f"k={NOTHING if text is None else quote(text, safe='')}"
        put(root, f"n={number}/{folder}", {"id": [number * 3 + i for i in range(3)]}, format)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files_text, "CHUNK", size)
        patch.setattr(files_parquet, "BATCH_ROWS", 2)
        whole = read(source(root))
    assert whole.table().to_pylist() == [
        {"id": number * 3 + i, "n": number, "k": value} for number, value in enumerate(meant(said)) for i in range(3)
    ]


@pytest.mark.parametrize("format", FORMATS)
def test_leading_zeros_stay_unless_a_type_is_declared(tmp_path: Path, format: Format) -> None:
    put(tmp_path, "year=2024/Month=01", {"id": [1]}, format)
    put(tmp_path, "year=2024/Month=12", {"id": [2]}, format)
    assert read(source(tmp_path)).columns() == {"id": [1, 2], "year": [2024, 2024], "month": ["01", "12"]}
    declared = source(tmp_path, types={"Month": "int32"}, rename={"Month": "m"})
    assert read(declared).columns() == {"id": [1, 2], "year": [2024, 2024], "m": [1, 12]}
    assert read(declared).table().schema.field("m").type == pa.int32()
    with pytest.raises(StepFailed, match=r"Month=01/t\.\w+': '01' in the column 'month' is no date"):
        read(source(tmp_path, types={"Month": "date"}))


def test_a_type_begins_as_the_one_that_the_table_has(tmp_path: Path) -> None:
    put(tmp_path, "k=2024-01-01", {"id": [1]}, "csv")
    for kind, value in [("varchar", "2024-01-01"), ("timestamp", datetime.datetime(2024, 1, 1))]:
        for piece in files.stream("t", source(tmp_path), {}, {"k": kind}).pieces(None):
            assert rows(piece)["k"].to_pylist() == [value]


@pytest.mark.parametrize("format", FORMATS)
def test_a_file_says_the_same_as_its_folder_or_is_refused(tmp_path: Path, format: Format) -> None:
    put(tmp_path, "k=1", {"k": [1, None], "id": [1, 2]}, format, "t1")
    put(tmp_path, f"k={NOTHING}", {"id": [3]}, format, "t2")
    assert read(source(tmp_path)).columns() == {"k": [1, 1, None], "id": [1, 2, 3]}
    put(tmp_path, "k=2", {"id": [4, 5], "k": [2, 3]}, format, "t3")
    with pytest.raises(StepFailed, match=r"k=2/t3\..*3'? in the column 'k' is no '2', which the folder says"):
        read(source(tmp_path))
    put(tmp_path, "k=2", {"id": [4], "k": [2]}, format, "t3")
    put(tmp_path, f"k={NOTHING}", {"k": [7]}, format, "t2")
    with pytest.raises(StepFailed, match=r"7'? in the column 'k' is no NULL, which the folder says"):
        read(source(tmp_path))


@pytest.mark.parametrize("format", FORMATS)
def test_a_text_of_a_folder_is_held_against_the_file_as_well(tmp_path: Path, format: Format) -> None:
    put(tmp_path, "k=01", {"k": ["01"], "id": [1]}, format)
    assert read(source(tmp_path)).columns() == {"k": ["01"], "id": [1]}
    put(tmp_path, "k=01", {"k": ["1"], "id": [1]}, format)
    with pytest.raises(StepFailed, match="'1' in the column 'k' is no '01'"):
        read(source(tmp_path))
    assert read(source(tmp_path, types={"k": "int64"})).columns() == {"k": [1], "id": [1]}


@pytest.mark.parametrize("format", ["csv", "json"])
def test_rows_that_say_otherwise_are_set_aside(tmp_path: Path, format: Format) -> None:
    put(tmp_path, "k=1", {"id": [1, 2], "k": [1, 2]}, format)
    found = read(source(tmp_path, bad_rows="reject"))
    assert found.columns() == {"id": [1], "k": [1]}
    assert found.columns("t__rejected")["reason"] == ["'2' in the column 'k' is no '1', which the folder says"]


def test_folders_that_tell_other_columns_are_refused(tmp_path: Path) -> None:
    put(tmp_path, "a=1/b=2", {"id": [1]}, "csv")
    put(tmp_path, "a=1", {"id": [1]}, "csv", "t2")
    with pytest.raises(
        StepFailed, match=r"the folders of '.*b=2/t\.csv' tell 'a', 'b', and those of '.*t2\.csv' 'a'; one table's"
    ):
        read(source(tmp_path))
    with pytest.raises(BadInput, match=r"no folder of .* is like `year=2024`"):
        read(Files(str(put(tmp_path, "plain", {"id": [1]}, "csv", "t3")), hive_partitioning=True))
    with pytest.raises(StepFailed, match="'A' and 'a' have one name"):
        read(Files(str(put(tmp_path, "A=1/a=2", {"id": [1]}, "csv")), hive_partitioning=True))
    with pytest.raises(StepFailed, match="cannot be read: 'utf-8' codec"):
        read(Files(str(put(tmp_path, "a=%FF", {"id": [1]}, "csv")), hive_partitioning=True))


def test_without_the_option_folders_are_names(tmp_path: Path) -> None:
    assert read(Files(str(put(tmp_path, "a=1", {"id": [1]}, "csv")))).columns() == {"id": [1]}


@pytest.mark.parametrize("format", FORMATS)
def test_it_goes_on_behind_a_position(tmp_path: Path, format: Format, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files_text, "CHUNK", 9)
    monkeypatch.setattr(files_parquet, "BATCH_ROWS", 2)
    put(tmp_path, "k=1", {"id": [1, 2, 3]}, format)
    put(tmp_path, "k=2", {"id": [4, 5, 6], "k": [2, 2, 2]}, format)
    whole = read(source(tmp_path)).table().select(["id", "k"]).to_pydict()
    assert whole == {"id": [1, 2, 3, 4, 5, 6], "k": [1, 1, 1, 2, 2, 2]}
    for stop in range(0, 6, 2):
        assert read_in_two(source(tmp_path), stop).table().select(["id", "k"]).to_pydict() == whole


def test_a_file_in_another_folder_is_another_one(tmp_path: Path) -> None:
    old = put(tmp_path, "k=1", {"id": [1]}, "csv")
    appended = source(tmp_path, disposition="append")
    first = read(appended)
    assert first.columns() == {"id": [1], "k": [1], "_file": [f"file://{old}"]}
    old.rename(old.with_name("t2.csv"))
    again = read(appended, first.state)
    assert again.pieces == []
    mark = files.FileSource(source(tmp_path)).fingerprint()
    (tmp_path / "k=1").rename(tmp_path / "k=2")
    assert read(appended, again.state).columns()["k"] == [2]
    assert files.FileSource(source(tmp_path)).fingerprint() != mark


def test_a_file_without_rows_has_its_folders_columns(tmp_path: Path) -> None:
    put(tmp_path, "k=1", {"id": []}, "csv")
    assert read(source(tmp_path)).columns() == {"id": [], "k": []}
    pq.write_table(pa.table({"id": pa.array([], pa.int64())}), tmp_path / "k=1" / "p.parquet")
    only = Files(f"{tmp_path}/*/*.parquet", hive_partitioning=True)
    assert read(only).table().schema == pa.schema([("id", pa.int64()), ("k", pa.int64())])

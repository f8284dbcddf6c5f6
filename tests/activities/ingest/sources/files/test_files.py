"""Files as a source: Parquet, several files, dispositions, positions and fingerprints."""

from __future__ import annotations

import datetime
import decimal
import gzip
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from entrepot.activities.ingest.sources.files import files, text
from entrepot.activities.ingest.sources.files import parquet as files_parquet
from entrepot.activities.ingest.sources.stream import Hints, ValueFilter
from entrepot.errors import BadInput, StepFailed
from entrepot.language.sources import Files
from tests.activities.ingest.sources.reading import read, rows


def parquet(path: Path, data: dict[str, Any], **options: Any) -> Path:
    pq.write_table(pa.table(data), path, **options)
    return path


def test_parquet_is_given_as_it_is(tmp_path: Path) -> None:
    path = parquet(tmp_path / "t.parquet", {"a": [1, 2], "b": ["x", None]})
    stream = files.stream("t", Files(str(path)), {})
    (piece,) = list(stream.pieces(None))
    assert isinstance(piece.rows, Path)
    assert path.exists()
    assert piece.rows.name != path.name
    assert stream.hints() == {"t": Hints("replace")}


def test_a_piece_may_be_moved_away(tmp_path: Path) -> None:
    path = parquet(tmp_path / "t.parquet", {"a": [1, 2]})
    for piece in files.stream("t", Files(str(path)), {}).pieces(None):
        assert isinstance(piece.rows, Path)
        piece.rows.rename(tmp_path / "moved")
    assert pq.read_table(path).num_rows == 2


def test_parquet_whose_columns_have_other_names_is_rewritten(tmp_path: Path) -> None:
    parquet(tmp_path / "t.parquet", {"raceId": [1, 2], "x": [1.5, 2.5]})
    assert read(Files(str(tmp_path / "t.parquet"))).columns() == {"race_id": [1, 2], "x": [1.5, 2.5]}


def test_parquet_files_are_united_by_name(tmp_path: Path) -> None:
    parquet(tmp_path / "1.parquet", {"a": pa.array([1], pa.int32()), "b": ["x"]})
    parquet(tmp_path / "2.parquet", {"c": [True], "a": pa.array([2], pa.int64())})
    result = read(Files(str(tmp_path / "*.parquet")))
    assert result.columns() == {"a": [1, 2], "b": ["x", None], "c": [None, True]}
    assert result.table().schema.field("a").type == pa.int64()


def test_parquet_types_without_a_common_one_name_both_files(tmp_path: Path) -> None:
    parquet(tmp_path / "1.parquet", {"a": [1]})
    parquet(tmp_path / "2.parquet", {"a": ["x"]})
    source = Files(str(tmp_path / "*.parquet"))
    with pytest.raises(StepFailed, match=r"the column 'a' is int64 in '.*1\.parquet' and string in '.*2\.parquet'"):
        read(source)
    declared = Files(source.path, types={"a": "string"})
    assert read(declared).columns() == {"a": ["1", "x"]}


def test_parquet_goes_on_behind_a_position(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files_parquet, "BATCH_ROWS", 30)
    for number in range(2):
        data = {"N": list(range(number * 100, number * 100 + 100))}
        parquet(tmp_path / f"{number}.parquet", data, row_group_size=40)
    source = Files(str(tmp_path / "*.parquet"))
    whole = read(source)
    assert whole.columns()["n"] == list(range(200))
    for at, (_, _, position) in enumerate(whole.pieces):
        behind = sum(rows.num_rows for _, rows, _ in whole.pieces[: at + 1])
        rest = [rows["n"].to_pylist() for _, rows, _ in read(source, after=position).pieces]
        assert [n for values in rest for n in values] == list(range(behind, 200))


def test_old_times_of_parquet_keep_their_years(tmp_path: Path) -> None:
    times = [datetime.datetime(9999, 12, 31, 23), datetime.datetime(1, 1, 1), None]
    path = parquet(tmp_path / "t.parquet", {"a": times}, use_deprecated_int96_timestamps=True)
    assert read(Files(str(path))).columns() == {"a": times}


def test_parquet_types_that_warehouses_lack(tmp_path: Path) -> None:
    table = {"a": pa.array([b"ab"], pa.binary(2)), "b": pa.array([{"a b": 1, "@": [2]}]), "c": [None]}
    assert read(Files(str(parquet(tmp_path / "t.parquet", table)))).columns()["a"] == [b"ab"]
    path = parquet(tmp_path / "t.parquet", {"took": pa.array([5], pa.duration("s"))})
    with pytest.raises(StepFailed, match=r"the column 'took' of '.*' is a span of time"):
        read(Files(str(path)))
    assert read(Files(str(path), types={"took": "int64"})).columns() == {"took": [5]}


def test_parquet_decimals_and_fractions_have_no_type_in_common(tmp_path: Path) -> None:
    parquet(tmp_path / "1.parquet", {"a": [decimal.Decimal("12345678901234567.89")]})
    parquet(tmp_path / "2.parquet", {"a": [0.5]})
    with pytest.raises(StepFailed, match="the column 'a' is decimal128"):
        read(Files(str(tmp_path / "*.parquet")))


def test_no_parquet(tmp_path: Path) -> None:
    (tmp_path / "t.parquet").write_bytes(b"PAR1 or not")
    with pytest.raises(StepFailed, match="cannot be read as Parquet"):
        read(Files(str(tmp_path / "t.parquet")))


def test_csv_files_are_united_by_name(tmp_path: Path) -> None:
    (tmp_path / "1.csv").write_text("a,b\n1,x\n")
    (tmp_path / "2.csv").write_text("c,a\n2020-01-01,y\n")
    assert read(Files(str(tmp_path / "*.csv"))).columns() == {
        "a": ["1", "y"],
        "b": ["x", None],
        "c": [None, datetime.date(2020, 1, 1)],
    }


@pytest.mark.parametrize("format", ["csv", "json"])
def test_text_goes_on_behind_a_position(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: str) -> None:
    monkeypatch.setattr(text, "CHUNK", 250)
    for number in range(2):
        values = range(number * 100, number * 100 + 100)
        lines = ["a,b", *(f"{n},x" for n in values)] if format == "csv" else [f'{{"a": {n}, "b": "x"}}' for n in values]
        lines.insert(51, "bad,,")
        (tmp_path / f"{number}.{format}").write_text("\n".join([*lines, ""]))
    source = Files(str(tmp_path / f"*.{format}"), bad_rows="reject", types={"a": "int64"})
    whole = read(source)
    assert whole.columns()["a"] == list(range(200))
    assert whole.columns("t__rejected")["content"] == ["bad,,", "bad,,"]
    assert whole.hints["t__rejected"] == Hints("replace")
    for at, (_, _, position) in list(enumerate(whole.pieces))[::2]:
        if position is not None:
            again = read(source, after=position)
            left = whole.pieces[at + 1 :]
            assert [(name, table) for name, table, _ in again.pieces] == [(name, table) for name, table, _ in left]
            aside = any(name == "t__rejected" for name, _, _ in whole.pieces)
            assert ("t__rejected" in again.hints) == aside


def test_a_position_of_other_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "CHUNK", 10)
    path = tmp_path / "t.csv"
    path.write_text("a\n" + "1\n" * 50)
    position = read(Files(str(path))).pieces[1][2]
    path.write_text("a\n" + "1\n" * 60)
    with pytest.raises(StepFailed, match="have changed while they were read"):
        read(Files(str(path)), after=position)


def test_append_reads_what_is_new_or_changed(tmp_path: Path) -> None:
    source = Files(str(tmp_path / "*.csv"), disposition="append")
    for name in ("1", "2", "3"):
        (tmp_path / f"{name}.csv").write_text(f"a\n{name}\n")
    first = read(source)
    assert first.columns() == {"a": [1, 2, 3], "_file": [f"file://{tmp_path}/{n}.csv" for n in (1, 2, 3)]}
    assert first.hints == {"t": Hints("append")}
    (tmp_path / "1.csv").unlink()
    (tmp_path / "2.csv").write_text("a\n22\n")
    (tmp_path / "4.csv").write_text("a\n4\n")
    second = read(source, first.state)
    assert second.columns() == {"a": [22, 4], "_file": [f"file://{tmp_path}/{n}.csv" for n in (2, 4)]}
    assert second.hints == {"t": Hints("append", replaces=ValueFilter("_file", (f"file://{tmp_path}/2.csv",)))}
    assert len(second.state["files"]) == 4
    assert read(source, second.state).pieces == []


def test_append_of_parquet_says_the_file(tmp_path: Path) -> None:
    parquet(tmp_path / "t.parquet", {"a": [1]})
    result = read(Files(str(tmp_path / "t.parquet"), disposition="append"))
    assert result.columns() == {"a": [1], "_file": [f"file://{tmp_path}/t.parquet"]}


def test_merge_and_scd2(tmp_path: Path) -> None:
    (tmp_path / "1.csv").write_text("orderId,gone\n1,true\n")
    merge = Files(str(tmp_path / "*.csv"), disposition="merge", key=["orderId"], deleted="gone")
    first = read(merge)
    assert first.hints == {"t": Hints("merge", key=("order_id",), deleted="gone")}
    assert read(merge, first.state).pieces == []
    history = Files(merge.path, disposition="scd2", key=["orderId"])
    assert read(history, first.state).columns()["order_id"] == [1]
    assert read(history).hints == {"t": Hints("scd2", key=("order_id",))}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"disposition": "merge"}, "needs a `key`"),
        ({"disposition": "scd2"}, "needs a `key`"),
        ({"key": ["a"]}, "it is for merge and scd2"),
        ({"deleted": "a"}, "for the disposition 'merge' only"),
        ({"bad_rows": "drop"}, "unknown bad_rows 'drop'"),
        ({"disposition": "upsert"}, "unknown disposition 'upsert'"),
        ({"delimiter": "::"}, "one ASCII character"),
    ],
)
def test_settings_that_do_not_go_together(tmp_path: Path, options: Any, sentence: str) -> None:
    (tmp_path / "t.csv").write_text("a\n1\n")
    with pytest.raises(BadInput, match=sentence):
        read(Files(str(tmp_path / "t.csv"), **options))


@pytest.mark.parametrize("url", ["ftp://me:geheim@host/t.csv", "https://host/t.csv?sv=1&sig=geheim"])
def test_a_secret_in_a_url_would_stand_in_the_catalog(url: str) -> None:
    with pytest.raises(BadInput, match="has a password or signature in it") as refused:
        read(Files(url))
    assert "geheim" not in str(refused.value)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="there is no file"):
        read(Files(str(tmp_path / "*.csv")))


def test_formats(tmp_path: Path) -> None:
    (tmp_path / "t.dat").write_text("a\n1\n")
    with pytest.raises(BadInput, match="cannot tell the format"):
        read(Files(str(tmp_path / "t.dat")))
    assert read(Files(str(tmp_path / "t.dat"), format="csv")).columns() == {"a": [1]}
    (tmp_path / "t.json").write_text('{"a": 1}')
    (tmp_path / "t.csv").write_text("a\n1\n")
    with pytest.raises(BadInput, match="have one format"):
        read(Files(str(tmp_path / "t.[jc]*")))


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "t.csv").mkdir()
    with pytest.raises(StepFailed, match=r"'file://.*t\.csv' cannot be read"):
        read(Files(str(tmp_path / "t.csv")))


def test_the_fingerprint_is_of_content_and_reading(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a\n1\n")
    source = Files(str(tmp_path / "*.csv"))
    mark = files.FileSource(source).fingerprint()
    os.utime(path, (0, 0))
    assert files.FileSource(source).fingerprint() == mark
    path.rename(tmp_path / "other.csv")
    assert files.FileSource(source).fingerprint() == mark
    (tmp_path / "other.csv").write_text("a\n2\n")
    others = [source, Files(source.path, encoding="latin-1"), Files(source.path, bad_rows="reject")]
    others += [Files(source.path, short_rows="nulls"), Files(source.path, disposition="append")]
    assert len({mark, *(files.FileSource(other).fingerprint() for other in others)}) == len(others) + 1


def test_a_remote_store(tmp_path: Path) -> None:
    import fsspec

    store = fsspec.filesystem("memory")
    store.pipe("/files/t.csv", b"a,b\n1,x\n")
    parquet(tmp_path / "t.parquet", {"a": [1], "b": ["x"]})
    store.pipe("/files/t.parquet", (tmp_path / "t.parquet").read_bytes())
    for path in ("memory://files/t.csv", "memory://files/*.parquet"):
        assert read(Files(path)).columns() == {"a": [1], "b": ["x"]}


def test_rows_are_there_until_the_next_piece(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a\n1\n")
    pieces = files.stream("t", Files(str(tmp_path / "t.csv")), {}).pieces(None)
    assert rows(next(pieces)).num_rows == 1


@pytest.mark.parametrize("name", ["t.CSV", "t.csv.GZ", "t.csv.zst", "t [1].csv", "t[1].csv", "a*b.csv"])
def test_names_and_endings_that_are_common(tmp_path: Path, name: str) -> None:
    data = b"a\n1\n"
    if name.endswith("GZ"):
        data = gzip.compress(data)
    if name.endswith("zst"):
        data = pa.compress(data, "zstd", asbytes=True)
    (tmp_path / name).write_bytes(data)
    assert read(Files(str(tmp_path / name))).columns() == {"a": [1]}
    assert read(Files(f"{tmp_path}/*")).columns() == {"a": [1]}


def test_packed_by_zstandard_and_broken(tmp_path: Path) -> None:
    (tmp_path / "t.csv.zst").write_bytes(b"no frame")
    with pytest.raises(StepFailed, match="cannot be unpacked"):
        read(Files(str(tmp_path / "t.csv.zst")))

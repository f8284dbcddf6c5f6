"""CSV files as a source: types, bad rows, encodings, and what is too large."""

from __future__ import annotations

import bz2
import csv
import datetime
import gzip
import io
import lzma
import math
import zipfile
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entrepot.activities.ingest.sources.files import text as files_text
from entrepot.errors import BadInput, StepFailed
from entrepot.language.sources import Files
from tests.activities.ingest.sources.reading import Read, read, read_in_two


def written(folder: Path, data: bytes, name: str = "t.csv") -> str:
    path = folder / name
    path.write_bytes(data)
    return str(path)


def columns(folder: Path, text: str, **options: Any) -> dict[str, list[Any]]:
    return read(Files(written(folder, text.encode()), **options)).columns()


def types(result: Read) -> dict[str, str]:
    return {field.name: str(field.type) for field in result.table().schema}


@pytest.mark.parametrize(
    ("values", "type"),
    [
        (["1", "-2", "9223372036854775807"], "int64"),
        (["1", "2.5", "1e3"], "double"),
        (["007", "1"], "string"),
        (["1_000", "1"], "string"),
        ([" 1", "1"], "string"),
        (["9223372036854775808", "1"], "string"),
        (["9007199254740993", "0.5"], "string"),
        (["9007199254740992", "0.5"], "double"),
        (["+41791234567", "1"], "string"),
        (["12345678901234567.89", "1"], "string"),
        (
            ["0.1", "0.10000000000000001", "1.000000000000000056e-01", "0.50000000000000000000", "-.5", "1e300"],
            "double",
        ),
        (["1e400", "1"], "string"),
        (["1e-400", "1"], "string"),
        (["123456789012345678901", "1"], "string"),
        (["1", "NaN"], "double"),
        (["0.5", "nan", "inf", "-inf", "Infinity", "-Infinity"], "double"),
        (["9007199254740993", "NaN"], "string"),
        (["12345678901234567.89", "inf"], "string"),
        (["007", "NaN"], "string"),
        (["NaN", "2020-01-31"], "string"),
        (["1", "NA"], "string"),
        (["true", "False"], "bool"),
        (["true", "1"], "string"),
        (["2020-01-31", "1999-12-01"], "date32[day]"),
        (["2020-01-31", "2020-02-30"], "string"),
        (["2020-01-31", "2020-01-31 10:00:00"], "timestamp[us]"),
        (["2020-01-31T10:00", "2020-01-31 10:00:00.123"], "timestamp[us]"),
        (["2020-01-31T10:00:00Z", "2020-01-31 10:00:00+02:00"], "timestamp[us, tz=UTC]"),
        (["2020-01-31T10:00:00Z", "2020-01-31 10:00:00"], "string"),
        (["10:00:00", "23:59:59.5"], "time64[us]"),
        (["25:00:00", "10:00:00"], "string"),
        (["", ""], "null"),  # an ingest knows what it was before, or takes it as text
        (["x", "1"], "string"),
    ],
)
def test_the_type_is_the_narrowest_that_loses_nothing(tmp_path: Path, values: list[str], type: str) -> None:
    for order in (values, values[::-1]):
        text = "a,b\n" + "".join(f"{value},x\n" for value in order)
        result = read(Files(written(tmp_path, text.encode())))
        assert types(result)["a"] == type


def test_the_last_row_of_many_chunks_has_a_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files_text, "CHUNK", 1_000)
    rows = [f"{n},,2020-01-01,true,1.50,{n}" for n in range(1_000)]
    text = "int,late,date,flag,real,whole\n" + "\n".join([*rows, "x,7,2020-01-01 10:00:00,maybe,text,1.5"])
    result = read(Files(written(tmp_path, text.encode())))
    assert types(result) == {
        "int": "string",
        "late": "int64",
        "date": "timestamp[us]",
        "flag": "string",
        "real": "string",
        "whole": "double",
    }
    found = result.columns()
    assert found["int"] == [*map(str, range(1_000)), "x"]
    assert found["late"] == [None] * 1_000 + [7]
    assert found["flag"][0] == "true"
    assert found["real"][0] == "1.50"
    assert found["date"][0] == datetime.datetime(2020, 1, 1)
    assert len(result.pieces) > 10


def test_null_markers(tmp_path: Path) -> None:
    found = columns(tmp_path, 'a,b\n1,\\N\n"NA",x\n,"y"\n', nulls=["\\N", "NA", ""])
    assert found == {"a": [1, None, None], "b": [None, "x", "y"]}


def test_line_breaks_and_quotes_within_quotes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files_text, "CHUNK", 16)
    text = 'a,b\n1,"x\ny, ""z"""\n2,5" pipe\n3,"\n\n"\n'
    assert columns(tmp_path, text) == {"a": [1, 2, 3], "b": ['x\ny, "z"', '5" pipe', "\n\n"]}


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
def test_line_ends(tmp_path: Path, ends: str) -> None:
    assert columns(tmp_path, ends.join(["a,b", "1,x", "2,y", ""])) == {"a": [1, 2], "b": ["x", "y"]}


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
@pytest.mark.parametrize("value", ["x\r\ny", "x\ny", "\r\n", "\r", 'a "b",\r\n'])
@pytest.mark.parametrize("odd", ["plain", '5" pipe'])
def test_line_breaks_within_quotes_stay_as_they_are(tmp_path: Path, ends: str, value: str, odd: str) -> None:
    quoted = '"' + value.replace('"', '""') + '"'
    assert columns(tmp_path, ends.join(["a,b", f"1,{quoted}", f"2,{odd}", ""])) == {"a": [1, 2], "b": [value, odd]}


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
@pytest.mark.parametrize("torn", ["2,y,", "2,,", "2,y,,", '"2","y",', ",,", '2,"y\n,",'])
@pytest.mark.parametrize("last", [True, False])
def test_a_line_with_an_empty_field_too_many_is_torn(tmp_path: Path, ends: str, torn: str, last: bool) -> None:
    lines = ["a,b", "1,x", torn] if last else ["a,b", torn, "1,x", ""]
    result = read(Files(written(tmp_path, ends.join(lines).encode()), bad_rows="reject"))
    assert result.columns() == {"a": [1], "b": ["x"]}
    aside = result.columns("t__rejected")
    assert (aside["line"], aside["reason"], aside["content"]) == ([3 if last else 2], ["too many fields"], [torn])


def test_mixed_line_ends(tmp_path: Path) -> None:
    assert columns(tmp_path, 'a,b\r\n1,"x\ny"\r\n2,z\n') == {"a": [1, 2], "b": ["x\ny", "z"]}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1", "cp1252", "utf-16"])
def test_encodings(tmp_path: Path, encoding: str) -> None:
    path = written(tmp_path, "Stadt,n\nMünchen,1\nKöln,2\n".encode(encoding))
    assert read(Files(path, encoding=encoding)).columns() == {"stadt": ["München", "Köln"], "n": [1, 2]}


@pytest.mark.parametrize(
    ("name", "text", "options"),
    [
        ("t.tsv", "id\tname\n1\tx,y\n", {}),
        ("t.tsv.gz", "id\tname\n1\tx,y\n", {}),
        ("t.csv", "sep=;\r\nid;name\r\n1;x,y\r\n", {}),
        ("t.csv", "id;name\n1;x,y\n", {"delimiter": ";"}),
        ("t.csv", '1,"x,y"\n', {"header": False, "names": ["id", "name"]}),
        ("t.csv", 'id,id\n1,"x,y"\n', {"names": ["id", "name"]}),
        ("t.csv", 'Report "x\n\nid,name\n1,"x,y"\n', {"skip": 2}),
        ("t.csv", "id,name\n1,'x,y'\n", {"quote": "'"}),
        ("t.csv", 'id,name\n1,"x\\"\n\\"y"\n', {"escape": "\\"}),
        ("t.csv", 'id;name\n1;x "y\n', {"quote": "", "delimiter": ";"}),
    ],
)
def test_dialects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str, options: Any) -> None:
    data = gzip.compress(text.encode()) if name.endswith("gz") else text.encode()
    expected = 'x"\n"y' if "escape" in options else 'x "y' if options.get("quote") == "" else "x,y"
    source = Files(written(tmp_path, data, name), **options)
    for size in (files_text.CHUNK, 9):
        monkeypatch.setattr(files_text, "CHUNK", size)
        whole = read(source)
        assert whole.columns() == {"id": [1], "name": [expected]}
        for stop in range(len(whole.pieces)):
            assert read_in_two(source, stop).columns() == whole.columns()


def test_names_that_are_not_told(tmp_path: Path) -> None:
    assert columns(tmp_path, "1,x\n2,y\n", header=False) == {"column_1": [1, 2], "column_2": ["x", "y"]}


@pytest.mark.parametrize(
    ("text", "options", "error", "sentence"),
    [
        ("id;n\n1;x\n", {}, StepFailed, r"t\.csv:1: the first line has no ',' and has ';'; say `delimiter=';'`"),
        ("id\tn\n1\tx\n", {}, StepFailed, r"the first line has no ',' and has '\\t'"),
        ("a,b\n1,2\n", {"names": ["x"]}, StepFailed, r"t\.csv:1: `names` has 1, (and )?the line 2 fields"),
        ("a\n1\n", {"decimal": ",", "thousands": ","}, BadInput, "must be two different marks"),
        ("a\n1\n", {"quote": "ab"}, BadInput, "the quote must be one ASCII character"),
    ],
)
def test_dialects_that_are_not_understood(
    tmp_path: Path, text: str, options: Any, error: type[Exception], sentence: str
) -> None:
    with pytest.raises(error, match=sentence):
        columns(tmp_path, text, **options)


@pytest.mark.parametrize(
    ("values", "read_as"),
    [
        (["1.234,5", "-0,5", "7"], [1234.5, -0.5, 7.0]),
        (["1.234", "12"], [1234, 12]),
        (["1.2.3", "1"], ["1.2.3", "1"]),
        (["1,5", "x"], ["1,5", "x"]),
        (["1.234,5", "inf", "-Infinity"], [1234.5, math.inf, -math.inf]),
        (["12345678901234567,89", "1"], ["12345678901234567,89", "1"]),
    ],
)
def test_marks_in_numbers(tmp_path: Path, values: list[str], read_as: list[Any]) -> None:
    text = "a;b\n" + "".join(f"{value};x\n" for value in values)
    assert columns(tmp_path, text, delimiter=";", decimal=",", thousands=".")["a"] == read_as


def test_marks_in_numbers_of_declared_types(tmp_path: Path) -> None:
    options: Any = {"delimiter": ";", "decimal": ",", "thousands": ".", "types": {"a": "decimal(38, 2)"}}
    assert columns(tmp_path, "a;b\n1.234.567,89;x\n", **options)["a"] == [Decimal("1234567.89")]
    with pytest.raises(StepFailed, match=r"t\.csv:2: '1.5' in the column 'a' is no decimal"):
        columns(tmp_path, "a;b\n1.5;x\n", **options)


def test_an_unknown_encoding(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="unknown encoding 'klingon'"):
        columns(tmp_path, "a\n1\n", encoding="klingon")


def _zipped(data: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inner.csv", data)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("ending", "pack"), [("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress), ("zip", _zipped)]
)
def test_packed_files(tmp_path: Path, ending: str, pack: Any) -> None:
    path = written(tmp_path, pack(b"a,b\n1,x\n"), f"t.csv.{ending}")
    assert read(Files(path)).columns() == {"a": [1], "b": ["x"]}
    broken = written(tmp_path, pack(b"a,b\n1,x\n")[:-12], f"broken.csv.{ending}")
    with pytest.raises(StepFailed, match="cannot be unpacked"):
        read(Files(broken))


def test_a_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files_text, "BOMB_FREE", 1 << 20)
    monkeypatch.setattr(files_text, "BOMB_RATIO", 100)
    path = written(tmp_path, gzip.compress(b"a\n" + b"0\n" * (20 << 20)), "t.csv.gz")
    with pytest.raises(StepFailed, match="taken for a bomb"):
        read(Files(path))


def test_a_line_that_is_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files_text, "CHUNK", 10_000)
    monkeypatch.setattr(files_text, "LONGEST", 100_000)
    path = written(tmp_path, b"a,b\n1,x\n2," + b"y" * 200_000)
    with pytest.raises(StepFailed, match=r"t\.csv:3: the line is longer than 100,000 bytes"):
        read(Files(path))


BAD = b'a,b\n1,x\n2,y,z\n3,"p\nq"\n4,"r"s\n5\n6,\xff\n\n7,ok\n8,"open\n9,last\n'


def test_bad_rows_are_set_aside_with_line_and_reason(tmp_path: Path) -> None:
    result = read(Files(written(tmp_path, BAD), bad_rows="reject"))
    assert result.columns() == {"a": [1, 3, 7, 9], "b": ["x", "p\nq", "ok", "last"]}
    aside = result.columns("t__rejected")
    assert list(zip(aside["line"], aside["reason"], strict=True)) == [
        (3, "too many fields"),
        (6, "a broken quote"),
        (7, "too few fields"),
        (8, "bytes that are not of the encoding"),
        (11, "a broken quote"),
    ]
    assert aside["content"][0] == "2,y,z"
    assert aside["file"][0].endswith("t.csv")


def test_bad_rows_fail_with_file_and_line(tmp_path: Path) -> None:
    with pytest.raises(StepFailed, match=r"t\.csv:3: too many fields: '2,y,z'"):
        read(Files(written(tmp_path, BAD)))


def test_short_rows_as_nulls(tmp_path: Path) -> None:
    assert columns(tmp_path, 'a,b,c\n1\n2,"x\ny"\n3,z,4\n', short_rows="nulls") == {
        "a": [1, 2, 3],
        "b": [None, "x\ny", "z"],
        "c": [None, None, 4],
    }


def test_declared_types(tmp_path: Path) -> None:
    text = "n,zip,t,d\n1,007,2020-01-01T10:00:00+02:00,1.25\n,,,\n"
    types = {"n": "int32", "zip": "string", "t": "timestamp('UTC')", "d": "decimal(9, 2)"}
    result = read(Files(written(tmp_path, text.encode()), types=types))
    found = result.table().schema
    assert [str(field.type) for field in found] == ["int32", "string", "timestamp[us, tz=UTC]", "decimal128(9, 2)"]
    assert result.columns()["zip"] == ["007", None]
    assert result.columns()["t"][0] == datetime.datetime(2020, 1, 1, 8, tzinfo=datetime.UTC)


def test_a_value_that_is_not_of_its_declared_type(tmp_path: Path) -> None:
    text = 'n,x\n1,"a\nb"\nthree,c\n2.5,d\n4,5,6\n5,e\n'
    with pytest.raises(StepFailed, match=r"t\.csv:4: 'three' in the column 'n' is no int32"):
        columns(tmp_path, text, types={"n": "int32"})
    result = read(Files(written(tmp_path, text.encode()), types={"n": "int32"}, bad_rows="reject"))
    assert result.columns()["n"] == [1, 5]
    assert result.columns("t__rejected")["line"] == [4, 5, 6]


def test_a_declared_type_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="'floaty' of the column 'n'"):
        columns(tmp_path, "n\n1\n", types={"n": "floaty"})


def test_names_are_normalised_and_must_differ(tmp_path: Path) -> None:
    assert list(columns(tmp_path, "raceId,Date Of Accident,\n1,2,3\n")) == ["race_id", "date_of_accident", "column_3"]
    with pytest.raises(StepFailed, match="'raceId' and 'race_id' have one name: 'race_id'"):
        columns(tmp_path, "raceId,race_id\n1,2\n")


def test_a_file_without_rows_has_columns(tmp_path: Path) -> None:
    assert columns(tmp_path, "a,b\n", types={"a": "int32"}) == {"a": [], "b": []}
    with pytest.raises(StepFailed, match="is empty"):
        columns(tmp_path, "")


_TEXTS = st.text(st.characters(exclude_characters="\r\x00", exclude_categories=["Cs"]), max_size=8)


@settings(max_examples=15, deadline=None)
@given(rows=st.lists(st.tuples(_TEXTS, _TEXTS), min_size=1, max_size=30), size=st.sampled_from([30, 100, 1_000]))
def test_what_was_written_is_read(rows: list[tuple[str, str]], size: int, tmp_path_factory: Any) -> None:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writerows([("a", "b"), *rows])
    path = written(tmp_path_factory.mktemp("csv"), buffer.getvalue().encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files_text, "CHUNK", size)
        found = read(Files(path, nulls=["\\N"], types={"a": "string", "b": "string"})).columns()
    assert list(zip(found["a"], found["b"], strict=True)) == rows

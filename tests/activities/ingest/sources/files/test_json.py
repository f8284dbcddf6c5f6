"""JSON files as a source: lines and arrays, nested values, late keys, and what is wrong in them."""

from __future__ import annotations

import datetime
import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entrepot.activities.ingest.sources.files import text as files_text
from entrepot.errors import StepFailed
from entrepot.language.sources import Files
from tests.activities.ingest.sources.reading import Read, read, read_in_two


def written(folder: Path, data: str | bytes, name: str = "t.json") -> str:
    path = folder / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return str(path)


def lines(folder: Path, *values: Any, **options: Any) -> Read:
    return read(Files(written(folder, "\n".join(map(json.dumps, values))), **options))


def types(result: Read) -> dict[str, str]:
    return {field.name: str(field.type) for field in result.table().schema}


def test_lines(tmp_path: Path) -> None:
    result = lines(
        tmp_path,
        {"id": 1, "userName": "x", "ok": True, "x": 1, "at": "2020-01-01T10:00:00Z", "day": "2020-01-01", "zip": "007"},
        {"id": 2, "userName": None, "ok": False, "x": 1.5, "late": [1, 2]},
    )
    assert types(result) == {
        "id": "int64",
        "user_name": "string",
        "ok": "bool",
        "x": "double",
        "at": "timestamp[us, tz=UTC]",
        "day": "date32[day]",
        "zip": "string",
        "late": "list<element: int64>",
    }
    assert result.columns()["late"] == [None, [1, 2]]
    assert result.columns()["day"] == [datetime.date(2020, 1, 1), None]


def test_an_array(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files_text, "CHUNK", 400)
    values = [{"n": n, "text": 'a "quoted"\n] line, {', "in": {"x": [n]}} for n in range(100)]
    result = read(Files(written(tmp_path, json.dumps(values, indent=2))))
    assert result.table().to_pylist() == values
    assert len(result.pieces) > 5


def test_objects_on_several_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = [{"n": n, "text": 'a } { "', "in": {"x": [n]}} for n in range(20)]
    data = "\n".join(json.dumps(value, indent=2) for value in values)
    for size in (files_text.CHUNK, 200):
        monkeypatch.setattr(files_text, "CHUNK", size)
        result = read(Files(written(tmp_path, data)))
        assert result.table().to_pylist() == values
    for stop in range(0, len(result.pieces), 3):
        assert read_in_two(Files(str(tmp_path / "t.json")), stop).table().to_pylist() == values
    with pytest.raises(StepFailed, match=r"t\.json:3: invalid JSON"):
        read(Files(written(tmp_path, '{\n  "a": 1\n]')))


@pytest.mark.parametrize("indent", [None, 2])
def test_rows_within_an_object(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, indent: int | None) -> None:
    values = [{"n": n, "items": ["]"]} for n in range(30)]
    envelope = {"items": [1], "ü": {"data": 1}, "data": {"total": 2, "items": values, "next": None}, "more": []}
    path = written(tmp_path, json.dumps(envelope, indent=indent, ensure_ascii=False))
    for size in (files_text.CHUNK, 100):
        monkeypatch.setattr(files_text, "CHUNK", size)
        result = read(Files(path, records="data.items"))
        assert result.table().to_pylist() == values
    for stop in range(0, len(result.pieces), 4):
        assert read_in_two(Files(path, records="data.items"), stop).table().to_pylist() == values
    for wrong in ("data.rows", "data.total", "items.x", "nothing"):
        with pytest.raises(StepFailed, match=f"has no array of rows under '{wrong}', which `records` names"):
            read(Files(path, records=wrong))


def test_an_empty_array(tmp_path: Path) -> None:
    assert read(Files(written(tmp_path, "[]"))).pieces == []


def test_keys_and_types_that_appear_late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files_text, "CHUNK", 1_000)
    values: list[Any] = [{"a": n, "s": {"x": 1}, "m": 1, "d": "2020-01-01", "u": [], "w": 1} for n in range(100)]
    values.append({"a": 1.5, "s": {"x": 2, "y": "new"}, "m": "text", "d": "soon", "u": ["x"], "w": {}, "late": 1})
    result = read(Files(written(tmp_path, "\n".join(map(json.dumps, values)))))
    assert types(result) == {
        "a": "double",
        "s": "struct<x: int64, y: string>",
        "m": "string",
        "d": "string",
        "u": "list<element: string>",
        "w": "string",
        "late": "int64",
    }
    found = result.table().to_pylist()
    assert found[0] == {"a": 0, "s": {"x": 1, "y": None}, "m": "1", "d": "2020-01-01", "u": [], "w": "1", "late": None}
    assert found[-1] == values[-1] | {"w": "{}"}


def test_irregular_values_are_json_text(tmp_path: Path) -> None:
    result = lines(tmp_path, {"a": {"x": 1}}, {"a": [1, "x"]}, {"a": "x"})
    assert [json.loads(text) for text in result.columns()["a"]] == [{"x": 1}, [1, "x"], "x"]
    mixed = lines(tmp_path, {"a": 1}, {"a": "x"}, {"a": True})
    assert mixed.columns()["a"] == ["1", "x", "true"]


def test_an_object_with_very_many_keys_is_json_text(tmp_path: Path) -> None:
    result = lines(tmp_path, {"a": {f"k{n}": n for n in range(2_000)}})
    assert types(result) == {"a": "string"}


def test_long_numbers(tmp_path: Path) -> None:
    result = lines(tmp_path, {"a": 2**63 - 1}, {"a": 5})
    assert result.columns()["a"] == [2**63 - 1, 5]
    assert lines(tmp_path, {"a": 2**64}, {"a": 5}).columns() == {"a": [str(2**64), "5"]}


BAD = '{"a": 1}\n{"a": 2\n\n[3]\n{"a": 4}\n{"a": "\udcff"}\n{"a": 6}\n'.encode("utf-8", "surrogateescape")


def test_bad_lines(tmp_path: Path) -> None:
    with pytest.raises(StepFailed, match=r"t\.json:2: invalid JSON: .*'\{\"a\": 2'"):
        read(Files(written(tmp_path, BAD)))
    result = read(Files(written(tmp_path, BAD), bad_rows="reject"))
    assert result.columns() == {"a": [1, 4, 6]}
    aside = result.columns("t__rejected")
    assert aside["line"] == [2, 4, 6]
    assert aside["reason"][1] == "invalid JSON: an object was expected, and this is list"
    assert aside["reason"][2] == "bytes that are not of the encoding"


@pytest.mark.parametrize(
    ("text", "line"),
    [('[\n{"a": 1},\n{"a": }\n]', 3), ('[\n{"a": 1}\n{"a": 2}]', 3), ('[{"a": 1},', 1), ('[{"a": 1}]\n]', 2)],
)
def test_an_array_that_is_broken_fails_with_its_line(tmp_path: Path, text: str, line: int) -> None:
    with pytest.raises(StepFailed, match=rf"t\.json:{line}: invalid JSON"):
        read(Files(written(tmp_path, text), bad_rows="reject"))


def test_bad_bytes_in_an_array(tmp_path: Path) -> None:
    path = written(tmp_path, b'[{"a": "\xc3\xa4"},\n{"a": "\xff"},\n{"a": "x"}]')
    with pytest.raises(StepFailed, match=r"t\.json:2: bytes that are not of the encoding"):
        read(Files(path))
    result = read(Files(path, bad_rows="reject"))
    assert result.columns() == {"a": ["ä", "x"]}
    assert result.columns("t__rejected")["line"] == [2]
    assert read(Files(path, encoding="latin-1")).columns() == {"a": ["Ã¤", "ÿ", "x"]}


def test_declared_types(tmp_path: Path) -> None:
    values = [{"n": 1, "s": 7}, {"n": "2", "s": "x"}, {"n": 2.5, "s": "y"}]
    with pytest.raises(StepFailed, match=r"t\.json:3: '2.5' in the column 'n' is no int32"):
        lines(tmp_path, *values, types={"n": "int32", "s": "string"})
    result = lines(tmp_path, *values, types={"n": "int32", "s": "string"}, bad_rows="reject")
    assert types(result) == {"n": "int32", "s": "string"}
    assert result.columns() == {"n": [1, 2], "s": ["7", "x"]}


@pytest.mark.parametrize("text", ['{"a": "%s"}', '[{"a": "%s"}]'])
def test_a_value_that_is_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(files_text, "CHUNK", 10_000)
    monkeypatch.setattr(files_text, "LONGEST", 100_000)
    with pytest.raises(StepFailed, match=r"t\.json:1: the line is longer than 100,000 bytes"):
        read(Files(written(tmp_path, text % ("x" * 200_000))))


def test_keys_that_become_one_name(tmp_path: Path) -> None:
    with pytest.raises(StepFailed, match="one name: 'user_id'"):
        lines(tmp_path, {"userId": 1, "user_id": 2})


def test_packed_and_in_another_encoding(tmp_path: Path) -> None:
    path = written(tmp_path, gzip.compress('{"a": "ü"}'.encode("latin-1")), "t.jsonl.gz")
    assert read(Files(path, encoding="latin-1")).columns() == {"a": ["ü"]}


_VALUES = st.fixed_dictionaries(
    {"a": st.integers(-(2**63), 2**63 - 1), "b": st.booleans(), "c": st.lists(st.integers(0, 9), max_size=3)},
    optional={
        "d": st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1).map(
            lambda t: f"t{t}"
        )
    },
)


@settings(max_examples=8, deadline=None)
@given(
    values=st.lists(_VALUES, min_size=1, max_size=20),
    indent=st.sampled_from([None, 1]),
    size=st.sampled_from([100, 1_000]),
)
def test_what_was_written_is_read(values: list[Any], indent: int | None, size: int, tmp_path_factory: Any) -> None:
    path = written(tmp_path_factory.mktemp("json"), json.dumps(values, indent=indent))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files_text, "CHUNK", size)
        found = read(Files(path)).table().to_pylist()
    assert [{k: v for k, v in row.items() if v is not None} for row in found] == values

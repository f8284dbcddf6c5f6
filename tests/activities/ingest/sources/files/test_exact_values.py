"""What is read is what was written, to the last digit: held against plain Python, which says what each value is."""

from __future__ import annotations

import csv
import datetime
import io
import json
import math
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from entrepot.activities.ingest.sources.files import text as files_text
from entrepot.errors import StepFailed
from entrepot.language.sources import Files
from tests.activities.ingest.sources.reading import read

LONG = 12345678901234567890
WIDE = 2**53 + 1


def found(folder: Path, data: str, name: str = "t.csv", **options: Any) -> dict[str, list[Any]]:
    (folder / name).write_bytes(data.encode("utf-8", "surrogatepass"))
    return read(Files(str(folder / name), **options)).columns()


def gives_back(text: str, value: Any) -> bool:
    """Whether a value says what the text did, as the kind of value that it is."""
    if isinstance(value, str):
        return value == text
    if isinstance(value, bool):
        return str(value).lower() == text.lower()
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value) == repr(float(text))
    if isinstance(value, float):  # as many digits as the text has are those of the text
        digits = max(1, len(Decimal(text).normalize().as_tuple().digits))
        is_whole = text.lstrip("-").isdigit()
        told = repr(value), f"{value:.{digits - 1}e}"
        return Decimal(text) in map(Decimal, told) and (not is_whole or int(value) == int(text))
    return str(value) in (text, text.replace("T", " "))


NO_DIGITS = ["NaN", "nan", "inf", "-inf", "Infinity", "-Infinity"]
TEXTS = st.one_of(
    st.integers(-(2**70), 2**70).map(str),
    st.integers(-1_000, 1_000).map(str),
    st.sampled_from([WIDE, -WIDE, 2**53, 2**63 - 1, 2**63, LONG]).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.decimals(allow_nan=False, allow_infinity=False, places=2).map(lambda d: format(d, "f")),
    st.sampled_from(
        ["007", "+41791234567", "1.10", ".5", "5.", "1e5", "1E-3", "1e400", "1e-400", "0.1000000000000000055"]
    ),
    st.sampled_from(NO_DIGITS),
    st.dates().map(str),
    st.sampled_from(["true", "False", "x", "2020-01-01 10:00:00", "10:00:00"]),
)
NUMBERS = st.one_of(st.integers().map(str), st.floats().map(repr), st.sampled_from(NO_DIGITS))
KINDS = st.one_of(*(st.lists(t, min_size=1, max_size=6) for t in (TEXTS, st.integers().map(str), NUMBERS)))


@settings(max_examples=15, deadline=None)
@given(values=KINDS, size=st.sampled_from([8, 10_000]))
@example(values=["1", str(WIDE), "0.5"], size=8)
@example(values=["0.5", str(WIDE)], size=8)
@example(values=["5.960464477539063e-08"], size=8)
def test_a_column_of_csv_says_what_its_texts_say(values: list[str], size: int, tmp_path_factory: Any) -> None:
    buffer = io.StringIO()
    csv.writer(buffer).writerows([["a"], *([value] for value in values)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files_text, "CHUNK", size)
        column = found(tmp_path_factory.mktemp("csv"), buffer.getvalue())["a"]
    assert all(map(gives_back, values, column)), column
    assert len({type(value) for value in column}) == 1


SMALL = st.one_of(st.integers(-(2**53), 2**53).map(str), st.floats(width=32).map(repr), st.sampled_from(NO_DIGITS))


@settings(max_examples=8, deadline=None)
@given(values=st.lists(SMALL, min_size=1, max_size=6), size=st.sampled_from([8, 10_000]))
@example(values=["1", "NaN"], size=8)
@example(values=["NaN", "1"], size=8)
def test_numbers_with_nan_and_infinity_among_them_are_numbers(
    values: list[str], size: int, tmp_path_factory: Any
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files_text, "CHUNK", size)
        column = found(tmp_path_factory.mktemp("csv"), "\n".join(["a", *values]))["a"]
    assert [repr(float(value)) for value in column] == [repr(float(text)) for text in values]
    assert not any(isinstance(value, str) for value in column)


LEAVES = st.one_of(
    st.integers(-(2**70), 2**70),
    st.sampled_from([0, 1, WIDE, 2**63, LONG]),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([0.5, 1.5]),
    st.sampled_from([Decimal("12345678901234567.89"), Decimal("1.10")]),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=3).map(lambda t: f"t{t}"),
    st.booleans(),
)
VALUES = st.one_of(
    LEAVES, st.lists(LEAVES, min_size=1, max_size=3), st.fixed_dictionaries({"x": LEAVES, "y y": LEAVES})
)


def dumped(value: Any) -> str:
    """JSON with decimals as numbers of all their digits."""
    marked = json.dumps(value, default=lambda d: f"\ue000{d}\ue000")
    return marked.replace('"\\ue000', "").replace('\\ue000"', "")


def same(value: Any, read: Any) -> bool:
    """Whether what was read is what was written: the same value, or its text."""
    if isinstance(value, dict | list) and isinstance(read, str):
        return same(value, json.loads(read, parse_float=Decimal))
    if isinstance(value, dict) and isinstance(read, dict):
        return value.keys() == read.keys() and all(same(value[key], read[key]) for key in value)
    if isinstance(value, list) and isinstance(read, list):
        return len(value) == len(read) and all(map(same, value, read))
    if isinstance(value, bool) or isinstance(read, bool):
        return value is read or str(value).lower() == read
    if isinstance(value, str):
        return bool(read == value) or json.loads(read) == value  # in a column of JSON text
    if isinstance(value, float) and isinstance(read, float):
        return value == read
    read = read.strip('"') if isinstance(read, str) else read  # in a column of JSON text
    number = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
    return Decimal(repr(read) if isinstance(read, float) else read) == number


@settings(max_examples=15, deadline=None)
@given(values=st.lists(VALUES, min_size=1, max_size=4), size=st.sampled_from([20, 10_000]), array=st.booleans())
@example(values=[WIDE, 0.5], size=20, array=False)
@example(values=[{"x": WIDE, "y y": 1}, {"x": 0.5, "y y": 1}], size=20, array=True)
@example(values=[{"x": WIDE, "y y": 0.5}, {"x": 1, "y y": 1.5}], size=10_000, array=False)
@example(values=[[WIDE, 0.5], [1]], size=10_000, array=False)
def test_a_column_of_json_says_what_its_values_say(
    values: list[Any], size: int, array: bool, tmp_path_factory: Any
) -> None:
    rows = [dumped({"a": value}) for value in values]
    data = f"[{','.join(rows)}]" if array else "\n".join(rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files_text, "CHUNK", size)
        column = found(tmp_path_factory.mktemp("json"), data, "t.json")["a"]
    assert all(map(same, values, column)), column


def test_long_ids_stay_numbers_beside_fractions_in_other_places(tmp_path: Path) -> None:
    rows = [{"id": WIDE, "p": 0.5, "in": {"id": WIDE, "p": 0.25}, "list": [{"id": WIDE}]}] * 2
    assert found(tmp_path, "\n".join(map(json.dumps, rows)), "t.json") == {
        key: [value] * 2 for key, value in rows[0].items()
    }


def test_numbers_of_json_in_text_columns_are_as_they_are_written(tmp_path: Path) -> None:
    data = '{"s": 1.10, "d": 12345678901234567.89}\n{"s": 1e2, "d": 0.10}\n{"s": "x", "d": 1}'
    read = found(tmp_path, data, "t.json", types={"d": "decimal(38, 2)"})
    assert read == {"s": ["1.10", "1e2", "x"], "d": [Decimal("12345678901234567.89"), Decimal("0.10"), Decimal(1)]}
    assert found(tmp_path, data, "t.json", types={"d": "string"})["d"] == ["12345678901234567.89", "0.10", "1"]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ('{"a": 1, "b": 2, "a": 3}', "the key 'a' is there twice"),
        ('{"a": {"x": 1, "x": 2}}', "the key 'x' is there twice"),
        ('{"a": [{"y": 1}, {"x": 1, "x": 2}]}', "the key 'x' is there twice"),
        ('{"a": "x\ny"}', "invalid JSON"),
    ],
)
def test_json_that_means_two_things_is_set_aside(tmp_path: Path, data: str, why: str) -> None:
    (tmp_path / "t.json").write_text(f'[{{"a": null}},\n{data}]')
    with pytest.raises(StepFailed, match=rf"t\.json:2: {why}"):
        read(Files(str(tmp_path / "t.json")))
    aside = read(Files(str(tmp_path / "t.json"), bad_rows="reject")).columns("t__rejected")
    assert aside["line"] == [2]
    assert aside["reason"][0].startswith(why)


@pytest.mark.parametrize("format", ["csv", "json"])
@pytest.mark.parametrize(
    ("declared", "text", "value"),
    [
        ("decimal(10, 2)", "1.23", Decimal("1.23")),
        ("decimal(10, 2)", "1.2300", Decimal("1.23")),
        ("decimal(10, 2)", "1.239", None),
        ("decimal(10, 2)", "123456789.1", None),
        ("decimal(38, 2)", "12345678901234567.89", Decimal("12345678901234567.89")),
        ("decimal(10, 2)", "1.239e0", None),
        ("decimal", "0.0125", Decimal("0.0125")),  # with the nine places that it has in every warehouse
        ("decimal", "0.0123456789", None),
        ("timestamp", "2020-01-01 10:00:00.123456", datetime.datetime(2020, 1, 1, 10, 0, 0, 123456)),
        ("timestamp", "2020-01-01 10:00:00.123456789", None),
        ("timestamp(3)", "2020-01-01 10:00:00.1234", None),
        ("timestamp", "2020-01-01 10:00:00+02:00", None),
        ("timestamp('UTC')", "2020-01-01 10:00:00", datetime.datetime(2020, 1, 1, 10, tzinfo=datetime.UTC)),
        ("timestamp('Europe/Paris')", "2020-01-01 10:00:00", datetime.datetime(2020, 1, 1, 9, tzinfo=datetime.UTC)),
        ("timestamp('Europe/Paris')", "2020-01-01 10:00:00Z", datetime.datetime(2020, 1, 1, 10, tzinfo=datetime.UTC)),
        ("timestamp('Europe/Paris')", "2024-03-31 02:30:00", None),
        ("timestamp('Europe/Paris')", "2024-10-27 02:30:00", None),
        (
            "timestamp('Europe/Paris')",
            "2024-10-27 02:30:00+01:00",
            datetime.datetime(2024, 10, 27, 1, 30, tzinfo=datetime.UTC),
        ),
        ("time", "10:00:00.1234567", None),
        ("int64", "1.5", None),
        ("float64", str(WIDE), None),
        ("float64", "1e400", None),
    ],
)
def test_a_declared_type_refuses_what_it_would_round(
    tmp_path: Path, format: str, declared: str, text: str, value: Any
) -> None:
    data = f'a\n"{text}"\n' if format == "csv" else json.dumps({"a": text})
    source = Files(str(tmp_path / f"t.{format}"), types={"a": declared})
    (tmp_path / f"t.{format}").write_text(data)
    if value is None:
        with pytest.raises(StepFailed) as failed:
            read(source)
        assert f"{text!r} in the column 'a' is no {declared}" in str(failed.value)
    else:
        assert read(source).columns() == {"a": [value]}

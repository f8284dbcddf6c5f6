"""All of the Formula 1 data, with its real dirt: `\\N` for NULL, and a ragged end of races.csv."""

from __future__ import annotations

import datetime

import pytest

from entrepot.errors import StepFailed
from entrepot.language.sources import Files
from tests import data
from tests.activities.ingest.sources.reading import read

FOLDER = data.FOLDER / "formula1"

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"formula1 is not here: {data.ABSENT}")

ROWS = {
    "circuits": 77,
    "constructor_results": 12_805,
    "constructor_standings": 13_571,
    "constructors": 212,
    "driver_standings": 35_235,
    "drivers": 864,
    "fatal_accidents_drivers": 51,
    "fatal_accidents_marshalls": 5,
    "lap_times": 490_904,
    "pit_stops": 12_016,
    "qualifying": 10_854,
    "races": 1_149,
    "red_flags": 98,
    "results": 27_118,
    "safety_cars": 362,
    "seasons": 76,
    "sprint_results": 420,
    "status": 139,
}

TYPES = {
    "circuits": {"circuit_ref": "string", "lat": "double", "alt": "int64"},
    "drivers": {"number": "int64", "code": "string", "dob": "date32[day]"},
    "fatal_accidents_drivers": {"driver": "string", "age": "int64"},
    "lap_times": {"time": "string", "milliseconds": "int64"},
    "pit_stops": {"time": "time64[us]", "duration": "string", "milliseconds": "int64"},
    "races": {"date": "date32[day]", "time": "time64[us]", "fp1_date": "date32[day]", "sprint_time": "time64[us]"},
    "results": {"position": "int64", "position_text": "string", "points": "double", "milliseconds": "int64"},
    "safety_cars": {"retreated": "double"},
}


def source(name: str, **options: str) -> Files:
    (path,) = FOLDER.glob(f"{name}.csv*")
    return Files(str(path), nulls=["\\N", ""], **options)  # type: ignore[arg-type]


def test_the_list_is_complete() -> None:
    assert {path.name.partition(".")[0] for path in FOLDER.glob("*.csv*")} == set(ROWS)


@pytest.mark.parametrize("name", ROWS)
def test_all_rows_with_their_types(name: str) -> None:
    table = read(source(name, short_rows="nulls" if name == "races" else "bad")).table()
    assert table.num_rows == ROWS[name]
    assert {column: str(table.schema.field(column).type) for column in TYPES.get(name, {})} == TYPES.get(name, {})


def test_what_the_ragged_rows_lack_is_null() -> None:
    races = read(source("races", short_rows="nulls")).table().to_pylist()
    last = races[-1]
    assert last["name"] == "Abu Dhabi Grand Prix"
    assert last["date"] == datetime.date(2025, 12, 7)
    assert last["sprint_time"] is None
    assert races[0]["time"] == datetime.time(6)
    assert races[0]["fp1_date"] is None


def test_ragged_rows_as_bad_rows() -> None:
    with pytest.raises(StepFailed, match=r"races\.csv:1127: too few fields: '1145,2025,1,1,Australian"):
        read(source("races"))
    result = read(source("races", bad_rows="reject"))
    aside = result.table("t__rejected")
    assert result.table().num_rows + aside.num_rows == ROWS["races"]
    assert aside["line"].to_pylist() == list(range(1127, 1151))

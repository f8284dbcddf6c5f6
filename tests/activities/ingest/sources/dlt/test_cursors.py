"""A cursor that meets a value far in the future follows those that are not."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pytest

from entrepot.activities.ingest.sources.dlt import chunks, cursors, extract, setup
from entrepot.activities.ingest.sources.stream import IntervalFilter
from tests.activities.ingest.sources.streams import read

setup.install()

import dlt  # noqa: E402

Row = dict[str, Any]


def text(year: int) -> str:
    return f"{year}-01-01T00:00:00+00:00"


def moment(year: int) -> datetime.datetime:
    return datetime.datetime(year, 1, 1, tzinfo=datetime.UTC)


class Source:
    """Rows that a resource gives from its cursor on, and what loads made of them."""

    def __init__(self, at: Callable[[int], Any], *, arrow: bool = False, said: Row, options: Row) -> None:
        self.at, self.arrow, self.said, self.options = at, arrow, said, options
        self.years: dict[int, int] = {}
        self.state: Row = {}
        self.held: list[int] = []

    def load(self) -> list[str]:
        """What a load tells; the rows that are held are then those of the source."""

        @dlt.resource(name="t", **self.options)
        def t(cursor: Any = dlt.sources.incremental("at", **self.said)) -> Iterator[Any]:  # noqa: B008
            years = sorted(self.years.items(), key=lambda pair: pair[1])
            start = cursor.last_value
            rows = [{"id": k, "at": self.at(y)} for k, y in years if start is None or self.at(y) >= start]
            yield from [pa.Table.from_pylist(rows)] if self.arrow and rows else [[row] for row in rows]

        found = read(extract.stream("t", t, watermark=self.state))
        self.state = found.state
        hints = found.hints["t"]
        ids = [row["id"] for row in found.rows.get("t", [])]
        if hints.disposition == "merge":
            self.held = [key for key in self.held if key not in ids]
        elif hints.replaces is not None:
            assert isinstance(hints.replaces, IntervalFilter)
            start = hints.replaces.start
            self.held = [k for k in self.held if start is not None and str(day(self.seen[k])) < str(start)[:10]]
        self.held += ids
        self.seen = dict(self.years)
        assert sorted(self.held) == sorted(self.years)
        return found.notes.get("t", [])


def day(year: int) -> datetime.date:
    return datetime.date(year, 1, 1)


@pytest.mark.parametrize(
    ("at", "arrow", "said", "options"),
    [
        (text, False, {}, {}),
        (moment, False, {}, {"primary_key": "id"}),
        (day, False, {"range_start": "open"}, {}),
        (text, False, {"row_order": "asc"}, {}),
        (moment, False, {"lag": 1.0}, {}),
        (text, False, {}, {"write_disposition": "merge", "primary_key": "id"}),
        (moment, True, {}, {}),
        (day, True, {"row_order": "asc", "range_start": "open"}, {}),
    ],
)
def test_a_row_far_in_the_future_hides_no_other(
    at: Any, arrow: bool, said: Row, options: Row, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "CHUNK_ROWS", 1)
    source = Source(at, arrow=arrow, said=said, options=options)
    source.years = {1: 2020, 2: 2099}
    (note,) = source.load()
    assert note.startswith("1 row is beyond where the cursor 'at' may move to (20")
    assert ", the furthest at 2099-01-01" in note
    source.years |= {3: 2021, 4: 2098}
    assert source.load()[0].startswith("2 rows are beyond")
    assert source.load()[0].startswith("2 rows are beyond")
    source.years |= {2: 2022, 4: 2022}
    assert source.load() == []
    source.years |= {5: 2023}
    assert source.load() == []


def test_where_all_rows_are_beyond_the_next_load_begins_anew() -> None:
    source = Source(text, said={}, options={})
    source.years = {1: 2099}
    assert len(source.load()) == 1
    source.years |= {2: 2020}
    assert len(source.load()) == 1


def test_a_cursor_that_is_beyond_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    source = Source(text, said={}, options={})
    source.years = {1: 2020, 2: 2099}
    with monkeypatch.context() as patch:
        patch.setattr(cursors, "AHEAD", datetime.timedelta(days=365 * 200))
        assert source.load() == []
    source.years |= {3: 2021}
    assert len(source.load()) == 1


def test_numbers_have_no_limit() -> None:
    source = Source(int, said={}, options={})
    source.years = {1: 2020, 2: 9999}
    assert source.load() == []


def test_a_cursor_without_a_resource_has_no_state() -> None:
    assert cursors.state_of(dlt.sources.incremental("at")) == {}

"""A long load in chunks: it continues at a watermark, and neither loses nor doubles a row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entrepot.activities.ingest.sources.dlt import chunks, extract, setup
from entrepot.activities.ingest.sources.stream import Json
from entrepot.errors import StepFailed
from tests.activities.ingest.sources.streams import Read, read

setup.install()

import dlt  # noqa: E402

PAGE = 10


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "CHUNK_ROWS", 3 * PAGE)


def brought(data: Any, state: Json | None = None, after: Json | None = None) -> Read:
    return read(extract.stream("t", data, watermark=state or {}), after)


class Events:
    """A source of rows in the order of `n`, that counts what it yields."""

    def __init__(self, numbers: list[int], *, arrow: bool = False, skips: bool = True, **said: Any) -> None:
        self.rows = [{"n": number, "id": index} for index, number in enumerate(numbers)]
        self.yielded = 0
        self.last = 0
        self.die_after: int | None = None

        @dlt.resource(name="events", **said.pop("resource", {}))
        def events(n: Any = dlt.sources.incremental("n", row_order="asc", **said)) -> Any:  # noqa: B008
            rows = [row for row in self.rows if not skips or n.start_value is None or row["n"] >= n.start_value]
            for start in range(0, len(rows), PAGE):
                if self.die_after is not None and self.yielded >= self.die_after:
                    raise ConnectionError("cut")
                page = rows[start : start + PAGE]
                self.yielded += len(page)
                self.last = page[-1]["id"]
                yield pa.Table.from_pylist(page) if arrow else page

        self.resource: Callable[[], Any] = events

    def ids(self, found: Read) -> list[int]:
        return [row["id"] for row in found.rows.get("events", [])]


@pytest.mark.parametrize("arrow", [False, True])
@pytest.mark.parametrize("skips", [False, True])
@pytest.mark.parametrize("said", [{}, {"range_start": "open"}, {"resource": {"primary_key": "id"}}])
def test_chunks_bring_every_row_once(arrow: bool, skips: bool, said: Any) -> None:
    events = Events([number // 3 for number in range(200)], arrow=arrow, skips=skips, **dict(said))
    found = brought(events.resource())
    assert events.ids(found) == list(range(200))
    assert found.positions
    assert brought(events.resource(), found.state).pieces == []


def test_a_source_that_begins_again_each_time_is_not_asked_for_every_chunk() -> None:
    events = Events(list(range(1_000)), skips=False)
    assert events.ids(brought(events.resource())) == list(range(1_000))
    assert events.yielded < 1_100


def test_a_load_that_died_goes_on_and_redoes_at_most_a_chunk() -> None:
    events = Events(list(range(500)))
    events.die_after = 400
    positions: list[Json | None] = []

    def until_it_dies() -> None:
        for piece in extract.stream("t", events.resource(), watermark={}).pieces(None):
            positions.append(piece.watermark)

    with pytest.raises(ConnectionError, match="cut"):
        until_it_dies()
    reached, done = events.last, events.yielded
    events.die_after = None
    found = brought(events.resource(), after=positions[-1])
    ids = events.ids(found)
    assert ids == list(range(ids[0], 500))
    assert reached - ids[0] < 6 * PAGE
    assert events.yielded - done < 500 - ids[0] + 2 * PAGE * len(found.pieces)
    assert found.hints["events"].disposition == "append"


def test_hints_of_nested_tables_that_came_before_are_known_after_going_on() -> None:
    @dlt.resource
    def events(n: Any = dlt.sources.incremental("n", row_order="asc")) -> Any:  # noqa: B008
        for start in range(n.start_value or 0, 200, PAGE):
            yield [{"n": number, **({"parts": [1]} if number < 20 else {})} for number in range(start, start + PAGE)]

    whole = brought(events())
    rest = brought(events(), after=whole.positions[-1][0])
    assert "events__parts" not in rest.rows
    assert rest.hints == whole.hints


@pytest.mark.parametrize("count", [0, 1, 30, 40, 60, 80])
def test_a_chunk_that_ends_where_the_source_ends(count: int) -> None:
    events = Events(list(range(count)))
    assert events.ids(brought(events.resource())) == list(range(count))


def test_more_rows_of_one_value_than_a_chunk() -> None:
    events = Events([1] * 100 + [2] * 100 + [3])
    found = brought(events.resource())
    assert events.ids(found) == list(range(201))


@settings(max_examples=12)
@given(steps=st.lists(st.integers(0, 2), max_size=150), arrow=st.booleans(), is_open=st.booleans())
def test_any_growing_cursor(steps: list[int], arrow: bool, is_open: bool) -> None:
    numbers = [sum(steps[:index]) for index in range(len(steps))]
    events = Events(numbers, arrow=arrow, range_start="open" if is_open else "closed")
    found = brought(events.resource())
    assert events.ids(found) == list(range(len(numbers)))
    for position, pieces in found.positions:
        rest = brought(events.resource(), after=position)
        first = [row["id"] for _, rows in found.pieces[:pieces] for row in rows]
        assert first + events.ids(rest) == list(range(len(numbers)))


@pytest.mark.parametrize("said", [{"lag": 2}, {"primary_key": ()}, {"resource": {"write_disposition": "replace"}}])
def test_what_cannot_be_cut_comes_in_one_go(said: Any) -> None:
    events = Events(list(range(200)), **dict(said))
    found = brought(events.resource())
    assert events.ids(found) == list(range(200))
    assert found.positions == []


def test_an_order_that_is_not_kept_is_told() -> None:
    with pytest.raises(StepFailed, match="resource 'events': row_order='asc' is not true: 'n' goes back from 19 to 7"):
        brought(Events([*range(20), 7]).resource())


def test_equal_rows_are_kept_and_resources_are_cut_on_their_own() -> None:
    @dlt.source
    def both() -> Any:
        def rows(count: int, n: Any) -> Any:
            for start in range(n.start_value or 0, count, PAGE // 2):
                yield [{"n": number} for number in range(start, min(start + PAGE // 2, count)) for _ in (1, 2)]

        @dlt.resource
        def short(n: Any = dlt.sources.incremental("n", row_order="asc")) -> Any:  # noqa: B008
            yield from rows(20, n)

        @dlt.resource
        def long(n: Any = dlt.sources.incremental("n", row_order="asc")) -> Any:  # noqa: B008
            yield from rows(150, n)

        return short, long

    found = brought(both())
    assert Counter(row["n"] for row in found.rows["short"]) == dict.fromkeys(range(20), 2)
    assert Counter(row["n"] for row in found.rows["long"]) == dict.fromkeys(range(150), 2)
    assert found.positions

"""Iterables and dlt resources as streams: what is brought, what is hinted, what ids nested rows have."""

from __future__ import annotations

import datetime
import math
from collections import Counter
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entrepot.activities.ingest.sources.dlt import extract, setup
from entrepot.activities.ingest.sources.stream import Hints, IntervalFilter, Json
from entrepot.errors import BadInput, StepFailed
from entrepot.language.interval import Interval
from tests.activities.ingest.sources.streams import Read, read

setup.install()

import dlt  # noqa: E402

UTC = datetime.UTC


def brought(data: Any, state: Json | None = None, interval: Interval | None = None) -> Read:
    return read(extract.stream("t", data, watermark=state or {}, interval=interval))


def values(found: Read, table: str = "t") -> list[Any]:
    return [{k: v for k, v in row.items() if not k.startswith("_dlt")} for row in found.rows.get(table, [])]


@pytest.mark.parametrize(
    "data",
    [
        [{"a": 1}, {"a": 2}],
        iter([{"a": 1}, {"a": 2}]),
        lambda: ({"a": n} for n in (1, 2)),
        pa.table({"a": [1, 2]}),
        [pa.table({"a": [1]}), pa.table({"a": [2]})],
        pd.DataFrame({"a": [1, 2]}),
        {"t": [{"a": 1}, {"a": 2}]},
        dlt.resource([{"a": 1}, {"a": 2}], name="t"),
        lambda: dlt.resource([{"a": 1}, {"a": 2}], name="t"),
    ],
)
def test_rows_of_every_kind(data: Any) -> None:
    found = brought(data)
    assert values(found) == [{"a": 1}, {"a": 2}]
    assert found.hints == {"t": Hints()}
    assert found.positions == []


def test_nan_and_infinity_stay_in_rows_and_lists() -> None:
    rows: Any = [{"id": 1, "x": math.nan, "list": [math.inf, 1.5]}, {"id": 2, "x": None, "list": [-math.inf]}]
    found = brought(rows)
    assert repr([row["x"] for row in found.rows["t"]]) == "[nan, None]"
    assert [row["value"] for row in found.rows["t__list"]] == [math.inf, 1.5, -math.inf]
    assert math.isnan(rows[0]["x"])  # the user's own rows are left alone


def test_a_mapping_brings_several_tables() -> None:
    found = brought({"one": [{"a": 1}], "two": pa.table({"b": ["x"]}), "three": pd.DataFrame({"c": [1.5]})})
    assert {table: values(found, table) for table in found.rows} == {
        "one": [{"a": 1}],
        "two": [{"b": "x"}],
        "three": [{"c": 1.5}],
    }


def test_a_mapping_may_name_resources_and_functions_but_no_sources() -> None:
    resource = dlt.resource([{"a": 1}], name="r", write_disposition="append")
    found = brought({"one": resource, "two": lambda: iter([{"b": 1}])})
    assert set(found.rows) == {"one", "two"}
    assert found.hints == {"one": Hints("append"), "two": Hints()}
    with pytest.raises(BadInput, match="'one' is a dlt source"):
        brought({"one": dlt.source(lambda: resource, name="s")()})


def test_timestamps_without_a_zone_stay_so() -> None:
    at = datetime.datetime(2024, 1, 1, 12)
    for data in (pa.table({"at": [at]}), pd.DataFrame({"at": [at]})):
        found = brought(data)
        assert values(found) == [{"at": at}]
        assert found.hints == {"t": Hints()}


def test_a_source_that_yields_nothing_brings_no_pieces_and_its_table_is_known() -> None:
    @dlt.resource(write_disposition="append", columns={"a": {"data_type": "text"}})
    def silent() -> Any:
        yield from ()

    found = brought(silent())
    assert found.pieces == []
    assert found.hints == {"silent": Hints(disposition="append")}
    assert brought([]).pieces == []


def hints(**said: Any) -> Hints:
    @dlt.resource(name="r", **said)
    def rows() -> Any:
        yield {"id": 1, "part": "a", "gone": False, "at": 1}

    return brought(rows()).hints["r"]


SCD2: Any = {"disposition": "merge", "strategy": "scd2"}
UPSERT: Any = {"disposition": "merge", "strategy": "upsert"}
DELETE_INSERT: Any = {"disposition": "merge", "strategy": "delete-insert"}
MARKS: Any = {"gone": {"hard_delete": True}, "at": {"dedup_sort": "desc"}}


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({}, Hints()),
        ({"write_disposition": "append"}, Hints("append")),
        ({"write_disposition": "replace", "primary_key": "id"}, Hints("replace", ("id",))),
        ({"write_disposition": "merge", "primary_key": ["id", "part"]}, Hints("merge", ("id", "part"))),
        ({"write_disposition": UPSERT, "primary_key": "id"}, Hints("merge", ("id",))),
        ({"write_disposition": DELETE_INSERT, "merge_key": "part"}, Hints("merge", ("part",), is_group=True)),
        ({"write_disposition": SCD2, "primary_key": "id"}, Hints("scd2", ("id",))),
        (
            {"write_disposition": "merge", "primary_key": "id", "columns": MARKS},
            Hints("merge", ("id",), deleted="gone", newest=("at", "desc")),
        ),
        ({"schema_contract": "freeze"}, Hints(contract="freeze")),
        ({"schema_contract": {"data_type": "freeze"}}, Hints(contract="freeze")),
        ({"schema_contract": {"columns": "discard_value"}}, Hints(contract="discard")),
        ({"schema_contract": {"columns": "evolve"}}, Hints(contract="evolve")),
    ],
)
def test_what_a_resource_says_is_hinted(said: Any, expected: Hints) -> None:
    assert hints(**said) == expected


def test_a_merge_needs_one_kind_of_key() -> None:
    with pytest.raises(StepFailed, match=r"'r' gives both a primary key \(id\) and a merge key \(part\)"):
        hints(write_disposition="merge", primary_key="id", merge_key="part")
    with pytest.raises(StepFailed, match="'r' asks for 'merge' and gives neither"):
        hints(write_disposition="merge")


def test_scd2_brings_no_columns_of_dlts_own() -> None:
    @dlt.resource(write_disposition=SCD2, primary_key="id")
    def rows() -> Any:
        yield {"id": 1, "parts": [1]}

    found = brought(rows())
    assert set(found.rows["rows"][0]) == {"id", "_dlt_id", "_dlt_load_id"}
    assert found.hints["rows__parts"] == Hints("scd2", parent="rows", root="rows")


def test_a_source_that_raises_midway_raises_its_own_error() -> None:
    @dlt.resource
    def broken() -> Any:
        yield {"a": 1}
        raise ValueError("the moon is full")

    with pytest.raises(ValueError, match="the moon is full") as raised:
        brought(broken())
    assert "`broken`" in "".join(raised.value.__notes__)


VALUE = st.one_of(st.none(), st.integers(-5, 5))
ITEM = st.fixed_dictionaries({"v": VALUE, "sub": st.lists(st.integers(0, 2), max_size=2)})
ROW = st.fixed_dictionaries({"id": st.integers(0, 3), "items": st.lists(ITEM, max_size=3)})


@settings(max_examples=15)
@given(rows=st.lists(ROW, min_size=1, max_size=8), order=st.randoms(use_true_random=False))
def test_nested_rows_join_with_their_own_rows_and_have_the_same_ids_in_any_order(rows: Any, order: Any) -> None:
    found = brought(rows)
    shuffled = list(rows)
    order.shuffle(shuffled)
    again = brought(shuffled)

    def content(read: Read) -> dict[str, Counter[str]]:
        return {
            table: Counter(str(sorted(row.items(), key=str)) for row in rows)
            for table, rows in read.without_load_id().items()
        }

    assert content(found) == content(again)
    joined = Counter(
        (parent["id"], item["_dlt_list_idx"], sub["value"])
        for parent in found.rows["t"]
        for item in found.rows.get("t__items", [])
        if item["_dlt_parent_id"] == parent["_dlt_id"] == item["_dlt_root_id"]
        for sub in found.rows.get("t__items__sub", [])
        if sub["_dlt_parent_id"] == item["_dlt_id"] and sub["_dlt_root_id"] == parent["_dlt_id"]
    )
    assert joined == Counter(
        (row["id"], index, sub) for row in rows for index, item in enumerate(row["items"]) for sub in item["sub"]
    )


def test_a_row_that_is_merged_by_its_key_keeps_its_id_when_it_changes() -> None:
    def merged(value: int, disposition: Any = "merge") -> str:
        resource = dlt.resource([{"id": 7, "v": value, "l": [value]}], name="t", primary_key="id")
        resource.apply_hints(write_disposition=disposition)
        return str(brought(resource).rows["t"][0]["_dlt_id"])

    assert merged(1) == merged(2)
    assert merged(1, SCD2) != merged(2, SCD2)
    assert merged(1, "append") != merged(2, "append")


def test_lag_brings_the_rows_of_its_interval_again_and_says_what_they_replace() -> None:
    def data(count: int) -> Any:
        @dlt.resource
        def events(n: Any = dlt.sources.incremental("n", lag=2)) -> Any:  # noqa: B008
            yield [{"n": number} for number in range(n.start_value or 0, count)]

        return events()

    first = brought(data(5))
    assert first.hints["events"] == Hints("append", replaces=IntervalFilter(None, None, "n"))
    second = brought(data(7), first.state)
    assert values(second, "events") == [{"n": n} for n in (2, 3, 4, 5, 6)]
    assert second.hints["events"] == Hints("append", replaces=IntervalFilter(2, None, "n"))


def test_without_lag_rows_at_the_boundary_are_not_brought_twice() -> None:
    @dlt.resource
    def events(n: Any = dlt.sources.incremental("n")) -> Any:  # noqa: B008
        yield [{"n": 1, "x": 1}, {"n": 2, "x": 1}]
        if n.start_value:
            yield [{"n": 2, "x": 2}]

    first = brought(events())
    assert first.hints["events"] == Hints("append")
    assert values(brought(events(), first.state), "events") == [{"n": 2, "x": 2}]


@pytest.mark.parametrize("rows", [[{"n": 1}, {"n": None, "who": "me"}], [pa.table({"n": [1, None]})]])
def test_a_cursor_without_a_value_names_resource_column_and_row(rows: Any) -> None:
    @dlt.resource
    def events(n: Any = dlt.sources.incremental("n")) -> Any:  # noqa: B008
        yield rows if isinstance(rows[0], dict) else rows[0]

    with pytest.raises(StepFailed, match=r"resource 'events': its cursor 'n' has no value in (the row .*'me'|row 2)"):
        brought(events())


DAY = datetime.datetime(2024, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("first", "step", "bounds"),
    [
        (0, 1, Interval(3, 5)),
        (DAY, datetime.timedelta(days=1), Interval("2024-01-04T00:00:00Z", "2024-01-06T00:00:00+00:00")),
        (DAY.replace(tzinfo=None), datetime.timedelta(days=1), Interval("2024-01-04", "2024-01-06T00:00:00")),
        (DAY.date(), datetime.timedelta(days=1), Interval("2024-01-04", "2024-01-06")),
        (0.0, 1.0, Interval(3, "5")),
    ],
)
@pytest.mark.parametrize("as_hint", [False, True])
def test_an_interval_is_brought_again_without_touching_the_state(
    first: Any, step: Any, bounds: Any, as_hint: bool
) -> None:
    cursor: Any = dlt.sources.incremental("at", initial_value=first, lag=1, row_order="asc")
    rows = [{"at": first + step * n} for n in range(8)]
    if as_hint:
        data = dlt.resource(rows, name="events", incremental=cursor)
    else:

        @dlt.resource
        def events(at: Any = cursor) -> Any:
            assert at.start_value == rows[3]["at"]
            yield rows

        data = events()
    state = {"t": {"resources": {"events": {"incremental": {"at": {"last_value": "known", "unique_hashes": []}}}}}}
    found = brought(data, state, bounds)
    assert len(found.rows["events"]) == 2
    assert found.state == state
    assert found.hints["events"] == Hints("append", replaces=IntervalFilter(bounds.start, bounds.end, "at"))


def test_an_interval_needs_a_cursor_and_values_of_its_type() -> None:
    with pytest.raises(BadInput, match=r"none of its resources has a cursor \('t'\)"):
        brought([{"a": 1}], interval=Interval(1, 2))
    resource = dlt.resource([{"n": 1}], name="r", incremental=dlt.sources.incremental("n", initial_value=0))
    with pytest.raises(BadInput, match="'soon' is no value of its cursor 'n', which is a int"):
        brought(resource, interval=Interval("soon", 2))


@pytest.mark.parametrize(
    ("first", "start"),
    [
        ("2026-01-01", 5),  # else every text from "5" on
        (datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC), 5),  # else seconds since 1970
        (datetime.date(2026, 1, 1), "2026-01-01T06:00:00"),  # else that day
        (0, 1.5),  # else 1
        (0.0, "soon"),
    ],
)
def test_a_bound_of_another_kind_is_not_made_to_fit(first: Any, start: Any) -> None:
    resource = dlt.resource([{"n": first}], name="r", incremental=dlt.sources.incremental("n", initial_value=first))
    with pytest.raises(BadInput, match="is no value of its cursor 'n'"):
        brought(resource, interval=Interval(start, start))


def test_nested_rows_know_their_root_where_a_column_is_called_the_rows_key() -> None:
    @dlt.resource(write_disposition="merge", primary_key="id", columns={"id": {"row_key": True}})
    def orders() -> Any:
        yield {"id": 1, "items": [{"v": 1}]}

    found = brought(orders())
    assert found.rows["orders__items"][0]["_dlt_root_id"] == found.rows["orders"][0]["_dlt_id"]

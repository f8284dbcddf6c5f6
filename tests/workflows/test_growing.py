"""Tables that grow by what each load brings: nothing lost, nothing doubled, and every version as it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import House

EVENTS = [{"id": n, "kind": "ab"[n % 2]} for n in range(1, 11)]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """The folder with what the sources have."""
    folder = tmp_path / "source"
    folder.mkdir()
    return folder


def give(source: Path, **tables: list[dict[str, Any]]) -> None:
    for name, rows in tables.items():
        Path(source, f"{name}.json").write_text(json.dumps(rows))


async def load(growing: House, source: Path, *steps: str, **more: Any) -> Any:
    parameters = {"folder": str(source)}
    return await growing.run("growing", select=" ".join(steps), parameters=parameters, **more)


@pytest.mark.fast
async def test_append_brings_what_is_new_and_keeps_old_versions(growing: House, source: Path) -> None:
    give(source, events=EVENTS[:4])
    await load(growing, source, "events+")
    give(source, events=EVENTS[:7])
    run = await load(growing, source, "events+")
    assert {step.name: step.rows for step in run.steps} == {"events": 3, "totals": 2}
    assert growing.query("SELECT count(*), count(DISTINCT id), max(id) FROM growing.events") == [(7, 7, 7)]
    assert growing.query("SELECT sum(n), sum(ids) FROM growing.totals") == [(7, 28)]
    old = growing.query("SELECT row_count FROM entrepot.versions WHERE name = 'events' ORDER BY made_at")
    assert old == [(4,), (7,)]
    nothing = await load(growing, source, "events+")
    assert (nothing.outcome, nothing.steps) == ("nothing to do", [])


async def test_many_loads_are_written_together(growing: House, source: Path) -> None:
    for number in range(1, 21):
        give(source, events=[{"id": n, "kind": "a"} for n in range(1, number + 1)])
        await load(growing, source, "events")
    assert growing.query("SELECT count(*), sum(id) FROM growing.events") == [(20, 210)]
    tables = growing.query(
        "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'growing__v' AND table_type = 'BASE TABLE'"
    )
    assert tables == [(21,)]  # one for each load, and one in which 16 of them stand together


async def test_late_rows_take_their_place_in_the_window(growing: House, source: Path) -> None:
    give(source, late=[{"minute": 1}, {"minute": 20}, {"minute": 30}])
    await load(growing, source, "late")
    give(source, late=[{"minute": 1}, {"minute": 5}, {"minute": 20}, {"minute": 25}, {"minute": 30}, {"minute": 31}])
    await load(growing, source, "late")
    # 5 is later than the lag allows; 25 is not.
    assert growing.query("SELECT minute FROM growing.late ORDER BY 1") == [(1,), (20,), (25,), (30,), (31,)]
    again = await load(growing, source, "late")
    assert again.outcome == "nothing to do" or growing.query("SELECT count(*) FROM growing.late") == [(5,)]
    third = await load(growing, source, "late")
    assert third.outcome == "nothing to do"


@pytest.mark.fast
async def test_merge_changes_adds_and_deletes_by_key(growing: House, source: Path) -> None:
    give(source, customers=[{"id": 1, "name": "a"}, {"id": 2, "name": "b"}, {"id": 3, "name": "c"}])
    await load(growing, source, "customers")
    give(source, customers=[{"id": 2, "name": "B"}, {"id": 3, "name": "c", "gone": True}, {"id": 4, "name": "d"}])
    await load(growing, source, "customers")
    rows = growing.query("SELECT id, name FROM growing.customers ORDER BY 1")
    assert rows == [(1, "a"), (2, "B"), (4, "d")]
    same = await load(growing, source, "customers")
    assert same.outcome == "nothing to do"
    assert growing.query("SELECT count(*) FROM entrepot.versions WHERE name = 'customers'") == [(2,)]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"id": 1, "name": "a"}, {"id": 1, "name": "b"}], "1 keys are not unique in what the source brought: id=1"),
        ([{"id": None, "name": "a"}, {"id": 1, "name": "b"}], "NULL"),
    ],
    ids=["twice", "null"],
)
async def test_a_merge_refuses_keys_that_are_none(
    growing: House, source: Path, rows: list[dict[str, Any]], said: str
) -> None:
    give(source, customers=[{"id": 1, "name": "good"}])
    await load(growing, source, "customers")
    give(source, customers=rows)
    failure = await growing.fail(
        tenant="acme", pipeline="growing", select="customers", parameters={"folder": str(source)}
    )
    assert said in failure.message
    assert growing.query("SELECT name FROM growing.customers") == [("good",)]


async def test_nested_rows_follow_their_root(growing: House, source: Path) -> None:
    give(source, orders=[{"id": 1, "items": [{"sku": "x"}, {"sku": "y"}]}, {"id": 2, "items": [{"sku": "z"}]}])
    await load(growing, source, "orders")
    give(source, orders=[{"id": 1, "items": [{"sku": "w"}]}, {"id": 3, "items": []}])
    await load(growing, source, "orders")
    joined = growing.query(
        "SELECT o.id, i.sku FROM growing.orders o LEFT JOIN growing.orders__items i ON i._dlt_parent_id = o._dlt_id "
        "ORDER BY 1, 2"
    )
    assert joined == [(1, "w"), (2, "z"), (3, None)]
    give(source, orders=[{"id": 2, "items": []}])
    await load(growing, source, "orders")
    assert growing.query("SELECT sku FROM growing.orders__items") == [("w",)]


@pytest.mark.fast
async def test_scd2_keeps_the_times_for_which_rows_held(growing: House, source: Path) -> None:
    give(source, prices=[{"item": "pen", "price": 1}, {"item": "ink", "price": 5}])
    await load(growing, source, "prices")
    give(source, prices=[{"item": "pen", "price": 2}, {"item": "cap", "price": 9}])
    await load(growing, source, "prices")
    rows = growing.query("SELECT item, price, valid_to IS NULL FROM growing.prices ORDER BY 1, 2")
    assert rows == [("cap", 9, True), ("ink", 5, False), ("pen", 1, False), ("pen", 2, True)]
    chained = growing.query(
        "SELECT count(*) FROM growing.prices a JOIN growing.prices b ON a.item = b.item AND a.valid_to = b.valid_from"
    )
    assert chained == [(1,)]
    same = await load(growing, source, "prices")
    assert same.outcome == "nothing to do"
    give(source, prices=[{"item": "pen", "price": 2}, {"item": "ink", "price": 5}, {"item": "cap", "price": 9}])
    await load(growing, source, "prices")
    assert growing.query("SELECT count(*) FROM growing.prices WHERE item = 'ink'") == [(2,)]


async def test_a_backfill_brings_a_range_again(growing: House, source: Path) -> None:
    give(source, events=EVENTS)
    await load(growing, source, "events")
    corrected = [row | {"kind": "c"} for row in EVENTS if row["id"] != 4]
    give(source, events=corrected)
    await load(growing, source, "events", backfill={"start": 3, "end": 6})
    rows = growing.query("SELECT id, kind FROM growing.events WHERE kind = 'c' ORDER BY 1")
    assert rows == [(3, "c"), (5, "c")]
    assert growing.query("SELECT count(*) FROM growing.events") == [(9,)]
    nothing = await load(growing, source, "events")  # the cursor is where it was
    assert nothing.outcome == "nothing to do"


async def test_a_rollback_with_the_cursor_fetches_the_gap_again(growing: House, source: Path) -> None:
    for last in (4, 7):
        give(source, events=EVENTS[:last])
        await load(growing, source, "events+")
    asked = {"tenant": "acme", "pipeline": "growing", "cursor": True}
    back = await (await growing.start("Rollback", asked)).result()
    assert back["ahead"] == []
    assert growing.query("SELECT count(*) FROM growing.events") == [(4,)]
    run = await load(growing, source, "events+")
    assert {step.name: step.rows for step in run.steps if step.name == "events"} == {"events": 3}
    assert growing.query("SELECT count(*), count(DISTINCT id) FROM growing.events") == [(7, 7)]
    assert growing.query("SELECT count(*) FROM entrepot.versions WHERE name = 'events'") == [(2,)]  # the same load


async def test_a_rollback_without_the_cursor_loses_nothing_either(growing: House, source: Path) -> None:
    for last in (4, 7):
        give(source, events=EVENTS[:last])
        await load(growing, source, "events+")
    back = await (await growing.start("Rollback", {"tenant": "acme", "pipeline": "growing"})).result()
    assert back["ahead"] == ["events"]
    give(source, events=EVENTS)
    await load(growing, source, "events+")
    assert growing.query("SELECT count(*), count(DISTINCT id) FROM growing.events") == [(10, 10)]


async def test_an_environment_goes_on_where_the_newest_load_is_and_then_by_itself(growing: House, source: Path) -> None:
    give(source, events=EVENTS[:4])
    await load(growing, source, "events+")
    give(source, events=EVENTS[:6])
    dev = await load(growing, source, "events+", environment="dev")
    assert next(step.rows for step in dev.steps if step.name == "events") == 2
    assert growing.query("SELECT count(*) FROM growing__dev.events") == [(6,)]
    give(source, events=EVENTS)
    await load(growing, source, "events+")
    assert growing.query("SELECT count(*), count(DISTINCT id) FROM growing.events") == [(10, 10)]
    assert growing.query("SELECT count(*) FROM growing__dev.events") == [(6,)]
    replayed = await load(growing, source, "events+", environment="dev", replay="prod")
    assert replayed.outcome == "published"
    assert growing.query("SELECT count(*) FROM growing__dev.events") == [(10,)]
    assert growing.query("SELECT count(*) FROM entrepot.versions WHERE name = 'events'") == [(3,)]


async def test_a_refresh_forgets_what_was_loaded_before(growing: House, source: Path) -> None:
    give(source, events=EVENTS)
    await load(growing, source, "events")
    give(source, events=EVENTS[5:])
    await load(growing, source, "events", refresh=True)
    assert growing.query("SELECT count(*), min(id) FROM growing.events") == [(5, 6)]


async def test_columns_may_be_new_wider_and_gone(growing: House, source: Path) -> None:
    give(source, events=[{"id": 1, "kind": "a", "n": 1, "old": "x"}])
    await load(growing, source, "events")
    give(source, events=[{"id": 1, "kind": "a"}, {"id": 2, "kind": "b", "n": 2.5, "new": True}])
    run = await load(growing, source, "events")
    assert growing.query("SELECT id, kind, n, old, new FROM growing.events ORDER BY 1") == [
        (1, "a", 1.0, "x", None),
        (2, "b", 2.5, None, True),
    ]
    note = next(step.note for step in run.steps if step.name == "events")
    assert "column 'new' (boolean) is new" in note
    assert "column 'old' (string) is gone" in note
    assert "column 'n' was int64 and is float64, wider" in note
    give(source, events=[{"id": 3, "kind": "c", "n": 0.5, "new": False}])
    run = await load(growing, source, "events")
    assert next(step.note for step in run.steps if step.name == "events") == ""  # it was told of `old`


async def test_collect_keeps_what_a_version_is_made_of(growing: House, source: Path) -> None:
    for last in (3, 6, 9):
        give(source, events=EVENTS[:last])
        await load(growing, source, "events")
    asked = {"tenant": "acme", "pipeline": "growing", "keep_days": 0.0, "keep_publishes": 1}
    collected = await (await growing.start("Gc", asked)).result()
    assert len(collected["removed"]) == 2
    assert growing.query("SELECT count(*), sum(id) FROM growing.events") == [(9, 45)]
    give(source, events=EVENTS)
    await load(growing, source, "events")
    assert growing.query("SELECT count(*), sum(id) FROM growing.events") == [(10, 55)]

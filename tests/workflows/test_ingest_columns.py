"""Columns that change, in whole runs: by each contract, recorded, and shown where people look."""

from __future__ import annotations

import json
from typing import Any

import pytest

from entrepot import BadInput, Pipeline
from tests.workflows.ingesting import Ingesting, Rows, line

MERGE = {"write_disposition": "merge", "primary_key": "id"}
BEFORE: Rows = [{"id": 1, "name": "a", "n": 1}]


async def test_freeze_fails_with_the_difference(ingesting: Ingesting) -> None:
    ingesting.give("frozen", BEFORE)
    await ingesting.load("frozen", MERGE)
    ingesting.give("frozen", [{"id": 2, "n": 2.5, "email": "b@c"}])
    failed = await ingesting.refused("frozen", MERGE)
    assert (failed.kind, failed.attempts) == ("StepFailed", 1)
    assert (
        "table 'frozen' is frozen, and the source's columns changed: column 'name' is gone and 'email' is new, of the "
        "same type (renamed?); column 'n' was int64 and is float64, wider"
    ) in failed.message
    ingesting.give("frozen", [{"id": 2, "name": "b", "n": 2}])
    await ingesting.load("frozen", MERGE)
    assert ingesting.query("SELECT * FROM ingested.frozen ORDER BY 1") == [(1, "a", 1), (2, "b", 2)]


@pytest.mark.parametrize("whose", ["step", "source"])
async def test_discard_leaves_out_what_is_new_and_counts_what_does_not_fit(ingesting: Ingesting, whose: str) -> None:
    step = "discarding" if whose == "step" else "keyed"
    options: dict[str, Any] = {**MERGE, **({"schema_contract": "discard_value"} if whose == "source" else {})}
    ingesting.give(step, BEFORE)
    await ingesting.load(step, options)
    ingesting.give(step, [{"id": 2, "name": "b", "n": "many", "email": "b@c"}, {"id": 3, "name": "c", "n": "3"}])
    note = await ingesting.note(step, options)
    rows = [(1, "a", 1), (2, "b", None), (3, "c", 3)]
    assert ingesting.query(f"SELECT * FROM ingested.{step} ORDER BY 1") == rows
    assert "column 'email' (string) is new (discarded)" in note
    assert "column 'n' was int64 and is string (discarded)" in note
    assert "1 values did not fit and are NULL" in note


async def test_discard_leaves_out_new_nested_tables(ingesting: Ingesting) -> None:
    ingesting.give("discarding", BEFORE)
    await ingesting.load("discarding", MERGE)
    ingesting.give("discarding", [{"id": 2, "name": "b", "n": 2, "items": [1, 2]}])
    note = await ingesting.note("discarding", MERGE)
    assert "the nested table 'discarding__items' is new (discarded)" in note
    assert ingesting.query("SELECT * FROM ingested.discarding ORDER BY 1") == [(1, "a", 1), (2, "b", 2)]
    ingesting.give("discarding", [{"other": 1}])
    failed = await ingesting.refused("discarding", {"write_disposition": "merge", "merge_key": "id"})
    assert (failed.kind, failed.attempts) == ("StepFailed", 1)


async def test_a_contract_of_the_source_itself(ingesting: Ingesting) -> None:
    options = {**MERGE, "schema_contract": {"columns": "freeze"}}
    ingesting.give("keyed", BEFORE)
    await ingesting.load("keyed", options)
    ingesting.give("keyed", [{"id": 2, "name": "b", "n": 2, "email": "b@c"}])
    failed = await ingesting.refused("keyed", options)
    assert (failed.kind, failed.attempts) == ("StepFailed", 1)
    assert "table 'keyed' is frozen, and the source's columns changed: column 'email' (string) is new" in failed.message


async def test_files_have_contracts_too(ingesting: Ingesting) -> None:
    ingesting.write("a.csv", "id,n\n1,1\n")
    await ingesting.load("texts", {"path": "*.csv", "disposition": "append"})
    ingesting.write("b.csv", "id,n,new\n2,2.5,x\n")
    note = await ingesting.note("texts", {"path": "*.csv", "disposition": "append"})
    assert "texts: column 'new' (string) is new, column 'n' was int64 and is float64, wider" in note
    rows = ingesting.query("SELECT id, n, new FROM ingested.texts ORDER BY 1")
    assert rows == [(1, 1.0, None), (2, 2.5, "x")]


@pytest.mark.parametrize("disposition", ["append", "replace"])
async def test_a_text_stays_text_though_a_file_has_nothing_but_digits(ingesting: Ingesting, disposition: str) -> None:
    options = {"path": "*.csv", "disposition": disposition}
    ingesting.write("a.csv", "id,zip,at\n1,01234,2026-01-01\n")
    await ingesting.load("texts", options)
    (ingesting.folder / "a.csv").unlink()
    ingesting.write("b.csv", "id,zip,at\n2,10115,\n")
    assert await ingesting.note("texts", options) == ""
    rows = [(1, "01234"), (2, "10115")] if disposition == "append" else [(2, "10115")]
    assert ingesting.query("SELECT id, zip FROM ingested.texts ORDER BY 1") == rows


async def test_long_numbers_of_before_are_not_rounded_by_fractions(ingesting: Ingesting) -> None:
    options = {"path": "*.csv", "disposition": "append"}
    ingesting.write("a.csv", f"id,n\n1,{2**53 + 1}\n")
    await ingesting.load("texts", options)
    ingesting.write("b.csv", "id,n\n2,0.5\n")
    failed = await ingesting.refused("texts", options)
    assert "column 'n' was int64 and is now string, and no type holds both" in failed.message
    ingesting.give("keyed", [{"id": 1, "n": 2**53 + 1}])
    await ingesting.load("keyed")
    ingesting.give("keyed", [{"id": 2, "n": 0.5}])
    failed = await ingesting.refused("keyed")
    assert "column 'n' was int64 and is now float64, and no type holds both" in failed.message


async def test_declared_columns_refuse_what_they_do_not_hold(ingesting: Ingesting) -> None:
    ingesting.give("declared", [{"id": 1, "name": "a"}, {"id": 2.5, "name": "b"}])
    failed = await ingesting.refused("declared")
    said = "table 'declared': '2.5' in the column 'id', which the step declares as int64, is none (1 values)"
    assert said in failed.message
    ingesting.give("declared", [{"id": 1.0, "name": 7}, {"id": 2, "name": 8}])
    await ingesting.load("declared")
    assert ingesting.query("SELECT * FROM ingested.declared ORDER BY 1") == [(1, "7"), (2, "8")]


async def test_a_column_without_values_is_what_it_was(ingesting: Ingesting) -> None:
    options = {"path": "*.csv", "disposition": "append"}
    ingesting.write("a.csv", "id,n,note\n1,1,\n")
    await ingesting.load("texts", options)
    ingesting.write("b.csv", "id,n,note\n2,,\n")
    assert await ingesting.note("texts", options) == ""
    ingesting.write("c.csv", "id,n,note\n3,3,x\n")
    await ingesting.load("texts", options)
    assert ingesting.query("SELECT id, n, note FROM ingested.texts ORDER BY 1") == [
        (1, 1, None),
        (2, None, None),
        (3, 3, "x"),
    ]


async def test_declared_columns_are_all_that_is_taken(ingesting: Ingesting) -> None:
    ingesting.give("declared", [{"id": 1, "name": "a", "more": 1}])
    await ingesting.load("declared")
    assert ingesting.query("SELECT * FROM ingested.declared") == [(1, "a")]
    ingesting.give("declared", [{"id": 2, "more": 1}])
    failed = await ingesting.refused("declared")
    assert (
        "table 'declared' has lost its column 'name'; the source now brings 'id', 'more', and the step declares 'id', "
        "'name'"
    ) in failed.message


async def test_changes_are_recorded_and_shown(ingesting: Ingesting) -> None:
    ingesting.give("counted", [{"id": 1, "old": "x"}])
    await ingesting.load("counted+")
    ingesting.give("counted", [{"id": 1, "old": "x"}, {"id": 2, "new": 1.5}])
    run = await ingesting.load("counted+")
    said = "counted: column 'old' (string) is gone, column 'new' (float64) is new"
    assert line(run, "counted").note == said
    recorded = ingesting.query("SELECT changes FROM entrepot.loads ORDER BY sequence")
    assert [json.loads(changes) for (changes,) in recorded] == [{}, {"counted": said.split(": ", 1)[1].split(", ")}]
    plan = (await ingesting.load("counted+", dry_run=True)).plan
    assert plan is not None
    assert next(step.why for step in plan.steps if step.name == "counted") == (
        f"a source is asked at every run; its newest load changed {said}"
    )


def test_a_contract_for_a_table_that_there_is_not() -> None:
    pipeline = Pipeline("p")
    with pytest.raises(
        BadInput, match=r"ingest 'read', schema_contract: unknown table 'ordres'; did you mean 'orders'"
    ):

        @pipeline.ingest(tables=["orders"], schema_contract={"ordres": "freeze"})
        def read() -> object: ...


def test_a_share_of_rows_is_one() -> None:
    with pytest.raises(BadInput, match=r"ingest 'read': `max_shrink` is a share from 0 to 1, not 50"):

        @Pipeline("p").ingest(max_shrink={"read": 50})
        def read() -> object: ...

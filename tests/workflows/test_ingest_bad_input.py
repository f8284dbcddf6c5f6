"""What sources get wrong, in whole runs: a sentence that says where, and everything stays as it was."""

from __future__ import annotations

import asyncio
import gzip
import json
from typing import Any

import pytest

from tests.activities.ingest.sources.tables import Table
from tests.servers.postgres import Server
from tests.workflows.ingesting import Ingesting, Rows

CUSTOMERS: Rows = [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]
MERGE = {"write_disposition": "merge", "primary_key": "id"}


async def test_a_database_that_refuses(ingesting: Ingesting, postgres: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    table, at = Table(postgres, "id int, name text"), f"127.0.0.1:{postgres.port}/postgres"
    table.add("1, 'a'")
    monkeypatch.setenv("SHOP", postgres.url)
    await ingesting.load("sql", {"table": table.name})

    monkeypatch.setenv("SHOP", f"postgresql://postgres:p4ss@{at}")
    wrong = await ingesting.refused("sql", {"table": table.name})
    assert (wrong.kind, wrong.attempts) == ("StepFailed", 1)
    assert f"{at}, table {table.name!r}" in wrong.message
    assert "password authentication failed" in wrong.message
    assert "p4ss" not in wrong.message

    monkeypatch.setenv("SHOP", postgres.url)
    nulls = await ingesting.refused("sql", {"table": table.name, "cursor": "name"})
    assert "must be a time or a number, not text" in nulls.message
    column = await ingesting.refused("sql", {"table": table.name, "key": ["idd"], "disposition": "merge"})
    assert "unknown column 'idd'; did you mean 'id'?" in column.message

    table.do(f"DROP TABLE {table.name}")
    gone = await ingesting.refused("sql", {"table": table.name})
    assert (gone.kind, gone.attempts) == ("StepFailed", 1)
    assert f"unknown table {table.name!r}" in gone.message
    assert "tests/pipelines/ingested.py:" in gone.message
    assert ingesting.query("SELECT * FROM ingested.sql") == [(1, "a")]


async def test_who_does_not_answer_is_asked_again_and_then_given_up(
    ingesting: Ingesting, postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = Table(postgres, "id int")
    table.add("1")
    monkeypatch.setenv("SHOP", postgres.url)
    await ingesting.load("sql", {"table": table.name})
    ingesting.give("counted", [{"id": 1}])
    await ingesting.load("counted+")

    monkeypatch.setenv("SHOP", "postgresql://postgres@127.0.0.1:1/postgres")
    ingesting.give("counted", [{"id": 1}, {"id": 2}])
    ingesting.write("breaks", "")
    ingesting.write("asked", "")
    away, broken = await asyncio.gather(
        ingesting.refused("sql", {"table": table.name}),  # nobody is there
        ingesting.refused("counted+"),  # it brings some rows, and then raises
    )
    assert (away.kind, away.attempts) == ("Unavailable", 5)
    assert "127.0.0.1:1/postgres" in away.message
    assert (broken.kind, broken.attempts) == ("Unavailable", 5)
    assert "ingest 'counted'" in broken.message
    assert "ConnectionError: the source hung up" in broken.message
    assert (ingesting.folder / "asked").read_text() == "x" * 5

    (ingesting.folder / "breaks").unlink()
    await ingesting.load("counted+")
    assert ingesting.query("SELECT id, n FROM ingested.ids ORDER BY 1") == [(1, 1), (2, 1)]


@pytest.mark.parametrize(
    ("name", "good", "bad", "said"),
    [
        ("a.jsonl", '{"id": 1}\n', '{"id": 1}\n{"id": 2}\n{"id": \n{"id": 4}\n', "a.jsonl:3: invalid JSON"),
        ("a.json", '[{"id": 1}]', '[\n{"id": 1},\n{"id": }\n]', "a.json:3: invalid JSON"),
        ("a.csv", "id,name\n1,a\n", "id,name\n1,a\n2\n3,c\n", "a.csv:3: too few fields: '2'"),
        ("a.csv", "id,name\n1,a\n", "", "a.csv' is empty"),
        ("a.parquet", b"", b"PAR1 nothing", "cannot be read as Parquet"),
        ("a.csv.gz", gzip.compress(b"id\n1\n"), gzip.compress(b"id\n" + b"1\n" * 9999)[:-20], "cannot be unpacked"),
    ],
    ids=["lines", "array", "ragged", "empty", "parquet", "cut"],
)
async def test_files_that_are_none(
    ingesting: Ingesting, name: str, good: str | bytes, bad: str | bytes, said: str
) -> None:
    options = {"path": name}
    if good:
        ingesting.write(name, good)
        await ingesting.load("texts", options)
    ingesting.write(name, bad)
    failed = await ingesting.refused("texts", options)
    assert (failed.kind, failed.attempts) == ("StepFailed", 1)
    assert said in failed.message
    assert "ingest 'texts'" in failed.message
    if good:
        assert ingesting.query("SELECT id FROM ingested.texts") == [(1,)]


async def test_no_file_and_files_that_are_too_much(ingesting: Ingesting) -> None:
    missing = await ingesting.refused("texts", {"path": "no-*.csv"})
    assert (missing.kind, missing.attempts) == ("StepFailed", 1)
    assert f"there is no file '{ingesting.folder}/no-*.csv'" in missing.message

    bounds = {"LONGEST": 1_000, "CHUNK": 1_000}
    ingesting.write("long.jsonl", '{"id": 1}\n' + json.dumps({"id": "x" * 5_000}) + "\n")
    long = await ingesting.refused("texts", {"path": "long.jsonl", "bounds": bounds})
    assert (long.kind, long.attempts) == ("StepFailed", 1)
    assert "long.jsonl:2: the line is longer than 1,000 bytes" in long.message
    ingesting.write("long.csv", 'id,name\n1,a\n2,"' + "x\n" * 5_000)
    assert (
        "long.csv:3: the line is longer than 1,000 bytes"
        in (await ingesting.refused("texts", {"path": "long.csv", "bounds": bounds})).message
    )

    bounds = {"BOMB_FREE": 10_000, "BOMB_RATIO": 10}
    ingesting.write("bomb.csv.gz", gzip.compress(b"id\n" + b"1\n" * 1_000_000))
    bomb = await ingesting.refused("texts", {"path": "bomb.csv.gz", "bounds": bounds})
    assert (bomb.kind, bomb.attempts) == ("StepFailed", 1)
    assert "bomb.csv.gz' becomes more than 10 times as large" in bomb.message


async def test_a_cursor_with_nulls(ingesting: Ingesting, postgres: Server, shop_database: None) -> None:
    ingesting.give("counted", [{"id": 1}])
    await ingesting.load("counted")
    ingesting.give("counted", [{"id": 2}, {"id": None, "name": "who"}])
    rows = await ingesting.refused("counted")
    assert (rows.kind, rows.attempts) == ("StepFailed", 1)
    assert "'id'" in rows.message
    assert "'name': 'who'" in rows.message
    table = Table(postgres, "id int, at timestamptz")
    table.add("1, now()", "2, NULL", "3, NULL")
    database = await ingesting.refused("sql", {"table": table.name, "cursor": "at"})
    assert (database.kind, database.attempts) == ("StepFailed", 1)
    assert "the cursor 'at' is NULL in 2 rows" in database.message


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"id": 1, "name": "a"}, {"id": 1, "name": "b"}], "1 keys are not unique in what the source brought: id=1"),
        ([{"id": None, "name": "a"}, {"id": 1, "name": "b"}], "NULL"),
    ],
    ids=["twice", "null"],
)
async def test_keys_that_are_none(ingesting: Ingesting, rows: Rows, said: str) -> None:
    ingesting.give("keyed", CUSTOMERS)
    await ingesting.load("keyed", MERGE)
    ingesting.give("keyed", rows)
    failed = await ingesting.refused("keyed", MERGE)
    assert (failed.kind, failed.attempts) == ("StepFailed", 1)
    assert "'id'" in failed.message or "id=1" in failed.message
    assert said in failed.message
    ingesting.write("k.jsonl", "\n".join(map(json.dumps, rows)))
    files = await ingesting.refused("texts", {"path": "k.jsonl", "disposition": "merge", "key": ["id"]})
    assert (files.kind, files.attempts) == ("StepFailed", 1)
    assert said in files.message


async def test_a_source_that_brings_nothing(ingesting: Ingesting, postgres: Server, shop_database: None) -> None:
    nothing = await ingesting.refused("plain")
    assert (nothing.kind, nothing.attempts) == ("StepFailed", 1)
    assert "brought no rows and no columns for 'plain', and the step declares none" in nothing.message
    for rows in (CUSTOMERS, []):  # the table is known, so it is empty now
        ingesting.give("plain", rows)
        await ingesting.load("plain")
        assert ingesting.query("SELECT count(*) FROM ingested.plain") == [(len(rows),)]
    await ingesting.load("declared")
    assert ingesting.query("SELECT count(*) FROM ingested.declared") == [(0,)]
    columns = "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = '{}' "
    shown = "AND table_schema = 'ingested' ORDER BY ordinal_position"
    assert ingesting.query(columns.format("declared") + shown) == [("id", "BIGINT"), ("name", "VARCHAR")]
    await ingesting.load("sql", {"table": Table(postgres, "id int, name text").name})
    assert ingesting.query(columns.format("sql") + shown) == [("id", "INTEGER"), ("name", "VARCHAR")]
    ingesting.write("none.csv", "id,name\n")
    await ingesting.load("texts", {"path": "none.csv"})
    assert ingesting.query("SELECT count(*) FROM ingested.texts") == [(0,)]


@pytest.mark.parametrize("disposition", ["append", "merge"])
async def test_nothing_more_is_nothing_to_do(ingesting: Ingesting, disposition: str) -> None:
    options = {"write_disposition": disposition, "primary_key": "id"}
    ingesting.give("keyed", CUSTOMERS)
    await ingesting.load("keyed", options)
    before = ingesting.standing()
    ingesting.give("keyed", [])
    run = await ingesting.load("keyed", options)
    assert run.outcome == "nothing to do"
    assert ingesting.standing() == before


async def test_a_whole_table_that_has_become_empty(ingesting: Ingesting, postgres: Server, shop_database: None) -> None:
    table = Table(postgres, "id int")
    table.add("1")
    await ingesting.load("sql", {"table": table.name})
    table.do(f"DELETE FROM {table.name}")
    await ingesting.load("sql", {"table": table.name})
    assert ingesting.query("SELECT count(*) FROM ingested.sql") == [(0,)]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"disposition": "merge", "key": ["idd"]}, "table 'texts', key: unknown column 'idd'; did you mean 'id'?"),
        ({"disposition": "merge", "key": ["id"], "deleted": "gone"}, "mark of deleted rows: unknown column 'gone'"),
        ({"types": {"idd": "int64"}}, "unknown column 'idd'"),
        ({"types": {"id": "int46"}}, "the type 'int46' of the column 'id' is not known"),
        ({"disposition": "scd2"}, "needs a `key`"),
        ({"encoding": "utf-9"}, "unknown encoding 'utf-9'"),
    ],
    ids=["key", "deleted", "types", "type", "keyless", "encoding"],
)
async def test_names_that_are_wrong(ingesting: Ingesting, options: dict[str, Any], said: str) -> None:
    ingesting.write("a.csv", "id,name\n1,a\n")
    failed = await ingesting.refused("texts", {"path": "a.csv", **options})
    assert (failed.kind, failed.attempts) == ("StepFailed", 1)
    assert said in failed.message


async def test_a_nested_table_that_the_step_does_not_name(ingesting: Ingesting) -> None:
    ingesting.give("keyed", [{"id": 1, "items": [{"sku": "x"}]}])
    failed = await ingesting.refused("keyed", MERGE)
    assert (failed.kind, failed.attempts) == ("StepFailed", 1)
    assert "a table 'keyed__items' that the step does not name; it names 'keyed'" in failed.message


async def test_columns_that_an_ingest_makes_itself(ingesting: Ingesting) -> None:
    scd2 = {"write_disposition": {"disposition": "merge", "strategy": "scd2"}, "primary_key": "id"}
    ingesting.give("keyed", [{"id": 1, "valid_from": "2020"}])
    failed = await ingesting.refused("keyed", scd2)
    assert (failed.kind, failed.attempts) == ("StepFailed", 1)
    assert "loaded by 'scd2', which makes the column 'valid_from' itself; rename it" in failed.message


async def test_rows_without_a_value(ingesting: Ingesting) -> None:
    ingesting.give("plain", [{"a": None}])
    failed = await ingesting.refused("plain")
    assert (failed.kind, failed.attempts) == ("StepFailed", 1)
    assert "the source brought rows for 'plain' without any value in its columns" in failed.message
    ingesting.give("discarding", [{"id": 1}])
    await ingesting.load("discarding")
    ingesting.give("discarding", [{"other": 1}])
    others = await ingesting.refused("discarding")
    assert (others.kind, others.attempts) == ("StepFailed", 1)
    assert "table 'discarding' has lost all its columns ('id'): the source now brings 'other'" in others.message


async def test_what_cannot_be_added_to_asks_for_a_refresh(ingesting: Ingesting) -> None:
    ingesting.give("keyed", [{"id": 1, "name": "a"}])
    await ingesting.load("keyed", MERGE)
    ingesting.give("keyed", [{"id": 1, "name": "b"}])
    key = await ingesting.refused("keyed", {**MERGE, "primary_key": "name"})
    assert (key.kind, key.attempts) == ("StepFailed", 1)
    assert "the key of table 'keyed' was 'id' and is now 'name'; run it once with `refresh`" in key.message
    how = await ingesting.refused("keyed", {"write_disposition": "append"})
    assert "was loaded by 'merge' and now asks for 'append'; run it once with `refresh`" in how.message
    ingesting.give("keyed", [{"id": "x", "name": "b"}])
    kind = await ingesting.refused("keyed", MERGE)
    assert "column 'id' was int64 and is now string, and no type holds both; run it once" in kind.message
    await ingesting.load("keyed", {**MERGE, "primary_key": "name"}, refresh=True)
    assert ingesting.query("SELECT * FROM ingested.keyed") == [("x", "b")]


async def test_backfills_and_replays_of_what_is_not_there(
    ingesting: Ingesting, postgres: Server, shop_database: None
) -> None:
    ingesting.write("a.csv", "id,name\n1,a\n")
    window = {"start": 1, "end": 2}
    never = await ingesting.refused("counted", backfill=window)
    assert (never.kind, never.attempts) == ("StepFailed", 1)
    assert "nothing was loaded yet; a backfill loads a part of it again" in never.message
    ingesting.give("counted", CUSTOMERS)
    await ingesting.load("counted")
    empty = await ingesting.refused("counted", backfill={"start": 2, "end": 1})
    assert (empty.kind, empty.attempts) == ("StepFailed", 1)
    wrong = await ingesting.refused("counted", backfill={"start": "soon", "end": "late"})
    assert "'soon' is no value of its cursor 'id'" in wrong.message
    await ingesting.load("texts", {"path": "a.csv"})
    files = await ingesting.refused("texts", {"path": "a.csv"}, backfill=window)
    assert (files.kind, files.attempts) == ("StepFailed", 1)
    assert "'texts' is read from files, which have no cursor to backfill a range of" in files.message
    table = Table(postgres, "id int")
    table.add("1")
    await ingesting.load("sql", {"table": table.name})
    whole = await ingesting.refused("sql", {"table": table.name}, backfill=window)
    assert "a backfill of a range needs a `cursor`, and the source has none" in whole.message
    replay = await ingesting.refused("texts", {"path": "a.csv"}, replay="pr_7")
    assert (replay.kind, replay.attempts) == ("BadInput", 1)
    assert "environment 'pr_7' has no load to replay; those that have one: 'prod'" in replay.message

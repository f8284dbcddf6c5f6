"""Files in whole runs: new and changed ones, by key, with rows set aside; and real data sets."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from temporalio.testing import WorkflowEnvironment

from tests.activities.ingest.sources.files.test_formula1 import ROWS
from tests.conftest import serving, settings
from tests.data import data
from tests.workflows.ingesting import Ingesting, line

APPEND = {"path": "*.csv", "disposition": "append"}


async def test_append_takes_new_files_and_replaces_the_rows_of_changed_ones(ingesting: Ingesting) -> None:
    ingesting.write("a.csv", "id,name\n1,a\n2,b\n")
    ingesting.write("b.csv", "id,name\n3,c\n")
    await ingesting.load("texts", APPEND)
    ingesting.write("b.csv", "id,name\n3,C\n4,d\n")
    ingesting.write("c.csv", "id,name\n5,e\n")
    (ingesting.folder / "a.csv").unlink()
    run = await ingesting.load("texts", APPEND)
    assert line(run, "texts").rows == 3
    rows = ingesting.query("SELECT id, name, split_part(_file, '/', -1) FROM ingested.texts ORDER BY 1")
    assert rows == [(1, "a", "a.csv"), (2, "b", "a.csv"), (3, "C", "b.csv"), (4, "d", "b.csv"), (5, "e", "c.csv")]
    before = ingesting.standing()
    os.utime(ingesting.folder / "b.csv", (0, 0))  # dates do not count
    same = await ingesting.load("texts", APPEND)
    assert same.outcome == "nothing to do"
    assert ingesting.standing() == before
    assert (await ingesting.load("texts", APPEND, dry_run=True)).outcome == "planned"


async def test_a_list_or_an_object_without_a_value_is_of_the_type_that_the_column_has(ingesting: Ingesting) -> None:
    options = {"path": "*.jsonl", "disposition": "append"}
    ingesting.write(
        "a.jsonl", '{"id": 1, "l": [9007199254740993], "o": {"k": 0.5, "in": [{"x": "a"}]}, "d": "2026-01-01"}'
    )
    await ingesting.load("texts", options)
    ingesting.write(
        "b.jsonl", '{"id": 2, "l": [], "o": {}}\n{"id": 3, "l": [null], "o": {"k": null, "in": [{"x": null}]}}'
    )
    assert await ingesting.note("texts", options) == "texts: column 'd' (date) is gone"
    ingesting.write("c.jsonl", '{"id": 4, "l": null, "o": {"k": 1, "in": []}, "d": null}')
    await ingesting.load("texts", options)
    assert ingesting.query("SELECT typeof(l), o.k, len(o['in']), l FROM ingested.texts ORDER BY id") == [
        ("BIGINT[]", 0.5, 1, [9007199254740993]),
        ("BIGINT[]", None, None, []),
        ("BIGINT[]", None, 1, [None]),
        ("BIGINT[]", 1.0, 0, None),
    ]


async def test_a_changed_file_that_has_become_empty_takes_its_rows_away(ingesting: Ingesting) -> None:
    ingesting.write("a.csv", "id\n1\n2\n")
    ingesting.write("b.csv", "id\n3\n")
    await ingesting.load("texts", APPEND)
    ingesting.write("a.csv", "id\n")
    await ingesting.load("texts", APPEND)
    assert ingesting.query("SELECT id FROM ingested.texts") == [(3,)]


@pytest.mark.fast
async def test_merge_reads_new_and_changed_files_by_key(ingesting: Ingesting) -> None:
    options = {"path": "*.jsonl", "disposition": "merge", "key": ["id"], "deleted": "gone"}
    ingesting.write("1.jsonl", '{"id": 1, "name": "a", "gone": false}\n{"id": 2, "name": "b", "gone": false}\n')
    await ingesting.load("texts", options)
    ingesting.write("2.jsonl", '{"id": 1, "name": "A", "gone": false}\n{"id": 2, "name": null, "gone": true}\n')
    run = await ingesting.load("texts", options)
    assert line(run, "texts").rows == 2
    assert ingesting.query("SELECT id, name FROM ingested.texts") == [(1, "A")]
    assert (await ingesting.load("texts", options)).outcome == "nothing to do"


async def test_a_snapshot_that_has_become_empty_ends_its_rows(ingesting: Ingesting) -> None:
    options = {"path": "a.csv", "disposition": "scd2", "key": ["id"]}
    ingesting.write("a.csv", "id,name\n1,a\n2,b\n")
    await ingesting.load("texts", options)
    ingesting.write("a.csv", "id,name\n2,b\n")
    await ingesting.load("texts", options)
    held = "SELECT id, valid_to IS NULL FROM ingested.texts ORDER BY 1"
    assert ingesting.query(held) == [(1, False), (2, True)]
    ingesting.write("a.csv", "id,name\n")
    await ingesting.load("texts", options)
    assert ingesting.query(held) == [(1, False), (2, False)]


async def test_rows_that_are_set_aside_are_published(ingesting: Ingesting) -> None:
    options = {"path": "*.csv", "types": {"n": "int64"}}
    ingesting.write("a.csv", "id,n\n1,1\n2\n3,three\n4,4\n")
    await ingesting.load("sorting", options)
    assert ingesting.query("SELECT id, n FROM ingested.sorted ORDER BY 1") == [(1, 1), (4, 4)]
    aside = ingesting.query("SELECT split_part(file, '/', -1), line, content FROM ingested.sorted__rejected ORDER BY 2")
    assert aside == [("a.csv", 3, "2"), ("a.csv", 4, "3,three")]
    reasons = ingesting.query("SELECT reason FROM ingested.sorted__rejected ORDER BY line")
    assert reasons == [("too few fields",), ("'three' in the column 'n' is no int64",)]
    ingesting.write("a.csv", "id,n\n1,1\n2,2\n")
    await ingesting.load("sorting", options)
    assert ingesting.query("SELECT count(*) FROM ingested.sorted") == [(2,)]
    assert ingesting.query("SELECT count(*) FROM ingested.sorted__rejected") == [(0,)]


async def test_rows_of_appended_files_that_are_set_aside_follow_their_files(ingesting: Ingesting) -> None:
    aside = "SELECT split_part(file, '/', -1), line FROM ingested.sorted__rejected ORDER BY 1"
    ingesting.write("a.csv", "id,n\n1,1\n")
    await ingesting.load("sorting", APPEND)
    assert ingesting.query(aside) == []
    for name in "bc":
        ingesting.write(f"{name}.csv", "id,n\n2,2\n3\n")
        await ingesting.load("sorting", APPEND)
    assert ingesting.query("SELECT count(*) FROM ingested.sorted") == [(3,)]
    assert ingesting.query(aside) == [("b.csv", 3), ("c.csv", 3)]
    ingesting.write("b.csv", "id,n\n2,2\n3,3\n")  # somebody has mended it
    await ingesting.load("sorting", APPEND)
    assert ingesting.query("SELECT count(*), sum(id) FROM ingested.sorted") == [(4, 8)]
    assert ingesting.query(aside) == [("c.csv", 3)]
    ingesting.write("c.csv", "id,n\n4,4\n\n5\n")
    await ingesting.load("sorting", APPEND)
    assert ingesting.query("SELECT count(*), sum(id) FROM ingested.sorted") == [(4, 10)]
    assert ingesting.query(aside) == [("c.csv", 4)]


async def test_all_of_formula_1(temporal: WorkflowEnvironment, tmp_path: Path) -> None:
    folder = data("formula1")
    async with serving(temporal.client, settings(tmp_path, {"formula1": "tests.pipelines.ingested:formula1"})) as house:
        parameters = {"folder": str(folder)}
        run = await house.run("formula1", parameters=parameters)
        assert sorted(run.moved) == sorted(ROWS)
        counts = " UNION ALL ".join(f"SELECT '{name}', count(*) FROM formula1.{name}" for name in ROWS)
        assert dict(house.query(counts)) == ROWS
        last = "SELECT name, date::TEXT, sprint_time FROM formula1.races ORDER BY date DESC LIMIT 1"
        assert house.query(last) == [("Abu Dhabi Grand Prix", "2025-12-07", None)]
        winner = (
            "SELECT d.surname, count(*) AS n FROM formula1.results r JOIN formula1.drivers d USING (driver_id) "
            "WHERE r.position = 1 GROUP BY 1 ORDER BY n DESC LIMIT 1"
        )
        assert house.query(winner)[0][0] in ("Hamilton", "Schumacher")
        same = await house.run("formula1", parameters=parameters)
        assert (same.outcome, same.steps) == ("nothing to do", [])


async def test_nested_events_of_github(temporal: WorkflowEnvironment, tmp_path: Path) -> None:
    file = data("github_events") / "2015-01-01-0.json.gz"
    async with serving(temporal.client, settings(tmp_path, {"github": "tests.pipelines.ingested:github"})) as house:
        await house.run("github", parameters={"file": str(file), "most": 200})
        run = await house.run("github", parameters={"file": str(file), "most": 300})
        assert "events__payload__commits" in run.moved
        assert house.query("SELECT count(*), count(DISTINCT id) FROM github.events") == [(300, 300)]
        joined = (
            "SELECT count(*), count(DISTINCT e.id), bool_and(e.type = 'PushEvent') FROM github.events e "
            "JOIN github.events__payload__commits c ON c._dlt_parent_id = e._dlt_id"
        )
        commits = house.query("SELECT count(*), count(DISTINCT _dlt_root_id) FROM github.events__payload__commits")
        assert commits[0][0] == 289
        assert house.query(joined) == [(*commits[0], True)]
        labels = "SELECT count(*) FROM github.events__payload__issue__labels l JOIN github.events e ON "
        assert house.query(labels + "l._dlt_root_id = e._dlt_id") == [(13,)]
        same = await house.run("github", parameters={"file": str(file), "most": 300})
        assert same.outcome == "nothing to do"

"""Loads: what makes two of them one, what the lake keeps of them, and other warehouses that get them from there."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

from entrepot.activities.storage import lake
from entrepot.backends import QueryTag
from entrepot.protocol.parity import ParityReport
from tests.activities.ingest.sources.tables import Table
from tests.servers.postgres import Server
from tests.workflows.ingesting import Ingesting, line

MERGE = {"write_disposition": "merge", "primary_key": "id"}


def rows(first: int, last: int) -> list[dict[str, Any]]:
    return [{"id": n, "name": f"n{n}"} for n in range(first, last + 1)]


def versions(ingesting: Ingesting) -> int:
    ((count,),) = ingesting.query("SELECT count(*) FROM entrepot.versions WHERE kind = 'ingest'")
    return int(count)


def files(ingesting: Ingesting, folder: str) -> set[str]:
    """The lake's files below a folder, without the note of the newest columns."""
    every = lake.files(ingesting.house.tenants.get("acme").lake_path(folder, "ingested"))
    return {path for path in every if not path.endswith("/columns.json")}


def elsewhere(ingesting: Ingesting, sql: str) -> list[tuple[Any, ...]]:
    """Rows of a query against the tenant's other warehouse."""
    backend: Any = ingesting.house.tenants.get("acme", "other").backend
    with backend.session(QueryTag("acme", "test", "test")) as session:
        return session._connection.execute(sql).fetchall()  # type: ignore[no-any-return]


async def agrees(ingesting: Ingesting, select: str) -> dict[str, Any]:
    """Brings tables to the other warehouse, computes there what is made of them, and compares; versions by table."""
    asked = {"tenant": "acme", "pipeline": "ingested", "select": select}
    report = ParityReport.model_validate(await (await ingesting.house.start("Parity", asked)).result())
    assert report.agrees, report
    return {table.name: table.version for table in report.tables}


async def collect(ingesting: Ingesting, keep_days: float = 0.0) -> dict[str, Any]:
    """Removes what nobody needs."""
    asked = {"tenant": "acme", "pipeline": "ingested", "keep_days": keep_days, "keep_publishes": 1}
    collected: dict[str, Any] = await (await ingesting.house.start("Gc", asked)).result()
    return collected


async def test_the_order_of_rows_does_not_count(ingesting: Ingesting) -> None:
    ingesting.give("plain", [*rows(1, 50), *rows(7, 7)])
    await ingesting.load("plain")
    before = ingesting.standing()
    ingesting.give("plain", [*rows(30, 50), *rows(7, 7), *rows(1, 29)])
    assert (await ingesting.load("plain")).outcome == "nothing to do"
    assert ingesting.standing() == before
    ingesting.give("plain", rows(1, 50))  # but how often a row is there
    assert (await ingesting.load("plain")).outcome == "published"
    assert ingesting.query("SELECT count(*) FROM ingested.plain") == [(50,)]


async def test_the_same_load_twice_is_one(ingesting: Ingesting) -> None:
    ingesting.give("keyed", rows(1, 3))
    await ingesting.load("keyed", MERGE)
    await ingesting.load("keyed", MERGE, environment="dev")
    ingesting.give("keyed", rows(2, 4))
    await ingesting.load("keyed", MERGE)
    await ingesting.load("keyed", MERGE, environment="dev")
    assert versions(ingesting) == 2
    ingesting.give("keyed", rows(1, 3))
    await ingesting.load("keyed", MERGE, environment="pr_1", refresh=True)  # what the first load of all brought
    assert versions(ingesting) == 2
    assert ingesting.query("SELECT count(*) FROM ingested__pr_1.keyed") == [(3,)]
    assert ingesting.query("SELECT count(*) FROM ingested.keyed") == [(4,)]


async def test_another_warehouse_gets_its_rows_from_the_lake(ingesting_into_two: Ingesting) -> None:
    ingesting = ingesting_into_two
    for last in (10, 20, 30):
        ingesting.give("counted", rows(1, last))
        await ingesting.load("counted+")
    ingesting.give("keyed", rows(1, 5))
    await ingesting.load("keyed", MERGE)
    ingesting.give("keyed", [{"id": 5, "name": "five"}, {"id": 6, "name": "six", "more": 0.5}])
    await ingesting.load("keyed", MERGE)
    ingesting.write("breaks", "")  # the source cannot be asked any more
    made = await agrees(ingesting, "counted keyed ids")
    for table, count in (("counted", 30), ("keyed", 6), ("ids", 30)):
        here = ingesting.query(f"SELECT * FROM ingested.{table} ORDER BY id")
        assert len(here) == count
        assert elsewhere(ingesting, f"SELECT * FROM ingested__v.{table}__{made[table]} ORDER BY id") == here


async def test_the_lake_keeps_what_versions_were_loaded_from(ingesting_into_two: Ingesting) -> None:
    ingesting = ingesting_into_two
    for last in (3, 6):
        ingesting.give("counted", rows(1, last))
        await ingesting.load("counted+")
    ingesting.give("plain", rows(1, 3))
    await ingesting.load("plain")
    whole = files(ingesting, "loads")
    ingesting.give("plain", rows(4, 9))
    await ingesting.load("plain")
    ingesting.give("keyed", [*rows(1, 1), *rows(1, 1)])
    await ingesting.refused("keyed", MERGE)
    (failed,) = [path for path in files(ingesting, "loads") if "/keyed/" in path and path.endswith(".parquet")]
    before = files(ingesting, "loads"), files(ingesting, "raw")

    assert (await collect(ingesting, keep_days=1.0))["removed"] == []
    assert (files(ingesting, "loads"), files(ingesting, "raw")) == before

    collected = await collect(ingesting)
    assert len(collected["removed"]) == 3  # an old one of each of plain, counted and ids
    left = files(ingesting, "loads")
    assert failed not in left
    gone = {path for path in whole if "/plain/" in path and path.endswith(".parquet")}
    assert gone
    assert not gone & left
    parquet = sorted(path.split("/")[-3] for path in left if path.endswith(".parquet"))
    assert parquet == ["counted", "plain"]  # its two loads are written together
    manifests = sorted("/".join(path.split("/")[-3::2]) for path in files(ingesting, "raw"))
    assert manifests == ["counted/packed.json", "plain/load.json"]
    others = [path.partition("/loads/ingested/")[2] for path in left if not path.endswith(".parquet")]
    assert Counter(re.sub(r"\b[-0-9a-f]{16,}", "…", other) for other in others) == {
        "counted/packed/counted….manifest.json": 1,
        "plain/…/plain….manifest.json": 1,
        **{f"{step}/{name}": 1 for step in ("counted", "plain") for name in ("heads/prod.json", "watermarks….json")},
    }

    assert set(await agrees(ingesting, "counted plain ids")) == {"counted", "plain", "ids"}
    ingesting.give("counted", rows(1, 8))
    await ingesting.load("counted+")
    assert ingesting.query("SELECT count(*), sum(id) FROM ingested.counted") == [(8, 36)]
    assert ingesting.query("SELECT count(*), sum(n) FROM ingested.ids") == [(8, 8)]


async def test_what_a_failed_attempt_has_read_is_not_read_again(ingesting_into_two: Ingesting) -> None:
    ingesting = ingesting_into_two
    ingesting.give("counted", rows(1, 5))
    dies = ingesting.write("dies", "when everything is read")
    run = await ingesting.load("counted+")
    assert not dies.exists()
    assert line(run, "counted").rows == 5
    assert (ingesting.folder / "asked").read_text() == "x"
    assert ingesting.query("SELECT count(*) FROM ingested.counted") == [(5,)]
    assert not [path for path in files(ingesting, "loads") if path.endswith("checkpoint.json")]


async def test_a_backfill_of_a_range_that_has_no_rows_any_more(ingesting: Ingesting) -> None:
    ingesting.give("counted", rows(1, 9))
    await ingesting.load("counted+")
    ingesting.give("counted", [*rows(1, 2), *rows(6, 9)])
    await ingesting.load("counted+", backfill={"start": 3, "end": 6})
    assert ingesting.query("SELECT id FROM ingested.counted ORDER BY 1") == [(n,) for n in (1, 2, 6, 7, 8, 9)]
    assert ingesting.query("SELECT count(*) FROM ingested.ids") == [(6,)]
    assert (await ingesting.load("counted+")).outcome == "nothing to do"


async def test_one_step_with_sources_of_every_kind(ingesting: Ingesting, postgres: Server, shop_database: None) -> None:
    table = Table(postgres, "id int")
    options = {"table": table.name}
    each = [f"(SELECT count(*) FROM ingested.from_{name})" for name in ("files", "database", "python")]
    counts = f"SELECT {', '.join(each)}"
    table.add("1", "2")
    ingesting.write("a.csv", "id\n1\n")
    ingesting.give("mixed", rows(1, 3))
    await ingesting.load("mixed", options)
    assert ingesting.query(counts) == [(1, 2, 3)]
    table.add("3")
    note = await ingesting.note("mixed", options)
    assert note == "1 of 3 tables are new"
    ingesting.write("b.csv", "id\n2\n")
    ingesting.give("mixed", rows(1, 5))
    await ingesting.load("mixed", options)
    assert ingesting.query(counts) == [(2, 3, 5)]
    assert (await ingesting.load("mixed", options)).outcome == "nothing to do"


async def test_of_rows_with_one_key_the_newest_is_kept(ingesting: Ingesting) -> None:
    options = {**MERGE, "columns": {"at": {"dedup_sort": "desc"}}}
    ingesting.give("keyed", [{"id": 1, "at": 1, "_number": 5}, {"id": 1, "at": 2, "_number": 6}])
    await ingesting.load("keyed", options)
    assert ingesting.query('SELECT id, "at", _number FROM ingested.keyed') == [(1, 2, 6)]

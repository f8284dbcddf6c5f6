"""Tables of a real PostgreSQL, in whole runs: whole, what is new, by key, again, and back."""

from __future__ import annotations

import pytest

from tests.activities.ingest.sources.tables import Table
from tests.servers.postgres import Server
from tests.workflows.ingesting import Ingesting, line

pytestmark = pytest.mark.usefixtures("shop_database")

ALL = "SELECT id, note FROM ingested.sql ORDER BY 1, 2"


def shop_table(postgres: Server, columns: str = "id int, at timestamptz, note text") -> Table:
    return Table(postgres, columns)


async def test_whole_tables(ingesting: Ingesting, postgres: Server) -> None:
    table = shop_table(postgres)
    table.add("1, '2020-01-01', 'a'", "2, '2020-01-02', NULL")
    options = {"table": table.name}
    await ingesting.load("sql", options)
    before = ingesting.standing()
    same = await ingesting.load("sql", options)
    assert same.outcome == "nothing to do"
    assert ingesting.standing() == before
    table.do(f"DELETE FROM {table.name} WHERE id = 1; INSERT INTO {table.name} VALUES (3, now(), 'c')")
    await ingesting.load("sql", options)
    assert ingesting.query(ALL) == [(2, None), (3, "c")]
    scd2 = {**options, "disposition": "scd2", "key": ["id"], "columns": ["id", "note"]}
    await ingesting.load("sql", scd2, refresh=True)
    table.do(f"UPDATE {table.name} SET note = 'C' WHERE id = 3")
    await ingesting.load("sql", scd2)
    held = ingesting.query("SELECT id, note, valid_to IS NULL FROM ingested.sql ORDER BY 1, 3")
    assert held == [(2, None, True), (3, "c", False), (3, "C", True)]


@pytest.mark.fast
async def test_what_is_new_at_the_boundary(ingesting: Ingesting, postgres: Server) -> None:
    table = shop_table(postgres)
    options = {"table": table.name, "cursor": "at"}
    table.add("1, '2020-01-01', 'a'", "2, '2020-01-02', 'b'", "2, '2020-01-02', 'b'")
    await ingesting.load("sql", options)
    table.add("2, '2020-01-02', 'b'", "3, '2020-01-02', 'c'", "4, '2020-01-03', 'd'")
    run = await ingesting.load("sql", options)
    assert line(run, "sql").rows == 3
    assert ingesting.query(ALL) == [(1, "a"), (2, "b"), (2, "b"), (2, "b"), (3, "c"), (4, "d")]
    assert (await ingesting.load("sql", options)).outcome == "nothing to do"


async def test_rows_that_come_late_are_found_within_the_lag(ingesting: Ingesting, postgres: Server) -> None:
    table = shop_table(postgres, "id int, note text")
    options = {"table": table.name, "cursor": "id", "lag": 10}
    table.add("1, 'a'", "20, 'b'", "30, 'c'")
    await ingesting.load("sql", options)
    table.add("5, 'too late'", "25, 'late'", "31, 'd'")
    await ingesting.load("sql", options)
    assert ingesting.query(ALL) == [(1, "a"), (20, "b"), (25, "late"), (30, "c"), (31, "d")]
    before = ingesting.query("SELECT count(*) FROM entrepot.versions")
    await ingesting.load("sql", options)  # the last ten once more
    assert ingesting.query("SELECT count(*) FROM entrepot.versions") == before


async def test_merge_with_deletes_and_a_backfill(ingesting: Ingesting, postgres: Server) -> None:
    table = shop_table(postgres, "id int, version int, note text, gone bool")
    options = {"table": table.name, "cursor": "version", "key": ["id"], "deleted": "gone"}
    table.add("1, 1, 'a', false", "2, 2, 'b', false", "3, 3, 'c', NULL")
    await ingesting.load("sql", options)
    table.do(f"UPDATE {table.name} SET version = 4, gone = true WHERE id = 1")
    table.do(f"UPDATE {table.name} SET version = 5, note = 'B' WHERE id = 2")
    table.add("4, 6, 'd', true")
    await ingesting.load("sql", options)
    assert ingesting.query(ALL) == [(2, "B"), (3, "c")]
    table.do(f"UPDATE {table.name} SET note = 'corrected' WHERE id = 3")  # and its cursor stays
    assert (await ingesting.load("sql", options)).outcome == "nothing to do"
    await ingesting.load("sql", options, backfill={"start": 3, "end": 4})
    assert ingesting.query(ALL) == [(2, "B"), (3, "corrected")]
    assert (await ingesting.load("sql", options)).outcome == "nothing to do"


async def test_a_backfill_takes_the_place_of_a_range(ingesting: Ingesting, postgres: Server) -> None:
    table = shop_table(postgres)
    options = {"table": table.name, "cursor": "at"}
    table.add(*(f"{n}, '2020-01-0{n}', 'old'" for n in range(1, 6)))
    await ingesting.load("sql", options)
    table.do(f"UPDATE {table.name} SET note = 'new'; DELETE FROM {table.name} WHERE id = 3")
    window = {"start": "2020-01-02T00:00:00Z", "end": "2020-01-04T00:00:00Z"}
    await ingesting.load("sql", options, backfill=window)
    assert ingesting.query(ALL) == [(1, "old"), (2, "new"), (4, "old"), (5, "old")]
    table.add("6, '2020-01-06', 'x'")
    await ingesting.load("sql", options)
    assert ingesting.query(ALL)[3:] == [(5, "new"), (5, "old"), (6, "x")]  # to the source, it is another row


async def test_a_rollback_with_the_cursor(ingesting: Ingesting, postgres: Server) -> None:
    table = shop_table(postgres)
    options = {"table": table.name, "cursor": "at"}
    table.add("1, '2020-01-01', 'a'")
    await ingesting.load("sql", options)
    table.add("2, '2020-01-01', 'b'", "3, '2020-01-02', 'c'")
    await ingesting.load("sql", options)
    back = {"tenant": "acme", "pipeline": "ingested", "cursor": True}
    await (await ingesting.house.start("Rollback", back)).result()
    assert ingesting.query(ALL) == [(1, "a")]
    table.add("4, '2020-01-03', 'd'")
    await ingesting.load("sql", options)
    assert ingesting.query(ALL) == [(1, "a"), (2, "b"), (3, "c"), (4, "d")]


async def test_two_hundred_thousand_rows(ingesting: Ingesting, postgres: Server) -> None:
    table = shop_table(postgres, "id int PRIMARY KEY, at timestamp, amount numeric(12, 2), note text")
    some = "SELECT g, timestamp '2020-01-01' + g * interval '1 second', g / 100.0, 'note ' || g % 100"
    table.do(f"INSERT INTO {table.name} {some} FROM generate_series(1, 150000) g")
    options = {"table": table.name, "cursor": "at"}
    await ingesting.load("sql", options)
    table.do(f"INSERT INTO {table.name} {some} FROM generate_series(150001, 200000) g")
    run = await ingesting.load("sql", options)
    assert line(run, "sql").rows == 50_000
    with postgres.connect() as connection:
        asked = 'SELECT count(*), count(DISTINCT id), sum(amount), max("at"), count(DISTINCT note) FROM '
        expected = connection.execute(asked + table.name).fetchone()
    assert ingesting.query(asked + "ingested.sql") == [expected]

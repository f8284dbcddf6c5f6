"""The stand-in for Databricks, by Databricks' own client: what the backend relies on, each thing by itself."""

from __future__ import annotations

import datetime
import json
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from databricks.sql import exc
from tests.waiting import until

Connect = Callable[..., Any]


@pytest.fixture
def cursor(connect: Connect) -> Iterator[Any]:
    """A cursor in an empty schema of its own, which is the current one."""
    with connect().cursor() as cursor:
        cursor.execute("DROP SCHEMA IF EXISTS gate CASCADE")
        cursor.execute("CREATE SCHEMA gate")
        cursor.execute("USE gate")
        yield cursor


def rows(cursor: Any, statement: str, parameters: Any = None) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in cursor.execute(statement, parameters).fetchall()]


def one(cursor: Any, statement: str) -> dict[str, Any]:
    [row] = cursor.execute(statement).fetchall()
    return row.asDict()


def told(databricks: dict[str, Any], **order: Any) -> None:
    url = databricks["uri"].replace(databricks["http_path"], "/control")
    urllib.request.urlopen(urllib.request.Request(url, json.dumps(order).encode(), method="POST")).close()


def asked(databricks: dict[str, Any]) -> list[dict[str, Any]]:
    with urllib.request.urlopen(databricks["uri"].replace(databricks["http_path"], "/control")) as answer:
        return json.load(answer)["statements"]


def test_values_of_each_type(cursor: Any) -> None:
    cursor.execute(
        """CREATE TABLE t AS SELECT true b, CAST(1 AS TINYINT) i8, CAST(2 AS SMALLINT) i16, 3 i32, 4L i64,
        CAST('NaN' AS FLOAT) f, 0.5D d, CAST(12345678901234567890.1234567890 AS DECIMAL(38, 10)) n, 'é\U0001f600' s,
        '' e, X'00ff' x, DATE'2024-02-29' day, TIMESTAMP'2024-01-01 12:00:00.123456+02:00' ts,
        TIMESTAMP_NTZ'2024-01-01 12:00:00' ntz, ARRAY(1, NULL) a, MAP('k', 1) m, NAMED_STRUCT('p', 1, 'q', 'z') st,
        CAST(NULL AS INT) nothing"""
    )
    table = cursor.execute("SELECT * FROM t").fetchall_arrow()
    assert table.schema.field("ts").type == pa.timestamp("us", tz="Etc/UTC")
    assert table.schema.field("ntz").type == pa.timestamp("us")
    [row] = table.to_pylist()
    assert row.pop("f") != 0.0
    assert row == {
        "b": True,
        "i8": 1,
        "i16": 2,
        "i32": 3,
        "i64": 4,
        "d": 0.5,
        "n": Decimal("12345678901234567890.1234567890"),
        "s": "é\U0001f600",
        "e": "",
        "x": b"\x00\xff",
        "day": datetime.date(2024, 2, 29),
        "ts": datetime.datetime(2024, 1, 1, 10, 0, 0, 123456, datetime.UTC),
        "ntz": datetime.datetime(2024, 1, 1, 12),
        "a": [1, None],
        "m": [("k", 1)],
        "st": {"p": 1, "q": "z"},
        "nothing": None,
    }


def test_counts_of_changed_rows(cursor: Any) -> None:
    cursor.execute("CREATE OR REPLACE TABLE t AS SELECT id, 1 AS v FROM range(10)")
    assert cursor.fetchall() == []
    assert one(cursor, "INSERT INTO t VALUES (100, 1), (101, 1)") == {"num_affected_rows": 2, "num_inserted_rows": 2}
    assert cursor.rowcount == 2
    assert one(cursor, "UPDATE t SET v = 2 WHERE id > 5") == {"num_affected_rows": 6}
    assert one(cursor, "UPDATE t SET v = 2 WHERE id > 5000") == {"num_affected_rows": 0}
    assert one(cursor, "DELETE FROM t WHERE id = 3") == {"num_affected_rows": 1}
    assert one(cursor, "DELETE FROM t WHERE id >= 0 AND id < 5") == {"num_affected_rows": 4}
    merge = "MERGE INTO t USING (SELECT id FROM range(8, 12)) s ON s.id = t.id WHEN MATCHED THEN UPDATE SET v = 9 {}"
    counts = {"num_affected_rows": 4, "num_updated_rows": 2, "num_deleted_rows": 0, "num_inserted_rows": 2}
    assert one(cursor, merge.format("WHEN NOT MATCHED THEN INSERT (id, v) VALUES (s.id, 0)")) == counts
    assert rows(cursor, "SELECT count(*) FROM t") == [(9,)]
    assert one(cursor, "DELETE FROM t") == {"num_affected_rows": 9}
    assert one(cursor, "DELETE FROM t") == {"num_affected_rows": 0}
    assert one(cursor, "INSERT INTO t SELECT 1, 1 WHERE false") == {"num_affected_rows": 0, "num_inserted_rows": 0}


def test_tables_and_views(cursor: Any) -> None:
    cursor.execute("CREATE TABLE first AS SELECT 1 x")
    cursor.execute("CREATE OR REPLACE VIEW shown AS SELECT x FROM gate.first")
    cursor.execute("CREATE OR REPLACE VIEW shown AS SELECT x + 1 AS y FROM gate.first")
    assert rows(cursor, "SELECT y FROM shown") == [(2,)]
    cursor.execute("DROP VIEW shown")
    cursor.execute("ALTER TABLE first RENAME TO main.gate.second")
    assert rows(cursor, "SHOW TABLES IN gate") == [("gate", "second", False)]
    cursor.execute("CREATE TABLE first (a INT, b STRING, PRIMARY KEY (a)) USING DELTA")
    with pytest.raises(exc.ServerOperationError, match=r"(?s)^\[TABLE_OR_VIEW_ALREADY_EXISTS\] Can.*SQLSTATE: 42P07"):
        cursor.execute("ALTER TABLE first RENAME TO main.gate.second")
    cursor.execute("DROP TABLE first")
    cursor.execute("DROP TABLE IF EXISTS first")


def test_names_are_the_same_in_any_case(cursor: Any) -> None:
    cursor.execute("CREATE TABLE `MixedCase` AS SELECT 1 `Column`")
    assert rows(cursor, "SELECT column FROM GATE.MIXEDCASE") == [(1,)]
    with pytest.raises(exc.ServerOperationError, match="TABLE_OR_VIEW_ALREADY_EXISTS"):
        cursor.execute("CREATE TABLE mixedcase AS SELECT 1 x")
    assert rows(cursor, "SHOW TABLES") == [("gate", "mixedcase", False)]


def test_parameters(cursor: Any) -> None:
    values = {
        "i": 1,
        "n": Decimal("1.50"),
        "s": "it's",
        "d": datetime.date(2024, 1, 2),
        "t": datetime.datetime(2024, 1, 2, 3, 4, 5, tzinfo=datetime.UTC),
        "b": True,
        "f": 0.5,
        "z": None,
    }
    [row] = rows(cursor, "SELECT :i, :n, :s, :d, :t, :b, :f, :z", values)
    told = dict(zip(values, row, strict=True))
    told["t"] = told["t"].replace(tzinfo=datetime.UTC)  # the client leaves the zone out at times
    assert told == values
    assert rows(cursor, "SELECT ? + ?", [1, 2]) == [(3,)]


def test_what_there_is(cursor: Any) -> None:
    cursor.execute("CREATE TABLE t (id BIGINT COMMENT 'key', n DECIMAL(10, 2), a ARRAY<STRUCT<x: INT>>)")
    cursor.execute("CREATE VIEW v AS SELECT id FROM t")
    assert rows(cursor, "DESCRIBE TABLE t")[:2] == [("id", "bigint", "key"), ("n", "decimal(10,2)", None)]
    described = json.loads(rows(cursor, "DESCRIBE EXTENDED main.gate.t AS JSON")[0][0])
    assert described["columns"][1]["type"] == {"name": "decimal", "precision": 10, "scale": 2}
    tables = "SELECT table_name, table_type FROM main.information_schema.tables WHERE table_schema = 'gate'"
    assert sorted(rows(cursor, tables)) == [("t", "MANAGED"), ("v", "VIEW")]
    its = "table_schema = 'gate' AND table_name = 't'"
    columns = f"SELECT column_name, data_type FROM information_schema.columns WHERE {its} ORDER BY 1"
    assert rows(cursor, columns) == [("a", "ARRAY"), ("id", "LONG"), ("n", "DECIMAL")]
    assert ("gate",) in rows(cursor, "SHOW SCHEMAS")
    assert [row[2] for row in cursor.tables("main", "gate").fetchall()] == ["t", "v"]
    assert "gate" in [row[0] for row in cursor.schemas("main").fetchall()]
    assert [row[0] for row in cursor.catalogs().fetchall()] == ["main"]
    assert rows(cursor, "SELECT current_catalog(), current_schema()") == [("main", "gate")]


@pytest.mark.parametrize(
    ("statement", "error"),
    [
        ("SELECT * FROM nothing", "TABLE_OR_VIEW_NOT_FOUND.*42P01"),
        ("SELECT * FROM main.nothing.t", "TABLE_OR_VIEW_NOT_FOUND.*42P01"),
        ("SELECT * FROM nothing.a.t", "NO_SUCH_CATALOG_EXCEPTION.*42704"),
        ("CREATE TABLE nothing.t AS SELECT 1 x", "SCHEMA_NOT_FOUND.*42704"),
        ("CREATE TABLE nothing.a.t AS SELECT 1 x", "NO_SUCH_CATALOG_EXCEPTION"),
        ("CREATE SCHEMA nothing.a", "NO_SUCH_CATALOG_EXCEPTION"),
        ("SHOW TABLES IN nothing", "SCHEMA_NOT_FOUND"),
        ("USE nothing", "SCHEMA_NOT_FOUND"),
        ("USE CATALOG nothing", "NO_SUCH_CATALOG_EXCEPTION"),
        ("CREATE SCHEMA gate", "SCHEMA_ALREADY_EXISTS"),
        ("DROP TABLE nothing", "TABLE_OR_VIEW_NOT_FOUND"),
        ("SELECT nothing FROM range(1)", "UNRESOLVED_COLUMN.*42703"),
        ("SELECTED 1", "PARSE_SYNTAX_ERROR.*42601"),
        ("SELECT 1 / id FROM range(2)", "DIVIDE_BY_ZERO.*22012"),
        ("SELECT CAST('x' AS INT)", "CAST_INVALID_INPUT.*22018"),
    ],
)
def test_errors(cursor: Any, statement: str, error: str) -> None:
    with pytest.raises(exc.ServerOperationError, match=rf"(?s)^\[{error}") as caught:
        cursor.execute(statement)
    assert "\tat " not in str(caught.value)


def test_a_session_needs_what_it_names(connect: Connect) -> None:
    with pytest.raises(exc.DatabaseError, match="NO_SUCH_CATALOG_EXCEPTION"):
        connect(catalog="nothing")
    with pytest.raises(exc.DatabaseError, match="SCHEMA_NOT_FOUND"):
        connect(schema="nothing")


def test_a_wrong_token_is_refused(connect: Connect) -> None:
    with pytest.raises(exc.RequestError, match="Invalid access token"):
        connect(access_token="y")


def test_a_token_expires(cursor: Any, databricks: dict[str, Any]) -> None:
    told(databricks, fail="expired")
    with pytest.raises(exc.RequestError, match="Invalid access token"):
        cursor.execute("SELECT 1")


def test_a_permission_is_missing(cursor: Any, databricks: dict[str, Any]) -> None:
    told(databricks, fail="denied", containing="secret")
    assert rows(cursor, "SELECT 1") == [(1,)]
    with pytest.raises(exc.ServerOperationError, match=r"\[INSUFFICIENT_PERMISSIONS\].*42501"):
        cursor.execute("SELECT * FROM secret")


def test_the_client_waits_for_a_warehouse_that_starts(cursor: Any, databricks: dict[str, Any]) -> None:
    told(databricks, fail="unavailable", times=1)
    assert rows(cursor, "SELECT 1") == [(1,)]


def test_tags_are_kept(cursor: Any, databricks: dict[str, Any]) -> None:
    cursor.execute("SELECT 'tagged'", query_tags={"tenant": "acme", "run": "a:b,c"})
    [found] = [entry for entry in asked(databricks) if entry["statement"] == "SELECT 'tagged'"]
    assert found == {
        "statement": "SELECT 'tagged'",
        "tags": {"tenant": "acme", "run": "a:b,c"},
        "state": "FINISHED_STATE",
        "error": "",
    }


def test_words_that_spark_lacks(cursor: Any) -> None:
    cursor.execute('CREATE TABLE t AS SELECT id, id % 2 AS g, \'{"k": {"l": 5}}\' AS j FROM range(4)')
    best = "SELECT id, g FROM t QUALIFY row_number() OVER (PARTITION BY g ORDER BY id DESC) = 1 ORDER BY g"
    assert rows(cursor, best) == [(2, 0), (3, 1)]
    assert rows(cursor, "SELECT * EXCEPT (j, g) FROM t WHERE id = 1") == [(1,)]
    assert rows(cursor, "SELECT j:k.l FROM t LIMIT 1") == [("5",)]


def test_a_statement_before_and_behind_which_are_comments(cursor: Any) -> None:
    assert rows(cursor, "/* tenant=a */ -- and\n SELECT 1; ") == [(1,)]


def test_insert_casts_and_fills(cursor: Any) -> None:
    cursor.execute("CREATE TABLE t (a INT, b DATE, c STRING)")
    counted = one(cursor, "INSERT INTO t (b, a) VALUES ('2024-01-01', '5')")
    assert counted == {"num_affected_rows": 1, "num_inserted_rows": 1}
    assert rows(cursor, "SELECT * FROM t") == [(5, datetime.date(2024, 1, 1), None)]


def test_files_of_volumes(cursor: Any, tmp_path: Path) -> None:
    file = tmp_path / "it's.parquet"
    pq.write_table(pa.table({"a": [1, 2], "b": ["x", None], "c": [1.5, 2.5]}), file)
    cursor.execute("CREATE VOLUME IF NOT EXISTS main.gate.files COMMENT 'raw'")
    target = "/Volumes/main/gate/files/load/it\\'s.parquet"
    put = f"PUT '{str(file).replace(chr(39), chr(92) + chr(39))}' INTO '{target}'"
    cursor.execute(put)
    with pytest.raises(exc.ServerOperationError, match="FILE_ALREADY_EXISTS"):
        cursor.execute(put)
    cursor.execute(put + " OVERWRITE")
    assert [row[1] for row in rows(cursor, "LIST '/Volumes/main/gate/files/load'")] == ["it's.parquet"]
    select = "SELECT CAST(a AS INT) AS a, CAST(b AS STRING) AS b FROM"
    cursor.execute(f"CREATE TABLE t AS {select} read_files('/Volumes/main/gate/files/load', format => 'parquet')")
    cursor.execute(f"CREATE TABLE u AS {select} parquet.`/Volumes/main/gate/files/load`")
    for table in ("t", "u"):
        assert sorted(rows(cursor, f"SELECT * FROM {table}")) == [(1, "x"), (2, None)]
    copy = "COPY INTO t FROM '/Volumes/main/gate/files/load' FILEFORMAT = PARQUET"
    assert one(cursor, copy) == {"num_affected_rows": 2, "num_inserted_rows": 2, "num_skipped_corrupt_files": 0}
    assert one(cursor, copy)["num_affected_rows"] == 0
    some = "COPY INTO t FROM (SELECT CAST(a AS INT) a FROM '/Volumes/main/gate/files/load') FILEFORMAT = PARQUET"
    assert one(cursor, some + " COPY_OPTIONS ('force' = 'true')")["num_affected_rows"] == 2
    assert rows(cursor, "SELECT count(*), count(b) FROM t") == [(6, 2)]
    cursor.execute(f"REMOVE '{target}'")
    assert rows(cursor, "LIST '/Volumes/main/gate/files/load'") == []
    with pytest.raises(exc.ServerOperationError, match="VOLUME_DOES_NOT_EXIST"):
        cursor.execute("REMOVE '/Volumes/main/gate/nothing/x'")


def test_a_large_result_in_pieces(cursor: Any) -> None:
    cursor.execute("SELECT id, id * 2 AS twice, CAST(id AS STRING) AS text FROM range(3000000) ORDER BY id")
    seen = 0
    while (part := cursor.fetchmany_arrow(70_001)).num_rows:
        assert part.column("id")[0].as_py() == seen
        seen += part.num_rows
    assert seen == 3_000_000
    assert cursor.execute("SELECT id FROM range(50000)").fetchall_arrow().num_rows == 50_000
    assert cursor.execute("SELECT id FROM range(0)").fetchall_arrow().schema.names == ["id"]


SLOW = "SELECT sum(id % 7) AS s FROM range(1000000000000)"


@pytest.mark.parametrize("statement", [SLOW, f"CREATE TABLE never AS {SLOW}"])
def test_a_statement_is_cancelled(cursor: Any, databricks: dict[str, Any], statement: str) -> None:
    caught: list[BaseException] = []

    def execute() -> None:
        try:
            cursor.execute(statement)
        except exc.Error as error:
            caught.append(error)

    thread = threading.Thread(target=execute)
    thread.start()
    until(lambda: any(e["statement"] == statement and e["state"] == "RUNNING_STATE" for e in asked(databricks)))
    time.sleep(1.5)  # past the first answer, so that the client is asking for the state
    cursor.cancel()
    thread.join(timeout=60)
    assert not thread.is_alive()
    assert "CANCELED_STATE" in str(caught[0])
    assert [e["state"] for e in asked(databricks) if e["statement"] == statement] == ["CANCELED_STATE"]
    assert rows(cursor, "SHOW TABLES IN gate") == []


def test_sessions_at_once(cursor: Any, connect: Connect) -> None:
    cursor.execute("CREATE TABLE t (id BIGINT)")
    failed: list[BaseException] = []

    def insert(number: int) -> None:
        try:
            with connect(schema="gate").cursor() as other:
                other.execute(f"CREATE OR REPLACE TEMPORARY VIEW mine AS SELECT {number} AS id")
                other.execute("INSERT INTO t SELECT id FROM mine")
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=insert, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert sorted(rows(cursor, "SELECT id FROM t")) == [(n,) for n in range(6)]


def test_of_two_updates_one_wins(cursor: Any, connect: Connect) -> None:
    cursor.execute("CREATE TABLE t AS SELECT id, 0 AS v FROM range(200000)")
    ready = threading.Barrier(2)
    said: list[str] = []

    def update(number: int) -> None:
        with connect(schema="gate").cursor() as other:
            ready.wait()
            try:
                other.execute(f"UPDATE t SET v = v + {number} WHERE id % 2 = 0")
                said.append("done")
            except exc.ServerOperationError as error:
                said.append(str(error))

    threads = [threading.Thread(target=update, args=(n,)) for n in (1, 10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    [lost] = [text for text in said if text != "done"]
    assert lost.startswith("[DELTA_CONCURRENT_")
    assert lost.endswith("SQLSTATE: 2D521")
    [(value,)] = rows(cursor, "SELECT DISTINCT v FROM t WHERE v > 0")
    assert value in {1, 10}

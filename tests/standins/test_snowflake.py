"""What the stand-in for Snowflake does, as Snowflake's own client sees it."""

from __future__ import annotations

import base64
import json
import threading
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import snowflake.connector
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from snowflake.connector.errors import DatabaseError, Error, ProgrammingError
from tests.waiting import until

pytestmark = [
    pytest.mark.timeout(900),  # the first test may install it
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

ENDLESS = """
    with recursive r(n) as (select 1 union all select n + 1 from r where n < 1000000000) select count(*) from r
"""
Connect = Callable[..., Any]


@pytest.fixture
def connect(snowflake: dict[str, Any]) -> Iterator[Connect]:
    """Opens connections, and closes them at the end."""
    opened = []

    def connect(**options: Any) -> Any:
        settings = {name: value for name, value in snowflake.items() if name != "type"}
        settings["password"] = Path(settings["password"].removeprefix("file:")).read_text()
        connection = snowflake_connect({**settings, **options})
        opened.append(connection)
        return connection

    yield connect
    for connection in opened:
        connection.close()


def snowflake_connect(options: dict[str, Any]) -> Any:
    return snowflake.connector.connect(**{k: v for k, v in options.items() if v is not None})


@pytest.fixture
def cursor(connect: Connect) -> Any:
    """A cursor in a schema of its own."""
    cursor = connect().cursor()
    cursor.execute(f"create schema s_{uuid.uuid4().hex}")
    return cursor


def fault(settings: dict[str, Any], **request: Any) -> None:
    url = f"http://127.0.0.1:{settings['port']}/standin/faults"
    urllib.request.urlopen(urllib.request.Request(url, json.dumps(request).encode(), method="POST")).close()


def one(cursor: Any, sql: str) -> Any:
    """The values of the one row of a query, or its value if there is one."""
    (row,) = cursor.execute(sql).fetchall()
    return row[0] if len(row) == 1 else row


def number_of(error: type[Error], action: Callable[[], Any]) -> int:
    """The error number with which an action fails."""
    with pytest.raises(error) as failed:
        action()
    return int(failed.value.errno)


def test_rows_that_change_are_counted(cursor: Any) -> None:
    cursor.execute("create table t (a number(38, 0), b varchar)")
    assert cursor.execute("insert into t values (1, 'x'), (2, null)").rowcount == 2
    assert cursor.execute("update t set b = 'y' where a = 2").rowcount == 1
    assert cursor.execute("delete from t").rowcount == 2


def test_tables_and_views(cursor: Any) -> None:
    cursor.execute("create table t as select 1 as a, 'x' as b")
    cursor.execute("alter table t rename to u")
    cursor.execute("create or replace view v as select a from u")
    tables = cursor.execute(
        "select table_name, table_type from information_schema.tables where table_schema = current_schema() order by 1"
    ).fetchall()
    assert tables == [("U", "BASE TABLE"), ("V", "VIEW")]
    columns = (
        "select column_name from information_schema.columns where table_schema = current_schema() and table_name = 'U'"
    )
    assert sorted(cursor.execute(columns).fetchall()) == [("A",), ("B",)]
    cursor.execute("drop view v")
    cursor.execute("drop table u")
    assert number_of(ProgrammingError, lambda: cursor.execute("select * from u")) == 2003


def test_a_transaction_is_undone(cursor: Any) -> None:
    cursor.execute("create table t (a int)")
    cursor.execute("begin")
    cursor.execute("insert into t values (1)")
    cursor.execute("rollback")
    assert one(cursor, "select count(*) from t") == 0


def test_ddl_commits_the_transaction(cursor: Any) -> None:
    cursor.execute("create table t (a int)")
    cursor.execute("begin")
    cursor.execute("insert into t values (1)")
    cursor.execute("create table u (a int)")
    cursor.execute("rollback")
    assert one(cursor, "select count(*) from t") == 1


def test_updates_of_one_table_wait_for_each_other(cursor: Any, connect: Connect) -> None:
    cursor.execute("create table t as select 0 as n")
    schema = one(cursor, "select current_schema()")

    def count() -> None:
        other = connect(schema=schema).cursor()
        for _ in range(5):
            other.execute("update t set n = n + 1")

    threads = [threading.Thread(target=count) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert one(cursor, "select n from t") == 15


def test_a_transaction_in_the_way_is_said(cursor: Any, connect: Connect) -> None:
    cursor.execute("create table t as select 0 as n")
    other = connect(schema=one(cursor, "select current_schema()")).cursor()
    other.execute("begin")
    assert one(other, "select n from t") == 0
    cursor.execute("update t set n = 1")
    assert number_of(ProgrammingError, lambda: other.execute("update t set n = 2")) == 625
    other.execute("rollback")


def files(folder: Path) -> Path:
    table = pa.table(
        {
            "A": pa.array([1, 2, None], pa.int64()),
            "b": ["x", None, "é"],
            "D": [Decimal("1.50"), None, Decimal("-2.25")],
            "TS": pa.array([datetime(2024, 1, 2, 3, 4, 5, 123456), None, datetime(1969, 1, 1)], pa.timestamp("us")),
            "F": [1.5, float("inf"), None],
            "BI": [b"\x00\xff", None, b""],
        }
    )
    pq.write_table(table, folder / "one.parquet")
    pq.write_table(table, folder / "two.parquet")
    return folder


@pytest.mark.parametrize("match", ["CASE_SENSITIVE", "CASE_INSENSITIVE"])
def test_parquet_is_copied_from_a_stage(cursor: Any, tmp_path: Path, match: str) -> None:
    cursor.execute(
        'create table t (a number(38, 0), "b" varchar, d number(10, 2), ts timestamp_ntz, f float, bi binary)'
    )
    cursor.execute("create temporary stage st")
    cursor.execute(f"put file://{files(tmp_path)}/*.parquet @st/run auto_compress = false")
    assert len(cursor.execute("list @st").fetchall()) == 2
    parquet = "file_format = (type = parquet, use_logical_type = true)"
    cursor.execute(f"copy into t from @st/run {parquet} match_by_column_name = {match}")
    assert one(cursor, "select count(*) from t") == 6
    row = cursor.execute("select * from t where a = 1 limit 1").fetchone()
    assert row == (1, "x", Decimal("1.50"), datetime(2024, 1, 2, 3, 4, 5, 123456), 1.5, b"\x00\xff")
    cursor.execute("remove @st")
    assert cursor.execute("list @st").fetchall() == []


def test_arrow_batches(cursor: Any) -> None:
    cursor.execute("create table t (a int, b varchar, c timestamp_ntz, d number(38, 0))")
    cursor.execute(
        "insert into t values (1, 'x', '2024-01-02', 99999999999999999999999999999999999999), (2, null, null, null)"
    )
    cursor.execute("select * from t order by a")
    table = pa.concat_tables(cursor.fetch_arrow_batches())
    assert table.column("A").to_pylist() == [1, 2]
    assert table.column("C").to_pylist() == [datetime(2024, 1, 2), None]
    assert table.column("D").to_pylist() == [Decimal(10**38 - 1), None]


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("md5('a')", "0cc175b9c0f1b6a831c399e269772661"),
        ("md5_number_lower64('Snowflake')", 9203306159527282910),  # from Snowflake's documentation
        ("md5_number_lower64('a')", 0x31C399E269772661),
        ("md5_number_lower64('')", 0xE9800998ECF8427E),  # more than a signed number of 64 bits holds
        ("bitand(5, 3)", 1),
        ("bitxor(5, 3)", 6),
        ("bitor(5, 3)", 7),
        ("bitand(md5_number_lower64(''), 255)", 0x7E),
        ("bitshiftright(8, 1)", 4),
        ("bitshiftright(-8, 1)", -4),
        ("bitshiftright(-7, 1)", -4),
        ("bitshiftleft(1, 3)", 8),
        ("mod(-5, 3)", -2),
        ("floor(-1.5)", -2),
        ("to_char(12)", "12"),
        ("to_char(12.50::number(10, 2))", "12.50"),
        (
            "to_char('2024-01-02 03:04:05.123456'::timestamp_ntz, 'YYYY-MM-DD HH24:MI:SS.FF6')",
            "2024-01-02 03:04:05.123456",
        ),
        ("to_char('2024-01-02'::timestamp_ntz, 'YYYY-MM')", "2024-01"),
        ("to_char(column1, 'yyyy-mm') from values ('2024-01-02'::timestamp_ntz)", "2024-01"),
        ("to_char(column1) from values ('2024-01-02 03:04:05'::timestamp_ntz)", "2024-01-02 03:04:05.000"),
        ("to_char(column1) from values (12.50::number(10, 2))", "12.50"),
        ("date_part(epoch_microsecond, '2024-01-02 03:04:05.123456'::timestamp_ntz)", 1704164645123456),
        ("extract(epoch_microsecond from '1969-12-31 23:59:59.5'::timestamp_ntz)", -500000),
        ("date_part(epoch_microsecond, null::timestamp_ntz)", None),
        ("sum(column1) from values (9223372036854775807), (1)", 9223372036854775808),
        ("sum(column1) from values (0.1::number(10, 2)), (0.2::number(10, 2))", Decimal("0.30")),
    ],
)
def test_functions(cursor: Any, expression: str, value: Any) -> None:
    assert one(cursor, f"select {expression}") == value


@pytest.mark.parametrize(
    ("sql", "number"),
    [
        ("select * from nope", 2003),
        ("select * from nope.t", 2003),
        ("select * from nope.public.t", 2003),
        ("use database nope", 2043),
        ("use schema nope", 2043),
        ("select nope from t", 904),
        ("select nope(1)", 2140),
        ("create table t (a int)", 2002),
        ("insert into t values ('x')", 100038),
        ("select 1 / 0", 100051),
        ("selec 1", 1003),
    ],
)
def test_errors_have_snowflakes_numbers(cursor: Any, sql: str, number: int) -> None:
    cursor.execute("create table t (a int)")
    assert number_of(ProgrammingError, lambda: cursor.execute(sql)) == number


def test_a_missing_database_is_named(cursor: Any) -> None:
    with pytest.raises(ProgrammingError, match="Database 'NOPE' does not exist or not authorized"):
        cursor.execute("select * from nope.public.t")


def test_wrong_logins_are_refused(connect: Connect) -> None:
    assert number_of(DatabaseError, lambda: connect(password="wrong")) == 390100
    assert number_of(DatabaseError, lambda: connect(user="nobody")) == 390100
    missing = number_of(DatabaseError, lambda: connect(database="NOPE", validate_default_parameters=True))
    assert missing == 390201
    assert number_of(ProgrammingError, lambda: connect(database="NOPE").cursor().execute("select * from t")) == 90105


def test_a_key_pair(connect: Connect, cursor: Any) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    private = key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    login = {"password": None, "private_key": private, "authenticator": "SNOWFLAKE_JWT"}
    assert number_of(DatabaseError, lambda: connect(**login)) == 390144
    cursor.execute(f"alter user fake set rsa_public_key = '{base64.b64encode(public).decode()}'")
    assert one(connect(**login).cursor(), "select current_user()") == "FAKE"


def test_a_running_statement_is_cancelled_by_its_id(connect: Connect) -> None:
    connection = connect()
    cursor = connection.cursor()
    cursor.execute_async(ENDLESS)
    query = cursor.sfqid
    assert one(connect().cursor(), f"select system$cancel_query('{query}')") == f"query [{query}] terminated."
    assert number_of(ProgrammingError, lambda: cursor.get_results_from_sfqid(query)) == 604


def test_a_running_statement_is_aborted(connect: Connect) -> None:
    cursor = connect().cursor()
    cursor.execute_async(ENDLESS)
    query = cursor.sfqid
    assert cursor.abort_query(query)
    assert number_of(ProgrammingError, lambda: cursor.get_results_from_sfqid(query)) == 604
    assert one(cursor, "select 1") == 1


def test_all_statements_of_a_session_are_cancelled(connect: Connect) -> None:
    connection, other = connect(), connect().cursor()
    failed: list[int] = []
    cursor = connection.cursor()
    thread = threading.Thread(
        target=lambda: failed.append(number_of(ProgrammingError, lambda: cursor.execute(ENDLESS)))
    )
    thread.start()
    cancel = f"select system$cancel_all_queries({connection.session_id})"
    until(lambda: one(other, cancel) == "1 queries cancelled.")
    thread.join()
    assert failed == [604]


def test_a_statement_has_its_time(connect: Connect) -> None:
    cursor = connect().cursor()
    limit = {"STATEMENT_TIMEOUT_IN_SECONDS": 1}
    assert number_of(ProgrammingError, lambda: cursor.execute(ENDLESS, _statement_params=limit)) == 630


def test_query_tags(connect: Connect) -> None:
    connection = connect(session_parameters={"QUERY_TAG": "login"})
    cursor = connection.cursor()
    cursor.execute("select 'by the login'")
    cursor.execute("alter session set query_tag = 'session'")
    cursor.execute("select 'by the session'")
    cursor.execute("select 'by the statement'", _statement_params={"QUERY_TAG": "statement"})
    tags = dict(
        cursor.execute(
            "select query_text, query_tag from table(information_schema.query_history_by_session()) "
            f"where session_id = '{connection.session_id}'"
        ).fetchall()
    )
    assert tags["select 'by the login'"] == "login"
    assert tags["select 'by the session'"] == "session"
    assert tags["select 'by the statement'"] == "statement"


@pytest.mark.parametrize(
    ("name", "number"), [("token-expired", 390114), ("suspended", 606), ("quota", 90073), ("denied", 3001)]
)
def test_faults(snowflake: dict[str, Any], connect: Connect, name: str, number: int) -> None:
    cursor = connect().cursor()
    fault(snowflake, fault=name, matching=f"marker of {name}")
    assert one(cursor, "select 1") == 1
    assert number_of(DatabaseError, lambda: cursor.execute(f"select 'marker of {name}'")) == number


def test_an_expired_session_is_renewed(snowflake: dict[str, Any], connect: Connect) -> None:
    cursor = connect().cursor()
    fault(snowflake, fault="session-expired", matching="marker of a session")
    assert one(cursor, "select 'marker of a session'") == "marker of a session"

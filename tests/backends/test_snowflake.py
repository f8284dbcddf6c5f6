"""What is special to Snowflake: names, query tags, keys, loading, errors, cancelling. The real client, a stand-in."""

from __future__ import annotations

import base64
import datetime
import decimal
import http.server
import json
import math
import subprocess
import sys
import threading
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ibis
import pyarrow as pa
import pyarrow.parquet
import pytest
import sqlglot.expressions as sge
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from ibis import _
from snowflake.connector import errors

from entrepot import backends
from entrepot.backends import QueryTag, Session, TableName
from entrepot.backends.base import physical
from entrepot.backends.snowflake.backend import Snowflake, SnowflakeSession
from entrepot.backends.snowflake.client import translated
from entrepot.backends.snowflake.dialect import DIALECT
from entrepot.backends.sql.session import Exists
from entrepot.errors import BadInput, Contended, StepFailed, Unavailable
from tests.waiting import until

LABEL = QueryTag("acme", "run-1", "orders")
PASSPHRASE = "open sesame"


@pytest.fixture(scope="session")
def settings(standin: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
    return standin("snowflake")


@pytest.fixture(scope="session")
def backend(settings: dict[str, Any]) -> Iterator[Snowflake]:
    made = backends.create(settings, "tenant 'acme'")
    assert isinstance(made, Snowflake)
    yield made
    made.close()


@pytest.fixture
def session(backend: Snowflake) -> Iterator[SnowflakeSession]:
    with backend.session(LABEL) as opened:
        assert isinstance(opened, SnowflakeSession)
        yield opened


@pytest.fixture
def schema(session: Session) -> Iterator[str]:
    name = f"test_{uuid.uuid4().hex[:8]}"
    session.create_schema("entrepot")
    session.create_schema(name)
    yield name
    session.drop_schema(name)


class Server:
    """The stand-in's own addresses."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._url = f"http://{settings['host']}:{settings['port']}/standin"

    def statements(self, containing: str) -> list[dict[str, Any]]:
        with urllib.request.urlopen(f"{self._url}/statements") as answer:
            return [one for one in json.load(answer) if containing in one["text"]]

    def fault(self, name: str, matching: str, times: int = 1) -> None:
        body = json.dumps({"fault": name, "matching": matching, "times": times}).encode()
        urllib.request.urlopen(urllib.request.Request(f"{self._url}/faults", body, method="POST")).close()


@pytest.fixture(scope="session")
def server(settings: dict[str, Any]) -> Server:
    return Server(settings)


def opened(settings: dict[str, Any], **changes: Any) -> None:
    """Opens a session with other settings, and uses it."""
    given = {k: v for k, v in {**settings, **changes}.items() if v is not None}
    with backends.create(given, "tenant 'acme'").session(LABEL) as session:
        session.engine()


# Settings and login


def test_the_client_is_imported_when_it_is_used() -> None:
    code = "import sys, entrepot.backends.snowflake.backend; sys.exit('snowflake.connector' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_without_the_client_the_extra_is_named(settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "snowflake.connector", None)
    with pytest.raises(BadInput, match=r"pip install 'entrepot\[snowflake\]'"):
        backends.create(settings, "tenant 'acme'")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"account": None}, "needs 'account'"),
        ({"password": "snow"}, "never the secret itself"),
        ({"password": None}, "either 'password' or 'private_key'"),
        ({"private_key": "env:KEY"}, "either 'password' or 'private_key'"),
        ({"private_key_passphrase": "env:WORDS"}, "no use without `private_key`"),
        ({"port": "443"}, "`port` must be of type int"),
        ({"shema": "x"}, "unknown setting of a snowflake backend 'shema'"),
    ],
)
def test_settings_that_are_wrong(settings: dict[str, Any], changes: dict[str, Any], expected: str) -> None:
    with pytest.raises(BadInput, match=expected):
        opened(settings, **changes)


def test_logins_that_will_never_work(settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WRONG", "wrong")
    with pytest.raises(BadInput, match=r"tenant 'acme': .*'fakesnow'.*Incorrect username or password.*\(390100\)"):
        opened(settings, password="env:WRONG")
    with pytest.raises(BadInput, match="database does not exist or not authorized"):
        opened(settings, database="nowhere")
    with pytest.raises(BadInput, match=r"'fakesnow'.*no host 'nowhere.invalid'"):
        opened(settings, host="nowhere.invalid")


def test_a_host_that_refuses_is_named_with_the_account(settings: dict[str, Any]) -> None:
    with pytest.raises(Unavailable, match=r"'fakesnow'.*refused.*'127.0.0.1'"):
        opened(settings, port=1)


def test_an_account_that_the_host_does_not_know(settings: dict[str, Any]) -> None:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_error(403)

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as strange:
        threading.Thread(target=strange.serve_forever, daemon=True).start()
        with pytest.raises(BadInput, match=r"does '127\.0\.0\.1' have this account"):
            opened(settings, port=strange.server_port)
        strange.shutdown()


@pytest.fixture(scope="session")
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def pem(key: rsa.RSAPrivateKey, passphrase: str | None = None) -> str:
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase:
        encryption = serialization.BestAvailableEncryption(passphrase.encode())
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption).decode()


def test_login_with_a_key_pair(
    settings: dict[str, Any], session: Session, key: rsa.RSAPrivateKey, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    public = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    session.execute(f"ALTER USER fake SET RSA_PUBLIC_KEY = '{base64.b64encode(public).decode()}'")
    monkeypatch.setenv("KEY", pem(key))
    opened(settings, password=None, private_key="env:KEY")
    path = tmp_path / "key.p8"
    path.write_text(pem(key, PASSPHRASE))
    monkeypatch.setenv("WORDS", PASSPHRASE)
    opened(settings, password=None, private_key=f"file:{path}", private_key_passphrase="env:WORDS")

    with pytest.raises(BadInput, match="opens without `private_key_passphrase`"):
        opened(settings, password=None, private_key=f"file:{path}")
    monkeypatch.setenv("WORDS", "wrong")
    with pytest.raises(BadInput, match="that `private_key_passphrase` opens"):
        opened(settings, password=None, private_key=f"file:{path}", private_key_passphrase="env:WORDS")
    monkeypatch.setenv("KEY", "no key")
    with pytest.raises(BadInput, match="not a PEM private key"):
        opened(settings, password=None, private_key="env:KEY")
    monkeypatch.setenv("KEY", pem(rsa.generate_private_key(public_exponent=65537, key_size=2048)))
    with pytest.raises(BadInput, match="JWT token is invalid"):
        opened(settings, password=None, private_key="env:KEY")


def test_an_expired_token_is_worth_another_try(settings: dict[str, Any], session: Session, server: Server) -> None:
    server.fault("login-token-expired", "fake")
    with pytest.raises(Unavailable, match="expired"):
        opened(settings)
    opened(settings)
    server.fault("session-expired", "select 4711")
    session.execute("select 4711")  # the client renews that token by itself


def test_connections_are_used_again_unless_something_failed(settings: dict[str, Any]) -> None:
    backend = backends.create(settings, "tenant 'acme'")
    numbers = []
    for _attempt in range(2):
        with backend.session(LABEL) as session:
            assert isinstance(session, SnowflakeSession)
            numbers.append(session.number)
    assert numbers[0] == numbers[1]
    with pytest.raises(StepFailed), backend.session(LABEL) as session:
        session.execute("selec")
    with backend.session(LABEL) as session:
        assert isinstance(session, SnowflakeSession)
        assert session.number != numbers[0]


# Names, tags, statements


def test_small_letters_are_capitals_there_and_others_stay(session: SnowflakeSession, schema: str) -> None:
    columns = ibis.schema({"id": "int64", "Mixed Case": "string", "select": "string", "grün": "int64"})
    session.create_table(TableName(schema, "orders"), columns)
    session.create_table(TableName(schema, "My Orders"), columns)
    assert session.tables(schema) == {"orders", "My Orders"}
    stored = session.query(f"SELECT table_name FROM information_schema.tables WHERE table_schema = '{schema.upper()}'")
    assert {row["table_name"] for row in stored} == {"ORDERS", "My Orders"}
    assert session.describe(TableName(schema, "orders")).names == ("id", "Mixed Case", "select", "grün")
    assert session.describe(TableName(schema, "orders"), ["ID", "Select"]).names == (
        "ID",
        "Mixed Case",
        "Select",
        "grün",
    )
    assert session.query(f"SELECT id FROM {schema}.orders") == []  # people need no quotes


def test_two_names_that_are_one_to_the_warehouse(session: Session, schema: str) -> None:
    table = pa.table({"a": [1], "A": [2]})
    with pytest.raises(BadInput, match="differ only in case"):
        session.write(TableName(schema, "t"), ibis.schema(table.schema), table.to_batches())


def test_every_statement_carries_its_label(session: Session, schema: str, server: Server) -> None:
    name = TableName(schema, "numbers")
    made = session.write(name, ibis.schema({"n": "int64"}), pa.table({"n": [1, 2, 3]}).to_batches())
    assert session.table(name, made.columns).n.sum().execute() == 6  # by ibis, and not by us
    statements = server.statements(schema.upper())
    assert {"CREATE", "PUT", "COPY", "DROP", "DESCRIBE", "SELECT"} <= {one["text"].split()[0] for one in statements}
    expected = {"tenant": "acme", "run": "run-1", "step": "orders"}
    assert [json.loads(one["tag"]) for one in statements] == [expected] * len(statements)
    assert session.usage.statements >= len(statements) - 3
    assert session.usage.bytes is None


def test_windows_and_orders_are_folded_as_everything_else(session: Session, schema: str) -> None:
    """ibis gives their columns to sqlglot in tuples, which sqlglot's own walk does not see."""
    t = ibis.table({"g": "string", "n": "int64"}, name="t", database=schema)
    last = t.mutate(r=ibis.row_number().over(group_by="g", order_by=ibis.desc("n"))).filter(_.r == 0)
    sql = DIALECT.compile(last.group_by("g").agg(f=_.n.first(order_by=_.r)))
    assert '"n"' not in sql
    assert '"g"' not in sql


def test_numbers_are_what_ibis_promises(session: Session, schema: str) -> None:
    table = pa.table({"i": [1, 2, 4], "d": pa.array([decimal.Decimal("0.10")] * 3, pa.decimal128(15, 2))})
    made = session.write(TableName(schema, "t"), ibis.schema(table.schema), table.to_batches())
    t = physical(TableName(schema, "t"), made.columns)
    result = session.create_as(
        TableName(schema, "r"),
        t.agg(
            total=_.i.sum(),
            mean=_.i.mean(),
            median=_.i.median(),
            third=_.i.sum() / 3,
            tenth=_.i.sum() * 0.1,
            quarter=_.i.quantile(0.25),
            single=(_.i.max() / 3).cast("float32"),
            spread=(_.i.max() - _.i.min()) / (_.i.max() - 1),
            first=_.i.first(order_by=_.i),
            exact=_.d.sum(),
        ),
    )
    # On Snowflake itself a NUMBER's mean and quotient have six digits after the point, unless it is cast before.
    assert {n: str(t) for n, t in result.columns.items()} == {
        "total": "int64",
        "mean": "float64",
        "median": "float64",
        "third": "float64",
        "tenth": "float64",
        "quarter": "float64",
        "single": "float64",
        "spread": "float64",
        "first": "int64",
        "exact": "decimal(38, 2)",
    }
    (row,) = session.fetch(physical(TableName(schema, "r"), result.columns)).to_pylist()
    assert row["mean"] == pytest.approx(7 / 3, rel=1e-12)
    assert row["third"] == pytest.approx(7 / 3, rel=1e-12)
    assert row["spread"] == 1
    assert row["single"] == pa.scalar(4 / 3).cast(pa.float32()).as_py()  # to the last of its 24 bits
    assert row["tenth"] == pytest.approx(0.7, rel=1e-12)
    assert (row["total"], row["first"], row["exact"]) == (7, 1, decimal.Decimal("0.30"))


def test_functions_that_only_ibis_would_make_are_missed_at_once() -> None:
    t = ibis.table({"a": "array<int64>"}, name="t", database="s")
    with pytest.raises(ibis.common.exceptions.OperationNotDefinedError, match="ArraySum"):
        DIALECT.compile(t.select(x=t.a.sums()))


def test_a_real_table_for_user_code(session: Session, schema: str) -> None:
    table = pa.table({"id": [1, 2], "Mixed": ["a", "b"]})
    made = session.write(TableName(schema, "t"), ibis.schema(table.schema), table.to_batches())
    session.repoint_view(TableName(schema, "v"), TableName(schema, "t"))
    t = session.table(TableName(schema, "v"), made.columns)
    assert t.schema() == made.columns
    assert t.filter(_.id == 2).Mixed.execute().tolist() == ["b"]


def test_changes_are_counted(session: Session, schema: str) -> None:
    name = TableName(schema, "t")
    session.create_table(name, ibis.schema({"id": "int64", "at": "timestamp", "who": "string"}))
    at = datetime.datetime(2026, 1, 2, 3, 4, 5, 678901)
    session.insert(name, [{"id": i, "at": at, "who": "o'neil \\ ü"} for i in range(3)])
    with session.transaction():  # of which there is none: each statement stands alone
        assert session.update(name, {"who": None}, sge.column("id").eq(2)) == 1
        assert session.delete(name, sge.column("id").eq(0)) == 1
    rows = session.query(f"SELECT * FROM {schema}.t ORDER BY id")
    assert rows == [{"id": 1, "at": at, "who": "o'neil \\ ü"}, {"id": 2, "at": at, "who": None}]


# Loading

VALUES: dict[str, tuple[str, list[Any]]] = {
    "i": ("int64", [2**63 - 1, -(2**63)]),
    "tiny": ("int8", [127, -128]),
    "u": ("uint64", [2**64 - 1, 0]),
    "u32": ("uint32", [2**32 - 1, 0]),
    "f": ("float64", [math.inf, -0.1]),
    "f32": ("float32", [1.5, -math.inf]),
    "wide": (
        "decimal(38, 10)",
        [decimal.Decimal("1234567890123456789012345678.0123456789"), decimal.Decimal("-1E-10")],
    ),
    "deep": ("decimal(38, 37)", [decimal.Decimal("9.9999999999999999999999999999999999999"), decimal.Decimal(0)]),
    "whole": ("decimal(38, 0)", [decimal.Decimal(10**38 - 1), decimal.Decimal(-1)]),
    "s": ("string", ["", "日本 😀 'q' \\ \"z\""]),
    "null_text": ("string", ["\\N", "NULL"]),
    "b": ("binary", [b"\x00\xff", b""]),
    "yes": ("boolean", [True, False]),
    "d": ("date", [datetime.date(1, 1, 1), datetime.date(9999, 12, 31)]),
    "t": ("time", [datetime.time(23, 59, 59, 999999), datetime.time(0)]),
    "at": ("timestamp", [datetime.datetime(9999, 12, 31, 23, 59, 59, 999999), datetime.datetime(1500, 1, 1)]),
    "z": (
        "timestamp('UTC')",
        [datetime.datetime(1900, 1, 1, tzinfo=datetime.UTC), datetime.datetime.max.replace(tzinfo=datetime.UTC)],
    ),
    "j": ("json", ['{"a":[1,null,"ü"]}', '"x"']),
    "list": ("array<int64>", [[1, None, 3], []]),
    "st": ("struct<x: int64, Y: string>", [{"x": 1, "Y": "é"}, {"x": None, "Y": ""}]),
    "m": ("map<string, int64>", [[("k", 1)], []]),
    "uu": ("uuid", ["6f5e8d0c-0000-4000-8000-000000000001", "00000000-0000-0000-0000-000000000000"]),
    "Mixed Case": ("string", ["x", "y"]),
}


def test_every_type_comes_back_as_it_was(session: Session, schema: str) -> None:
    columns = ibis.schema({name: kind for name, (kind, _values) in VALUES.items()})
    table = pa.table({name: [*values, None] for name, (_kind, values) in VALUES.items()}, schema=columns.to_pyarrow())
    made = session.write(TableName(schema, "t"), columns, table.to_batches())
    assert made.rows == 3
    # It knows neither small numbers nor unsigned ones; it has no UUID; and floats have 64 bits.
    changed = {"tiny": "int64", "u32": "int64", "u": "decimal(20, 0)", "f32": "float64", "uu": "string"}
    stamps = {"at": "timestamp(6)", "z": "timestamp('UTC', 6)"}
    assert made.columns == ibis.schema({**columns, **changed, **stamps})
    got = session.fetch(physical(TableName(schema, "t"), made.columns))
    for name, (_kind, values) in VALUES.items():
        assert got[name].to_pylist() == [*values, None], name


def test_not_a_number(session: Session, schema: str) -> None:
    made = session.write(
        TableName(schema, "t"), ibis.schema({"f": "float64"}), pa.table({"f": [math.nan, None]}).to_batches()
    )
    rows = session.fetch(physical(TableName(schema, "t"), made.columns).filter(_.f.isnan())).to_pylist()
    assert [math.isnan(row["f"]) for row in rows] == [True]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("decimal(39, 2)", "'wrong' .*decimal"), ("decimal(38, 38)", "'wrong'"), ("interval('s')", "'wrong' .*interval")],
)
def test_types_that_there_are_not(session: Session, schema: str, kind: str, expected: str) -> None:
    columns = ibis.schema({"fine": "int64", "wrong": kind})
    with pytest.raises(BadInput, match=expected):
        session.create_table(TableName(schema, "t"), columns)
    with pytest.raises(BadInput, match=expected):
        session.load(TableName(schema, "t"), [], columns)
    assert session.tables(schema) == set()


def test_a_load_is_whole_or_not_there(session: Session, schema: str, server: Server, tmp_path: Path) -> None:
    files = [str(tmp_path / f"{number}.parquet") for number in range(2)]
    for number, file in enumerate(files):
        pa.parquet.write_table(pa.table({"n": [number], "s": [str(number)]}), file)
    columns = ibis.schema({"n": "int64", "s": "string"})
    server.fault("internal", f"CREATE TABLE .*{schema}.*LOADED")
    with pytest.raises(Unavailable):
        session.load(TableName(schema, "loaded"), files, columns)
    assert session.tables(schema) == set()  # nothing is left of the attempt
    assert session.load(TableName(schema, "loaded"), files, columns).rows == 2
    # Made by somebody else meanwhile: it is whole, so it is taken as it is.
    assert session.load(TableName(schema, "loaded"), files[:1], columns).rows == 2
    assert session.tables(schema) == {"loaded"}


def test_a_table_that_is_there_is_taken_as_it_is(session: Session, schema: str) -> None:
    t = ibis.memtable({"n": [1, 2]})
    assert session.create_as(TableName(schema, "t"), t).rows == 2
    assert session.create_as(TableName(schema, "t"), t.filter(_.n > 1)).rows == 2


def test_no_rows_have_columns_all_the_same(session: Session, schema: str) -> None:
    columns = ibis.schema({"n": "int64", "d": "decimal(10, 2)", "at": "timestamp", "a": "array<string>"})
    made = session.write(TableName(schema, "t"), columns, [])
    reader = session.read(physical(TableName(schema, "t"), made.columns))
    assert reader.schema.names == ["n", "d", "at", "a"]
    assert reader.read_all().num_rows == 0


# Errors and cancelling


@pytest.mark.parametrize(
    ("fault", "kind", "expected"),
    [
        ("suspended", Unavailable, "No active warehouse"),
        ("quota", Unavailable, "exceeded its quota"),
        ("internal", Unavailable, "internal error"),
        ("token-expired", Unavailable, "re-authentication"),
        ("denied", BadInput, "Insufficient privileges"),
    ],
)
def test_what_the_warehouse_refuses(
    backend: Snowflake, server: Server, fault: str, kind: type[Exception], expected: str
) -> None:
    mark = uuid.uuid4().hex
    server.fault(fault, mark)
    with pytest.raises(kind, match=expected) as caught, backend.session(LABEL) as session:
        session.execute(f"select '{mark}'")
    assert type(caught.value) is kind
    assert str(caught.value).startswith("tenant 'acme': Snowflake account 'fakesnow': ")


@pytest.mark.parametrize(
    ("sql", "kind", "expected"),
    [
        ("select * from {schema}.nowhere", BadInput, "'NOWHERE' does not exist"),
        ("select * from nowhere.t", BadInput, "'NOWHERE' does not exist"),
        ("create table {schema}.there (a int)", Exists, "already exists"),
        ("selec 1", StepFailed, r"\(001003\)"),
        ("select 'x'::int", StepFailed, r"not recognized.*\(100038\)"),
        ("select 1 / 0", StepFailed, "Division by zero"),
    ],
)
def test_statements_that_fail(
    backend: Snowflake, session: Session, schema: str, sql: str, kind: type[Exception], expected: str
) -> None:
    session.execute(f"create table {schema}.there (a int)")
    with pytest.raises(kind, match=expected) as caught, backend.session(LABEL) as other:
        other.execute(sql.format(schema=schema))
    assert type(caught.value) is kind


@pytest.mark.parametrize(
    ("error", "number", "kind"),
    [
        # The stand-in gives none of these.
        (errors.ProgrammingError, 625, Contended),  # a lock
        (errors.ProgrammingError, 630, Unavailable),  # a statement timeout
        (errors.ProgrammingError, 100039, StepFailed),  # numeric overflow
        (errors.DatabaseError, 390189, BadInput),  # no such role
        (errors.DatabaseError, 390422, BadInput),  # not from this address
        (errors.ReauthenticationRequest, 390114, Unavailable),
        (errors.OperationalError, 250003, Unavailable),  # the network
        (errors.InterfaceError, -1, Unavailable),
    ],
)
@pytest.mark.filterwarnings("ignore:`ReauthenticationRequest`:FutureWarning")
def test_errors_by_their_numbers(error: type[errors.Error], number: int, kind: type[Exception]) -> None:
    with pytest.raises(kind, match="somewhere: what it says") as caught, translated("somewhere"):
        raise error("what it says", number)
    assert type(caught.value) is kind


def endless(session: Session, server: Server, mark: str, run: Callable[[str], Any]) -> None:
    """Runs a statement that takes for ever, and interrupts it as soon as the server has it."""

    def interrupt() -> None:
        until(lambda: server.statements(mark))
        session.interrupt()

    session.create_schema("entrepot")  # which is the current one then: the stand-in wants one
    threading.Thread(target=interrupt).start()
    run(f"select count(*) from range(1000000) a, range(1000000) b where a.range * b.range % 7 = 3 and '{mark}' <> ''")


def test_cancelling_stops_the_statement_at_the_server(backend: Snowflake, server: Server) -> None:
    mark = uuid.uuid4().hex
    with pytest.raises(InterruptedError, match="cancelled"), backend.session(LABEL) as session:
        endless(session, server, mark, session.execute)
    (statement,) = server.statements(mark)
    assert (statement["status"], statement["code"]) == ("ABORTED", "000604")


def test_cancelling_stops_what_user_code_runs(backend: Snowflake, server: Server) -> None:
    mark = uuid.uuid4().hex
    with pytest.raises(errors.ProgrammingError, match="canceled"), backend.session(LABEL) as session:
        endless(session, server, mark, session._connection.cursor().execute)  # type: ignore[attr-defined]
    (statement,) = server.statements(mark)
    assert (statement["status"], statement["code"]) == ("ABORTED", "000604")


def test_after_cancelling_nothing_runs_in_the_session(session: Session) -> None:
    session.interrupt()
    with pytest.raises(InterruptedError):
        session.execute("select 1")

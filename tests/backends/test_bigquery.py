"""What is special to BigQuery: labels, dry runs, load jobs, errors, cancelling. The real client, a local stand-in."""

from __future__ import annotations

import datetime
import decimal
import json
import subprocess
import sys
import threading
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import ibis
import pyarrow as pa
import pyarrow.parquet
import pytest
from google.api_core import exceptions
from google.auth import exceptions as auth
from google.cloud import bigquery
from ibis import _

from entrepot import backends
from entrepot.backends import Backend, QueryTag, Session, TableName
from entrepot.backends.base import physical
from entrepot.backends.bigquery import client as bigquery_client
from entrepot.backends.bigquery.backend import BigQuerySession, job_labels
from entrepot.backends.bigquery.client import translated
from entrepot.backends.bigquery.dialect import DIALECT
from entrepot.backends.bigquery.types import Types
from entrepot.backends.sql.session import Exists
from entrepot.errors import BadInput, Contended, StepFailed, Unavailable

LABEL = QueryTag("acme", "run-1", "step")


@pytest.fixture(scope="session")
def settings(standin: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
    return standin("bigquery")


@pytest.fixture(scope="session")
def backend(settings: dict[str, Any]) -> Iterator[Backend]:
    made = backends.create(settings, "test")
    yield made
    made.close()


@pytest.fixture
def session(backend: Backend) -> Iterator[BigQuerySession]:
    with backend.session(LABEL) as opened:
        assert isinstance(opened, BigQuerySession)
        yield opened


@pytest.fixture
def schema(session: Session) -> Iterator[str]:
    name = f"test_{uuid.uuid4().hex[:8]}"
    session.create_schema("entrepot")
    session.create_schema(name)
    yield name
    session.drop_schema(name)


@pytest.fixture
def jobs(backend: Backend, settings: dict[str, Any]) -> Callable[[str], list[Any]]:
    """The jobs of a run, as BigQuery lists them."""
    client = bigquery.Client(
        settings["project"],
        bigquery_client._anonymous(),
        client_options={"api_endpoint": settings["emulator"]},
    )
    return lambda run: [job for job in client.list_jobs(max_results=1000) if job.labels.get("run") == run]


@pytest.fixture
def fault(settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Arms a fault of the stand-in for jobs that match."""
    monkeypatch.setattr(bigquery_client, "PATIENCE_SECONDS", 2.0)
    address = f"{settings['emulator']}/standin/faults"

    def arm(name: str, matching: str, times: int = 1) -> None:
        body = json.dumps({"fault": name, "matching": matching, "times": times}).encode()
        headers = {"content-type": "application/json"}
        urllib.request.urlopen(urllib.request.Request(address, body, headers, method="POST")).close()

    yield arm
    urllib.request.urlopen(urllib.request.Request(address, method="DELETE")).close()


def parquet(folder: Path, table: pa.Table, name: str = "rows") -> str:
    path = str(folder / f"{name}.parquet")
    pyarrow.parquet.write_table(table, path)
    return path


NUMBERS = pa.table({"i": pa.array(range(10), pa.int64()), "g": ["a", "b"] * 5})
NUMBERS_SCHEMA = ibis.schema({"i": "int64", "g": "string"})


def numbers(session: Session, schema: str) -> ibis.Table:
    name = TableName(schema, "numbers")
    return physical(name, session.write(name, NUMBERS_SCHEMA, NUMBERS.to_batches()).columns)


class TestSettings:
    def test_an_unknown_one_is_told(self) -> None:
        with pytest.raises(BadInput, match="unknown setting of a bigquery backend 'projekt'; did you mean 'project'"):
            backends.create({"type": "bigquery", "projekt": "p"}, "tenant 'acme'")

    def test_an_emulator_has_two_addresses(self) -> None:
        with pytest.raises(BadInput, match="belong together"):
            backends.create({"type": "bigquery", "project": "p", "emulator": "http://127.0.0.1:1"}, "tenant 'acme'")

    def test_a_key_that_is_none_is_not_repeated(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("KEY", '{"private_key": "hidden"}')
        made = backends.create({"type": "bigquery", "project": "p", "credentials": "env:KEY"}, "tenant 'acme'")
        with pytest.raises(BadInput, match=r"^tenant 'acme': `credentials` is not the JSON") as raised:
            made.session(LABEL).__enter__()
        assert raised.value.__cause__ is None
        assert raised.value.__suppress_context__

    def test_no_credentials_at_all(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
        made = backends.create({"type": "bigquery", "project": "p"}, "tenant 'acme'")
        with pytest.raises(BadInput, match=r"project 'p'.*credentials are not accepted"):
            made.session(LABEL).__enter__()

    def test_the_client_is_an_extra(self) -> None:
        code = (
            "import sys; sys.modules['google.cloud'] = None\n"
            "from entrepot import backends\n"
            "print(backends.dialect('bigquery').name)\n"
            "backends.create({'type': 'bigquery', 'project': 'p'}, 'here')\n"
        )
        done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
        assert done.stdout == "bigquery\n"
        assert "BadInput: here: the client is not installed: pip install 'entrepot[bigquery]'" in done.stderr

    @pytest.mark.parametrize("host", ["http://127.0.0.1:9", "http://nowhere.invalid"])
    def test_a_host_that_is_not_there(
        self, host: str, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(bigquery_client, "PATIENCE_SECONDS", 2.0)
        made = backends.create({**settings, "emulator": host}, "test")
        with (
            made.session(LABEL) as session,
            pytest.raises(Unavailable, match=f"{host}.*cannot be reached: (Connection refused|Name or service)"),
        ):
            session.query("SELECT 1")


class TestLabels:
    @pytest.mark.parametrize(
        ("given", "kept"),
        [("acme", "acme"), ("Acme Co/1", "acme_co_1"), ("a.b:c", "a_b_c"), ("Übung", "übung"), ("x" * 70, "x" * 63)],
    )
    def test_characters(self, given: str, kept: str) -> None:
        assert job_labels(QueryTag(given, given, given)) == {"tenant": kept, "run": kept, "step": kept}

    def test_every_job_has_them(
        self, backend: Backend, schema: str, tmp_path: Path, jobs: Callable[[str], list[Any]]
    ) -> None:
        run = uuid.uuid4().hex
        with backend.session(QueryTag("Acme", run, "Big Step")) as session:
            rows = numbers(session, schema)
            session.create_as(TableName(schema, "made"), rows)
            session.read(rows).read_all()
            session.table(TableName(schema, "numbers"), NUMBERS_SCHEMA).count().execute()
        found = jobs(run)
        assert {job.job_type for job in found} == {"query", "load"}
        assert {(job.labels["tenant"], job.labels["step"]) for job in found} == {("acme", "big_step")}
        texts = [job.query for job in found if job.job_type == "query"]
        assert any("COUNT(*)" in text for text in texts), texts  # what user code executed


class TestCost:
    def test_an_estimate_reads_and_counts_nothing(self, session: BigQuerySession, schema: str) -> None:
        rows = numbers(session, schema)
        before = session.usage
        assert session.estimate(rows.select("i")) == 80
        assert session.usage == before

    def test_bytes_add_up(self, session: BigQuerySession, schema: str) -> None:
        rows = numbers(session, schema)
        before = session.usage.bytes
        assert before is not None
        session.fetch(rows.select("i"))
        session.fetch(rows.select("i"))
        assert session.usage.bytes == before + 160


class TestErrors:
    @pytest.mark.parametrize(
        ("sql", "kind", "text"),
        [
            ("SELECT 1 / 0", StepFailed, "division by zero"),
            ("SELECT CAST('x' AS INT64)", StepFailed, "'x'"),
            ("SELECT 9223372036854775807 + 1", StepFailed, "(?i)overflow"),
            ("SELEC 1", StepFailed, "Syntax error"),
            ("SELECT * FROM nowhere.nothing", BadInput, "Not found: Dataset .*nowhere"),
            ("SELECT * FROM `{schema}`.nothing", BadInput, "Not found: Table .*nothing"),
            ("CREATE TABLE `{schema}`.numbers AS SELECT 1 AS i", Exists, "Already Exists: Table"),
        ],
    )
    def test_statements(self, session: Session, schema: str, sql: str, kind: type[Exception], text: str) -> None:
        numbers(session, schema)
        with pytest.raises(kind, match=text):
            session.query(sql.format(schema=schema))

    @pytest.mark.parametrize(
        ("name", "kind", "text"),
        [
            ("token-expired", BadInput, "credentials"),
            ("denied", BadInput, "Access Denied"),
            ("quota", Unavailable, "a quota is used up: Quota exceeded"),
            ("rate-limit", Unavailable, "a quota is used up: Exceeded rate limits"),
            ("too-many-requests", Unavailable, "a quota is used up: Too many"),
            ("unavailable", Unavailable, "Retrying may help"),
        ],
    )
    def test_what_the_service_refuses(
        self, session: Session, fault: Callable[..., None], name: str, kind: type[Exception], text: str
    ) -> None:
        fault(name, "from_a_fault", times=100)
        with pytest.raises(kind, match=f"project .*{text}") as raised:
            session.query("SELECT 'from_a_fault'")
        assert type(raised.value) is kind

    @pytest.mark.parametrize("name", ["rate-limit", "too-many-requests", "unavailable"])
    def test_what_passes_is_tried_again(self, session: Session, fault: Callable[..., None], name: str) -> None:
        fault(name, "once_a_fault")
        assert session.query("SELECT 'once_a_fault' AS x") == [{"x": "once_a_fault"}]

    @pytest.mark.parametrize(
        ("error", "kind", "text"),
        [
            (
                exceptions.BadRequest("Could not serialize access to table p:d.t due to concurrent update"),
                Contended,
                "another run",
            ),
            (exceptions.BadRequest("Too many DML statements outstanding against table p:d.t"), Contended, "another"),
            (
                exceptions.InternalServerError(
                    "over", errors=[{"reason": "bytesBilledLimitExceeded", "message": "Query exceeded limit"}]
                ),
                StepFailed,
                "exceeded limit",
            ),
            (
                exceptions.BadRequest("x", errors=[{"reason": "tableUnavailable", "message": "moved"}]),
                Unavailable,
                "moved",
            ),
            (exceptions.RetryError("no more", cause=exceptions.BadGateway("down")), Unavailable, "down"),
            (auth.RefreshError("invalid_grant: Invalid JWT Signature.", {"error": "x"}), BadInput, "invalid_grant"),
            (auth.TransportError("no sign-in"), Unavailable, "cannot be reached: no sign-in"),
        ],
    )
    def test_of_the_client(self, error: Exception, kind: type[Exception], text: str) -> None:
        with pytest.raises(kind, match=text) as raised, translated("BigQuery project 'p'"):
            raise error
        assert raised.value.__cause__ is error


class TestJobs:
    def test_an_insert_that_is_tried_again_is_the_same_job(self, session: BigQuerySession) -> None:
        begin = session._asking("SELECT 7 AS x")

        def twice(job_id: str) -> Any:
            begin(job_id)
            return begin(job_id)

        job, rows = session._finished(twice)
        assert job.job_id.startswith("entrepot-")
        assert [row["x"] for row in rows] == [7]

    def test_a_running_job_is_cancelled(self, backend: Backend, jobs: Callable[[str], list[Any]]) -> None:
        run = uuid.uuid4().hex
        endless = "SELECT COUNT(*) FROM UNNEST(GENERATE_ARRAY(1, 90000)) a, UNNEST(GENERATE_ARRAY(1, 90000)) b WHERE "
        with backend.session(QueryTag("acme", run, "step")) as session:
            assert isinstance(session, BigQuerySession)
            running = threading.Timer(1.0, session.interrupt)
            running.start()
            with pytest.raises(InterruptedError, match="cancelled"):
                session.query(endless + "MOD(a * b, 7) = 3")
            assert session.query("SELECT 1 AS x") == [{"x": 1}]  # it can be used on, to clean up
        stopped = [job for job in jobs(run) if job.error_result]
        assert [job.error_result["reason"] for job in stopped] == ["stopped"]

    def test_an_interrupt_before_there_is_a_job(self, session: BigQuerySession) -> None:
        begin = session._asking("SELECT 1")

        def interrupted(job_id: str) -> Any:
            session.interrupt()
            return begin(job_id)

        with pytest.raises(InterruptedError):
            session._finished(interrupted)

    def test_rows_that_are_read_are_interrupted(self, session: BigQuerySession, schema: str) -> None:
        reader = session.read(numbers(session, schema))
        session.interrupt()
        with pytest.raises(InterruptedError):
            reader.read_all()

    def test_threads_share_one_client(self, backend: Backend, schema: str) -> None:
        def work(number: int) -> int:
            with backend.session(LABEL) as session:
                name = TableName(schema, f"t{number}")
                session.write(name, NUMBERS_SCHEMA, NUMBERS.to_batches())
                return session.fetch(physical(name, NUMBERS_SCHEMA).filter(_.i >= number)).num_rows

        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(work, range(8))) == [10 - n for n in range(8)]

    def test_no_rows_have_columns(self, session: Session, schema: str) -> None:
        table = session.fetch(numbers(session, schema).filter(_.i > 99))
        assert (table.num_rows, table.schema.names) == (0, ["i", "g"])

    def test_user_code_executes(self, session: Session, schema: str) -> None:
        numbers(session, schema)
        table = session.table(TableName(schema, "numbers"), ibis.schema({"I": "int64", "g": "string"}))
        assert table.filter(_.I > 7).order_by("I").execute()["I"].tolist() == [8, 9]


TYPES = {
    "u64": ("uint64", pa.array([2**64 - 1, None], pa.uint64()), "decimal(20, 0)"),
    "u32": ("uint32", pa.array([2**32 - 1, None], pa.uint32()), "int64"),
    "f32": ("float32", pa.array([0.5, float("inf")], pa.float32()), "float64"),
    "money": ("decimal(15, 2)", pa.array([decimal.Decimal("-9999999999999.99"), None]), "decimal(15, 2)"),
    "civil": (
        "timestamp",
        pa.array([datetime.datetime(1, 1, 1), datetime.datetime(9999, 12, 31, 23, 59, 59, 999999)]),
        "timestamp",
    ),
    "instant": (
        "timestamp('Europe/Berlin')",
        pa.array([datetime.datetime(2024, 7, 1), None], pa.timestamp("us", "Europe/Berlin")),
        "timestamp('UTC')",
    ),
    "nanos": ("timestamp(9)", pa.array([1_700_000_000_123_456_789, None], pa.timestamp("ns")), "timestamp"),
    "clock": ("time", pa.array([datetime.time(23, 59, 59, 999999), None]), "time"),
    "day": ("date", pa.array([datetime.date(1, 1, 1), datetime.date(9999, 12, 31)]), "date"),
    "id": ("uuid", pa.array([b"\x01" * 16, None], pa.uuid()), "string"),
    "bytes": ("binary", pa.array([b"\x00\xff", b""]), "binary"),
    "text": ("string", pa.array(["", "ü€😀\n'\"\\"]), "string"),
    "doc": ("json", pa.array(['{"a": [1, null, "x"]}', None]), "json"),
    "nested": (
        "struct<a: int32, b: array<string>>",
        pa.array([{"a": 1, "b": ["x", "y"]}, None], pa.struct([("a", pa.int32()), ("b", pa.list_(pa.string()))])),
        "struct<a: int64, b: array<string>>",
    ),
    "nothing": ("null", pa.nulls(2), "int64"),
}
"""Of a Parquet file: the type that it is to have, its values, and the type that BigQuery has for it.

Not here: decimals with more digits than the 38 of the stand-in's engine; BIGNUMERIC has 38 on each side of the point.
"""


class TestLoad:
    def test_types(self, session: Session, schema: str, tmp_path: Path) -> None:
        path = parquet(tmp_path, pa.table({name: values for name, (_, values, _) in TYPES.items()}))
        wanted = ibis.schema({name: dtype for name, (dtype, _, _) in TYPES.items()})
        made = session.load(TableName(schema, "t"), [path, path], wanted)
        assert made.rows == 4
        assert made.columns == ibis.schema({name: dtype for name, (_, _, dtype) in TYPES.items()})
        rows = session.fetch(physical(TableName(schema, "t"), made.columns)).to_pylist()
        first = next(row for row in rows if row["u64"] is not None)
        assert first["u64"] == 2**64 - 1
        assert first["bytes"] == b"\x00\xff"
        assert first["money"] == decimal.Decimal("-9999999999999.99")
        assert first["civil"] == datetime.datetime(1, 1, 1)
        assert first["nanos"] == datetime.datetime(2023, 11, 14, 22, 13, 20, 123456)
        assert first["instant"].astimezone(datetime.UTC).hour == 0
        assert first["id"] == "01010101-0101-0101-0101-010101010101"
        assert json.loads(first["doc"]) == {"a": [1, None, "x"]}
        assert first["nested"] == {"a": 1, "b": ["x", "y"]}
        last = next(row for row in rows if row["u64"] is None)
        assert (last["text"], last["f32"], last["nested"]) == ("ü€😀\n'\"\\", float("inf"), None)

    def test_a_table_that_is_there_is_taken(self, session: Session, schema: str, tmp_path: Path) -> None:
        numbers(session, schema)
        other = parquet(tmp_path, NUMBERS.slice(0, 1))
        assert session.load(TableName(schema, "numbers"), [other], NUMBERS_SCHEMA).rows == 10
        assert session.tables(schema) == {"numbers"}

    def test_a_failed_one_leaves_nothing(self, session: Session, schema: str, tmp_path: Path) -> None:
        good, bad = parquet(tmp_path, NUMBERS), tmp_path / "bad.parquet"
        bad.write_bytes(Path(good).read_bytes()[:-1] + b"!")
        wrong = parquet(tmp_path, pa.table({"i": ["x"], "g": ["y"]}), "wrong")
        with pytest.raises(Exception):  # noqa: B017, PT011
            session.load(TableName(schema, "t"), [good, str(bad)], NUMBERS_SCHEMA)
        with pytest.raises(Exception):  # noqa: B017, PT011
            session.load(TableName(schema, "t"), [good, wrong], NUMBERS_SCHEMA)
        assert session.tables(schema) == set()

    def test_two_at_once(self, backend: Backend, schema: str) -> None:
        def work(_: int) -> int:
            with backend.session(LABEL) as session:
                return session.write(TableName(schema, "t"), NUMBERS_SCHEMA, NUMBERS.to_batches()).rows

        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(work, range(4))) == [10] * 4

    def test_the_schema_decides(self, session: Session, schema: str, tmp_path: Path) -> None:
        path = parquet(tmp_path, pa.table({"d": pa.array([3], pa.int64())}))
        made = session.load(TableName(schema, "t"), [path], ibis.schema({"d": "decimal(12, 2)"}))
        assert session.fetch(physical(TableName(schema, "t"), made.columns))["d"].to_pylist() == [decimal.Decimal(3)]
        with pytest.raises(StepFailed, match="column 'd' cannot be loaded as decimal"):
            session.load(TableName(schema, "u"), [path], ibis.schema({"d": "decimal(2, 2)"}))

    @pytest.mark.parametrize("dtype", ["array<json>", "struct<a: struct<b: json>>", "interval('s')"])
    def test_what_parquet_has_not(self, session: Session, schema: str, tmp_path: Path, dtype: str) -> None:
        path = parquet(tmp_path, pa.table({"odd": pa.nulls(1)}))
        with pytest.raises(BadInput, match="cannot load column 'odd'"):
            session.load(TableName(schema, "t"), [path], ibis.schema({"odd": dtype}))
        assert session.tables(schema) == set()

    def test_no_rows(self, session: Session, schema: str) -> None:
        assert session.write(TableName(schema, "t"), NUMBERS_SCHEMA, []).rows == 0


class TestTypes:
    @pytest.mark.parametrize(
        ("dtype", "text"),
        [
            ("decimal(10, 2)", "NUMERIC(10, 2)"),
            ("decimal(38, 9)", "NUMERIC"),
            ("decimal(38, 0)", "BIGNUMERIC(38, 0)"),
            ("decimal(29, 0)", "NUMERIC(29, 0)"),
            ("decimal(20, 12)", "BIGNUMERIC(20, 12)"),
            ("decimal(76, 38)", "BIGNUMERIC"),
            ("uint64", "NUMERIC(20, 0)"),
            ("timestamp", "DATETIME"),
            ("timestamp('Asia/Tokyo')", "TIMESTAMP"),
            ("interval('D')", "INTERVAL"),
            ("struct<a: array<decimal(5, 1)>>", "STRUCT<`a` ARRAY<NUMERIC(5, 1)>>"),
        ],
    )
    def test_texts(self, dtype: str, text: str) -> None:
        assert DIALECT.type(ibis.dtype(dtype)) == text

    @pytest.mark.parametrize("text", ["NUMERIC(10, 2)", "BIGNUMERIC(50, 20)", "BIGNUMERIC", "ARRAY<STRUCT<`a` TIME>>"])
    def test_there_and_back(self, text: str) -> None:
        assert Types.to_string(DIALECT.dtype(text)) == text

    @pytest.mark.parametrize("dtype", ["map<string, int64>", "array<array<int64>>", "decimal(76, 0)"])
    def test_none_for_it(self, session: Session, schema: str, dtype: str) -> None:
        with pytest.raises(BadInput, match="column 'odd'"):
            session.create_table(TableName(schema, "t"), ibis.schema({"odd": dtype}))

    def test_a_cast_rounds_to_the_decimal_s_places(self, session: Session, schema: str) -> None:
        rows = numbers(session, schema).select(x=(_.i / 8).cast("decimal(15, 2)"))
        # BigQuery refuses a precision in a CAST; the stand-in takes it.
        assert "NUMERIC(" not in DIALECT.compile(rows)
        assert session.fetch(rows.filter(_.x > 1))["x"].to_pylist() == [decimal.Decimal("1.13")]


class TestNames:
    @pytest.mark.parametrize("name", ["a.b", "a`b", "_TABLE_x", "_partitionx", "x" * 301])
    def test_columns(self, name: str) -> None:
        with pytest.raises(BadInput, match="a column of bigquery cannot be called"):
            DIALECT.check_columns([name])

    def test_datasets(self, session: Session) -> None:
        with pytest.raises(BadInput, match="a schema of bigquery cannot be called 'a-b'"):
            session.create_schema("a-b")

    @pytest.mark.parametrize("name", ["a.b", "a$b", "it's", "50%", "a/b", "\N{GRINNING FACE}"])
    def test_tables(self, name: str) -> None:
        with pytest.raises(BadInput, match="a table of bigquery cannot be called"):
            DIALECT.check_table(name)

    def test_tables_with_marks(self) -> None:
        DIALECT.check_table("two words-1_\N{DEVANAGARI LETTER KA}\N{DEVANAGARI VOWEL SIGN AA}")

    def test_odd_columns(self, session: Session, schema: str) -> None:
        odd = pa.table({"two words": [1], "ünï": [2], "select": [3], "a:b": [4]})
        made = session.write(
            TableName(schema, "t"), ibis.schema(dict.fromkeys(odd.column_names, "int64")), odd.to_batches()
        )
        assert session.fetch(physical(TableName(schema, "t"), made.columns)).to_pylist() == odd.to_pylist()

"""What is special to Databricks: volumes, labels, names, types, errors, cancelling. The real client, a local stand-in.

The stand-in has no VARIANT, TINYINT or SMALLINT, and is not Delta: what needs them is tested as SQL.
"""

from __future__ import annotations

import datetime
import decimal
import http.server
import importlib
import json
import math
import subprocess
import sys
import threading
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import databricks.sql.exc
import ibis
import ibis.expr.datatypes as dt
import pyarrow as pa
import pyarrow.parquet
import pytest
from ibis import _
from urllib3.exceptions import MaxRetryError

from entrepot import backends
from entrepot.backends import Backend, QueryTag, TableName
from entrepot.backends.base import physical
from entrepot.backends.databricks.backend import Databricks, DatabricksSession
from entrepot.backends.databricks.client import Endpoint, ServicePrincipal, translated
from entrepot.backends.databricks.dialect import DIALECT, casts, spelled
from entrepot.backends.databricks.types import needs_mapping
from entrepot.backends.settings import Secret
from entrepot.backends.sql.session import Exists
from entrepot.errors import BadInput, Contended, StepFailed, Unavailable
from tests.waiting import until

LABEL = QueryTag("acme", "run-1", "step")
UTC = datetime.UTC


@pytest.fixture(scope="session")
def settings(standin: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
    return standin("databricks")


@pytest.fixture(scope="session")
def backend(settings: dict[str, Any]) -> Iterator[Backend]:
    made = Databricks.from_settings({k: v for k, v in settings.items() if k != "type"}, "test")
    with made.session(LABEL) as session:
        session.execute("CREATE VOLUME IF NOT EXISTS main.default.entrepot")
        session.create_schema("entrepot")
    yield made
    made.close()  # while there is somebody to say goodbye to


@pytest.fixture
def session(backend: Backend) -> Iterator[DatabricksSession]:
    with backend.session(LABEL) as opened:
        assert isinstance(opened, DatabricksSession)
        yield opened


@pytest.fixture
def schema(session: DatabricksSession) -> Iterator[str]:
    name = f"test_{uuid.uuid4().hex[:8]}"
    session.create_schema(name)
    yield name
    session.drop_schema(name)


@pytest.fixture
def control(settings: dict[str, Any]) -> Iterator[Callable[..., Any]]:
    """Tells the stand-in to fail; without an order, gives the statements that it was asked."""
    url = settings["uri"].partition("/sql/")[0] + "/control"

    def tell(**order: Any) -> Any:
        data = json.dumps(order).encode() if order else None
        with urllib.request.urlopen(urllib.request.Request(url, data)) as answer:
            text = answer.read()
            return json.loads(text)["statements"] if not order else None

    yield tell
    urllib.request.urlopen(urllib.request.Request(url, b"{}")).close()


def statements(control: Callable[..., Any], containing: str) -> list[dict[str, Any]]:
    return [one for one in control() if containing in one["statement"]]


# ---------------------------------------------------------------------------------------------------------- settings


GIVEN = {
    "type": "databricks",
    "host": "dbc-1.cloud.databricks.com",
    "http_path": "/sql/1.0/warehouses/1",
    "catalog": "main",
    "volume": "main.default.entrepot",
    "token": "env:TOKEN",
}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"token": None}, "either `token` or both `client_id` and `client_secret`; given: none"),
        ({"client_id": "me"}, "given: 'client_id', 'token'"),
        ({"token": None, "client_id": "me"}, "given: 'client_id'"),
        ({"token": "dapi123"}, "`token` must be a reference such as 'env:NAME'"),
        ({"volume": "main.entrepot"}, "`volume` must be of the form 'catalog.schema.volume', not 'main.entrepot'"),
        ({"catalog": None}, "needs 'catalog'"),
        ({"http_pth": "x"}, "unknown setting of a databricks backend 'http_pth'; did you mean 'http_path'"),
    ],
)
def test_wrong_settings_are_told(change: dict[str, Any], said: str) -> None:
    settings = {key: value for key, value in {**GIVEN, **change}.items() if value is not None}
    with pytest.raises(BadInput) as error:
        backends.create(settings, "tenant 'acme'")
    assert "tenant 'acme'" in str(error.value)
    assert said in str(error.value)


def test_the_extra_is_named_if_the_client_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.import_module("entrepot.backends.databricks.backend"), "find_spec", lambda name: None)
    with pytest.raises(BadInput, match=r"pip install 'entrepot\[databricks\]'"):
        backends.create(GIVEN, "test")


def test_the_module_does_not_import_the_client() -> None:
    code = "import sys, entrepot.backends.databricks.backend; sys.exit('databricks.sql' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_warehouse_and_a_cluster_are_configured_in_their_own_words() -> None:
    warehouse = Endpoint("h", "/sql/1.0/warehouses/1", "main")
    cluster = Endpoint("h", "/sql/protocolv1/o/1/0123-456789-abc", "main")
    assert warehouse.tags(LABEL) == {"entrepot_tenant": "acme", "entrepot_run": "run-1", "entrepot_step": "step"}
    assert cluster.tags(LABEL) is None
    assert warehouse.tags(QueryTag("a", "r" * 500, "s"))["entrepot_run"] == "r" * 128  # type: ignore[index]


# -------------------------------------------------------------------------------------------------- labels, sessions


def test_every_statement_carries_tags_and_a_comment(
    session: DatabricksSession, schema: str, control: Callable[..., Any]
) -> None:
    name = TableName(schema, "numbers")
    made = session.write(name, ibis.schema({"n": "int64"}), [pa.record_batch({"n": [1, 2]})])
    session.fetch(physical(name, made.columns))
    session.table(name, made.columns).count().execute()
    asked = statements(control, schema) + statements(control, "PUT") + statements(control, "REMOVE")
    assert len(asked) > 5
    for one in asked:
        assert one["statement"].startswith("/* entrepot tenant=acme run=run-1 step=step */ ")
        assert one["tags"] == {"entrepot_tenant": "acme", "entrepot_run": "run-1", "entrepot_step": "step"}
    assert session.usage.statements > 5


def test_the_session_is_in_utc_and_ansi(session: DatabricksSession) -> None:
    assert session.query("SELECT current_timezone() AS zone") in ([{"zone": "UTC"}], [{"zone": "Etc/UTC"}])
    with pytest.raises(StepFailed, match="CAST_INVALID_INPUT"):
        session.execute("SELECT CAST('x' AS INT)")


def test_connections_are_used_again(settings: dict[str, Any]) -> None:
    backend = Databricks.from_settings({k: v for k, v in settings.items() if k != "type"}, "test")
    with backend.session(LABEL) as first:
        assert isinstance(first, DatabricksSession)
    with backend.session(LABEL) as second:
        assert isinstance(second, DatabricksSession)
        assert second._connection is first._connection
    with pytest.raises(StepFailed), backend.session(LABEL) as third:
        third.execute("SELECT 1 / 0")
    with backend.session(LABEL) as fourth:  # nobody knows what state the other is in
        assert isinstance(fourth, DatabricksSession)
        assert fourth._connection is not second._connection
    backend._pool.close()


def test_engine_names_the_version(session: DatabricksSession) -> None:
    assert session.engine().startswith("databricks ")


# -------------------------------------------------------------------------------------------------------------- loads


def in_volume(session: DatabricksSession) -> list[Any]:
    try:
        folders = session.query("LIST '/Volumes/main/default/entrepot/entrepot'")
    except StepFailed:
        return []
    return [file for folder in folders for file in session.query(f"LIST '{folder['path']}'")]


def test_files_come_by_the_volume_and_leave_it(
    session: DatabricksSession, schema: str, control: Callable[..., Any], tmp_path: Path
) -> None:
    files = []
    for part in range(3):
        files.append(str(tmp_path / f"_part'{part}.parquet"))  # Spark would not see a file of such a name
        pyarrow.parquet.write_table(pa.table({"n": list(range(part * 1000, part * 1000 + 1000))}), files[-1])
    made = session.load(TableName(schema, "numbers"), files, ibis.schema({"n": "int64"}))
    assert made.rows == 3000
    rows = physical(TableName(schema, "numbers"), made.columns)
    assert session.fetch(rows.aggregate(s=rows.n.sum()))["s"].to_pylist() == [sum(range(3000))]
    assert (
        not statements(control, "INSERT INTO")[-1:] or schema not in statements(control, "INSERT INTO")[-1]["statement"]
    )
    assert in_volume(session) == []


def test_files_leave_the_volume_after_a_failure(session: DatabricksSession, schema: str, tmp_path: Path) -> None:
    file = str(tmp_path / "x.parquet")
    pyarrow.parquet.write_table(pa.table({"n": ["no number"]}), file)
    with pytest.raises(StepFailed, match="CAST_INVALID_INPUT"):
        session.load(TableName(schema, "numbers"), [file], ibis.schema({"n": "int64"}))
    assert session.tables(schema) == set()
    assert in_volume(session) == []


def test_a_table_that_is_there_is_taken_as_it_is(session: DatabricksSession, schema: str) -> None:
    name = TableName(schema, "numbers")
    columns = ibis.schema({"n": "int64"})
    session.write(name, columns, [pa.record_batch({"n": [1, 2]})])
    assert session.write(name, columns, [pa.record_batch({"n": [3]})]).rows == 2
    assert session.create_as(name, physical(name, columns).limit(1)).rows == 2
    with pytest.raises(Exists):
        session.execute(f"CREATE TABLE {DIALECT.table(name)} AS SELECT 1 AS n")


def test_files_that_spark_cannot_read_are_written_anew(session: DatabricksSession, schema: str, tmp_path: Path) -> None:
    at = datetime.datetime(2024, 1, 2, 3, 4, 5, 678901)
    first = pa.table({"at": pa.array([at], pa.timestamp("ns")), "none": pa.nulls(1)})
    second = pa.table({"none": pa.array(["x"]), "at": pa.array([at], pa.timestamp("us"))})
    for number, table in enumerate([first, second]):
        pyarrow.parquet.write_table(table, tmp_path / f"{number}.parquet")
    columns = ibis.schema({"at": "timestamp", "none": "string"})
    name = TableName(schema, "mixed")
    made = session.load(name, [str(tmp_path / "0.parquet"), str(tmp_path / "1.parquet")], columns)
    found = session.fetch(physical(name, made.columns)).to_pylist()
    assert sorted(found, key=str) == sorted([{"at": at, "none": None}, {"at": at, "none": "x"}], key=str)


def test_nanoseconds_are_not_lost_in_silence(session: DatabricksSession, schema: str, tmp_path: Path) -> None:
    file = str(tmp_path / "x.parquet")
    pyarrow.parquet.write_table(pa.table({"at": pa.array([1], pa.timestamp("ns"))}), file)
    with pytest.raises(BadInput, match=r"column 'at' cannot be loaded into Databricks: .* would lose data"):
        session.load(TableName(schema, "x"), [file], ibis.schema({"at": "timestamp"}))


# -------------------------------------------------------------------------------------------------------------- types


VALUES: dict[str, tuple[Any, list[Any]]] = {
    "uint8": ("uint8", [255, 0]),
    "uint16": ("uint16", [65535, 0]),
    "uint32": ("uint32", [2**32 - 1, 0]),
    "uint64": ("uint64", [2**64 - 1, 0]),
    "int64": ("int64", [2**63 - 1, -(2**63)]),
    "float32": ("float32", [1.5, -math.inf]),
    "float64": ("float64", [math.inf, 5e-324]),
    "decimal": ("decimal(38, 9)", [decimal.Decimal("12345678901234567890123456789.123456789"), decimal.Decimal(0)]),
    "text": ("string", ["", "ü\n'\\ 😀"]),
    "binary": ("binary", [b"\x00\xff", b""]),
    "boolean": ("boolean", [True, False]),
    "date": ("date", [datetime.date(1500, 2, 28), datetime.date(9999, 12, 31)]),
    "local": ("timestamp", [datetime.datetime(1, 1, 1), datetime.datetime(9999, 12, 31, 23, 59, 59, 999999)]),
    "zoned": (
        "timestamp('UTC')",
        [datetime.datetime(1500, 1, 1, tzinfo=UTC), datetime.datetime(9999, 1, 1, tzinfo=UTC)],
    ),
    "uuid": ("uuid", ["6b1f0c3e-0000-4000-8000-000000000000", "6b1f0c3e-0000-4000-8000-000000000001"]),
    "array": ("array<int64>", [[1, None], []]),
    "struct": (dt.Struct({"a": dt.int64, "x y": dt.Array(dt.string)}), [{"a": 1, "x y": ["p", None]}, None]),
    "map": ("map<string, int64>", [[("k", 1)], []]),
}


def test_values_of_every_type_come_back(session: DatabricksSession, schema: str) -> None:
    columns = ibis.schema({name: dtype for name, (dtype, _) in VALUES.items()})
    rows = {name: [*values, None] for name, (_, values) in VALUES.items()}
    table = pa.table(rows, schema=columns.to_pyarrow())
    made = session.write(TableName(schema, "types"), columns, table.to_batches())
    assert made.rows == 3
    found = session.fetch(physical(TableName(schema, "types"), made.columns)).sort_by([("int64", "descending")])
    for name, expected in rows.items():
        assert found[name].to_pylist() == expected, name
    assert {n: t for n, t in made.columns.items() if n in {"uint32", "uint64", "local", "zoned", "struct"}} == {
        "uint32": dt.int64,
        "uint64": dt.Decimal(20, 0),
        "local": dt.timestamp,
        "zoned": dt.Timestamp("UTC"),
        "struct": dt.Struct({"a": dt.int64, "x y": dt.Array(dt.string)}),
    }


def test_nan_is_not_null(session: DatabricksSession, schema: str) -> None:
    name = TableName(schema, "x")
    table = pa.table({"x": pa.array([math.nan, None, 1.0])})
    made = session.write(name, ibis.schema({"x": "float64"}), table.to_batches())
    rows = physical(name, made.columns)
    counted = rows.aggregate(nulls=rows.x.isnull().sum(), values=rows.x.notnull().sum(), nans=rows.x.isnan().sum())
    assert session.fetch(counted).to_pylist() == [{"nulls": 1, "values": 2, "nans": 1}]


@pytest.mark.parametrize("dtype", ["time", "interval('s')", "decimal(40, 2)", "array<time>", "struct<a: time>"])
def test_a_type_that_databricks_lacks_is_told_with_its_column(
    session: DatabricksSession, schema: str, dtype: str
) -> None:
    with pytest.raises(BadInput, match="column 'odd': a column of Databricks cannot be of type"):
        session.write(TableName(schema, "x"), ibis.schema({"odd": dtype}), [])
    with pytest.raises(BadInput, match="column 'odd': a column of Databricks cannot be of type"):
        session.create_as(TableName(schema, "x"), physical(TableName(schema, "y"), ibis.schema({"odd": dtype})))


def test_json_is_parsed_on_its_way_in() -> None:
    # The stand-in's Spark has no VARIANT.
    assert casts(ibis.schema({"j": "json"})) == "parse_json(`j`) AS `j`"
    assert DIALECT.type(dt.json) == "VARIANT"


def test_types_are_read_from_what_describe_says() -> None:
    described = {
        "name": "struct",
        "fields": [
            {"name": "a b", "type": {"name": "decimal", "precision": 10, "scale": 2}, "nullable": True},
            {"name": "c", "type": {"name": "map", "key_type": {"name": "string"}, "value_type": {"name": "variant"}}},
            {"name": "d", "type": {"name": "array", "element_type": {"name": "timestamp_ntz"}}},
            {"name": "e", "type": {"name": "timestamp_ltz"}},
        ],
    }
    expected = {"a b": "decimal(10, 2)", "c": "map<string, json>", "d": "array<timestamp>", "e": "timestamp('UTC')"}
    assert DIALECT.dtype(spelled(described)) == dt.Struct({n: dt.dtype(t) for n, t in expected.items()})
    assert spelled({"name": "interval", "start_unit": "day", "end_unit": "second"}) == "INTERVAL day TO second"


def test_wide_structs_are_described_whole(session: DatabricksSession, schema: str) -> None:
    fields = {f"field_{number}": "int64" for number in range(60)}  # Spark shows the first 25
    columns = ibis.schema({"wide": dt.Struct(fields)})
    made = session.write(TableName(schema, "x"), columns, [])
    assert made.columns == columns


# -------------------------------------------------------------------------------------------------------------- names


def test_names_with_any_character(session: DatabricksSession, schema: str) -> None:
    names = [
        "with space",
        "a,b;c{d}(e)=f",
        "tab\tline\n",
        "ünï 😀",
        "back`tick",
        "quote'\"",
        "select",
        "Capital",
        "dot.ted",
    ]
    columns = ibis.schema(dict.fromkeys(names, "int64"))
    table = pa.table({name: [number] for number, name in enumerate(names)})
    made = session.write(TableName(schema, "odd"), columns, table.to_batches())
    assert list(made.columns) == names
    copy = session.create_as(TableName(schema, "copy"), physical(TableName(schema, "odd"), made.columns))
    session.repoint_view(TableName(schema, "view"), TableName(schema, "copy"))
    assert list(session.describe(TableName(schema, "view"))) == names
    rows = session.fetch(physical(TableName(schema, "view"), copy.columns)).to_pylist()
    assert rows == [{name: number for number, name in enumerate(names)}]


def test_a_table_maps_names_only_if_it_has_to(
    session: DatabricksSession, schema: str, control: Callable[..., Any]
) -> None:
    for table, column in [("plain", "a_b"), ("spaced", "a b")]:
        session.write(TableName(schema, table), ibis.schema({column: "int64"}), [])
    plain, spaced = (
        statements(control, f"CREATE TABLE `{schema}`.`{t}`")[-1]["statement"] for t in ("plain", "spaced")
    )
    assert "columnMapping" not in plain
    assert "TBLPROPERTIES ('delta.columnMapping.mode' = 'name')" in spaced
    assert needs_mapping(ibis.schema({"a": dt.Array(dt.Struct({"x;y": dt.int64}))}))


def test_tables_are_told_in_small_letters_and_found_in_any(session: DatabricksSession, schema: str) -> None:
    columns = ibis.schema({"n": "int64"})
    session.write(TableName(schema, "Big"), columns, [pa.record_batch({"n": [1]})])
    assert session.tables(schema.upper()) == {"big"}
    assert session.write(TableName(schema, "BIG"), columns, []).rows == 1
    assert session.tables("nosuch") == set()


# ------------------------------------------------------------------------------------------- expressions, user code


def test_user_code_executes_what_it_makes(session: DatabricksSession, schema: str, control: Callable[..., Any]) -> None:
    name = TableName(schema, "people")
    session.write(
        name, ibis.schema({"id": "int64", "w": "float64"}), [pa.record_batch({"id": [1, 2], "w": [0.5, 1.5]})]
    )
    people = session.table(name, ibis.schema({"ID": "int64", "w": "float64"}))
    assert people.columns == ("ID", "w")
    brought = ibis.memtable({"ID": [2, 3], "note": ["two", "three"]})
    found = people.join(brought, "ID").mutate(twice=_.w * 2).execute()
    assert found.to_dict("records") == [{"ID": 2, "w": 1.5, "note": "two", "twice": 3.0}]
    assert not statements(control, "CREATE VOLUME IF NOT EXISTS `")


def test_rows_that_an_expression_brings_leave_no_table(session: DatabricksSession, schema: str) -> None:
    name = TableName(schema, "people")
    made = session.write(name, ibis.schema({"id": "int64"}), [pa.record_batch({"id": [1, 2]})])
    joined = physical(name, made.columns).join(ibis.memtable({"id": [2], "note": ["two"]}), "id")
    assert session.create_as(TableName(schema, "joined"), joined).rows == 1
    assert not {table for table in session.tables("entrepot") if table.startswith("rows__")}


def test_an_empty_result_has_its_columns(session: DatabricksSession, schema: str) -> None:
    made = session.write(TableName(schema, "none"), ibis.schema({"n": "int64", "s": "string"}), [])
    reader = session.read(physical(TableName(schema, "none"), made.columns))
    assert reader.schema.names == ["n", "s"]
    assert reader.read_all().num_rows == 0


def test_many_rows_come_in_batches(session: DatabricksSession, schema: str) -> None:
    rows = 400_000
    table = pa.table({"n": range(rows)})
    made = session.write(TableName(schema, "many"), ibis.schema({"n": "int64"}), table.to_batches(50_000))
    sizes, total = [], 0
    for batch in session.read(physical(TableName(schema, "many"), made.columns)):
        sizes.append(batch.num_rows)
        total += sum(batch["n"].to_pylist())
    assert sum(sizes) == rows
    assert max(sizes) <= 50_000
    assert total == sum(range(rows))


def test_whole_numbers_are_of_ibis_types(session: DatabricksSession, schema: str) -> None:
    made = session.write(TableName(schema, "n"), ibis.schema({"s": "string"}), [pa.record_batch({"s": ["a"]})])
    rows = physical(TableName(schema, "n"), made.columns)
    # ROW_NUMBER is an INT here.
    assert session.create_as(TableName(schema, "m"), rows.mutate(n=ibis.row_number())).columns["n"] == dt.int64


ROW = ibis.schema(
    {"f": "float64", "a": "int64", "d": "decimal(10, 2)", "at": "timestamp", "day": "date", "list": "array<int64>"}
)
T = ibis.table(ROW, name="t")


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        (T.f * 0.1, 0.15000000000000002),
        (T.f.isinf(), False),
        ((T.f / 0.0).isinf(), True),
        ((T.a / T.a.nullif(T.a)).isinf(), None),
        (T.d.cast("int64"), 3),
        (T.list[1], 20),
        (T.list[-1], 30),
        (T.list[9], None),
        (T.list[T.a], 30),
        (T.at.truncate("D"), datetime.datetime(2024, 1, 31)),
        (T.day.truncate("M"), datetime.date(2024, 1, 1)),
        (T.day + T.a.as_interval("D"), datetime.date(2024, 2, 2)),
        (T.at + T.a.as_interval("h"), datetime.datetime(2024, 2, 1, 1, 59, 59, 123456)),
        (ibis.timestamp("2024-02-01 00:00:01").delta(T.at, unit="day"), 1),
        (ibis.date(2024, 3, 1).delta(T.day, unit="month"), 2),
        (T.at.second(), 59),
        (T.at.microsecond(), 123456),
    ],
)
def test_expressions_mean_what_they_mean_elsewhere(
    numbers: TableName, session: DatabricksSession, expression: ibis.Value, expected: Any
) -> None:
    value = session.fetch(
        physical(numbers, ROW).select(r=expression.op().replace({T.op(): physical(numbers, ROW).op()}).to_expr())
    )
    assert value["r"].to_pylist() == [expected]


@pytest.fixture(scope="session")
def numbers(backend: Backend) -> Iterator[TableName]:
    name = TableName(f"test_{uuid.uuid4().hex[:8]}", "t")
    row = {
        "f": 1.5,
        "a": 2,
        "d": decimal.Decimal("2.50"),
        "at": datetime.datetime(2024, 1, 31, 23, 59, 59, 123456),
        "day": datetime.date(2024, 1, 31),
        "list": [10, 20, 30],
    }
    with backend.session(LABEL) as session:
        session.create_schema(name.schema)
        session.write(name, ROW, pa.Table.from_pylist([row], schema=ROW.to_pyarrow()).to_batches())
        yield name
        session.drop_schema(name.schema)


def test_a_time_of_day_is_refused_before_anything_runs() -> None:
    with pytest.raises(ibis.common.exceptions.UnsupportedOperationError, match="no times of day"):
        DIALECT.compile(T.select(r=T.at.time()))


# ------------------------------------------------------------------------------------------------------------- errors


def test_a_wrong_token_catalog_or_volume_is_told(settings: dict[str, Any], tmp_path: Path, schema: str) -> None:
    (tmp_path / "wrong").write_text("wrong")
    with pytest.raises(BadInput, match="does not let this tenant in"):
        opened({**settings, "token": f"file:{tmp_path / 'wrong'}"})
    with pytest.raises(BadInput, match="Catalog 'nosuch' was not found"):
        opened({**settings, "catalog": "nosuch"})
    elsewhere = backends.create({**settings, "volume": "main.default.nosuch"}, "test")
    with pytest.raises(BadInput, match=r"main\.default\.nosuch does not exist"), elsewhere.session(LABEL) as session:
        session.write(TableName(schema, "x"), ibis.schema({"n": "int64"}), [])


def opened(settings: dict[str, Any]) -> None:
    with backends.create(settings, "test").session(LABEL) as session:
        session.execute("SELECT 1")


def test_a_missing_grant_is_told(backend: Backend, control: Callable[..., Any]) -> None:
    control(fail="denied", containing="'secret'")
    with pytest.raises(BadInput, match="INSUFFICIENT_PERMISSIONS"), backend.session(LABEL) as session:
        session.execute("SELECT 'secret'")


def test_an_expired_token_is_told(backend: Backend, control: Callable[..., Any]) -> None:
    control(fail="expired")
    with pytest.raises(BadInput, match="does not let this tenant in"), backend.session(LABEL) as session:
        session.execute("SELECT 1")


def test_the_client_waits_for_a_warehouse_that_is_down_for_a_moment(
    session: DatabricksSession, control: Callable[..., Any]
) -> None:
    control(fail="unavailable", times=1)
    assert session.query("SELECT 1 AS one") == [{"one": 1}]


@pytest.mark.slow
def test_a_host_that_refuses_is_named(settings: dict[str, Any]) -> None:
    with pytest.raises(Unavailable, match=r"Databricks at 127\.0\.0\.1 cannot be used now: .*refused"):
        opened({**settings, "uri": "http://127.0.0.1:9/sql/1.0/warehouses/local"})


def test_what_a_user_computes_is_the_steps_failure(session: DatabricksSession) -> None:
    with pytest.raises(StepFailed, match="ARITHMETIC_OVERFLOW") as error:
        session.execute("SELECT CAST(9223372036854775807 AS BIGINT) + 1")
    assert "spark.sql.ansi.enabled" not in str(error.value)


def test_two_that_write_the_same_contend(backend: Backend, session: DatabricksSession, schema: str) -> None:
    table = DIALECT.table(TableName(schema, "counted"))
    session.execute(f"CREATE TABLE {table} AS SELECT 0 AS n")
    failures: list[BaseException] = []

    def count() -> None:
        try:
            with backend.session(LABEL) as mine:
                mine.execute(f"UPDATE {table} SET n = n + 1")
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=count) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {type(failure) for failure in failures} <= {Contended}
    assert session.query(f"SELECT n FROM {table}") == [{"n": 6 - len(failures)}]


OPENING = {"method": "OpenSession"}


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (databricks.sql.exc.ServerOperationError("[TABLE_OR_VIEW_ALREADY_EXISTS] Cannot. SQLSTATE: 42P07"), Exists),
        (
            databricks.sql.exc.ServerOperationError("[DELTA_CONCURRENT_APPEND.ROW_LEVEL_CHANGES] x SQLSTATE: 2D521"),
            Contended,
        ),
        (databricks.sql.exc.ServerOperationError("[DELTA_PROTOCOL_CHANGED] ProtocolChangedException: x"), Contended),
        (databricks.sql.exc.ServerOperationError("io.delta.exceptions.ConcurrentAppendException: x"), Contended),
        (
            databricks.sql.exc.ServerOperationError("PERMISSION_DENIED: User does not have USE SCHEMA on Schema 'a'."),
            BadInput,
        ),
        (databricks.sql.exc.ServerOperationError("[INSUFFICIENT_PERMISSIONS] Insufficient. SQLSTATE: 42501"), BadInput),
        (databricks.sql.exc.DatabaseError("[NO_SUCH_CATALOG_EXCEPTION] Catalog 'x' was not found."), BadInput),
        (databricks.sql.exc.RequestError("x", {**OPENING, "http-code": 404, "error-message": ": no"}), BadInput),
        (databricks.sql.exc.RequestError("x", {"method": "GetOperationStatus", "http-code": 404}), Unavailable),
        (databricks.sql.exc.RequestError("x", {**OPENING, "http-code": 403}), BadInput),
        (databricks.sql.exc.RequestError("x", {"method": "ExecuteStatement", "http-code": 401}), BadInput),
        (databricks.sql.exc.OperationalError("Staging operation over HTTP was unsuccessful: 403-x"), BadInput),
        (databricks.sql.exc.OperationalError("Staging operation over HTTP was unsuccessful: 500-x"), Unavailable),
        (databricks.sql.exc.MaxRetryDurationError("Retry request would exceed 30.0 seconds"), Unavailable),
        (databricks.sql.exc.DatabaseError("Invalid SessionHandle: SessionHandle [1]"), Unavailable),
        (databricks.sql.exc.ServerOperationError("The SQL warehouse abc was stopped while it ran"), Unavailable),
        (databricks.sql.exc.ServerOperationError("Query timed out after 3600 seconds"), Unavailable),
        (databricks.sql.exc.InterfaceError("Cannot create cursor from closed connection"), Unavailable),
        (MaxRetryError(None, "/sql", "too many 503 error responses"), Unavailable),  # type: ignore[arg-type]
        (ConnectionResetError(104, "Connection reset by peer"), Unavailable),
        (databricks.sql.exc.ServerOperationError("[DIVIDE_BY_ZERO] Division by zero. SQLSTATE: 22012"), StepFailed),
        (databricks.sql.exc.ServerOperationError("[CAST_INVALID_INPUT] The value 'timed out' of the type"), StepFailed),
    ],
)
def test_errors_of_the_client_are_translated(error: Exception, kind: type[Exception]) -> None:
    # What the stand-in cannot say, in the words of Databricks' documentation.
    with pytest.raises(kind) as raised, translated("dbc-1.cloud.databricks.com"):
        raise error
    assert type(raised.value) is kind


# ------------------------------------------------------------------------------------------------------------- cancel


def test_interrupt_cancels_the_statement_that_runs(backend: Backend, control: Callable[..., Any]) -> None:
    name = uuid.uuid4().hex
    query = f"SELECT count(*) AS `{name}` FROM range(100000000) a CROSS JOIN range(100000) b"
    with pytest.raises(InterruptedError, match="cancelled"), interrupted(backend, control, name) as session:
        session.execute(query)
    until(lambda: statements(control, name)[0]["state"] == "CANCELED_STATE")


def test_a_session_goes_on_after_an_interrupt(session: DatabricksSession) -> None:
    session.interrupt()  # nothing runs
    assert session.query("SELECT 1 AS one") == [{"one": 1}]


@contextmanager
def interrupted(backend: Backend, control: Callable[..., Any], name: str) -> Iterator[Any]:
    """A session that is interrupted as soon as the stand-in has a statement with this name in it."""
    with backend.session(LABEL) as session:

        def interrupt() -> None:
            until(lambda: statements(control, name))
            session.interrupt()

        thread = threading.Thread(target=interrupt)
        thread.start()
        try:
            yield session
        finally:
            thread.join()


# -------------------------------------------------------------------------------------------------------------- OAuth


@contextmanager
def token_server(code: int, expires_in: int = 3600) -> Iterator[tuple[str, list[tuple[str, str, str]]]]:
    """Databricks' endpoint of tokens: gives `token-1`, `token-2` and so on."""
    asked: list[tuple[str, str, str]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            asked.append((self.path, self.headers["Authorization"], body))
            answer = json.dumps({"access_token": f"token-{len(asked)}", "expires_in": expires_in}).encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def secret(tmp_path: Path) -> Secret:
    (tmp_path / "secret").write_text("hush")
    return Secret(f"file:{tmp_path / 'secret'}", "test")


def test_a_service_principal_gets_a_token_and_keeps_it(secret: Secret) -> None:
    with token_server(200) as (host, asked):
        headers = ServicePrincipal(host, "me", secret, scheme="http")()
        assert [headers(), headers()] == [{"Authorization": "Bearer token-1"}] * 2
    assert asked == [("/oidc/v1/token", "Basic bWU6aHVzaA==", "grant_type=client_credentials&scope=all-apis")]


def test_a_service_principal_gets_another_token_before_the_first_ends(secret: Secret) -> None:
    with token_server(200, expires_in=200) as (host, _asked):
        headers = ServicePrincipal(host, "me", secret, scheme="http")()
        assert [headers(), headers()] == [{"Authorization": "Bearer token-1"}, {"Authorization": "Bearer token-2"}]


@pytest.mark.parametrize(("code", "kind"), [(401, BadInput), (400, BadInput), (503, Unavailable)])
def test_a_service_principal_that_gets_no_token(secret: Secret, code: int, kind: type[Exception]) -> None:
    with token_server(code) as (host, _asked), pytest.raises(kind) as error:
        ServicePrincipal(host, "me", secret, scheme="http")()()
    assert host in str(error.value)
    assert "hush" not in str(error.value)


def test_the_client_takes_tokens_of_a_service_principal(
    settings: dict[str, Any], secret: Secret, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {k: v for k, v in settings.items() if k not in {"type", "token"}}
    given |= {"client_id": "me", "client_secret": secret.reference}
    monkeypatch.setattr(ServicePrincipal, "_ask", lambda self: {"access_token": "x"})
    opened({"type": "databricks", **given})

    def refuse(self: ServicePrincipal) -> dict[str, Any]:
        raise BadInput("no such client")

    monkeypatch.setattr(ServicePrincipal, "_ask", refuse)
    with pytest.raises(BadInput, match=r"^no such client$"):
        opened({"type": "databricks", **given})

"""Every type of a real PostgreSQL's tables, as it comes to a load."""

from __future__ import annotations

import datetime as d
from decimal import Decimal as D
from typing import Any

import ibis.expr.schema as sch
import pyarrow as pa
import pytest

from entrepot.errors import BadInput, StepFailed
from tests.activities.ingest.sources.tables import Load, Table
from tests.servers.postgres import Server

pytestmark = pytest.mark.usefixtures("shop_database")


UTC = d.UTC
TYPES: list[tuple[str, str, str, Any]] = [
    ("smallint", "-32768", "int16", -32768),
    ("integer", "2147483647", "int32", 2147483647),
    ("bigint", "-9223372036854775808", "int64", -(2**63)),
    ("oid", "4294967295", "int64", 4294967295),
    ("real", "1.5", "float32", 1.5),
    ("double precision", "0.1", "float64", 0.1),
    ("numeric(12, 2)", "1234567890.12", "decimal(12, 2)", D("1234567890.12")),
    ("numeric(38, 0)", "9" * 38, "decimal(38, 0)", D("9" * 38)),
    ("numeric(5, -2)", "123456", "decimal(7, 0)", D(123500)),
    ("numeric(2, 4)", "0.0012", "decimal(4, 4)", D("0.0012")),
    ("numeric(60, 5)", "12345.67891", "decimal(38, 5)", D("12345.67891")),
    ("numeric", "12345678901234567890.123456789", "decimal(38, 9)", D("12345678901234567890.123456789")),
    ("money", "12.5", "string", "$12.50"),
    ("boolean", "true", "boolean", True),
    ("text", "'it''s \\ 😀'", "string", "it's \\ 😀"),
    ("varchar(9)", "''", "string", ""),
    ("char(3)", "'a'", "string", "a  "),
    ("bytea", "'\\x00ff'", "binary", b"\x00\xff"),
    ("date", "'0001-01-01'", "date", d.date(1, 1, 1)),
    ("time", "'23:59:59.999999'", "time", d.time(23, 59, 59, 999999)),
    ("timetz", "'10:00+02'", "string", "10:00:00+02"),
    ("timestamp", "'2024-02-29 12:00:00.000001'", "timestamp(6)", d.datetime(2024, 2, 29, 12, 0, 0, 1)),
    (
        "timestamptz",
        "'2024-01-01 01:00:00.5+02'",
        "timestamp('UTC', 6)",
        d.datetime(2023, 12, 31, 23, 0, 0, 500000, UTC),
    ),
    ("interval", "'1 year 2 days 3 hours'", "string", "P1Y2DT3H"),
    (
        "uuid",
        "'00000000-0000-0000-0000-00000000000A'",
        "string",
        "00000000-0000-0000-0000-00000000000a",
    ),
    ("json", "'{\"a\":  1}'", "string", '{"a":  1}'),
    ("jsonb", "'{\"a\":1.10}'", "string", '{"a": 1.10}'),
    ("inet", "'10.0.0.1/8'", "string", "10.0.0.1/8"),
    ("int4range", "'[1,5)'", "string", "[1,5)"),
    ("bit(3)", "B'101'", "string", "101"),
    ("point", "'(1,2)'", "string", "(1,2)"),
    ("mood", "'sad'", "string", "sad"),
    ("price", "2.50", "decimal(9, 3)", D("2.500")),
    ("pair", "ROW(1, 'x')", "string", "(1,x)"),
    ("integer[]", "'{1,NULL,3}'", "array<int32>", [1, None, 3]),
    ("text[]", "'{a,NULL}'", "array<string>", ["a", None]),
    ("numeric(5, 2)[]", "'{1.5}'", "array<decimal(5, 2)>", [D("1.50")]),
    ("uuid[]", "'{00000000-0000-0000-0000-000000000001}'", "array<string>", ["00000000-0000-0000-0000-000000000001"]),
    ("timestamptz[]", "'{2024-01-01 00:00+00}'", "array<timestamp('UTC', 6)>", [d.datetime(2024, 1, 1, tzinfo=UTC)]),
    ("jsonb[]", "ARRAY['{}'::jsonb]", "array<string>", ["{}"]),
    ("mood[]", "'{}'", "array<string>", []),
]


@pytest.fixture(scope="module")
def types(postgres: Server) -> Load:
    with postgres.connect() as connection:
        connection.execute("CREATE TYPE mood AS ENUM ('sad', 'happy')")
        connection.execute("CREATE DOMAIN price AS numeric(9, 3)")
        connection.execute("CREATE TYPE pair AS (a int, b text)")
        connection.execute("SET lc_monetary = 'C'")
    table = Table(postgres, ", ".join(f'"c {number}" {type}' for number, (type, *_) in enumerate(TYPES)))
    table.add(", ".join(value for _, value, *_ in TYPES), ", ".join("NULL" for _ in TYPES))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHOP", postgres.url)
        return table.load()


@pytest.mark.parametrize("number", range(len(TYPES)), ids=[type for type, *_ in TYPES])
def test_each_type_is_what_it_is(types: Load, number: int) -> None:
    _, _, dtype, value = TYPES[number]
    piece = types.pieces[0].rows
    assert isinstance(piece, pa.RecordBatch)
    assert sch.Schema.from_pyarrow(piece.schema)[f"c {number}"] == sch.schema({"c": dtype})["c"]
    assert [row[number] for row in types.rows] == [value, None]


@pytest.mark.parametrize(
    ("type", "value", "needle"),
    [
        ("numeric", "1.1234567891", "decimal128\\(38, 9\\)"),
        ("numeric(4, 2)", "'NaN'", "nan|NaN"),
        ("timestamptz", "'infinity'", "infinite"),
        ("date", "'-infinity'", "infinite"),
        ("timestamp[]", "'{infinity}'", "infinite"),
        ("integer[]", "'{{1,2},{3,4}}'", "arrays of arrays"),
    ],
)
def test_what_would_be_changed_is_refused_and_can_be_text(postgres: Server, type: str, value: str, needle: str) -> None:
    table = Table(postgres, f"v {type}")
    table.add(value)
    with pytest.raises(StepFailed, match=needle) as caught:
        table.load()
    assert "v" in str(caught.value)
    (row,) = table.load(types={"v": "string"}).rows
    assert row[0].strip("'") == value.strip("'")


def test_a_column_is_given_another_type(postgres: Server) -> None:
    table = Table(postgres, "v numeric")
    table.add("1.1234567891")
    assert table.load(types={"v": "decimal(38, 18)"}).rows == [(D("1.123456789100000000"),)]
    assert table.load(types={"v": "float64"}).rows == [(1.1234567891,)]
    for types, needle in (({"v": "nonsense"}, "no type of ibis"), ({"w": "int64"}, "unknown column 'w'")):
        with pytest.raises(BadInput, match=needle):
            table.load(types=types)

"""The digest's SQL on DuckDB, held against the reference on Arrow batches, which has tests of its own."""

from __future__ import annotations

import datetime as d
import math
from decimal import Context, Decimal

import duckdb
import ibis.expr.datatypes as dt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entrepot import backends
from entrepot.backends.sql.digest import Column, Formulas, narrowed, query, rows, statistics
from entrepot.identity.table_digest import (
    DATE,
    FLOAT,
    INTEGER,
    NESTED,
    STRING,
    TIMESTAMP,
    ColumnKind,
    Digest,
    kind,
    of_batches,
)

DUCKDB = backends.dialect("duckdb").formulas

FLOATS = st.floats() | st.sampled_from(
    [
        0.0,
        -0.0,
        math.inf,
        -math.inf,
        math.nan,
        1e308,
        -1e308,
        5e-324,
        2.0**28,
        2.0**-18,
        1 - 2**-53,
        1e-9,
        1e9,
        2.0**300,
    ]
)
TYPES: dict[str, tuple[dt.DataType, st.SearchStrategy[object]]] = {
    "BIGINT": (dt.int64, st.integers(-(2**63), 2**63 - 1) | st.sampled_from([-(2**63), 2**63 - 1, 2**51, -(2**51)])),
    "INTEGER": (dt.int32, st.integers(-(2**31), 2**31 - 1)),
    "SMALLINT": (dt.int16, st.integers(-(2**15), 2**15 - 1)),
    "UBIGINT": (dt.uint64, st.integers(0, 2**64 - 1)),
    "BOOLEAN": (dt.boolean, st.booleans()),
    "DOUBLE": (dt.float64, FLOATS),
    "FLOAT": (dt.float32, st.floats(width=32)),
    "DECIMAL(38, 10)": (dt.Decimal(38, 10), st.integers(1 - 10**38, 10**38 - 1)),
    "DECIMAL(38, 0)": (dt.Decimal(38, 0), st.integers(1 - 10**38, 10**38 - 1)),
    "DECIMAL(38, 38)": (dt.Decimal(38, 38), st.integers(1 - 10**38, 10**38 - 1)),
    "DECIMAL(20, 12)": (dt.Decimal(20, 12), st.integers(1 - 10**20, 10**20 - 1)),
    "DECIMAL(38, 20)": (dt.Decimal(38, 20), st.integers(1 - 10**38, 10**38 - 1)),
    "DECIMAL(28, 9)": (dt.Decimal(28, 9), st.integers(1 - 10**28, 10**28 - 1)),
    "DECIMAL(18, 2)": (dt.Decimal(18, 2), st.integers(1 - 10**18, 10**18 - 1)),
    "DECIMAL(15, 4)": (dt.Decimal(15, 4), st.integers(1 - 10**15, 10**15 - 1)),
    "VARCHAR": (dt.string, st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=9)),
    "BLOB": (dt.binary, st.binary(max_size=9)),
    "DATE": (dt.date, st.dates()),
    "TIME": (dt.time, st.times()),
    "TIMESTAMP": (dt.Timestamp(), st.datetimes()),
    "TIMESTAMPTZ": (dt.Timestamp("UTC"), st.datetimes(timezones=st.just(d.UTC))),
}


@pytest.fixture(scope="module")
def connection() -> duckdb.DuckDBPyConnection:
    return duckdb.connect(config={"threads": 1})


def sql_digest(connection: duckdb.DuckDBPyConnection, columns: dict[str, Column]) -> Digest:
    count, *sums = connection.execute(query(DUCKDB, "t", columns)).fetchall()[0]
    known = narrowed(columns, connection.execute(statistics("t", columns)).fetchall()[0])
    assert connection.execute(query(DUCKDB, "t", known)).fetchall()[0] == (count, *sums)
    return Digest(count, tuple(sums), {name: column.kind for name, column in columns.items()})


def arrow_digest(connection: duckdb.DuckDBPyConnection, columns: dict[str, Column]) -> Digest:
    return of_batches(connection.sql("from t").to_arrow_reader(3), {name: each.kind for name, each in columns.items()})


def filled(connection: duckdb.DuckDBPyConnection, types: dict[str, str], cells: list[tuple[object, ...]]) -> None:
    connection.execute(f"create or replace table t ({', '.join(f'{name} {type_}' for name, type_ in types.items())})")
    if cells:
        connection.executemany(f"insert into t values ({', '.join('?' for _ in types)})", cells)


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_all_types_at_once(connection: duckdb.DuckDBPyConnection, data: st.DataObject) -> None:
    names = {f"c{number}": type_ for number, type_ in enumerate(TYPES)}
    columns = {name: Column(name, TYPES[type_][0], kind(TYPES[type_][0])) for name, type_ in names.items()}
    values = []
    for type_ in names.values():
        dtype, cells = TYPES[type_]
        if isinstance(dtype, dt.Decimal):
            scale = dtype.scale or 0
            cells = cells.map(lambda n, s=scale: Decimal(n).scaleb(-s, Context(prec=40)))
        values.append(st.none() | cells)
    filled(connection, names, data.draw(st.lists(st.tuples(*values), max_size=5)))
    assert sql_digest(connection, columns) == arrow_digest(connection, columns)


@given(st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(-(2**26), 2**26) | st.integers(-(2**52), 2**52)))
def test_whole_numbers_of_every_size(connection: duckdb.DuckDBPyConnection, values: list[int]) -> None:
    filled(connection, {"x": "BIGINT"}, [(value,) for value in values])
    columns = {"x": Column("x", dt.int64, INTEGER)}
    assert sql_digest(connection, columns) == arrow_digest(connection, columns)


@given(st.lists(FLOATS | st.floats(-4, 4), min_size=1, max_size=20))
def test_floats(connection: duckdb.DuckDBPyConnection, values: list[float]) -> None:
    filled(connection, {"x": "DOUBLE"}, [(value,) for value in values])
    columns = {"x": Column("x", dt.float64, FLOAT)}
    assert sql_digest(connection, columns) == arrow_digest(connection, columns)


@pytest.mark.parametrize(
    ("type_", "dtype", "taken"),
    [
        ("INTEGER", dt.int32, ColumnKind("decimal", 4, 20)),
        ("BIGINT", dt.int64, ColumnKind("decimal", 2, 36)),
        ("BOOLEAN", dt.boolean, ColumnKind("decimal", 2, 36)),
        ("DECIMAL(12, 1)", dt.Decimal(12, 1), ColumnKind("decimal", 9, 29)),
        ("DECIMAL(12, 1)", dt.Decimal(12, 1), ColumnKind("decimal", 4, 11)),
        ("DECIMAL(12, 1)", dt.Decimal(12, 1), FLOAT),
        ("INTEGER", dt.int32, FLOAT),
        ("DATE", dt.date, TIMESTAMP),
        ("TIMESTAMP_NS", dt.Timestamp(scale=9), TIMESTAMP),
        ("TIMESTAMP_S", dt.Timestamp(scale=0), TIMESTAMP),
    ],
)
def test_a_type_is_taken_as_another_kind(
    connection: duckdb.DuckDBPyConnection, type_: str, dtype: dt.DataType, taken: ColumnKind
) -> None:
    texts = ["2020-02-29", "1969-12-31", None] if dtype.is_temporal() else ["-7", "70000", None]
    texts = ["true", "false", None] if dtype.is_boolean() else texts
    filled(connection, {"x": type_}, [(text,) for text in texts])
    columns = {"x": Column("x", dtype, taken)}
    assert sql_digest(connection, columns) == arrow_digest(connection, columns)


@settings(max_examples=25)
@given(
    st.lists(st.integers(1 - 10**14, 10**14 - 1) | st.integers(-300, 300), min_size=1, max_size=20), st.integers(0, 14)
)
def test_few_digits_in_a_wide_type(connection: duckdb.DuckDBPyConnection, values: list[int], scale: int) -> None:
    filled(connection, {"x": f"DECIMAL(38, {scale})"}, [(Decimal(value).scaleb(-scale),) for value in values])
    columns = {"x": Column("x", dt.Decimal(38, scale), kind(dt.Decimal(38, scale)))}
    assert sql_digest(connection, columns) == arrow_digest(connection, columns)


def test_an_empty_table(connection: duckdb.DuckDBPyConnection) -> None:
    filled(connection, {"x": "BIGINT", "y": "DATE"}, [])
    columns = {"x": Column("x", dt.int64, INTEGER), "y": Column("y", dt.date, DATE)}
    assert sql_digest(connection, columns) == Digest(0, (0, 0), {"x": INTEGER, "y": DATE})


def test_wide_tables_are_several_blocks(connection: duckdb.DuckDBPyConnection) -> None:
    names = [f"c{n}" for n in range(60)]
    filled(connection, dict.fromkeys(names, "BIGINT"), [tuple(range(60)), tuple(range(1, 61))])
    columns = {name: Column(name, dt.int64, INTEGER) for name in names}
    digest = sql_digest(connection, columns)
    assert digest == arrow_digest(connection, columns)
    connection.execute("update t set c59 = c59 + 1 where c0 = 0")
    assert sql_digest(connection, columns) != digest


def test_quoted_names_and_expressions(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute("""create or replace table t as select 1::bigint as "c0_n", 2.5::double as "a ""b" """)
    columns = {"x": Column('"c0_n"', dt.int64, INTEGER), "y": Column('"a ""b"', dt.float64, FLOAT)}
    swapped = {
        "x": Column('CAST("a ""b" - 1.5 AS BIGINT)', dt.int64, INTEGER),
        "y": Column('"c0_n" + 1.5', dt.float64, FLOAT),
    }
    assert sql_digest(connection, columns) == sql_digest(connection, swapped)


def test_buckets_are_a_partition_and_refine_one_another(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute(
        "create or replace table t as select i, 'k' || i as k, i * 0.5::double as v from range(1000) r(i)"
    )
    columns = {
        "i": Column("i", dt.int64, INTEGER), "k": Column("k", dt.string, STRING), "v": Column("v", dt.float64, FLOAT),
    }  # fmt: skip
    whole = sql_digest(connection, columns)
    found = connection.execute(query(DUCKDB, "t", columns, keys=["k", "i"], buckets=16)).fetchall()
    assert sorted(row[0] for row in found) == list(range(16))
    assert tuple(map(sum, list(zip(*found, strict=True))[1:])) == (whole.rows, *whole.sums)
    assert max(row[1] for row in found) < 120
    some = connection.execute(rows(DUCKDB, "t", columns, ["i", "k"], 16, [3, 5])).fetchall()
    assert len(some) == sum(row[1] for row in found if row[0] in (3, 5))
    assert all(k == f"k{i}" and v == i / 2 and bucket in (3, 5) for i, k, v, bucket in some)
    finer = connection.execute(
        query(DUCKDB, "t", columns, keys=["i", "k"], buckets=64, only=[3, 19, 35, 51])
    ).fetchall()
    assert {row[0] % 16 for row in finer} == {3}
    assert sum(row[1] for row in finer) == next(row[1] for row in found if row[0] == 3)


def test_what_cannot_be_is_refused() -> None:
    columns = {f"c{n}": Column(f"c{n}", dt.int64, INTEGER) for n in range(40)}
    with pytest.raises(ValueError, match="10 buckets; their number is a power of two"):
        query(DUCKDB, "t", columns, keys=["c1"], buckets=10)
    with pytest.raises(ValueError, match="40 columns are too wide a key"):
        query(DUCKDB, "t", columns, keys=list(columns), buckets=16)
    with pytest.raises(ValueError, match="nested values have no digest in SQL"):
        query(DUCKDB, "t", {"x": Column("x", dt.json, NESTED)})


@pytest.mark.parametrize("backend", ["snowflake", "bigquery", "databricks"])
def test_every_dialect_fills_its_templates(backend: str) -> None:
    dialect = backends.dialect(backend).formulas
    columns = {f"c{n}": Column(f"c{n}", dtype, kind(dtype)) for n, (dtype, _) in enumerate(TYPES.values())}
    assert isinstance(dialect, Formulas)
    if backend == "databricks":
        beyond = Column("x", dt.Decimal(38, 38), kind(dt.Decimal(38, 38)))
        with pytest.raises(ValueError, match="has 38 decimal places, and only up to 36 have a digest there"):
            query(dialect, "t", {"x": beyond})
        columns = {name: column for name, column in columns.items() if column.dtype != beyond.dtype}
    written = query(dialect, "t", columns, keys=["c0"], buckets=8)
    assert "{" not in written
    assert "MIN" in statistics("t", columns)
    assert written.count("(") == written.count(")")


@pytest.mark.parametrize(
    ("type_", "value"),
    [("TIMESTAMP", "12000-01-01"), ("TIMESTAMP", "0044-03-15 (BC)"), ("TIMESTAMP", "infinity"),
     ("TIMESTAMPTZ", "-infinity"), ("DATE", "infinity"), ("DATE", "10000-01-01")],
)  # fmt: skip
def test_a_point_in_time_that_not_all_can_tell_has_no_digest(
    connection: duckdb.DuckDBPyConnection, type_: str, value: str
) -> None:
    connection.execute(f"create or replace table t as select '{value}'::{type_} as x")
    dtype = {"TIMESTAMP": dt.Timestamp(), "TIMESTAMPTZ": dt.Timestamp("UTC"), "DATE": dt.date}[type_]
    columns = {"x": Column("x", dtype, kind(dtype))}
    found = connection.execute(statistics("t", columns)).fetchall()[0]
    with pytest.raises(ValueError, match="column 'x' has 1 values before the year 1, after 9999 or infinite"):
        narrowed(columns, found)

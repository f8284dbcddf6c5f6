"""What backends use of ibis and of the warehouses' clients that is not public: a test for each name says what broke.

After an upgrade that fails here, the place to mend is `backends/sql/compat.py`, or the `client.py` of the warehouse.
"""

from __future__ import annotations

import inspect
from typing import Any

import duckdb
import ibis
import ibis.expr.operations as ops
import pytest
from ibis.backends.sql.compilers.base import SQLGlotCompiler

from entrepot import backends
from entrepot.backends.sql import compat

WAREHOUSES = ["duckdb", "snowflake", "bigquery", "databricks"]


@ibis.udf.scalar.python
def doubled(n: int) -> int:
    return n * 2


def test_ibis_run_pre_execute_hooks() -> None:
    """DuckDB no longer sees the rows (`ibis.memtable`) and functions of an expression that live in Python."""
    connection = duckdb.connect()
    backend = ibis.duckdb.from_connection(connection)
    rows = ibis.memtable({"n": [1, 2]})
    made = rows.select(m=doubled(rows.n))
    compat.prepare(backend, made)
    assert connection.execute(backend.compile(made)).fetchall() == [(2,), (4,)]


class Statements:
    """A connection that keeps what is executed. There is no Databricks here."""

    def __init__(self) -> None:
        self.executed: list[str] = []

    def cursor(self) -> Statements:
        return self

    def __enter__(self) -> Statements:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def execute(self, sql: str) -> None:
        self.executed.append(sql)


def over_databricks(connection: Statements) -> Any:
    pytest.importorskip("databricks.sql")
    return compat.databricks_over(connection, None, "/Volumes/main/default/files", lambda *_: ibis.schema({}))


def test_ibis_post_connect() -> None:
    """ibis makes a volume of its own in the tenant's schema as soon as user code asks for a table."""
    connection = Statements()
    over_databricks(connection)
    assert connection.executed == []


def test_ibis_memtable_volume_path() -> None:
    """ibis brings a user's rows to another volume than the tenant's."""
    connection = Statements()
    over_databricks(connection)._make_memtable_finalizer("rows")()
    assert connection.executed == ["REMOVE '/Volumes/main/default/files/rows.parquet'"]


@pytest.mark.parametrize("warehouse", WAREHOUSES)
def test_ibis_visits(warehouse: str) -> None:
    """A correction of a compiler has no effect: ibis has neither an operation nor a method of this name."""
    classes = backends.dialect(warehouse).compiler.__mro__
    theirs = {name for cls in classes if cls.__module__.startswith("ibis.") for name in vars(cls)}
    ours = {name for cls in classes if cls.__module__.startswith("entrepot.") for name in vars(cls)}
    visits = {name for name in ours - theirs if name.startswith("visit_")} - {"visit_LocalTime", "visit_PointInTime"}
    assert visits <= {f"visit_{name}" for name in dir(ops)}


@pytest.mark.parametrize("name", ["SIMPLE_OPS", "UNSUPPORTED_OPS", "LOWERED_OPS", "rewrites", "type_mapper"])
def test_ibis_tables_of_a_compiler(name: str) -> None:
    """What our compilers leave out, add, rewrite, or call types is no longer read by ibis."""
    assert hasattr(SQLGlotCompiler, name)


def test_snowflake_statement_params() -> None:
    """Statements lose their QUERY_TAG: nobody can tell which tenant, run and step they were for."""
    cursor = pytest.importorskip("snowflake.connector.cursor")
    assert "_statement_params" in inspect.signature(cursor.SnowflakeCursor.execute).parameters


def test_snowflake_field_id_to_name() -> None:
    """Results have no Arrow types before their first batch."""
    constants = pytest.importorskip("snowflake.connector.constants")
    named = {"FIXED", "REAL", "DATE", "TIMESTAMP_NTZ", "TIMESTAMP_LTZ", "TIMESTAMP_TZ", "TIME", "BINARY", "BOOLEAN"}
    assert named <= set(constants.FIELD_ID_TO_NAME.values())


@pytest.mark.parametrize(
    "name",
    [
        "_retry_stop_after_attempts_count",
        "_retry_stop_after_attempts_duration",
        "_retry_delay_min",
        "_retry_delay_max",
        "_socket_timeout",
        "_connection_uri",
    ],
)
def test_databricks_options(name: str) -> None:
    """The client ignores this option: it tries again for a quarter of an hour, or cannot reach a stand-in."""
    client = pytest.importorskip("databricks.sql.backend.thrift_backend")
    assert f'"{name}"' in inspect.getsource(client)


def test_databricks_active_command_id() -> None:
    """A statement that is interrupted is never cancelled: nobody knows whether the warehouse has begun it."""
    client = pytest.importorskip("databricks.sql.client")
    assert "active_command_id" in inspect.getsource(client.Cursor.__init__)

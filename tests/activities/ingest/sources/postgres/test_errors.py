"""What can go wrong with a real PostgreSQL as a source, and what is said of it."""

from __future__ import annotations

import ctypes
import sys
import threading
from dataclasses import replace
from typing import Any

import pytest

from entrepot.activities.ingest.sources.postgres import client, tables
from entrepot.errors import BadInput, EntrepotError, StepFailed, Unavailable
from entrepot.language.sources import PostgresTable
from tests.activities.ingest.sources.tables import Load, events
from tests.servers.postgres import Server
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("shop_database")


@pytest.mark.parametrize(
    ("settings", "needle"),
    [
        ({"disposition": "merge"}, "'merge' needs a `key`"),
        ({"disposition": "scd2"}, "'scd2' needs a `key`"),
        ({"disposition": "scd2", "key": ["id"], "cursor": "at"}, "with 'scd2' all are needed"),
        ({"disposition": "upsert"}, "unknown disposition 'upsert'"),
        ({"lag": 5.0}, "'lag' needs a `cursor`"),
        ({"start": 5}, "'start' needs a `cursor`"),
        ({"cursor": "at", "lag": -1}, "0 or more"),
        ({"cursor": "at", "deleted": "note"}, "`deleted` is for 'merge'"),
        ({"cursor": "at", "types": {"at": "string"}}, "cannot be given another type"),
        ({"cursor": "att"}, "cursor: unknown column 'att'; did you mean 'at'"),
        ({"columns": ["ID"]}, "columns: unknown column 'ID'"),
        ({"cursor": "note"}, "must be a time or a number, not text"),
        ({"cursor": "at", "columns": ["id"]}, "`columns` must have 'at', which is its cursor"),
        ({"table": "nosuch"}, "unknown table 'nosuch'"),
        ({"url": "env:NOT_SET"}, "NOT_SET is not set"),
        ({"url": "mysql://host/db"}, "must begin with postgresql://"),
    ],
)
def test_what_can_never_work_is_bad_input(postgres: Server, settings: Any, needle: str) -> None:
    with pytest.raises(BadInput, match=needle):
        events(postgres).load(**settings)


def test_a_driver_that_is_not_installed_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("adbc_driver_postgresql", "adbc_driver_postgresql.dbapi"):
        monkeypatch.setitem(sys.modules, name, None)  # as Python says that there is none
    with (
        pytest.raises(BadInput, match=r"pip install 'entrepot\[postgres\]'"),
        client.connected("postgresql://h/d", "h"),
    ):
        pass


def _refused(monkeypatch: pytest.MonkeyPatch, url: str, table: str = "shop") -> EntrepotError:
    monkeypatch.setenv("OTHER", url)
    with pytest.raises((BadInput, Unavailable)) as caught:
        Load(PostgresTable("env:OTHER", table), {})
    assert caught.value.__cause__ is None
    return caught.value


def test_a_login_that_fails_says_where_and_never_the_password(
    postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    at, secret = f"127.0.0.1:{postgres.port}", "p4ss-word"
    wrong = f"postgresql://postgres:{secret}@{at}/postgres"
    for url, kind, needle in (
        (wrong, BadInput, "password authentication failed"),
        (postgres.url + "_x", BadInput, 'database "postgres_x" does not exist'),
        (postgres.url.replace(f":{postgres.port}/", ":1/"), Unavailable, "127.0.0.1:1/postgres, table 'shop': "),
        (f"postgresql://u:{secret}@no.such.invalid/db", BadInput, "no.such.invalid:5432/db"),
        (f"postgresql://u:{secret}%@{at}/db", BadInput, "the URL cannot be read"),
        (f"{wrong}?nonsense={secret}", BadInput, "the URL cannot be read"),
        *((f"postgresql://u:{mark}{secret}{mark}{secret}@{at}/db", BadInput, "must be as") for mark in "@/?#"),
        (f"postgresql://u:{secret}", BadInput, "must be as"),
        (f"u:{secret}@{at}/db", BadInput, "must begin with"),
    ):
        error = _refused(monkeypatch, url)
        assert type(error) is kind, (url, error)
        assert needle in str(error)
        assert secret not in str(error)
        assert postgres.password not in str(error)


def test_a_password_is_given_by_reference(postgres: Server) -> None:
    for url in ("postgresql://u:p4ss@host/db", "postgresql://u@host/db?password=p4ss"):
        with pytest.raises(BadInput, match="by reference") as caught:
            tables.stream("shop", PostgresTable(url, "orders"), {})
        assert "p4ss" not in str(caught.value)
    tables.stream("shop", PostgresTable("postgresql://u@host/db", "orders"), {})


def test_a_missing_grant_is_bad_input(postgres: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    table = events(postgres)
    role = f"guest_{table.name}"
    table.do(f"CREATE ROLE {role} LOGIN PASSWORD 'guest'")
    error = _refused(monkeypatch, f"postgresql://{role}:guest@127.0.0.1:{postgres.port}/postgres", table.name)
    assert isinstance(error, BadInput)
    assert "permission denied" in str(error)


def test_a_view_that_fails_is_the_step_s_failure(postgres: Server) -> None:
    table = events(postgres)
    table.do(f"CREATE VIEW v_{table.name} AS SELECT 1 / (g - 400000) AS x FROM generate_series(1, 500000) g")
    with pytest.raises(StepFailed, match="division by zero"):
        Load(replace(table.source(), table=f"v_{table.name}"), {})


def _long(postgres: Server) -> str:
    table = events(postgres)
    table.do(f"CREATE VIEW v_{table.name} AS SELECT g, repeat('x', 1000) AS x FROM generate_series(1, 10000000) g")
    return f"v_{table.name}"


def _sessions(postgres: Server, name: str) -> list[int]:
    with postgres.connect() as connection:
        found = connection.execute(
            "SELECT pid FROM pg_stat_activity WHERE strpos(query, %s) > 0 AND pid <> pg_backend_pid()", [name]
        )
        return [row[0] for row in found]


def test_a_connection_that_is_cut_may_come_back(postgres: Server) -> None:
    name = _long(postgres)
    pieces = tables.stream("shop", PostgresTable("env:SHOP", name), {}).pieces(None)
    next(pieces)
    (pid,) = _sessions(postgres, name)
    with postgres.connect() as connection:
        connection.execute("SELECT pg_terminate_backend(%s)", [pid])
    with pytest.raises(Unavailable, match=f"127.0.0.1:{postgres.port}/postgres, table '{name}'"):
        list(pieces)


def test_a_read_that_is_closed_leaves_no_session(postgres: Server) -> None:
    name = _long(postgres)
    pieces = tables.stream("shop", PostgresTable("env:SHOP", name), {}).pieces(None)
    next(pieces)
    assert _sessions(postgres, name)
    pieces.close()  # type: ignore[attr-defined]
    until(lambda: not _sessions(postgres, name))


def test_a_read_that_waits_for_the_database_can_be_interrupted(postgres: Server) -> None:
    table = events(postgres)
    table.do(f"CREATE VIEW v_{table.name} AS SELECT 1 AS x FROM pg_sleep(600)")
    raised: list[BaseException] = []

    def read() -> None:
        try:
            Load(PostgresTable("env:SHOP", f"v_{table.name}"), {})
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    until(lambda: _sessions(postgres, f"v_{table.name}"))
    _interrupt(thread)
    thread.join(60)
    assert [type(error) for error in raised] == [KeyboardInterrupt]
    until(lambda: not _sessions(postgres, f"v_{table.name}"))


def _interrupt(thread: threading.Thread) -> None:
    """As Temporal tells a thread that its activity is cancelled."""
    assert thread.ident is not None
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(KeyboardInterrupt))

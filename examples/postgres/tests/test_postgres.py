"""What is special to PostgreSQL: what its errors mean, names, labels, settings, grants, views that are shown on."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import ibis
import psycopg
import pyarrow as pa
import pytest
from entrepot import backends
from entrepot.backends import QueryTag, TableName
from entrepot.errors import BadInput, Contended, StepFailed, Unavailable
from tests.servers.postgres import Server

from entrepot_postgres.backend import PostgresSession

LABEL = QueryTag("acme", "run-1", "orders")
NUMBER = ibis.schema({"n": "int64"})


@pytest.fixture
def session(server: Server) -> Iterator[PostgresSession]:
    with backends.create(server.settings(), "tenant 'acme'").session(LABEL) as opened:
        assert isinstance(opened, PostgresSession)
        opened.create_schema("special")
        yield opened
        opened.drop_schema("special")


def _failure(server: Server, **other: object) -> Exception:
    with pytest.raises((BadInput, Unavailable)) as caught:  # noqa: SIM117
        with backends.create(server.settings(**other), "tenant 'acme'").session(LABEL):
            pass
    return caught.value


def test_a_login_that_can_never_work_is_bad_input(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WRONG", "wrong")
    for other, text in [
        ({"password": "env:WRONG"}, "password authentication failed"),
        ({"database": "nowhere"}, "does not exist"),
        ({"user": "nobody_here"}, "nobody_here"),
        ({"host": "no-such-host.invalid"}, "no-such-host"),
        ({"sslmode": "verify"}, "sslmode"),
    ]:
        error = _failure(server, **other)
        assert isinstance(error, BadInput), error
        assert str(error).startswith("tenant 'acme': PostgreSQL database")
        assert text in str(error)


def test_a_server_that_is_away_may_come_back(server: Server) -> None:
    assert isinstance(_failure(server, port=1), Unavailable)


def test_a_missing_grant_is_bad_input(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    with server.connect() as root:
        root.execute("CREATE ROLE guest LOGIN PASSWORD 'guest'")
    monkeypatch.setenv("GUEST", "guest")
    guest = backends.create(server.settings(user="guest", password="env:GUEST"), "tenant 'acme'")
    with pytest.raises(BadInput, match=r"permission denied .*42501"), guest.session(LABEL) as session:
        session.create_schema("theirs")


def test_a_session_that_is_ended_by_others_is_unavailable(server: Server) -> None:
    def ended() -> None:
        with backends.create(server.settings(), "tenant 'acme'").session(LABEL) as session:
            (row,) = session.query("SELECT pg_backend_pid() AS pid")
            with server.connect() as root:
                root.execute("SELECT pg_terminate_backend(%s)", [row["pid"]])
            session.query("SELECT 1 AS n")

    with pytest.raises(Unavailable, match="terminat"):
        ended()


def test_what_a_step_computes_wrongly_is_its_failure(session: PostgresSession) -> None:
    with pytest.raises(StepFailed, match="division by zero"):
        session.query("SELECT 1 / 0")


def test_a_deadlock_is_contended(server: Server, session: PostgresSession) -> None:
    for name in ("a", "b"):
        session.write(TableName("special", name), NUMBER, iter(pa.table({"n": [1]}).to_batches()))
    met = threading.Barrier(2)
    failures: list[BaseException] = []

    def lock(first: str, second: str) -> None:
        with backends.create(server.settings(), "tenant 'acme'").session(LABEL) as own, own.transaction():
            own.execute(f"UPDATE special.{first} SET n = 2")
            met.wait()
            own.execute(f"UPDATE special.{second} SET n = 2")

    def hold(first: str, second: str) -> None:
        try:
            lock(first, second)
        except Contended as error:
            failures.append(error)

    threads = [threading.Thread(target=hold, args=names) for names in [("a", "b"), ("b", "a")]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(failures) == 1


def test_names_are_counted_in_bytes(session: PostgresSession) -> None:
    with pytest.raises(BadInput, match="64 bytes of 63"):
        session.write(TableName("special", "ä" * 32), NUMBER, iter([]))
    session.write(TableName("special", "ä" * 31), NUMBER, iter([]))
    assert session.tables("special") == {"ä" * 31}


def test_a_view_that_others_show_is_pointed_elsewhere(session: PostgresSession) -> None:
    for number in (1, 2):
        session.write(TableName("special", f"t{number}"), NUMBER, iter(pa.table({"n": [number]}).to_batches()))
    session.repoint_view(TableName("special", "shown"), TableName("special", "t1"))
    session.execute("CREATE VIEW special.theirs AS SELECT n FROM special.shown")
    session.repoint_view(TableName("special", "shown"), TableName("special", "t2"))
    assert session.query("SELECT n FROM special.theirs") == [{"n": 2}]


def test_statements_carry_their_label(server: Server, session: PostgresSession) -> None:
    with server.connect() as root:
        session.query("SELECT 7 AS n")
        found = root.execute("SELECT query FROM pg_stat_activity").fetchall()
    assert ("/* entrepot tenant=acme run=run-1 step=orders */ SELECT 7 AS n",) in found


def test_settings_are_checked() -> None:
    with pytest.raises(BadInput, match="a postgres backend needs"):
        backends.create({"type": "postgres"}, "tenant 'acme'")
    with pytest.raises(BadInput, match="never the secret itself"):
        backends.create({"type": "postgres", "password": "x"}, "tenant 'acme'")


def test_connections_are_closed(server: Server) -> None:
    backend = backends.create(server.settings(), "tenant 'acme'")
    with backend.session(LABEL) as session:
        assert isinstance(session, PostgresSession)
        connection: psycopg.Connection[object] = session._connection
    assert not connection.closed
    backend.close()
    assert connection.closed

"""What only DuckDB's driver has to see to."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import ibis
import pyarrow as pa
import pytest

from entrepot import backends
from entrepot.backends import Backend, QueryTag, TableName
from entrepot.backends.base import Session
from entrepot.backends.duckdb.backend import DuckDBSession
from entrepot.backends.duckdb.client import translated
from entrepot.errors import Unavailable

LABEL = QueryTag("t", "r", "s")


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[Backend]:
    made = backends.create({"type": "duckdb", "path": str(tmp_path / "w.duckdb")}, "test")
    yield made
    made.close()


def test_sessions_are_in_utc_wherever_they_run(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    with backend.session(LABEL) as session:
        assert session.query("SELECT current_setting('TimeZone') AS zone") == [{"zone": "UTC"}]


def endless() -> ibis.Table:
    rows = numbers = ibis.range(3000).unnest().name("n").as_table()
    for number in range(4):
        rows = rows.cross_join(numbers.select(**{f"n{number}": numbers.n}))
    return rows


@pytest.mark.parametrize("way", ["fetch", "read"])
def test_what_is_interrupted_says_so(backend: Backend, way: str) -> None:
    def interrupt(session: Session, done: threading.Event) -> None:
        while not done.wait(0.05):
            session.interrupt()

    with backend.session(LABEL) as session:
        done = threading.Event()
        thread = threading.Thread(target=interrupt, args=(session, done))
        thread.start()
        try:
            with pytest.raises(InterruptedError, match="cancelled"):
                list(session.fetch(endless()) if way == "fetch" else session.read(endless()))
        finally:
            done.set()
            thread.join()


def test_what_is_closed_is_free_at_once(backend: Backend, tmp_path: Path) -> None:
    with backend.session(LABEL) as session:
        session.create_schema("a")
    backend.close()
    backend.close()
    duckdb.connect(str(tmp_path / "w.duckdb"), read_only=True).close()  # with other options: nobody else has it open
    with backend.session(LABEL) as session:
        assert session.tables("a") == set()


@pytest.mark.parametrize("text", ["*/", "/*", "**//", "/*/", "//**"])
def test_a_label_stays_a_comment(backend: Backend, text: str) -> None:
    with backend.session(QueryTag(text, text, text)) as session:
        assert session.query("SELECT 1 AS n") == [{"n": 1}]


def test_what_fails_inside_of_the_engine_is_tried_again() -> None:
    with (
        pytest.raises(Unavailable, match=r"DuckDB failed inside at the file w\.duckdb: std::bad_cast"),
        translated("w.duckdb"),
    ):
        raise RuntimeError("std::bad_cast")
    with pytest.raises(RuntimeError, match="its own"), translated("w.duckdb"):
        raise RuntimeError("its own")


class Moody:
    """A connection that says nothing but `std::bad_cast` a few times before it registers anything."""

    def __init__(self, connection: Any, failures: int) -> None:
        self.connection, self.failures = connection, failures

    def register(self, name: str, stream: object) -> None:
        self.failures -= 1
        if self.failures >= 0:
            raise RuntimeError("std::bad_cast")
        self.connection.register(name, stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.connection, name)


@pytest.mark.parametrize("failures", range(4))
def test_rows_are_given_again_to_an_engine_that_fails_before_it_has_read_any(backend: Backend, failures: int) -> None:
    schema = ibis.schema({"n": "int64"})
    rows = iter([pa.RecordBatch.from_pydict({"n": [1, 2]}), pa.RecordBatch.from_pydict({"n": [3]})])
    with backend.session(LABEL) as session:
        assert isinstance(session, DuckDBSession)
        session.create_schema("a")
        session._connection = Moody(session._connection, failures)
        if failures == 3:
            with pytest.raises(Unavailable, match="std::bad_cast"):
                session.write(TableName("a", "t"), schema, rows)
        else:
            assert session.write(TableName("a", "t"), schema, rows).rows == 3
            assert session.query("SELECT sum(n) AS n FROM a.t") == [{"n": 6}]

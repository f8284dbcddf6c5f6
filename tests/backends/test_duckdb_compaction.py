"""A DuckDB file becomes as small as what is in it; who uses it meanwhile waits, and who dies at it does no harm."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import duckdb
import pytest

from entrepot import backends
from entrepot.backends import QueryTag, Session
from entrepot.backends.duckdb import compaction
from entrepot.backends.duckdb.backend import DuckDB
from tests.worker.processes import ROOT

LABEL = QueryTag("t", "r", "s")
ROWS = 200_000


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[DuckDB]:
    """A file most of which is free, with a table, a view, a key and names that have to be quoted."""
    made = backends.create({"type": "duckdb", "path": str(tmp_path / "it's.duckdb")}, "test")
    assert isinstance(made, DuckDB)
    with made.session(LABEL) as session:
        session.execute("CREATE SCHEMA a; CREATE SCHEMA b")
        session.execute(f"CREATE TABLE a.gone AS SELECT range AS n, hash(range) AS h FROM range({ROWS})")
        session.execute('CREATE TABLE a."Größe ""x""" (id BIGINT PRIMARY KEY, v VARCHAR)')
        session.execute('INSERT INTO a."Größe ""x""" SELECT range, range::VARCHAR FROM range(100)')
        session.execute('CREATE VIEW a.first AS SELECT * FROM a."Größe ""x"""; CREATE VIEW b.second AS FROM a.first')
    made.close()
    with made.session(LABEL) as session:
        session.execute("DROP TABLE a.gone")
    yield made
    made.close()


def total(backend: DuckDB) -> int:
    with backend.session(LABEL) as session:
        return int(session.query("SELECT sum(id) AS n FROM b.second")[0]["n"])


def nothing() -> None:
    """Nobody interrupts."""


def test_what_dropped_tables_have_left_goes_back_to_the_disk(backend: DuckDB) -> None:
    before = os.path.getsize(backend.path)
    freed = backend.compact(nothing)
    assert os.path.getsize(backend.path) == before - freed < before / 2
    assert total(backend) == 4950
    with backend.session(LABEL) as session:
        (key,) = session.query("SELECT count(*) AS n FROM duckdb_constraints() WHERE constraint_type = 'PRIMARY KEY'")
        assert key["n"] == 1
    assert backend.compact(nothing) == 0  # nothing is left to gain
    assert [name for name in os.listdir(os.path.dirname(backend.path)) if "compacted" in name] == []


def test_sessions_come_one_after_another_with_it(backend: DuckDB) -> None:
    """Those before it end, and those that come meanwhile wait; nothing of what they write is lost."""
    with backend.session(LABEL) as session:
        session.execute("CREATE TABLE a.seen (n BIGINT)")

    def add(number: int) -> None:
        for each in range(20):
            with backend.session(QueryTag("t", f"run {number}", "s")) as session, session.transaction():
                session.execute(f"INSERT INTO a.seen VALUES ({number * 100 + each})")

    threads = [threading.Thread(target=add, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    freed = backend.compact(nothing)
    for thread in threads:
        thread.join()
    assert freed > 0
    with backend.session(LABEL) as session:
        assert session.query("SELECT count(DISTINCT n) AS n FROM a.seen")[0]["n"] == 60


def test_a_file_that_is_used_for_long_is_left_for_later(backend: DuckDB) -> None:
    with backend.session(LABEL):
        assert backend._file.compact({}, 0.1, nothing) == 0


def test_who_waits_while_the_file_is_copied_can_be_interrupted(
    backend: DuckDB, monkeypatch: pytest.MonkeyPatch
) -> None:
    content, interrupted, begun = compaction._content, threading.Event(), threading.Event()

    def slowly(both: duckdb.DuckDBPyConnection, database: str) -> list[tuple[Any, ...]]:
        begun.set()
        assert interrupted.wait(30)
        return content(both, database)

    def wait() -> None:
        def opened(session: Session) -> None:
            session.interrupt()

        assert begun.wait(30)
        with pytest.raises(InterruptedError), backend.session(LABEL, opened):
            pass
        assert backend.compact(nothing) == 0  # another one is at it
        interrupted.set()

    monkeypatch.setattr(compaction, "_content", slowly)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(wait)
        assert backend.compact(nothing) > 0
        waiting.result()
    assert total(backend) == 4950


def test_the_copy_is_set_up_as_sessions_are(backend: DuckDB, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("preserve_insertion_order", "threads", "temp_directory")
    query = f"SELECT {', '.join(f'current_setting({name!r}) AS {name}' for name in names)}"
    copying: list[tuple[Any, ...]] = []
    monkeypatch.setattr(compaction, "_is_worth_it", lambda both: copying.extend(both.execute(query).fetchall()))
    backend.options["threads"] = 1
    backend.close()
    backend.compact(nothing)
    with backend.session(LABEL) as session:
        (in_session,) = session.query(query)
    assert copying == [tuple(in_session.values())] == [(False, 1, f"{backend.path}.tmp")]


KILLED = """
import os, signal, sys
from entrepot import backends
from entrepot.backends.duckdb import compaction
place, name = sys.argv[2].split(".")
owner = {"os": os, "compaction": compaction}[place]
before = getattr(owner, name)

def dies(*given):
    if sys.argv[3] == "after":
        before(*given)
    os.kill(os.getpid(), signal.SIGKILL)

setattr(owner, name, dies)
backends.create({"type": "duckdb", "path": sys.argv[1]}, "test").compact(lambda: None)
"""


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("where", ["compaction._content", "compaction._flush", "os.replace"])
def test_a_process_that_is_killed_leaves_the_old_file_or_the_new(backend: DuckDB, where: str, when: str) -> None:
    backend.close()
    ended = subprocess.run([sys.executable, "-c", KILLED, backend.path, where, when], cwd=ROOT, check=False)
    assert ended.returncode == -signal.SIGKILL
    assert total(backend) == 4950
    backend.compact(nothing)
    assert total(backend) == 4950
    assert os.path.getsize(backend.path) < 3e6
    assert [name for name in os.listdir(os.path.dirname(backend.path)) if "compacted" in name] == []


def test_a_copy_that_differs_never_takes_the_place_of_the_file(
    backend: DuckDB, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "_content", lambda both, database: [(database,)])
    before = os.path.getsize(backend.path)
    with pytest.raises(Exception, match="the copy differs; it is as it was"):
        backend.compact(nothing)
    assert (os.path.getsize(backend.path), total(backend)) == (before, 4950)

"""Processes that want the same DuckDB file take turns."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from entrepot import backends
from entrepot.backends import QueryTag, Session
from entrepot.backends.duckdb.backend import DuckDB
from entrepot.backends.duckdb.file import Ticket
from entrepot.errors import Unavailable
from tests.waiting import until
from tests.worker.processes import ROOT

LABEL = QueryTag("t", "r", "s")
OTHER = QueryTag("t", "r", "other")

HEAD = """
import pathlib, sys, time
from entrepot import backends
from entrepot.backends import QueryTag
backend = backends.create({"type": "duckdb", "path": sys.argv[1]}, "test")
label = QueryTag("t", "r", sys.argv[2])

def say(text):
    print(text, flush=True)

def add(session, value):
    session.execute(f"INSERT INTO t SELECT count(*), '{sys.argv[2]}', {value} FROM t")
"""

MANY = """
count, _, others = input().partition(" ")
pathlib.Path(f"{sys.argv[1]}.{sys.argv[2]}").touch()
while not all(pathlib.Path(f"{sys.argv[1]}.{name}").exists() for name in others):
    time.sleep(0.001)  # on a busy machine, one could be at its end before another has begun
for number in range(int(count)):
    with backend.session(label) as session, session.transaction():
        add(session, number)
"""

HOLD = """
with backend.session(label) as session:
    add(session, 1)
    say("has it")
    input()
    add(session, 2)
"""

ONCE = """
with backend.session(label) as session:
    add(session, 0)
"""


class Other:
    """Another process that works on the file."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def tell(self, text: object = "") -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{text}\n")
        self.process.stdin.flush()

    def hear(self, text: str) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == f"{text}\n"

    def ends(self, code: int = 0) -> None:
        assert self.process.wait(600) == code


@contextmanager
def other(path: Path, name: str, code: str) -> Iterator[Other]:
    with subprocess.Popen(
        [sys.executable, "-c", HEAD + code, str(path), name],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield Other(process)
        finally:
            process.kill()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "w.duckdb"


@pytest.fixture
def backend(path: Path) -> Iterator[DuckDB]:
    made = backends.create({"type": "duckdb", "path": str(path)}, "test")
    assert isinstance(made, DuckDB)
    with made.session(LABEL) as session:
        session.execute("CREATE TABLE t (place BIGINT, who VARCHAR, n BIGINT)")
    made.close()
    yield made
    made.close()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("entrepot.backends.duckdb.backend.LOCK_SECONDS", 0.3)


def rows(backend: DuckDB, label: QueryTag = LABEL) -> list[tuple[str, int]]:
    with backend.session(label) as session:
        return [(row["who"], row["n"]) for row in session.query("SELECT who, n FROM t ORDER BY place")]


def is_wanted(backend: DuckDB) -> bool:
    ticket = backend._file._ticket
    return ticket is not None and ticket.is_followed()


@pytest.mark.parametrize("names", ["ab", "abc"])
def test_many_small_transactions_of_several_processes(backend: DuckDB, path: Path, names: str) -> None:
    count = 200 if len(names) == 2 else 50
    with ExitStack() as stack:
        every = [stack.enter_context(other(path, name, MANY)) for name in names]
        for each in every:
            each.tell(f"{count} {names}")
        for each in every:
            each.ends()
    found = rows(backend)
    assert sorted(found) == [(name, number) for name in names for number in range(count)]
    who = [name for name, _ in found]
    together = who[max(who.index(n) for n in names) : min(len(who) - who[::-1].index(n) for n in names)]
    streaks = [len(list(streak)) for _, streak in itertools.groupby(together)]
    assert len(streaks) > len(together) / 2, streaks
    assert max(streaks) < count / 4, streaks


@pytest.mark.usefixtures("impatient")
def test_a_long_step_of_another_worker_is_waited_for(backend: DuckDB, path: Path) -> None:
    with other(path, "a", HOLD.replace("input()", "time.sleep(5)")) as holder:
        holder.hear("has it")
        assert rows(backend) == [("a", 1), ("a", 2)]
        holder.ends()


@pytest.mark.usefixtures("impatient")
def test_a_killed_holder_gives_the_file_to_those_that_wait(backend: DuckDB, path: Path) -> None:
    code = HOLD.replace("input()", "session.execute('BEGIN'); add(session, 7); say('at work'); time.sleep(600)")
    with other(path, "a", code) as holder, ExitStack() as stack:
        holder.hear("has it")
        holder.hear("at work")
        waiting = [stack.enter_context(other(path, name, ONCE)) for name in "bc"]
        time.sleep(2)
        assert [each.process.poll() for each in waiting] == [None, None]
        holder.process.kill()
        for each in waiting:
            each.ends()
    found = rows(backend)
    assert (found[0], sorted(found)) == (("a", 1), [("a", 1), ("b", 0), ("c", 0)])


def test_a_killed_process_that_waits_is_not_waited_for(backend: DuckDB, path: Path) -> None:
    with backend.session(LABEL), other(path, "a", ONCE) as waiting:
        until(lambda: is_wanted(backend))
        waiting.process.kill()
        waiting.ends(-9)
        assert not is_wanted(backend)
        thread = threading.Thread(target=rows, args=(backend, OTHER))
        thread.start()
        thread.join()


def test_who_is_at_work_goes_on_and_who_comes_waits_for_the_other_process(backend: DuckDB, path: Path) -> None:
    seen: dict[str, list[tuple[str, int]]] = {}

    def look(name: str, label: QueryTag) -> None:
        seen[name] = rows(backend, label)

    new = threading.Thread(target=look, args=("new", OTHER))
    with other(path, "a", MANY) as waiting:
        with backend.session(LABEL):
            waiting.tell(1)
            until(lambda: is_wanted(backend))
            new.start()
            look("nested", QueryTag("t", "r", "its own"))
            own = threading.Thread(target=look, args=("thread", LABEL))
            own.start()
            own.join()
            assert set(seen) == {"nested", "thread"}
            assert waiting.process.poll() is None
        new.join()
        waiting.ends()
    assert seen == {"nested": [], "thread": [], "new": [("a", 0)]}


def test_a_process_that_is_never_idle_gives_way(backend: DuckDB, path: Path) -> None:
    done = threading.Event()

    def work(number: int) -> None:
        while not done.is_set():
            with backend.session(QueryTag("t", "r", str(number))):
                time.sleep(0.1)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    try:
        with other(path, "a", MANY) as another:
            another.tell(5)
            another.ends()
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert rows(backend) == [("a", number) for number in range(5)]


def test_who_waits_can_be_interrupted(backend: DuckDB, path: Path) -> None:
    opened: list[Session] = []
    raised: list[BaseException] = []

    def wait() -> None:
        try:
            with backend.session(LABEL, opened.append):
                pass
        except BaseException as error:
            raised.append(error)

    with other(path, "a", HOLD) as holder:
        holder.hear("has it")
        thread = threading.Thread(target=wait)
        thread.start()
        until(lambda: backend._file._ticket is not None)
        opened[0].interrupt()
        thread.join()
        assert [type(error) for error in raised] == [InterruptedError]
        assert backend._file._ticket is None
        holder.tell()
        holder.ends()
    opened[0].interrupt()
    assert rows(backend) == [("a", 1), ("a", 2)]


FOREIGN = """
import duckdb
connection = duckdb.connect(sys.argv[1])
say("has it")
input()
"""


@pytest.mark.usefixtures("impatient")
def test_a_process_that_does_not_queue_is_named(backend: DuckDB, path: Path) -> None:
    with other(path, "a", FOREIGN) as foreign:
        foreign.hear("has it")
        with pytest.raises(Unavailable, match=f"is locked by process {foreign.process.pid} "):
            rows(backend)
        with other(path, "b", ONCE) as waiting:
            until(lambda: _is_queued(path))
            foreign.tell()
            waiting.ends()
    assert rows(backend) == [("b", 0)]


def _is_queued(path: Path) -> bool:
    ticket = Ticket(str(path))
    try:
        return not ticket.is_first()
    finally:
        ticket.drop()


def test_without_a_queue_duckdb_alone_decides(backend: DuckDB, path: Path) -> None:
    queue = path.with_name("w.duckdb.queue")
    queue.unlink()
    queue.mkdir()
    with other(path, "a", HOLD) as holder:
        holder.hear("has it")
        threading.Timer(0.5, holder.tell).start()
        assert rows(backend) == [("a", 1), ("a", 2)]
        holder.ends()


TWO = """
import entrepot.backends.duckdb.backend as driver
driver.LOCK_SECONDS = 1.0
second = backends.create({"type": "duckdb", "path": sys.argv[1] + ".2"}, "test")
with second.session(label) as there:
    say("has it")
    input()
    with backend.session(label) as session:
        add(session, 0)
"""


@pytest.mark.usefixtures("impatient")
def test_two_that_want_each_others_file_do_not_wait_forever(backend: DuckDB, path: Path) -> None:
    second = DuckDB(f"{path}.2", {})
    with other(path, "a", TWO) as another:
        another.hear("has it")
        with backend.session(LABEL):
            # The other wants the earlier file while it has the later, so it is the one that gives up.
            threading.Timer(0.1, another.tell).start()
            with second.session(LABEL) as session:
                assert session.query("SELECT 1 AS n") == [{"n": 1}]
        another.ends(1)
    second.close()
    assert rows(backend) == []


def test_an_open_result_does_not_keep_the_file(backend: DuckDB, path: Path) -> None:
    import ibis

    with backend.session(LABEL) as session:
        reader = session.read(ibis.range(1_000_000).unnest().name("n").as_table())
        assert reader.read_next_batch().num_rows > 0
    with other(path, "a", ONCE) as another:
        another.ends()
    assert rows(backend) == [("a", 0)]
    del reader

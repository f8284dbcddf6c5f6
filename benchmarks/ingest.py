"""Ingests through the whole chain (lake, load, audit, commit, publish), beside DuckDB alone and beside dlt alone.

Ours is `entrepot run` as a whole process, with server and worker up; theirs is a whole process. All read the same, and
all must have brought the same number of rows.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb

from benchmarks.chain import VENVS, serving
from benchmarks.peers import install
from benchmarks.timing import Row, table, timed
from tests.data import FOLDER
from tests.servers.postgres import Server, running

ENTREPOT = os.path.join(os.path.dirname(sys.executable), "entrepot")
LIMIT = "256MB"
"""DuckDB's memory, ours and that of DuckDB alone: what it is given, it fills with buffers."""
LOADS = Path(__file__).parent / "peers" / "dlt_loads.py"
COLUMNS = """
    i AS id, i % 1000 AS small, i * 7 AS big, i / 3.0 AS ratio, (i % 17)::DOUBLE AS score,
    'text ' || i % 100000 AS word, 'c' || i % 50 AS category, i % 2 = 0 AS flag,
    DATE '2020-01-01' + (i % 2000)::INT AS day, TIMESTAMP '2020-01-01' + to_seconds(i) AS at
"""

PIPELINE = """
import gzip
import json
import os
from entrepot import Files, Pipeline, PostgresTable, Table

bench = Pipeline("bench", parameters={{"task": ""}})
ARGUMENTS = {arguments!r}


def dicts(count):
    for n in range(int(count)):
        yield {{"id": n, "a": n * 2, "b": n / 3, "c": f"text {{n}}", "d": n % 2 == 0, "e": n % 7, "f": f"{{n % 100}}",
               "g": n * 0.5, "h": "2026-01-01", "i": -n}}


def events(*paths):
    for path in paths:
        with gzip.open(path, "rt") as lines:
            yield from map(json.loads, lines)


@bench.ingest(tables={tables!r})
def rows():
    return {source}


@bench.check("rows")
def none_is_missing(rows: Table) -> Table:
    return rows.filter(rows.id.isnull())
"""

SOURCES = {
    "parquet": "Files(ARGUMENTS[0])",
    "files": "Files(ARGUMENTS[0])",
    "dicts": "dicts(*ARGUMENTS)",
    "events": "events(*ARGUMENTS)",
    "postgres": 'PostgresTable("env:BENCH_URL", "rows")',
}


@dataclass(frozen=True)
class Task:
    """One thing to ingest, by whom, and what is wanted of us."""

    name: str
    arguments: tuple[str, ...]
    rows: int
    peers: dict[str, float | None]
    """Each contender, and the most that our time may be of its."""
    tables: tuple[str, ...] = ("rows",)
    again: bool = False
    """Whether a second run, with nothing new, is timed as well."""


def write_pipeline(folder: Path, task: Task) -> None:
    """A project that ingests what the task names."""
    text = PIPELINE.format(arguments=task.arguments, tables=list(task.tables), source=SOURCES[task.name.split()[0]])
    (folder / "bench.py").write_text(text)
    (folder / "tenants.toml").write_text(
        '[pipelines]\nbench = "bench:bench"\n\n'
        f'[tenants.bench]\nbackend = {{ type = "duckdb", path = "warehouse.duckdb", memory_limit = "{LIMIT}" }}\n'
        'pipelines = ["bench"]\n'
    )


def ours(folder: Path, task: Task) -> tuple[float, float | None, int]:
    """Seconds of a run, of a second one, and the peak memory of server, worker and client together, in bytes."""
    write_pipeline(folder, task)
    with serving(folder) as environment:
        first = timed([ENTREPOT, "run", "bench", "--json"], folder, environment)
        again = timed([ENTREPOT, "run", "bench", "--json"], folder, environment).seconds if task.again else None
        peak = _peak_of_worker(folder)
    if json.loads(first.output)["outcome"] != "published":
        raise RuntimeError(f"{task.name}: {first.output[-2000:]}")
    with duckdb.connect(str(folder / ".entrepot" / "warehouse.duckdb"), read_only=True) as connection:
        (count,) = connection.execute("SELECT count(*) FROM bench.rows").fetchone() or (0,)
    _check(task, "entrepot", count)
    return first.seconds, again, peak


def _peak_of_worker(folder: Path) -> int:
    """The peak memory of the worker's process, which is the one that works in this folder and is no server."""
    peak = 0
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            if os.readlink(status.parent / "cwd") != str(folder):
                continue
            lines = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
        except OSError:
            continue
        if not lines["Name"].strip().startswith("temporal"):
            peak = max(peak, int(lines["VmHWM"].split()[0]) * 1024)
    return peak


def _duckdb(folder: Path, task: Task) -> float:
    code = (
        "import duckdb, sys; c = duckdb.connect('alone.duckdb'); "
        f"c.execute('SET enable_progress_bar = false'); c.execute(\"SET memory_limit = '{LIMIT}'\"); "
        "c.execute('CREATE TABLE rows AS SELECT * FROM read_parquet(?)', sys.argv[1:]); "
        "print(c.execute('SELECT count(*) FROM rows').fetchone()[0])"
    )
    run = timed([sys.executable, "-c", code, *task.arguments], folder)
    _check(task, "duckdb", int(run.output))
    return run.seconds


def _dlt(folder: Path, task: Task) -> float:
    python = install.python_in(install.ready("dlt", VENVS))
    arguments = [os.environ["BENCH_URL"]] if task.name == "postgres" else task.arguments
    quiet = {"RUNTIME__DLTHUB_TELEMETRY": "false", "RUNTIME__LOG_LEVEL": "ERROR"}
    run = timed([str(python), str(LOADS), task.name.split()[0], *arguments], folder, quiet)
    _check(task, "dlt", int(run.output.splitlines()[-1]))
    return run.seconds


CONTENDERS: dict[str, Callable[[Path, Task], float]] = {"duckdb": _duckdb, "dlt": _dlt}


def _check(task: Task, who: str, rows: int) -> None:
    if rows != task.rows:
        raise RuntimeError(f"{task.name}: {who} brought {rows:,} rows of {task.rows:,}")


@contextmanager
def _tasks(names: list[str], million: int) -> Iterator[list[Task]]:
    """What is measured, with its data while the block runs."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="entrepot-data-")))
        made = []
        for name in names:
            if name == "parquet":
                path = folder / "rows.parquet"
                duckdb.execute(f"COPY (SELECT {COLUMNS} FROM range({million * 10**6}) t(i)) TO '{path}'")
                made.append(Task(name, (str(path),), million * 10**6, {"duckdb": 2.5, "dlt": 1 / 1.5}))
            elif name == "postgres":
                _fill(stack.enter_context(running()))
                made.append(Task(name, (), 2_000_000, {"dlt": 0.4}))
            elif name == "dicts":
                made.append(Task(name, ("500000",), 500_000, {"dlt": 1.0}))
            elif name == "events":
                paths = tuple(str(FOLDER / "github_events" / f"2015-01-01-{n}.json.gz") for n in (0, 1))
                lists = ("commits", "pages", "issue__labels", "release__assets")
                nested = ("rows", *(f"rows__payload__{each}" for each in lists))
                made.append(Task(name, paths, 15_129, {"dlt": 1.0}, nested))
            else:
                for number in range(1000):
                    duckdb.execute(f"COPY (SELECT {COLUMNS} FROM range(1000) t(i)) TO '{folder}/{number:04}.csv'")
                made.append(Task("files", (f"{folder}/*.csv",), 1_000_000, {}, again=True))
        yield made


def _fill(server: Server) -> None:
    os.environ["BENCH_URL"] = server.url
    with server.connect() as connection:
        connection.execute(
            "CREATE TABLE rows AS SELECT i AS id, i % 1000 AS small, i::bigint * 7 AS big, (i / 3.0)::float8 AS ratio, "
            "(i % 100 / 7.0)::numeric(12, 4) AS amount, 'text ' || i % 100000 AS word, 'c' || i % 50 AS category, "
            "i % 2 = 0 AS flag, DATE '2020-01-01' + i % 2000 AS day, "
            "TIMESTAMP '2020-01-01' + i * INTERVAL '1 second' AS at FROM generate_series(1, 2000000) i"
        )


def main(arguments: list[str] | None = None) -> None:
    """Prints one table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ingest", description=__doc__)
    parser.add_argument("--tasks", nargs="*", default=list(SOURCES), choices=list(SOURCES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--million", type=int, default=10, help="rows of the Parquet file")
    options = parser.parse_args(arguments)
    rows: list[Row] = []
    with _tasks(options.tasks, options.million) as tasks:
        for task in tasks:
            seconds: dict[str, list[float]] = {}
            peaks = []
            for number in range(options.rounds):
                with _folder() as folder:
                    first, again, peak = ours(folder, task)
                    peaks.append(peak)
                    seconds.setdefault("entrepot", []).append(first)
                    if again is not None:
                        seconds.setdefault("entrepot, nothing new", []).append(again)
                    for peer in task.peers:
                        seconds.setdefault(peer, []).append(CONTENDERS[peer](folder, task))
                said = ", ".join(f"{who} {each[-1]:.2f} s" for who, each in seconds.items())
                print(f"{task.name}, round {number + 1}: {said}, our worker's peak {peak / 2**20:,.0f} MB", flush=True)
            mine = statistics.median(seconds["entrepot"])
            named = f"{task.name}, {task.rows:,} rows"
            rows.append(Row("entrepot", named, seconds.pop("entrepot"), None))
            rows += [
                Row(who, named, each, mine if who in task.peers else None, task.peers.get(who))
                for who, each in seconds.items()
            ]
    table("Ingest through the whole chain, whole processes; every contender brought the same rows", rows)


@contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="entrepot-bench-")).resolve()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()

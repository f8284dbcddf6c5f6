"""Many small runs, one after another: does a run take longer, and does anything grow, the longer a worker lives?

Each run appends some rows to a table and computes another from it; server and worker are up from the first to the last.
As a schedule would, garbage is collected in between. The last hundred runs are held against the first hundred, and what
is left after the last collection against a fresh build of the same rows. Where others are at work on the machine,
seconds of processors tell more than those of the clock. Temporal's database has every run until its retention is over.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.chain import serving
from entrepot import backends
from entrepot.activities.catalog.tables import TABLES
from entrepot.backends import QueryTag
from entrepot.identity.version import CATALOG
from entrepot.worker.client import TASK_QUEUE, reach

ROWS = 20
"""Of each run."""
WANTED, WANTED_SIZE = 1.1, 1.3
STATE, WAREHOUSE, TEMPORARY = ".entrepot", "warehouse.duckdb", "temporary"

PIPELINE = """
import dlt
from ibis import _

from entrepot import Pipeline, Table

endurance = Pipeline("endurance", parameters={"rows": 0})
AT = dlt.sources.incremental("id", initial_value=-1)

@endurance.ingest
def events(rows: int):
    @dlt.resource(name="events", write_disposition="append", primary_key="id")
    def read(at=AT):
        yield [{"id": n, "kind": n % 5, "amount": n * 1.5} for n in range(int(at.last_value) + 1, rows)]
    return read

@endurance.transform
def totals(events: Table) -> Table:
    return events.group_by("kind").agg(n=_.count(), amount=_.amount.sum())

@endurance.check(totals, severity="warn")
def none_is_empty(totals: Table) -> Table:
    return totals.filter(_.n < 1)
"""

TENANTS = """
[pipelines]
endurance = "endurance_pipeline:endurance"

[tenants.endurance]
backend = { type = "duckdb", path = "warehouse.duckdb" }
lake = "lake"
"""


@dataclass(frozen=True)
class Processes:
    """The process that serves and all that it has started, but for Temporal's server; or that one."""

    seconds: float
    """Of processors, that they and those that have ended have used."""
    memory: float
    """Resident, in MB."""
    count: int
    threads: int
    descriptors: int

    @staticmethod
    def of(every: Sequence[psutil.Process]) -> Processes:
        """What these use now."""
        return Processes(
            sum(sum(each.cpu_times()[:4]) for each in every),
            sum(each.memory_info().rss for each in every) / 1e6,
            len(every),
            sum(each.num_threads() for each in every),
            sum(each.num_fds() for each in every),
        )


@dataclass(frozen=True)
class Look:
    """What a run took, and what there is after it."""

    seconds: float
    worker_seconds: float
    """Of processors."""
    server_seconds: float
    events: int
    """In the run's history."""
    worker: float
    """Resident memory of the worker and of its own processes, in MB."""
    processes: int
    threads: int
    descriptors: int
    server: float
    """Resident memory of Temporal's server, in MB."""
    temporal: float
    """Its database, in MB."""
    warehouse: float
    """The DuckDB file, in MB."""
    lake: float
    """In MB."""
    files: int
    """In the lake."""
    temporary: int
    """Files and folders for temporary ones."""


MEASURES: Mapping[str, Callable[[Look], float]] = {
    "seconds a run": lambda look: look.seconds,
    "seconds of processors, worker": lambda look: look.worker_seconds,
    "seconds of processors, server": lambda look: look.server_seconds,
    "events in its history": lambda look: look.events,
    "worker, MB": lambda look: look.worker,
    "worker, processes": lambda look: look.processes,
    "worker, threads": lambda look: look.threads,
    "worker, descriptors": lambda look: look.descriptors,
    "temporary files": lambda look: look.temporary,
    "server, MB": lambda look: look.server,
    "Temporal's database, MB": lambda look: look.temporal,
    "DuckDB file, MB": lambda look: look.warehouse,
    "lake, MB": lambda look: look.lake,
    "files in the lake": lambda look: look.files,
}
OF_TEMPORAL, SIZES = tuple(MEASURES)[9:11], tuple(MEASURES)[11:]


@dataclass(frozen=True)
class Endured:
    """What there was after each run, and after the last collection."""

    looks: Sequence[Look]
    left: Look
    rows: Sequence[Mapping[str, int]]
    """Of the catalog's tables, before each collection and after the last."""


def write_pipeline(folder: Path) -> None:
    """A project that `entrepot dev` finds."""
    (folder / "endurance_pipeline.py").write_text(PIPELINE)
    (folder / "tenants.toml").write_text(TENANTS)


class Watch:
    """Looks at a project's state and at the processes that serve it."""

    def __init__(self, folder: Path) -> None:
        self._state = folder / STATE
        self._temporary = folder / TEMPORARY
        serving, server = (int(pid) for pid in (self._state / "lock").read_text().split())
        self._serving, self._server = psutil.Process(serving), psutil.Process(server)
        self._before = self._used()

    def _used(self) -> tuple[Processes, Processes]:
        while True:
            started = self._serving.children(recursive=True)
            try:
                return Processes.of([self._serving, *(p for p in started if p != self._server)]), Processes.of(
                    [self._server]
                )
            except psutil.NoSuchProcess:  # one has ended meanwhile
                continue

    def look(self, seconds: float = 0, events: int = 0) -> Look:
        """At what a run took that has just ended, and at what there is now."""
        before, self._before = self._before, self._used()
        worker, server = self._before
        files = [file.stat().st_size for file in (self._state / "lake").rglob("*") if file.is_file()]
        return Look(
            seconds=seconds,
            worker_seconds=worker.seconds - before[0].seconds,
            server_seconds=server.seconds - before[1].seconds,
            events=events,
            worker=worker.memory,
            processes=worker.count,
            threads=worker.threads,
            descriptors=worker.descriptors,
            server=server.memory,
            temporal=self._bytes("temporal.db*") / 1e6,
            warehouse=self._bytes(f"{WAREHOUSE}*") / 1e6,
            lake=sum(files) / 1e6,
            files=len(files),
            temporary=sum(1 for _ in self._temporary.rglob("*")),
        )

    def _bytes(self, pattern: str) -> int:
        return sum(file.stat().st_size for file in self._state.glob(pattern))

    def rows(self) -> dict[str, int]:
        """Of each of the catalog's tables."""
        backend = backends.create({"type": "duckdb", "path": str(self._state / WAREHOUSE)}, "endurance")
        with backend.session(QueryTag("endurance", "", "count"), lambda session: None) as session:
            found = {
                table: session.query(f"select count(*) as n from {CATALOG}.{table}")[0]["n"] for table in sorted(TABLES)
            }
        backend.close()
        return found


def endure(folder: Path, runs: Sequence[int], share: int) -> Endured:
    """Makes these runs, each with so many rows in the source, and collects after each `share` of them."""
    write_pipeline(folder)
    (folder / TEMPORARY).mkdir()
    with serving(folder, {"TMPDIR": str(folder / TEMPORARY)}) as environment:
        return asyncio.run(_endure(Watch(folder), environment["TEMPORAL_ADDRESS"], runs, share))


async def _endure(watch: Watch, address: str, runs: Sequence[int], share: int) -> Endured:
    client = await reach(address)

    async def execute(workflow: str, **given: Any) -> tuple[Any, int]:
        asked = {"tenant": "endurance", **given}
        started = await client.start_workflow(workflow, asked, id=f"endurance:{workflow}", task_queue=TASK_QUEUE)
        result = await started.result()
        return result, (await started.describe()).history_length

    looks, rows = [], []
    for number, most in enumerate(runs, 1):
        before = time.perf_counter()
        _, events = await execute("Pipeline", pipeline="endurance", parameters={"rows": most})
        looks.append(watch.look(time.perf_counter() - before, events))
        if number % share == 0:
            rows.append(watch.rows())
            collected, _ = await execute("Gc", keep_days=0)
            watch.look()  # so that what this took counts for no run
            medians = {name: round(_median(looks[-share:], measure), 3) for name, measure in MEASURES.items()}
            print(f"{number} runs: {medians}, {rows[-1]}, {len(collected['removed'])} versions removed", flush=True)
    await execute("Gc", keep_days=0, keep_publishes=1)
    rows.append(watch.rows())
    await asyncio.sleep(2)  # until the file is closed
    return Endured(looks, watch.look(), rows)


def table_of(first: Sequence[Look], last: Sequence[Look], left: Look, fresh: Look) -> Table:
    """Medians of the first and of the last runs, and what is left beside a fresh build."""
    shown = Table(title="the last runs beside the first, and what is left beside a fresh build", title_justify="left")
    for head in ("", "first", "last", "last / first", "wanted", "after gc", "fresh", "after / fresh", "wanted"):
        shown.add_column(head, justify="right" if head else "left")
    for name, measure in MEASURES.items():
        one, other = (_median(some, measure) for some in (first, last))
        wanted, sizes = "", ("", "", "", "")
        if name in SIZES:
            mine, theirs = measure(left), measure(fresh)
            sizes = (f"{mine:.2f}", f"{theirs:.2f}", *_wanted(mine, theirs, WANTED_SIZE))
        elif name not in OF_TEMPORAL:
            _, wanted = _wanted(other, one, WANTED)
        shown.add_row(name, f"{one:.2f}", f"{other:.2f}", _ratio(other, one), wanted, *sizes)
    return shown


def table_of_rows(endured: Endured, fresh: Endured) -> Table:
    """The catalog's rows when garbage was collected first and last, and afterwards, beside those of a fresh build."""
    shown = Table(title="rows of the catalog", title_justify="left")
    for head in ("", "first", "last", "after gc", "fresh"):
        shown.add_column(head, justify="right" if head else "left")
    for table in endured.rows[0]:
        each = (endured.rows[0], endured.rows[-2], endured.rows[-1], fresh.rows[-1])
        shown.add_row(table, *(f"{rows[table]:,}" for rows in each))
    return shown


def _median(looks: Sequence[Look], measure: Callable[[Look], float]) -> float:
    return statistics.median(map(measure, looks))


def _ratio(one: float, other: float) -> str:
    return f"{one / other:.2f}" if other else ""


def _wanted(one: float, other: float, most: float) -> tuple[str, str]:
    return _ratio(one, other), f"≤ {most:g} {'✓' if one <= most * other else '✗'}"


def main(arguments: list[str] | None = None) -> None:
    """Prints one table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.endurance", description=__doc__)
    parser.add_argument("--runs", type=int, default=1000)
    runs = parser.parse_args(arguments).runs
    share = max(1, min(100, runs // 3))
    folders = [Path(tempfile.mkdtemp(prefix="entrepot-endurance-")) for _ in range(2)]
    try:
        endured = endure(folders[0], [ROWS * number for number in range(1, runs + 1)], share)
        fresh = endure(folders[1], [ROWS * runs], 1)
    finally:
        for folder in folders:
            shutil.rmtree(folder)
    console = Console(width=140)
    console.print(table_of(endured.looks[:share], endured.looks[-share:], endured.left, fresh.left))
    console.print(table_of_rows(endured, fresh))


if __name__ == "__main__":
    main()

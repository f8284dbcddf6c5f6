"""Many small runs, one after another: does a run take longer, and does anything grow, the longer a worker lives?

Each run appends some rows to a table and computes another from it; server and worker are up from the first to the last.
As a schedule would, garbage is collected in between. The last hundred runs are held against the first hundred, and what
is left after the last collection against a fresh build of the same rows.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.chain import serving
from entrepot.worker.client import TASK_QUEUE, reach

ROWS = 20
"""Of each run."""
WANTED, WANTED_SIZE = 1.1, 1.3
STATE = ".entrepot"

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
class Look:
    """What there is after a run."""

    seconds: float
    worker: float
    """Resident memory of the worker and of its own processes, in MB."""
    warehouse: float
    """The DuckDB file, in MB."""
    lake: float
    """In MB."""
    files: float
    """In the lake."""


MEASURES: Mapping[str, Callable[[Look], float]] = {
    "seconds a run": lambda look: look.seconds,
    "worker, MB": lambda look: look.worker,
    "DuckDB file, MB": lambda look: look.warehouse,
    "lake, MB": lambda look: look.lake,
    "files in the lake": lambda look: look.files,
}
SIZES = tuple(MEASURES)[2:]


def write_pipeline(folder: Path) -> None:
    """A project that `entrepot dev` finds."""
    (folder / "endurance_pipeline.py").write_text(PIPELINE)
    (folder / "tenants.toml").write_text(TENANTS)


def look(folder: Path, seconds: float) -> Look:
    """At what a project's state takes up now."""
    state = folder / STATE
    files = [file.stat().st_size for file in (state / "lake").rglob("*") if file.is_file()]
    warehouse = sum(file.stat().st_size for file in state.glob("warehouse.duckdb*"))
    return Look(seconds, _memory(state), warehouse / 1e6, sum(files) / 1e6, len(files))


def _memory(state: Path) -> float:
    """Of the process that serves and of all that it has started, but for Temporal's server."""
    serving, *others = (int(pid) for pid in (state / "lock").read_text().split())
    parents = {int(each.name): _parent(each) for each in Path("/proc").iterdir() if each.name.isdigit()}
    ours = {serving}
    while more := {pid for pid, parent in parents.items() if parent in ours} - ours - set(others):
        ours |= more
    return sum(_resident(pid) for pid in ours)


def _parent(process: Path) -> int:
    try:
        return int((process / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:  # it has ended meanwhile
        return 0


def _resident(pid: int) -> float:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def endure(folder: Path, runs: Sequence[int], share: int) -> tuple[list[Look], Look]:
    """Makes these runs, each with so many rows in the source, and collects after each `share` of them. What there was
    after each run, and after the last collection."""
    write_pipeline(folder)
    with serving(folder) as environment:
        return asyncio.run(_endure(folder, environment["TEMPORAL_ADDRESS"], runs, share))


async def _endure(folder: Path, address: str, runs: Sequence[int], share: int) -> tuple[list[Look], Look]:
    client = await reach(address)

    async def execute(workflow: str, **given: Any) -> Any:
        asked = {"tenant": "endurance", **given}
        return await client.execute_workflow(workflow, asked, id=f"endurance:{workflow}", task_queue=TASK_QUEUE)

    looks = []
    for number, rows in enumerate(runs, 1):
        before = time.perf_counter()
        await execute("Pipeline", pipeline="endurance", parameters={"rows": rows})
        looks.append(look(folder, time.perf_counter() - before))
        if number % share == 0:
            collected = await execute("Gc", keep_days=0)
            print(
                f"{number} runs: {json.dumps(vars(looks[-1]))}, {len(collected['removed'])} versions removed",
                flush=True,
            )
    await execute("Gc", keep_days=0, keep_publishes=1)
    await asyncio.sleep(2)  # until the file is closed
    return looks, look(folder, 0)


def table_of(first: Sequence[Look], last: Sequence[Look], left: Look, fresh: Look) -> Table:
    """Medians of the first and of the last runs, and what is left beside a fresh build."""
    shown = Table(title="the last runs beside the first, and what is left beside a fresh build", title_justify="left")
    for head in ("", "first", "last", "last / first", "wanted", "after gc", "fresh", "after / fresh", "wanted"):
        shown.add_column(head, justify="right" if head else "left")
    for name, measure in MEASURES.items():
        one, other = (statistics.median(map(measure, some)) for some in (first, last))
        time_or_memory = name not in SIZES
        wanted = _wanted(other / one, WANTED) if time_or_memory else ("", "")
        sizes = ("", "", "", "")
        if not time_or_memory:
            mine, theirs = measure(left), measure(fresh)
            sizes = (f"{mine:.2f}", f"{theirs:.2f}", *_wanted(mine / theirs, WANTED_SIZE))
        ratio = f"{other / one:.2f}"
        shown.add_row(name, f"{one:.2f}", f"{other:.2f}", ratio, wanted[1], *sizes)
    return shown


def _wanted(ratio: float, most: float) -> tuple[str, str]:
    return f"{ratio:.2f}", f"≤ {most:g} {'✓' if ratio <= most else '✗'}"


def main(arguments: list[str] | None = None) -> None:
    """Prints one table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.endurance", description=__doc__)
    parser.add_argument("--runs", type=int, default=1000)
    runs = parser.parse_args(arguments).runs
    share = max(1, min(100, runs // 3))
    folders = [Path(tempfile.mkdtemp(prefix="entrepot-endurance-")) for _ in range(2)]
    try:
        looks, left = endure(folders[0], [ROWS * number for number in range(1, runs + 1)], share)
        _, fresh = endure(folders[1], [ROWS * runs], 1)
    finally:
        for folder in folders:
            shutil.rmtree(folder)
    Console(width=140).print(table_of(looks[:share], looks[-share:], left, fresh))


if __name__ == "__main__":
    main()

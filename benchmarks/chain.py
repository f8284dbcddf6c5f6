"""Many trivial transforms on DuckDB: a first run, a run with nothing new, and one after one transform changed.

Ours is `entrepot run` as a whole process, with server and worker up, as they are in production; the peers have no
server, so theirs is the whole tool. What each does when nothing is new differs: dbt compares code alone, Dagster and
Hamilton compute everything again, SQLMesh and Entrepot look at the state of the tables; Entrepot also asks whether the
source has changed. Beside these stands a run after the first layer was written otherwise and gives the same rows,
which has to stop there.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import duckdb

from benchmarks.peers import install, projects
from benchmarks.timing import Row, table, timed
from entrepot.worker.local.dev import free_port

VENVS = Path(tempfile.gettempdir()) / "entrepot-peers"
"""Where the peers are installed, unless somebody has them elsewhere."""
TASKS = ("first run", "nothing new", "one changed")
SAME, UNUSED, USED = "same rows", "unused column", "used column"
"""Ours alone: the first layer, written otherwise, gives the same rows; a column of one of its tables is new, which
nobody uses; another one, which others use, has other values."""
FIRST = "t_0_0"
MORE = {
    SAME: (".filter(lambda made: made.id > -1)",),
    UNUSED: ("", ".mutate(unused=1)"),
    USED: ("", ".mutate(unused=1, x=lambda made: made.x + 1)"),
}
"""What the first layer does besides."""
OURS = "entrepot"
PEERS = {
    "duckdb": projects.write_duckdb,
    "hamilton": projects.write_hamilton,
    "dbt": projects.write_dbt,
    "sqlmesh": projects.write_sqlmesh,
    "dagster": projects.write_dagster,
}
WANTED = {
    ("first run", "dbt", 100): 0.5,
    ("first run", "sqlmesh", 100): 0.5,
    ("nothing new", "dbt", 100): 0.3,
    ("nothing new", "sqlmesh", 100): 0.3,
    ("first run", "sqlmesh", 1000): 0.3,
}


def write_entrepot(folder: Path, shape: projects.Shape, more: str = "", of_first: str = "") -> None:
    """The same graph as a pipeline module.

    Args:
        more: What the first layer's transforms do besides.
        of_first: What the first of them does besides.
    """
    lines = [
        "from entrepot import Files, Pipeline, Table",
        "",
        'bench = Pipeline("bench")',
        "",
        "@bench.ingest",
        "def source():",
        f'    return Files("{projects.SOURCE}")',
    ]
    for each in shape.transforms():
        reads = each.parents or ("source",)
        lines += ["", "@bench.transform", f"def {each.name}({', '.join(f'{r}: Table' for r in reads)}) -> Table:"]
        if each.parents:
            a, b = each.parents
            lines.append(
                f'    return {a}.join({b}, "id").select({a}.id, x={a}.x + {b}.x * {each.constant}, grp={a}.grp)'
            )
        else:
            its = more + (of_first if each.name == FIRST else "")
            lines.append(f"    return source.select(source.id, x=source.x * {each.constant}, grp=source.grp){its}")
    (folder / "bench.py").write_text("\n".join(lines) + "\n")
    (folder / "tenants.toml").write_text(
        '[pipelines]\nbench = "bench:bench"\n\n'
        '[tenants.bench]\nbackend = { type = "duckdb", path = "warehouse.duckdb" }\npipelines = ["bench"]\n'
    )


@contextmanager
def serving(folder: Path, variables: Mapping[str, str] = {}) -> Iterator[dict[str, str]]:
    """Server and worker for a project, with more variables in their environment; gives that in which commands find
    them."""
    port, ui_port = free_port(), free_port()
    arguments = [entrepot_command(), "dev", "--port", str(port), "--ui-port", str(ui_port)]
    with open(folder / "dev.log", "wb") as log:
        process = subprocess.Popen(arguments, cwd=folder, env={**os.environ, **variables}, stdout=log, stderr=log)
    environment = {"TEMPORAL_ADDRESS": f"127.0.0.1:{port}"}
    try:
        while "Ctrl-C" not in (said := (folder / "dev.log").read_text()):
            if process.poll() is not None:
                raise RuntimeError(f"server and worker did not start:\n{said[-4000:]}")
            time.sleep(0.2)
        time.sleep(5)  # a worker that has been up for a while has imported what it needs
        yield environment
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()


def ours(folder: Path, layers: int, width: int) -> dict[str, float]:
    """Seconds by task, with the results held against what they must be."""
    projects.write_duckdb(folder, layers, width)  # for the source
    shape = projects.Shape(layers, width)
    write_entrepot(folder, shape)
    seconds = {}
    with serving(folder) as environment:
        for task in (*TASKS, SAME, UNUSED, USED):
            if task != "nothing new":
                shape = projects.Shape(layers, width, changes=int(task in ("one changed", *MORE)))
                write_entrepot(folder, shape, *MORE.get(task, ()))
            run = timed([entrepot_command(), "run", "bench", "--json"], folder, environment)
            seconds[task] = run.seconds
            _check(json.loads(run.output), task, shape)
        write_entrepot(folder, shape)  # what is held against the others' is there already
        timed([entrepot_command(), "run", "bench"], folder, environment)
    return seconds


def _check(summary: dict[str, object], task: str, shape: projects.Shape) -> None:
    steps = summary["steps"]
    assert isinstance(steps, list)
    made = {step["name"] for step in steps if step["kind"] == "transform"}
    every = {t.name for t in shape.transforms()}
    first = {t.name for t in shape.transforms() if not t.parents}
    expected = {
        "first run": every,
        "nothing new": set(),
        "one changed": _descendants(shape, f"t_{shape.layers // 2}_0"),
        SAME: first,
        UNUSED: {FIRST},
        USED: _descendants(shape, FIRST),
    }[task]
    if made != expected:
        raise RuntimeError(f"{task}: {len(made)} transforms were computed, and {len(expected)} should have been")


def _descendants(shape: projects.Shape, changed: str) -> set[str]:
    found = {changed}
    for each in shape.transforms():
        if found & set(each.parents):
            found.add(each.name)
    return found


def total(folder: Path, shape: projects.Shape) -> float:
    """The sum over the last layer, through the published views."""
    with duckdb.connect(str(folder / ".entrepot" / "warehouse.duckdb"), read_only=True) as connection:
        tables = " union all ".join(f"select x from bench.{name}" for name in shape.last())
        row = connection.execute(f"select sum(x) from ({tables})").fetchone()
    assert row is not None
    return float(row[0])


def peers(peer: str, venv: Path, folder: Path, layers: int, width: int) -> dict[str, float]:
    """A peer's seconds by task."""
    PEERS[peer](folder, layers, width)
    seconds = {}
    for task in TASKS:
        if task == "one changed":
            projects.change_one(peer, folder)
        command = projects.command(peer, venv, folder)
        before = time.perf_counter()
        done = command.run()
        seconds[task] = time.perf_counter() - before
        if done.returncode != 0:
            raise RuntimeError(f"{peer} failed with {done.returncode}:\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}")
        projects.after_run(peer, folder)
    return seconds


def entrepot_command() -> str:
    """The command of this environment."""
    return os.path.join(os.path.dirname(sys.executable), "entrepot")


def main(arguments: list[str] | None = None) -> None:
    """Prints one table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chain", description=__doc__)
    parser.add_argument("--layers", type=int, default=10)
    parser.add_argument("--width", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", nargs="*", default=list(PEERS), choices=list(PEERS))
    parser.add_argument("--venvs", type=Path, default=VENVS)
    options = parser.parse_args(arguments)
    layers, width = options.layers, options.width
    venvs = {peer: install.ready(peer, options.venvs) for peer in options.peers}
    seconds: dict[tuple[str, str], list[float]] = {}
    for number in range(options.rounds):
        sums = {}
        for name in (OURS, *options.peers):
            folder = Path(tempfile.mkdtemp(prefix=f"entrepot-{name}-"))
            found = ours(folder, layers, width) if name == OURS else peers(name, venvs[name], folder, layers, width)
            shape = projects.Shape(layers, width, changes=1)
            sums[name] = total(folder, shape) if name == OURS else projects.result(name, venvs[name], folder)[1]
            shutil.rmtree(folder)
            for task, each in found.items():
                seconds.setdefault((task, name), []).append(each)
            print(f"round {number + 1}, {name}: " + ", ".join(f"{t} {s:.2f} s" for t, s in found.items()), flush=True)
        if not all(math.isclose(each, sums[OURS]) for each in sums.values()):
            raise RuntimeError(f"the contenders do not agree: {sums}")
    rows = []
    for task in TASKS:
        mine = Row(OURS, task, seconds[task, OURS], None)
        rows.append(mine)
        for peer in options.peers:
            rows.append(Row(peer, task, seconds[task, peer], mine.median, WANTED.get((task, peer, layers * width))))
    rows += [Row(OURS, task, seconds[task, OURS], None) for task in MORE]
    table(f"{layers * width:,} transforms ({layers} layers of {width}), 1,000 rows each; every contender agrees", rows)


if __name__ == "__main__":
    main()

"""Environments of many transforms on DuckDB: one that shows what `prod` shows, and the promotion of one in which all
transforms were changed and computed.

Ours is `entrepot env create` and `entrepot env promote` as whole processes, with server and worker up. SQLMesh's is its
plan for `dev` with nothing changed, and its plan for `prod` after everything was changed and applied in `dev`: a
virtual update. Both move pointers and views, and compute nothing; SQLMesh also loads and compares its models, as each
of its commands does, and needs no server.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import duckdb

from benchmarks import chain
from benchmarks.peers import install, projects
from benchmarks.timing import Row, table, timed

CREATE, PROMOTE = "create", "promote"
OURS, SQLMESH = "entrepot", "sqlmesh"
WANTED_SECONDS = {CREATE: 5.0, PROMOTE: 2.0}
"""For 1,000 transforms."""


def ours(folder: Path, layers: int, width: int) -> dict[str, float]:
    """Seconds by task, with what is shown held against what was computed."""
    projects.write_duckdb(folder, layers, width)  # for the source
    shape = projects.Shape(layers, width)
    chain.write_entrepot(folder, shape)
    entrepot = chain.entrepot_command()
    with chain.serving(folder) as environment:
        timed([entrepot, "run", "bench"], folder, environment)
        create = timed([entrepot, "env", "create", "dev"], folder, environment).seconds
        changed = replace(shape, changes_of_all=1)
        chain.write_entrepot(folder, changed)
        timed([entrepot, "run", "bench", "--environment", "dev"], folder, environment)
        promote = timed([entrepot, "env", "promote", "dev", "prod", "--pipeline", "bench"], folder, environment).seconds
    with duckdb.connect(str(folder / ".entrepot" / "warehouse.duckdb"), read_only=True) as connection:
        shown = connection.execute(
            "SELECT table_schema, count(*) FROM information_schema.tables WHERE table_type = 'VIEW' "
            "AND table_schema IN ('bench', 'bench__dev') GROUP BY 1 ORDER BY 1"
        ).fetchall()
    if shown != [(schema, layers * width + 1) for schema in ("bench", "bench__dev")]:
        raise RuntimeError(f"the environments show {shown}")
    return {CREATE: create, PROMOTE: promote}


def sqlmesh(venv: Path, folder: Path, layers: int, width: int) -> dict[str, float]:
    """SQLMesh's seconds by task."""
    projects.write_sqlmesh(folder, layers, width)
    applying = projects.command(SQLMESH, venv, folder)
    program, plan, *options = applying.arguments

    def seconds(*more: str) -> float:
        before = time.perf_counter()
        done = replace(applying, arguments=[program, plan, *more, *options]).run()
        if done.returncode != 0:
            raise RuntimeError(f"sqlmesh failed with {done.returncode}:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
        return time.perf_counter() - before

    seconds()
    create = seconds("dev", "--include-unmodified")
    projects.change_all(SQLMESH, folder)
    seconds("dev")
    return {CREATE: create, PROMOTE: seconds()}


def main(arguments: list[str] | None = None) -> None:
    """Prints one table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.environments", description=__doc__)
    parser.add_argument("--layers", type=int, default=10)
    parser.add_argument("--width", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--peers", nargs="*", default=[SQLMESH], choices=[SQLMESH])
    parser.add_argument("--venvs", type=Path, default=chain.VENVS)
    options = parser.parse_args(arguments)
    layers, width = options.layers, options.width
    venvs = {peer: install.ready(peer, options.venvs) for peer in options.peers}
    seconds: dict[tuple[str, str], list[float]] = {}
    for number in range(options.rounds):
        for name in (OURS, *options.peers):
            folder = Path(tempfile.mkdtemp(prefix=f"entrepot-{name}-"))
            found = ours(folder, layers, width) if name == OURS else sqlmesh(venvs[name], folder, layers, width)
            shutil.rmtree(folder)
            for task, each in found.items():
                seconds.setdefault((task, name), []).append(each)
            print(f"round {number + 1}, {name}: " + ", ".join(f"{t} {s:.2f} s" for t, s in found.items()), flush=True)
    rows = []
    for task in WANTED_SECONDS:
        mine = Row(OURS, task, seconds[task, OURS], None)
        rows += [mine, *(Row(peer, task, seconds[task, peer], mine.median) for peer in options.peers)]
    table(f"an environment of {layers * width:,} transforms on DuckDB", rows)
    if layers * width == 1000:
        for task, wanted in WANTED_SECONDS.items():
            median = statistics.median(seconds[task, OURS])
            print(f"{task}: {median:.2f} s, wanted under {wanted:g} s: {'✓' if median < wanted else '✗'}")


if __name__ == "__main__":
    main()

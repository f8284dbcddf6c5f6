"""Time the peers: ``python -m benchmarks.peers.measure VENVS SCRATCH [peer ...] --layers 10 --width 10``.

Each run is a whole process, timed from outside: the first on an empty folder, then with nothing new, then after one
transform of the middle layer has changed. Every peer must leave every table and come to the same sum.
"""

from __future__ import annotations

import argparse
import math
import shutil
import time
from pathlib import Path

from benchmarks.peers import projects

WRITERS = {
    "duckdb": projects.write_duckdb,
    "hamilton": projects.write_hamilton,
    "dbt": projects.write_dbt,
    "sqlmesh": projects.write_sqlmesh,
    "dagster": projects.write_dagster,
}


def time_run(peer: str, venv: Path, folder: Path) -> float:
    """Run a project once and give the seconds it took."""
    command = projects.command(peer, venv, folder)
    started = time.perf_counter()
    done = command.run()
    seconds = time.perf_counter() - started
    if done.returncode != 0:
        raise RuntimeError(f"{peer} failed with {done.returncode}:\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}")
    projects.after_run(peer, folder)
    return seconds


def main(arguments: list[str] | None = None) -> None:
    """Measure the peers named, or all of them, and print their seconds."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers.measure", description=__doc__)
    parser.add_argument("venvs", type=Path, help="where benchmarks.peers.install put the virtual environments")
    parser.add_argument("scratch", type=Path, help="where the projects go; each is made afresh")
    parser.add_argument("peers", nargs="*", metavar="peer", help=f"which peers: {', '.join(WRITERS)} (default: all)")
    parser.add_argument("--layers", type=int, default=10)
    parser.add_argument("--width", type=int, default=10)
    options = parser.parse_args(arguments)
    expected: dict[str, float] = {}
    for peer in options.peers or WRITERS:
        venv, folder = options.venvs / peer, options.scratch / f"{peer}-{options.layers}x{options.width}"
        shutil.rmtree(folder, ignore_errors=True)
        WRITERS[peer](folder, options.layers, options.width)
        for run in ("first", "nothing new", "one changed"):
            if run == "one changed":
                projects.change_one(peer, folder)
            seconds = time_run(peer, venv, folder)
            tables, total = projects.result(peer, venv, folder)
            if tables != options.layers * options.width or not math.isclose(total, expected.setdefault(run, total)):
                raise RuntimeError(f"{peer}, {run}: {tables} tables with the sum {total}, not {expected[run]}")
            print(f"{peer:10} {run:12} {seconds:7.2f} s  {tables} tables, sum {total:.6f}", flush=True)


if __name__ == "__main__":
    main()

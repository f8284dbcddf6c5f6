"""Starting: how long `entrepot --help` takes, and which heavy modules it imports (there should be none)."""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from pathlib import Path

from benchmarks import chain
from benchmarks.peers import install
from benchmarks.timing import Row, table, timed

WANTED_SECONDS = 0.3
HEAVY = (
    *("altair", "databricks", "dlt", "duckdb", "google.cloud.bigquery", "ibis", "numpy", "onnx", "orbital", "pandas"),
    *("pandera", "polars", "pyarrow", "scipy", "skl2onnx", "sklearn", "skops", "snowflake", "sqlglot", "temporalio"),
)
"""Warehouse clients, data frames, machine learning, ibis and Temporal: what no help text needs."""
PEERS = ("dbt", "sqlmesh")
_TASK = "--help"


def imported(verbose: str) -> set[str]:
    """The modules that a process imported, from what `python -X importtime` printed."""
    lines = (line for line in verbose.splitlines() if line.startswith("import time:"))
    return {line.rpartition("|")[2].strip() for line in lines}


def heavy(modules: set[str]) -> list[str]:
    """Those of `HEAVY` that are among some modules."""
    return [name for name in HEAVY if any(each == name or each.startswith(name + ".") for each in modules)]


def main(arguments: list[str] | None = None) -> None:
    """Prints one table, and the heavy modules."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.startup", description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--peers", nargs="*", default=list(PEERS), choices=PEERS)
    parser.add_argument("--venvs", type=Path, default=chain.VENVS)
    options = parser.parse_args(arguments)
    entrepot = os.path.join(os.path.dirname(sys.executable), "entrepot")
    programs = {chain.OURS: entrepot}
    programs |= {peer: str(install.ready(peer, options.venvs).resolve() / "bin" / peer) for peer in options.peers}
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    with tempfile.TemporaryDirectory(prefix="entrepot-startup-") as folder:
        for _ in range(options.rounds):
            for name, program in programs.items():
                seconds[name].append(timed([program, _TASK], Path(folder), {"DO_NOT_TRACK": "1"}).seconds)
        found = heavy(imported(timed([sys.executable, "-X", "importtime", entrepot, _TASK], Path(folder)).output))
    mine = Row(chain.OURS, _TASK, seconds[chain.OURS], None)
    others = [Row(name, _TASK, each, mine.median) for name, each in seconds.items() if name != chain.OURS]
    table(f"{_TASK}, whole processes, {options.rounds} of each in turn", [mine, *others])
    median = statistics.median(seconds[chain.OURS])
    print(f"{median:.2f} s, wanted under {WANTED_SECONDS:g} s: {'✓' if median < WANTED_SECONDS else '✗'}")
    print(f"heavy modules imported: {', '.join(found) or 'none'}")


if __name__ == "__main__":
    main()

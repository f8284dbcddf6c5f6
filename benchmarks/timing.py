"""Timing whole processes, and the table in which a benchmark ends."""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Timed:
    """A process that ended well: seconds from outside, peak memory of it and its children, and what it said."""

    seconds: float
    peak_bytes: int
    output: str


def timed(arguments: Sequence[str], folder: Path, environment: dict[str, str] | None = None) -> Timed:
    """Runs a process to its end.

    Raises:
        RuntimeError: if it fails, with what it said.
    """
    before = time.perf_counter()
    with subprocess.Popen(
        arguments,
        cwd=folder,
        env={**os.environ, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - before
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise RuntimeError(f"{' '.join(arguments)} failed with {process.returncode}:\n{output[-4000:]}")
    return Timed(seconds, usage.ru_maxrss * 1024, output)


def finish(said: str) -> NoReturn:
    """Ends a contender's process as `entrepot` ends: at once, without unloading native libraries one by one."""
    print(said, flush=True)
    os._exit(0)


@dataclass(frozen=True)
class Row:
    """One contender's median in one task, and our median as a share of it."""

    name: str
    task: str
    seconds: Sequence[float]
    ours: float | None
    wanted: float | None = None

    @property
    def median(self) -> float:
        """The middle of the rounds."""
        return statistics.median(self.seconds)

    @property
    def ratio(self) -> float | None:
        """Ours divided by this; below 1 we are faster."""
        return self.ours / self.median if self.ours is not None else None


def table(title: str, rows: Sequence[Row]) -> None:
    """Prints medians, spreads and ratios."""
    shown = Table(title=title, title_justify="left")
    for head in ("task", "contender", "median s", "min-max s", "ours / this", "wanted"):
        shown.add_column(head, justify="left" if head in ("task", "contender") else "right")
    for row in rows:
        wanted = "" if row.wanted is None else f"≤ {row.wanted:g} {'✓' if (row.ratio or 0) <= row.wanted else '✗'}"
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        spread = f"{min(row.seconds):.2f}-{max(row.seconds):.2f}"
        shown.add_row(row.task, row.name, f"{row.median:.2f}", spread, ratio, wanted)
    Console(width=120).print(shown)

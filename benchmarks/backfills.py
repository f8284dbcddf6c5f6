"""The past, on DuckDB: a table of 10,000 hours, computed for the first time in batches of a week; and 100 days of a
source, loaded again.

Ours are `entrepot run` and `entrepot backfill` as whole processes, with server and worker up. Beside the batches stands
the same table as a whole; beside the backfill a run that loads all 100 days at once. Ours have the work of a run, or of
100 loads and a run, more to do: the share says what that costs.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import duckdb

from benchmarks.chain import entrepot_command, serving
from benchmarks.timing import Row, table, timed

HOURS, A_BATCH, DAYS = 10_000, 168, 100
BATCHES, WHOLE, BACKFILL, AT_ONCE = "in batches", "as a whole", "day by day", "at once"
WANTED = 100.0
"""Intervals a second."""
PIPELINE = f"""
import datetime
import dlt
from entrepot import ByInterval, Files, Pipeline, Table

bench = Pipeline("bench")


@bench.ingest
def hours():
    return Files("hours.parquet")


@bench.transform(incremental=ByInterval("hour", every="hour", batch={A_BATCH}))
def batches(hours: Table) -> Table:
    return hours.group_by(hour=hours.at.truncate("h")).agg(n=hours.count(), total=hours.amount.sum())


@bench.transform
def whole(hours: Table) -> Table:
    return hours.group_by(hour=hours.at.truncate("h")).agg(n=hours.count(), total=hours.amount.sum())


@bench.ingest
def days():
    @dlt.resource(name="days", write_disposition="append")
    def read(at=dlt.sources.incremental("at", initial_value="2025-01-01")):
        first = datetime.date(2025, 1, 1)
        for n in range({DAYS}):
            day = (first + datetime.timedelta(n)).isoformat()
            if day >= at.last_value and (at.end_value is None or day < at.end_value):
                yield [{{"at": day, "n": n}} for n in range(100)]

    return read
"""
TENANTS = """
[pipelines]
bench = "bench:bench"

[tenants.bench]
backend = { type = "duckdb", path = "warehouse.duckdb" }
"""


def write(folder: Path) -> None:
    """The project, and the rows of its files: twenty an hour."""
    (folder / "bench.py").write_text(PIPELINE)
    (folder / "tenants.toml").write_text(TENANTS)
    rows = f"select timestamp '2020-01-01' + to_seconds(i * 180) as at, i % 7 as amount from range({20 * HOURS}) t(i)"
    with duckdb.connect() as connection:
        connection.execute(f"copy ({rows}) to '{folder / 'hours.parquet'}' (format parquet)")


def seconds_of(folder: Path) -> dict[tuple[str, str], float]:
    """One round: seconds by task and contender."""

    def ran(*arguments: str) -> tuple[float, dict[str, object]]:
        done = timed([entrepot_command(), *arguments, "--json"], folder, environment)
        return done.seconds, json.loads(done.output)

    found = {}
    with serving(folder) as environment:
        ran("run", "bench", "--select", "hours")
        for name, contender in (("whole", WHOLE), ("batches", BATCHES)):
            found["first computation", contender], summary = ran("run", "bench", "--select", name)
            assert summary["outcome"] == "published"
        ran("run", "bench", "--select", "days")
        once = ("--backfill", "2025-01-01..2026-01-01")
        found["loaded again", AT_ONCE], _ = ran("run", "bench", "--select", "days", *once)
        ended = ran("backfill", "bench", "2025-01-01..2025-04-11", "--select", "days", "--at-once", "8")
        found["loaded again", BACKFILL] = ended[0]
        assert ended[1]["done"] == DAYS
    with duckdb.connect(str(folder / ".entrepot" / "warehouse.duckdb"), read_only=True) as connection:
        differing = "select * from bench.batches except select * from bench.whole"
        assert connection.execute(differing).fetchall() == []
        assert connection.execute("select count(*), sum(n) from bench.batches").fetchall() == [(HOURS, 20 * HOURS)]
        assert connection.execute(
            'select count(*), count(distinct (days."at", days.n)) from bench.days'
        ).fetchall() == [(10_000,) * 2]
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints one table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.backfills", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(arguments)
    seconds: dict[tuple[str, str], list[float]] = {}
    for _ in range(options.rounds):
        folder = Path(tempfile.mkdtemp(prefix="entrepot-backfills-"))
        write(folder)
        for key, each in seconds_of(folder).items():
            seconds.setdefault(key, []).append(each)
        shutil.rmtree(folder)
    rows = []
    for task, ours, other in (("first computation", BATCHES, WHOLE), ("loaded again", BACKFILL, AT_ONCE)):
        mine = Row(ours, task, seconds[task, ours], None)
        rows += [mine, Row(other, task, seconds[task, other], mine.median)]
    title = f"{HOURS:,} hours in batches of {A_BATCH}; {DAYS} days, 8 at once; all agree"
    table(title, rows)
    rate = HOURS / rows[0].median
    print(f"{rate:,.0f} intervals a second in batches, wanted {WANTED:.0f} {'✓' if rate >= WANTED else '✗'}")
    print(f"{DAYS / rows[2].median:.1f} intervals a second from a source in Python")


if __name__ == "__main__":
    main()

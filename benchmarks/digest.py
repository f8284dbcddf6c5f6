"""The digest of a table in DuckDB, beside `count(*)` and a `sum` of each column: 10 columns, a table in a file.

Dates and timestamps have no sum: there it is that of their number of seconds or microseconds. The statistics that
DuckDB keeps of its tables are asked first, as a backend does, and their time counts. A table with text is shown too:
the MD5 of each cell is most of its time. Peak memory is that of a process that computes the digest and nothing else,
with DuckDB's cache of the file held to 256 MB.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import duckdb
import ibis
from rich.console import Console
from rich.table import Table

from benchmarks.timing import Row, finish, table, timed
from entrepot.backends.duckdb.digest import FORMULAS
from entrepot.backends.sql.digest import Column, narrowed, query, statistics
from entrepot.identity.table_digest import Digest, kind, of_batches

OURS, SUMS = "digest", "count and sums"
NUMBERS = """
    i::bigint as id, (random() * 1e6)::integer as amount, (random() * 1e15)::bigint - 500000000000000 as account,
    random() as share, random() * 1e6 - 5e5 as balance, (random() * 1000)::decimal(10, 2)::double as price,
    (random() * 1e6)::decimal(18, 2) as total, (random() * 1e4)::decimal(9, 4) as rate,
    timestamp '2020-01-01' + to_microseconds((random() * 1e14)::bigint) as seen,
    date '2000-01-01' + (random() * 9000)::integer as born
"""
TEXTS = "i as id, 'customer ' || i as name, 'city ' || (random() * 1000)::integer as city"
TABLES = {"numbers": NUMBERS, "texts": TEXTS}
WANTED = {"numbers": 4.0}
MEMORY = ("2.5", "10", "40")
"""Millions of rows."""


def make(file: Path, rows: int) -> None:
    """Writes both tables."""
    with duckdb.connect(str(file)) as connection:
        connection.execute("select setseed(0.5)")
        for name, columns in TABLES.items():
            connection.execute(f"create table {name} as select {columns} from range({rows}) r(i)")


def opened(file: Path) -> duckdb.DuckDBPyConnection:
    """The tables, with two threads."""
    return duckdb.connect(str(file), read_only=True, config={"threads": 2})


def columns_of(connection: duckdb.DuckDBPyConnection, name: str) -> dict[str, Column]:
    """The columns of a table, each as the kind of its type."""
    schema = ibis.duckdb.from_connection(connection).table(name).schema()
    return {column: Column(column, dtype, kind(dtype)) for column, dtype in schema.items()}


def ours(connection: duckdb.DuckDBPyConnection, name: str, columns: dict[str, Column]) -> Digest:
    """The digest as the backend computes it."""
    found = connection.execute(statistics(name, columns)).fetchall()[0]
    count, *sums = connection.execute(query(FORMULAS, name, narrowed(columns, found))).fetchall()[0]
    return Digest(count, tuple(sums), {column: each.kind for column, each in columns.items()})


def sums(connection: duckdb.DuckDBPyConnection, name: str, columns: dict[str, Column]) -> None:
    """What the digest is held against; of text, the sum of its length."""
    summed = []
    for column, each in columns.items():
        function = {"timestamp": "epoch_us", "date": "epoch", "string": "strlen"}.get(each.kind.name, "")
        summed.append(f"sum({function}({column}))")
    connection.execute(f"select count(*), {', '.join(summed)} from {name}").fetchall()


def measure(file: Path, name: str, rounds: int) -> dict[str, list[float]]:
    """Seconds by contender, who take turns; a first round is not counted."""
    seconds: dict[str, list[float]] = {SUMS: [], OURS: []}
    with opened(file) as connection:
        columns = columns_of(connection, name)
        for number in range(rounds + 1):
            for contender, run in ((SUMS, sums), (OURS, ours)):
                before = time.perf_counter()
                run(connection, name, columns)
                if number:
                    seconds[contender].append(time.perf_counter() - before)
    return seconds


def check(file: Path) -> None:
    """Holds the digest against the reference on Arrow batches.

    Raises:
        RuntimeError: if they differ.
    """
    with opened(file) as connection:
        for name in TABLES:
            columns = columns_of(connection, name)
            batches = connection.sql(f"from {name}").to_arrow_reader(100_000)
            if of_batches(batches, {column: each.kind for column, each in columns.items()}) != ours(
                connection, name, columns
            ):
                raise RuntimeError(f"the digest of {name} in DuckDB is not that of its batches")


def peak(file: Path, rows: int) -> int:
    """Bytes of a process that computes the digest of so many rows of numbers.

    Another writes them: a process counts what its parent had when it began.
    """
    this = [sys.executable, "-m", "benchmarks.digest", "--rows", str(rows)]
    folder = Path(__file__).parents[1]
    timed([*this, "--make", str(file)], folder)
    found = timed([*this, "--only", str(file)], folder).peak_bytes
    file.unlink()
    return found


def main(arguments: list[str] | None = None) -> None:
    """Prints one table of times, and one of memory."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.digest", description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--memory", nargs="*", default=MEMORY, metavar="MILLIONS")
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--only", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.make:
        make(options.make, options.rows)
        finish("made")
    if options.only:
        with opened(options.only) as connection:
            connection.execute("set memory_limit = '256MB'")
            finish(ours(connection, "numbers", columns_of(connection, "numbers")).hex)
    with tempfile.TemporaryDirectory(prefix="entrepot-digest-") as folder:
        file = Path(folder) / "tables.duckdb"
        shown = Table("rows", "peak MB", title="Memory of a process that computes the digest", title_justify="left")
        for millions in options.memory:
            shown.add_row(f"{millions} million", f"{peak(file, int(float(millions) * 1e6)) / 1e6:,.0f}")
        make(file, 200_000)
        check(file)
        file.unlink()
        make(file, options.rows)
        rows = []
        for name in TABLES:
            seconds = measure(file, name, options.rounds)
            mine = Row(OURS, name, seconds[OURS], None)
            rows += [mine, Row(SUMS, name, seconds[SUMS], mine.median, WANTED.get(name))]
        table(f"{options.rows:,} rows; DuckDB {duckdb.__version__}, 2 threads; agrees with the reference", rows)
        if options.memory:
            Console(width=120).print(shown)


if __name__ == "__main__":
    main()

"""dlt alone, as its documentation has it, into a DuckDB file: run with the Python of the peer's environment."""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Iterator
from typing import Any

import dlt
import pyarrow.parquet


def parquet(path: str) -> Any:
    """Arrow batches of a Parquet file."""

    @dlt.resource(name="rows")
    def rows() -> Iterator[Any]:
        yield from pyarrow.parquet.ParquetFile(path).iter_batches(batch_size=1_000_000)

    return rows


def dicts(count: str) -> Any:
    """Flat rows as dicts."""

    @dlt.resource(name="rows")
    def rows() -> Iterator[dict[str, Any]]:
        for n in range(int(count)):
            yield {"id": n, "a": n * 2, "b": n / 3, "c": f"text {n}", "d": n % 2 == 0, "e": n % 7, "f": f"{n % 100}",
                   "g": n * 0.5, "h": "2026-01-01", "i": -n}  # fmt: skip

    return rows


def events(*paths: str) -> Any:
    """Nested documents, one a line of packed files."""

    @dlt.resource(name="rows")
    def rows() -> Iterator[dict[str, Any]]:
        for path in paths:
            with gzip.open(path, "rt") as lines:
                yield from map(json.loads, lines)

    return rows


def postgres(url: str) -> Any:
    """A table by the Arrow backend of `sql_database`."""
    from dlt.sources.sql_database import sql_table

    driver = url.replace("postgresql://", "postgresql+psycopg://")
    return sql_table(credentials=driver, table="rows", backend="pyarrow", chunk_size=100_000)


def main() -> None:
    """`dlt_loads.py TASK ARGUMENT ...` in the folder where the file goes."""
    task, *arguments = sys.argv[1:]
    source = {"parquet": parquet, "dicts": dicts, "events": events, "postgres": postgres}[task](*arguments)
    target = dlt.destinations.duckdb("dlt_alone.duckdb")
    pipeline = dlt.pipeline("theirs", destination=target, dataset_name="theirs", pipelines_dir="dlt")
    pipeline.run(source, loader_file_format="parquet")
    with pipeline.sql_client() as client:
        print((client.execute_sql("SELECT count(*) FROM rows") or [[0]])[0][0])


if __name__ == "__main__":
    main()

"""Ingests of many pieces: what each is asked for is written down, so that what is asked for twice can be counted."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.parquet

from entrepot import Files, Pipeline, PostgresTable
from tests.crash.pipeline import SOURCE
from tests.crash.worker import HERE

ROWS = 10_000
FILES = 10
CHUNK_ROWS = 1_000
"""Of a dlt resource, between two checkpoints."""
ITEM_ROWS = 50
"""What the dlt resource yields at a time."""
ASKED = "asked.jsonl"
TABLE = "crash_rows"
"""In PostgreSQL."""

long = Pipeline("long", description="What takes many pieces, from each kind of source")


@long.ingest
def copied() -> Files:
    """Parquet, each file taken as it is."""
    return Files(f"{HERE}/{SOURCE}/*.parquet")


@long.ingest
def appended() -> Files:
    """Parquet, in batches."""
    return Files(f"{HERE}/{SOURCE}/*.parquet", disposition="append")


@long.ingest
def lines() -> Files:
    return Files(f"{HERE}/{SOURCE}/*.csv")


@long.ingest
def events() -> Any:
    """A dlt resource that begins where its cursor stands."""
    import dlt

    cursor = dlt.sources.incremental("id", initial_value=0, row_order="asc")

    @dlt.resource(name="events", write_disposition="append", primary_key="id")
    def read(at: Any = cursor) -> Iterator[Any]:
        for start in range(at.last_value, ROWS, ITEM_ROWS):
            rows = [_row(number) for number in range(start, min(start + ITEM_ROWS, ROWS))]
            _note(len(rows))
            yield rows

    return read


@long.ingest
def rows() -> PostgresTable:
    return PostgresTable(f"file:{HERE}/{SOURCE}/url", TABLE, cursor="id")


def bring(folder: Path, url: str) -> None:
    """Makes all sources. `url`: of the PostgreSQL server."""
    source = folder / SOURCE
    source.mkdir()
    for number in range(FILES):
        table = pa.Table.from_pylist([_row(n) for n in range(number * ROWS // FILES, (number + 1) * ROWS // FILES)])
        pyarrow.parquet.write_table(table, source / f"{number}.parquet", row_group_size=ROWS // FILES // 2)
        text = "".join(f"{row['id']},{row['name']}\n" for row in table.to_pylist())
        (source / f"{number}.csv").write_text(f"id,name\n{text}")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"DROP TABLE IF EXISTS {TABLE}")
        connection.execute(f"CREATE TABLE {TABLE} (id bigint PRIMARY KEY, name text NOT NULL)")
        insert = f"INSERT INTO {TABLE} SELECT n, 'the name of row ' || n FROM generate_series(0, {ROWS - 1}) AS n"
        connection.execute(insert)
    (source / "url").write_text(url)


def _row(number: int) -> dict[str, Any]:
    return {"id": number, "name": f"the name of row {number}"}


def install() -> None:
    """Makes pieces small, and what reads rows from files and databases tell of them."""
    from entrepot.activities.ingest.sources.dlt import chunks
    from entrepot.activities.ingest.sources.files import csv, parquet
    from entrepot.activities.ingest.sources.postgres import client

    parquet.BATCH_ROWS = ROWS // FILES // 2
    client.BATCH_BYTES = 32_000
    chunks.CHUNK_ROWS = CHUNK_ROWS
    of_file: Callable[[Any], int] = lambda path: pyarrow.parquet.read_metadata(path).num_rows if path else 0  # noqa: E731
    parquet.copied = _telling(parquet.copied, of_file)
    csv.CsvReader.part = _telling(csv.CsvReader.part, lambda part: part.rows)  # type: ignore[method-assign]
    parquet.batches = _telling_each(parquet.batches)
    client.Database.read = _telling_each(client.Database.read)  # type: ignore[method-assign]


def _telling(function: Callable[..., Any], rows: Callable[[Any], int]) -> Callable[..., Any]:
    @functools.wraps(function)
    def told(*given: Any) -> Any:
        made = function(*given)
        _note(rows(made))
        return made

    return told


def _telling_each(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def told(*given: Any) -> Iterator[Any]:
        for batch in function(*given):
            _note(batch.num_rows)
            yield batch

    return told


def _note(rows: int) -> None:
    with open(ASKED, "a") as asked:
        asked.write(json.dumps([os.getpid(), rows]) + "\n")


def asked(folder: Path) -> list[list[int]]:
    """How many rows each worker, one after the other, has got from its source, piece by piece."""
    found: dict[int, list[int]] = {}
    for line in (folder / ASKED).read_text().splitlines():
        worker, count = json.loads(line)
        found.setdefault(worker, []).append(count)
    return list(found.values())

"""local-bigquery's engine, with what it lacks put right: bytes processed, limits of cost, cancelling, loading, reading.

Everything is done by replacing a function of local-bigquery with one that wraps it, in `correct()`, so that what is
changed can be read in one place.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import duckdb
import pyarrow as pa
import sizes
from faults import Faults
from google.cloud.bigquery_storage_v1 import types as storage
from local_bigquery import errors
from local_bigquery.api import jobs as jobs_api
from local_bigquery.catalog import names
from local_bigquery.engine import types as engine_types
from local_bigquery.engine.database import quote
from local_bigquery.grpc import read
from local_bigquery.jobs import load, query, runner
from sqlglot import exp

CANCEL_SECONDS = 10
MESSAGE_BYTES = 2 * 1024 * 1024
NO_DATASET = re.compile(r'Schema "(?P<dataset>[^"]+)" not found in DuckLakeCatalog "(?P<project>[^"]+)"')


def correct(faults: Faults) -> None:
    """Puts the corrections in place. To be called once, before anything runs."""
    # No status is documented for it; the client makes one of its own from a job's error.
    errors.STATUSES["bytesBilledLimitExceeded"] = (500, "INTERNAL")
    query._statement = with_bytes(query._statement)
    jobs_api.results = results_with_bytes(jobs_api.results)
    runner.submit = with_faults(runner.submit, faults)
    runner.cancel = cancel
    load._projection = with_bytes_columns(load._projection)
    # Each stream reads the table from its begin to find its place, so there should be few.
    read.STREAM_ROWS = 1_000_000
    read.read_rows = in_small_messages(read.read_rows)


def with_bytes(original: Any) -> Any:
    """Says how much a statement processes, before (dry run) and after it runs, and holds it to its limit."""

    def statement(
        cursor: Any, tree: exp.Expression, context: Any, destination: Any, config: Any, dry_run: bool, isolated: bool
    ) -> Any:
        def run(dry: bool) -> tuple[Any, int]:
            try:
                statistics = original(cursor, tree, context, destination, config, dry, isolated)
            except errors.BigQueryError as error:
                if found := NO_DATASET.search(error.message):
                    name = f"{found['project']}:{found['dataset']} was not found in location US"
                    raise errors.not_found("Dataset", name) from error
                raise
            return statistics, sizes.processed(cursor, tree, sources(tree, context))

        limit = int(config.maximumBytesBilled or 0)
        if limit and not dry_run and isinstance(tree, exp.Query | exp.Create | exp.Insert):
            _, number = run(dry=True)
            if sizes.billed(number) > limit:
                text = f"Query exceeded limit for bytes billed: {limit}. {sizes.billed(number)} or higher required."
                raise errors.BigQueryError("bytesBilledLimitExceeded", text)
        if isinstance(tree, exp.Create | exp.Alter) and not dry_run:
            # The same name from two threads at once: BigQuery does one after the other, and DuckLake fails one.
            with alone(made(tree, context)):
                statistics, number = run(dry=False)
        else:
            statistics, number = run(dry_run)
        return statistics.replace(totalBytesProcessed=str(number), totalBytesBilled=str(sizes.billed(number)))

    return statement


_making: defaultdict[tuple[str, ...], threading.Lock] = defaultdict(threading.Lock)


@contextmanager
def alone(name: tuple[str, ...]) -> Iterator[None]:
    """Others wait. Not local-bigquery's own lock for a table: it takes that itself for the rows of a CREATE ... AS."""
    with _making[name]:
        yield


def made(tree: exp.Expression, context: Any) -> tuple[str, ...]:
    """The table that there is after a statement; of a renaming, under its new name."""
    target: tuple[str, ...] = query._target(tree, context)
    renaming = tree.find(exp.AlterRename)
    return (*target[:-1], renaming.this.name) if renaming else target


def sources(tree: exp.Expression, context: Any) -> set[sizes.Reference]:
    """What a statement reads: the tables that it names, but for the one that it makes or adds to."""
    if isinstance(tree, exp.Drop | exp.Alter) or (isinstance(tree, exp.Create) and tree.kind == "VIEW"):
        return set()
    read: set[sizes.Reference] = set(context.referenced)
    if isinstance(tree, exp.Create | exp.Insert):
        inner = tree.expression.find_all(exp.Table) if tree.expression else ()
        target = query._target(tree, context)
        if target not in {names.reference(table, context.project_id, context.dataset_id or "") for table in inner}:
            read.discard(target)
    return read


def results_with_bytes(original: Any) -> Any:
    """The rows' answer says the bytes too."""

    def results(job: Any, *arguments: Any) -> Any:
        payload, rows = original(job, *arguments)
        if payload.get("jobComplete") and job.statistics.query:
            payload["totalBytesProcessed"] = job.statistics.query.totalBytesProcessed or "0"
        return payload, rows

    return results


def with_faults(original: Any, faults: Faults) -> Any:
    """A job that a fault waits for is refused."""

    def submit(project: str, job: str, configuration: Any, upload: str | None = None) -> Any:
        faults.check(json.dumps(configuration.dump(), default=str))
        return original(project, job, configuration, upload)

    return submit


def cancel(project: str, job: str) -> Any:
    """Interrupts until the job ends: an interrupt before DuckDB has begun with the statement is lost."""
    runner.get(project, job)  # says if there is none
    if running := runner._running.get((project, job)):
        running.cancelled = True
        end = time.monotonic() + CANCEL_SECONDS
        while (project, job) in runner._running and time.monotonic() < end:
            with suppress(duckdb.ConnectionException):  # it has ended, and closed its connection
                if running.cursor is not None:
                    running.cursor.interrupt()
            time.sleep(0.02)
    return runner.get(project, job)


def with_bytes_columns(original: Any) -> Any:
    """Parquet has bytes as they are. local-bigquery decodes them from base64, as JSON and CSV have them."""

    def projection(config: Any, fields: list[Any], columns: list[str]) -> tuple[str, str]:
        if not fields or config.hivePartitioningOptions or (config.sourceFormat or "CSV") in load.TEXT_FORMATS:
            return original(config, fields, columns)
        casts = [f"CAST({quote(f.name)} AS {engine_types.duckdb_type(f)}) AS {quote(f.name)}" for f in fields]
        return ", ".join(casts), "false"

    return projection


def in_small_messages(original: Any) -> Any:
    """Rows in messages that gRPC takes without being told to take larger ones, as BigQuery sends them."""

    def read_rows(request: Any) -> Iterator[Any]:
        for response in original(request):
            content = response.arrow_record_batch.serialized_record_batch
            if len(content) <= MESSAGE_BYTES:
                yield response
                continue
            schema = pa.ipc.read_schema(pa.py_buffer(response.arrow_schema.serialized_schema))
            batch = pa.ipc.read_record_batch(pa.py_buffer(content), schema)
            rows = max(1, batch.num_rows * MESSAGE_BYTES // len(content))
            for start in range(0, batch.num_rows, rows):
                piece = batch.slice(start, rows)
                yield storage.ReadRowsResponse(
                    row_count=piece.num_rows,
                    stats=response.stats,
                    arrow_schema=response.arrow_schema,
                    arrow_record_batch=storage.ArrowRecordBatch(serialized_record_batch=piece.serialize().to_pybytes()),
                )

    return read_rows

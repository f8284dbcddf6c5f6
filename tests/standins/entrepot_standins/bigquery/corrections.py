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
from local_bigquery.catalog import names, tables
from local_bigquery.engine import database
from local_bigquery.engine import types as engine_types
from local_bigquery.engine.database import quote
from local_bigquery.grpc import read
from local_bigquery.jobs import load, query, runner
from local_bigquery.sql import rules
from local_bigquery.sql.rules import strings
from local_bigquery.sql.rules.typing import kind
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
    database.objects = objects
    tables.columns = columns
    query.execute = with_one_decoding(without_temporary_tables(query.execute))
    rules.NODE_RULES.remove(strings.string_escapes)
    rules.NODE_RULES += [whole_length, parts_of_a_second, sum_of_integers, product_of_decimals]
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


# What there is
#
# DuckDB's own lists of tables and columns know no shortcut: they read everything of every database, and after each
# change DuckLake's anew. With a few hundred tables that takes most of a second.


def objects(project: str, dataset: str, table: str | None = None) -> list[tuple[str, str, int]]:
    """Tables and views of a dataset, or one of them: name, kind, rows."""
    if project == "emulator":  # results of queries, which are asked for one by one
        try:
            ((number,),) = database.fetch(f"SELECT count(*) FROM {quote(project, dataset, table or '')}")
        except duckdb.CatalogException:
            return []
        return [(table or "", "TABLE", number)]
    if project not in database._attached:
        return []
    lake = quote(f"__ducklake_metadata_{project}")
    in_dataset = (
        f"JOIN {lake}.ducklake_schema USING (schema_id) WHERE schema_name = $1 AND ducklake_schema.end_snapshot IS NULL"
    )
    return database.fetch(
        f"SELECT table_name, 'TABLE', coalesce(record_count, 0) FROM {lake}.ducklake_table t "
        f"LEFT JOIN {lake}.ducklake_table_stats USING (table_id) {in_dataset} "
        "AND t.end_snapshot IS NULL AND table_name = coalesce($2, table_name) "
        f"UNION ALL SELECT view_name, 'VIEW', 0 FROM {lake}.ducklake_view v {in_dataset} "
        "AND v.end_snapshot IS NULL AND view_name = coalesce($2, view_name) ORDER BY 1",
        [dataset, table],
    )


def columns(project: str, dataset: str, table: str) -> list[Any]:
    """The columns of a table, as the API describes them."""
    name = tables.name(project, dataset, table)
    with database.cursor() as cursor:
        try:
            relation = cursor.sql(f"SELECT * FROM {name} LIMIT 0")
            described = cursor.execute(f"DESCRIBE {name}").fetchall()
        except duckdb.CatalogException:
            raise errors.not_found("Table", names.label(project, dataset, table)) from None
        required = {column[0] for column in described if column[2] == "NO"}
        return [
            engine_types.field(column, kind, column in required)
            for column, kind in zip(relation.columns, relation.types, strict=True)
            if column != tables.INGESTION_TIME or dataset == tables.RESULTS
        ]


class Fresh:
    """A new connection to DuckDB. It has no temporary tables, so nobody needs to look for them."""

    def __init__(self, cursor: Any) -> None:
        self._cursor = cursor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)

    def sql(self, text: str, **options: Any) -> Any:
        if text == "SELECT table_name FROM duckdb_tables() WHERE temporary":
            text = "SELECT '' AS table_name LIMIT 0"
        return self._cursor.sql(text, **options)


def without_temporary_tables(original: Any) -> Any:
    """Looks for temporary tables in sessions alone."""

    def execute(
        cursor: Any, project: str, job: str | None, config: Any, dry_run: bool = False, session: Any = None
    ) -> Any:
        return original(cursor if session else Fresh(cursor), project, job, config, dry_run, session)

    return execute


# Words

ESCAPE = re.compile(
    r"(?<!\\)(?P<before>(?:\\\\)*)\\(?:u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|[xX]([0-9a-fA-F]{2})|([0-7]{3}))"
)
AS_WRITTEN = {"\n": "\\n", "\r": "\\r", "'": "\\'", '"': '\\"', "`": "\\`", "\\": "\\\\"}


def with_one_decoding(original: Any) -> Any:
    """Decodes what a text has by its number before the text is parsed. local-bigquery does so afterwards, when a
    backslash that was written as two looks as if it began such a number.
    """

    def decoded(match: re.Match[str]) -> str:
        _, *sixteen, eight = match.groups()
        number = int(eight, 8) if eight else int(next(filter(None, sixteen)), 16)
        return match["before"] + AS_WRITTEN.get(chr(number), chr(number))

    def execute(cursor: Any, project: str, job: str | None, config: Any, *options: Any, **more: Any) -> Any:
        config = config.replace(query=ESCAPE.sub(decoded, config.query or ""))
        return original(cursor, project, job, config, *options, **more)

    return execute


def whole_length(node: exp.Expression, context: Any) -> exp.Expression:
    """LPAD and RPAD take an INT64, and in DuckDB an INTEGER alone."""
    if isinstance(node, exp.Pad):
        node.set("expression", exp.cast(node.expression, exp.DataType.Type.INT))
    return node


def parts_of_a_second(node: exp.Expression, context: Any) -> exp.Expression:
    """Milliseconds and microseconds are what there is beside the seconds; in DuckDB, the seconds count too."""
    limit = {"MILLISECOND": 1000, "MICROSECOND": 1_000_000}.get(node.name.upper())
    if limit is None or not isinstance(node, exp.Extract):
        return node
    return exp.paren(exp.Mod(this=node, expression=exp.Literal.number(limit)), copy=False)


def sum_of_integers(node: exp.Expression, context: Any) -> exp.Expression:
    """A sum of INT64 is one, or fails; in DuckDB it is larger."""
    if (
        isinstance(node, exp.Sum)
        and kind(node.this) in exp.DataType.INTEGER_TYPES
        and isinstance(node.parent, exp.Select | exp.Alias)
    ):
        return exp.cast(node, exp.DataType.Type.BIGINT, copy=False)
    return node


DECIMALS = {exp.DataType.Type.DECIMAL, exp.DataType.Type.BIGDECIMAL}


def declared(node: exp.Expression) -> exp.DataType.Type | None:
    """BigQuery's type, where `kind` gives DuckDB's once a CAST was translated."""
    node = node.unnest()
    return node.type.this if node.type else None


def product_of_decimals(node: exp.Expression, context: Any) -> exp.Expression:
    """A product of NUMERIC is one, of nine places, and of BIGNUMERIC one. In DuckDB it has the places of both factors,
    and soon none before them."""
    kinds = {declared(factor) for factor in (node.this, node.expression)} if isinstance(node, exp.Mul) else {None}
    if not kinds <= DECIMALS:
        return node
    if exp.DataType.Type.BIGDECIMAL not in kinds:
        return exp.cast(node, "DECIMAL(38, 9)", copy=False)
    product = exp.Anonymous(this="bq.main.product", expressions=[node.this, node.expression])
    product.type = exp.DataType.Type.BIGDECIMAL
    return product


# Functions that take the place of local-bigquery's own.
MACROS = [
    # Of DECIMAL(38, 18), which stands for BIGNUMERIC: the parts before and behind the point, each with each.
    """CREATE OR REPLACE MACRO bq.main.product(a, b) AS CAST(
        CAST(trunc(CAST(a AS DECIMAL(38, 18))) AS DECIMAL(20, 0)) * CAST(b AS DECIMAL(38, 18))
        + CAST(CAST(a AS DECIMAL(38, 18)) - trunc(CAST(a AS DECIMAL(38, 18))) AS DECIMAL(18, 18))
            * CAST(trunc(CAST(b AS DECIMAL(38, 18))) AS DECIMAL(20, 0))
        + CAST(CAST(CAST(a AS DECIMAL(38, 18)) - trunc(CAST(a AS DECIMAL(38, 18))) AS DECIMAL(18, 18))
            * CAST(CAST(b AS DECIMAL(38, 18)) - trunc(CAST(b AS DECIMAL(38, 18))) AS DECIMAL(18, 18))
            AS DECIMAL(38, 18))
        AS DECIMAL(38, 18))""",
    # INSTR of NULL is NULL.
    """CREATE OR REPLACE MACRO bq.main.instr(s, t) AS if(s IS NULL OR t IS NULL, NULL, bq.main._instr(s, t, 1, 1)),
        (s, t, p) AS if(s IS NULL OR t IS NULL OR p IS NULL, NULL, bq.main._instr(s, t, p, 1)),
        (s, t, p, n) AS if(s IS NULL OR t IS NULL OR p IS NULL OR n IS NULL, NULL, bq.main._instr(s, t, p, n))""",
]


# Bytes


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

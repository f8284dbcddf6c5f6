"""BigQuery: schemas are datasets of one project, and every statement is a job.

The worker keeps one client for a backend: the client is safe to share between threads. Jobs carry tenant, run and step
as labels. There are no transactions over tables, so each statement stands alone.
"""

from __future__ import annotations

import contextlib
import datetime
import itertools
import os
import re
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import ibis
import ibis.expr.schema as sch

from entrepot.backends.base import Backend, Capabilities, QueryTag, RelationKind, Session, TableName, Usage
from entrepot.backends.bigquery import types
from entrepot.backends.bigquery.client import CALL_SECONDS, HOST, Clients, connect, retry, translated
from entrepot.backends.bigquery.dialect import CAPABILITIES, DIALECT
from entrepot.backends.dialect import Dialect
from entrepot.backends.settings import Secret, checked
from entrepot.backends.sql.session import SqlSession, StatementResult, relation_kind
from entrepot.errors import BadInput, StepFailed

if TYPE_CHECKING:
    import pyarrow as pa
    from google.cloud.bigquery import LoadJob, QueryJob, Table, TableReference
    from google.cloud.bigquery.table import RowIterator

    Job = TypeVar("Job", QueryJob, LoadJob)

UPLOAD_SECONDS = 600.0
"""How long one piece of a file, of 100 MB at most, may be under way."""

STREAMS = 4
"""Streams that rows are read through at once, and batches that wait: a few MB each."""

STAGING_HOURS = 24
"""A table that is being loaded is removed by BigQuery itself after this time, if its worker died."""

_NOT_IN_LABELS = re.compile(r"[^\w-]")


def job_labels(tag: QueryTag) -> dict[str, str]:
    """A tag as BigQuery takes it: small letters, digits, `-` and `_`, 63 characters at most."""
    return {key: _NOT_IN_LABELS.sub("_", value.lower())[:63] for key, value in asdict(tag).items()}


class BigQuerySession(SqlSession):
    """One piece of work. `usage.bytes` adds up what its queries processed, which is what a dry run tells before."""

    dialect = DIALECT
    capabilities = CAPABILITIES

    def __init__(self, clients: Clients, tag: QueryTag) -> None:
        super().__init__()
        self.usage = Usage(bytes=0)
        self._to = clients
        self._labels = job_labels(tag)
        self._running: QueryJob | LoadJob | None = None
        self._ibis: Any = None

    def _run(self, sql: str) -> StatementResult:
        job, rows = self._query(sql)
        with translated(self._to.where):
            return StatementResult(
                [field.name for field in rows.schema], [row.values() for row in rows], job.num_dml_affected_rows or 0
            )

    def _query(self, sql: str) -> tuple[QueryJob, RowIterator]:
        return self._finished(self._asking(sql))

    def _asking(self, sql: str, **options: Any) -> Callable[[str], QueryJob]:
        """What begins a query, given the job's id."""
        from google.cloud.bigquery import QueryJobConfig

        config = QueryJobConfig(labels=self._labels, **options)
        return lambda job_id: self._to.client.query(
            sql, config, job_id, retry=retry(), timeout=CALL_SECONDS, job_retry=None
        )

    def _finished(self, insert: Callable[[str], Job]) -> tuple[Job, Any]:
        """Begins a job and waits until it is through. Returns it with what it gives."""
        from google.api_core.exceptions import GoogleAPICallError

        since = self.interruption.count
        with self.interruption.heeded(since), translated(self._to.where):
            job = self._inserted(insert)
            self._running = job
            try:
                if self.interruption.count > since:  # it was interrupted before there was a job to cancel
                    self._cancel(job)
                rows = job.result(retry=retry())
            except GoogleAPICallError as error:
                if job.cancelled():
                    raise StepFailed(f"BigQuery: somebody cancelled the job {job.job_id}") from error
                raise
            finally:
                self._running = None
        self._count(getattr(job, "total_bytes_processed", None) or 0)
        return job, rows

    def _inserted(self, insert: Callable[[str], Job]) -> Job:
        """Begins a job. It has an id of its own, so that BigQuery knows an insert that is tried again."""
        from google.api_core.exceptions import Conflict

        job_id = f"entrepot-{uuid.uuid4()}"
        try:
            return insert(job_id)
        except Conflict as error:
            known = re.search(rf"Already Exists: Job [^:]+:(?:([\w-]+)\.)?{job_id}", error.message)
            if known is None:
                raise
            return self._to.client.get_job(job_id, location=known[1], retry=retry(), timeout=CALL_SECONDS)

    def interrupt(self) -> None:
        self.interruption.request(self._cancel_running)

    def _cancel_running(self) -> None:
        """Looks for the job after the interruption is counted: one that begins meanwhile sees the count, and the thread
        that began it cancels it."""
        if (job := self._running) is not None:
            self._cancel(job)

    def _cancel(self, job: QueryJob | LoadJob) -> None:
        with contextlib.suppress(Exception):  # whether it is cancelled is seen where it is waited for
            job.cancel(retry=retry(), timeout=CALL_SECONDS)

    def _arrow(self, sql: str) -> pa.RecordBatchReader:
        import pyarrow as pa

        since = self.interruption.count
        _, rows = self._query(sql)
        with translated(self._to.where):
            if not rows.total_rows:
                return rows.to_arrow(create_bqstorage_client=False).to_reader()
            batches = rows.to_arrow_iterable(self._to.storage, max_queue_size=STREAMS, max_stream_count=STREAMS)
            first = next(batches)

        def every() -> Iterator[pa.RecordBatch]:
            with translated(self._to.where):
                for batch in itertools.chain([first], batches):
                    self.interruption.check(since)
                    yield batch

        return pa.RecordBatchReader.from_batches(first.schema, every())

    def _columns(self, name: TableName) -> list[tuple[str, str]]:
        return [(field.name, types.type_text(field)) for field in self._table(name).schema]

    def _rows(self, name: TableName, answer: StatementResult) -> int:
        return int(self._table(name).num_rows)

    def _table(self, name: TableName) -> Table:
        """What the API knows of a table: no job is needed, and nothing is to pay."""
        with translated(self._to.where):
            return self._to.client.get_table(self._reference(name), retry=retry(), timeout=CALL_SECONDS)

    def _reference(self, name: TableName) -> TableReference:
        from google.cloud.bigquery import DatasetReference

        return DatasetReference(self._to.project, name.schema).table(name.table)

    def relations(self, schema: str) -> dict[str, RelationKind]:
        from google.api_core.exceptions import NotFound
        from google.cloud.bigquery import DatasetReference

        dataset = DatasetReference(self._to.project, schema)
        with translated(self._to.where):
            try:
                found = self._to.client.list_tables(dataset, retry=retry(), timeout=CALL_SECONDS)
                return {table.table_id: relation_kind(table.table_type) for table in found}
            except NotFound:
                return {}

    def create_schema(self, schema: str) -> None:
        self.dialect.check_schema(schema)
        options = f" OPTIONS (location = {self.dialect.literal(self._to.location)})" if self._to.location else ""
        self._run(f"CREATE SCHEMA IF NOT EXISTS {self.dialect.identifier(schema)}{options}")

    def _load_files(self, name: TableName, files: Sequence[str], schema: sch.Schema) -> None:
        definitions = self.dialect.definitions(schema)
        staging = TableName(name.schema, f"load__{uuid.uuid4().hex}")
        try:
            self._stage(staging, files, schema)
            self._name(staging, name, schema, definitions)
        finally:
            with contextlib.suppress(Exception):  # BigQuery removes it in a day
                reference = self._reference(staging)
                self._to.client.delete_table(reference, retry=retry(), timeout=CALL_SECONDS, not_found_ok=True)

    def _stage(self, staging: TableName, files: Sequence[str], schema: sch.Schema) -> None:
        """Loads files into a table that nobody else knows, one load job each."""
        from google.cloud.bigquery import LoadJobConfig, ParquetOptions, Table

        table = Table(self._reference(staging), types.fields(schema, json_as_text=True))
        table.expires = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=STAGING_HOURS)
        with translated(self._to.where):
            self._to.client.create_table(table, retry=retry(), timeout=CALL_SECONDS)
        options = ParquetOptions()
        options.enable_list_inference = True  # without it, a list becomes a struct of lists
        config = LoadJobConfig(
            source_format="PARQUET",
            schema=table.schema,
            create_disposition="CREATE_NEVER",
            write_disposition="WRITE_APPEND",
            column_name_character_map="STRICT",
            labels=self._labels,
        )
        config.parquet_options = options
        with tempfile.TemporaryDirectory(prefix="entrepot-") as folder:
            for path in types.readable(files, schema, folder):
                with open(path, "rb") as file:

                    def insert(job_id: str, file: Any = file, size: int = os.path.getsize(path)) -> LoadJob:
                        return self._to.client.load_table_from_file(
                            file, table, size=size, job_id=job_id, job_config=config, timeout=UPLOAD_SECONDS
                        )

                    self._finished(insert)

    def _name(self, staging: TableName, name: TableName, schema: sch.Schema, definitions: Mapping[str, str]) -> None:
        """Gives a loaded table its name: it is there at once, with all its rows."""
        source = self.dialect.table(staging)
        if texts := [column for column, dtype in schema.items() if dtype.is_json()]:
            # A load job reads no JSON from Parquet. Numbers that have more digits than a FLOAT64 are rounded to one.
            columns = ", ".join(definitions.values())
            parsed = ", ".join(
                f"PARSE_JSON({c}, wide_number_mode => 'round') AS {c}" for c in map(self.dialect.identifier, texts)
            )
            target = self.dialect.table(name)
            self._run(f"CREATE TABLE {target} ({columns}) AS SELECT * REPLACE ({parsed}) FROM {source}")
            return
        self._keep(staging)
        self._run(f"ALTER TABLE {source} RENAME TO {self.dialect.identifier(name.table)}")

    def _keep(self, staging: TableName) -> None:
        from google.cloud.bigquery import Table

        table = Table(self._reference(staging))
        table.expires = None
        with translated(self._to.where):
            self._to.client.update_table(table, ["expires"], retry=retry(), timeout=CALL_SECONDS)

    def estimate(self, expression: ibis.Table) -> int | None:
        # A dry run is through when it is begun, and counts as nothing.
        with self._with_rows(expression) as bound, translated(self._to.where):
            asking = self._asking(self.dialect.compile(bound), dry_run=True, use_query_cache=False)
            return int(self._inserted(asking).total_bytes_processed)

    def table(self, name: TableName, schema: sch.Schema) -> ibis.Table:
        if self._ibis is None:
            from google.cloud.bigquery import QueryJobConfig

            # A client of its own: ibis changes its defaults, and what user code executes carries the labels too.
            client = self._to.make(default_query_job_config=QueryJobConfig(labels=self._labels))
            self._ibis = ibis.bigquery.connect(
                project_id=self._to.project, dataset_id=name.schema, client=client, storage_client=self._to.storage
            )
        table = self._ibis.table(name.table, database=name.schema)
        stored = {column.lower(): column for column in table.columns}
        return table.rename({column: stored[column.lower()] for column in schema})

    def close(self) -> None:
        """Ends what the session alone has."""
        if self._ibis is not None:
            self._ibis.disconnect()

    def engine(self) -> str:
        return "bigquery, which tells no version"

    def changed_at(self, name: TableName) -> str | None:
        table = self._table(name)
        return str(table.modified) if table.table_type == "TABLE" else None

    def bytes_of(self, tables: Iterable[TableName]) -> int:
        return sum(self._table(name).num_bytes or 0 for name in tables)


class BigQuery(Backend):
    """A BigQuery project.

    Settings: `project`; optionally `location` for new datasets and jobs, and `credentials`, a reference to a service
    account's JSON (without it, Google's application default credentials count). `emulator` (URL) and
    `storage_emulator` (`host:port`) reach a local stand-in instead.
    """

    name: ClassVar[str] = "bigquery"
    capabilities: ClassVar[Capabilities] = CAPABILITIES
    dialect: ClassVar[Dialect] = DIALECT

    def __init__(
        self, project: str, location: str | None, credentials: Secret | None, emulator: tuple[str, str] | None
    ) -> None:
        self.project = project
        self.location = location
        self.credentials = credentials
        self.emulator = emulator
        self._lock = threading.Lock()
        self._clients: Clients | None = None

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any], where: str) -> BigQuery:
        known = {"project": str, "location": str, "credentials": Secret, "emulator": str, "storage_emulator": str}
        given = checked(settings, known, ["project"], cls.name, where)
        try:
            import google.cloud.bigquery
            import google.cloud.bigquery_storage  # noqa: F401
        except ImportError as error:
            raise BadInput(f"{where}: the client is not installed: pip install 'entrepot[bigquery]'") from error
        if ("emulator" in given) != ("storage_emulator" in given):
            raise BadInput(f"{where}: `emulator` and `storage_emulator` belong together")
        emulator = (given["emulator"], given["storage_emulator"]) if "emulator" in given else None
        return cls(given["project"], given.get("location"), given.get("credentials"), emulator)

    @contextmanager
    def session(self, tag: QueryTag, opened: Callable[[Session], None] | None = None) -> Iterator[Session]:
        session = BigQuerySession(self._shared(), tag)
        if opened is not None:
            opened(session)
        try:
            yield session
        finally:
            session.close()

    @property
    def place(self) -> str:
        host = f"{self.emulator[0]}, a stand-in" if self.emulator else HOST
        return f"project {self.project}, location {self.location or 'by default'}, host {host}"

    @property
    def database(self) -> str:
        return f"{self.emulator[0] if self.emulator else HOST}/{self.project}"

    def server(self, schema: str) -> dict[str, str]:
        return {"type": "bigquery", "project": self.project, "dataset": schema}

    def close(self) -> None:
        with self._lock:
            clients, self._clients = self._clients, None
        if clients is not None:
            clients.close()

    def _shared(self) -> Clients:
        """The clients that all sessions use; new ones if the secret was changed meanwhile."""
        secret = self.credentials.read() if self.credentials else None
        with self._lock:
            if self._clients is None or self._clients.secret != secret:
                self._clients = connect(self.project, self.location, self.credentials, self.emulator)
            return self._clients

"""Sessions, and the statements that run in them, each in a thread of its own."""

from __future__ import annotations

import threading
import traceback
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

import errors
from databricks.sql.thrift_api.TCLIService import ttypes as t
from engine import CATALOG, SYSTEM, Engine
from names import parts, quoted
from results import Result

# What a client may set for a session, and what Spark calls it.
SETTINGS = {"ansi_mode": "spark.sql.ansi.enabled", "timezone": "spark.sql.session.timeZone"}

# Threads that talk to Java. Each has a thread in Java for as long as it lives, so they are kept and used again.
WORKERS = ThreadPoolExecutor(max_workers=32, thread_name_prefix="statement")
# A cancellation must not wait behind the statements that it is to end.
CANCELLERS = ThreadPoolExecutor(max_workers=2, thread_name_prefix="cancel")


class Session:
    """One client's session: a Spark session with its own catalog, schema, settings and temporary views."""

    def __init__(self, engine: Engine, catalog: str | None, schema: str | None, settings: Mapping[str, str]) -> None:
        self.engine = engine
        self.settings = dict(settings)
        self.spark = engine.spark.newSession()
        engine.activate(self.spark)
        for key, value in settings.items():
            if key.lower() in SETTINGS:
                self.spark.conf.set(SETTINGS[key.lower()], value)
        self.use(catalog or CATALOG, schema or "default")

    def use(self, catalog: str, schema: str) -> None:
        """Sets the current catalog and schema.

        Raises:
            DatabricksError: if there is no such catalog or schema.
        """
        self.exists(catalog, schema)
        self.spark.sql(f"USE {quoted(catalog, schema)}")

    def exists(self, catalog: str, schema: str) -> None:
        """Raises DatabricksError if there is no such catalog, or no such schema in it."""
        self.known(catalog)
        if not self.spark.catalog.databaseExists(quoted(catalog, schema)):
            text = f"The schema {quoted(catalog, schema)} cannot be found."
            raise errors.DatabricksError("SCHEMA_NOT_FOUND", text)

    def known(self, catalog: str) -> None:
        """Raises DatabricksError if there is no such catalog."""
        if catalog.lower() != CATALOG:
            raise errors.no_catalog(catalog)

    @property
    def schema(self) -> str:
        """The current schema."""
        return self.spark.catalog.currentDatabase()

    def full(self, name: str) -> tuple[str, str, str]:
        """The catalog, schema and table that a name means here."""
        found = parts(name)
        return tuple([CATALOG, self.schema, ""][: 3 - len(found)] + found)  # type: ignore[return-value]


class Operation:
    """One statement, from its start until the client closes it."""

    def __init__(self, engine: Engine, session: Session, text: str, work: Callable[[], Result]) -> None:
        self.session = session
        self.text = text
        self.state = t.TOperationState.RUNNING_STATE
        self.result: Result | None = None
        self.error: errors.DatabricksError | None = None
        self.id = uuid.uuid4()
        self._engine = engine
        self._done = threading.Event()
        self._cancelled = False
        self._closed = False
        self._work = work

    @property
    def state_name(self) -> str:
        """Its state, as the protocol names it."""
        return t.TOperationState._VALUES_TO_NAMES[self.state]

    def start(self) -> None:
        """Begins to run it in another thread."""
        WORKERS.submit(self._run)

    def wait(self, seconds: float) -> bool:
        """Waits until it is done, at most so long. Returns whether it is."""
        return self._done.wait(seconds)

    def cancel(self) -> None:
        """Asks Spark to end it. It is cancelled only when it has ended: what is done by then remains done."""
        self._cancelled = True
        CANCELLERS.submit(self._end_jobs)

    def close(self) -> None:
        """Forgets its result, and ends it if it still runs."""
        self._closed = True
        if not self._done.is_set():
            self.cancel()
        elif self.result is not None:
            self.result.close()

    def _end_jobs(self) -> None:
        # A statement may have several jobs, one after another; Spark ends only those that run at the moment.
        while not self._done.wait(0.1):
            self._engine.cancel(str(self.id))

    def _run(self) -> None:
        try:
            if self._cancelled:
                raise errors.DatabricksError("OPERATION_CANCELED", "The operation was cancelled.", "HY008")
            context = self._engine.spark.sparkContext
            context.setJobGroup(str(self.id), self.text[:100], interruptOnCancel=True)
            self._engine.activate(self.session.spark)
            self.result = self._work()
            self.state = t.TOperationState.FINISHED_STATE
        except Exception as error:
            self._fail(error)
        finally:
            self._done.set()
            if self._closed and self.result is not None:
                self.result.close()

    def _fail(self, error: Exception) -> None:
        self.error = errors.translate(error, [CATALOG, SYSTEM])
        if self._cancelled:
            self.state = t.TOperationState.CANCELED_STATE
            return
        self.state = t.TOperationState.ERROR_STATE
        if self.error.name == "INTERNAL_ERROR":
            traceback.print_exception(error)  # into the log: the stand-in has no words for it yet

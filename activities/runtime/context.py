"""What an activity does its work with: sessions that can be interrupted, limits, and errors that name the step."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from entrepot.activities.catalog.catalog import Catalog
from entrepot.activities.catalog.owners import Owner
from entrepot.activities.catalog.version import Version
from entrepot.activities.runtime.hints import hinted
from entrepot.activities.runtime.leases import Leases
from entrepot.activities.runtime.liveness import is_running
from entrepot.activities.runtime.ownership import check_tenant, claim_tenant
from entrepot.activities.runtime.tenant import Limits, Tenant, Tenants
from entrepot.activities.storage import lake_format
from entrepot.backends import QueryTag, Session, TableName
from entrepot.backends.sql.session import Exists
from entrepot.errors import (
    CheckFailed,
    Conflict,
    Contended,
    EntrepotError,
    LimitExceeded,
    StepFailed,
    Unavailable,
)
from entrepot.identity.code import stable_hash
from entrepot.identity.version import version_schema, version_table
from entrepot.language.step import Step
from entrepot.protocol.messages import StepRef, StepResult
from entrepot.tracebacks import author_line, describe, is_transient, message

if TYPE_CHECKING:
    import ibis

T = TypeVar("T")
S = TypeVar("S", bound=Step)

CREATED_MEANWHILE = "made by another run meanwhile"


class ActivityContext:
    """One activity's work: whose it is, and what has to be stopped if it is cancelled."""

    def __init__(
        self,
        tenant: Tenant,
        run: str,
        step: str,
        workflow: str = "",
        told: Callable[[dict[str, int]], None] = lambda rows: None,
    ) -> None:
        self.tenant = tenant
        self.workflow = workflow
        """The id of the workflow whose run it is."""
        self._told = told
        self.tag = QueryTag(tenant.name, run, step)
        self.spent = 0
        """Bytes that the run's steps before have read in the warehouse."""
        self.progress: dict[str, int] = {}
        """How far it has come, such as rows by table; the Web UI shows it while the work is going on."""
        self._to_stop: list[Callable[[], None]] = []
        self._lock = threading.Lock()
        self._stopped = False

    @contextmanager
    def session(self, step: str | None = None, warehouse: str = "") -> Iterator[Session]:
        """A session of one of the tenant's warehouses that is interrupted when the activity is cancelled."""
        tag = QueryTag(self.tag.tenant, self.tag.run, step or self.tag.step)
        tenant = self.tenant.at(warehouse)
        opened = tenant.backend.session(tag, lambda session: self._add(session.interrupt))
        with opened as session:
            session.scratch = self.tenant.catalog_schema
            try:
                check_tenant(tenant, session)
                yield session
            finally:
                self._remove(session.interrupt)

    @contextmanager
    def while_running(self, stop: Callable[[], None]) -> Iterator[None]:
        """While the block runs, this is called when the activity is cancelled. From another thread."""
        self._add(stop)
        try:
            yield
        finally:
            self._remove(stop)

    def report(self, rows: dict[str, int]) -> None:
        """Says how far it has come: rows by table."""
        self.progress = rows
        self._told(rows)

    def catalog(self, session: Session) -> Catalog:
        """The catalog in a session's warehouse."""
        return Catalog(session, self.tenant.catalog_schema)

    def leases(self, session: Session, pipeline: str) -> Leases:
        """The leases of a pipeline in a session's warehouse."""
        return Leases(self.catalog(session).tables, pipeline, is_running)

    def stop(self) -> None:
        """Interrupts every statement that runs, and kills every process. From another thread."""
        with self._lock:
            self._stopped = True
            for stop in self._to_stop:
                stop()

    def check_limits(self, session: Session, expression: ibis.Table) -> None:
        """Holds what computing an expression would read against the tenant's limits.

        Raises:
            LimitExceeded: if it is more.
        """
        limits = self.tenant.limits
        if limits == Limits() or (wanted := session.estimate(expression)) is None:
            return
        if limits.bytes_per_step is not None and wanted > limits.bytes_per_step:
            raise LimitExceeded(
                f"it would read {format_bytes(wanted)}, and the limit of tenant {self.tenant.name!r} for a step is "
                f"{format_bytes(limits.bytes_per_step)}; it was not started"
            )
        so_far = self.spent + (session.usage.bytes or 0)
        if limits.bytes_per_run is not None and so_far + wanted > limits.bytes_per_run:
            raise LimitExceeded(
                f"it would read {format_bytes(wanted)} after the {format_bytes(so_far)} that this run has read, and "
                f"the limit of tenant {self.tenant.name!r} for a run is {format_bytes(limits.bytes_per_run)}; "
                "it was not started"
            )

    def check(self) -> None:
        """Raises if the work was told to stop: for loops in Python, which nobody can interrupt."""
        if self._stopped:
            raise InterruptedError("cancelled")

    def _add(self, stop: Callable[[], None]) -> None:
        with self._lock:
            self._to_stop.append(stop)
        self.check()  # what begins after the stop would not be told of it, and may have to wait for long

    def _remove(self, stop: Callable[[], None]) -> None:
        with self._lock:
            self._to_stop.remove(stop)


def format_bytes(size: int) -> str:
    """Bytes for people, in powers of ten, as warehouses count them; with four digits, as `humanize` cannot."""
    for unit in ("bytes", "KB", "MB", "GB"):
        if size < 1000:
            return f"{size:,.4g} {unit}"
        size /= 1000  # type: ignore[assignment]
    return f"{size:,.4g} TB"


def wait_for_other_runs(work: ActivityContext, attempt: Callable[[], T]) -> T:
    """Does what another run may be doing at the same time; if so, waits for that one and looks again.

    `attempt` begins by looking whether there is anything left to do.

    Raises:
        StepFailed: if a table stands in the way that no run has made: the catalog does not know it.
    """
    in_the_way = 0
    while True:
        try:
            return attempt()
        except Contended as error:
            in_the_way = in_the_way + 1 if isinstance(error, Exists) else 0
            if in_the_way > 2:
                raise StepFailed(f"what is to be made is there, and the catalog does not know it: {error}") from error
            work.check()
            time.sleep(0.5)


Make = Callable[[ActivityContext, Session, S, StepRef, dict[str, Version], dict[str, Any]], StepResult]
"""Makes a step's version, given the versions of what it reads and the values of the pipeline's parameters."""


def create_once(tenants: Tenants, work: ActivityContext, request: StepRef, kind: type[S], make: Make[S]) -> StepResult:
    """Runs what makes one step's version, unless it is there already, or is when another run is through with it."""
    context, work.spent = request.context, request.spent
    pipeline, step, parameters = tenants.step(context, request.step, kind)
    looked_at = hinted(pipeline.graph, step, context, request.versions)
    with looked_at, work.session() as session, attribute_errors(step):

        def attempt() -> StepResult:
            versions = work.catalog(session).pipeline(pipeline.name).versions(request.versions)
            if already_created(versions.get(step.name), request.anew, context.run):
                return StepResult(name=step.name, note=CREATED_MEANWHILE)
            return make(work, session, step, request, versions, parameters)

        made = wait_for_other_runs(work, attempt)
        return made.model_copy(update={"scanned": session.usage.bytes})


def already_created(version: Version | None, anew: Container[str], run: str) -> bool:
    """Whether there is nothing to make any more; what is to be made anew, this run must have made."""
    return version is not None and (version.name not in anew or version.run == run)


def version_table_name(schema: str, name: str, version: str, anew: Container[str], run: str) -> TableName:
    """Where a version's table stands. One that is made anew stands beside the one of before, which is still shown."""
    return TableName(schema, version_table(name, stable_hash([version, run]) if name in anew else version))


def check_planned(identity: str, planned: str | None) -> None:
    """Raises StepFailed if what the code now computes is not what the run's plan named."""
    if planned not in (identity, None):  # a run that was planned by an earlier version of Entrepot names nothing
        raise StepFailed(
            "its code changed after the run was planned; start the run again (what its code reads beside its inputs "
            "counts, too: a file, the date, the environment)"
        )


@contextmanager
def attribute_errors(step: Step) -> Iterator[None]:
    """Failures of a step's code name the step, where it stands, and the line that raised; whatever the code raises.

    What comes out of a process of the step's own names them already.
    """
    where = f"{step.kind} {step.name!r} ({step.at})"
    try:
        yield
    except (InterruptedError, CheckFailed, Conflict):
        raise
    except (StepFailed, Unavailable) as error:
        if message(error).startswith(where):
            raise
        raise type(error)(f"{where}: {describe(error)}") from error
    except BaseException as error:
        line = author_line(error, step.at.file)
        at = f", at {line}" if line and not isinstance(error, EntrepotError) else ""
        passes = is_transient(error)
        if passes is None:
            passes = step.is_source  # a source that raised may answer the next time
        kind = Unavailable if passes else StepFailed
        raise kind(f"{where}: {describe(error)}{at}") from error


class _Stopped(Exception):
    """What a reader in C gets to see of an error in Python: nothing that it could make something else of."""


@contextmanager
def keep_python_errors(items: Iterable[T]) -> Iterator[Iterator[T]]:
    """Hands items to a reader in C, and raises what went wrong in Python as it was, not as the reader tells it."""
    raised: list[BaseException] = []

    def watched() -> Iterator[T]:
        iterator = iter(items)
        while True:
            try:
                item = next(iterator)
            except StopIteration:
                return
            except BaseException as error:
                raised.append(error)
                raise _Stopped from None
            yield item

    try:
        yield watched()
    except Exception:
        if not raised:
            raise
    for error in raised:  # a reader may also take it for the end
        context = error.__context__
        try:
            raise error
        finally:
            error.__context__ = context  # and not what the reader made of it


def begin(work: ActivityContext, pipeline: str) -> None:
    """Opens the lease of a run, which is of this activity: from here on, nothing that it may need is collected.

    Each attempt has a session of its own: it may wait for another process's collection, which wants the DuckDB file.
    """

    def attempt() -> None:
        with work.session() as session:
            work.leases(session, pipeline).begin(work.tag.run, work.workflow)

    wait_for_other_runs(work, attempt)


def ensure_schemas(work: ActivityContext, pipeline: str, warehouse: str = "", environment: str | None = None) -> None:
    """Makes the catalog and the schema of versions where they are missing, and an environment's row to publish to."""
    with work.session(warehouse=warehouse) as session:  # which is refused, where the lake is another tenant's
        lake_format.ensure(work.tenant.lake_path(lake_format.MARKER))
        catalog = work.catalog(session)
        catalog.ensure()
        claim_tenant(work.tenant.at(warehouse), session)
        schema = version_schema(work.tenant.settings(pipeline).schema)
        catalog.places.claim_versions(Owner(work.tenant.name, pipeline), schema)
        if environment is not None:
            catalog.pipeline(pipeline).environment(environment).create()
        session.create_schema(schema)

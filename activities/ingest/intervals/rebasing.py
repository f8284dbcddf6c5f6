"""Loads of several intervals, side by side: what was read of one stays as good when another was loaded meanwhile, where
rows are appended. It is then added to that one, and not read anew.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from entrepot.activities.catalog.catalog import PipelineCatalog
from entrepot.activities.catalog.growing_table import GrowingTable, InInterval
from entrepot.activities.catalog.ingest_state import IngestState, load_id, overtaken
from entrepot.activities.ingest import manifest
from entrepot.activities.ingest.manifest import Manifest
from entrepot.activities.ingest.sources.stream import IntervalFilter
from entrepot.activities.runtime.context import ActivityContext
from entrepot.backends import Session
from entrepot.backends.base import count
from entrepot.identity.expression import schema_from
from entrepot.language.interval import Interval
from entrepot.protocol.messages import Context, Load, TableLoad

_TURNS: defaultdict[tuple[str, str, str], threading.Lock] = defaultdict(threading.Lock)
_PATIENCE_SECONDS = 0.5


@contextmanager
def turn(work: ActivityContext, context: Context) -> Iterator[None]:
    """The loads of one environment in this process, one after another: at once they would refuse each other."""
    lock = _TURNS[context.tenant, str(context.pipeline), context.environment]
    while not lock.acquire(timeout=_PATIENCE_SECONDS):
        work.check()
    try:
        yield
    finally:
        lock.release()


def rebased(
    work: ActivityContext, session: Session, catalog: PipelineCatalog, context: Context, load: Load, last: IngestState
) -> Load:
    """A load of an interval, as one that follows another state than when it was read.

    Raises:
        Conflict: if it does not go with what was loaded meanwhile: it has other columns, replaced everything, or
            brought rows of the interval, which would be lost.
    """
    hashes = {name: its.manifest for name, its in catalog.versions(last.tables).items()}
    tenant, pipeline = work.tenant, str(context.pipeline)
    made: dict[str, TableLoad] = {}
    for table, its in load.tables.items():
        read = manifest.read(tenant, pipeline, table, its.version, its.manifest)
        newest = last.tables.get(table)
        if read.adds_to is None or newest is None:
            raise overtaken(load.step, context.environment, last.run)
        before = manifest.read(tenant, pipeline, table, read.adds_to)
        now = manifest.read(tenant, pipeline, table, newest, hashes.get(table))
        if _columns(before) != _columns(now):
            raise overtaken(load.step, context.environment, last.run)
        if load.state != last.watermarks and _number(session, catalog, read, newest) != _number(
            session, catalog, read, read.adds_to
        ):
            raise overtaken(load.step, context.environment, last.run)
        added = read.model_copy(update={"adds_to": newest, "path": "", "sha256": ""})
        added = added.model_copy(update={"version": added.described})
        written = manifest.write(tenant, pipeline, added)
        made[table] = TableLoad(version=added.version, rows=its.rows, bytes=its.bytes, manifest=written)
    known = {table: version for table, version in last.tables.items() if table not in made}
    versions = {**known, **{table: its.version for table, its in made.items()}}
    return load.model_copy(
        update={
            "id": load_id(load.step, last.load, versions, last.watermarks),
            "after": last.sequence,
            "tables": made,
            "known": known,
            "fingerprint": last.fingerprint,
            "state": last.watermarks,
        }
    )


def _number(session: Session, catalog: PipelineCatalog, read: Manifest, version: str) -> int | None:
    """How many rows a version has of the range that was read; None: that cannot be told."""
    its = catalog.versions({read.table: version}).get(read.table)
    if its is None or not isinstance(read.hints.replaces, IntervalFilter):
        return None
    rows = GrowingTable(its.all_segments).rows(schema_from(its.inferred))
    its_range = Interval(read.hints.replaces.start, read.hints.replaces.end)
    return count(session, rows.filter(InInterval(column=read.hints.replaces.column, interval=its_range).holds(rows)))


def _columns(its: Manifest) -> tuple[object, ...]:
    """What of an earlier version decides how rows are added to it."""
    return its.shape, its.wide, its.hints.disposition, its.hints.key

"""Loads of intervals beside other loads: what was read of one stays as good when another was loaded meanwhile, where
rows are appended. It is then added to that one, and not read anew. So is what a run has read meanwhile.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping
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

_TURNS: defaultdict[tuple[str, ...], threading.Lock] = defaultdict(threading.Lock)
_PATIENCE_SECONDS = 0.5


@contextmanager
def turn(work: ActivityContext, context: Context, step: str) -> Iterator[None]:
    """The loads of a step for one environment in this process, one after another: at once they would refuse each
    other."""
    lock = _TURNS[context.tenant, str(context.pipeline), context.environment, step]
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
    adding = _Adding(work, catalog, context, load, last)
    for read, newest in adding.tables():
        if load.state != last.watermarks and _number(session, catalog, read, newest) != _number(
            session, catalog, read, str(read.adds_to)
        ):
            raise adding.overtaken
    return adding.load(fingerprint=last.fingerprint, watermarks=last.watermarks)


def behind_intervals(
    work: ActivityContext, session: Session, catalog: PipelineCatalog, context: Context, load: Load, last: IngestState
) -> tuple[Load, Passed]:
    """The load of a run, as one that follows intervals of a backfill which were loaded while it was read; and which
    those were. No row that it brought may be of one of them, which `are_apart` tells when it is there.

    Raises:
        Conflict: if something else was loaded meanwhile, or the order counts: it does where rows are not appended.
    """
    adding = _Adding(work, catalog, context, load, last)
    base = catalog.environment(context.environment).earlier_ingest_state(load.step, load.after)
    if base is None or base.watermarks != last.watermarks:  # a run has loaded, which intervals leave as they were
        raise adding.overtaken
    passed: dict[str, tuple[IntervalFilter, ...]] = {}
    for read, newest in adding.tables():
        if read.hints.disposition != "append" or read.hints.replaces is not None:
            raise adding.overtaken
        intervals, version = [], newest
        while version != read.adds_to:
            its = manifest.read(work.tenant, str(context.pipeline), read.table, version)
            if its.adds_to is None or not isinstance(its.hints.replaces, IntervalFilter):
                raise adding.overtaken
            intervals.append(its.hints.replaces)
            version = its.adds_to
        passed[read.table] = tuple(intervals)
    return adding.load(fingerprint=load.fingerprint, watermarks=load.state), passed


Passed = Mapping[str, tuple[IntervalFilter, ...]]
"""Tables, and the intervals that were loaded of each."""


def are_apart(session: Session, catalog: PipelineCatalog, versions: Mapping[str, str], passed: Passed) -> bool:
    """Whether nothing that these versions have brought is of intervals that were loaded before."""
    found = catalog.versions({table: versions[table] for table in passed})
    for name, its in found.items():
        rows = GrowingTable(its.all_segments[-1:]).rows(schema_from(its.inferred))
        if any(count(session, rows.filter(_within(each).holds(rows))) for each in passed[name]):
            return False
    return True


class _Adding:
    """A load whose tables are added to those of another state than when it was read."""

    def __init__(
        self, work: ActivityContext, catalog: PipelineCatalog, context: Context, load: Load, last: IngestState
    ) -> None:
        self.overtaken = overtaken(load.step, context.environment, last.run)
        self._tenant, self._pipeline = work.tenant, str(context.pipeline)
        self._load, self._last = load, last
        self._hashes = {name: its.manifest for name, its in catalog.versions(last.tables).items()}
        self._made: dict[str, TableLoad] = {}

    def tables(self) -> Iterator[tuple[Manifest, str]]:
        """What was read for each table, and the version that it is added to now.

        Raises:
            Conflict: if that has other columns, or stands for itself.
        """
        for table, its in self._load.tables.items():
            read = manifest.read(self._tenant, self._pipeline, table, its.version, its.manifest)
            newest = self._last.tables.get(table)
            if read.adds_to is None or newest is None:
                raise self.overtaken
            before = manifest.read(self._tenant, self._pipeline, table, read.adds_to)
            now = manifest.read(self._tenant, self._pipeline, table, newest, self._hashes.get(table))
            if _columns(before) != _columns(now):
                raise self.overtaken
            yield read, newest
            added = read.model_copy(update={"adds_to": newest, "path": "", "sha256": ""})
            added = added.model_copy(update={"version": added.described})
            written = manifest.write(self._tenant, self._pipeline, added)
            self._made[table] = TableLoad(version=added.version, rows=its.rows, bytes=its.bytes, manifest=written)

    def load(self, *, fingerprint: str | None, watermarks: str | None) -> Load:
        """The load, with all of its tables."""
        known = {table: version for table, version in self._last.tables.items() if table not in self._made}
        versions = {**known, **{table: its.version for table, its in self._made.items()}}
        return self._load.model_copy(
            update={
                "id": load_id(self._load.step, self._last.load, versions, watermarks),
                "after": self._last.sequence,
                "tables": dict(self._made),
                "known": known,
                "fingerprint": fingerprint,
                "state": watermarks,
            }
        )


def _number(session: Session, catalog: PipelineCatalog, read: Manifest, version: str) -> int | None:
    """How many rows a version has of the range that was read; None: that cannot be told."""
    its = catalog.versions({read.table: version}).get(read.table)
    if its is None or not isinstance(read.hints.replaces, IntervalFilter):
        return None
    rows = GrowingTable(its.all_segments).rows(schema_from(its.inferred))
    return count(session, rows.filter(_within(read.hints.replaces).holds(rows)))


def _within(its: IntervalFilter) -> InInterval:
    return InInterval(column=its.column, interval=Interval(its.start, its.end))


def _columns(its: Manifest) -> tuple[object, ...]:
    """What of an earlier version decides how rows are added to it."""
    return its.shape, its.wide, its.hints.disposition, its.hints.key

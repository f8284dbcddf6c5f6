"""Small segments of tables that grow, written together: of each table, those with which all kept versions begin.

A load does the same where a table has many (`growing_table.to_compact`); it leaves up to sixteen, and each of them
takes up as much as a table does. A version keeps its rows; only what its view is made of changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import takewhile

from entrepot.activities.catalog.catalog import PipelineCatalog
from entrepot.activities.catalog.details import GrowingTableDetails
from entrepot.activities.catalog.growing_table import GrowingTable, Segment
from entrepot.activities.catalog.version import Version
from entrepot.activities.ingest import manifest
from entrepot.activities.ingest.dispositions import LoadStrategy, strategy_of
from entrepot.activities.ingest.warehouse_loader import TOGETHER
from entrepot.activities.runtime.context import ActivityContext
from entrepot.backends import TableName
from entrepot.identity.code import stable_hash
from entrepot.identity.expression import schema_from, schema_to
from entrepot.identity.version import version_table
from entrepot.language.step import KINDS

MOST_ROWS = 5_000_000
"""Of segments that are written together by a collection; larger ones are left to loads."""


def write_together(work: ActivityContext, catalog: PipelineCatalog, versions: Sequence[Version]) -> list[Version]:
    """Writes the common segments of these versions together, where views and the catalog change at once. Returns the
    versions as they are then."""
    now = {version.key: version for version in versions}
    families: dict[tuple[str, TableName], list[Version]] = {}
    for version in versions if catalog.session.capabilities.transactional_ddl else ():
        if version.segments:
            families.setdefault((version.name, version.segments[0].name), []).append(version)
    for family in families.values():
        if not KINDS[family[0].kind].is_source and any(version.shape != family[0].shape for version in family):
            continue  # other code goes on with what is frozen, in columns of its own
        shared = _shared([version.segments for version in family])
        if len(shared) > 1 and sum(segment.rows for segment in shared) <= MOST_ROWS:
            work.check()
            with catalog.session.transaction():
                now |= {version.key: version for version in _replace(work, catalog, family, shared)}
    return list(now.values())


def _shared(every: Sequence[Sequence[Segment]]) -> Sequence[Segment]:
    """The segments with which all begin."""
    alike = takewhile(lambda column: all(each == column[0] for each in column), zip(*every, strict=False))
    return [column[0] for column in alike]


def _replace(
    work: ActivityContext, catalog: PipelineCatalog, family: Sequence[Version], shared: Sequence[Segment]
) -> list[Version]:
    """Puts one segment in the place of those that are shared. Returns the versions that have it."""
    session = catalog.session
    oldest = min(family, key=lambda version: len(version.segments))  # later ones have columns that came since
    strategy, key = LoadStrategy(), tuple[str, ...]()
    if KINDS[oldest.kind].is_source:
        hints = manifest.read(work.tenant, catalog.name, oldest.name, oldest.version).hints
        strategy, key = strategy_of(hints), hints.key
    shape = strategy.segment_columns(schema_from(oldest.shape))
    names = tuple(segment.table for segment in shared)
    target = TableName(shared[0].schema_name, version_table(oldest.name + TOGETHER, stable_hash(["gc", *names])))
    made = session.create_as(target, GrowingTable(shared).rows(shape))
    whole = Segment(
        schema_name=target.schema, table=target.table, columns=schema_to(shape), rows=made.rows, together=names
    )
    changed = []
    for version in family:
        assert version.table is not None
        segments = (whole, *version.segments[len(shared) :])
        session.create_view(version.table, strategy.relation(segments, schema_from(version.shape), key))
        assert isinstance(version.details, GrowingTableDetails)
        details = version.details.model_copy(update={"segments": segments})
        changed.append(replace(version, details=details))
        catalog.replace_details(changed[-1])
    return changed

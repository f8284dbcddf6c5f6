"""A lake without its catalog: what was loaded last comes back from it, so that the next run goes on from there."""

from __future__ import annotations

from entrepot.activities.ingest import heads
from entrepot.activities.ingest.heads import Head
from entrepot.activities.ingest.warehouse_loader import WarehouseLoader
from entrepot.activities.runtime.context import ActivityContext, ensure_schemas
from entrepot.backends import Session
from entrepot.errors import StepFailed
from entrepot.language.step import IngestStep
from entrepot.planning.graph import Graph
from entrepot.protocol.maintenance import Repaired
from entrepot.protocol.messages import Context


def restore_from_lake(work: ActivityContext, session: Session, context: Context, graph: Graph) -> Repaired:
    """Loads the raw tables of each environment's newest loads, and what it remembered of their sources.

    What the catalog has stays as it is. Everything else is computed by the next run.
    """
    ensure_schemas(work, context.pipeline)
    found: list[str] = []
    left: list[str] = []
    for step in graph.of(IngestStep):
        try:
            for head in heads.read(work.tenant, context.pipeline, step.name):
                found += _restored(work, session, context, step, head)
        except StepFailed as error:
            left.append(f"{context.pipeline}: ingest {step.name!r}: {error}")
    return Repaired(found=tuple(found), left=tuple(left))


def _restored(work: ActivityContext, session: Session, context: Context, step: IngestStep, head: Head) -> list[str]:
    catalog = work.catalog(session).pipeline(context.pipeline)
    environment = catalog.environment(head.environment)
    if environment.own_ingest_state(step.name) is not None:
        return []
    with session.transaction():
        WarehouseLoader(work, session, context.pipeline, step.name, context.run).all(head.tables)
        environment.replace_ingest_state(step.name, head.ingest_state)
    rows = sum(version.rows or 0 for version in catalog.versions(head.tables).values())
    return [f"{environment}: {step.name!r} was restored as run {head.run} had loaded it: {rows:,} rows"]

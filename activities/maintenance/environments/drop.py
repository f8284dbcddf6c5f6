"""Dropping an environment: its views and files, its ingest states, its history. Its versions are left to `gc`."""

from __future__ import annotations

from collections.abc import Iterable

from entrepot.activities.catalog.catalog import Catalog
from entrepot.activities.catalog.environment import Environment
from entrepot.activities.catalog.owners import Place
from entrepot.activities.catalog.records import Run
from entrepot.activities.catalog.tables import now
from entrepot.activities.ingest import heads
from entrepot.activities.publish.view_sync import ViewSync
from entrepot.activities.runtime.context import ActivityContext
from entrepot.backends import Session
from entrepot.language.names import DEFAULT_ENVIRONMENT
from entrepot.protocol.messages import Context

DROPPED = "dropped"
"""The status of a row in `runs` that says that an environment is gone."""


def shown(environment: Environment) -> list[str]:
    """What an environment shows, for people."""
    return sorted(str(place) for place, _ in environment.shown())


def drop(work: ActivityContext, session: Session, context: Context) -> list[str]:
    """Drops an environment. Returns what it showed. Idempotent, wherever an earlier attempt has ended.

    The pointers go first, so that a run that is going on cannot publish there any more; the record goes last.

    Raises:
        Conflict: if somebody publishes there at the same time.
    """
    catalog = work.catalog(session).pipeline(context.pipeline)
    environment = catalog.environment(context.environment)
    for step in catalog.ingest_steps():
        heads.remove(work.tenant, context.pipeline, step, context.environment)
    gone = shown(environment)
    with session.transaction():
        head = environment.head()
        if head.pointers:
            head = environment.publish(context.run, "drop", {}, head.pointers, expected=head.sequence)
        recorded = environment.shown()
        reachable = ("", *work.tenant.warehouses)
        ViewSync(work, session, context).remove_places(place for place, _ in recorded if place.warehouse in reachable)
        _drop_schemas(session, environment.name, {place for place, _ in recorded})
        record = Run(
            pipeline=context.pipeline,
            environment=context.environment,
            run=context.run,
            status=DROPPED,
            started_at=now(),
            ended_at=now(),
            summary={"showed": gone},
        )
        catalog.add_run(record)
        environment.delete(expected=head.sequence)
    return gone


def dropped_by(catalog: Catalog, run: str) -> dict[str, list[str]]:
    """What an attempt before has dropped already: pipeline to what was shown."""
    return {record.pipeline: record.summary["showed"] for record in catalog.runs(run, DROPPED)}


def drop_empty(catalog: Catalog, pipeline: str, current: str | None) -> None:
    """Drops the schemas of a pipeline's versions in which nothing stands any more, but for the one it uses."""
    session = catalog.session
    for place in catalog.places.of_versions(pipeline):
        if place.schema != current and not session.tables(place.schema):
            session.drop_schema(place.schema)
            catalog.places.release(pipeline, "", frozenset({(place, "")}))


def _drop_schemas(session: Session, environment: str, gone: Iterable[Place]) -> None:
    """An environment's own schemas, if they are empty now. Others may be somebody's, with grants."""
    schemas = {place.schema for place in gone if place.kind == "view" and not place.warehouse}
    for schema in sorted(schemas):
        is_own = environment != DEFAULT_ENVIRONMENT and schema.endswith(f"__{environment}")
        if is_own and not session.tables(schema):
            session.drop_schema(schema)

"""Taking an environment away: what it shows, where it stands with its sources, its history. Versions are collected."""

from __future__ import annotations

import json
from collections.abc import Iterable

import sqlglot.expressions as sge

from entrepot.activities.catalog import catalog, owners
from entrepot.activities.catalog.catalog import column, equals
from entrepot.activities.catalog.owners import Place
from entrepot.activities.publish import view_sync
from entrepot.activities.runtime.context import ActivityContext
from entrepot.backends import Session
from entrepot.errors import Conflict
from entrepot.identity.version import DEFAULT_ENVIRONMENT
from entrepot.protocol.messages import Context

EVERY = "*"
"""In the place of a pipeline's name: all of them."""
DROPPED = "dropped"
"""The status of a row in `runs` that says that an environment is gone."""


def environments(session: Session, pipeline: str) -> set[str]:
    """The environments of which the catalog knows anything: the empty one is where a pipeline's versions stand."""
    tables = ("heads", "places", "cursors")
    rows = [row for table in tables for row in catalog.select(session, table, pipeline, columns=("environment",))]
    return {row["environment"] for row in rows} - {""}


def shown(session: Session, pipeline: str, environment: str) -> list[str]:
    """What an environment shows, for people."""
    return sorted(str(place) for place, _ in owners.recorded(session, pipeline, environment))


def drop(work: ActivityContext, session: Session, context: Context) -> list[str]:
    """Takes an environment away. Returns what it showed. May be done again, wherever an attempt before has ended.

    The pointers go first, so that a run that is going on cannot publish there any more; the record goes last.

    Raises:
        Conflict: if somebody publishes there at the same time.
    """
    pipeline, environment = context.pipeline, context.environment
    gone = shown(session, pipeline, environment)
    with session.transaction():
        head = catalog.published(session, pipeline, environment)
        if head.pointers:
            its = (pipeline, environment, context.run)
            head = catalog.move(session, *its, "drop", {}, head.pointers, expected=head.sequence)
        recorded = owners.recorded(session, pipeline, environment)
        view_sync.remove(
            work, session, {place for place, _ in recorded if place.warehouse in ("", *work.tenant.warehouses)}
        )
        _drop_schemas(session, environment, {place for place, _ in recorded})
        its_rows = (equals("pipeline", pipeline), equals("environment", environment))
        same = ("environment", "run", "status")
        summary = {"showed": gone}
        catalog.add_once(session, "runs", *same, **_run(context, DROPPED), summary=summary)
        for table in ("cursors", "loads", "publishes", "places"):
            session.delete(catalog.table_name(table), sge.and_(*its_rows))
        left = session.delete(catalog.table_name("heads"), sge.and_(*its_rows, column("sequence").eq(head.sequence)))
        if not left and catalog.published(session, pipeline, environment).sequence:
            raise Conflict(f"pipeline {pipeline!r}: {environment!r} was published while it was dropped; drop it again")
    return gone


def dropped_by(session: Session, run: str) -> dict[str, list[str]]:
    """What an attempt before has dropped already: pipeline to what was shown."""
    rows = catalog.select(session, "runs", None, equals("run", run), equals("status", DROPPED))
    return {row["pipeline"]: json.loads(row["summary"])["showed"] for row in rows}


def drop_empty(session: Session, pipeline: str, current: str | None) -> None:
    """Drops the schemas of a pipeline's versions in which nothing stands any more, but for the one it uses."""
    for place in owners.versions_places(session, pipeline):
        if place.schema != current and not session.tables(place.schema):
            session.drop_schema(place.schema)
            owners.release(session, pipeline, "", frozenset({(place, "")}))


def _drop_schemas(session: Session, environment: str, gone: Iterable[Place]) -> None:
    """An environment's own schemas, if they are empty now. Others may be somebody's, with grants."""
    schemas = {place.schema for place in gone if place.kind == "view" and not place.warehouse}
    for schema in sorted(schemas):
        is_own = environment != DEFAULT_ENVIRONMENT and schema.endswith(f"__{environment}")
        if is_own and not session.tables(schema):
            session.drop_schema(schema)


def _run(context: Context, status: str) -> dict[str, object]:
    return {
        "pipeline": context.pipeline,
        "environment": context.environment,
        "run": context.run,
        "status": status,
        "started_at": catalog.now(),
        "ended_at": catalog.now(),
    }

"""Garbage collection, environments that go, and the listing of versions: what stands where, and why it stays."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable
from contextlib import ExitStack
from typing import Any

from pydantic import BaseModel
from temporalio import activity

from entrepot.activities.catalog import catalog, ingest_state
from entrepot.activities.catalog.growing_table import Segment
from entrepot.activities.maintenance import drop
from entrepot.activities.maintenance.repair import Standing
from entrepot.activities.publish import view_sync
from entrepot.activities.runtime.context import (
    ActivityContext,
    find_tenant,
    parse_input,
    run_blocking,
    wait_for_other_runs,
)
from entrepot.activities.runtime.tenant import Tenants
from entrepot.activities.storage import lake, manifest
from entrepot.backends import Session, TableName
from entrepot.errors import BadInput, unknown
from entrepot.identity.version import DEFAULT_ENVIRONMENT, version_schema
from entrepot.protocol import activity_names
from entrepot.protocol.maintenance_messages import DropInput
from entrepot.protocol.messages import Context, GcInput, Target


class GcResult(BaseModel):
    """What a collection removed, or would remove."""

    removed: list[str]
    kept: int
    rows: int
    dry_run: bool
    left: list[str] = []
    """What pipelines that the tenant does not run any more have shown; it is gone, too."""
    waiting: list[str] = []
    """What they show still, since it was published not long ago."""


class Dropped(BaseModel):
    """What the removal of an environment took from sight, or would take: pipeline to its views and files."""

    removed: dict[str, list[str]]
    dry_run: bool


class VersionRow(BaseModel):
    """One version, for people."""

    name: str
    kind: str
    version: str
    rows: int | None
    bytes: int | None
    seconds: float | None
    made_at: str
    run: str
    environments: list[str]
    """The environments that point at it."""
    note: str = ""


class GcActivities:
    """The activities `gc`, `drop` and `versions`."""

    def __init__(self, tenants: Tenants) -> None:
        self._tenants = tenants

    @activity.defn(name=activity_names.GC)
    async def gc(self, asked: GcInput) -> GcResult:
        """Removes versions that nothing points at and nobody made lately."""
        tenant = find_tenant(self._tenants, asked.tenant)
        context = _context(asked.tenant, asked.pipeline or drop.EVERY)

        def remove(work: ActivityContext) -> GcResult:
            with work.session() as session:
                catalog.ensure(session)
                known = catalog.pipelines(session)
                if asked.pipeline and asked.pipeline not in {*known, *tenant.pipelines}:
                    raise BadInput(unknown("pipeline", asked.pipeline, {*known, *tenant.pipelines}))
                pipelines = [asked.pipeline] if asked.pipeline else known
                return _together([_collect_all(work, session, context, asked, each) for each in pipelines])

        return await run_blocking(remove, tenant, context, activity_names.GC)

    @activity.defn(name=activity_names.DROP)
    async def drop(self, asked: DropInput) -> Dropped:
        """Takes an environment away."""
        tenant = find_tenant(self._tenants, asked.tenant)
        context = _context(asked.tenant, asked.pipeline or drop.EVERY).model_copy(
            update={"environment": asked.environment}
        )

        def remove(work: ActivityContext) -> Dropped:
            with work.session() as session:
                catalog.ensure(session)
                return wait_for_other_runs(work, lambda: _drop_environment(work, session, context, asked))

        return await run_blocking(remove, tenant, context, activity_names.DROP)

    @activity.defn(name=activity_names.VERSIONS)
    async def versions(self, value: Any = None) -> list[VersionRow]:
        """Every version of a pipeline, the newest first, and which environments point at it.

        People start it by itself, with JSON: what does not fit a `Target` is refused in a sentence.
        """
        asked = parse_input(Target, value, activity_names.VERSIONS)
        tenant = find_tenant(self._tenants, asked.tenant, asked.pipeline)

        def read(work: ActivityContext) -> list[VersionRow]:
            with work.session() as session:
                catalog.ensure(session)
                return _versions(session, asked.pipeline)

        return await run_blocking(read, tenant, _context(asked.tenant, asked.pipeline), activity_names.VERSIONS)


def _context(tenant: str, pipeline: str) -> Context:
    return Context(tenant=tenant, pipeline=pipeline, run=activity.info().workflow_run_id or "")


def _drop_environment(work: ActivityContext, session: Session, context: Context, asked: DropInput) -> Dropped:
    if asked.pipeline is None and asked.environment == DEFAULT_ENVIRONMENT:
        raise BadInput(f"name the pipeline whose {DEFAULT_ENVIRONMENT!r} is to be dropped")
    removed = drop.dropped_by(session, context.run)
    known = {each: drop.environments(session, each) for each in catalog.pipelines(session)}
    for pipeline, environments in known.items():
        if asked.pipeline in (None, pipeline) and asked.environment in environments:
            its = context.model_copy(update={"pipeline": pipeline})
            if asked.dry_run:
                removed[pipeline] = drop.shown(session, pipeline, asked.environment)
            else:
                removed[pipeline] = drop.drop(work, session, its)
    if not removed:
        of = f", pipeline {asked.pipeline!r}" if asked.pipeline else ""
        there = {e for pipeline, its in known.items() if asked.pipeline in (None, pipeline) for e in its}
        raise BadInput(f"tenant {asked.tenant!r}{of}: {unknown('environment', asked.environment, sorted(there))}")
    return Dropped(removed=removed, dry_run=asked.dry_run)


def _together(some: list[GcResult]) -> GcResult:
    return GcResult(
        removed=[each for one in some for each in one.removed],
        kept=sum(one.kept for one in some),
        rows=sum(one.rows for one in some),
        dry_run=any(one.dry_run for one in some),
        left=[each for one in some for each in one.left],
        waiting=[each for one in some for each in one.waiting],
    )


def _collect_all(work: ActivityContext, session: Session, context: Context, asked: GcInput, pipeline: str) -> GcResult:
    """Collects a pipeline's versions; if the tenant does not run it any more, after what it shows."""
    is_run = pipeline in work.tenant.pipelines
    left, waiting = ([], []) if is_run else _leave(work, session, context, asked, pipeline)
    collected = _collect(work, session, context, asked, pipeline)
    if not asked.dry_run:
        schema = version_schema(work.tenant.settings(pipeline).schema) if is_run else None
        drop.drop_empty(session, pipeline, schema)
    return collected.model_copy(update={"left": left, "waiting": waiting})


def _leave(
    work: ActivityContext, session: Session, context: Context, asked: GcInput, pipeline: str
) -> tuple[list[str], list[str]]:
    """Takes away what a pipeline has published that the tenant does not run any more; and what it shows still."""
    border = catalog.now() - datetime.timedelta(days=asked.keep_days)
    left: list[str] = []
    waiting: list[str] = []
    for environment in sorted(drop.environments(session, pipeline)):
        head = catalog.published(session, pipeline, environment)
        if head.published_at is not None and head.published_at >= border:
            waiting += drop.shown(session, pipeline, environment)
        elif asked.dry_run:
            left += drop.shown(session, pipeline, environment)
        else:
            its = context.model_copy(update={"pipeline": pipeline, "environment": environment})
            left += drop.drop(work, session, its)
    return left, waiting


def _collect(work: ActivityContext, session: Session, context: Context, asked: GcInput, pipeline: str) -> GcResult:
    every = catalog.rows(session, "versions", pipeline)
    kept = _reachable(session, asked, pipeline, every)
    border = catalog.now() - datetime.timedelta(days=asked.keep_days)
    unneeded = [r for r in every if (r["name"], r["version"]) not in kept and r["made_at"] < border]
    if not asked.dry_run:
        needed = {table for row in every if row not in unneeded for table in _tables(row)}
        for row in unneeded:
            # The catalog forgets first: a version without a row is made anew, a row without a table would be trusted.
            with session.transaction():
                catalog.delete(session, "versions", pipeline, [(row["name"], row["version"])])
                _drop(work, session, row, needed)
            _remove_files(work, pipeline, row)
        for row in every:
            if row not in unneeded and row["made_at"] < border and '"replaced"' in (row["details"] or ""):
                _drop_replaced(work, session, context.model_copy(update={"pipeline": pipeline}), row)
        _prune(work, session, pipeline, kept | (_names(every) - _names(unneeded)), border)
    prefix = f"{pipeline}." if asked.pipeline is None else ""
    removed = [f"{prefix}{row['name']}@{row['version']}" for row in unneeded]
    rows = sum(row["row_count"] or 0 for row in unneeded)
    return GcResult(removed=removed, kept=len(every) - len(unneeded), rows=rows, dry_run=asked.dry_run)


def _reachable(session: Session, asked: GcInput, pipeline: str, every: list[dict[str, Any]]) -> set[tuple[str, str]]:
    """What environments point at or could be rolled back to, the newest loads, and what kept models were made of."""
    kept: set[tuple[str, str]] = set()
    for history in catalog.publishes(session, pipeline).values():
        for publish in history[: asked.keep_publishes]:
            kept |= set(publish.pointers.items())
    for step, loads in ingest_state.history(session, pipeline).items():
        for environment in {load.environment for load in loads}:
            kept |= set(ingest_state.current(session, pipeline, step, environment).tables.items())
    for row in every:
        if row["kind"] == "train" and (row["name"], row["version"]) in kept:
            kept |= set(json.loads(row["inputs"]).items())
    return kept


def _names(rows: list[dict[str, Any]]) -> set[tuple[str, str]]:
    return {(row["name"], row["version"]) for row in rows}


def _tables(row: dict[str, Any]) -> list[TableName]:
    """The physical tables that a version's row needs: its own, and those that its view is made of."""
    details = json.loads(row["details"] or "{}")
    segments = [Segment.model_validate(each) for each in details.get("segments", [])]
    own = [TableName(row["physical_schema"], row["physical_table"])] if row["physical_table"] else []
    taken = [TableName(s.takes.schema_name, s.takes.table) for s in segments if s.takes and s.takes.table]
    replaced = [TableName(schema, table) for schema, table in details.get("replaced", [])]
    return [*own, *(segment.name for segment in segments), *taken, *replaced]


def _drop(work: ActivityContext, session: Session, row: dict[str, Any], needed: set[TableName]) -> None:
    """Drops a version's table or view, and the segments that no other version needs."""
    details = json.loads(row["details"] or "{}")
    with ExitStack() as stack:
        elsewhere = details.get("to")
        if elsewhere and elsewhere not in work.tenant.warehouses:
            return  # out of reach since the tenant no longer has it
        there = stack.enter_context(work.session(warehouse=elsewhere)) if elsewhere else session
        _drop_all(there, [table for table in _tables(row) if table not in needed])


def _drop_all(session: Session, tables: Iterable[TableName]) -> None:
    """Drops tables, and views over segments; or what somebody has put in their places."""
    standing = Standing(session)
    for table in tables:
        if kind := standing.kind(table):
            (session.drop_view if kind == "view" else session.drop_table)(table)


def _drop_replaced(work: ActivityContext, session: Session, context: Context, row: dict[str, Any]) -> None:
    """Drops the tables of a version that was made anew since, after whatever may still show them shows the new one."""
    details = json.loads(row["details"] or "{}")
    view_sync.show_anew(work, session, context, {row["name"]: row["version"]})
    warehouse = details.get("to", "")
    with ExitStack() as stack:
        there = stack.enter_context(work.session(warehouse=warehouse)) if warehouse else session
        _drop_all(there, [TableName(schema, table) for schema, table in details.pop("replaced")])
    catalog.set_details(session, context.pipeline, row["name"], row["version"], details)


def _remove_files(work: ActivityContext, pipeline: str, row: dict[str, Any]) -> None:
    if row["kind"] == "train":
        lake.remove(work.tenant.lake_path("models", pipeline, row["name"], row["version"]))
    elif row["kind"] == "publish":
        lake.remove(work.tenant.lake_path("artifacts", pipeline, row["name"], row["version"]))


def _prune(
    work: ActivityContext, session: Session, pipeline: str, kept: set[tuple[str, str]], border: datetime.datetime
) -> None:
    """Removes from the lake what no version that is kept was loaded from, and what failed loads have left."""
    needed: set[str] = set()
    for table, wanted in sorted(kept):
        version: str | None = wanted
        while version is not None and (path := manifest.path_of(work.tenant, pipeline, table, version)) not in needed:
            if not lake.exists(path):  # no raw table
                break
            found = manifest.read(work.tenant, pipeline, table, version)
            needed |= {path, *(part.file for part in found.parts)}
            version = found.adds_to
    needed |= {c.state for loads in ingest_state.history(session, pipeline).values() for c in loads if c.state}
    for folder in ("raw", "loads"):
        for path, changed_at in lake.files(work.tenant.lake_path(folder, pipeline)).items():
            if path not in needed and changed_at < border and not path.endswith("/columns.json"):
                lake.remove(path)


def _versions(session: Session, pipeline: str) -> list[VersionRow]:
    pointers = {name: history[0].pointers for name, history in catalog.publishes(session, pipeline).items()}
    rows = sorted(catalog.rows(session, "versions", pipeline), key=lambda r: r["made_at"], reverse=True)
    return [
        VersionRow(
            name=row["name"],
            kind=row["kind"],
            version=row["version"],
            rows=row["row_count"],
            bytes=row["byte_count"],
            seconds=row["seconds"],
            made_at=row["made_at"].isoformat(timespec="seconds"),
            run=row["run"],
            environments=sorted(e for e, p in pointers.items() if p.get(row["name"]) == row["version"]),
            note=_note(json.loads(row["details"] or "{}")),
        )
        for row in rows
    ]


def _note(details: dict[str, Any]) -> str:
    if "scores" in details:
        return ", ".join(f"{name} {value:.3f}" for name, value in details["scores"].items())
    return str(details.get("scoring", {}).get("said") or details.get("path") or "")

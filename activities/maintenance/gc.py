"""Garbage collection of versions, dropping of environments, and the listing of versions."""

from __future__ import annotations

import datetime
from collections.abc import Iterable

from entrepot.activities.catalog.catalog import Catalog, PipelineCatalog
from entrepot.activities.catalog.details import ModelDetails, TableDetails
from entrepot.activities.catalog.tables import now
from entrepot.activities.catalog.version import Version
from entrepot.activities.ingest import heads, manifest
from entrepot.activities.maintenance import drop
from entrepot.activities.maintenance.repair import Relations
from entrepot.activities.publish.view_sync import ViewSync, session_at
from entrepot.activities.runtime.activity import Activities, context_of, implements
from entrepot.activities.runtime.context import ActivityContext, wait_for_other_runs
from entrepot.activities.storage import lake
from entrepot.backends import Session, TableName
from entrepot.errors import BadInput, unknown
from entrepot.identity.version import version_schema
from entrepot.language.names import DEFAULT_ENVIRONMENT
from entrepot.language.step import KINDS
from entrepot.protocol import activities
from entrepot.protocol.maintenance import DropInput, Dropped, GcInput, GcResult, VersionRow
from entrepot.protocol.messages import Context, Target


class GcActivities(Activities):
    """The activities `gc`, `drop` and `versions`."""

    @implements(activities.GC)
    def gc(self, work: ActivityContext, request: GcInput) -> GcResult:
        """Removes unreferenced versions older than the retention period."""
        context = context_of(request)
        with work.session() as session:
            catalog = work.catalog(session)
            catalog.ensure()
            known = catalog.pipelines()
            if request.pipeline and request.pipeline not in {*known, *work.tenant.pipelines}:
                raise BadInput(unknown("pipeline", request.pipeline, {*known, *work.tenant.pipelines}))
            pipelines = [request.pipeline] if request.pipeline else known
            return _summed([_collect_garbage(work, catalog, context, request, each) for each in pipelines])

    @implements(activities.DROP)
    def drop(self, work: ActivityContext, request: DropInput) -> Dropped:
        """Drops an environment."""
        with work.session() as session:
            work.catalog(session).ensure()
            return wait_for_other_runs(work, lambda: _drop_environment(work, session, context_of(request), request))

    @implements(activities.VERSIONS)
    def versions(self, work: ActivityContext, request: Target) -> list[VersionRow]:
        """Every version of a pipeline, the newest first, and which environments point at it."""
        work.tenant.settings(request.pipeline)
        with work.session() as session:
            catalog = work.catalog(session)
            catalog.ensure()
            return _versions(catalog.pipeline(request.pipeline))


def _drop_environment(work: ActivityContext, session: Session, context: Context, asked: DropInput) -> Dropped:
    if asked.pipeline is None and asked.environment == DEFAULT_ENVIRONMENT:
        raise BadInput(f"name the pipeline whose {DEFAULT_ENVIRONMENT!r} is to be dropped")
    catalog = work.catalog(session)
    removed = drop.dropped_by(catalog, context.run)
    known = {each: catalog.pipeline(each).environments() for each in catalog.pipelines()}
    for pipeline, environments in known.items():
        if asked.pipeline in (None, pipeline) and asked.environment in environments:
            its = context.model_copy(update={"pipeline": pipeline})
            if asked.dry_run:
                removed[pipeline] = drop.shown(catalog.pipeline(pipeline).environment(asked.environment))
            else:
                removed[pipeline] = drop.drop(work, session, its)
    if not removed:
        of = f", pipeline {asked.pipeline!r}" if asked.pipeline else ""
        there = {e for pipeline, its in known.items() if asked.pipeline in (None, pipeline) for e in its}
        raise BadInput(f"tenant {asked.tenant!r}{of}: {unknown('environment', asked.environment, sorted(there))}")
    return Dropped(removed=removed, dry_run=asked.dry_run)


def _summed(some: list[GcResult]) -> GcResult:
    return GcResult(
        removed=[each for one in some for each in one.removed],
        kept=sum(one.kept for one in some),
        rows=sum(one.rows for one in some),
        dry_run=any(one.dry_run for one in some),
        left=[each for one in some for each in one.left],
        waiting=[each for one in some for each in one.waiting],
    )


def _collect_garbage(
    work: ActivityContext, catalog: Catalog, context: Context, asked: GcInput, pipeline: str
) -> GcResult:
    """Removes what a pipeline no longer needs; if the tenant does not run it any more, drops its environments first."""
    is_run = pipeline in work.tenant.pipelines
    left, waiting = ([], []) if is_run else _drop_departed(work, catalog.pipeline(pipeline), context, asked)
    result = _remove_unreachable(work, catalog.pipeline(pipeline), context, asked)
    if not asked.dry_run:
        schema = version_schema(work.tenant.settings(pipeline).schema) if is_run else None
        drop.drop_empty(catalog, pipeline, schema)
    return result.model_copy(update={"left": left, "waiting": waiting})


def _drop_departed(
    work: ActivityContext, catalog: PipelineCatalog, context: Context, asked: GcInput
) -> tuple[list[str], list[str]]:
    """Drops the environments of a pipeline that the tenant does not run any more. What they showed, and what those show
    that stay for now."""
    border = now() - datetime.timedelta(days=asked.keep_days)
    left: list[str] = []
    waiting: list[str] = []
    for environment in (catalog.environment(name) for name in sorted(catalog.environments())):
        head = environment.head()
        if head.published_at is not None and head.published_at >= border:
            waiting += drop.shown(environment)
        elif asked.dry_run:
            left += drop.shown(environment)
        else:
            its = context.model_copy(update={"pipeline": catalog.name, "environment": environment.name})
            left += drop.drop(work, catalog.session, its)
    return left, waiting


def _remove_unreachable(work: ActivityContext, catalog: PipelineCatalog, context: Context, asked: GcInput) -> GcResult:
    every = catalog.every_version()
    kept = _reachable(catalog, asked, every)
    border = now() - datetime.timedelta(days=asked.keep_days)
    unneeded: list[Version] = []
    needed: list[Version] = []
    for version in every:
        is_needed = version.key in kept or version.made_at >= border
        (needed if is_needed else unneeded).append(version)
    if not asked.dry_run:
        tables = {table for version in needed for table in _tables(version)}
        for version in unneeded:
            # The catalog forgets first: a version without a row is made anew, a row without a table would be trusted.
            with catalog.session.transaction():
                catalog.delete_versions([version.key])
                _drop(work, catalog.session, version, tables)
            _remove_files(work, catalog.name, version)
        for version in needed:
            if version.replaced and version.made_at < border:
                _drop_replaced(work, catalog, context.model_copy(update={"pipeline": catalog.name}), version)
        names = {version.key for version in every} - {version.key for version in unneeded}
        _prune(work, catalog, kept | names, border)
    prefix = f"{catalog.name}." if asked.pipeline is None else ""
    removed = [f"{prefix}{version.name}@{version.version}" for version in unneeded]
    rows = sum(version.rows or 0 for version in unneeded)
    return GcResult(removed=removed, kept=len(needed), rows=rows, dry_run=asked.dry_run)


def _reachable(catalog: PipelineCatalog, asked: GcInput, every: list[Version]) -> set[tuple[str, str]]:
    """What environments point at or could be rolled back to, the newest loads, and what kept models were made of."""
    kept: set[tuple[str, str]] = set()
    for history in catalog.publishes().values():
        for publish in history[: asked.keep_publishes]:
            kept |= set(publish.pointers.items())
    for step, loads in catalog.loads().items():
        for environment in {load.environment for load in loads}:
            kept |= set(catalog.environment(environment).ingest_state(step).tables.items())
    for version in every:
        if KINDS[version.kind].retains_inputs and version.key in kept:
            kept |= set(version.inputs.items())
    return kept


def _tables(version: Version) -> list[TableName]:
    """The physical tables that a version needs: its own, and those that its view is made of."""
    own = [version.table] if version.table else []
    return [*own, *(table for segment in version.segments for table in segment.tables), *version.replaced]


def _drop(work: ActivityContext, session: Session, version: Version, needed: set[TableName]) -> None:
    """Drops a version's table or view, and the segments that no other version needs."""
    if version.warehouse and version.warehouse not in work.tenant.warehouses:
        return  # out of reach since the tenant no longer has it
    with session_at(work, session, version.warehouse) as there:
        _drop_all(there, [table for table in _tables(version) if table not in needed])


def _drop_all(session: Session, tables: Iterable[TableName]) -> None:
    """Drops tables, and views over segments; or what somebody has put in their places."""
    relations = Relations(session)
    for table in tables:
        if kind := relations.kind(table):
            (session.drop_view if kind == "view" else session.drop_table)(table)


def _drop_replaced(work: ActivityContext, catalog: PipelineCatalog, context: Context, version: Version) -> None:
    """Drops the tables of a version that was made anew since, after whatever may still show them shows the new one."""
    ViewSync(work, catalog.session, context).repoint_remade({version.name: version.version})
    with session_at(work, catalog.session, version.warehouse) as there:
        _drop_all(there, version.replaced)
    catalog.forget_replaced(version)


def _remove_files(work: ActivityContext, pipeline: str, version: Version) -> None:
    if folder := KINDS[version.kind].folder:
        lake.remove(work.tenant.lake_path(folder, pipeline, *version.key))


def _prune(
    work: ActivityContext, catalog: PipelineCatalog, kept: set[tuple[str, str]], border: datetime.datetime
) -> None:
    """Removes from the lake what no version that is kept was loaded from, and what failed loads have left."""
    needed: set[str] = set()
    tenant, pipeline = work.tenant, catalog.name
    for table, wanted in sorted(kept):
        version: str | None = wanted
        while version is not None and (path := manifest.path_of(tenant, pipeline, table, version)) not in needed:
            if not lake.exists(path):  # no raw table
                break
            found = manifest.read(tenant, pipeline, table, version)
            needed |= {path, *manifest.copies(found), *(part.file for part in found.parts)}
            version = found.adds_to
    needed |= {load.watermarks for loads in catalog.loads().values() for load in loads if load.watermarks}
    for folder in ("raw", "loads"):
        for path, changed_at in lake.files(tenant.lake_path(folder, pipeline)).items():
            is_small = (
                path.endswith("/columns.json") or f"/{heads.FOLDER}/" in path
            )  # one for each table, or environment
            if path not in needed and changed_at < border and not is_small:
                lake.remove(path)


def _versions(catalog: PipelineCatalog) -> list[VersionRow]:
    pointers = {name: history[0].pointers for name, history in catalog.publishes().items()}
    return [
        VersionRow(
            name=version.name,
            kind=version.kind,
            version=version.version,
            rows=version.rows,
            bytes=version.bytes,
            seconds=version.seconds,
            made_at=version.made_at.isoformat(timespec="seconds"),
            run=version.run,
            environments=sorted(e for e, p in pointers.items() if p.get(version.name) == version.version),
            note=_note(version),
        )
        for version in sorted(catalog.every_version(), key=lambda version: version.made_at, reverse=True)
    ]


def _note(version: Version) -> str:
    details = version.details
    if isinstance(details, ModelDetails):
        return ", ".join(f"{name} {value:.3f}" for name, value in details.scores.items())
    if isinstance(details, TableDetails) and details.scoring is not None:
        return details.scoring.said
    return version.published_file or ""

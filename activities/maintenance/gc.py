"""Garbage collection of versions, dropping of environments, and the listing of versions."""

from __future__ import annotations

import datetime
from collections.abc import Mapping

from entrepot.activities.catalog.catalog import Catalog, PipelineCatalog
from entrepot.activities.catalog.details import ModelDetails, TableDetails
from entrepot.activities.catalog.tables import now
from entrepot.activities.catalog.version import Version
from entrepot.activities.maintenance import scratch
from entrepot.activities.maintenance.collection import Collection, told
from entrepot.activities.maintenance.environments import drop
from entrepot.activities.runtime.activity import Activities, context_of, implements
from entrepot.activities.runtime.context import ActivityContext, wait_for_other_runs
from entrepot.activities.runtime.leases import AtWork
from entrepot.backends import Session
from entrepot.errors import BadInput, EntrepotError, unknown
from entrepot.identity.frozen import date_of
from entrepot.language.names import DEFAULT_ENVIRONMENT
from entrepot.protocol import activities
from entrepot.protocol.maintenance import DropInput, Dropped, GcElsewhere, GcInput, GcResult, VersionRow
from entrepot.protocol.messages import Context, Target
from entrepot.tracebacks import describe


class GcActivities(Activities):
    """The activities `gc`, `drop` and `versions`."""

    @implements(activities.GC)
    def gc(self, work: ActivityContext, request: GcInput) -> GcResult:
        """Removes unreferenced versions older than the retention period."""
        context = context_of(request)
        scratch_left = scratch.left()
        with work.session() as session:
            catalog = work.catalog(session)
            catalog.ensure()
            elsewhere, unusable = _known_elsewhere(work)
            known = sorted({*catalog.pipelines(), *elsewhere})
            if request.pipeline and request.pipeline not in {*known, *work.tenant.pipelines}:
                raise BadInput(unknown("pipeline", request.pipeline, {*known, *work.tenant.pipelines}))
            pipelines = [request.pipeline] if request.pipeline else known
            result = _summed([_collected(work, catalog, context, request, each, unusable) for each in pipelines])
        if not request.dry_run:
            scratch.remove(scratch_left)
        free, why = _free(work, "", request)
        sizes = result.bytes | {"free": free, "scratch": sum(scratch_left.values())}
        untold = result.unknown | ({"free": why} if why else {})
        with_free = {name: _with_free(work, name, its, request) for name, its in result.elsewhere.items()}
        return result.model_copy(update={"bytes": sizes, "unknown": untold, "elsewhere": with_free})

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


def _known_elsewhere(work: ActivityContext) -> tuple[set[str], dict[str, str]]:
    """The pipelines of which further warehouses have recorded something; and those that cannot be used now, and why."""
    found, unusable = set[str](), dict[str, str]()
    for warehouse in work.tenant.others:
        try:
            with work.session(warehouse=warehouse) as there:
                catalog = work.catalog(there)
                found |= {*catalog.pipelines()} if catalog.exists() else set()
        except EntrepotError as error:
            unusable[warehouse] = describe(error)
    return found, unusable


def _free(work: ActivityContext, warehouse: str, asked: GcInput) -> tuple[int, str]:
    """What is free in a warehouse's own file, and why that is not known; it is given back to the disk, unless that is
    only asked."""
    if not asked.dry_run:
        return work.tenant.at(warehouse).backend.compact(work.check) or 0, ""
    with work.session(warehouse=warehouse) as session:
        return told(session.free_bytes)


def _with_free(work: ActivityContext, warehouse: str, its: GcElsewhere, asked: GcInput) -> GcElsewhere:
    if its.why:
        return its
    free, why = _free(work, warehouse, asked)
    return its.model_copy(update={"free": free, "unknown": its.unknown or why})


def _summed(some: list[GcResult]) -> GcResult:
    return GcResult(
        removed=[each for one in some for each in one.removed],
        kept=sum(one.kept for one in some),
        rows=sum(one.rows for one in some),
        dry_run=any(one.dry_run for one in some),
        left=[each for one in some for each in one.left],
        waiting=[each for one in some for each in one.waiting],
        expired=[each for one in some for each in one.expired],
        later=[each for one in some for each in one.later],
        tables=sum(one.tables for one in some),
        files=sum(one.files for one in some),
        bytes={where: sum(one.bytes.get(where, 0) for one in some) for where in ("tables", "lake")},
        unknown={where: why for one in some for where, why in one.unknown.items()},
        elsewhere=_summed_elsewhere([one.elsewhere for one in some]),
    )


def _summed_elsewhere(some: list[dict[str, GcElsewhere]]) -> dict[str, GcElsewhere]:
    found: dict[str, list[GcElsewhere]] = {}
    for warehouse, its in (pair for one in some for pair in one.items()):
        found.setdefault(warehouse, []).append(its)
    return {
        warehouse: GcElsewhere(
            removed=[each for one in its for each in one.removed],
            kept=sum(one.kept for one in its),
            tables=sum(one.tables for one in its),
            bytes=sum(one.bytes for one in its),
            unknown=next((one.unknown for one in its if one.unknown), ""),
            why=next((one.why for one in its if one.why), ""),
        )
        for warehouse, its in found.items()
    }


def _collected(
    work: ActivityContext,
    catalog: Catalog,
    context: Context,
    asked: GcInput,
    pipeline: str,
    unusable: Mapping[str, str],
) -> GcResult:
    """Removes what a pipeline no longer needs, or only looks."""
    leases = work.leases(catalog.session, pipeline)
    if asked.dry_run:
        return _collect_beside(work, catalog, context, asked, pipeline, leases.at_work(), unusable)

    def attempt() -> GcResult:
        with leases.collecting(context.run, work.workflow) as at_work:
            return _collect_beside(work, catalog, context, asked, pipeline, at_work, unusable)

    return wait_for_other_runs(work, attempt)


def _collect_beside(
    work: ActivityContext,
    catalog: Catalog,
    context: Context,
    asked: GcInput,
    pipeline: str,
    at_work: AtWork,
    unusable: Mapping[str, str],
) -> GcResult:
    """Removes what a pipeline no longer needs; if the tenant does not run it any more, drops its environments first."""
    if at_work.undecided:
        return GcResult(removed=[], kept=0, rows=0, dry_run=asked.dry_run, later=[pipeline])
    is_run = pipeline in work.tenant.pipelines
    its = catalog.pipeline(pipeline)
    left, waiting = ([], []) if is_run else _drop_departed(work, its, context, asked)
    expired = _drop_expired(work, its, context, asked) if is_run and at_work.since is None else []
    collection = Collection(work, its, asked, at_work, unusable)
    prefix = f"{pipeline}." if asked.pipeline is None else ""
    elsewhere = {
        warehouse: found.model_copy(update={"removed": [f"{prefix}{version}" for version in found.removed]})
        for warehouse, found in collection.elsewhere(context).items()
    }
    here = collection.here
    table_bytes, untold = here.bytes()
    if not asked.dry_run:
        collection.remove(context)
    return GcResult(
        removed=[f"{prefix}{version.name}@{version.version}" for version in here.versions],
        kept=len(here.needed),
        rows=sum(version.rows or 0 for version in here.versions),
        dry_run=asked.dry_run,
        left=left,
        waiting=waiting,
        expired=expired,
        tables=len(here.tables),
        files=len(collection.files),
        bytes={"tables": table_bytes, "lake": sum(collection.files.values())},
        unknown={"tables": untold} if untold else {},
        elsewhere=elsewhere,
    )


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


def _drop_expired(work: ActivityContext, catalog: PipelineCatalog, context: Context, asked: GcInput) -> list[str]:
    """Drops the environments where nothing was run for as long as the tenant says. While a run goes on, none."""
    expired = []
    for environment in (catalog.environment(name) for name in sorted(catalog.environments())):
        after = work.tenant.expiry(environment.name)
        used = [environment.head().published_at, catalog.last_run(environment.name)]
        last = max(filter(None, used), default=None)
        if after is None or last is None or last + after > now():
            continue
        expired.append(f"{catalog.name}/{environment.name}")
        if not asked.dry_run:
            its = context.model_copy(update={"pipeline": catalog.name, "environment": environment.name})
            drop.drop(work, catalog.session, its)
    return expired


def _versions(catalog: PipelineCatalog) -> list[VersionRow]:
    pointers = catalog.pointers()
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
    if version.frozen is not None:
        return f"before {date_of(version.frozen.before)} as in {version.frozen.origin}"
    return version.published_file or ""

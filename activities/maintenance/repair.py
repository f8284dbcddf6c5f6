"""What somebody dropped, replaced, emptied or changed by hand: found by comparing warehouse, lake and catalog, and
repaired.

Raw tables are restored from the lake. Everything else is computed again by a run, as a table that stands beside the
existing one, so that nobody sees it half done. Views are repointed. Where nothing can bring back what an environment
points at, it goes back to what it showed before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from entrepot.activities.catalog.catalog import PipelineCatalog
from entrepot.activities.catalog.owners import Place
from entrepot.activities.catalog.relations import Relations
from entrepot.activities.ingest import manifest
from entrepot.activities.ingest.warehouse_loader import WarehouseLoader
from entrepot.activities.maintenance.mending import catalog_rows, head_states, wholeness
from entrepot.activities.maintenance.mending.head_states import Heads
from entrepot.activities.maintenance.mending.lake_files import mend_lake
from entrepot.activities.maintenance.restore import restore_from_lake
from entrepot.activities.publish.view_sync import PointedVersions, ViewSync
from entrepot.activities.runtime.activity import Activities, context_of, implements
from entrepot.activities.runtime.context import ActivityContext, wait_for_other_runs
from entrepot.backends import Session, TableName
from entrepot.errors import StepFailed
from entrepot.identity.version import version_schema
from entrepot.language.step import KINDS, IngestStep
from entrepot.planning.graph import Graph
from entrepot.protocol import activities
from entrepot.protocol.maintenance import Repaired, RepairInput
from entrepot.protocol.messages import Context


def missing_tables(catalog: PipelineCatalog, versions: Mapping[str, str]) -> dict[str, str]:
    """The transforms and copies of these versions whose tables are missing, each with what is wrong. A cheap check."""
    relations = Relations(catalog.session)
    found = {
        name: relations.first_problem((*each, None) for each in its)
        for name, its in catalog.computed_tables(versions).items()
    }
    return {name: f"its table {said}" for name, said in found.items() if said}


def restore_raw_tables(work: ActivityContext, session: Session, context: Context, graph: Graph) -> None:
    """Restores from the lake the raw tables that an environment uses and that are missing in the warehouse.

    Raises:
        StepFailed: if the lake does not have them any more.
    """
    catalog = work.catalog(session).pipeline(context.pipeline)
    if roots := _wrong_raw(catalog, graph, Relations(session), context.environment):
        _restore(work, catalog, context, graph, {_root(name) for name in roots})


def repair(work: ActivityContext, session: Session, context: Context, graph: Graph, *, dry_run: bool) -> Repaired:
    """Compares everything that a pipeline's environments show with the catalog, counts rows, and repairs what differs.

    What has to be computed is left to runs; with `dry_run`, everything is.
    """
    pipeline, relations = context.pipeline, Relations(session, counted=True)
    catalog = work.catalog(session).pipeline(pipeline)
    found = catalog_rows.mend(catalog.tables, pipeline, dry_run=dry_run)
    if dry_run and found:
        return Repaired(found=tuple(found))  # nothing else can be read before
    found += head_states.restore_from_history(catalog, dry_run=dry_run)
    if dry_run and found:
        return Repaired(found=tuple(found))  # what else is wrong depends on them
    heads = Heads(work, session, context, graph, _steps(graph), relations)
    back, stuck = heads.go_back(dry_run=dry_run)
    if dry_run and back:
        return Repaired(found=tuple(back), left=tuple(stuck))
    found += back
    if back:
        relations = Relations(session, counted=True)  # other views may stand there
    in_lake, left = mend_lake(work, catalog, _steps(graph), dry_run=dry_run)
    left += stuck
    raw = _wrong_raw(catalog, graph, relations)
    if (roots := {_root(name) for name in raw} - {_root(name) for name in heads.lost}) and not dry_run:
        left += _not_restored(work, catalog, context, graph, roots)
    found += [*in_lake, *raw.values()]
    runs = {}
    for environment in sorted(catalog.environments()):
        views = ViewSync(work, session, context.model_copy(update={"environment": environment}))
        head = catalog.environment(environment).head()
        pointers = head.pointers
        wrong, lost = _wrong_computed(catalog, graph, relations, pointers)
        if lost and not dry_run:
            _drop_unknown(catalog, version_schema(work.tenant.settings(pipeline).schema), lost)
        if here := sorted(wrong.keys() & graph.steps.keys()):
            runs[environment] = tuple(here)
        obsolete = wrong.keys() - graph.steps.keys()
        found += [f"{said}, and no step makes it: taken away" if n in obsolete else said for n, said in wrong.items()]
        if obsolete and not dry_run:
            head = heads.take_away(catalog.environment(environment), head, obsolete)
            pointers = head.pointers
        its = views.pointed_versions({n: v for n, v in pointers.items() if n not in {*wrong, *raw}})
        shown = {(place, n) for place, n in catalog.environment(environment).shown() if n in its.versions}
        moved, taken = _wrong_views(relations, its, shown)
        found += moved.values()
        left += taken
        if moved and not dry_run:
            views.repoint(its, moved)
        files = [(place, its.versions[name]) for place, name in sorted(shown, key=str) if place.kind == "file"]
        unfollowed = [said for place, made in files if (said := views.file_problem(place, made))]
        if head.views_synced < head.sequence:
            unfollowed.append(f"{pipeline} in {environment} does not show all of what run {head.run} published")
        found += unfollowed
        if unfollowed and not wrong and not dry_run:  # else the run that computes what is wrong finishes it
            left += [f"{pipeline} in {environment}: {said}" for said in views.follow(head, graph).behind]
    return Repaired(found=tuple(found), left=tuple(left), runs={pipeline: runs} if runs else {})


def _wrong_computed(
    catalog: PipelineCatalog, graph: Graph, relations: Relations, pointers: Mapping[str, str]
) -> tuple[dict[str, str], set[str]]:
    """What an environment points at that no step loads, and is wrong, each with what is; those without a row."""
    known = catalog.versions(pointers)
    raw = _steps(graph)
    computed = {n: version for n, version in known.items() if not KINDS[version.kind].is_source or _root(n) not in raw}
    wrong = {name: said for name, version in computed.items() if (said := wholeness.problem(relations, version))}
    lost = {name for name in pointers if name not in known and _root(name) not in raw}
    return wrong | {name: f"{name} is not in the catalog" for name in lost}, lost


def _wrong_views(
    relations: Relations, its: PointedVersions, shown: Iterable[tuple[Place, str]]
) -> tuple[dict[tuple[Place, str], str], list[str]]:
    """The views that do not show what they should, each with what is wrong; and what stands in the place of some."""
    moved, taken = {}, []
    for place, name in shown:
        if place.kind == "view" and not place.warehouse:
            said = relations.problem(place.name, "view", its.versions[name].rows)
            if said and relations.kind(place.name) == "table":
                taken.append(f"{said}; drop or rename it, and repair again")
            elif said:
                moved[place, name] = said
    return moved, taken


def _drop_unknown(catalog: PipelineCatalog, schema: str, names: Iterable[str]) -> None:
    """Drops the tables of versions that the catalog has lost: they would be in the way of what is made anew."""
    relations = Relations(catalog.session)
    known = {name.table.lower() for version in catalog.every_version() for name in version.tables}
    lost = [table for table in relations.names(schema) if any(table.startswith(f"{name}__") for name in names)]
    relations.drop(TableName(schema, table) for table in lost if table not in known)


def _wrong_raw(
    catalog: PipelineCatalog, graph: Graph, relations: Relations, environment: str | None = None
) -> dict[str, str]:
    """The raw tables that environments use and that are not as they were made, each with what is wrong."""
    steps = _steps(graph)
    found: dict[str, str] = {}
    every = [
        {name: version for name, version in pointers.items() if _root(name) in steps}
        for pointers in catalog.in_use(environment)
    ]
    # What is shown is mostly what was loaded last.
    for raw in (each for number, each in enumerate(every) if each and each not in every[:number]):
        versions = catalog.versions(raw)
        for name in raw:
            if name not in versions:
                found[name] = f"{name} is not in the catalog"
            for made in versions[name].relations if name in versions and name not in found else ():
                if said := relations.problem(*made):
                    found[name] = said
                    break
    return found


def _not_restored(
    work: ActivityContext, catalog: PipelineCatalog, context: Context, graph: Graph, roots: set[str]
) -> list[str]:
    """Restores raw tables, each for itself: of one that the lake cannot bring back, why that is."""
    left = []
    for root in sorted(roots):
        try:
            _restore(work, catalog, context, graph, {root})
        except StepFailed as error:
            left.append(f"{root} is not restored: {error}".removesuffix(manifest.ANEW) + f"; {manifest.REFRESH}")
    return left


def _restore(work: ActivityContext, catalog: PipelineCatalog, context: Context, graph: Graph, roots: set[str]) -> None:
    """Loads raw tables again, with those nested in them, in every version that an environment uses.

    The tables go first: a row whose table is gone is found by whoever comes next, and a table without a row is trusted.

    Raises:
        StepFailed: if the lake does not have them all any more; they stay as they are then.
    """
    session, steps = catalog.session, _steps(graph)
    _check_lake(work, catalog, roots)
    forgotten = [each for each in catalog.every_version() if KINDS[each.kind].is_source and _root(each.name) in roots]
    hashes = {version.key: version.manifest for version in forgotten}
    with session.transaction():
        relations = Relations(session)
        lost = _tables_of_lost(relations, version_schema(work.tenant.settings(catalog.name).schema), roots)
        relations.drop({made[0] for version in forgotten for made in version.relations} | lost)
        catalog.delete_versions(version.key for version in forgotten)
        for pointers in catalog.in_use():
            for step in {steps[root] for root in roots}:
                wanted = {n: v for n, v in pointers.items() if _root(n) in roots and steps[_root(n)] == step}
                WarehouseLoader(work, session, catalog.name, step, context.run).all(wanted, hashes)


def _check_lake(work: ActivityContext, catalog: PipelineCatalog, roots: set[str]) -> None:
    """Raises StepFailed if a version that is used could be dropped, and not be loaded again."""
    used = {pair for pointers in catalog.in_use() for pair in pointers.items() if _root(pair[0]) in roots}
    for name, version in sorted(used):
        its = catalog.versions({name: version}).get(name)
        if why := wholeness.missing_in_lake(work.tenant, catalog.name, name, version, its.manifest if its else None):
            raise StepFailed(f"table {name!r}: {why}{manifest.ANEW}")


def _tables_of_lost(relations: Relations, schema: str, roots: set[str]) -> set[TableName]:
    """The tables of raw versions whose rows the catalog has lost: what stands under their names would be in the way."""
    return {TableName(schema, table) for table in relations.names(schema) if _root(table) in roots}


def _steps(graph: Graph) -> dict[str, str]:
    """Raw table to its ingest step."""
    return {table: s.name for s in graph.of(IngestStep) for table in s.tables}


def _root(name: str) -> str:
    """The table that a nested one hangs from; itself, if it is not nested."""
    return name.partition("__")[0]


class RepairActivities(Activities):
    """The activity `repair`."""

    @implements(activities.REPAIR)
    def repair(self, work: ActivityContext, request: RepairInput) -> Repaired:
        """Compares what a tenant's environments show with the catalog, and repairs what differs."""
        if request.pipeline is not None:
            work.tenant.settings(request.pipeline)
        return wait_for_other_runs(work, lambda: self._repaired(work, request))

    def _repaired(self, work: ActivityContext, request: RepairInput) -> Repaired:
        every = Repaired()
        with work.session() as session:
            catalog = work.catalog(session)
            catalog.ensure()
            known = work.tenant.pipelines if request.from_lake else catalog.pipelines()
            for pipeline in [request.pipeline] if request.pipeline else sorted({*known} & {*work.tenant.pipelines}):
                graph = self._tenants.pipeline(request.tenant, pipeline).graph
                context = context_of(request).model_copy(update={"pipeline": pipeline})
                if request.from_lake:
                    one = restore_from_lake(work, session, context, graph)
                else:
                    one = repair(work, session, context, graph, dry_run=request.dry_run)
                every = Repaired(
                    found=every.found + one.found, left=every.left + one.left, runs={**every.runs, **one.runs}
                )
        return every

"""Before a backfill: what the steps' loads allow, and what the backfill of before has left."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping

from temporalio import activity
from temporalio.client import WorkflowExecutionStatus

from entrepot.activities.catalog.catalog import PipelineCatalog
from entrepot.activities.catalog.environment import Environment
from entrepot.activities.catalog.ingest_state import LOAD, comes_after
from entrepot.activities.ingest import manifest
from entrepot.activities.ingest.sources.stream import Hints
from entrepot.activities.runtime.activity import Activities, implements
from entrepot.activities.runtime.context import ActivityContext
from entrepot.activities.runtime.tenant import Tenant
from entrepot.errors import BadInput, listed
from entrepot.language.step import IngestStep
from entrepot.planning.selection import select
from entrepot.protocol import activities
from entrepot.protocol.backfills import LEFT, BackfillInput, LeftOver, PreparedBackfill, Stands, StandsRequest
from entrepot.protocol.messages import Target


class BackfillActivities(Activities):
    """The activities `prepare_backfill`, `stands` and `end_interval`."""

    @implements(activities.PREPARE_BACKFILL)
    def prepare_backfill(self, work: ActivityContext, request: BackfillInput) -> PreparedBackfill:
        """What the workflow has to know beside what every run is told by `prepare`, which comes before."""
        graph = self._tenants.pipeline(request.tenant, request.pipeline).graph
        chosen = select(graph, request.select) if request.select else frozenset(graph.steps)
        steps = [name for name in graph.steps if name in chosen and isinstance(graph.steps[name], IngestStep)]
        if not steps:
            ingests = [name for name, step in graph.steps.items() if isinstance(step, IngestStep)]
            raise BadInput(
                f"the selection {request.select!r} has no ingest step, so there is nothing to load again; those of "
                f"{request.pipeline!r}: {listed(ingests)}"
            )
        with work.session() as session:
            catalog = work.catalog(session).pipeline(request.pipeline)
            environment = catalog.environment(request.environment)
            loaded = {name: environment.ingest_state(name) for name in steps}
            if never := [name for name, last in loaded.items() if not last.load]:
                raise BadInput(
                    f"{listed(never)} loaded nothing in {request.environment!r} yet; a backfill loads a part of it "
                    f"again: run {request.pipeline!r} there first, or choose other steps with `select`"
                )
            merged = []
            for last in loaded.values():
                hashes = {name: its.manifest for name, its in catalog.versions(last.tables).items()}
                merged += [
                    table
                    for table, hints in _hints(work.tenant, request.pipeline, last.tables, hashes)
                    if hints.disposition == "merge"
                ]
            before = None if request.again else _left(str(activity.info().workflow_id), request)
            after = {name: _sequence(environment, name) for name in steps}
            is_there = before is not None and _stands(catalog, environment, before.after)
        one_by_one = f"intervals are loaded one by one, since {listed(merged)} is merged by key" if merged else ""
        left = before.ranges if before is not None and is_there else None
        return PreparedBackfill(one_by_one=one_by_one, left=left, after=after)

    @implements(activities.STANDS)
    def stands(self, work: ActivityContext, request: StandsRequest) -> Stands:
        """Whether an environment has what was loaded there: it may have gone back to an earlier load meanwhile."""
        with work.session() as session:
            catalog = work.catalog(session).pipeline(request.pipeline)
            environment = catalog.environment(request.environment)
            stands = _stands(catalog, environment, request.after)
            return Stands(stands=stands, after={name: _sequence(environment, name) for name in request.after})

    @implements(activities.END_INTERVAL)
    def end_interval(self, work: ActivityContext, request: Target) -> None:
        """Gives back the lease that an interval's extract has taken, so that collections go on meanwhile."""
        with work.session() as session:
            work.leases(session, request.pipeline).end(work.tag.run)


def _hints(
    tenant: Tenant, pipeline: str, versions: Mapping[str, str], hashes: Mapping[str, str | None]
) -> Iterator[tuple[str, Hints]]:
    """Of each table of a load, how it is loaded."""
    for table, version in versions.items():
        yield table, manifest.read(tenant, pipeline, table, version, hashes.get(table)).hints


def _sequence(environment: Environment, step: str) -> int:
    """How often a step has been loaded in an environment, or was set back there."""
    state = environment.own_ingest_state(step)
    return state.sequence if state is not None else 0


def _stands(catalog: PipelineCatalog, environment: Environment, after: Mapping[str, int]) -> bool:
    """Whether an environment has what was loaded after so many loads of each step: it did not go back to an earlier
    one, take that of another environment which does not have them, or begin anew."""
    loads = catalog.loads()
    for step, number in after.items():
        states = loads.get(step, [])
        own = {state.sequence: state for state in states if state.environment == environment.name}
        if max(own, default=0) < number:
            return False
        for state in own.values():
            before = own.get(state.sequence - 1)
            if state.sequence <= number or state.action == LOAD:
                continue
            if before is None or not comes_after(step, states, state.load, {before.load}):
                return False
    return True


def _left(workflow_id: str, request: BackfillInput) -> LeftOver | None:
    """What the newest backfill of the same left, if it did not come to its end."""

    async def ask() -> LeftOver | None:
        query = f"WorkflowId = '{workflow_id}' AND ExecutionStatus != 'Running'"
        newest = max(
            [each async for each in activity.client().list_workflows(query)], key=lambda e: e.start_time, default=None
        )
        if newest is None or newest.status == WorkflowExecutionStatus.COMPLETED:
            return None
        found = await newest.memo_value(LEFT, None)
        return LeftOver.model_validate(found) if found else None

    left = asyncio.run(ask())
    return left if left is not None and left.asked == request.asked else None

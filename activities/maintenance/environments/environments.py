"""The activities by which environments are made of others, compared, promoted and listed."""

from __future__ import annotations

from functools import partial

from entrepot.activities.catalog.tables import now
from entrepot.activities.maintenance.environments.creation import create
from entrepot.activities.maintenance.environments.difference import Comparing
from entrepot.activities.maintenance.environments.freshness import brief, freshness_rows, told_in
from entrepot.activities.maintenance.environments.listing import environment_rows, publish_rows, run_rows
from entrepot.activities.maintenance.environments.promises import needed
from entrepot.activities.maintenance.environments.promotion import Promotion
from entrepot.activities.maintenance.environments.shown import check_two
from entrepot.activities.runtime.activity import Activities, context_of, implements
from entrepot.activities.runtime.context import ActivityContext, wait_for_other_runs
from entrepot.language.names import DEFAULT_ENVIRONMENT
from entrepot.protocol import activities
from entrepot.protocol.environments import (
    Created,
    CreateInput,
    DiffInput,
    EnvironmentDiff,
    EnvironmentRow,
    FreshnessInput,
    FreshnessRow,
    Needed,
    PromoteInput,
    PublishRow,
    RunRow,
    RunsInput,
    Watched,
    WatchInput,
)
from entrepot.protocol.hooks import LATE
from entrepot.protocol.messages import Promoted, Target, TenantInput
from entrepot.protocol.triggers import ProbeInput


class EnvironmentActivities(Activities):
    """The activities `create`, `diff`, `prepare_promotion`, `promote_environment`, `environments`, `history`,
    `runs`, `freshness`, `watched` and `needed`."""

    @implements(activities.CREATE)
    def create(self, work: ActivityContext, request: CreateInput) -> Created:
        """Makes an environment that shows what another shows. No data is computed or copied."""
        return create(self._tenants, work, context_of(request), request)

    @implements(activities.DIFF)
    def diff(self, work: ActivityContext, request: DiffInput) -> EnvironmentDiff:
        """What an environment has otherwise than another, down to the rows; computed in the warehouse."""
        work.tenant.settings(request.pipeline)
        check_two(request.environment, request.against)
        graph = self._tenants.pipeline(request.tenant, request.pipeline).graph
        with work.session() as session:
            work.catalog(session).ensure()
            comparing = Comparing(work, session, context_of(request), request, graph)
            return wait_for_other_runs(work, comparing.run)

    @implements(activities.PREPARE_PROMOTION)
    def prepare_promotion(self, work: ActivityContext, request: PromoteInput) -> PromoteInput:
        """The request, checked, with what both environments show now, unless somebody has looked before."""
        work.tenant.settings(request.pipeline)
        check_two(request.like, request.environment)
        work.tenant.check_environment(request.environment)
        with work.session() as session:
            work.catalog(session).ensure()
            return Promotion(self._tenants, work, session, context_of(request), request).prepared()

    @implements(activities.PROMOTE_ENVIRONMENT)
    def promote_environment(self, work: ActivityContext, request: PromoteInput) -> Promoted:
        """Points an environment at what another shows. The run's id is the token: doing it twice is doing it once."""
        with work.session() as session:
            promotion = Promotion(self._tenants, work, session, context_of(request), request)
            promoted = wait_for_other_runs(work, promotion.execute)
        return promoted.model_copy(update=self._tenants.told_of(context_of(request)))

    @implements(activities.ENVIRONMENTS)
    def environments(self, work: ActivityContext, request: TenantInput) -> list[EnvironmentRow]:
        """Every environment, of all pipelines or of one, and what was published there last."""
        with work.session() as session:
            catalog = work.catalog(session)
            catalog.ensure()
            return environment_rows(catalog, work.tenant, request.pipeline)

    @implements(activities.HISTORY)
    def history(self, work: ActivityContext, request: Target) -> list[PublishRow]:
        """The publishes of an environment, the newest first."""
        with work.session() as session:
            catalog = work.catalog(session)
            catalog.ensure()
            return publish_rows(catalog, work.tenant, request.pipeline, request.environment)

    @implements(activities.RUNS)
    def runs(self, work: ActivityContext, request: RunsInput) -> list[RunRow]:
        """The runs that go on, and those that ended, the newest first."""
        with work.session() as session:
            catalog = work.catalog(session)
            catalog.ensure()
            return run_rows(catalog, work.tenant, request, partial(work.leases, session))

    @implements(activities.FRESHNESS)
    def freshness(self, work: ActivityContext, request: FreshnessInput) -> list[FreshnessRow]:
        """Of each table that promises to be fresh, whether it is, and why not."""
        graphs = self._tenants.graphs(request.tenant, request.pipeline)
        with work.session() as session:
            catalog = work.catalog(session)
            catalog.ensure()
            return freshness_rows(catalog, graphs, request.environment)

    @implements(activities.WATCHED)
    def watched(self, work: ActivityContext, request: WatchInput) -> Watched:
        """Of each table that promises to be fresh, whether it is, in all environments of which hooks are told."""
        its = work.tenant.settings(request.pipeline)
        graph = self._tenants.pipeline(request.tenant, request.pipeline).graph
        with work.session() as session:
            catalog = work.catalog(session)
            catalog.ensure()
            known = {DEFAULT_ENVIRONMENT, *catalog.pipeline(request.pipeline).environments()}
            told = sorted(name for name in known if LATE in its.hooks_in(name))
            rows = freshness_rows(catalog, [graph], *told)
        return Watched(rows=tuple(map(brief, rows)), hooks=its.hooks.get(LATE, ()))

    @implements(activities.NEEDED)
    def needed(self, work: ActivityContext, request: ProbeInput) -> list[Needed]:
        """When runs have to begin so that a pipeline's promises are kept in an environment, and with which steps."""
        graph = self._tenants.pipeline(request.tenant, request.pipeline).graph
        with work.session() as session:
            catalog = work.catalog(session)
            catalog.ensure()
            [told] = told_in(catalog.pipeline(request.pipeline), request.environment)
            return needed(graph, told, now())

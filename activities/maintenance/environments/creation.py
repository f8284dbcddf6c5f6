"""Creating an environment: it points at what another points at, and stands with its sources where that one stands."""

from __future__ import annotations

from entrepot.activities.catalog.catalog import Catalog
from entrepot.activities.catalog.environment import CREATE
from entrepot.activities.catalog.records import Run
from entrepot.activities.catalog.tables import now
from entrepot.activities.ingest import heads
from entrepot.activities.maintenance.environments.shown import check_two, shown_by
from entrepot.activities.publish.view_sync import ViewSync
from entrepot.activities.runtime.context import ActivityContext, wait_for_other_runs
from entrepot.activities.runtime.tenant import Tenants
from entrepot.backends import Session
from entrepot.errors import BadInput, listed
from entrepot.language.names import DEFAULT_ENVIRONMENT
from entrepot.planning.graph import Graph
from entrepot.protocol.environments import Created, CreateInput
from entrepot.protocol.messages import Context

CREATED = "created"
"""The status of a row in `runs` that says which environment another was made of."""


def create(tenants: Tenants, work: ActivityContext, context: Context, asked: CreateInput) -> Created:
    """Creates an environment, for a pipeline or for all that show something in the other one. Idempotent.

    Raises:
        BadInput: if it shows something already, or the other one shows nothing.
    """
    _check(work, asked)
    with work.session() as session:
        work.catalog(session).ensure()
        pipelines = _pipelines(work, work.catalog(session), asked, context.run)
    shows: dict[str, list[str]] = {}
    behind: list[str] = []
    for pipeline in pipelines:
        its = context.model_copy(update={"pipeline": pipeline})
        with work.session() as session:
            creating = _Creating(work, session, its, asked.like, tenants.graph(its))
            shows[pipeline] = wait_for_other_runs(work, creating.execute)
            behind += creating.behind
    return Created(shows=shows, behind=tuple(behind))


def _check(work: ActivityContext, asked: CreateInput) -> None:
    check_two(asked.environment, asked.like)
    if asked.environment == DEFAULT_ENVIRONMENT:
        raise BadInput(
            f"{DEFAULT_ENVIRONMENT!r} is not made of another environment: run the pipeline, or promote one, which asks "
            "for what checks have found"
        )
    work.tenant.check_environment(asked.environment)
    if asked.pipeline is not None:
        work.tenant.settings(asked.pipeline)


def _pipelines(work: ActivityContext, catalog: Catalog, asked: CreateInput, run: str) -> list[str]:
    """The pipelines for which there is something to do: those that do not show anything there, or do by this run."""
    if asked.pipeline is not None:
        shown_by(catalog.pipeline(asked.pipeline), asked.like)
        its = catalog.pipeline(asked.pipeline).environment(asked.environment)
        if (head := its.head()).pointers and its.publish_of(run, head) is None:
            raise BadInput(
                f"{its} exists: run {head.run} published there last. Promote {asked.like!r} into it, or drop it first"
            )
        return [asked.pipeline]
    every = [catalog.pipeline(name) for name in sorted(work.tenant.pipelines)]
    showing = [each for each in every if each.head(asked.like).pointers]
    if not showing:
        raise BadInput(f"tenant {asked.tenant!r}: no pipeline shows anything in {asked.like!r}")
    todo = [
        each.name
        for each in showing
        if not (head := each.environment(asked.environment).head()).pointers
        or each.environment(asked.environment).publish_of(run, head)
    ]
    if not todo:
        raise BadInput(
            f"tenant {asked.tenant!r}: {asked.environment!r} exists for {listed(each.name for each in showing)}. "
            f"Promote {asked.like!r} into it, or drop it first"
        )
    return todo


class _Creating:
    """An environment of one pipeline, as it is created."""

    def __init__(
        self, work: ActivityContext, session: Session, context: Context, like: str, graph: Graph | None
    ) -> None:
        self._work = work
        self._session = session
        self._context = context
        self._like = like
        self._graph = graph
        self._catalog = work.catalog(session).pipeline(context.pipeline)
        self._environment = self._catalog.environment(context.environment)
        self.behind: list[str] = []

    def execute(self) -> list[str]:
        """Creates it. Returns the names that it shows."""
        with self._work.leases(self._session, self._context.pipeline).holding(self._context.run, self._work.workflow):
            return self._created()

    def _created(self) -> list[str]:
        run, environment = self._context.run, self._environment
        views = ViewSync(self._work, self._session, self._context)
        head = environment.head()
        # By an attempt whose answer was lost; others may have published since.
        done, its = environment.publish_of(run, head), None
        steps = self._catalog.ingest_steps()
        if done is None:
            other = shown_by(self._catalog, self._like)
            its = views.whole_versions(other.pointers, head)
            views.claim(its)
            with self._session.transaction():
                environment.create()
                environment.stand_like(self._catalog.environment(self._like), steps, run=run)
                # Most promise the same everywhere, and need no word for each environment.
                promised = ((each, each.contract_in(self._like)) for each in its.versions.values())
                others = ((each, like) for each, like in promised if each.contract_in(environment.name) != like)
                self._catalog.promise(environment.name, others)
                done = head = views.promote(CREATE, head, other.pointers, expected=head.sequence)
                self._catalog.add_run(self._record(other.run))
        else:  # its record may be lacking, where it was not made in one transaction
            self._catalog.add_run(self._record(self._catalog.head(self._like).run))
        for step in steps:
            heads.renew(self._work.tenant, environment, step)
        self.behind += views.follow(head, self._graph, pointed=its).left_behind()
        return sorted(done.pointers)

    def _record(self, published_by: str) -> Run:
        return Run(
            pipeline=self._context.pipeline,
            environment=self._context.environment,
            run=self._context.run,
            workflow=self._work.workflow,
            status=CREATED,
            started_at=now(),
            ended_at=now(),
            summary={"like": self._like, "run": published_by},
        )

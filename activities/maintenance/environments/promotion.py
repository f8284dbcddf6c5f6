"""Promoting: an environment is pointed at what another shows, all of it or nothing. What was computed there is not
computed again, and checks that hold for a version are not run again.

Names that the other environment does not show stay where the pipeline still makes them, as after a run of some steps;
those that no step makes any more go, as after a run of all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from entrepot.activities.catalog.environment import PROMOTE, Publish
from entrepot.activities.catalog.records import Run
from entrepot.activities.catalog.tables import now
from entrepot.activities.catalog.version import Version
from entrepot.activities.ingest import heads
from entrepot.activities.maintenance.environments.gate import Gate
from entrepot.activities.maintenance.environments.shown import shown_by
from entrepot.activities.maintenance.products.gate import ProductGate
from entrepot.activities.publish.view_sync import PointedVersions, ViewSync
from entrepot.activities.runtime.context import ActivityContext
from entrepot.activities.runtime.tenant import Tenants
from entrepot.backends import Session
from entrepot.errors import BadInput, Conflict, unknown
from entrepot.planning.graph import Graph
from entrepot.planning.plan import short
from entrepot.protocol.environments import PromoteInput
from entrepot.protocol.messages import Context, Promoted

PROMOTED = "promoted"
"""The status of a row in `runs` that says what was promoted."""


def merged(graph: Graph, new: Mapping[str, str], shown: Mapping[str, str]) -> dict[str, str]:
    """What an environment points at after a promotion.

    Args:
        new: What the other environment shows.
        shown: What it shows itself.
    """
    return {**{name: version for name, version in shown.items() if name in graph.makers}, **new}


@dataclass(frozen=True)
class _Moved:
    """What has moved, by this attempt or one before."""

    done: Publish
    """What came of it."""
    head: Publish
    """What is shown now, which others may have published since."""
    again: tuple[str, ...] = ()
    checks: Mapping[str, str] = field(default_factory=dict)
    pointed: PointedVersions | None = None


class Promotion:
    """One promotion of one environment into another."""

    def __init__(
        self, tenants: Tenants, work: ActivityContext, session: Session, context: Context, asked: PromoteInput
    ) -> None:
        self._work = work
        self._session = session
        self._context = context
        self._asked = asked
        self._tenants = tenants
        self._catalog = work.catalog(session).pipeline(asked.pipeline)
        self._environment = self._catalog.environment(asked.environment)

    @cached_property
    def _graph(self) -> Graph:
        return self._tenants.pipeline(self._asked.tenant, self._asked.pipeline).graph

    def prepared(self) -> PromoteInput:
        """The request, with what both environments show now, where nobody has looked before.

        Raises:
            BadInput: if the other environment shows nothing, the request expects something of a third one, or somebody
                depends on a product that would break.
            Conflict: if one of them shows something else than was expected.
        """
        two = (self._asked.like, self._asked.environment)
        for name in self._asked.expect.keys() - {*two}:
            raise BadInput(f"`expect` names what the two environments showed: {unknown('environment', name, two)}")
        other, head = shown_by(self._catalog, self._asked.like), self._environment.head()
        self._check_expected(other, head)
        self._check_products(other, head)
        return self._asked.model_copy(update={"expect": dict(zip(two, (other.run, head.run), strict=True))})

    def execute(self) -> Promoted:
        """Moves the pointers, and lets everything that people see follow."""
        with self._work.leases(self._session, self._asked.pipeline).holding(self._context.run, self._work.workflow):
            return self._promoted()

    def _promoted(self) -> Promoted:
        environment, views = self._environment, ViewSync(self._work, self._session, self._context)
        head = environment.head()
        # By an attempt whose answer was lost; others may have published since.
        done = environment.publish_of(self._context.run, head)
        moved = self._move(views, head) if done is None else self._found(done, head)
        steps = self._catalog.ingest_steps()
        for step in steps:
            heads.renew(self._work.tenant, environment, step)
        followed = views.follow(moved.head, self._graph, moved.checks, pointed=moved.pointed)
        return Promoted(
            moved=moved.done.moved,
            sequence=moved.done.sequence,
            links=followed.links,
            ahead=environment.steps_ahead(steps, moved.done.pointers),
            again=moved.again,
            behind=followed.left_behind(),
        )

    def _move(self, views: ViewSync, head: Publish) -> _Moved:
        environment, other = self._environment, shown_by(self._catalog, self._asked.like)
        self._check_expected(other, head)
        pointers = merged(self._graph, other.pointers, head.pointers)
        self._check_products(other, head)
        if pointers == head.pointers:
            self._promise(self._catalog.versions(other.pointers))
            return _Moved(replace(head, moved=()), head)
        pointed = views.whole_versions(pointers, head)
        gate = Gate(self._tenants, self._work, self._catalog, self._asked)
        checks = gate.versions(pointers, head.changed_names(pointers))
        views.claim(pointed)
        with self._session.transaction():
            environment.create()
            # First: if we die in between, the next run asks a source again, and loses nothing.
            again = environment.continue_from(self._catalog.loads(), pointers, run=self._context.run)
            self._promise({name: version for name, version in pointed.versions.items() if name in other.pointers})
            done = views.promote(PROMOTE, head, pointers, expected=head.sequence)
            self._catalog.add_run(self._record(other.run, again))
        return _Moved(done, done, again, checks, pointed)

    def _found(self, done: Publish, head: Publish) -> _Moved:
        """What an attempt before has moved. Its record may be lacking, where it was not made in one transaction."""
        records = self._work.catalog(self._session).runs(self._context.run, PROMOTED)
        again = tuple(each for record in records for each in record.summary["again"])
        self._catalog.add_run(self._record(self._asked.expect.get(self._asked.like, ""), again))
        return _Moved(done, head, again)

    def _check_expected(self, other: Publish, head: Publish) -> None:
        """Raises Conflict if an environment shows something else than somebody has seen."""
        for name, its in ((self._asked.like, other), (self._asked.environment, head)):
            expected = self._asked.expect.get(name)
            if expected is None or (its.run.startswith(expected) if expected else not its.run):
                continue
            before = f"what run {short(expected)} had published" if expected else "nothing"
            after = f"what run {short(its.run)} published" if its.run else "nothing any more"
            raise Conflict(
                f"{self._catalog.environment(name)}: it showed {before} when it was looked at, and shows {after}, so "
                f"nothing was promoted; look again: `entrepot env diff {self._asked.like} {self._asked.environment} "
                f"--pipeline {self._asked.pipeline}`"
            )

    def _check_products(self, other: Publish, head: Publish) -> None:
        """Raises BadInput if somebody depends on a product that the promotion would break."""
        there, here = self._asked.like, self._asked.environment
        shown = {name: version.contract_in(here) for name, version in self._catalog.versions(head.pointers).items()}
        products = {name: contract for name, contract in shown.items() if contract is not None}
        if not products:
            return
        pointers = merged(self._graph, other.pointers, head.pointers)
        versions = self._catalog.versions(other.pointers)
        new = {
            name: versions[name].contract_in(there) if name in versions else None
            for name in products
            if name in versions or name not in pointers
        }
        if refused := ProductGate(self._tenants, self._asked, self._graph, products).refused(new):
            raise BadInput(f"{self._environment}: {'. '.join(refused)}")

    def _promise(self, versions: Mapping[str, Version]) -> None:
        """Records that versions promise what they do in the other environment."""
        products = (each for each in versions.values() if each.promised)
        promised = ((each, each.contract_in(self._asked.like)) for each in products)
        self._catalog.promise(self._asked.environment, promised)

    def _record(self, published_by: str, again: tuple[str, ...]) -> Run:
        return Run(
            pipeline=self._asked.pipeline,
            environment=self._asked.environment,
            run=self._context.run,
            workflow=self._work.workflow,
            status=PROMOTED,
            started_at=now(),
            ended_at=now(),
            summary={"like": self._asked.like, "run": published_by, "again": again},
        )

"""Syncs what an environment shows with its record: views and files follow the pointers, and nothing else stays.

All of it is idempotent: the same attempt may do it again, or whoever comes after one that died.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from entrepot.activities.catalog import owners
from entrepot.activities.catalog.details import PageDetails
from entrepot.activities.catalog.environment import Publish
from entrepot.activities.catalog.owners import Owner, Place, Shown
from entrepot.activities.catalog.version import Version
from entrepot.activities.publish.page_verdicts import with_verdicts
from entrepot.activities.publish.places import copy_place, places_of, view_place
from entrepot.activities.runtime.context import ActivityContext
from entrepot.activities.storage import lake
from entrepot.backends import Session
from entrepot.errors import BadInput, StepFailed
from entrepot.identity.version import check_schema
from entrepot.language.step import PublishStep, Step
from entrepot.planning.copies import CopiedTo, copies
from entrepot.planning.graph import Graph
from entrepot.protocol.messages import Context


@dataclass(frozen=True)
class PointedVersions:
    """What an environment points at, or is about to."""

    pointers: Mapping[str, str]
    versions: Mapping[str, Version]
    """Those of them that the catalog knows."""


class ViewSync:
    """The views and files of one environment."""

    def __init__(self, work: ActivityContext, session: Session, context: Context) -> None:
        catalog = work.catalog(session)
        self._work = work
        self._session = session
        self._context = context
        self._places = catalog.places
        self._owner = Owner(context.tenant, context.pipeline, context.environment)
        self._catalog = catalog.pipeline(context.pipeline)
        self._environment = self._catalog.environment(context.environment)

    def pointed_versions(self, pointers: Mapping[str, str]) -> PointedVersions:
        """The versions behind pointers."""
        return PointedVersions(pointers, self._catalog.versions(pointers))

    def claim(self, pointed: PointedVersions) -> None:
        """Claims the places of what an environment is about to show.

        Raises:
            BadInput: if one is somebody else's, or something stands there that Entrepot has not made.
        """
        wanted = self._places_of(pointed)
        recorded = self._environment.shown()
        self._check_unoccupied(wanted, recorded)
        self._places.claim(self._owner, wanted - recorded, run=self._context.run)

    def check_names(self, graph: Graph, names: Iterable[str]) -> None:
        """Checks the names that a run of these steps will show against what is recorded and what stands there.

        Raises:
            BadInput: if one of them is somebody else's, or something stands there that Entrepot has not made.
        """
        wanted = owners.check_distinct(self._to_show(graph, names))
        recorded = self._environment.shown()
        self._places.check_free(self._owner, wanted - recorded)
        self._check_unoccupied(wanted, recorded)

    def _to_show(self, graph: Graph, names: Iterable[str]) -> Iterator[tuple[Place, str]]:
        """Where the tables of steps will be shown, and their copies, as far as the code says it in plain words."""
        tenant = self._work.tenant
        for step in (graph.steps[name] for name in names):
            for table in step.output_tables:
                yield view_place(tenant, self._environment.pipeline, self._environment.name, table), table
            if isinstance(step, PublishStep):
                for copy in copies(step.function, self._context.parameters):
                    with at_step(step):
                        place = self.copied(step, copy)
                    yield place, step.name

    def check_copy(self, step: PublishStep, place: Place) -> None:
        """Checks a copy's place against what is recorded and what stands there, before any of it is computed.

        Raises:
            BadInput: if it is somebody else's, or something stands there that Entrepot has not made.
        """
        recorded = self._environment.shown()
        wanted = frozenset({(place, step.name)})
        self._places.check_free(self._owner, wanted)
        self._check_unoccupied(wanted, recorded)

    def copied(self, step: PublishStep, copy: CopiedTo) -> Place:
        """Where a copy will be shown.

        Raises:
            BadInput: if that is a schema of Entrepot's own, or a warehouse that the tenant does not have.
        """
        check_schema(copy.schema)
        here = self._work.tenant.at(copy.to) is self._work.tenant
        return copy_place(self._context.environment, copy.schema, copy.name or step.name, "" if here else copy.to)

    def displaced(self, pointed: PointedVersions) -> set[str]:
        """The names that do not stand where they should, though their versions may be right: the place is another than
        before, or somebody dropped or replaced what stood there. Looks where the pipeline runs alone."""
        wanted = self._places_of(pointed)
        recorded = self._environment.shown()
        names = {name for _, name in (wanted - recorded) | self._stale(pointed, recorded - wanted)}
        views = {(place, name) for place, name in wanted if place.kind == "view" and not place.warehouse}
        kinds = {schema: owners.relations_in(self._session, schema) for schema in {place.schema for place, _ in views}}
        return names | {name for place, name in views if kinds[place.schema].get(place.table.lower()) != "view"}

    def promote(
        self,
        action: str,
        current: Publish,
        pointers: Mapping[str, str],
        *,
        expected: int,
        displaced: Iterable[str] = (),
    ) -> Publish:
        """Moves all pointers at once, and syncs the views after: in the caller's transaction, where the warehouse has
        them.

        Where it has none, a view that cannot be moved takes everything back; after a crash, the next run finishes.

        Args:
            displaced: Names whose pointers stay, and that are to be shown anew.
        """
        names = current.changed_names(pointers) | set(displaced)
        moved = self._environment.publish(self._context.run, action, pointers, names, expected=expected)
        try:
            self.sync_views()
        except (BadInput, StepFailed):
            if not self._work.tenant.backend.capabilities.transactional_ddl:
                self._environment.publish(self._context.run, "undo", current.pointers, names, expected=moved.sequence)
                self.sync_views()
            raise
        return moved

    def sync_views(self) -> None:
        """Repoints the views of every name that moved since they were last synced, and removes what is not shown any
        more."""
        history = self._environment.history()
        head = history[0]
        names = {name for publish in history if publish.sequence > head.views_synced for name in publish.moved}
        pointed = self.pointed_versions(head.pointers)
        wanted = self._places_of(pointed)
        self.repoint(pointed, {(place, name) for place, name in wanted if name in names})
        self._remove_stale(pointed, wanted, "view")
        self._environment.record_views_synced(head.sequence)

    def sync_files(
        self,
        pointed: PointedVersions,
        graph: Graph | None,
        checks: Mapping[str, str] = {},
    ) -> dict[str, str]:
        """Writes published pages and files, and removes those of before. Name to path: see `write_files`.

        Args:
            pointed: What the environment points at, unless somebody else has published meanwhile.
        """
        pointed, links = self.write_files(graph, checks, pointed)
        wanted = self._places_of(pointed)
        self._remove_stale(pointed, wanted, "file")
        return links

    def write_files(
        self,
        graph: Graph | None,
        checks: Mapping[str, str] = {},
        pointed: PointedVersions | None = None,
    ) -> tuple[PointedVersions, dict[str, str]]:
        """Copies published pages and files to paths that stay the same. What is pointed at, and name to path.

        Pages say what checks have found on what they rest on, which may change while they do not. Who publishes
        meanwhile may have written a file before we do: then it is written once more, as it is published now.

        Args:
            graph: With the checks; None, if the pipeline's code cannot be loaded.
            checks: The versions of checks, by whose rules verdicts count.
            pointed: What the environment points at, where that is known already.
        """
        pointers: Mapping[str, str] = self._environment.head().pointers
        while True:
            pointed = (
                pointed if pointed is not None and pointed.pointers == pointers else self.pointed_versions(pointers)
            )
            links, is_written = {}, False
            for place, name in self._places_of(pointed):
                if place.kind == "file":
                    made, links[name] = pointed.versions[name], self._work.tenant.lake_path(place.table)
                    assert made.published_file is not None
                    data = lake.read(made.published_file)
                    if isinstance(made.details, PageDetails):
                        data = with_verdicts(data, self._catalog, made, pointed.versions, graph, checks)
                    if not lake.exists(links[name]) or lake.read(links[name]) != data:
                        lake.write(data, links[name])
                        is_written = True
            if not is_written or (pointers := self._environment.head().pointers) == pointed.pointers:
                return pointed, links

    def repoint(self, pointed: PointedVersions, shown: Iterable[tuple[Place, str]]) -> None:
        """Repoints views at the tables of these versions."""
        tables = {place: pointed.versions[name].table for place, name in shown if place.kind == "view"}
        for (warehouse, schema), some in _by_schema(tables).items():
            with session_at(self._work, self._session, warehouse) as there:
                there.create_schema(schema)
                for place in sorted(some, key=str):
                    table = tables[place]
                    assert table is not None
                    there.repoint_view(place.name, table)

    def repoint_remade(self, anew: Mapping[str, str]) -> None:
        """Repoints the views of all environments at the new tables of remade versions, where they show them."""
        for environment, theirs in (self._catalog.pointers() if anew else {}).items():
            pointed = self.pointed_versions({n: v for n, v in anew.items() if theirs.get(n) == v})
            shown = self._catalog.environment(environment).shown()
            self.repoint(pointed, {(place, name) for place, name in shown if name in pointed.versions})

    def remove_places(self, unwanted: Iterable[Place]) -> None:
        """Removes views and files. Somebody's own table that took a view's place stays."""
        gone = set(unwanted)
        for place in gone:
            if place.kind == "file":
                lake.remove(self._work.tenant.lake_path(place.table))
        for (warehouse, schema), some in _by_schema({place for place in gone if place.kind == "view"}).items():
            with session_at(self._work, self._session, warehouse) as there:
                kinds = owners.relations_in(there, schema)
                for place in sorted(some, key=str):
                    if kinds.get(place.table.lower()) == "view":
                        there.drop_view(place.name)

    def _check_unoccupied(self, wanted: Shown, recorded: Shown) -> None:
        """Raises BadInput for places where something stands that Entrepot has not made."""
        views = {place for place, _ in wanted if place.kind == "view"}
        ours = {place for place, _ in recorded}
        for (warehouse, schema), places in _by_schema(views).items():
            new = {place for place in places if place not in ours}
            if warehouse and not new:
                continue  # another warehouse is not asked at each publish
            with session_at(self._work, self._session, warehouse) as there:
                kinds = owners.relations_in(there, schema)
            for place in places:
                owners.check_unoccupied(kinds, place, is_ours=place in ours)

    def _remove_stale(self, pointed: PointedVersions, wanted: Shown, kind: str) -> None:
        """Removes what an environment does not show any more, and releases its place."""
        recorded = self._environment.shown()
        stale = {(place, name) for place, name in self._stale(pointed, recorded - wanted) if place.kind == kind}
        standing = {place for place, _ in wanted}
        self.remove_places({place for place, _ in stale if place not in standing})
        self._places.release(self._context.pipeline, self._context.environment, frozenset(stale))

    def _stale(self, pointed: PointedVersions, unwanted: Shown) -> Shown:
        """Of what is recorded and not wanted, that which may go: not what cannot be reached since the tenant no longer
        has the warehouse, nor what is pointed at and has lost its row in the catalog."""
        lost = pointed.pointers.keys() - pointed.versions.keys()
        return frozenset(
            (place, name)
            for place, name in unwanted
            if name not in lost and place.warehouse in ("", *self._work.tenant.warehouses)
        )

    def _places_of(self, pointed: PointedVersions) -> Shown:
        return places_of(self._work.tenant, self._context, pointed.versions.values())


@contextmanager
def at_step(step: Step) -> Iterator[None]:
    """What is wrong with a name that a step asks for names the step, and where it stands."""
    try:
        yield
    except BadInput as error:
        raise BadInput(f"{step.kind} {step.name!r} ({step.at}): {error}") from error


def _by_schema(views: Iterable[Place]) -> dict[tuple[str, str], set[Place]]:
    found: dict[tuple[str, str], set[Place]] = {}
    for place in views:
        found.setdefault((place.warehouse, place.schema), set()).add(place)
    return dict(sorted(found.items()))


@contextmanager
def session_at(work: ActivityContext, session: Session, warehouse: str) -> Iterator[Session]:
    """A session of one of the tenant's warehouses; an empty name means the one of the given session."""
    if not warehouse:
        yield session
        return
    with work.session(warehouse=warehouse) as there:
        yield there

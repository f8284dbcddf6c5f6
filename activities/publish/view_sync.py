"""Syncs what an environment shows with its record: views and files follow the pointers, and nothing else stays.

All of it is idempotent: the same attempt may do it again, or whoever comes after one that died.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field

from entrepot.activities.catalog import owners
from entrepot.activities.catalog.details import PageDetails
from entrepot.activities.catalog.environment import UNDO, Publish
from entrepot.activities.catalog.owners import Owner, Place, Shown
from entrepot.activities.catalog.version import Version
from entrepot.activities.publish.page_verdicts import is_page, with_verdicts
from entrepot.activities.publish.places import copy_place, places_of, view_place
from entrepot.activities.runtime.activity import is_last_attempt
from entrepot.activities.runtime.context import ActivityContext
from entrepot.activities.storage import lake
from entrepot.backends import Session
from entrepot.errors import BadInput, Contended, StepFailed, Unavailable, listed
from entrepot.identity.version import check_schema
from entrepot.language.step import PublishStep, Step
from entrepot.planning.copies import CopiedTo, copies
from entrepot.planning.graph import Graph
from entrepot.protocol.messages import Context
from entrepot.tracebacks import describe, is_transient


@dataclass(frozen=True)
class PointedVersions:
    """What an environment points at, or is about to."""

    pointers: Mapping[str, str]
    versions: Mapping[str, Version]
    """Those of them that the catalog knows."""


@dataclass
class Followed:
    """What came of following a publish, part by part."""

    links: dict[str, str] = field(default_factory=dict)
    """Name to the path of its page or file."""
    behind: list[str] = field(default_factory=list)
    """What does not show yet what was published, and why, each a sentence."""
    errors: list[Exception] = field(default_factory=list)
    is_written: bool = False
    """Whether a file was not as it should be."""

    @contextmanager
    def part(self, what: str) -> Iterator[None]:
        """One part. What fails in it is kept, so that the others have their turn."""
        try:
            yield
        except (InterruptedError, Contended):
            raise
        except Exception as error:
            self.errors.append(error)
            self.behind.append(f"{what}: {describe(error)}")

    def left_behind(self) -> tuple[str, ...]:
        """What does not follow a publish, when all attempts are through: it stands, and somebody has to know.

        Raises:
            Exception: what a part failed with that may pass, unless this is the last attempt.
        """
        if not is_last_attempt():
            for error in self.errors:
                if is_transient(error) is not False:
                    raise error
        return tuple(self.behind)


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
        self._shown_here = 0
        """The publish that the views of this warehouse show: they have moved with its row."""

    def pointed_versions(self, pointers: Mapping[str, str]) -> PointedVersions:
        """The versions behind pointers."""
        return PointedVersions(pointers, self._catalog.versions(pointers))

    def whole_versions(self, pointers: Mapping[str, str], current: Publish) -> PointedVersions:
        """The versions behind what is about to be pointed at.

        Raises:
            StepFailed: if one that is not pointed at yet is not in the catalog.
        """
        pointed = self.pointed_versions(pointers)
        new = current.changed_names(pointers) & pointers.keys()
        if missing := new - pointed.versions.keys():
            raise StepFailed(f"cannot publish {listed(missing)}: the versions are not in the catalog")
        return pointed

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
        to = "" if here else copy.to
        return copy_place(self._work.tenant, self._context.environment, copy.schema, copy.name or step.name, to)

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
        """Moves all pointers at once: one row. The views of this warehouse move with it in the caller's transaction,
        where it has them; everything else follows (`follow`).

        Where it has no transactions, a view that may not be moved takes everything back.

        Args:
            displaced: Names whose pointers stay, and that are to be shown anew.
        """
        names = current.changed_names(pointers) | set(displaced)
        moved = self._environment.publish(self._context.run, action, pointers, names, expected=expected)
        is_whole = self._work.tenant.backend.capabilities.transactional_ddl
        try:
            self._sync_here(moved)
        except (BadInput, StepFailed):
            if not is_whole:
                back = self._environment.publish(
                    self._context.run, UNDO, current.pointers, names, expected=moved.sequence
                )
                self._sync_here(back)
            raise
        except Unavailable:
            if is_whole:
                raise  # else the row stands, and the views follow it
        return moved

    def _sync_here(self, publish: Publish) -> None:
        """Shows what was published on the warehouse where the catalog stands, and no more than that."""
        pointed = self.pointed_versions(publish.pointers)
        wanted = self._places_of(pointed)
        names = self._to_repoint(publish)
        self.repoint(pointed, {(place, n) for place, n in wanted if not place.warehouse and (n in names)})
        self._remove_stale(pointed, wanted, lambda place: place.kind == "view" and not place.warehouse)
        self._shown_here = publish.sequence

    def _to_repoint(self, publish: Publish) -> Collection[str]:
        """What it moved; all names, where a publish before it has not been followed to its end."""
        return publish.moved if publish.views_synced == publish.sequence - 1 else publish.pointers.keys()

    def follow(
        self,
        publish: Publish,
        graph: Graph | None,
        checks: Mapping[str, str] = {},
        *,
        pointed: PointedVersions | None = None,
        anew: Mapping[str, str] = {},
    ) -> Followed:
        """Brings everything that people see after what was published: views on every warehouse, pages and files; takes
        away what is not shown any more. Idempotent; whoever comes next finishes what a process that died has left.

        What cannot follow keeps nothing else back, and takes nothing back: the publish stands. Who published meanwhile
        may have been overtaken by us: then all is shown once more, as it is published now.

        Args:
            publish: What the environment points at.
            graph: With the checks; None, if the pipeline's code cannot be loaded.
            checks: The versions of checks, by whose rules verdicts count on pages.
            pointed: The versions behind it, where they are known already.
            anew: Remade versions, which other environments may show, too.
        """
        names: Collection[str] = self._to_repoint(publish) if publish.views_synced < publish.sequence else ()
        while True:
            if pointed is None or pointed.pointers != publish.pointers:
                pointed = self.pointed_versions(publish.pointers)
            followed = Followed()
            self._follow(followed, pointed, names, publish, graph, checks)
            if anew:
                with followed.part("the views of other environments"):
                    self.repoint_remade(anew)
            newest = self._environment.head() if names or followed.is_written else publish
            if newest.sequence == publish.sequence:
                if publish.views_synced < publish.sequence and not followed.behind:
                    with followed.part("the catalog's record of that"):
                        self._environment.record_views_synced(publish.sequence)
                return followed
            publish, names = newest, newest.pointers.keys()

    def _follow(
        self,
        followed: Followed,
        pointed: PointedVersions,
        names: Collection[str],
        publish: Publish,
        graph: Graph | None,
        checks: Mapping[str, str],
    ) -> None:
        wanted = self._places_of(pointed)
        views = {(place, name) for place, name in wanted if place.kind == "view" and name in names}
        here = {""} if self._shown_here == publish.sequence else set()
        for warehouse in sorted({place.warehouse for place, _ in views} - here):
            its = {(place, name) for place, name in views if place.warehouse == warehouse}
            # Together, where the warehouse can: nobody sees a part of it.
            whole = self._session.transaction() if not warehouse else nullcontext()
            with followed.part(f"the views on {warehouse or self._work.tenant.warehouses[0]}"), whole:
                self.repoint(pointed, its)
        for place, name in sorted(wanted, key=str):
            if place.kind == "file":
                with followed.part(f"the file {place}"):
                    followed.is_written |= self._write_file(place, pointed, name, graph, checks)
                    followed.links[name] = self._work.tenant.lake_path(place.table)
        with followed.part("what is not shown any more"):
            self._remove_stale(pointed, wanted, lambda place: True)

    def _write_file(
        self, place: Place, pointed: PointedVersions, name: str, graph: Graph | None, checks: Mapping[str, str]
    ) -> bool:
        """Copies a page or file to the path that stays the same, unless it is there. A page says what checks have found
        on what it rests on, which may change while it does not."""
        made, path = pointed.versions[name], self._work.tenant.lake_path(place.table)
        data = self._made_file(made)
        if isinstance(made.details, PageDetails):
            data = with_verdicts(data, self._catalog, made, pointed.versions, graph, checks)
        if lake.exists(path) and lake.read(path) == data:
            return False
        lake.write(data, path)
        return True

    def file_problem(self, place: Place, made: Version) -> str:
        """What is wrong with a page or file that people see; empty, if nothing is."""
        path = self._work.tenant.lake_path(place.table)
        if not lake.exists(path):
            return f"{place} is gone from the lake"
        found, data = lake.read(path), self._made_file(made)
        is_same = is_page(found, data) if isinstance(made.details, PageDetails) else found == data
        return "" if is_same else f"{place} is not the file that was published: somebody has changed it"

    def _made_file(self, made: Version) -> bytes:
        """A page or file, as its publish step has made it.

        Raises:
            StepFailed: if the lake has another one.
        """
        assert made.file is not None
        path, sha256 = made.file
        return lake.read(self._work.tenant.in_lake(path), sha256)

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

    def _remove_stale(self, pointed: PointedVersions, wanted: Shown, is_due: Callable[[Place], bool]) -> None:
        """Removes what an environment does not show any more, of the places that are due, and releases them."""
        recorded = self._environment.shown()
        stale = {(place, name) for place, name in self._stale(pointed, recorded - wanted) if is_due(place)}
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

"""What environments point at, and remember of their sources, held against the history of that.

A head that is not as its history has it was changed by hand, and is restored from there. Where what it points at is
gone, and nothing can bring it back, the environment goes back to its newest publish of which everything is whole; its
sources are then asked again for what came since.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from entrepot.activities.catalog.catalog import PipelineCatalog
from entrepot.activities.catalog.environment import Environment, Publish
from entrepot.activities.catalog.ingest_state import IngestState
from entrepot.activities.catalog.relations import Relations
from entrepot.activities.catalog.tables import TABLES, Row, equals
from entrepot.activities.catalog.version import Version
from entrepot.activities.ingest import heads
from entrepot.activities.maintenance.mending import wholeness
from entrepot.activities.publish.view_sync import ViewSync
from entrepot.activities.runtime.context import ActivityContext
from entrepot.backends import Session
from entrepot.errors import BadInput, listed
from entrepot.planning.graph import Graph
from entrepot.protocol.messages import Context

REPAIR = "repair"
"""The action of a publish, and of an ingest state, that a repair has made."""


@dataclass(frozen=True)
class _Kind:
    """A table of heads, and its history."""

    table: str
    history: str
    key: tuple[str, ...]
    says: str
    """The column with what it says: JSON, name to version."""
    at: str
    """The column with the time."""


_KINDS = (
    _Kind("environments", "publishes", ("environment",), "pointers", "published_at"),
    _Kind("ingest_states", "loads", ("step", "environment"), "tables", "loaded_at"),
)


def restore_from_history(catalog: PipelineCatalog, *, dry_run: bool) -> list[str]:
    """Restores heads that are missing, or not as their history has them. Each in a sentence."""
    return [said for kind in _KINDS for said in _restored(catalog, kind, dry_run=dry_run)]


def _restored(catalog: PipelineCatalog, kind: _Kind, *, dry_run: bool) -> Iterator[str]:
    tables, same = catalog.tables, equals("pipeline", catalog.name)
    # The history first: a head that moves meanwhile is then ahead of it.
    newest = _newest(tables.select(kind.history, same), kind)
    found = _newest(tables.select(kind.table, same), kind)
    there = catalog.tables.distinct("places", "environment", same) | catalog.pointers().keys()
    for key, row in sorted(newest.items()):
        said = _difference(catalog, kind, found.get(key), row)
        if not said or key[-1] not in there:  # else what a run has left that went on while its environment was dropped
            continue
        which = ", ".join((catalog.name, *key))
        yield (
            f"the catalog's row of {which} in {kind.table!r} {said}: restored from its history, as run {row['run']} "
            f"left it at {row[kind.at]:%Y-%m-%d %H:%M:%S} UTC"
        )
        if dry_run:
            continue
        values = {name: row[name] for name in TABLES[kind.history]}
        if kind.table == "environments":
            values["views_synced"] = 0  # whatever is shown by now
        if (head := found.get(key)) is None:
            tables.insert(kind.table, values)
        else:
            its = [equals(name, row[name]) for name in kind.key]
            tables.update(kind.table, values, same, *its, equals("sequence", head["sequence"]))


def _newest(rows: Iterable[Row], kind: _Kind) -> dict[tuple[str, ...], Row]:
    found: dict[tuple[str, ...], Row] = {}
    for row in sorted(rows, key=lambda row: row["sequence"]):
        found[tuple(row[name] for name in kind.key)] = row
    return found


def _difference(catalog: PipelineCatalog, kind: _Kind, head: Row | None, then: Row) -> str:
    """What is wrong with a head, beside the newest of its history; empty, if nothing is."""
    if head is None:
        return "is gone"
    if head["sequence"] < then["sequence"]:
        return f"is as after change {head['sequence']}, and there were {then['sequence']}"
    written = [name for name in TABLES[kind.history] if name != kind.at]
    if head["sequence"] > then["sequence"] or all(head[name] == then[name] for name in written):
        return ""
    its, before = json.loads(head[kind.says]), json.loads(then[kind.says])
    if _is_known(catalog, its) and not _is_known(catalog, before):
        return ""  # it is the history that was changed
    changed = sorted(name for name in {**its, **before} if its.get(name) != before.get(name))
    return f"is not what was written ({listed(changed) if changed else 'not by the same run'})"


def _is_known(catalog: PipelineCatalog, versions: Mapping[str, str]) -> bool:
    return catalog.versions(versions).keys() == versions.keys()


class Heads:
    """The heads of a pipeline that point at what cannot be made again.

    Args:
        raw: Each raw table, nested ones apart, and its ingest step.
    """

    def __init__(
        self,
        work: ActivityContext,
        session: Session,
        context: Context,
        graph: Graph,
        raw: Mapping[str, str],
        relations: Relations,
    ) -> None:
        self._work = work
        self._session = session
        self._context = context
        self._graph = graph
        self._raw = raw
        self._catalog = work.catalog(session).pipeline(context.pipeline)
        self._relations = relations
        self._known: dict[tuple[str, str], str] = {}
        self.lost: set[str] = set()
        """The raw tables of which an environment still uses a version that is gone for good."""

    def go_back(self, *, dry_run: bool) -> tuple[list[str], list[str]]:
        """Lets environments go back that point at what is gone for good. What was found and done, and what is left."""
        found: list[str] = []
        left: list[str] = []
        for environment in map(self._catalog.environment, sorted(self._catalog.environments())):
            head = environment.head()
            for said, is_done in self._of_environment(environment, head, dry_run=dry_run):
                (found if is_done else left).append(said)
        if not dry_run:
            self._forget()
        return found, left

    def _forget(self) -> None:
        """Forgets what is gone for good: a load that brings the same rows again would trust its row, and not make it.

        What an environment still shows of it stays.
        """
        used = {pair for pointers in self._catalog.in_use() for pair in pointers.items()}
        every = {version.key: version for version in self._catalog.every_version()}
        gone = [
            every[key]
            for key, said in self._known.items()
            if said and key in every and (key not in used or not self._stands(every[key]))
        ]
        with self._session.transaction():
            kept = {table for key, version in every.items() if version not in gone for table in version.tables}
            self._relations.drop({table for version in gone for table in version.tables} - kept)
            self._catalog.delete_versions(version.key for version in gone)

    def _stands(self, version: Version) -> bool:
        return version.table is not None and self._relations.kind(version.table) is not None

    def _of_environment(self, environment: Environment, head: Publish, *, dry_run: bool) -> Iterator[tuple[str, bool]]:
        if gone := self._gone(head.pointers):
            yield self._environment_back(environment, head, gone, dry_run=dry_run)
            return
        for step in self._catalog.ingest_steps():
            state = environment.own_ingest_state(step)
            if state is not None and (gone := self._gone(state.tables)):
                yield self._state_back(environment, step, state, gone, dry_run=dry_run)

    def _environment_back(
        self, environment: Environment, head: Publish, gone: dict[str, str], *, dry_run: bool
    ) -> tuple[str, bool]:
        what = "; ".join(gone.values())
        wholes = (publish for publish in environment.history() if self._is_whole(publish.pointers))
        earlier = next((publish for publish in wholes if publish.pointers), None)
        if earlier is None:
            self.lost |= set(gone)
            return (
                f"{environment}: {what}. It cannot go back either, since nothing that it showed before is whole; "
                f"{_anew(environment)}"
            ), False
        try:
            if not dry_run:
                self._publish(environment, head, earlier.pointers, is_back=True)
        except BadInput as error:
            self.lost |= set(gone)
            return f"{environment}: {what}. It cannot go back to what run {earlier.run} published: {error}", False
        when = f", at {earlier.published_at:%Y-%m-%d %H:%M:%S} UTC" if earlier.published_at else ""
        return (
            f"{environment}: {what}: goes back to what run {earlier.run} published{when}, and so do its sources",
            True,
        )

    def _state_back(
        self, environment: Environment, step: str, state: IngestState, gone: dict[str, str], *, dry_run: bool
    ) -> tuple[str, bool]:
        what = f"{environment}: the newest load of {step!r}: " + "; ".join(gone.values())
        loads = self._catalog.loads().get(step, [])
        earlier = next((load for load in loads if load.tables and not self._gone(load.tables)), None)
        if earlier is None:
            self.lost |= set(gone)
            return f"{what}. It cannot go back either, since no load before it is whole; {_anew(environment)}", False
        if not dry_run:
            then = replace(earlier, sequence=state.sequence, run=self._context.run, action=REPAIR)
            environment.replace_ingest_state(step, then)
            heads.renew(self._work.tenant, environment, step)
        return f"{what}: goes back to the load of run {earlier.run}", True

    def take_away(self, environment: Environment, head: Publish, names: Iterable[str]) -> Publish:
        """Takes names away that no step makes any more, and that are not as they were made. What is shown then."""
        gone = set(names)
        return self._publish(environment, head, {n: v for n, v in head.pointers.items() if n not in gone})

    def _publish(
        self, environment: Environment, head: Publish, pointers: Mapping[str, str], *, is_back: bool = False
    ) -> Publish:
        views = ViewSync(self._work, self._session, self._context.model_copy(update={"environment": environment.name}))
        leases = self._work.leases(self._session, self._catalog.name)
        with leases.holding(self._context.run, self._work.workflow):
            its = views.pointed_versions(pointers)
            views.claim(its)
            with self._session.transaction():
                if is_back:
                    environment.restore_ingest_states(self._catalog.loads(), pointers, run=self._context.run)
                moved = views.promote(REPAIR, head, pointers, expected=head.sequence)
            for step in self._catalog.ingest_steps() if is_back else ():
                heads.renew(self._work.tenant, environment, step)
            views.follow(moved, self._graph, pointed=its)  # what stays behind is found by who looks at what is shown
        return environment.head()

    def _gone(self, versions: Mapping[str, str]) -> dict[str, str]:
        """The raw tables of these versions that are wrong, and that the lake cannot bring back; each with both."""
        raw = {name: version for name, version in versions.items() if name.partition("__")[0] in self._raw}
        known = self._catalog.versions(raw)
        found = {}
        for name, version in raw.items():
            if (name, version) not in self._known:
                its = known.get(name)
                said = wholeness.problem(self._relations, its) if its else f"{name} is not in the catalog"
                sha256 = its.manifest if its else None
                here = self._work.tenant, self._catalog.name, name, version, sha256
                why = wholeness.missing_in_lake(*here) if said else ""
                self._known[name, version] = f"{said}, and {why}" if why else ""
            if self._known[name, version]:
                found[name] = self._known[name, version]
        return found

    def _is_whole(self, versions: Mapping[str, str]) -> bool:
        known = self._catalog.versions(versions)
        if known.keys() != versions.keys():
            return False
        return not any(wholeness.problem(self._relations, version) for version in known.values())


def _anew(environment: Environment) -> str:
    return f"`entrepot run {environment.pipeline} --environment {environment.name} --refresh` loads everything anew"

"""Leases: which runs are at work, so that a collection takes nothing away that one of them may still need.

A run opens a lease before anything else. Until its plan is made it may take whatever the catalog or the lake has, also
what nothing points at: then nothing of its pipeline is collected. From its plan on, it holds what the plan names. What
was written since the oldest of these runs began is never collected, whatever its age. A comparison of warehouses
(`Parity`) is such a run, too.

Leases stand where the pipeline runs alone, and hold of its versions on every warehouse: what a run needs elsewhere has
the same name and version there.

A collection has a lease, too: a run that begins waits for it. Each writes its own lease before it looks for those of
others, so of a run and a collection that begin together at least one sees the other. A holder that died without a word
is known by asking Temporal; what it is still about to write (a worker may wake after a minute) is refused.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import sqlglot.expressions as sge

from entrepot.activities.catalog.tables import CatalogTables, Row, column, equals, now
from entrepot.errors import Conflict, Contended

SKEW = datetime.timedelta(minutes=5)
"""By so much the clocks of workers, warehouse and lake may differ."""

KEPT = datetime.timedelta(days=7)
"""So long it is remembered that a run was given up."""

OPEN, PLANNED, GIVEN_UP, COLLECTING = "open", "planned", "given up", "collecting"

IsAlive = Callable[[str, str], bool]
"""Whether the run of a workflow (its id, and the run's) still goes on."""


@dataclass(frozen=True)
class AtWork:
    """The runs of a pipeline that go on."""

    undecided: tuple[str, ...] = ()
    """Those that may still take whatever there is, since their plans are not made."""
    held: frozenset[tuple[str, str]] = frozenset()
    """The versions (name and version) that the others need."""
    since: datetime.datetime | None = None
    """When the oldest began; None: there is none."""


@dataclass(frozen=True)
class Leases:
    """The leases of one pipeline."""

    tables: CatalogTables
    pipeline: str
    is_alive: IsAlive

    def begin(self, run: str, workflow: str) -> None:
        """Opens a run's lease, unless it has one.

        Raises:
            Contended: while the pipeline's garbage is collected.
            Conflict: if the run was given up.
        """
        self._add(run, workflow, OPEN)
        self.check(run)
        self._check_no_collection(run)

    def renew(self, run: str, workflow: str) -> None:
        """Opens the lease of a run that has none, as when its worker did not know leases."""
        if not self._of(run):
            self.begin(run, workflow)

    def plan(self, run: str, *held: Mapping[str, str]) -> None:
        """Says which versions (by name) a run needs from now on, and that it needs no other.

        A run that is planned again keeps those that it held: some of its steps may go on as they were planned.
        """
        self._hold(run, {pair for versions in held for pair in versions.items()})

    def hold(self, run: str, name: str, version: str) -> None:
        """Says that a run that has planned needs a further version, too; it has to look afterwards whether that is
        still there.

        Raises:
            Contended: while the pipeline's garbage is collected.
        """
        self._hold(run, {(name, version)})
        self._check_no_collection(run)

    def _hold(self, run: str, pairs: Iterable[tuple[str, str]]) -> None:
        """Adds to what a run that plans, or has planned, holds; several of its steps may do so at once."""
        while (found := self._of(run)) and found["state"] in (OPEN, PLANNED):
            kept = json.loads(found["holds"])
            every = sorted({*map(tuple, kept), *pairs})
            as_read = (equals("state", found["state"]), equals("holds", found["holds"]))
            changed = self.tables.update("leases", {"state": PLANNED, "holds": every}, *self._same(run), *as_read)
            if changed:
                return

    def check(self, run: str) -> None:
        """Makes sure, where something is about to be committed, that a run was not given up: in the same transaction.

        Raises:
            Conflict: if it was; what it has made may be collected.
        """
        found = self._of(run)
        if found and not self._change(run, {"workflow": found["workflow"]}):
            raise Conflict(
                f"run {run} was given up, since Temporal did not know it any more, and what it has made may be "
                "collected; start it again"
            )

    def end(self, run: str) -> None:
        """Ends a run's lease; that of one that was given up stays, to refuse what may still come."""
        self.tables.delete("leases", *self._same(run), column("state").neq(GIVEN_UP))

    def at_work(self, *, give_up: bool = False) -> AtWork:
        """The runs that go on.

        Args:
            give_up: Whether those that ended without a word are given up.
        """
        alive = []
        for row in self._every():
            if row["state"] in (OPEN, PLANNED) and self._is_alive(row):
                alive.append(row)
            elif row["state"] in (OPEN, PLANNED) and give_up:
                self._change(row["run"], {"state": GIVEN_UP, "since": now()})
            elif row["state"] == GIVEN_UP and give_up and row["since"] < now() - KEPT:
                self.tables.delete("leases", *self._same(row["run"]))
        return AtWork(
            undecided=tuple(sorted(row["run"] for row in alive if row["state"] == OPEN)),
            held=frozenset((name, version) for row in alive for name, version in json.loads(row["holds"])),
            since=min((row["since"] for row in alive), default=None),
        )

    def running(self) -> list[Row]:
        """The runs that go on: of each `run`, the id of its `workflow`, and since when (`since`)."""
        return [row for row in self._every() if row["state"] in (OPEN, PLANNED) and self._is_alive(row)]

    @contextmanager
    def holding(self, run: str, workflow: str) -> Iterator[None]:
        """A lease for what is done at once, such as a rollback.

        Raises:
            Contended: while the pipeline's garbage is collected.
        """
        self.begin(run, workflow)
        try:
            yield
        finally:
            self.end(run)

    @contextmanager
    def collecting(self, run: str, workflow: str) -> Iterator[AtWork]:
        """The lease of a collection, which has to leave alone what those need that are at work.

        Raises:
            Contended: if another collection is at work.
        """
        self._add(run, workflow, COLLECTING)
        try:
            self._check_no_collection(run)
            yield self.at_work(give_up=True)
        finally:
            self.end(run)

    def _check_no_collection(self, run: str) -> None:
        for row in self._every():
            if row["state"] == COLLECTING and row["run"] != run:
                if self._is_alive(row):
                    raise Contended(f"the garbage of pipeline {self.pipeline!r} is collected by run {row['run']}")
                self.end(row["run"])

    def _is_alive(self, row: Row) -> bool:
        return self.is_alive(row["workflow"], row["run"])

    def _add(self, run: str, workflow: str, state: str) -> None:
        key = {"pipeline": self.pipeline, "run": run}
        self.tables.insert_once(
            "leases", {**key, "workflow": workflow, "state": state, "holds": [], "since": now()}, *key
        )

    def _change(self, run: str, values: Row) -> int:
        return self.tables.update("leases", values, *self._same(run), column("state").neq(GIVEN_UP))

    def _of(self, run: str) -> Row | None:
        return next(iter(self.tables.select("leases", *self._same(run))), None)

    def _every(self) -> list[Row]:
        return list(self.tables.select("leases", *self._all()))

    def _all(self) -> list[sge.Condition]:
        return [equals("pipeline", self.pipeline)]

    def _same(self, run: str) -> list[sge.Condition]:
        return [*self._all(), equals("run", run)]

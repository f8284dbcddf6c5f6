"""An environment: what it points at, what it pointed at before, where it stands with its sources, and what it shows."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import sqlglot.expressions as sge

from entrepot.activities.catalog.ingest_state import IngestState, comes_after, overtaken
from entrepot.activities.catalog.owners import Places, Shown
from entrepot.activities.catalog.sequenced_row import SequencedRow, each_state
from entrepot.activities.catalog.tables import CatalogTables, Row, column, equals, now, versions_by_name
from entrepot.errors import BadInput, Conflict, StepFailed, listed

UNDO = "undo"
"""The action of a publish that takes back the one before it, of the same run."""
PUBLISH, CREATE, PROMOTE = "publish", "create", "promote"
LEFT = "left"
"""The action in what stands for a publish that never was, since the run failed."""
FORWARD = (PUBLISH, CREATE, PROMOTE)
"""The actions that bring something else than was there: what a rollback goes back to."""


@dataclass(frozen=True)
class Publish:
    """What an environment points at, or did after an earlier publish."""

    sequence: int
    pointers: dict[str, str]
    run: str = ""
    action: str = ""
    moved: tuple[str, ...] = ()
    views_synced: int = 0
    """The sequence up to which everything that people see shows what was published."""
    published_at: datetime.datetime | None = None

    def changed_names(self, pointers: Mapping[str, str]) -> set[str]:
        """The names that these pointers point elsewhere, or nowhere any more."""
        return {n for n in {**self.pointers, **pointers} if self.pointers.get(n) != pointers.get(n)}

    @classmethod
    def of_row(cls, row: Row) -> Publish:
        """From the catalog's row: the environment's own, or one of its history."""
        return cls(
            sequence=row["sequence"],
            pointers=versions_by_name(row["pointers"]),
            run=row["run"],
            action=row["action"],
            moved=tuple(json.loads(row["moved"])),
            views_synced=row.get("views_synced", row["sequence"]),
            published_at=row["published_at"],
        )


def newest_first(rows: Iterable[Row]) -> dict[str, list[Publish]]:
    """The publishes of environments, from rows of both tables."""
    found: dict[str, list[Publish]] = {}
    for row in each_state(rows, "environment"):
        found.setdefault(row["environment"], []).append(Publish.of_row(row))
    return {
        name: sorted(publishes, key=lambda publish: publish.sequence, reverse=True) for name, publishes in found.items()
    }


@dataclass(frozen=True)
class Environment:
    """One environment of a pipeline."""

    tables: CatalogTables
    pipeline: str
    name: str

    def create(self) -> None:
        """Creates its record where it has none yet: it points at nothing."""
        if not self.tables.select("environments", *self._same(), columns=["sequence"]):
            nothing = {"action": "", "run": "", "pointers": {}, "moved": [], "views_synced": 0}
            self._row.create({**nothing, "published_at": now()})

    def head(self) -> Publish:
        """What it points at; nothing, before its first publish."""
        row = self._row.current()
        return Publish.of_row(row) if row is not None else Publish(0, {})

    def history(self) -> list[Publish]:
        """Every publish, newest first."""
        rows = (row for table in ("environments", "publishes") for row in self.tables.select(table, *self._same()))
        return newest_first(rows).get(self.name, [])

    def publish(
        self, run: str, action: str, pointers: Mapping[str, str], moved: Iterable[str], *, expected: int
    ) -> Publish:
        """Points it elsewhere, if what it points at is what the publish of the sequence `expected` made of it.

        Raises:
            Conflict: if somebody else published in between.
            StepFailed: if the run itself did, and took it back.
        """
        values = {
            "action": action,
            "run": run,
            "published_at": now(),
            "pointers": dict(pointers),
            "moved": sorted(moved),
        }
        is_published, row = self._row.compare_and_append(expected, values)
        if is_published and row is not None:
            return Publish.of_row(row)
        if row and (row["run"], row["action"]) == (run, UNDO):
            raise StepFailed(f"{self}: a view could not be moved, so what this run had published was taken back")
        meanwhile = f"run {row['run']} published" if row and row["run"] else "it was dropped"
        raise Conflict(f"{self}: {meanwhile} while this run was going, so nothing of it was published; start it again")

    def publish_of(self, run: str, head: Publish) -> Publish | None:
        """What a run has published here, also where others have since; None if it has not, or took it back."""
        if head.run != run:
            rows = self.tables.select("publishes", *self._same(), equals("run", run), newest="sequence")
            head = Publish.of_row(rows[0]) if rows else Publish(0, {})
        return head if head.run == run and head.action != UNDO else None

    def earlier(self, run: str | None) -> Publish:
        """The publish to go back to: of the run whose id begins like that, or the one before what is shown, so that a
        second rollback goes further back.

        Raises:
            BadInput: if there is none, or `run` is the beginning of several.
        """
        history = self.history()
        if not history:
            rows = self.tables.select("environments", equals("pipeline", self.pipeline))
            raise BadInput(
                f"{self}: nothing was published there yet. Environments that have a publish: "
                f"{listed(newest_first(rows))}"
            )
        if run is not None:
            found = [publish for publish in history if publish.run.startswith(run)]
            if len(runs := {publish.run for publish in found}) > 1:
                raise BadInput(f"{self}: {run!r} is the beginning of several runs: {listed(runs)}")
        else:
            found = _before(history)
        if not found:
            known = listed(dict.fromkeys(publish.run for publish in history))
            what = f"no publish of run {run!r}" if run else "no earlier publish to go back to"
            raise BadInput(f"{self}: {what}. Runs that published there: {known}")
        return found[0]

    def record_views_synced(self, sequence: int) -> None:
        """Records that all that people see shows what was published up to this sequence."""
        self.tables.update("environments", {"views_synced": sequence}, *self._same(), equals("sequence", sequence))

    def shown(self) -> Shown:
        """What it shows, or did before it was changed: its views and files, each with the name that it shows."""
        return Places(self.tables).of(self.pipeline, self.name)

    def own_ingest_state(self, step: str) -> IngestState | None:
        """What it remembers of an ingest step; None before its first load."""
        row = self._ingest_row(step).current()
        return IngestState.of_row(row) if row is not None and row["sequence"] else None

    def ingest_state(self, step: str) -> IngestState:
        """What it remembers of an ingest step; before its first load, what the newest load of any environment left."""
        if own := self.own_ingest_state(step):
            return own
        loaded = column("sequence") > sge.Literal.number(0)
        conditions = (equals("pipeline", self.pipeline), equals("step", step), loaded)
        rows = self.tables.select("ingest_states", *conditions, newest="loaded_at")
        return replace(IngestState.of_row(rows[0]), sequence=0) if rows else IngestState(0)

    def earlier_ingest_state(self, step: str, sequence: int) -> IngestState | None:
        """What it remembered of an ingest step when that had been loaded so often; None, if that is not known."""
        same = (*self._same(), equals("step", step), equals("sequence", sequence))
        rows = self.tables.select("loads", *same)
        return IngestState.of_row(rows[0]) if rows else None

    def replace_ingest_state(self, step: str, new: IngestState) -> None:
        """Replaces what it remembers of an ingest step, if that is still the state of the number `new.sequence`.

        Raises:
            Conflict: if another run has replaced it in between.
        """
        row = self._ingest_row(step)
        is_replaced, found = row.compare_and_append(new.sequence, new.values(), initial=IngestState(0).values())
        if not is_replaced:
            raise overtaken(step, self.name, (found or {}).get("run") or "")

    def restore_ingest_states(
        self, loads: Mapping[str, list[IngestState]], pointers: Mapping[str, str], *, run: str
    ) -> None:
        """Makes the ingest states those after the loads that made what these pointers show.

        Args:
            loads: Every load of each ingest step, newest first.

        Raises:
            BadInput: if no load of a step made it.
            Conflict: if another run has loaded in between.
        """
        for step, of_step in loads.items():
            then = next(iter(_made(of_step, pointers)), None)
            if then is None:
                if any(table in pointers for load in of_step for table in load.tables):
                    raise BadInput(
                        f"ingest {step!r}: no load made what that publish shows, so its ingest state cannot go back"
                    )
                continue
            current = self.ingest_state(step)
            if current.load != then.load or current.environment != self.name:
                self.replace_ingest_state(step, replace(then, sequence=current.sequence, run=run, action="rollback"))

    def stand_like(self, other: Environment, steps: Iterable[str], *, run: str) -> None:
        """Makes it stand with its sources where another environment stands, which may be the newest load of any: then
        nothing is recorded, and its first load goes on where the newest is at that time.

        Raises:
            Conflict: if another run has loaded in between.
        """
        for step in steps:
            its, current = other.ingest_state(step), self.ingest_state(step)
            if its.load and its.load != current.load:
                self.replace_ingest_state(step, replace(its, sequence=current.sequence, run=run, action=CREATE))

    def continue_from(
        self, loads: Mapping[str, list[IngestState]], pointers: Mapping[str, str], *, run: str
    ) -> tuple[str, ...]:
        """Makes the next load of each ingest step go on behind the load that made what these pointers show, unless what
        was loaded here came after that. What no known load made changes nothing.

        Args:
            loads: Every load of each ingest step, newest first.

        Returns:
            The steps of which something had been loaded here that is asked of the sources again.

        Raises:
            Conflict: if another run has loaded in between.
        """
        again = []
        for step, of_step in sorted(loads.items()):
            made = _made(of_step, pointers)
            known = {load.load for load in made}
            own, current = self.own_ingest_state(step), self.ingest_state(step)
            if not made or comes_after(step, of_step, current.load, known):
                continue
            then = made[0]
            self.replace_ingest_state(step, replace(then, sequence=current.sequence, run=run, action=PROMOTE))
            if own and not comes_after(step, of_step, then.load, {own.load}):
                again.append(step)
        return tuple(again)

    def steps_ahead(self, steps: Iterable[str], pointers: Mapping[str, str]) -> tuple[str, ...]:
        """The ingest steps of whose newest load these pointers show something else."""
        return tuple(
            step
            for step in sorted(steps)
            if any(pointers.get(table, version) != version for table, version in self.ingest_state(step).tables.items())
        )

    def delete(self, *, expected: int) -> None:
        """Deletes its records. That of what it points at goes last.

        Raises:
            Conflict: if it was published since the sequence `expected`.
        """
        for table in ("ingest_states", "loads", "publishes", "places"):
            self.tables.delete(table, *self._same())
        is_deleted = self.tables.delete("environments", *self._same(), equals("sequence", expected))
        if not is_deleted and self.head().sequence:
            raise Conflict(
                f"pipeline {self.pipeline!r}: {self.name!r} was published while it was dropped; drop it again"
            )

    def __str__(self) -> str:
        return f"pipeline {self.pipeline!r}, environment {self.name!r}"

    @property
    def _key(self) -> dict[str, str]:
        return {"pipeline": self.pipeline, "environment": self.name}

    def _same(self) -> list[sge.Condition]:
        return [equals(name, value) for name, value in self._key.items()]

    @property
    def _row(self) -> SequencedRow:
        return SequencedRow(self.tables, "environments", "publishes", self._key)

    def _ingest_row(self, step: str) -> SequencedRow:
        return SequencedRow(self.tables, "ingest_states", "loads", {**self._key, "step": step})


def _made(loads: Iterable[IngestState], pointers: Mapping[str, str]) -> list[IngestState]:
    """The loads of a step after which its tables were what these pointers show."""
    return [load for load in loads if load.tables and all(pointers.get(table) == v for table, v in load.tables.items())]


def _before(history: list[Publish]) -> list[Publish]:
    """The publishes before the one whose state is shown, newest first."""
    pointers = history[0].pointers
    runs = [publish for publish in history if publish.action in FORWARD]
    shown = next((i for i, publish in enumerate(runs) if publish.pointers == pointers), -1)
    return [publish for publish in runs[shown + 1 :] if publish.pointers != pointers]

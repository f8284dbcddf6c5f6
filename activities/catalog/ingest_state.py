"""What an environment remembers of an ingest step: which load was its newest, and what the source remembers of it.

It is replaced by compare-and-append, after everything that the load brought is there. So a load whose process dies
before has not happened: nothing points at what it left behind, and the next one asks the source from where the last one
ended.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from entrepot.activities.catalog.tables import Row, now, versions_by_name
from entrepot.errors import Conflict
from entrepot.identity.code import stable_hash

LOAD = "load"
"""The action of a state that a load left; others go back to one, or take that of another environment."""


def load_id(step: str, before: str, tables: Mapping[str, str], watermarks: str | None) -> str:
    """The identity of a load: the hash of what it came after, and of what it brought."""
    return stable_hash([step, before, dict(tables), watermarks])


@dataclass(frozen=True)
class IngestState:
    """What is remembered of the newest load."""

    sequence: int
    """How many times it was replaced."""
    load: str = ""
    """The load's identity: the hash of what it came after, and of what it brought."""
    tables: Mapping[str, str] = field(default_factory=dict)
    """Every table to the version that it had after the load."""
    watermarks: str | None = None
    """The file in the lake with the watermark of each of the step's sources."""
    fingerprint: str | None = None
    run: str = ""
    changes: Mapping[str, list[str]] = field(default_factory=dict)
    """What changed in the columns of which table."""
    action: str = LOAD
    environment: str = ""
    loaded_at: datetime.datetime | None = None

    @classmethod
    def of_row(cls, row: Row) -> IngestState:
        """From the catalog's row."""
        return cls(
            sequence=row["sequence"],
            load=row["load"],
            tables=versions_by_name(row["tables"]),
            watermarks=row["watermarks"],
            fingerprint=row["fingerprint"],
            run=row["run"] or "",
            changes=json.loads(row["changes"]),
            action=row["action"],
            environment=row["environment"],
            loaded_at=row["loaded_at"],
        )

    def values(self) -> dict[str, Any]:
        """For the catalog's row, beside its key and number."""
        return {
            "load": self.load,
            "action": self.action,
            "run": self.run,
            "loaded_at": now(),
            "fingerprint": self.fingerprint,
            "tables": dict(self.tables),
            "watermarks": self.watermarks,
            "changes": dict(self.changes),
        }

    def follows(self, step: str, load: str) -> bool:
        """Whether the load that left this state is known to have come right after another."""
        return self.load == load_id(step, load, self.tables, self.watermarks)

    def is_same_as(self, other: IngestState) -> bool:
        """Whether there is no use in replacing the other by this one."""
        return (self.sequence, self.tables, self.watermarks, self.fingerprint) == (
            other.sequence,
            other.tables,
            other.watermarks,
            other.fingerprint,
        )


def comes_after(step: str, states: Iterable[IngestState], load: str, known: Collection[str]) -> bool:
    """Whether a load is one of those that are known, or came after one of them, directly or not.

    Args:
        states: All that environments have remembered of the step.
    """
    at = {(state.environment, state.sequence): state for state in states}
    every = {state.load for state in at.values()}
    todo, seen = [load], set[str]()
    while todo:
        each = todo.pop()
        if each in known:
            return True
        if each in seen:
            continue
        seen.add(each)
        for state in (state for state in at.values() if state.load == each and state.action == LOAD):
            before = at.get((state.environment, state.sequence - 1))
            # The first of an environment came after the newest of another one.
            todo += [before.load] if before else [other for other in every if state.follows(step, other)]
    return False


def overtaken(step: str, environment: str, run: str) -> Conflict:
    """The error of a load when another run has replaced the state since it began."""
    return Conflict(
        f"ingest {step!r}: run {run} loaded for {environment!r} while this run was reading the source, so nothing of "
        "what this one read was kept; start it again"
    )

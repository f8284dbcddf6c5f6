"""Where each environment stands with each ingest step: which load was its newest, and what the source remembers of it.

A cursor is moved by one UPDATE that says which load it expects to follow, after everything that the load brought is
there. So a load whose process dies before has not happened: nothing points at what it left behind, and the next one
asks the source from where the last one ended.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import sqlglot.expressions as sge

from entrepot.activities.catalog.catalog import add, column, equals, now, select, table_name
from entrepot.backends import Session
from entrepot.errors import Conflict


@dataclass(frozen=True)
class Cursor:
    """Where an environment stands with an ingest step: its newest load."""

    sequence: int
    """How many times the environment's cursor has moved."""
    load: str = ""
    """The load's identity: the hash of what it came after, and of what it brought."""
    tables: Mapping[str, str] = field(default_factory=dict)
    """Every table to the version that it had after the load."""
    state: str | None = None
    """The file in the lake with what the source remembers."""
    fingerprint: str | None = None
    run: str = ""
    changes: Mapping[str, list[str]] = field(default_factory=dict)
    """What changed in the columns of which table."""
    action: str = "load"
    environment: str = ""
    loaded_at: datetime.datetime | None = None

    def says_the_same(self, other: Cursor) -> bool:
        """Whether there is no use in moving from the other to this one."""
        return (self.sequence, self.tables, self.state, self.fingerprint) == (
            other.sequence,
            other.tables,
            other.state,
            other.fingerprint,
        )


def current(session: Session, pipeline: str, step: str, environment: str) -> Cursor:
    """Where an environment stands; one that has not loaded yet begins where the newest load of any left off."""
    own = _own(session, pipeline, step, environment)
    if own.sequence:
        return own
    loaded = column("sequence") > sge.Literal.number(0)
    rows = select(session, "cursors", pipeline, equals("step", step), loaded, newest="loaded_at")
    return replace(_cursor(rows[0]), sequence=0) if rows else own


def of_environment(session: Session, pipeline: str, step: str, environment: str) -> Cursor | None:
    """Where an environment itself stands; None before its first load."""
    own = _own(session, pipeline, step, environment)
    return own if own.sequence else None


def history(session: Session, pipeline: str) -> dict[str, list[Cursor]]:
    """Every load of each ingest step, in all environments, newest first."""
    found: dict[str, dict[tuple[str, int], Cursor]] = {}
    for table in ("cursors", "loads"):
        for row in select(session, table, pipeline):
            if row["sequence"]:
                found.setdefault(row["step"], {}).setdefault((row["environment"], row["sequence"]), _cursor(row))
    return {step: sorted(its.values(), key=lambda c: str(c.loaded_at), reverse=True) for step, its in found.items()}


def advance(session: Session, pipeline: str, step: str, environment: str, to: Cursor) -> None:
    """Moves an environment's cursor from where `to.sequence` says it is to what `to` describes.

    Raises:
        Conflict: if another run has moved it in between.
    """
    before = _own(session, pipeline, step, environment)
    its = (equals("step", step), equals("environment", environment))
    if not select(session, "cursors", pipeline, *its, columns=["sequence"]):
        nothing = _values(Cursor(0), 0)
        add(session, "cursors", pipeline=pipeline, step=step, environment=environment, **nothing)
    if before.sequence == to.sequence:
        _archive(session, pipeline, step, environment, before)
        expected = sge.and_(equals("pipeline", pipeline), *its, column("sequence").eq(to.sequence))
        if session.update(table_name("cursors"), _values(to, to.sequence + 1), expected):
            _archive(session, pipeline, step, environment, _own(session, pipeline, step, environment))
            return
        before = _own(session, pipeline, step, environment)
    raise overtaken(step, environment, before.run)


def overtaken(step: str, environment: str, run: str) -> Conflict:
    """What befalls a load when another run has moved the cursor since it began."""
    return Conflict(
        f"ingest {step!r}: run {run} loaded for {environment!r} while this run was reading the source, so nothing of "
        "what this one read was kept; start it again"
    )


def _own(session: Session, pipeline: str, step: str, environment: str) -> Cursor:
    # Without keys, two first loads at the same time may both have made the row; an UPDATE then changes both.
    its = (equals("step", step), equals("environment", environment))
    rows = select(session, "cursors", pipeline, *its, newest="sequence")
    return _cursor(rows[0]) if rows else Cursor(0)


def _archive(session: Session, pipeline: str, step: str, environment: str, cursor: Cursor) -> None:
    """Adds a load to the history, unless it is there: also for somebody who died before he could."""
    same = (equals("step", step), equals("environment", environment), column("sequence").eq(cursor.sequence))
    if cursor.sequence and not select(session, "loads", pipeline, *same, columns=["sequence"]):
        values = _values(cursor, cursor.sequence) | {"loaded_at": cursor.loaded_at}
        add(session, "loads", pipeline=pipeline, step=step, environment=environment, **values)


def _values(cursor: Cursor, sequence: int) -> dict[str, Any]:
    return {
        "sequence": sequence,
        "load": cursor.load,
        "action": cursor.action,
        "run": cursor.run,
        "loaded_at": now(),
        "fingerprint": cursor.fingerprint,
        "tables": json.dumps(dict(cursor.tables)),
        "state": cursor.state,
        "changes": json.dumps(dict(cursor.changes)),
    }


def _cursor(row: Mapping[str, Any]) -> Cursor:
    return Cursor(
        sequence=row["sequence"],
        load=row["load"],
        tables=json.loads(row["tables"]),
        state=row["state"],
        fingerprint=row["fingerprint"],
        run=row["run"] or "",
        changes=json.loads(row["changes"]),
        action=row["action"],
        environment=row["environment"],
        loaded_at=row["loaded_at"],
    )

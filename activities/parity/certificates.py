"""Certificates: that a version agreed on two warehouses, so that the next comparison need not digest it again.

A version never changes by itself, but somebody with a shell may change it. So a certificate counts only where the
tables still have as many rows, were not changed since as far as the warehouses tell, and for `DAYS`.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

from entrepot.activities.catalog.records import Certificate
from entrepot.activities.catalog.tables import now
from entrepot.activities.catalog.version import Version
from entrepot.activities.runtime.context import ActivityContext
from entrepot.backends import Session
from entrepot.identity.table_digest import SPECIFICATION
from entrepot.protocol.parity import Comparison, Side

DAYS = 30
"""A certificate that is older does not count: the table is digested again."""

There = tuple[Session, Version, str]
"""A table on one warehouse: a session, its version, and the engine."""


class Certificates:
    """Those of one table's version, kept in the catalog of the first warehouse."""

    def __init__(self, work: ActivityContext, asked: Comparison, there: Mapping[str, There]) -> None:
        self._work = work
        self._asked = asked
        self._there = there
        self._first = asked.on[0]
        session, self._version, _ = there[self._first]
        self._catalog = work.catalog(session).pipeline(asked.context.pipeline)
        self._states: dict[str, dict[str, Any]] = {}

    def sides(self) -> dict[str, Side]:
        """The sides that a certificate tells, by warehouse."""
        found = self._catalog.certificates(self._asked.name, self._version.version)
        return {
            name: Side(
                backend=name,
                verdict=each.verdict,
                engine=self._there[name][2],
                rows=each.rows,
                digest=each.digest,
                certified=True,
                certified_by=each.run,
                certified_at=f"{each.made_at:%Y-%m-%d %H:%M} UTC",
            )
            for each in sorted(found, key=lambda each: str(each.made_at))
            for name in self._there
            if name != self._first and self._holds(each, name)
        }

    def add(self, side: Side, digest: str) -> None:
        """Certifies a side that agrees. `digest`: that of the first warehouse."""
        states = {each: self._state(each) for each in (self._first, side.backend)}
        if any(state["rows"] != side.rows for state in states.values()):
            return  # somebody is changing it right now
        certificate = Certificate(
            name=self._asked.name,
            version=self._version.version,
            identity=self._version.identity,
            warehouses={**self._key(side.backend), "states": states},
            verdict=side.verdict,
            rows=side.rows,
            digest=digest,
            run=self._asked.context.run,
            made_at=now(),
        )
        self._catalog.add_certificate(certificate)

    def _holds(self, certificate: Certificate, name: str) -> bool:
        if self._asked.fresh and certificate.run != self._asked.context.run:
            return False
        warehouses = dict(certificate.warehouses)
        states = warehouses.pop("states", None)
        is_old = now() - certificate.made_at.replace(tzinfo=None) > datetime.timedelta(days=DAYS)
        if is_old or warehouses != self._key(name):
            return False
        return bool(states == {each: self._state(each) for each in (self._first, name)})

    def _key(self, name: str) -> dict[str, Any]:
        """Which two tables it is about: by engine and version, account, project, database, host."""
        places = {
            each: {"engine": self._there[each][2], "place": self._work.tenant.at(each).backend.place}
            for each in (self._first, name)
        }
        return {**places, "digest": SPECIFICATION}

    def _state(self, name: str) -> dict[str, Any]:
        """What shows that somebody changed a table by hand: its rows, and when it was changed."""
        if name not in self._states:
            session, version, _ = self._there[name]
            assert version.table is not None
            try:
                rows = session.query(f"SELECT COUNT(*) AS n FROM {session.dialect.table(version.table)}")[0]["n"]
                self._states[name] = {"rows": int(rows), "changed": session.changed_at(version.table)}
            except InterruptedError:
                raise
            except Exception as error:  # its digest will fail, too, and that is told
                return {"rows": None, "changed": str(error)}
        return self._states[name]

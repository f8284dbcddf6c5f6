"""Certificates: that a version agreed on two warehouses, so that the next comparison need not digest it again.

A version never changes by itself, but somebody with a shell may change it. So a certificate counts only where the
tables still have as many rows, were not changed since as far as the warehouses tell, and for `DAYS`.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

from entrepot.activities.catalog import catalog
from entrepot.activities.runtime.tenant import Tenant
from entrepot.backends import Session
from entrepot.identity.table_digest import SPECIFICATION
from entrepot.protocol.messages import Comparison, Side

DAYS = 30
"""A certificate that is older does not count: the table is digested again."""

There = tuple[Session, catalog.Version, str]
"""A table on one warehouse: a session, its version, and the engine."""


class Certificates:
    """Those of one table's version, kept in the catalog of the first warehouse."""

    def __init__(self, tenant: Tenant, asked: Comparison, there: Mapping[str, There]) -> None:
        self._tenant = tenant
        self._asked = asked
        self._there = there
        self._first = asked.on[0]
        self._states: dict[str, dict[str, Any]] = {}

    def sides(self) -> dict[str, Side]:
        """The sides that a certificate tells, by warehouse."""
        session, version, _ = self._there[self._first]
        rows = catalog.certificates(session, self._asked.context.pipeline, self._asked.name, version.version)
        return {
            name: Side(
                backend=name,
                verdict=row["verdict"],
                engine=self._there[name][2],
                rows=row["row_count"],
                digest=row["digest"],
                certified=True,
                certified_by=row["run"],
                certified_at=f"{row['made_at']:%Y-%m-%d %H:%M} UTC",
            )
            for row in sorted(rows, key=lambda row: str(row["made_at"]))
            for name in self._there
            if name != self._first and self._holds(row, name)
        }

    def add(self, side: Side, digest: str) -> None:
        """Certifies a side that agrees. `digest`: that of the first warehouse."""
        session, version, _ = self._there[self._first]
        states = {each: self._state(each) for each in (self._first, side.backend)}
        if any(state["rows"] != side.rows for state in states.values()):
            return  # somebody is changing it right now
        catalog.add(
            session,
            "certificates",
            pipeline=self._asked.context.pipeline,
            name=self._asked.name,
            version=version.version,
            identity=version.identity,
            warehouses={**self._key(side.backend), "states": states},
            verdict=side.verdict,
            row_count=side.rows,
            digest=digest,
            run=self._asked.context.run,
            made_at=catalog.now(),
        )

    def _holds(self, row: Mapping[str, Any], name: str) -> bool:
        if self._asked.fresh and row["run"] != self._asked.context.run:
            return False
        warehouses = dict(row["warehouses"])
        states = warehouses.pop("states", None)
        is_old = catalog.now() - row["made_at"].replace(tzinfo=None) > datetime.timedelta(days=DAYS)
        if is_old or warehouses != self._key(name):
            return False
        return bool(states == {each: self._state(each) for each in (self._first, name)})

    def _key(self, name: str) -> dict[str, Any]:
        """Which two tables it is about: by engine and version, account, project, database, host."""
        places = {
            each: {"engine": self._there[each][2], "place": self._tenant.at(each).backend.place}
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

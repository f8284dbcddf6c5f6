"""The catalog's tables: their columns, what tells their rows apart, and the statements that read and write them."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import ibis
import sqlglot.expressions as sge

from entrepot.backends import Session, TableName
from entrepot.errors import BadInput

Row = Mapping[str, Any]
Migration = Callable[["CatalogTables"], None]
"""Makes the next format of a catalog: in a transaction, where the warehouse has them; elsewhere it must be safe to do
again, and at the same time as somebody else."""
MIGRATIONS: tuple[Migration, ...] = ()
"""The first makes the format 2 of 1, which is that of the release 0.1. A release is never without one that it had."""

_PUBLISH = {
    "pipeline": "string",
    "environment": "string",
    "sequence": "int64",
    "action": "string",  # publish, create, promote, rollback, undo, repair
    "run": "string",
    "published_at": "timestamp",
    "pointers": "string",  # JSON: every name → version, after it
    "moved": "string",  # JSON: the names that it moved
}

_LOAD = {
    "pipeline": "string",
    "step": "string",
    "environment": "string",
    "sequence": "int64",
    "load": "string",  # what it was: the hash of what it came after and of what it brought
    "action": "string",  # load, create, promote, rollback, repair
    "run": "string",
    "loaded_at": "timestamp",
    "fingerprint": "string",  # of the source and of what reads it; NULL where a source has none
    "tables": "string",  # JSON: table → version
    "watermarks": "string",  # the file in the lake with the watermark of each source
    "changes": "string",  # JSON: table → what changed in its columns
}

TABLES: dict[str, dict[str, str]] = {
    "formats": {"format": "int64", "release": "string", "since": "timestamp"},  # the greatest is that of the catalog
    "versions": {
        "pipeline": "string",
        "name": "string",
        "version": "string",
        "kind": "string",
        "step": "string",
        "identity": "string",  # the hash of what computed it
        "inputs": "string",  # JSON: name → version; this is the lineage
        "columns": "string",  # JSON: column → type, as the warehouse has them
        "inferred": "string",  # JSON: column → type, as ibis inferred them
        "physical_schema": "string",
        "physical_table": "string",
        "row_count": "int64",
        "byte_count": "int64",
        "scanned": "int64",  # bytes read in the warehouse to make it, where the warehouse says so
        "seconds": "float64",
        "run": "string",
        "made_at": "timestamp",
        "details": "string",  # JSON: scores, how rows were scored, the artifact's path
    },
    "ingest_states": _LOAD,
    "loads": _LOAD,  # the history of the ingest states
    "environments": {**_PUBLISH, "views_synced": "int64"},  # the sequence up to which all that is shown follows
    "publishes": _PUBLISH,  # the history of the environments
    "leases": {  # which runs are at work, and whether garbage is collected
        "pipeline": "string",
        "run": "string",
        "workflow": "string",
        "state": "string",  # open, planned, given up, collecting
        "holds": "string",  # JSON: the versions that a planned run needs, each as name and version
        "since": "timestamp",
    },
    "places": {  # each name that people see has one owner
        "tenant": "string",
        "pipeline": "string",
        "environment": "string",
        "name": "string",  # of what is shown there
        "kind": "string",  # view, file, versions
        "warehouse": "string",
        "place": "string",  # the same for two names that are one to some warehouse
        "in_schema": "string",
        "in_table": "string",
        "run": "string",
        "since": "timestamp",
    },
    "checks": {
        "pipeline": "string",
        "name": "string",
        "version": "string",
        "identity": "string",
        "inputs": "string",
        "guards": "string",
        "severity": "string",
        "violations": "int64",
        "sample": "string",  # JSON: some of the violating rows
        "run": "string",
        "checked_at": "timestamp",
    },
    "certificates": {  # that two warehouses have the same rows for a version; for how long: certificates.py
        "pipeline": "string",
        "name": "string",
        "version": "string",
        "identity": "string",  # the hash of what computed it
        "warehouses": "string",  # JSON: the two, each with its engine, and how they were digested
        "verdict": "string",
        "row_count": "int64",
        "digest": "string",
        "run": "string",
        "made_at": "timestamp",
    },
    "runs": {
        "pipeline": "string",
        "environment": "string",
        "run": "string",
        "workflow": "string",
        "status": "string",
        "started_at": "timestamp",
        "ended_at": "timestamp",
        "summary": "string",  # JSON: the steps, what they read and wrote, and the versions
        "error": "string",
    },
}

KEYS = {
    "versions": ("pipeline", "name", "version"),
    "environments": ("pipeline", "environment"),
    "publishes": ("pipeline", "environment", "sequence"),
    "ingest_states": ("pipeline", "step", "environment"),
    "loads": ("pipeline", "step", "environment", "sequence"),
    "leases": ("pipeline", "run"),
}


@dataclass(frozen=True)
class CatalogTables:
    """The tables in the warehouse of a session. What they give are rows; who reads the catalog gets objects of those.

    Args:
        schema: Where they stand.
    """

    session: Session
    schema: str
    migrations: Sequence[Migration] = MIGRATIONS
    """What makes each format of the one before it; today's is one more than there are."""

    def create(self) -> None:
        """Creates those that are missing, and makes of an older format today's.

        Raises:
            BadInput: if they are those of a development version, or of a newer one.
        """
        found = self._found()
        if not found:
            self.session.create_schema(self.schema)
        if "formats" not in found:  # it comes first, so that what is left half made says what it is
            self._create("formats")
        if (number := self._format()) is None:
            self._note_format(self.format)
        for migration in range(number or self.format, self.format):
            with self.session.transaction():
                self.migrations[migration - 1](self)
                self._note_format(migration + 1)
        for table in TABLES:
            if table not in found and table != "formats":
                self._create(table)

    def existing(self) -> set[str]:
        """Those that exist.

        Raises:
            BadInput: if they are those of a development version, or not of today's format.
        """
        found = self._found()
        if "formats" in found and (number := self._format()) is not None and number < self.format:
            raise BadInput(
                f"schema {self.schema!r} holds a catalog in format {number}, and this Entrepot reads {self.format}: "
                "it becomes that when a run of the tenant begins"
            )
        return found

    @property
    def format(self) -> int:
        """Today's format."""
        return 1 + len(self.migrations)

    def _found(self) -> set[str]:
        """The tables that exist, unless they are none of a release."""
        found = self.session.tables(self.schema)
        if found & TABLES.keys() and "formats" not in found:
            raise BadInput(
                f"schema {self.schema!r} holds the catalog of a development version of Entrepot, from before catalogs "
                "had a format, which this one does not read: begin with a new state folder, or another database"
            )
        return found

    def _format(self) -> int | None:
        """The catalog's format; None, if whoever made it died before it was written down.

        Raises:
            BadInput: if a newer version of Entrepot made it.
        """
        rows = self.select("formats", newest="format")
        if not rows:
            return None
        if (number := int(rows[0]["format"])) > self.format:
            raise BadInput(
                f"schema {self.schema!r} holds a catalog in format {number}, which Entrepot {rows[0]['release']} has "
                f"made, and this one, {version('entrepot')}, reads up to {self.format}: use that or a newer one"
            )
        return number

    def _note_format(self, number: int) -> None:
        self.insert("formats", {"format": number, "release": version("entrepot"), "since": now()})

    def _create(self, table: str) -> None:
        self.session.create_table(self._name(table), ibis.schema(TABLES[table]), KEYS.get(table, ()))

    def select(
        self, table: str, *conditions: sge.Condition, columns: Iterable[str] = (), newest: str | None = None
    ) -> list[dict[str, Any]]:
        """The rows for which all conditions hold; with `newest`, the one that has the greatest value in that column."""
        query = self._from(table, columns or TABLES[table]).where(*conditions)
        if newest:
            query = query.order_by(sge.Ordered(this=column(newest), desc=True)).limit(1)
        return self.session.query(query)

    def distinct(self, table: str, name: str, *conditions: sge.Condition) -> set[str]:
        """The values of a column, in the rows for which all conditions hold."""
        return {row[name] for row in self.session.query(self._from(table, [name]).where(*conditions).distinct())}

    def insert(self, table: str, *rows: Row) -> None:
        """Adds rows by one statement; dicts and lists are kept as JSON."""
        for row in rows:
            if unknown := row.keys() - TABLES[table].keys():
                raise TypeError(f"catalog table {table!r} has no column {sorted(unknown)}")
        self.session.insert(self._name(table), [{c: _encode(row.get(c)) for c in TABLES[table]} for row in rows])

    def insert_once(self, table: str, row: Row, *same: str) -> None:
        """Adds a row, unless there is one that has the same in these columns: added by an attempt that died then."""
        if not self.select(table, *(equals(name, row[name]) for name in same), columns=same):
            self.insert(table, row)

    def update(self, table: str, values: Row, *conditions: sge.Condition) -> int:
        """Changes the rows for which all conditions hold. Returns how many."""
        encoded = {name: _encode(value) for name, value in values.items()}
        return self.session.update(self._name(table), encoded, sge.and_(*conditions))

    def delete(self, table: str, *conditions: sge.Condition) -> int:
        """Deletes the rows for which all conditions hold. Returns how many."""
        return self.session.delete(self._name(table), sge.and_(*conditions))

    def _from(self, table: str, columns: Iterable[str]) -> sge.Select:
        source = sge.table_(table, db=self.schema, quoted=True)
        return sge.select(*(column(name) for name in columns)).from_(source)

    def _name(self, table: str) -> TableName:
        return TableName(self.schema, table)


def now() -> datetime.datetime:
    """The time as the catalog keeps it: UTC, without zone."""
    return datetime.datetime.now(datetime.UTC).replace(tzinfo=None)


def versions_by_name(text: str) -> dict[str, str]:
    """What a column with names and the version of each says.

    Raises:
        ValueError: if it is something else.
    """
    found = json.loads(text)
    if not (isinstance(found, dict) and all(isinstance(version, str) for version in found.values())):
        raise ValueError(f"no names with a version each: {text[:80]}")
    return found


def column(name: str) -> sge.Column:
    """Quoted: some of their names are words of some warehouse."""
    return sge.column(name, quoted=True)


def equals(name: str, value: str | int) -> sge.Condition:
    """The condition that a column has this value."""
    return column(name).eq(sge.convert(value))


def any_of(name: str, values: Iterable[str]) -> sge.Condition:
    """The condition that a column has one of these values."""
    literals = [sge.Literal.string(v) for v in sorted(values)]
    return sge.In(this=column(name), expressions=literals or [sge.Literal.string("")])


def _encode(value: Any) -> Any:
    return json.dumps(value, default=str) if isinstance(value, dict | list | tuple) else value

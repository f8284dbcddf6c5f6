"""The catalog: which versions exist, what each environment points at, what was loaded, checked and run.

Its tables stand in the tenant's own warehouse, in the schema `entrepot`, and are only ever added to (and collected).
What an environment points at is the newest row of `publishes`: a publish, a rollback and a promotion are one row each.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import ibis
import sqlglot.expressions as sge

from backends import Name, Session
from entrepot.errors import Conflict
from entrepot.plan import Known

SCHEMA = "entrepot"

_TABLES = {
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
        "seconds": "float64",
        "run": "string",
        "made_at": "timestamp",
        "details": "string",  # JSON: scores, how rows were scored, the artifact's path
    },
    "loads": {
        "pipeline": "string",
        "step": "string",
        "run": "string",
        "loaded_at": "timestamp",
        "fingerprint": "string",  # of the source and of what reads it; NULL where a source has none
        "tables": "string",  # JSON: table → version
        "state": "string",  # the file in the lake with what the source remembers
    },
    "publishes": {
        "pipeline": "string",
        "environment": "string",
        "sequence": "int64",
        "action": "string",  # publish, rollback
        "run": "string",
        "published_at": "timestamp",
        "pointers": "string",  # JSON: every name → version, after it
        "moved": "string",  # JSON: the names that it moved
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

_KEYS = {"versions": ("pipeline", "name", "version"), "publishes": ("pipeline", "environment", "sequence")}


@dataclass(frozen=True)
class Version:
    """One row of `versions`, as activities need it."""

    name: str
    version: str
    kind: str
    identity: str
    table: Name | None
    columns: dict[str, str]
    inferred: dict[str, str]
    rows: int | None
    details: dict[str, Any]
    run: str
    step: str = ""
    """The step that made it, where that is not its name: an ingest step's."""
    bytes: int | None = None


@dataclass(frozen=True)
class Published:
    """What an environment points at."""

    sequence: int
    pointers: dict[str, str]
    run: str = ""


def ensure(session: Session) -> None:
    """Makes the catalog's tables where they are missing."""
    if not session.tables(SCHEMA) >= set(_TABLES):
        session.create_schema(SCHEMA)
        for table, columns in _TABLES.items():
            session.create_table(Name(SCHEMA, table), ibis.schema(columns), _KEYS.get(table, ()))


def now() -> datetime.datetime:
    """The time as the catalog keeps it: UTC, without zone."""
    return datetime.datetime.now(datetime.UTC).replace(tzinfo=None)


def add(session: Session, table: str, **values: Any) -> None:
    """Adds one row; dicts and lists are kept as JSON."""
    row = {c: _encode(values.pop(c, None)) for c in _TABLES[table]}
    if values:
        raise TypeError(f"catalog table {table!r} has no column {sorted(values)}")
    session.insert(Name(SCHEMA, table), [row])


def add_version(session: Session, pipeline: str, made: Version, inputs: Mapping[str, str], seconds: float) -> None:
    """Records a version: in the transaction that makes what it stands for, so that neither is without the other."""
    add(
        session,
        "versions",
        pipeline=pipeline,
        name=made.name,
        version=made.version,
        kind=made.kind,
        step=made.step or made.name,
        identity=made.identity or None,
        inputs=dict(inputs),
        columns=made.columns,
        inferred=made.inferred if made.inferred != made.columns else None,
        physical_schema=made.table.schema if made.table else None,
        physical_table=made.table.table if made.table else None,
        row_count=made.rows,
        byte_count=made.bytes,
        seconds=seconds,
        run=made.run,
        made_at=now(),
        details=made.details,
    )


def versions(session: Session, pipeline: str, wanted: Mapping[str, str]) -> dict[str, Version]:
    """Those of the wanted versions (by name) that exist."""
    rows = _select(session, "versions", pipeline, _any_of("version", set(wanted.values())))
    return {r["name"]: _version(r) for r in rows if wanted.get(r["name"]) == r["version"]}


def known(session: Session, pipeline: str, wanted: Iterable[str]) -> dict[tuple[str, str], Known]:
    """What a plan needs of versions and passed checks, by name and version."""
    condition = _any_of("version", set(wanted))
    columns = ("name", "version", "identity", "inputs", "run")
    rows = _select(session, "versions", pipeline, condition, columns=columns)
    # A check that blocked is no reason to skip it: it must block again.
    passed = sge.or_(_equals("severity", "warn"), sge.column("violations").eq(0))
    rows += _select(session, "checks", pipeline, condition, passed, columns=columns)
    return {
        (r["name"], r["version"]): Known(identity=r["identity"] or "", inputs=json.loads(r["inputs"]), run=r["run"])
        for r in rows
    }


def published(session: Session, pipeline: str, environment: str) -> Published:
    """What an environment points at; nothing, before its first publish."""
    rows = _select(session, "publishes", pipeline, _equals("environment", environment), newest="sequence")
    if not rows:
        return Published(0, {})
    return Published(rows[0]["sequence"], json.loads(rows[0]["pointers"]), rows[0]["run"])


def publishes(session: Session, pipeline: str, environment: str | None = None) -> list[dict[str, Any]]:
    """Every publish, newest first, with `pointers` and `moved` decoded."""
    conditions = [_equals("environment", environment)] if environment else []
    rows = _select(session, "publishes", pipeline, *conditions)
    for row in rows:
        row["pointers"], row["moved"] = json.loads(row["pointers"]), json.loads(row["moved"])
    return sorted(rows, key=lambda row: (row["environment"], -row["sequence"]))


def move(
    session: Session,
    pipeline: str,
    environment: str,
    run: str,
    action: str,
    pointers: Mapping[str, str],
    moved: Iterable[str],
    *,
    expected: int,
) -> int:
    """Adds a publish, if the newest is the one expected. Call it within a transaction, with the views.

    Raises:
        Conflict: if somebody else published in between.
    """
    current = published(session, pipeline, environment)
    if current.sequence != expected:
        raise Conflict(
            f"pipeline {pipeline!r}, environment {environment!r}: run {current.run} published while this run was "
            "going, so nothing of it was published; start it again"
        )
    add(
        session,
        "publishes",
        pipeline=pipeline,
        environment=environment,
        sequence=expected + 1,
        action=action,
        run=run,
        published_at=now(),
        pointers=dict(pointers),
        moved=sorted(moved),
    )
    return expected + 1


def last_load(session: Session, pipeline: str, step: str) -> dict[str, Any] | None:
    """The newest load of an ingest step, with `tables` decoded."""
    rows = _select(session, "loads", pipeline, _equals("step", step), newest="loaded_at")
    return {**rows[0], "tables": json.loads(rows[0]["tables"])} if rows else None


def rows(session: Session, table: str, pipeline: str) -> list[dict[str, Any]]:
    """Every row of a pipeline in one of the catalog's tables."""
    return _select(session, table, pipeline)


def delete(session: Session, table: str, pipeline: str, versions: Iterable[tuple[str, str]]) -> None:
    """Forgets versions (name and version) in one of the catalog's tables."""
    for name, version in versions:
        where = sge.and_(_equals("pipeline", pipeline), _equals("name", name), _equals("version", version))
        session.query(sge.delete(sge.table_(table, db=SCHEMA), where=where))


def _select(
    session: Session,
    table: str,
    pipeline: str,
    *conditions: sge.Condition,
    columns: Iterable[str] = ("*",),
    newest: str | None = None,
) -> list[dict[str, Any]]:
    query = sge.select(*columns).from_(sge.table_(table, db=SCHEMA)).where(_equals("pipeline", pipeline), *conditions)
    if newest:
        query = query.order_by(sge.column(newest).desc()).limit(1)
    return session.query(query)


def _equals(column: str, value: str) -> sge.Condition:
    return sge.column(column).eq(sge.Literal.string(value))


def _any_of(column: str, values: Iterable[str]) -> sge.Condition:
    literals = [sge.Literal.string(v) for v in sorted(values)]
    return sge.In(this=sge.column(column), expressions=literals or [sge.Literal.string("")])


def _encode(value: Any) -> Any:
    return json.dumps(value, default=str) if isinstance(value, dict | list | tuple) else value


def _version(row: Mapping[str, Any]) -> Version:
    columns = json.loads(row["columns"] or "{}")
    return Version(
        name=row["name"],
        version=row["version"],
        kind=row["kind"],
        identity=row["identity"] or "",
        table=Name(row["physical_schema"], row["physical_table"]) if row["physical_table"] else None,
        columns=columns,
        inferred=json.loads(row["inferred"]) if row["inferred"] else columns,
        rows=row["row_count"],
        details=json.loads(row["details"] or "{}"),
        run=row["run"],
    )

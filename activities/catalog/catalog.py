"""The catalog: which versions exist, what each environment points at, what was loaded, checked and run.

Its tables stand in the tenant's own warehouse, in the schema `entrepot`, and are only ever added to (and collected),
but for two. `heads` has one row for each environment with what it points at. To publish, to roll back and to promote is
to change that row by one UPDATE that says which publish it expects to follow: of two at the same time one wins, on
every warehouse, with or without transactions. `publishes` has the history. Views follow the row; how far they have
followed, it says itself, so that whoever comes after a crash can finish.

`cursors` has one row for each environment and ingest step with the load it stands at, what that load made and what the
source remembers; it is changed in the same way, and `loads` has its history. `places` says whose each name is that
people see: see `places.py`.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import ibis
import sqlglot.expressions as sge

from entrepot.activities.catalog.tables import KEYS, TABLES
from entrepot.backends import Session, TableName
from entrepot.errors import Conflict
from entrepot.identity.version import CATALOG
from entrepot.planning.plan import Known

SCHEMA = CATALOG


@dataclass(frozen=True)
class Version:
    """One row of `versions`, as activities need it."""

    name: str
    version: str
    kind: str
    identity: str
    table: TableName | None
    columns: dict[str, str]
    inferred: dict[str, str]
    rows: int | None
    details: dict[str, Any]
    run: str
    step: str = ""
    """The step that made it, where that is not its name: an ingest step's."""
    bytes: int | None = None
    scanned: int | None = None
    inputs: dict[str, str] = field(default_factory=dict)
    """What it was made of: tables and models, and the versions of each."""


@dataclass(frozen=True)
class Published:
    """What an environment points at."""

    sequence: int
    pointers: dict[str, str]
    run: str = ""
    action: str = ""
    moved: tuple[str, ...] = ()
    shown: int = 0
    """The sequence up to which its views are brought."""
    published_at: datetime.datetime | None = None


def ensure(session: Session) -> None:
    """Makes the catalog's tables where they are missing."""
    if not session.tables(SCHEMA) >= set(TABLES):
        session.create_schema(SCHEMA)
        for table, columns in TABLES.items():
            session.create_table(TableName(SCHEMA, table), ibis.schema(columns), KEYS.get(table, ()))


def now() -> datetime.datetime:
    """The time as the catalog keeps it: UTC, without zone."""
    return datetime.datetime.now(datetime.UTC).replace(tzinfo=None)


def add(session: Session, table: str, **values: Any) -> None:
    """Adds one row; dicts and lists are kept as JSON."""
    row = {c: _encode(values.pop(c, None)) for c in TABLES[table]}
    if values:
        raise TypeError(f"catalog table {table!r} has no column {sorted(values)}")
    session.insert(table_name(table), [row])


def add_once(session: Session, table: str, *same: str, **values: Any) -> None:
    """Adds one row, unless there is one that has the same in these columns: added by an attempt that died then."""
    conditions = [equals(name, values[name]) for name in same]
    if not select(session, table, values["pipeline"], *conditions, columns=same):
        add(session, table, **values)


def add_version(
    session: Session,
    pipeline: str,
    made: Version,
    seconds: float,
    before: Version | None = None,
) -> None:
    """Records a version: in the transaction that makes what it stands for, so that neither is without the other.

    Args:
        before: The same version, if it is made anew: its table stays until it is collected, since it is still shown.
    """
    values: dict[str, Any] = {
        "pipeline": pipeline,
        "name": made.name,
        "version": made.version,
        "kind": made.kind,
        "step": made.step or made.name,
        "identity": made.identity or None,
        "inputs": made.inputs,
        "columns": made.columns,
        "inferred": made.inferred if made.inferred != made.columns else None,
        "physical_schema": made.table.schema if made.table else None,
        "physical_table": made.table.table if made.table else None,
        "row_count": made.rows,
        "byte_count": made.bytes,
        "scanned": made.scanned,
        "seconds": seconds,
        "run": made.run,
        "made_at": now(),
        "details": made.details,
    }
    if before is None:
        add(session, "versions", **values)
        return
    stood = [[before.table.schema, before.table.table]] if before.table else []
    values["details"] = {**made.details, "replaced": [*before.details.get("replaced", []), *stood]}
    its = (equals("pipeline", pipeline), equals("name", made.name), equals("version", made.version))
    session.update(table_name("versions"), {n: _encode(v) for n, v in values.items()}, sge.and_(*its))


def set_details(session: Session, pipeline: str, name: str, version: str, details: Mapping[str, Any]) -> None:
    """Replaces a version's details."""
    its = (equals("pipeline", pipeline), equals("name", name), equals("version", version))
    session.update(table_name("versions"), {"details": _encode(dict(details))}, sge.and_(*its))


def versions(session: Session, pipeline: str, wanted: Mapping[str, str]) -> dict[str, Version]:
    """Those of the wanted versions (by name) that exist."""
    return {row["name"]: _version(row) for row in version_rows(session, pipeline, wanted)}


def version_rows(session: Session, pipeline: str, wanted: Mapping[str, str]) -> list[dict[str, Any]]:
    """The wanted versions' rows as they stand."""
    rows = select(session, "versions", pipeline, any_of("version", set(wanted.values())))
    return [row for row in rows if wanted.get(row["name"]) == row["version"]]


def known(session: Session, pipeline: str, wanted: Iterable[str]) -> dict[tuple[str, str], Known]:
    """What a plan needs of versions and passed checks, by name and version."""
    condition = any_of("version", set(wanted))
    columns = ("name", "version", "identity", "inputs", "run")
    rows = select(session, "versions", pipeline, condition, columns=columns)
    # A check that blocked is no reason to skip it: it must block again.
    passed = sge.or_(equals("severity", "warn"), column("violations").eq(0))
    rows += select(session, "checks", pipeline, condition, passed, columns=columns)
    return {
        (r["name"], r["version"]): Known(identity=r["identity"] or "", inputs=json.loads(r["inputs"]), run=r["run"])
        for r in rows
    }


def pipelines(session: Session) -> list[str]:
    """The pipelines of which the catalog knows what they made or show, whether or not anybody runs them."""
    found = {row["pipeline"] for table in ("versions", "heads", "places") for row in _pipelines(session, table)}
    return sorted(found)


def _pipelines(session: Session, table: str) -> list[dict[str, Any]]:
    named = sge.select(column("pipeline")).from_(sge.table_(table, db=SCHEMA, quoted=True))
    return session.query(named.distinct())


def open_head(session: Session, pipeline: str, environment: str) -> None:
    """Makes the row of an environment that has none yet: it points at nothing."""
    if not select(session, "heads", pipeline, equals("environment", environment), columns=["sequence"]):
        nothing = {"sequence": 0, "action": "", "run": "", "pointers": {}, "moved": [], "shown": 0}
        add(session, "heads", pipeline=pipeline, environment=environment, published_at=now(), **nothing)


def published(session: Session, pipeline: str, environment: str) -> Published:
    """What an environment points at; nothing, before its first publish."""
    # Without keys, two first runs at the same time may both have made the row; an UPDATE then changes both.
    rows = select(session, "heads", pipeline, equals("environment", environment), newest="sequence")
    return _published(rows[0]) if rows else Published(0, {})


def publishes(session: Session, pipeline: str, environment: str | None = None) -> dict[str, list[Published]]:
    """Every publish of each environment, newest first."""
    conditions = [equals("environment", environment)] if environment else []
    found: dict[str, dict[int, Published]] = {}
    for table in ("heads", "publishes"):
        for row in select(session, table, pipeline, *conditions):
            if row["sequence"]:
                found.setdefault(row["environment"], {}).setdefault(row["sequence"], _published(row))
    return {name: [its[n] for n in sorted(its, reverse=True)] for name, its in found.items()}


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
) -> Published:
    """Points an environment elsewhere, if what it points at is what the publish of this sequence made of it.

    Raises:
        Conflict: if somebody else published in between.
    """
    before = published(session, pipeline, environment)
    if before.sequence == expected:
        _archive(session, pipeline, environment, before)
        values = {
            "sequence": expected + 1,
            "action": action,
            "run": run,
            "published_at": now(),
            "pointers": json.dumps(dict(pointers)),
            "moved": json.dumps(sorted(moved)),
        }
        its = (equals("pipeline", pipeline), equals("environment", environment), column("sequence").eq(expected))
        if session.update(table_name("heads"), values, sge.and_(*its)):
            made = published(session, pipeline, environment)
            _archive(session, pipeline, environment, made)
            return made
        before = published(session, pipeline, environment)
    meanwhile = f"run {before.run} published" if before.run else "it was dropped"
    raise Conflict(
        f"pipeline {pipeline!r}, environment {environment!r}: {meanwhile} while this run was going, so nothing of it "
        "was published; start it again"
    )


def shown(session: Session, pipeline: str, environment: str, sequence: int) -> None:
    """Notes that the views show what was published up to this sequence."""
    its = (equals("pipeline", pipeline), equals("environment", environment), column("sequence").eq(sequence))
    session.update(table_name("heads"), {"shown": sequence}, sge.and_(*its))


def _archive(session: Session, pipeline: str, environment: str, head: Published) -> None:
    """Adds a publish to the history, unless it is there: also for somebody who died before he could."""
    same = (equals("environment", environment), column("sequence").eq(head.sequence))
    if head.sequence and not select(session, "publishes", pipeline, *same, columns=["sequence"]):
        add(
            session,
            "publishes",
            pipeline=pipeline,
            environment=environment,
            sequence=head.sequence,
            action=head.action,
            run=head.run,
            published_at=head.published_at,
            pointers=head.pointers,
            moved=list(head.moved),
        )


def _published(row: Mapping[str, Any]) -> Published:
    return Published(
        sequence=row["sequence"],
        pointers=json.loads(row["pointers"]),
        run=row["run"],
        action=row["action"],
        moved=tuple(json.loads(row["moved"])),
        shown=row.get("shown", row["sequence"]),
        published_at=row["published_at"],
    )


def certificates(session: Session, pipeline: str, name: str, version: str) -> list[dict[str, Any]]:
    """What is known of a version on other warehouses, with `warehouses` decoded."""
    rows = select(session, "certificates", pipeline, equals("name", name), equals("version", version))
    return [{**row, "warehouses": json.loads(row["warehouses"])} for row in rows]


def rows(session: Session, table: str, pipeline: str) -> list[dict[str, Any]]:
    """Every row of a pipeline in one of the catalog's tables."""
    return select(session, table, pipeline)


def delete(session: Session, table: str, pipeline: str, versions: Iterable[tuple[str, str]]) -> None:
    """Forgets versions (name and version) in one of the catalog's tables."""
    for name, version in versions:
        where = sge.and_(equals("pipeline", pipeline), equals("name", name), equals("version", version))
        session.delete(table_name(table), where)


def select(
    session: Session,
    table: str,
    pipeline: str | None,
    *conditions: sge.Condition,
    columns: Iterable[str] = (),
    newest: str | None = None,
) -> list[dict[str, Any]]:
    """The rows of one of the catalog's tables for which all conditions hold; with `newest`, the greatest of them.

    Without a pipeline, those of all.
    """
    its = [equals("pipeline", pipeline)] if pipeline is not None else []
    query = sge.select(*(column(name) for name in columns or TABLES[table]))
    query = query.from_(sge.table_(table, db=SCHEMA, quoted=True)).where(*its, *conditions)
    if newest:
        query = query.order_by(sge.Ordered(this=column(newest), desc=True)).limit(1)
    return session.query(query)


def table_name(table: str) -> TableName:
    """One of the catalog's tables."""
    return TableName(SCHEMA, table)


def column(name: str) -> sge.Column:
    """Quoted: some of their names are words of some warehouse."""
    return sge.column(name, quoted=True)


def equals(name: str, value: str) -> sge.Condition:
    """The condition that a column has this value."""
    return column(name).eq(sge.Literal.string(value))


def any_of(name: str, values: Iterable[str]) -> sge.Condition:
    """The condition that a column has one of these values."""
    literals = [sge.Literal.string(v) for v in sorted(values)]
    return sge.In(this=column(name), expressions=literals or [sge.Literal.string("")])


def _encode(value: Any) -> Any:
    return json.dumps(value, default=str) if isinstance(value, dict | list | tuple) else value


def _version(row: Mapping[str, Any]) -> Version:
    columns = json.loads(row["columns"] or "{}")
    return Version(
        name=row["name"],
        version=row["version"],
        kind=row["kind"],
        identity=row["identity"] or "",
        table=TableName(row["physical_schema"], row["physical_table"]) if row["physical_table"] else None,
        columns=columns,
        inferred=json.loads(row["inferred"]) if row["inferred"] else columns,
        rows=row["row_count"],
        details=json.loads(row["details"] or "{}"),
        run=row["run"],
        inputs=json.loads(row["inputs"] or "{}"),
    )

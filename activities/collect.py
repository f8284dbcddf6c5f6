"""Garbage collection, and the listing of versions: what stands in the warehouse and the lake, and why it stays."""

from __future__ import annotations

import datetime
import json
from contextlib import ExitStack
from typing import Any

from pydantic import BaseModel
from temporalio import activity

from activities import catalog, cursors, lake, manifest, names
from activities.messages import CollectInput, Context, Target, parse
from activities.segments import Segment
from activities.tenant import Tenants
from activities.work import Work, as_failure, do, whose
from backends import Name, Session
from entrepot.errors import BadInput


class Collected(BaseModel):
    """What a collection removed, or would remove."""

    removed: list[str]
    kept: int
    rows: int
    dry_run: bool


class VersionRow(BaseModel):
    """One version, for people."""

    name: str
    kind: str
    version: str
    rows: int | None
    bytes: int | None
    seconds: float | None
    made_at: str
    run: str
    environments: list[str]
    """The environments that point at it."""
    note: str = ""


class CollectActivities:
    """The activities `collect` and `versions`."""

    def __init__(self, tenants: Tenants) -> None:
        self._tenants = tenants

    @activity.defn(name=names.COLLECT)
    async def collect(self, asked: CollectInput) -> Collected:
        """Removes versions that nothing points at and nobody made lately."""
        tenant = whose(self._tenants, asked.tenant, asked.pipeline)

        def remove(work: Work) -> Collected:
            with work.session() as session:
                catalog.ensure(session)
                return _collect(work, session, asked)

        return await do(remove, tenant, _context(asked.tenant, asked.pipeline), names.COLLECT)

    @activity.defn(name=names.VERSIONS)
    async def versions(self, value: Any = None) -> list[VersionRow]:
        """Every version of a pipeline, the newest first, and which environments point at it.

        People start it by itself, with JSON: what does not fit a `Target` is refused in a sentence.
        """
        try:
            asked = parse(Target, value, names.VERSIONS)
        except BadInput as error:
            raise as_failure(error, "no versions") from None
        tenant = whose(self._tenants, asked.tenant, asked.pipeline)

        def read(work: Work) -> list[VersionRow]:
            with work.session() as session:
                catalog.ensure(session)
                return _versions(session, asked.pipeline)

        return await do(read, tenant, _context(asked.tenant, asked.pipeline), names.VERSIONS)


def _context(tenant: str, pipeline: str) -> Context:
    return Context(tenant=tenant, pipeline=pipeline, run=activity.info().workflow_run_id or "")


def _collect(work: Work, session: Session, asked: CollectInput) -> Collected:
    every = catalog.rows(session, "versions", asked.pipeline)
    kept = _reachable(session, asked, every)
    border = catalog.now() - datetime.timedelta(days=asked.keep_days)
    unneeded = [r for r in every if (r["name"], r["version"]) not in kept and r["made_at"] < border]
    if not asked.dry_run:
        needed = {table for row in every if row not in unneeded for table in _tables(row)}
        for row in unneeded:
            # The catalog forgets first: a version without a row is made anew, a row without a table would be trusted.
            with session.transaction():
                catalog.delete(session, "versions", asked.pipeline, [(row["name"], row["version"])])
                _drop(work, session, row, needed)
            _remove_files(work, asked.pipeline, row)
        _prune(work, session, asked.pipeline, kept | (_names(every) - _names(unneeded)), border)
    removed = [f"{row['name']}@{row['version']}" for row in unneeded]
    rows = sum(row["row_count"] or 0 for row in unneeded)
    return Collected(removed=removed, kept=len(every) - len(unneeded), rows=rows, dry_run=asked.dry_run)


def _reachable(session: Session, asked: CollectInput, every: list[dict[str, Any]]) -> set[tuple[str, str]]:
    """What environments point at or could be rolled back to, the newest loads, and what kept models were made of."""
    kept: set[tuple[str, str]] = set()
    for history in catalog.publishes(session, asked.pipeline).values():
        for publish in history[: asked.keep_publishes]:
            kept |= set(publish.pointers.items())
    for step, loads in cursors.history(session, asked.pipeline).items():
        for environment in {load.environment for load in loads}:
            kept |= set(cursors.current(session, asked.pipeline, step, environment).tables.items())
    for row in every:
        if row["kind"] == "train" and (row["name"], row["version"]) in kept:
            kept |= set(json.loads(row["inputs"]).items())
    return kept


def _names(rows: list[dict[str, Any]]) -> set[tuple[str, str]]:
    return {(row["name"], row["version"]) for row in rows}


def _tables(row: dict[str, Any]) -> list[Name]:
    """The physical tables that a version's row needs: its own, and those that its view is made of."""
    details = json.loads(row["details"] or "{}")
    segments = [Segment.model_validate(each) for each in details.get("segments", [])]
    own = [Name(row["physical_schema"], row["physical_table"])] if row["physical_table"] else []
    taken = [Name(s.takes.schema_name, s.takes.table) for s in segments if s.takes and s.takes.table]
    return [*own, *(segment.name for segment in segments), *taken]


def _drop(work: Work, session: Session, row: dict[str, Any], needed: set[Name]) -> None:
    """Drops a version's table or view, and the segments that no other version needs."""
    details = json.loads(row["details"] or "{}")
    with ExitStack() as stack:
        elsewhere = details.get("to")
        there = stack.enter_context(work.session(warehouse=elsewhere)) if elsewhere else session
        for number, table in enumerate(_tables(row)):
            if table in needed:
                continue
            if number == 0 and details.get("view"):
                there.drop_view(table)
            else:
                there.drop_table(table)


def _remove_files(work: Work, pipeline: str, row: dict[str, Any]) -> None:
    if row["kind"] == "train":
        lake.remove(work.tenant.lake_path("models", pipeline, row["name"], row["version"]))
    elif row["kind"] == "publish":
        lake.remove(work.tenant.lake_path("artifacts", pipeline, row["name"], row["version"]))


def _prune(work: Work, session: Session, pipeline: str, kept: set[tuple[str, str]], border: datetime.datetime) -> None:
    """Removes from the lake what no version that is kept was loaded from, and what failed loads have left."""
    needed: set[str] = set()
    for table, wanted in sorted(kept):
        version: str | None = wanted
        while version is not None and (path := manifest.path_of(work.tenant, pipeline, table, version)) not in needed:
            if not lake.exists(path):  # no raw table
                break
            found = manifest.read(work.tenant, pipeline, table, version)
            needed |= {path, *(part.file for part in found.parts)}
            version = found.adds_to
    needed |= {c.state for loads in cursors.history(session, pipeline).values() for c in loads if c.state}
    for folder in ("raw", "loads"):
        for path, changed_at in lake.files(work.tenant.lake_path(folder, pipeline)).items():
            if path not in needed and changed_at < border and not path.endswith("/columns.json"):
                lake.remove(path)


def _versions(session: Session, pipeline: str) -> list[VersionRow]:
    pointers = {name: history[0].pointers for name, history in catalog.publishes(session, pipeline).items()}
    rows = sorted(catalog.rows(session, "versions", pipeline), key=lambda r: r["made_at"], reverse=True)
    return [
        VersionRow(
            name=row["name"],
            kind=row["kind"],
            version=row["version"],
            rows=row["row_count"],
            bytes=row["byte_count"],
            seconds=row["seconds"],
            made_at=row["made_at"].isoformat(timespec="seconds"),
            run=row["run"],
            environments=sorted(e for e, p in pointers.items() if p.get(row["name"]) == row["version"]),
            note=_note(json.loads(row["details"] or "{}")),
        )
        for row in rows
    ]


def _note(details: dict[str, Any]) -> str:
    if "scores" in details:
        return ", ".join(f"{name} {value:.3f}" for name, value in details["scores"].items())
    return str(details.get("scoring", {}).get("said") or details.get("path") or "")

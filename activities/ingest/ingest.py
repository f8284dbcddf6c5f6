"""Ingest: a source read into Parquet in the lake, and from there into the warehouse, as versions.

Nothing that a source remembers lives outside the catalog's ingest state, which is replaced when everything that the
load brought is there. A crash anywhere leaves it as it was: the next attempt starts from there.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from entrepot.activities.catalog.catalog import PipelineCatalog
from entrepot.activities.catalog.ingest_state import IngestState, overtaken
from entrepot.activities.ingest import heads, manifest
from entrepot.activities.ingest.extraction import extract
from entrepot.activities.ingest.intervals.rebasing import Passed, are_apart, behind_intervals, rebased, turn
from entrepot.activities.ingest.sources.dlt import extract as dlt_extract
from entrepot.activities.ingest.warehouse_loader import WarehouseLoader
from entrepot.activities.runtime.activity import Activities, implements
from entrepot.activities.runtime.context import ActivityContext, attribute_errors, wait_for_other_runs
from entrepot.activities.runtime.isolation.call import Call
from entrepot.activities.runtime.isolation.processes import StepProcesses
from entrepot.activities.runtime.tenant import Tenant
from entrepot.activities.storage import lake
from entrepot.backends import Session
from entrepot.errors import BadInput, listed
from entrepot.language.step import IngestStep
from entrepot.protocol import activities
from entrepot.protocol.messages import (
    Context,
    ExtractRequest,
    Load,
    LoadRequest,
    LoadTablesRequest,
    StepResult,
    TableLoad,
    describe_changes,
)


class IngestActivities(Activities):
    """The activities `extract`, `load` and `load_tables`."""

    @implements(activities.EXTRACT)
    def extract(self, work: ActivityContext, request: ExtractRequest) -> Load:
        """Asks the source, and puts what is new into the lake. The warehouse is only read."""
        context = request.context
        _, step, parameters = self._tenants.step(context, request.step, IngestStep)
        with work.session() as session:
            leases = work.leases(session, context.pipeline)
            wait_for_other_runs(work, lambda: leases.renew(context.run, work.workflow))
            catalog = work.catalog(session).pipeline(context.pipeline)
            last = catalog.environment(context.environment).ingest_state(step.name)
            if request.is_all:
                leases.plan(context.run, last.tables)
            if request.replay is not None:
                return _replayed(work, catalog, request, last.sequence)
            if not (last.load or last.sequence or request.refresh):
                _check_not_lost(work.tenant, request)
            hashes = {name: its.manifest for name, its in catalog.versions(last.tables).items()}
        with attribute_errors(step):
            step_processes = StepProcesses(work, self._tenants, context.pipeline, step)
            tenant = work.tenant.without_warehouses()
            load: Load = step_processes.run(_extract, tenant, request, parameters, last, hashes)
        return load

    @implements(activities.LOAD)
    def load(self, work: ActivityContext, request: LoadRequest) -> StepResult:
        """Copies a load from the lake into the warehouse, and replaces the ingest state after it."""
        step = request.load.step
        with self._attributed(request.context, step), turn(work, request.context, step):
            return wait_for_other_runs(work, lambda: _load(work, request.context, request.load, request.may_follow))

    @implements(activities.LOAD_TABLES)
    def load_tables(self, work: ActivityContext, request: LoadTablesRequest) -> StepResult:
        """Copies versions from the lake into the context's warehouse; no ingest state is replaced."""
        context = request.context

        def load() -> StepResult:
            with work.session() as session, session.transaction():
                loader = WarehouseLoader(work, session, context.pipeline, request.step, context.run)
                return StepResult(name=request.step, versions=loader.all(request.tables))

        with self._attributed(context, request.step):
            return wait_for_other_runs(work, load)

    def _attributed(self, context: Context, name: str) -> AbstractContextManager[None]:
        """Failures of loading name its step; the code may have lost it since the load was made."""
        step = self._tenants.pipeline(context.tenant, context.pipeline).graph.steps.get(name)
        return attribute_errors(step) if step else nullcontext()


def _check_not_lost(tenant: Tenant, asked: ExtractRequest) -> None:
    """Of a step of which the catalog knows nothing: a load would take the place of what the lake remembers.

    Raises:
        BadInput: if the lake remembers a load for the environment.
    """
    context = asked.context
    if (head := heads.of(tenant, context.pipeline, asked.step, context.environment)) is not None:
        raise BadInput(
            f"the catalog has no load of {asked.step!r} in {head.environment}, and the lake has that of run "
            f"{head.run}: bring it back by `entrepot restore --from-lake`, or run once with `refresh` to load "
            "everything anew"
        )


def _extract(
    call: Call,
    tenant: Tenant,
    asked: ExtractRequest,
    parameters: Mapping[str, Any],
    last: IngestState,
    hashes: Mapping[str, str | None],
) -> Load:
    """Reads a source, in a process of its own: its code, its library or its server may hang or die."""
    step = call.step
    assert isinstance(step, IngestStep)
    work = ActivityContext(tenant, asked.context.run, step.name, told=call.report)
    return extract(work, asked, step, parameters, last, hashes)


def _replayed(work: ActivityContext, catalog: PipelineCatalog, asked: ExtractRequest, sequence: int) -> Load:
    """The newest load of an environment, as a load of this one: sources are not read, landed files are reused."""
    pipeline, environment = asked.context.pipeline, asked.replay or ""
    found = catalog.environment(environment).own_ingest_state(asked.step)
    if found is None:
        known = {load.environment for load in catalog.loads().get(asked.step, [])}
        raise BadInput(
            f"ingest {asked.step!r}: environment {environment!r} has no load to replay; those that have one: "
            f"{listed(known)}"
        )
    if environment == asked.context.environment:
        why = f"{environment} has it; the source was not read"
        return Load(step=asked.step, known=dict(found.tables), unchanged=True, why=why)
    hashes = {name: version.manifest for name, version in catalog.versions(found.tables).items()}
    manifests = {t: manifest.read(work.tenant, pipeline, t, v, hashes.get(t)) for t, v in found.tables.items()}
    return Load(
        step=asked.step,
        id=found.load,
        after=sequence,
        tables={
            t: TableLoad(version=m.version, rows=m.rows, bytes=m.bytes, manifest=m.sha256) for t, m in manifests.items()
        },
        fingerprint=found.fingerprint,
        state=found.watermarks,
    )


def _load(work: ActivityContext, context: Context, load: Load, may_follow: bool) -> StepResult:
    started = time.monotonic()
    with work.session() as session:
        catalog = work.catalog(session).pipeline(context.pipeline)
        environment = catalog.environment(context.environment)
        with session.transaction():
            last = environment.ingest_state(load.step)
            # By an attempt before, or by another run.
            is_done = last.sequence == load.after + 1 and last.load == load.id
            passed: Passed = {}
            if not is_done and last.sequence != load.after:
                if may_follow:
                    load = rebased(work, session, catalog, context, load, last)
                else:
                    load, passed = behind_intervals(work, session, catalog, context, load, last)
            new = last if is_done else _loaded(work, session, context, load, last, passed)
        heads.renew(work.tenant, environment, load.step)
    if is_done:
        return _result(load, dict(last.tables), started, "it was loaded already")
    lake.remove(work.tenant.lake_path("loads", context.pipeline, load.step, context.run, "checkpoint.json"))
    changed = [table for table, version in new.tables.items() if last.tables.get(table) != version]
    if not changed:
        why = "the source has the rows that are there"
        note = "; ".join(text for text in (why, describe_changes(load.changes)) if text)
        return StepResult(name=load.step, versions=dict(new.tables), unchanged=True, note=note)
    note = f"{len(changed)} of {len(new.tables)} tables are new" if len(new.tables) > 1 else ""
    return _result(load, dict(new.tables), started, note)


def _loaded(
    work: ActivityContext, session: Session, context: Context, load: Load, last: IngestState, passed: Passed
) -> IngestState:
    """Loads what a load brought, and replaces the ingest state that it follows.

    Raises:
        Conflict: if another run has replaced that, this one was given up, or it has brought rows of intervals that it
            passed.
    """
    leases = work.leases(session, context.pipeline)
    leases.check(context.run)
    loader = WarehouseLoader(work, session, context.pipeline, load.step, context.run)
    wanted = {table: each.version for table, each in load.tables.items()}
    hashes = {(table, each.version): each.manifest for table, each in load.tables.items()}
    made = loader.all(wanted, hashes, may_be_same=True)
    if not are_apart(session, work.catalog(session).pipeline(context.pipeline), made, passed):
        raise overtaken(load.step, context.environment, last.run)
    new = IngestState(
        sequence=load.after,
        load=load.id,
        tables={**load.known, **made},
        watermarks=load.state,
        fingerprint=load.fingerprint,
        run=context.run,
        changes=load.changes,
    )
    leases.check(context.run)  # once more, since without a transaction it may have changed
    if not new.is_same_as(last):
        environment = work.catalog(session).pipeline(context.pipeline).environment(context.environment)
        environment.replace_ingest_state(load.step, new)
    return new


def _result(load: Load, versions: dict[str, str], started: float, note: str) -> StepResult:
    changes = describe_changes(load.changes)
    return StepResult(
        name=load.step,
        rows=sum(table.rows for table in load.tables.values()),
        bytes=sum(table.bytes for table in load.tables.values()),
        seconds=time.monotonic() - started,
        note="; ".join(text for text in (note, changes) if text),
        versions=versions,
    )


def warm_up() -> None:
    """Sends one row through dlt, which loads and caches much at its first use."""
    for _ in dlt_extract.stream("warm_up", [{"a": 1}], watermark={}).pieces(None):
        pass

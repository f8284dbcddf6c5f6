"""Publish: artifacts are made first, under names of their own; then every pointer of the run moves, or none does.

What moves is one row. Whatever people see follows it, and a publish whose pages, files or views cannot follow stands.
"""

from __future__ import annotations

import datetime
import functools
import hashlib
import os
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow.csv
import pyarrow.parquet
from temporalio import activity

from entrepot.activities.catalog.catalog import PipelineCatalog
from entrepot.activities.catalog.details import CopyDetails, Details, FilesDetails, PageDetails
from entrepot.activities.catalog.environment import PUBLISH, Environment, Publish
from entrepot.activities.catalog.owners import Owner
from entrepot.activities.catalog.records import Run
from entrepot.activities.catalog.tables import now
from entrepot.activities.catalog.version import Version
from entrepot.activities.ingest import heads
from entrepot.activities.ml import models
from entrepot.activities.publish.copy_to_warehouse import copy_to_warehouse
from entrepot.activities.publish.dashboard import render
from entrepot.activities.publish.view_sync import PointedVersions, ViewSync
from entrepot.activities.runtime.activity import Activities, context_of, implements
from entrepot.activities.runtime.context import (
    ActivityContext,
    check_planned,
    create_once,
    version_table_name,
    wait_for_other_runs,
)
from entrepot.activities.runtime.isolation.call import Call
from entrepot.activities.runtime.isolation.processes import StepProcesses
from entrepot.activities.runtime.isolation.tables import WorkerTables, read_by
from entrepot.activities.runtime.tenant import Tenants
from entrepot.activities.storage import lake
from entrepot.backends import Session, TableName
from entrepot.errors import BadInput, StepFailed, listed
from entrepot.identity.expression import schema_from
from entrepot.identity.version import version_schema
from entrepot.language.outputs import Copy, Dashboard, Export
from entrepot.language.step import PublishStep
from entrepot.planning.copies import CopiedTo
from entrepot.planning.graph import Graph
from entrepot.planning.resolve import publish_identity
from entrepot.protocol import activities
from entrepot.protocol.maintenance import RollbackInput
from entrepot.protocol.messages import (
    OF_RUN,
    Context,
    Promoted,
    PromoteRequest,
    RecordFailureRequest,
    Request,
    StepRef,
    StepResult,
)
from entrepot.tracebacks import writing


class PublishActivities(Activities):
    """The activities `publish`, `promote`, `rollback` and `record_failure`."""

    @implements(activities.PUBLISH)
    def publish(self, work: ActivityContext, request: StepRef) -> StepResult:
        """Makes what one publish step returns, as a version that nobody sees yet."""
        return create_once(self._tenants, work, request, PublishStep, functools.partial(_make, self._tenants))

    @implements(activities.PROMOTE)
    def promote(self, work: ActivityContext, request: PromoteRequest) -> Promoted:
        """Moves the pointers of a run. The run's id is the token: doing it twice is doing it once."""
        request = request.model_copy(update={"results": self._with_code(request, request.results)})
        with work.session() as session:
            promoted = wait_for_other_runs(
                work, lambda: _promote(work, session, request, self._tenants.graph(request.context))
            )
        return promoted.model_copy(update={"listeners": self._tenants.listeners(request.context)})

    @implements(activities.ROLLBACK)
    def rollback(self, work: ActivityContext, request: RollbackInput) -> Promoted:
        """Points an environment at what it showed after an earlier publish."""
        work.tenant.settings(request.pipeline)
        context = context_of(request)
        with work.session() as session:
            work.catalog(session).ensure()
            graph = self._tenants.graph(context)
            if request.dry_run:
                return _would_roll_back(work, session, context, request)
            done = wait_for_other_runs(work, lambda: _rollback(work, session, context, request, graph))
        return done.model_copy(update=self._tenants.told_of(context))

    @implements(activities.RECORD_FAILURE)
    def record_failure(self, work: ActivityContext, request: RecordFailureRequest) -> None:
        """Keeps in the catalog that a run failed, and why; pages say what its checks have found on what they show."""
        context = request.context
        with work.session() as session:
            catalog = work.catalog(session).pipeline(context.pipeline)
            environment = catalog.environment(context.environment)
            head = environment.head()
            stands = environment.publish_of(context.run, head) is not None
            error = f"{request.error}; what it had published stands" if stands else request.error
            made = {} if stands else catalog.versions(request.moves)
            left = {n: {**request.results.get(n, {}), "version": each.version} for n, each in made.items()}
            results = self._with_code(request, {**request.results, **left})
            _record_run(catalog, context, request.status, results, error)
            ViewSync(work, session, context).follow(head, self._tenants.graph(context)).left_behind()
            work.leases(session, context.pipeline).end(context.run)

    def _with_code(self, request: Request, results: dict[str, Any]) -> dict[str, Any]:
        """What a run did, with which code it is of, if it is no version of a deployment."""
        about = results.get(OF_RUN, {})
        code = about.get("code") or self._tenants.code(request.context.pipeline)
        return {**results, OF_RUN: {**about, "code": code}}


@dataclass(frozen=True)
class _Page:
    """A dashboard that was rendered."""

    title: str
    html: str


def _output(
    call: Call, parameters: dict[str, Any], versions: dict[str, Version], facts: dict[str, str], dialect: str
) -> _Page | Export | Copy:
    """What a publish function returns, in a process of its own; its tables as the worker can read them."""
    tables = WorkerTables(call.read, dialect)

    def argument(version: Version) -> Any:
        if version.table is None:
            return models.load(version)
        return tables.table(version.table, schema_from(version.columns))

    output = call.step.function(**parameters, **{name: argument(version) for name, version in versions.items()})
    if isinstance(output, Dashboard):
        inputs = {name: each.version for name, each in versions.items()}
        named = {each.table.table: name for name, each in versions.items() if each.table is not None}
        return _Page(str(output.title), render(output, facts, inputs, named))
    if isinstance(output, Export | Copy):
        return replace(output, table=tables.unbound(output.table))
    raise StepFailed(f"it must return a Dashboard, an Export or a Copy, and returned a {type(output).__name__}")


def _make(
    tenants: Tenants,
    work: ActivityContext,
    session: Session,
    step: PublishStep,
    ref: StepRef,
    versions: dict[str, Version],
    parameters: dict[str, Any],
) -> StepResult:
    started = time.monotonic()
    version, pipeline = ref.versions[step.name], ref.context.pipeline
    inputs = {name: ref.versions[name] for name in step.inputs if name not in parameters}
    identity = publish_identity(step, parameters)
    check_planned(identity, ref.identities.get(step.name))
    facts = {"tenant": ref.context.tenant, "pipeline": pipeline, "run": ref.context.run, "version": version}
    read = {name: versions[name] for name in inputs}
    given = {name: parameters[name] for name in step.inputs if name in parameters}
    output: _Page | Export | Copy = StepProcesses(work, tenants, pipeline, step).run(
        *(_output, given, read, facts, session.dialect.name),
        read=read_by(session),
    )
    # A folder for each run: two may make the same version at once, and a page tells which run made it.
    folder = work.tenant.lake_path(step.folder, pipeline, step.name, version, ref.context.run)
    rows: int | None = None
    size: int | None = None
    details: Details
    target = _target(work, session, step, ref, output) if isinstance(output, Copy) else None
    with session.transaction():
        if isinstance(output, _Page):
            page = output.html.encode()
            path = f"{folder}/{step.name}.html"
            lake.write(page, path)
            sha256 = hashlib.sha256(page).hexdigest()
            size, details = len(page), PageDetails(path=path, title=output.title, sha256=sha256)
        elif isinstance(output, Export):
            path = f"{folder}/{step.name}.{output.format}"
            rows, sha256 = _export(work, session, output, path)
            size, details = lake.size(path), FilesDetails(path=path, sha256=sha256)
        else:
            assert target is not None
            details = CopyDetails(schema_name=output.schema, name=output.name or step.name)
            if _is_elsewhere(work, output):
                rows, digest = copy_to_warehouse(work, session, output.table, target, output.to)
                details = details.model_copy(update={"to": output.to, "digest": digest})
            else:
                session.create_schema(target.schema)
                rows = session.create_as(target, output.table).rows
        seconds = time.monotonic() - started
        made = Version(
            name=step.name,
            version=version,
            kind=step.kind,
            identity=identity,
            table=target,
            columns={},
            inferred={},
            rows=rows,
            details=details,
            run=ref.context.run,
            bytes=size,
            inputs=inputs,
            seconds=seconds,
        )
        work.catalog(session).pipeline(pipeline).add_version(made, before=versions.get(step.name))
    return StepResult(name=step.name, rows=rows, bytes=size, seconds=seconds, note=details.kind)


def _target(work: ActivityContext, session: Session, step: PublishStep, ref: StepRef, copy: Copy) -> TableName:
    """Where a copy's table is to stand. On a further warehouse it is recorded first: nothing else knows of it, if
    whoever makes it dies before the copy is a version.

    Raises:
        BadInput: if the copy may not be shown where it asks for.
    """
    views = ViewSync(work, session, ref.context)
    views.check_copy(step, views.copied(step, CopiedTo(copy.schema, copy.name, copy.to)))
    pipeline = ref.context.pipeline
    # Among the pipeline's own versions: another pipeline may copy the same to the same schema.
    own = version_schema(work.tenant.settings(pipeline).schema)
    target = version_table_name(own, step.name, ref.versions[step.name], ref.anew, ref.context.run)
    if _is_elsewhere(work, copy):
        owner = Owner(work.tenant.name, pipeline)
        work.catalog(session).places.claim_copy(owner, target, copy.to, run=ref.context.run)
    return target


def _is_elsewhere(work: ActivityContext, copy: Copy) -> bool:
    return bool(copy.to) and work.tenant.at(copy.to) is not work.tenant


def _export(work: ActivityContext, session: Session, output: Export, path: str) -> tuple[int, str]:
    """Streams a table into one file of the lake. Returns its rows, and the file's hash."""
    reader = session.read(output.table)
    rows = 0
    with tempfile.TemporaryDirectory(prefix="entrepot-") as folder:
        local = os.path.join(folder, "export")
        kind = pyarrow.parquet.ParquetWriter if output.format == "parquet" else pyarrow.csv.CSVWriter
        with writing("the scratch file", local), kind(local, reader.schema) as writer:
            for batch in reader:
                work.check()
                writer.write_batch(batch)
                rows += batch.num_rows
        sha256 = lake.sha256_of(Path(local))
        lake.put(local, path)
    return rows, sha256


def _promote(work: ActivityContext, session: Session, request: PromoteRequest, graph: Graph | None) -> Promoted:
    context = request.context
    catalog, views = work.catalog(session).pipeline(context.pipeline), ViewSync(work, session, context)
    environment = catalog.environment(context.environment)
    current = environment.head()
    its: PointedVersions | None = None
    # By an attempt before; others may have published since.
    done = environment.publish_of(context.run, current) if current.sequence != request.sequence else None
    if done is not None:
        displaced, sequence = set(done.moved), done.sequence
    else:
        removed = [name for name in request.removes if name in current.pointers]
        pointers = {n: v for n, v in {**current.pointers, **request.moves}.items() if n not in removed}
        its = views.whole_versions(pointers, current)
        # What is made anew stands elsewhere, though its pointer stays.
        displaced = views.displaced(its) | request.moves.keys()
        # Where others have published, it is their versions that are shown: this run promises nothing of those.
        products = request.products if current.sequence == request.sequence else {}
        promised = [(its.versions[name], each) for name, each in products.items() if name in its.versions]
        if removed or displaced:
            views.claim(its)
            at = {"expected": request.sequence}
            with session.transaction():
                work.leases(session, context.pipeline).check(context.run)
                # First: what a version promises here is of no account before the environment points at it.
                catalog.promise(context.environment, promised)
                current = views.promote(PUBLISH, current, pointers, displaced=displaced, **at)
        elif promised:
            catalog.promise(context.environment, promised)
        sequence = current.sequence
    anew = {name: request.moves[name] for name in request.anew if name in request.moves}
    followed = views.follow(current, graph, request.checks, pointed=its, anew=anew)
    with followed.part("the record of the run"), session.transaction():
        _record_run(catalog, context, "completed", request.results, None)
    work.leases(session, context.pipeline).end(context.run)
    moved = tuple(request.moves.keys() | (displaced & current.pointers.keys()))
    return Promoted(moved=moved, sequence=sequence, links=followed.links, behind=followed.left_behind())


def _rollback(
    work: ActivityContext, session: Session, context: Context, asked: RollbackInput, graph: Graph | None
) -> Promoted:
    with work.leases(session, context.pipeline).holding(context.run, work.workflow):
        return _rolled_back(work, session, context, asked, graph)


def _would_roll_back(work: ActivityContext, session: Session, context: Context, asked: RollbackInput) -> Promoted:
    environment = work.catalog(session).pipeline(context.pipeline).environment(context.environment)
    earlier, _ = _to_go_back_to(environment, ViewSync(work, session, context), asked)
    current = environment.head()
    return Promoted(moved=tuple(sorted(current.changed_names(earlier.pointers))), sequence=current.sequence)


def _to_go_back_to(environment: Environment, views: ViewSync, asked: RollbackInput) -> tuple[Publish, PointedVersions]:
    """The publish that is meant, and all that it pointed at.

    Raises:
        BadInput: if there is none, or what it pointed at is not there any more.
    """
    earlier = environment.earlier(asked.to)
    its = views.pointed_versions(earlier.pointers)
    if gone := earlier.pointers.keys() - its.versions.keys():
        raise BadInput(f"{environment}: cannot go back to run {earlier.run}: collected since: {listed(gone)}")
    return earlier, its


def _rolled_back(
    work: ActivityContext, session: Session, context: Context, asked: RollbackInput, graph: Graph | None
) -> Promoted:
    catalog, views = work.catalog(session).pipeline(context.pipeline), ViewSync(work, session, context)
    environment = catalog.environment(context.environment)
    current = environment.head()
    its: PointedVersions | None = None
    # By an attempt whose answer was lost; others may have published since.
    done = environment.publish_of(context.run, current)
    if done is None:
        earlier, its = _to_go_back_to(environment, views, asked)
        views.claim(its)
        with session.transaction():
            if asked.cursor:  # first: if we die in between, the next run asks a source again, and loses nothing
                environment.restore_ingest_states(catalog.loads(), earlier.pointers, run=context.run)
            done = current = views.promote("rollback", current, earlier.pointers, expected=current.sequence)
    steps = catalog.ingest_steps()
    if asked.cursor:
        for step in steps:
            heads.renew(work.tenant, environment, step)
    followed = views.follow(current, graph, pointed=its)
    return Promoted(
        moved=done.moved,
        sequence=done.sequence,
        links=followed.links,
        ahead=environment.steps_ahead(steps, done.pointers),
        behind=followed.left_behind(),
    )


def _record_run(
    catalog: PipelineCatalog, context: Context, status: str, results: dict[str, Any], error: str | None
) -> None:
    record = Run(
        pipeline=context.pipeline,
        environment=context.environment,
        run=context.run,
        workflow=activity.info().workflow_id or "",
        status=status,
        started_at=datetime.datetime.fromisoformat(context.started_at) if context.started_at else now(),
        ended_at=now(),
        summary=results,
        error=error,
    )
    catalog.add_run(record)

"""Ingest: a source through dlt into Parquet in the lake, and from there into the warehouse, as versions.

Nothing that dlt remembers lives outside the catalog's row for the load, so a crash anywhere leaves the last load as it
was: the next attempt starts from there.
"""

from __future__ import annotations

import inspect
import json
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import duckdb
import ibis.expr.schema as sch
import pyarrow.parquet
from temporalio import activity

from activities import catalog, dlt_extract, files, lake, names
from activities.dlt_extract import Extracted
from activities.messages import Context, Load, LoadRequest, StepRef, StepResult, TableLoad
from activities.tenant import Tenants
from activities.work import Work, do, patiently, told_of
from backends import Name
from entrepot.code import digest
from entrepot.errors import EntrepotError, StepFailed, Unavailable, listed
from entrepot.expression import schema_from, schema_to
from entrepot.sources import Files
from entrepot.step import IngestStep
from entrepot.version import version_of, version_schema, version_table


class IngestActivities:
    """The activities `extract` and `load`."""

    def __init__(self, tenants: Tenants) -> None:
        self._tenants = tenants

    @activity.defn(name=names.EXTRACT)
    async def extract(self, ref: StepRef) -> Load:
        """Asks the source, and puts what is new into the lake. The warehouse is only read."""
        tenant = self._tenants.get(ref.context.tenant, ref.context.backend)

        def ask(work: Work) -> Load:
            context = ref.context
            _, step, parameters = self._tenants.step(
                context.tenant, context.pipeline, ref.step, IngestStep, context.parameters
            )
            with work.session() as session:
                last = catalog.last_load(session, context.pipeline, step.name)
            try:
                with told_of(step):
                    return _extract(work, context, step, parameters, last)
            except StepFailed as error:
                if isinstance(error.__cause__, EntrepotError):
                    raise
                raise Unavailable(str(error)) from error  # a source that raised may answer the next time

        return await do(ask, tenant, ref.context, ref.step)

    @activity.defn(name=names.LOAD)
    async def load(self, request: LoadRequest) -> StepResult:
        """Brings a load from the lake into the warehouse, and remembers it, in one transaction."""
        tenant = self._tenants.get(request.context.tenant, request.context.backend)

        def bring(work: Work) -> StepResult:
            return patiently(work, lambda: _load(work, request.context, request.load))

        return await do(bring, tenant, request.context, request.load.step)


def _extract(
    work: Work, context: Context, step: IngestStep, parameters: Mapping[str, Any], last: dict[str, Any] | None
) -> Load:
    given = {name: parameters[name] for name in step.inputs}
    with tempfile.TemporaryDirectory(prefix="entrepot-") as folder:
        data: Any = None
        if not inspect.isgeneratorfunction(step.function):
            data = step.function(**given)
        mark = _fingerprint(step, data)
        if last and mark is not None and last["fingerprint"] == mark:
            return Load(step=step.name, known=last["tables"], unchanged=True, why="the files are as they were")
        source = _rows(data) if data is not None else (lambda: step.function(**given))
        made = dlt_extract.extract(
            _source_name(step, data),
            source,
            workdir=Path(folder),
            state=_remembered(last),
        )
        _check_tables(step, made)
        tables = {
            table: _into_lake(work, context, table, [str(p) for p in made.tables[table]], step) for table in made.tables
        }
        versions = {table: load.version for table, load in tables.items()}
        if last and last["tables"] == versions and mark is None:
            return Load(
                step=step.name, known=versions, unchanged=True, why="the source brought what it had brought before"
            )
        text = json.dumps(made.state, ensure_ascii=False)
        path = work.tenant.lake_path("loads", context.pipeline, step.name, f"state-{digest(text)}.json")
        lake.write(text.encode(), path)
    return Load(step=step.name, tables=tables, fingerprint=mark, state=path)


def _remembered(last: dict[str, Any] | None) -> dict[str, Any]:
    return json.loads(lake.read(last["state"])) if last and last["state"] else {}


def _fingerprint(step: IngestStep, data: Any) -> str | None:
    """The hash of a source that is all files; None for one that has to be asked."""
    given = data if isinstance(data, Mapping) else {step.name: data}
    if not given or not all(isinstance(value, Files) for value in given.values()):
        return None
    return digest([dict(step.tables), {name: files.fingerprint(value) for name, value in given.items()}])


def _rows(data: Any) -> Any:
    if isinstance(data, Files):
        return files.batches(data)
    if isinstance(data, Mapping):
        return {name: files.batches(v) if isinstance(v, Files) else v for name, v in data.items()}
    return data


def _source_name(step: IngestStep, data: Any) -> str:
    """dlt names a bare resource's table after this; a step that brings one table names it."""
    return next(iter(step.tables)) if len(step.tables) == 1 else step.name


def _check_tables(step: IngestStep, made: Extracted) -> None:
    for table, hints in made.hints.items():
        root = table
        while (parent := made.hints[root].parent if root in made.hints else None) is not None:
            root = parent
        if table not in step.tables:
            raise StepFailed(
                f"the source brings a table {table!r} that the step does not name; it names {listed(step.tables)}"
            )
        if hints.write_disposition not in ("replace", "append"):
            raise StepFailed(f"table {table!r} asks for {hints.write_disposition!r}, which Entrepot does not do yet")
        if hints.write_disposition == "append" and _is_incremental(hints.table):
            raise StepFailed(f"table {table!r} is incremental, which Entrepot does not do yet; bring the whole table")
    if missing := [table for table in step.tables if table not in made.tables]:
        raise StepFailed(f"the source brought no rows and no columns for {listed(missing)}")


def _is_incremental(table: Mapping[str, Any]) -> bool:
    return any(column.get("incremental") for column in table.get("columns", {}).values())


def _into_lake(work: Work, context: Context, table: str, paths: list[str], step: IngestStep) -> TableLoad:
    """Copies one table's files to the folder that its content names, unless they are there."""
    schema = _schema(paths)
    declared = step.tables[table]
    if declared is not None:
        schema = _declared(table, schema, schema_from(declared))
    content, rows = _content(paths, schema)
    version = version_of("ingest", content, {"columns": digest(schema_to(schema))})
    folder = work.tenant.lake_path("raw", context.pipeline, table, version)
    targets = [f"{folder}/{number:05d}.parquet" for number in range(len(paths))]
    for path, target in zip(paths, targets, strict=True):
        work.check()
        if not lake.exists(target):
            lake.put(path, target)
    columns = json.dumps(schema_to(schema)).encode()
    lake.write(columns, f"{folder}/columns.json")
    # The newest load's columns, for whoever wants to know them without asking the warehouse.
    lake.write(columns, work.tenant.lake_path("raw", context.pipeline, table, "columns.json"))
    size = sum(Path(path).stat().st_size for path in paths)
    return TableLoad(version=version, rows=rows, bytes=size, files=tuple(targets))


def _schema(paths: list[str]) -> sch.Schema:
    """A table's columns, without those in which dlt keeps its own books."""
    arrow = pyarrow.parquet.read_schema(paths[-1])
    schema = sch.Schema.from_pyarrow(arrow)
    return sch.Schema({name: dtype(nullable=True) for name, dtype in schema.items() if not name.startswith("_dlt_")})


def _declared(table: str, found: sch.Schema, declared: sch.Schema) -> sch.Schema:
    missing = [name for name in declared if name not in found]
    if missing:
        raise StepFailed(
            f"table {table!r} has lost its column {missing[0]!r}; the source now brings {listed(found)}, and the step "
            f"declares {listed(declared)}"
        )
    return declared


def _content(paths: list[str], schema: sch.Schema) -> tuple[str, int]:
    """A hash of the rows that does not depend on their order, and their number."""
    row = ", ".join(f'"{name}"' for name in (n.replace('"', '""') for n in schema))
    listing = ", ".join("'" + path.replace("'", "''") + "'" for path in paths)
    # Two sums of differently seeded hashes: 128 bits, the same whatever the order, duplicates counted.
    query = f"SELECT count(*), sum(hash({row})::HUGEINT), sum(hash(1, {row})::HUGEINT) FROM read_parquet([{listing}])"
    with duckdb.connect() as connection:
        rows, first, second = connection.execute(query).fetchone() or (0, 0, 0)
    return digest([rows, str(first), str(second)]), int(rows)


def _load(work: Work, context: Context, load: Load) -> StepResult:
    started = time.monotonic()
    schema = version_schema(work.tenant.settings(context.pipeline).schema)
    new = 0
    with work.session() as session, session.transaction():
        there = catalog.versions(session, context.pipeline, {t: v.version for t, v in load.tables.items()})
        for table, brought in load.tables.items():
            if table in there:
                continue
            new += 1
            target = Name(schema, version_table(table, brought.version))
            folder = brought.files[0].rpartition("/")[0]
            columns = schema_from(json.loads(lake.read(f"{folder}/columns.json")))
            with tempfile.TemporaryDirectory(prefix="entrepot-") as copies, ExitStack() as stack:
                paths = [stack.enter_context(lake.local_copy(file, copies)) for file in brought.files]
                found = schema_to(session.load(target, paths, columns).columns)
            made = catalog.Version(
                name=table,
                version=brought.version,
                kind="ingest",
                identity="",
                table=target,
                columns=found,
                inferred=schema_to(columns),  # the same on every warehouse, and so is what is made of it
                rows=brought.rows,
                details={"files": list(brought.files)},
                run=context.run,
                step=load.step,
                bytes=brought.bytes,
            )
            catalog.add_version(session, context.pipeline, made, {}, time.monotonic() - started)
        last = catalog.last_load(session, context.pipeline, load.step)
        tables = {table: brought.version for table, brought in load.tables.items()}
        if last and (last["tables"], last["state"]) == (tables, load.state):  # recorded by an attempt before
            return StepResult(name=load.step, seconds=time.monotonic() - started, note="it was there")
        catalog.add(
            session,
            "loads",
            pipeline=context.pipeline,
            step=load.step,
            run=context.run,
            loaded_at=catalog.now(),
            fingerprint=load.fingerprint,
            tables=tables,
            state=load.state,
        )
    rows = sum(brought.rows for brought in load.tables.values())
    size = sum(brought.bytes for brought in load.tables.values())
    note = f"{new} of {len(load.tables)} tables are new" if len(load.tables) > 1 else ""
    return StepResult(name=load.step, rows=rows, bytes=size, seconds=time.monotonic() - started, note=note)


def warm_up() -> None:
    """Sends one row through dlt, which loads and caches much at its first use."""
    with tempfile.TemporaryDirectory(prefix="entrepot-") as folder:
        dlt_extract.extract("warm_up", [{"a": 1}], workdir=Path(folder), state=None)

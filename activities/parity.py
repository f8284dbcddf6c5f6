"""Parity: the same table on several warehouses, digested in each of them, and compared; and the report."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial

from temporalio import activity

from activities import catalog, cursors, lake, names
from activities.bisect import SHOWN, Found, compare_rows, texts
from activities.compiled import is_sql, select
from activities.digests import Source, common_kinds, digest_of
from activities.messages import (
    Adoption,
    Comparison,
    Context,
    ParityInput,
    ParityReport,
    PreparedParity,
    Side,
    StepRef,
    TableParity,
)
from activities.models import known_of
from activities.parity_report import page
from activities.tenant import Tenant, Tenants
from activities.work import Work, asked_of, do, make_room, patiently
from backends import Session
from entrepot.digest import SPECIFICATION, Digest, Kind
from entrepot.errors import BadInput, Unavailable, listed, unknown
from entrepot.expression import schema_from
from entrepot.resolve import arguments, expression
from entrepot.select import select as selected_by
from entrepot.step import IngestStep, TrainStep, TransformStep

LONGEST_TEXT = 20_000
"""Characters that a report shows of a statement or an expression."""


class ParityActivities:
    """The activities `prepare_parity`, `last_load`, `adopt`, `compare` and `report`."""

    def __init__(self, tenants: Tenants) -> None:
        self._tenants = tenants

    @activity.defn(name=names.PREPARE_PARITY)
    async def prepare(self, asked: ParityInput) -> PreparedParity:
        """Checks every name in the input, and makes room on each warehouse."""
        tenant = asked_of(self._tenants, asked, "compare")
        context = Context(tenant=asked.tenant, pipeline=asked.pipeline, environment=asked.environment, run="")

        def check(work: Work) -> PreparedParity:
            on = _warehouses(tenant, asked)
            pipeline = self._tenants.pipeline(asked.tenant, asked.pipeline)
            self._tenants.parameters(asked.tenant, pipeline, asked.parameters)
            graph = pipeline.graph
            chosen = selected_by(graph, asked.select) if asked.select else frozenset(graph.steps)
            needed = chosen | graph.reach(chosen, graph.upstream)
            steps = [step for step in graph.steps.values() if step.name in needed]
            computed = [s for s in steps if isinstance(s, TransformStep | TrainStep)]
            made = [s for s in steps if isinstance(s, IngestStep | TransformStep)]
            tables = {name: s for s in made for name in graph.outputs(s) if s.name in chosen}
            if not tables:
                raise BadInput(f"the selection {asked.select!r} has no table to compare")
            for warehouse in on:
                patiently(work, partial(make_room, work, asked.pipeline, warehouse))
            return PreparedParity(
                on=on,
                ingests=tuple(s.name for s in steps if isinstance(s, IngestStep)),
                computed=tuple(s.name for s in computed),
                kinds={s.name: s.kind for s in computed},
                tables=tuple(tables),
                inputs={
                    name: tuple(i for i in graph.table_inputs(s) if i in tables) if isinstance(s, TransformStep) else ()
                    for name, s in tables.items()
                },
                parallel=tenant.parallel,
                weight=tenant.weight,
            )

        return await do(check, tenant, context, names.PREPARE_PARITY)

    @activity.defn(name=names.LAST_LOAD)
    async def last_load(self, ref: StepRef) -> dict[str, str]:
        """Where an environment stands with an ingest step: table to version, or the versions asked for. Empty, if the
        step was never loaded."""
        context = ref.context
        tenant = self._tenants.get(context.tenant, context.backend)

        def read(work: Work) -> dict[str, str]:
            with work.session() as session:
                last = cursors.current(session, context.pipeline, ref.step, context.environment)
            return {table: ref.versions.get(table, version) for table, version in last.tables.items()}

        return await do(read, tenant, context, ref.step)

    @activity.defn(name=names.ADOPT)
    async def adopt(self, adoption: Adoption) -> None:
        """Makes models that were fitted on one warehouse known to another: their files are in the lake of both."""
        context = adoption.context
        tenant = self._tenants.get(context.tenant)

        def copy(work: Work) -> None:
            with work.session(warehouse=adoption.whence) as session:
                found = catalog.version_rows(session, context.pipeline, adoption.versions)
            with work.session(warehouse=context.backend) as session:
                there = catalog.versions(session, context.pipeline, adoption.versions)
                for row in found:
                    if row["name"] not in there:
                        catalog.add(session, "versions", **row)

        await do(copy, tenant, context, names.ADOPT)

    @activity.defn(name=names.COMPARE)
    async def compare(self, asked: Comparison) -> TableParity:
        """Digests one table on each warehouse; where digests differ, finds the rows."""
        context = asked.context
        tenant = self._tenants.get(context.tenant)

        def hold(work: Work) -> TableParity:
            with ExitStack() as stack:
                sessions = {name: stack.enter_context(work.session(asked.name, name)) for name in asked.on}
                return _Comparing(self._tenants, asked, sessions).run()

        return await do(hold, tenant, context, asked.name)

    @activity.defn(name=names.REPORT)
    async def report(self, report: ParityReport) -> str:
        """Writes the report as a page into the lake. Returns where it is."""
        tenant = self._tenants.get(report.tenant)
        context = Context(
            tenant=report.tenant, pipeline=report.pipeline, environment=report.environment, run=report.run
        )

        def write(work: Work) -> str:
            path = work.tenant.lake_path("parity", report.pipeline, f"{report.run}.html")
            lake.write(page(report).encode(), path)
            return path

        return await do(write, tenant, context, names.REPORT)


def _warehouses(tenant: Tenant, asked: ParityInput) -> tuple[str, ...]:
    """The warehouses that are compared."""
    on = tuple(dict.fromkeys(asked.on or tenant.warehouses))
    for name in on:
        if name not in tenant.warehouses:
            raise BadInput(unknown("backend", name, tenant.warehouses))
    if len(on) < 2:
        raise BadInput(
            f"parity needs two warehouses, and tenant {tenant.name!r} has {listed(tenant.warehouses)}; name "
            f"further ones in the tenant file as [tenants.{tenant.name}.backends.NAME]"
        )
    return on


class _Comparing:
    """One table, over an open session on each warehouse."""

    def __init__(self, tenants: Tenants, asked: Comparison, sessions: Mapping[str, Session]) -> None:
        self._tenants = tenants
        self._asked = asked
        self._sessions = sessions
        self._first, *self._others = asked.on
        self._engines = {name: session.engine() for name, session in sessions.items()}
        wanted = {asked.name: asked.version}
        self._versions = {
            name: catalog.versions(session, asked.context.pipeline, wanted)[asked.name]
            for name, session in sessions.items()
        }

    def run(self) -> TableParity:
        """Compares."""
        started = time.monotonic()
        first = self._versions[self._first]
        result = TableParity(
            name=self._asked.name,
            kind="ingest" if first.kind == "ingest" else "transform",
            version=self._asked.version,
            engine=self._engines[self._first],
            rows=first.rows,
        )
        sides = self._certified()
        if unknown_sides := [name for name in self._others if name not in sides]:
            sides |= self._compared(unknown_sides)
        if sides:
            result = result.model_copy(update={"digest": next(iter(sides.values())).of_first})
        if not all(side.side.agrees for side in sides.values()):
            result = self._explained(result, sides)
        return result.model_copy(
            update={
                "sides": tuple(sides[name].side for name in self._others),
                "seconds": time.monotonic() - started,
            }
        )

    def _certified(self) -> dict[str, _Told]:
        """The sides that an earlier comparison of the same version on the same engines has told."""
        context = self._asked.context
        known = catalog.certificates(
            self._sessions[self._first], context.pipeline, self._asked.name, self._asked.version
        )
        found = {}
        for name in self._others:
            for row in known:
                if row["warehouses"] == self._pair(name):
                    side = Side(
                        backend=name,
                        verdict=row["verdict"],
                        engine=self._engines[name],
                        rows=row["row_count"],
                        digest=row["digest"],
                        certified=True,
                    )
                    found[name] = _Told(side, row["digest"])
        return found

    def _pair(self, name: str) -> dict[str, str]:
        engines = {each: self._engines[each] for each in (self._first, name)}
        return {**engines, "digest": SPECIFICATION}

    def _compared(self, names_of_sides: list[str]) -> dict[str, _Told]:
        sources = {name: self._source(name) for name in (self._first, *names_of_sides)}
        kinds = common_kinds([source.schema for source in sources.values()])
        usable = {name: kind for name, kind in kinds.items() if kind is not None}
        digests: dict[str, Digest] = {}
        failed: dict[str, Exception] = {}
        with ThreadPoolExecutor(max_workers=len(sources)) as pool:
            tasks = {name: pool.submit(digest_of, source, usable) for name, source in sources.items()}
        for name, task in tasks.items():
            error = task.exception()
            if name == self._first or error is None or isinstance(error, Unavailable | InterruptedError):
                digests[name] = task.result()
            else:  # what is wrong with one warehouse must not hide what the others say
                assert isinstance(error, Exception)
                failed[name] = error
        ours = digests[self._first]
        told = {}
        for name in names_of_sides:
            if name in failed:
                why = f"it could not be read: {failed[name]}"
                told[name] = _Told(Side(backend=name, verdict="not computed", why=why), ours.hex)
            else:
                lost = [column for column in kinds if column not in usable]
                told[name] = self._told(name, sources, usable, digests, lost)
        return told

    def _source(self, name: str) -> Source:
        version = self._versions[name]
        assert version.table is not None
        return Source(self._sessions[name], version.table, schema_from(version.columns))

    def _told(
        self,
        name: str,
        sources: Mapping[str, Source],
        kinds: Mapping[str, Kind],
        digests: Mapping[str, Digest],
        incomparable: list[str],
    ) -> _Told:
        """The verdict on one side; one that agrees is certified."""
        ours, theirs = digests[self._first], digests[name]
        side = Side(backend=name, verdict="agrees", engine=self._engines[name], rows=theirs.rows, digest=theirs.hex)
        told = _Told(side, ours.hex)
        if incomparable:
            types = [str(sources[each].schema.get(incomparable[0], "missing")) for each in (self._first, name)]
            why = f"column {incomparable[0]!r} is {types[0]} on {self._first}, and {types[1]} on {name}"
            return replace(told, side=side.model_copy(update={"verdict": "differs", "why": why}))
        if ours.hex != theirs.hex:
            found = compare_rows(sources[self._first], sources[name], kinds)
            if not found.within_tolerance:
                return replace(told, side=_differing(side, found, ours.rows, theirs.rows, self._first))
            told = replace(told, side=side.model_copy(update={"verdict": "agrees within tolerance"}))
        self._certify(told)
        return told

    def _certify(self, told: _Told) -> None:
        version = self._versions[self._first]
        catalog.add(
            self._sessions[self._first],
            "certificates",
            pipeline=self._asked.context.pipeline,
            name=self._asked.name,
            version=self._asked.version,
            identity=version.identity,
            warehouses=self._pair(told.side.backend),
            verdict=told.side.verdict,
            row_count=told.side.rows,
            digest=told.of_first,
            run=self._asked.context.run,
            made_at=catalog.now(),
        )

    def _explained(self, result: TableParity, sides: dict[str, _Told]) -> TableParity:
        """Adds the expression, and the SQL of each warehouse."""
        context = self._asked.context
        pipeline = self._tenants.pipeline(context.tenant, context.pipeline)
        step = pipeline.graph.steps.get(self._asked.name)
        if not isinstance(step, TransformStep) or not is_sql(step):
            return result
        parameters = self._tenants.parameters(context.tenant, pipeline, context.parameters)
        inputs = catalog.versions(self._sessions[self._first], context.pipeline, self._inputs())
        known = {name: known_of(version) for name, version in inputs.items()}
        given = arguments(step, known, parameters)
        made = expression(step, given)

        def sql(warehouse: str) -> str:
            try:
                return select(self._sessions[warehouse].dialect, step, given)[:LONGEST_TEXT]
            except BadInput as error:
                return f"-- {error}"

        for name, told in sides.items():
            if not told.side.agrees:
                sides[name] = replace(told, side=told.side.model_copy(update={"sql": sql(name)}))
        return result.model_copy(update={"expression": repr(made)[:LONGEST_TEXT], "sql": sql(self._first)})

    def _inputs(self) -> dict[str, str]:
        wanted = {self._asked.name: self._asked.version}
        (row,) = catalog.version_rows(self._sessions[self._first], self._asked.context.pipeline, wanted)
        inputs: dict[str, str] = json.loads(row["inputs"])
        return inputs


@dataclass(frozen=True)
class _Told:
    side: Side
    of_first: str
    """The digest on the first warehouse."""


def _differing(side: Side, found: Found, ours: int, theirs: int, first: str) -> Side:
    """A side with what differs, in a sentence and by example."""
    said = []
    if ours != theirs:
        said.append(f"{ours:,} rows on {first}, {theirs:,} on {side.backend}")
    if found.differing:
        least = "" if found.complete else "at least "
        columns = listed({cell.column for cell in found.cells})
        where = f", in {columns}" if found.cells else ""
        said.append(f"{least}{found.differing:,} rows differ{where}")
    if not found.key:
        said.append("no column by which its rows could be found")
    elif not found.complete and not found.differing:
        said.append(f"digests differ, and {found.looked_at:,} rows that were looked at are the same within tolerance")
    return side.model_copy(
        update={
            "verdict": "differs",
            "why": "; ".join(said),
            "cells": tuple(found.cells),
            "only_left": tuple(map(texts, found.only_left[:SHOWN])),
            "only_right": tuple(map(texts, found.only_right[:SHOWN])),
        }
    )

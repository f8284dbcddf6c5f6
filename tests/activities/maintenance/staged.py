"""A tenant whose runs are gone through stage by stage, by the activities alone, so that anything can happen between."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from entrepot.activities.catalog.catalog import Catalog, PipelineCatalog
from entrepot.activities.catalog.tables import column
from entrepot.activities.ingest import heads, manifest
from entrepot.activities.ingest.ingest import IngestActivities
from entrepot.activities.maintenance.environments.environments import EnvironmentActivities
from entrepot.activities.maintenance.gc import GcActivities
from entrepot.activities.parity.parity import ParityActivities
from entrepot.activities.plan import PlanActivities
from entrepot.activities.publish.publish import PublishActivities
from entrepot.activities.runtime import context as runtime
from entrepot.activities.runtime.tenant import PipelineSettings, Tenant, Tenants
from entrepot.activities.storage import lake
from entrepot.activities.transform.transform import TransformActivities
from entrepot.backends import QueryTag
from entrepot.protocol.environments import Created, CreateInput, PromoteInput
from entrepot.protocol.maintenance import DropInput, GcInput, GcResult, RollbackInput
from entrepot.protocol.messages import (
    Batch,
    Context,
    ExtractRequest,
    LoadRequest,
    LoadTablesRequest,
    PlanRequest,
    Promoted,
    PromoteRequest,
    RecordFailureRequest,
    RunInput,
    StepRef,
)
from entrepot.protocol.parity import Comparison, Compilation, ParityInput, TableParity
from entrepot.registry import Registry

ACME = {"tenant": "acme", "pipeline": "growing"}
ENVIRONMENTS = ("prod", "dev", "pr_1")
OTHER = "other"
"""A further warehouse, of those houses that have one."""


@dataclass
class House:
    """A tenant, whose activities are called as workflows call them, one after another of several runs."""

    tenants: Tenants
    folder: Path
    events: int = 3
    """Rows that the source has."""
    runs: dict[str, Iterator[None]] = field(default_factory=dict)
    dead: set[str] = field(default_factory=set)
    """Runs that Temporal does not know any more."""
    rows: dict[str, int] = field(default_factory=dict)
    """Versions of `events`, and the rows that each has to have."""
    comparisons: dict[str, ParityInput] = field(default_factory=dict)
    _planned: dict[str, dict[str, str]] = field(default_factory=dict)
    computed: list[str] = field(default_factory=list)
    """What comparisons had to compute on the other warehouse, in order."""
    number: int = 0

    def call(self, room: type, method: str, request: Any, run: str) -> Any:
        """One activity of a run."""
        environment = ActivityEnvironment()
        environment.info = replace(environment.info, workflow_id=f"of {run}", workflow_run_id=run)
        return asyncio.run(environment.run(getattr(room(self.tenants), method), request))

    def complete(self, environment: str = "prod", **parameters: Any) -> None:
        """A run, from its beginning to its end."""
        self.begin(environment, **parameters)
        while self.runs:
            self.step(min(self.runs))

    def begin(self, environment: str, **parameters: Any) -> None:
        self.number += 1
        run = f"run-{self.number:03}"
        self.runs[run] = self._stages(run, environment, parameters)
        self.step(run)

    def step(self, run: str) -> None:
        """Lets a run go on to its next stage. One that meets another in its environment ends with a conflict."""
        try:
            next(self.runs[run])
        except StopIteration:
            self.end(run)
        except ApplicationError as error:
            if error.type != "Conflict":
                raise
            self.give_back(run)
            self.end(run)

    def give_back(self, run: str) -> None:
        """What a run does at last that fails."""
        if run in self.comparisons:
            self.call(ParityActivities, "end", self.comparisons[run], run)
        else:
            self.call(PublishActivities, "record_failure", _failed(Context(**ACME, run=run)), run)

    def end(self, run: str) -> None:
        """It is over, whether or not it has said so."""
        self.runs.pop(run, None)
        self.dead.add(run)

    def _stages(self, run: str, environment: str, more: dict[str, Any]) -> Iterator[None]:
        parameters = {"folder": str(self.folder), **more}
        asked = RunInput(**ACME, environment=environment, select="events+", parameters=parameters)
        prepared = self.call(PlanActivities, "prepare", asked, run)
        yield
        context = Context(
            **ACME,
            environment=environment,
            run=run,
            started_at="2026-01-01T00:00:00",
            parameters={**prepared.parameters, "nominal_time": "2026-01-01T00:00:00"},
        )
        events = self.write_events()
        load = self.call(IngestActivities, "extract", ExtractRequest(context=context, step="events"), run)
        yield
        if load.unchanged:
            raw = load.known
        else:
            raw = self.call(IngestActivities, "load", LoadRequest(context=context, load=load), run).versions
            self.rows.setdefault(raw["events"], events)
            yield
        wanted = PlanRequest(context=context, selected=prepared.selected, raw=raw, ingested={"events": ""})
        plan = self.call(PlanActivities, "plan", wanted, run)
        yield
        for step in plan.to_run():
            batch = Batch(context=context, steps=(step.name,), versions=plan.versions_for([step.name]))
            self.call(TransformActivities, "transform", batch, run)
            yield
        promote = PromoteRequest(context=context, sequence=plan.sequence, moves=plan.moves, removes=plan.removed)
        self.call(PublishActivities, "promote", promote, run)

    def write_events(self) -> int:
        """What the source has now; how many rows."""
        source = [{"id": n, "kind": "ab"[n % 2]} for n in range(1, self.events + 1)]
        Path(self.folder, "events.json").write_text(json.dumps(source))
        return self.events

    def compare(self, environment: str = "prod") -> None:
        """A comparison of both warehouses, from its beginning to its end."""
        self.begin_comparison(environment)
        run = max(self.comparisons)
        while run in self.runs:
            self.step(run)

    def begin_comparison(self, environment: str) -> None:
        self.number += 1
        run = f"run-{self.number:03}"
        self.comparisons[run] = ParityInput(**ACME, environment=environment, select="events+", on=["duckdb", OTHER])
        self.runs[run] = self._comparison(run, self.comparisons[run])
        self.step(run)

    def _comparison(self, run: str, asked: ParityInput) -> Iterator[None]:
        """What the workflow `Parity` does, activity by activity."""
        asked = asked.model_copy(update={"parameters": {"folder": str(self.folder)}})
        prepared = self.call(ParityActivities, "prepare", asked, run)
        yield
        here = Context(
            **ACME,
            environment=asked.environment,
            run=run,
            started_at="2026-01-01T00:00:00",
            parameters={**prepared.parameters, "nominal_time": "2026-01-01T00:00:00"},
            backend="duckdb",
        )
        there = here.model_copy(update={"backend": OTHER})
        raw = self.call(ParityActivities, "last_load", StepRef(context=here, step="events"), run)
        yield
        if not raw:
            events = self.write_events()
            load = self.call(IngestActivities, "extract", ExtractRequest(context=here, step="events"), run)
            yield
            raw = self.call(IngestActivities, "load", LoadRequest(context=here, load=load), run).versions
            self.rows.setdefault(raw["events"], events)
            yield
        compilation = Compilation(context=here, steps=prepared.computed, raw=raw, on=prepared.on)
        refused = self.call(ParityActivities, "compile", compilation, run)
        assert not any(refused.values())
        yield
        yield from self._computed(run, here, prepared.computed, raw)
        self.call(IngestActivities, "load_tables", LoadTablesRequest(context=there, step="events", tables=raw), run)
        yield
        yield from self._computed(run, there, prepared.computed, raw)
        versions = {**raw, **self._planned[run]}
        for name in prepared.tables:
            comparison = Comparison(context=here, name=name, version=versions[name], on=prepared.on, fresh=True)
            table: TableParity = self.call(ParityActivities, "compare", comparison, run)
            assert table.agrees, table
            yield
        self.call(ParityActivities, "end", asked, run)

    def _computed(self, run: str, context: Context, steps: tuple[str, ...], raw: dict[str, str]) -> Iterator[None]:
        wanted = PlanRequest(
            context=context, selected=("events", *steps), raw=raw, ingested={"events": ""}, compiled=False
        )
        plan = self.call(PlanActivities, "plan", wanted, run)
        self._planned[run] = plan.versions
        yield
        for step in (step for step in plan.to_run() if step.kind == "transform"):
            batch = Batch(context=context, steps=(step.name,), versions=plan.versions_for([step.name]))
            self.call(TransformActivities, "transform", batch, run)
            self.computed += [step.name] if context.backend == OTHER else []
            yield

    def collect(self, **more: Any) -> GcResult:
        self.number += 1
        asked = GcInput(**{**ACME, "keep_days": 0, "keep_publishes": 2, **more})
        result: GcResult = self.call(GcActivities, "gc", asked, f"gc-{self.number:03}")
        self.check()
        return result

    def rollback(self, environment: str, *, cursor: bool, run: str = "") -> Promoted | None:
        """Goes one publish back; None, if there is none. `run`: of an attempt before, whose answer was lost."""
        self.number += 1
        asked = RollbackInput(**ACME, environment=environment, cursor=cursor)
        with _if_possible():
            done: Promoted = self.call(PublishActivities, "rollback", asked, run or f"back-{self.number:03}")
            return done
        return None

    def drop(self, environment: str) -> None:
        self.number += 1
        asked = DropInput(**ACME, environment=environment)
        with _if_possible():  # there may be no such environment
            self.call(GcActivities, "drop", asked, f"drop-{self.number:03}")

    def create(self, environment: str, like: str, run: str = "") -> Created | None:
        """Makes an environment of another; None, if that cannot be. `run`: as of a rollback."""
        self.number += 1
        asked = CreateInput(tenant="acme", environment=environment, like=like)
        with _if_possible():
            done: Created = self.call(EnvironmentActivities, "create", asked, run or f"create-{self.number:03}")
            return done
        return None

    def promote(self, like: str, environment: str, run: str = "", **more: Any) -> Promoted | None:
        """Points an environment at what another shows; None, if that shows nothing. `run`: as of a rollback."""
        self.number += 1
        run = run or f"promote-{self.number:03}"
        asked = PromoteInput(**ACME, like=like, environment=environment, **more)
        with _if_possible():
            prepared = self.call(EnvironmentActivities, "prepare_promotion", asked, run)
            done: Promoted = self.call(EnvironmentActivities, "promote_environment", prepared, run)
            return done
        return None

    def check(self) -> None:
        """Every environment can be read and shows its rows; every watermark and every version can be used again."""
        with self.catalog() as catalog:
            for name in catalog.environments():
                if version := catalog.environment(name).head().pointers.get("events"):
                    schema = "growing" if name == "prod" else f"growing__{name}"
                    shown = catalog.session.query(f"SELECT count(*) AS n FROM {schema}.events")
                    summed = catalog.session.query(f"SELECT sum(n) AS n FROM {schema}.totals")
                    assert shown[0]["n"] == summed[0]["n"] == self.rows[version], name
                state = catalog.environment(name).ingest_state("events")
                own = catalog.environment(name).own_ingest_state("events")
                for head in heads.every(self.tenants.get("acme"), "growing"):
                    if head.environment == name:
                        assert own is not None
                        assert (head.tables, head.watermarks) == (own.tables, own.watermarks)
                assert state.watermarks is None or json.loads(lake.read(state.watermarks))
                own_version = catalog.versions(state.tables).get("events")
                self._check_whole(state.tables.get("events"), own_version.manifest if own_version else None)
            for known in catalog.every_version():
                assert known.table is not None
                catalog.session.query(f'SELECT count(*) FROM {known.table.schema}."{known.table.table}"')
                self._check_whole(known.version if known.name == "events" else None, known.manifest)

    def _check_whole(self, version: str | None, sha256: str | None) -> None:
        """The lake has all that a version is made of: all rows, where each load adds some."""
        wanted, rows = version, 0
        while version is not None:
            found = manifest.read(self.tenants.get("acme"), "growing", "events", version, sha256)
            for each in found.files:
                lake.check(each.file, each.sha256)
                rows += each.rows
            version, sha256 = found.follows, None
        assert wanted is None or rows == self.rows[wanted]

        for warehouse in self.tenants.get("acme").others:
            with self.catalog(warehouse) as catalog:
                for known in catalog.every_version():
                    assert known.table is not None
                    counted = catalog.session.query(
                        f'SELECT count(*) AS n FROM {known.table.schema}."{known.table.table}"'
                    )
                    assert known.name != "events" or counted[0]["n"] == self.rows[known.version]

    def check_nothing_is_left(self) -> None:
        """In each warehouse stand the tables of which its catalog knows, and no other; on a further one, of versions
        that stay where the pipeline runs."""
        tenant, versions = self.tenants.get("acme"), []
        for warehouse in tenant.warehouses:
            with self.catalog(warehouse) as catalog:
                known = {table.table for version in catalog.every_version() for table in version.tables}
                assert set(catalog.session.relations("growing__v")) == known, warehouse
                versions.append({version.key for version in catalog.every_version()})
                assert not catalog.tables.select("leases", column("state").neq("given up"))
        assert all(some <= versions[0] for some in versions)

    @contextmanager
    def catalog(self, warehouse: str = "") -> Iterator[PipelineCatalog]:
        with self.tenants.get("acme", warehouse).backend.session(QueryTag("acme", "test", "test")) as session:
            catalog = Catalog(session)
            catalog.ensure()
            yield catalog.pipeline("growing")


def _failed(context: Context) -> RecordFailureRequest:
    return RecordFailureRequest(context=context, status="failed", error="it met another")


@contextmanager
def _if_possible() -> Iterator[None]:
    try:
        yield
    except ApplicationError as error:
        if error.type != "BadInput":
            raise


@contextmanager
def opened(monkeypatch: pytest.MonkeyPatch, *, two: bool = False, **more: Any) -> Iterator[House]:
    """A house while the block runs; with `two`, it has a further warehouse."""
    with tempfile.TemporaryDirectory() as state:
        backend = {"type": "duckdb", "path": str(Path(state, "acme.duckdb"))}
        if two:
            more["others"] = {OTHER: {"type": "duckdb", "path": str(Path(state, "other.duckdb"))}}
        tenant = Tenant("acme", backend, str(Path(state, "lake")), {"growing": PipelineSettings("growing")}, **more)
        house = House(Tenants({"acme": tenant}, Registry({"growing": "tests.pipelines.growing:growing"})), Path(state))
        # Without a server, the house says which runs go on.
        monkeypatch.setattr(runtime, "is_running", lambda workflow, run: run not in house.dead)
        yield house
        tenant.close()

"""Tables that are computed by parts, in environments that have computed different parts of them, and promote to one
another: what each shows is what the expression gives as a whole, and a comparison says just where two differ."""

from __future__ import annotations

import datetime
import json
import random
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from temporalio.exceptions import ApplicationError

from entrepot.activities.ingest.ingest import IngestActivities
from entrepot.activities.maintenance.environments.environments import EnvironmentActivities
from entrepot.activities.maintenance.gc import GcActivities
from entrepot.activities.plan import PlanActivities
from entrepot.activities.publish.publish import PublishActivities
from entrepot.activities.runtime import context as runtime
from entrepot.activities.runtime.tenant import PipelineSettings, Tenant, Tenants
from entrepot.activities.transform.transform import TransformActivities
from entrepot.backends import QueryTag
from entrepot.protocol.environments import CreateInput, DiffInput, EnvironmentDiff, PromoteInput
from entrepot.protocol.maintenance import DropInput, GcInput, RollbackInput
from entrepot.protocol.messages import (
    Batch,
    Context,
    ExtractRequest,
    LoadRequest,
    PlanRequest,
    PromoteRequest,
    RunInput,
)
from entrepot.registry import Registry
from tests.activities.maintenance.staged import House

OURS = {"tenant": "acme", "pipeline": "parts"}
ENVIRONMENTS = ("prod", "dev", "pr_1")
TABLES = ("daily", "monthly", "trailing", "customers", "numbered", "crowds")
SELECTIONS = tuple(
    " ".join(["source", *(f"{name} {name}_whole" for name in names)])
    for names in (TABLES, ("daily",), ("daily", "monthly"), ("customers", "numbered"), ("daily", "trailing", "crowds"))
)
NOW = "2026-01-01T00:00:00"
Action = tuple[str, int, int, int]
"""What is done, to which environment, with which other, and which of several ways."""
ACTIONS = st.tuples(
    st.sampled_from([*["run"] * 5, *["bring"] * 4, *["promote"] * 4, "create", "rollback", "drop", "collect"]),
    st.integers(0, 2),
    st.integers(1, 2),
    st.integers(0, 9),
)


class PartsHouse(House):
    """The same with the pipeline `parts`, whose source gets rows, late ones and deletions among them."""

    def __init__(self, tenants: Tenants, folder: Path) -> None:
        super().__init__(tenants, folder)
        self.chance = random.Random(3)
        self.bring(3)

    def bring(self, days: int) -> None:
        """New orders and visits on some days, whenever; what is brought twice replaces what was there."""
        orders = {}
        for _ in range(days + 1):
            at = datetime.datetime(2026, 1, 28) + datetime.timedelta(hours=self.chance.randint(0, 24 * 8))
            number = self.chance.randint(1, 25)
            orders[number] = {
                "id": number,
                "at": at.isoformat(),
                "shop": self.chance.choice("ab"),
                "customer": self.chance.randint(1, 4),
                "amount": self.chance.randint(0, 9),
                "gone": self.chance.random() < 0.25,
            }
        day = (datetime.date(2026, 1, 28) + datetime.timedelta(days=self.chance.randint(0, 7))).isoformat()
        rows = {
            "orders": list(orders.values()),
            "visits": [{"day": day, "shop": "a", "n": 4}],
            "shops": [{"shop": "a", "country": "CH"}],
        }
        for name, its in rows.items():
            (self.folder / f"{name}.json").write_text(json.dumps(its))

    def play(self, action: Action) -> None:
        """Does one thing. What cannot be, as a promotion of what shows nothing, is refused, and changes nothing."""
        what, number, other, way = action
        name, like = ENVIRONMENTS[number], ENVIRONMENTS[(number + other) % 3]
        self.number += 1
        run = f"{what}-{self.number:03}"
        try:
            match what:
                case "run":
                    self._run(run, name, SELECTIONS[way % len(SELECTIONS)], bonus=int(way == 9))
                case "bring":
                    self.bring(way)
                case "promote":
                    asked = PromoteInput(**OURS, like=like, environment=name)
                    prepared = self.call(EnvironmentActivities, "prepare_promotion", asked, run)
                    self.call(EnvironmentActivities, "promote_environment", prepared, run)
                case "create":
                    asked_for = CreateInput(tenant="acme", environment=name, like=like)
                    self.call(EnvironmentActivities, "create", asked_for, run)
                case "rollback":
                    back = RollbackInput(**OURS, environment=name, cursor=way % 2 == 0)
                    self.call(PublishActivities, "rollback", back, run)
                case "drop" if name != "prod":
                    self.call(GcActivities, "drop", DropInput(**OURS, environment=name), run)
                case "collect":
                    gc = GcInput(**OURS, keep_days=0, keep_publishes=1 + way % 2)
                    self.call(GcActivities, "gc", gc, run)
        except ApplicationError as error:
            if error.type != "BadInput":
                raise
        self.dead.add(run)
        self.check()

    def _run(self, run: str, environment: str, select: str, bonus: int) -> None:
        given = {"folder": str(self.folder), "bonus": bonus}
        asked = RunInput(**OURS, environment=environment, select=select, parameters=given)
        prepared = self.call(PlanActivities, "prepare", asked, run)
        parameters = {**prepared.parameters, "nominal_time": NOW}
        context = Context(**OURS, environment=environment, run=run, started_at=NOW, parameters=parameters)
        load = self.call(IngestActivities, "extract", ExtractRequest(context=context, step="source"), run)
        raw = load.known
        if not load.unchanged:
            raw = self.call(IngestActivities, "load", LoadRequest(context=context, load=load), run).versions
        wanted = PlanRequest(context=context, selected=prepared.selected, raw=raw, ingested={"source": ""})
        plan = self.call(PlanActivities, "plan", wanted, run)
        left = [step.name for step in plan.to_run()]
        while left:
            batch = Batch(
                context=context,
                steps=tuple(left),
                versions=plan.versions_for(left),
                identities=plan.identities_for(left),
            )
            made = {result.name for result in self.call(TransformActivities, "transform", batch, run)}
            left = [name for name in left if name not in made]
        promote = PromoteRequest(context=context, sequence=plan.sequence, moves=plan.moves, removes=plan.removed)
        self.call(PublishActivities, "promote", promote, run)

    def check(self) -> None:
        """What every environment shows by parts is what it shows as a whole."""
        for name in ENVIRONMENTS:
            for table in self.shown(name):
                assert self.rows_of(name, table) == self.rows_of(name, f"{table}_whole"), (name, table)

    def shown(self, environment: str) -> list[str]:
        with self.session() as session:
            there = session.relations(_schema(environment))
        return [table for table in TABLES if table in there]

    def rows_of(self, environment: str, table: str) -> Counter[tuple[Any, ...]]:
        with self.session() as session:
            found = session.query(f"SELECT * FROM {_schema(environment)}.{table}")
        of_a_part = (row for row in found if row.get("day", row.get("month", row.get("customer", ""))) is not None)
        return Counter(tuple(sorted(row.items())) for row in of_a_part)

    def compare(self, environment: str = "dev", against: str = "prod") -> None:
        """A comparison tells just those tables whose rows differ."""
        asked = DiffInput(**OURS, environment=environment, against=against)
        if not (self.shown(environment) and self.shown(against)):
            return
        found: EnvironmentDiff = self.call(EnvironmentActivities, "diff", asked, f"diff-{environment}-{against}")
        told = {each.name: each.rows.equal for each in found.changed if each.rows is not None}
        for table in {*self.shown(environment)} & {*self.shown(against)}:
            is_equal = self.rows_of(environment, table) == self.rows_of(against, table)
            assert told.get(table, True) == is_equal, (environment, against, table)

    @contextmanager
    def session(self) -> Iterator[Any]:
        with self.tenants.get("acme").backend.session(QueryTag("acme", "test", "test")) as session:
            yield session


def _schema(environment: str) -> str:
    return "parts" if environment == "prod" else f"parts__{environment}"


@contextmanager
def opened(patch: pytest.MonkeyPatch) -> Iterator[PartsHouse]:
    with tempfile.TemporaryDirectory() as state:
        backend = {"type": "duckdb", "path": str(Path(state, "acme.duckdb"))}
        tenant = Tenant("acme", backend, str(Path(state, "lake")), {"parts": PipelineSettings("parts")})
        house = PartsHouse(Tenants({"acme": tenant}, Registry({"parts": "tests.pipelines.parts:parts"})), Path(state))
        patch.setattr(runtime, "is_running", lambda workflow, run: run not in house.dead)
        yield house
        tenant.close()


@settings(max_examples=4)
@given(st.lists(ACTIONS, min_size=5, max_size=10))
@example(
    [
        ("create", 1, 2, 0),
        ("bring", 0, 1, 2),
        ("run", 1, 1, 1),
        ("bring", 0, 1, 3),
        ("run", 0, 1, 0),
        ("promote", 0, 1, 0),
        ("bring", 0, 1, 1),
        ("run", 0, 1, 0),
        ("run", 1, 1, 0),
        ("promote", 1, 2, 0),
    ]
)  # dev computes some parts of one table, prod others of all; and back
@example(
    [
        ("run", 1, 1, 9),
        ("bring", 0, 1, 2),
        ("run", 1, 1, 4),
        ("promote", 0, 1, 0),
        ("bring", 0, 1, 2),
        ("run", 0, 1, 0),
        ("rollback", 0, 1, 0),
        ("collect", 0, 1, 0),
        ("bring", 0, 1, 1),
        ("run", 0, 1, 0),
        ("create", 2, 1, 0),
        ("run", 2, 1, 3),
    ]
)  # other code in dev, whose parts are promoted, gone back from, collected and computed on
def test_environments_that_promote_to_each_other_show_tables_as_they_are_as_a_whole(actions: Sequence[Action]) -> None:
    with pytest.MonkeyPatch.context() as patch, opened(patch) as house:
        house.play(("run", 0, 1, 0))
        for action in actions:
            house.play(action)
        for one, other in (("dev", "prod"), ("pr_1", "prod"), ("dev", "pr_1")):
            house.compare(one, other)
        for number in range(len(ENVIRONMENTS)):  # what each computes next is of what is shown there
            house.play(("bring", 0, 1, 1))
            house.play(("run", number, 1, 0))

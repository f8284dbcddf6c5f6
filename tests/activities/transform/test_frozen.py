"""What is frozen of a table stays as it was shown, whatever happens to its inputs, its code and its environments; the
rest is what the code gives for the inputs as a whole; and a version has the same rows wherever it comes about."""

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
from hypothesis import Phase, example, given, settings
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
from entrepot.planning.plan import Plan
from entrepot.protocol.environments import CreateInput, PromoteInput
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
from tests.pipelines.frozen import frozen

OURS = {"tenant": "acme", "pipeline": "frozen"}
ENVIRONMENTS = ("prod", "dev")
TABLES = ("daily", "around")
NOW = "2026-01-01T00:00:00"
START = datetime.datetime(2026, 1, 28)
DATES = ["2026-01-30", "2026-02-01", "2026-02-03", "2026-02-01", "2026-01-30", None]
Rows = Counter[tuple[tuple[str, Any], ...]]
Action = tuple[str, int, int]
"""What is done, to which environment, and which of several ways."""
WHAT = ["run"] * 6 + ["bring"] * 5 + ["rule", "date"] * 2
WHAT += ["force", "promote", "create", "rollback", "collect", "drop"]
ACTIONS = st.tuples(st.sampled_from(WHAT), st.integers(0, 1), st.integers(0, 9))


def freeze(before: str | None) -> None:
    """The tables with the date, as if their code said so."""
    for name in TABLES:
        object.__setattr__(frozen.graph.steps[name].incremental, "frozen_before", before)  # type: ignore[attr-defined]


class FrozenHouse(House):
    """The pipeline `frozen`, whose source gets rows, late ones and deletions among them."""

    def __init__(self, tenants: Tenants, folder: Path) -> None:
        super().__init__(tenants, folder)
        self.chance = random.Random(5)
        self.before: str | None = DATES[0]
        self.rule = 0
        self.seen: dict[tuple[str, str], Rows] = {}
        """Of each version that was ever shown."""
        self.refused = 0
        self.how = Counter[str]()
        self.notes: dict[str, str] = {}
        self.bring(9)

    def bring(self, number: int) -> None:
        """Some new orders, late ones and corrections, and deletions; now and then, another country."""
        orders = {}
        for _ in range(number % 4 + 1):
            at = START + datetime.timedelta(hours=self.chance.randint(0, 24 * 8))
            key = self.chance.randint(1, 25)
            orders[key] = {
                "id": key,
                "at": at.isoformat(),
                "shop": self.chance.choice("ab"),
                "amount": self.chance.randint(0, 9),
                "gone": self.chance.random() < 0.25,
            }
        country = self.chance.choice(["CH", "FR"]) if number == 9 else "CH"
        self.write([*orders.values()], country)

    def write(self, orders: list[dict[str, Any]], country: str = "CH") -> None:
        (self.folder / "orders.json").write_text(json.dumps(orders))
        (self.folder / "shops.json").write_text(json.dumps([{"shop": "a", "country": country}]))

    def play(self, action: Action) -> None:
        """Does one thing. What cannot be, as a promotion of what shows nothing, is refused, and changes nothing."""
        what, number, way = action
        name, other = ENVIRONMENTS[number], ENVIRONMENTS[1 - number]
        self.number += 1
        run = f"{what}-{self.number:03}"
        try:
            match what:
                case "run" | "force":
                    self.run_once(run, name, force="daily around" if what == "force" else None)
                case "bring":
                    self.bring(way)
                case "rule":
                    self.rule = 2 if way == 9 else (0, 1, 3)[way % 3]
                case "date":
                    self.before = DATES[way % len(DATES)]
                case "promote":
                    asked = PromoteInput(**OURS, like=other, environment=name)
                    prepared = self.call(EnvironmentActivities, "prepare_promotion", asked, run)
                    self.call(EnvironmentActivities, "promote_environment", prepared, run)
                case "create":
                    asked_for = CreateInput(tenant="acme", environment="dev", like="prod")
                    self.call(EnvironmentActivities, "create", asked_for, run)
                case "rollback":
                    back = RollbackInput(**OURS, environment=name, cursor=way % 2 == 0)
                    self.call(PublishActivities, "rollback", back, run)
                case "drop":
                    self.call(GcActivities, "drop", DropInput(**OURS, environment="dev"), run)
                case "collect":
                    gc = GcInput(**OURS, keep_days=0, keep_publishes=1 + way % 2)
                    self.call(GcActivities, "gc", gc, run)
        except ApplicationError as error:
            if error.type != "BadInput" and "which its frozen rows cannot be shown with" not in str(error):
                raise
            self.refused += 1
        self.dead.add(run)
        self.check()

    def run_once(self, run: str, environment: str, force: str | None = None) -> Plan:
        """A run, after which each table has what was frozen of it, and else what it has as a whole."""
        freeze(self.before)
        given = {"folder": str(self.folder), "rule": self.rule}
        asked = RunInput(**OURS, environment=environment, parameters=given, force=force)
        prepared = self.call(PlanActivities, "prepare", asked, run)
        shown = {table: self.shown(environment, table) for table in TABLES}
        parameters = {**prepared.parameters, "nominal_time": NOW}
        context = Context(**OURS, environment=environment, run=run, started_at=NOW, parameters=parameters)
        load = self.call(IngestActivities, "extract", ExtractRequest(context=context, step="source"), run)
        raw = load.known
        if not load.unchanged:
            raw = self.call(IngestActivities, "load", LoadRequest(context=context, load=load), run).versions
        wanted = PlanRequest(
            context=context, selected=prepared.selected, raw=raw, ingested={"source": ""}, anew=prepared.anew
        )
        plan: Plan = self.call(PlanActivities, "plan", wanted, run)
        left = [step.name for step in plan.to_run()]
        self.notes = dict.fromkeys(left, "")
        while left:
            batch = Batch(
                context=context,
                steps=tuple(left),
                versions=plan.versions_for(left),
                identities=plan.identities_for(left),
                anew=tuple(name for name in left if name in plan.anew),
                kept=plan.kept_for(left),
            )
            results = self.call(TransformActivities, "transform", batch, run)
            self.notes |= {result.name: result.note for result in results}
            left = [name for name in left if name not in self.notes or not any(r.name == name for r in results)]
        promote = PromoteRequest(
            context=context, sequence=plan.sequence, moves=plan.moves, removes=plan.removed, anew=plan.anew
        )
        self.call(PublishActivities, "promote", promote, run)
        for table, before in shown.items():
            if table in self.notes:
                self.how["with what is frozen" if table in plan.kept else "as a whole"] += 1
            self.check_run(environment, table, before, run)
        return plan

    def check_run(self, environment: str, table: str, before: Rows | None, run: str) -> None:
        now, whole = self.shown(environment, table), self.shown(environment, f"{table}_whole")
        assert now is not None
        assert whole is not None
        if before is None or self.before is None:
            assert now == whole, (run, table)
            return
        date = datetime.date.fromisoformat(self.before)
        columns = self.columns(environment, table)
        expected = Rows()
        for row, number in before.items():
            its = dict(row)
            if its["day"] < date:
                expected[_row({name: its.get(name) for name in columns})] += number
        expected += Counter({row: n for row, n in whole.items() if dict(row)["day"] >= date})
        assert now == expected, (run, table, self.before)

    def check(self) -> None:
        """A version has the rows that it ever had, and as many as the catalog says; readers have what they read."""
        for environment in ENVIRONMENTS:
            pointers = self.pointers(environment)
            for table in (*TABLES, "reader"):
                if table in pointers:
                    rows = self.shown(environment, table)
                    assert rows is not None
                    known = self.seen.setdefault((table, pointers[table]), rows)
                    assert rows == known, (environment, table, pointers[table])
                    with self.session() as session:
                        counted = session.query(
                            "SELECT row_count FROM entrepot.versions "
                            f"WHERE name = '{table}' AND version = '{pointers[table]}'"
                        )
                    assert counted == [{"row_count": sum(rows.values())}], (environment, table)
            if "reader" in pointers:
                assert self.shown(environment, "reader") == self.shown(environment, "reader_whole")

    def pointers(self, environment: str) -> dict[str, str]:
        with self.session() as session:
            found = session.query(f"SELECT pointers FROM entrepot.environments WHERE environment = '{environment}'")
        return json.loads(found[0]["pointers"]) if found else {}

    def shown(self, environment: str, table: str) -> Rows | None:
        if table not in self.pointers(environment):
            return None
        with self.session() as session:
            found = session.query(f"SELECT * FROM {_schema(environment)}.{table}")
        return Counter(_row(row) for row in found if row["day"] is not None)

    def columns(self, environment: str, table: str) -> list[str]:
        with self.session() as session:
            found = session.query(f"DESCRIBE {_schema(environment)}.{table}")
        return [row["column_name"] for row in found]

    @contextmanager
    def session(self) -> Iterator[Any]:
        with self.tenants.get("acme").backend.session(QueryTag("acme", "test", "test")) as session:
            yield session


def _row(row: dict[str, Any]) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted(row.items()))


def _schema(environment: str) -> str:
    return "frozen" if environment == "prod" else f"frozen__{environment}"


@contextmanager
def opened(patch: pytest.MonkeyPatch) -> Iterator[FrozenHouse]:
    with tempfile.TemporaryDirectory() as state:
        backend = {"type": "duckdb", "path": str(Path(state, "acme.duckdb"))}
        tenant = Tenant("acme", backend, str(Path(state, "lake")), {"frozen": PipelineSettings("frozen")})
        registry = Registry({"frozen": "tests.pipelines.frozen:frozen"})
        house = FrozenHouse(Tenants({"acme": tenant}, registry), Path(state))
        patch.setattr(runtime, "is_running", lambda workflow, run: run not in house.dead)
        yield house
        freeze(None)
        tenant.close()


@settings(max_examples=5, deadline=None, phases=[Phase.explicit, Phase.generate])
@given(st.lists(ACTIONS, min_size=15, max_size=30))
@example(
    [
        ("create", 1, 0),
        ("rule", 0, 1),
        ("run", 1, 0),
        ("bring", 0, 9),
        ("run", 0, 0),
        ("promote", 0, 0),
        ("collect", 0, 0),
        ("rule", 0, 0),
        ("run", 0, 0),
        ("rule", 0, 1),
        ("run", 0, 0),
        ("bring", 0, 2),
        ("run", 0, 0),
    ]
)  # dev's code over what prod showed, promoted, collected; a column that goes, and comes back empty
def test_what_is_frozen_stays_and_the_rest_is_as_a_whole(actions: Sequence[Action]) -> None:
    with pytest.MonkeyPatch.context() as patch, opened(patch) as house:
        house.play(("run", 0, 0))
        for action in actions:
            house.play(action)
        house.rule = 2  # floats can take the place of whatever there is
        for number in range(len(ENVIRONMENTS)):  # what each computes next is of what is shown there
            house.play(("bring", 0, 1))
            house.play(("run", number, 0))
            assert not house.run_once("again", ENVIRONMENTS[number]).to_run(), "nothing is new"
            house.dead.add("again")


def days(house: FrozenHouse, column: str = "n") -> dict[str, Any]:
    """A value of each of the last days of `daily`."""
    rows = house.shown("prod", "daily")
    assert rows is not None
    return {f"{its['day']}": its.get(column) for its in map(dict, rows) if its["day"] > datetime.date(2026, 1, 20)}


def order(key: int, day: str, amount: int = 1) -> dict[str, Any]:
    return {"id": key, "at": f"{day}T10:00:00", "shop": "a", "amount": amount}


@pytest.fixture
def house(monkeypatch: pytest.MonkeyPatch) -> Iterator[FrozenHouse]:
    """One that shows some orders, most of them before the date."""
    with opened(monkeypatch) as its:
        early = [order(10 + day, f"2026-01-{day}") for day in range(10, 20)]
        its.write([*early, order(1, "2026-01-29"), order(2, "2026-01-31"), order(3, "2026-02-02")])
        its.rule = 1
        its.play(("run", 0, 0))
        its.before = "2026-01-31"
        its.write([])
        yield its


def test_a_column_that_went_and_comes_back_is_empty_in_what_is_frozen(house: FrozenHouse) -> None:
    assert days(house) == {"2026-01-29": 1, "2026-01-31": 1, "2026-02-02": 1}
    house.rule = 0
    house.play(("run", 0, 0))
    assert "n" not in house.columns("prod", "daily")
    house.rule = 1
    house.play(("run", 0, 0))
    assert days(house) == {"2026-01-29": None, "2026-01-31": 1, "2026-02-02": 1}
    house.play(("rollback", 0, 1))
    house.play(("rollback", 0, 1))
    assert days(house) == {"2026-01-29": 1, "2026-01-31": 1, "2026-02-02": 1}
    house.rule = 0
    house.play(("run", 0, 0))
    assert house.notes.keys() & {*TABLES} == set(), "it was made before"
    house.write([order(4, "2026-02-03")])
    house.play(("run", 0, 0))
    assert house.notes["daily"] == "2026-02-03 anew"


def test_what_is_made_once_more_stands_beside_what_is_shown(house: FrozenHouse) -> None:
    house.write([order(4, "2026-02-03")])
    house.play(("run", 0, 0))
    house.play(("create", 1, 0))
    house.play(("rollback", 0, 1))
    shown = house.pointers("dev")["daily"]
    assert house.pointers("prod")["daily"] != shown
    house.play(("force", 0, 0))
    assert house.pointers("prod")["daily"] == shown, "made of the same version"
    assert house.notes["daily"] == "from 2026-01-31 anew: it is made once more"
    house.play(("collect", 0, 0))
    house.play(("collect", 0, 0))
    assert house.shown("dev", "daily") == house.shown("prod", "daily")


def test_an_earlier_date_computes_what_is_not_frozen_any_more(house: FrozenHouse) -> None:
    house.write([order(1, "2026-01-29", 7), order(4, "2026-01-27"), order(5, "2026-02-01")])
    house.play(("run", 0, 0))
    left = "what changed in 2026-01-27, 2026-01-29 was left: it is frozen"
    assert house.notes["daily"] == f"2026-02-01 anew; {left}"
    house.write([])
    house.before = "2026-02-02"
    house.play(("run", 0, 0))
    assert house.notes == {}, "a later date alone computes nothing"
    house.before = "2026-01-28"
    house.play(("run", 0, 0))
    assert house.notes["daily"] == "2026-01-28 to 2026-01-30 anew"
    assert days(house, column="total")["2026-01-29"] == 8
    assert "2026-01-27" not in days(house)
    house.before = None
    house.play(("run", 0, 0))
    assert house.notes["daily"] == "up to 2026-01-27 anew"
    assert "2026-01-27" in days(house)

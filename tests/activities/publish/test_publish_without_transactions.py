"""A publish on a warehouse whose DDL stands alone may end after any statement; whoever comes next makes it good."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import ibis
import pytest

from entrepot.activities.catalog.catalog import Catalog
from entrepot.activities.catalog.details import TableDetails
from entrepot.activities.catalog.version import Version
from entrepot.activities.publish import publish
from entrepot.activities.runtime.context import ActivityContext
from entrepot.activities.runtime.tenant import PipelineSettings, Tenant
from entrepot.backends import QueryTag, Session, TableName
from entrepot.backends.duckdb.backend import DuckDB, DuckDBSession
from entrepot.backends.duckdb.dialect import CAPABILITIES
from entrepot.backends.sql.session import StatementResult
from entrepot.errors import Conflict, StepFailed
from entrepot.protocol.messages import Context, PromoteRequest


class Died(BaseException):
    """The process is gone."""


class Plain(DuckDBSession):
    """DuckDB as if it had no transactions; it dies, or refuses, before a certain statement."""

    capabilities = replace(CAPABILITIES, transactional_ddl=False)
    left: int | None = None
    refused = ""

    def _run(self, sql: str) -> StatementResult:
        if Plain.refused and Plain.refused in sql:
            raise StepFailed(f"may not: {sql}")
        if Plain.left is not None:
            if Plain.left == 0:
                raise Died
            Plain.left -= 1
        return super()._run(sql)


class PlainBackend(DuckDB):
    capabilities = Plain.capabilities

    @contextmanager
    def session(self, tag: QueryTag, opened: Callable[[Session], None] | None = None) -> Iterator[Session]:
        with super().session(tag) as session:
            plain = Plain(tag, self.path)
            plain.open(session._connection)  # type: ignore[attr-defined]
            if opened is not None:
                opened(plain)
            try:
                yield plain
            finally:
                plain.close()


class Warehouse:
    """A pipeline `shop` with versions of two tables, 1 and 2, ready to be published."""

    def __init__(self, folder: Path) -> None:
        self.tenant = Tenant("acme", {}, str(folder / "lake"), {"shop": PipelineSettings("shop")})
        self.tenant.__dict__["backend"] = PlainBackend(str(folder / "acme.duckdb"), {})
        with self.session() as session:
            Catalog(session).ensure()
            catalog = Catalog(session).pipeline("shop")
            catalog.environment("prod").create()
            session.create_schema("shop__v")
            for name in ("orders", "gone"):
                for number in (1, 2):
                    target = TableName("shop__v", f"{name}__{number}")
                    made = session.create_as(target, ibis.memtable({"number": [number]}))
                    columns = {"number": "int64"}
                    version = Version(
                        name, str(number), "transform", "", target, columns, columns, made.rows, TableDetails(), "r"
                    )
                    catalog.add_version(version)

    @contextmanager
    def session(self, run: str = "test") -> Iterator[Session]:
        with ActivityContext(self.tenant, run, "promote").session() as session:
            yield session

    def commit(self, run: str, sequence: int, moves: dict[str, str], removes: tuple[str, ...] = ()) -> None:
        context = Context(tenant="acme", pipeline="shop", run=run)
        work = ActivityContext(self.tenant, run, "promote")
        with work.session() as session:
            commit = PromoteRequest(context=context, sequence=sequence, moves=moves, removes=removes)
            publish._promote(work, session, commit, None)

    def shown(self) -> dict[str, int]:
        """What people see: each view and the number in it."""
        with self.session() as session:
            views = session.tables("shop")
            return {view: session.query(f'SELECT number FROM shop."{view}"')[0]["number"] for view in sorted(views)}

    def pointers(self) -> tuple[int, dict[str, str]]:
        with self.session() as session:
            head = Catalog(session).pipeline("shop").environment("prod").head()
            return head.sequence, head.pointers

    def history(self) -> list[tuple[int, str, str]]:
        with self.session() as session:
            rows = Catalog(session).pipeline("shop").environment("prod").history()
            return [(row.sequence, row.action, row.run) for row in rows]


@pytest.fixture(autouse=True)
def undisturbed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publish, "_record_run", lambda *_: None)  # it asks the running activity for its workflow
    monkeypatch.setattr(Plain, "left", None)
    monkeypatch.setattr(Plain, "refused", "")


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    return published_once(tmp_path)


def published_once(folder: Path) -> Warehouse:
    made = Warehouse(folder)
    made.commit("first", 0, {"orders": "1", "gone": "1"})
    assert made.shown() == {"gone": 1, "orders": 1}
    return made


def second(warehouse: Warehouse) -> None:
    """A publish that moves one table and takes another away."""
    warehouse.commit("second", 1, {"orders": "2"}, ("gone",))


@pytest.fixture
def deaths(tmp_path: Path) -> Iterator[Warehouse]:
    """Warehouses in which the second publish died: after no statement, after one, and so on through all of them."""

    def one_by_one() -> Iterator[Warehouse]:
        number = 0
        while True:
            warehouse = published_once(tmp_path / str(number))
            Plain.left = number
            try:
                second(warehouse)
            except Died:
                Plain.left = None
                yield warehouse
                number += 1
                continue
            Plain.left = None
            assert number >= 8, "a publish takes more statements than that"
            return

    return one_by_one()


def test_undisturbed(warehouse: Warehouse) -> None:
    second(warehouse)
    assert warehouse.shown() == {"orders": 2}
    assert warehouse.pointers() == (2, {"orders": "2"})
    assert warehouse.history() == [(2, "publish", "second"), (1, "publish", "first")]


def test_the_next_attempt_of_the_same_run_finishes_it(deaths: Iterator[Warehouse]) -> None:
    for warehouse in deaths:
        second(warehouse)
        assert warehouse.shown() == {"orders": 2}
        assert warehouse.pointers() == (2, {"orders": "2"})
        assert warehouse.history() == [(2, "publish", "second"), (1, "publish", "first")]


def test_another_run_finds_either_all_or_nothing_of_it(deaths: Iterator[Warehouse]) -> None:
    for warehouse in deaths:
        sequence, pointers = warehouse.pointers()
        assert (sequence, pointers) in [(1, {"orders": "1", "gone": "1"}), (2, {"orders": "2"})]
        warehouse.commit("third", sequence, {"gone": "2"})
        assert warehouse.shown() == {**{n: int(v) for n, v in pointers.items()}, "gone": 2}
        runs = [run for _, _, run in warehouse.history()]
        assert runs == (["third", "second", "first"] if sequence == 2 else ["third", "first"])


def test_a_run_with_nothing_to_publish_brings_the_views_after(deaths: Iterator[Warehouse]) -> None:
    for warehouse in deaths:
        sequence, pointers = warehouse.pointers()
        warehouse.commit("third", sequence, {})
        assert warehouse.shown() == {n: int(v) for n, v in pointers.items()}


def test_who_comes_late_publishes_nothing(warehouse: Warehouse) -> None:
    second(warehouse)
    with pytest.raises(Conflict, match="run second published while this run was going"):
        warehouse.commit("late", 1, {"orders": "1", "gone": "2"})
    assert warehouse.shown() == {"orders": 2}
    assert warehouse.pointers() == (2, {"orders": "2"})


def test_an_attempt_that_comes_after_the_next_publish_knows_that_it_has_published(warehouse: Warehouse) -> None:
    second(warehouse)
    warehouse.commit("third", 2, {"orders": "1"})
    second(warehouse)
    assert warehouse.shown() == {"orders": 1}
    assert warehouse.pointers() == (3, {"orders": "1"})


def test_an_attempt_that_comes_after_its_publish_was_taken_back_fails(warehouse: Warehouse) -> None:
    Plain.refused = 'DROP VIEW IF EXISTS "shop"."gone"'
    for said in ("may not", "what this run had published was taken back"):
        with pytest.raises(StepFailed, match=said):
            second(warehouse)
    Plain.refused = ""
    assert warehouse.shown() == {"gone": 1, "orders": 1}


def test_a_view_that_may_not_be_moved_takes_everything_back(warehouse: Warehouse) -> None:
    Plain.refused = 'DROP VIEW IF EXISTS "shop"."gone"'
    with pytest.raises(StepFailed, match="may not"):
        second(warehouse)
    Plain.refused = ""
    assert warehouse.shown() == {"gone": 1, "orders": 1}
    sequence, pointers = warehouse.pointers()
    assert pointers == {"orders": "1", "gone": "1"}
    assert warehouse.history()[0] == (3, "undo", "second")
    warehouse.commit("third", sequence, {"orders": "2"}, ("gone",))
    assert warehouse.shown() == {"orders": 2}

"""What an environment shows is what its record says, wherever a publish or a drop may end, and whatever came before.

The warehouse has no transactions, so that each statement stands alone.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from entrepot.activities.catalog.catalog import Catalog
from entrepot.activities.maintenance.environments import drop
from entrepot.activities.publish import publish
from entrepot.activities.runtime.context import ActivityContext
from entrepot.activities.runtime.tenant import PipelineSettings, Tenant
from entrepot.backends import TableName
from entrepot.errors import BadInput, Conflict
from entrepot.protocol.messages import Context
from tests.activities.publish.test_publish_without_transactions import (
    Died,
    Plain,
    PlainBackend,
    Warehouse,
    published_once,
)

CONTEXT = Context(tenant="acme", pipeline="shop", run="drop")


@pytest.fixture(autouse=True)
def undisturbed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publish, "_record_run", lambda *_: None)  # it asks the running activity for its workflow
    monkeypatch.setattr(Plain, "left", None)


def in_schema(warehouse: Warehouse, schema: str) -> None:
    """The tenant's settings have another schema for the pipeline from now on."""
    tenant = Tenant("acme", {}, warehouse.tenant.lake, {"shop": PipelineSettings(schema)})
    tenant.__dict__["backend"] = warehouse.tenant.backend
    warehouse.tenant = tenant


def views(warehouse: Warehouse) -> dict[str, int]:
    """Every view that people see, and the number in it."""
    with warehouse.session() as session:
        found = session.query("SELECT schema_name, view_name FROM duckdb_views() WHERE NOT internal")
        names = [f"{row['schema_name']}.{row['view_name']}" for row in found]
        return {name: session.query(f"SELECT number FROM {name}")[0]["number"] for name in sorted(names)}


def recorded(warehouse: Warehouse) -> set[str]:
    with warehouse.session() as session:
        rows = session.query("SELECT in_schema, in_table FROM entrepot.places")
        return {f"{row['in_schema']}.{row['in_table']}" for row in rows}


def dropped(warehouse: Warehouse) -> None:
    work = ActivityContext(warehouse.tenant, "drop", "drop")
    with work.session() as session:
        drop.drop(work, session, CONTEXT)


def deaths(folder: Path, action: Callable[[Warehouse], None]) -> Iterator[Warehouse]:
    """Warehouses in which an action died: after no statement, after one, and so on through all of them."""
    published_once(folder / "first").tenant.close()
    for number in range(200):
        copy = folder / str(number)
        shutil.copytree(folder / "first", copy)
        warehouse = Warehouse.__new__(Warehouse)
        warehouse.tenant = Tenant("acme", {}, str(copy / "lake"), {"shop": PipelineSettings("shop")})
        warehouse.tenant.__dict__["backend"] = PlainBackend(str(copy / "acme.duckdb"), {})
        Plain.left = number
        try:
            action(warehouse)
        except Died:
            Plain.left = None
            yield warehouse
            continue
        finally:
            Plain.left = None
            warehouse.tenant.close()
        assert number >= 8, "it takes more statements than that"
        return


def moved(warehouse: Warehouse) -> None:
    in_schema(warehouse, "moved")
    warehouse.commit("second", 1, {"orders": "2"})


def test_a_publish_to_another_schema_may_end_anywhere(tmp_path: Path) -> None:
    for warehouse in deaths(tmp_path, moved):
        assert set(views(warehouse)) <= recorded(warehouse)  # nothing stands anywhere that nobody knows of
        in_schema(warehouse, "moved")
        sequence, pointers = warehouse.pointers()
        warehouse.commit("third", sequence, {})
        assert views(warehouse) == {f"moved.{name}": int(version) for name, version in pointers.items()}
        assert recorded(warehouse) == set(views(warehouse))


def test_a_drop_may_end_anywhere(tmp_path: Path) -> None:
    for warehouse in deaths(tmp_path, dropped):
        dropped(warehouse)
        assert (views(warehouse), recorded(warehouse), warehouse.pointers()) == ({}, set(), (0, {}))


def test_after_a_drop_that_died_a_run_shows_what_it_publishes(tmp_path: Path) -> None:
    for warehouse in deaths(tmp_path, dropped):
        sequence, pointers = warehouse.pointers()
        if sequence:  # else there is no environment, and `prepare` would make it
            warehouse.commit("third", sequence, {"orders": "2"})
            assert views(warehouse) == {f"shop.{name}": int(v) for name, v in {**pointers, "orders": "2"}.items()}


def test_a_run_that_was_planned_before_a_drop_publishes_nothing(tmp_path: Path) -> None:
    warehouse = published_once(tmp_path)
    dropped(warehouse)
    with pytest.raises(Conflict, match="it was dropped while this run was going"):
        warehouse.commit("late", 1, {"orders": "2"})
    assert views(warehouse) == {}


versions = st.sampled_from(["1", "2"])
publishes = st.tuples(
    st.sampled_from(["shop", "moved"]),
    st.dictionaries(st.sampled_from(["orders", "gone"]), versions),
    st.sets(st.sampled_from(["orders", "gone"]), max_size=1),
    st.sampled_from(["", "orders", "gone"]),
    st.none() | st.integers(0, 25),
)


@settings(max_examples=15, phases=[Phase.generate])  # each example takes as long as a publish: no shrinking
@given(st.lists(publishes, min_size=1, max_size=4))
def test_the_views_are_those_of_a_dict(
    some: list[tuple[str, dict[str, str], set[str], str, int | None]],
) -> None:
    """Publishes one after another, with other schemas, names that go, views dropped by hand, and deaths in between."""
    with tempfile.TemporaryDirectory() as folder:
        warehouse = published_once(Path(folder))
        for number, (schema, asked, removes, by_hand, left) in enumerate(some):
            with warehouse.session() as session:
                for each in ("shop", "moved") if by_hand else ():
                    session.create_schema(each)
                    session.drop_view(TableName(each, by_hand))
            in_schema(warehouse, schema)
            sequence, pointers = warehouse.pointers()
            moves = {name: version for name, version in asked.items() if name not in removes}
            expected = {name: v for name, v in {**pointers, **moves}.items() if name not in removes}
            Plain.left = left
            try:
                warehouse.commit(f"run-{number}", sequence, moves, tuple(removes))
            except Died:
                Plain.left = None
                warehouse.commit(f"run-{number}", sequence, moves, tuple(removes))  # Temporal tries again
            Plain.left = None
            assert views(warehouse) == {f"{schema}.{name}": int(version) for name, version in expected.items()}
            assert recorded(warehouse) == set(views(warehouse))
        warehouse.tenant.close()


def test_two_that_claim_a_name_at_the_same_time_do_not_both_get_it(tmp_path: Path) -> None:
    """Each has looked before the other has written; whoever sees both, yields."""
    from entrepot.activities.catalog.owners import Owner, Place

    warehouse = published_once(tmp_path)
    wanted = frozenset({(Place("view", "Reporting", "Totals"), "totals")})
    other = frozenset({(Place("view", "reporting", "totals"), "sums")})
    with warehouse.session() as session:
        places = Catalog(session).places
        places.claim(Owner("acme", "one", "prod"), wanted)
        with pytest.raises(BadInput, match=r"Totals belongs to pipeline 'one' .* and cannot belong to .*'two'"):
            places.claim(Owner("acme", "two", "prod"), other)
        places.release("one", "prod", wanted)
        places.claim(Owner("acme", "two", "prod"), other)

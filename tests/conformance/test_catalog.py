"""The catalog on every warehouse: versions, what environments point at, rollback, and what is forgotten."""

from __future__ import annotations

import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import ibis
import pyarrow as pa
import pytest

from entrepot.activities.catalog import catalog, ingest_state
from entrepot.activities.catalog.ingest_state import Cursor
from entrepot.backends import Session, TableName
from entrepot.backends.base import physical
from entrepot.errors import Conflict, Contended
from tests.conformance.target import Target
from tests.conformance.values import rows_of

pytestmark = pytest.mark.area("Catalog: versions, environments, rollback, collection")

NASTY = 'it\'s "nasty" \\ 👩‍🚀\n%s'


@pytest.fixture
def pipeline(session: Session) -> str:
    """A pipeline that nobody else has, and the catalog."""
    catalog.ensure(session)
    return f"pipeline {uuid.uuid4().hex}"


def _version(name: str, version: str, table: TableName | None = None) -> catalog.Version:
    return catalog.Version(
        name=name,
        version=version,
        kind="transform",
        identity="hash",
        table=table,
        columns={"n": "int64", "Größe": "decimal(12, 2)"},
        inferred={"n": "int64", "Größe": "decimal(10, 2)"},
        rows=3,
        details={"text": NASTY},
        run="run-1",
    )


def _move(session: Session, pipeline: str, run: str, expected: int, **pointers: str) -> catalog.Published:
    return catalog.move(session, pipeline, "prod", run, "publish", pointers, list(pointers), expected=expected)


def test_ensure_twice(session: Session, pipeline: str) -> None:
    catalog.ensure(session)
    assert catalog.versions(session, pipeline, {"a": "1"}) == {}
    assert ingest_state.current(session, pipeline, "a", "prod") == Cursor(0)


def test_versions(session: Session, pipeline: str) -> None:
    made = replace(_version("a", "1", TableName("s", "t")), inputs={"source": "0"})
    catalog.add_version(session, pipeline, made, 1.5)
    catalog.add_version(session, pipeline, _version("b", "1"), 0.0)
    catalog.add_version(session, pipeline, _version("a", "2"), 0.0)
    assert catalog.versions(session, pipeline, {"a": "1"}) == {"a": made}
    known = catalog.known(session, pipeline, ["1"])
    assert set(known) == {("a", "1"), ("b", "1")}
    assert known["a", "1"].inputs == {"source": "0"}
    row = next(r for r in catalog.rows(session, "versions", pipeline) if (r["name"], r["version"]) == ("a", "1"))
    assert (row["row_count"], row["seconds"], row["byte_count"]) == (3, 1.5, None)
    assert abs((row["made_at"].replace(tzinfo=None) - catalog.now()).total_seconds()) < 3600


def test_forgotten(session: Session, pipeline: str, schema: str) -> None:
    name = TableName(schema, "made")
    session.write(name, ibis.schema({"n": "int64"}), iter(pa.table({"n": [1]}).to_batches()))
    catalog.add_version(session, pipeline, _version("a", "1", name), 0.0)
    catalog.add_version(session, pipeline, _version("b", "1"), 0.0)
    with session.transaction():
        catalog.delete(session, "versions", pipeline, [("a", "1")])
        session.drop_table(name)
    assert set(catalog.known(session, pipeline, ["1"])) == {("b", "1")}
    assert session.tables(schema) == set()


def test_cursors(session: Session, pipeline: str) -> None:
    for number in (1, 2):
        load = Cursor(number - 1, load=f"l{number}", run=str(number), tables={"t": str(number)}, state="s")
        ingest_state.advance(session, pipeline, "source", "prod", load)
    last = ingest_state.current(session, pipeline, "source", "prod")
    assert (last.sequence, last.load, last.tables, last.state) == (2, "l2", {"t": "2"}, "s")
    with pytest.raises(Conflict, match="run 2 loaded for 'prod'"):
        ingest_state.advance(session, pipeline, "source", "prod", Cursor(1, load="l3", run="3"))
    assert [load.load for load in ingest_state.history(session, pipeline)["source"]] == ["l2", "l1"]
    # An environment without a load of its own begins where the newest load is.
    dev = ingest_state.current(session, pipeline, "source", "dev")
    assert (dev.sequence, dev.load) == (0, "l2")
    assert ingest_state.of_environment(session, pipeline, "source", "dev") is None


def test_checks(session: Session, pipeline: str) -> None:
    for name, violations in (("good", 0), ("bad", 5)):
        more = {"severity": "block", "violations": violations, "sample": [{"s": NASTY}], "inputs": {}, "identity": "h"}
        catalog.add(session, "checks", pipeline=pipeline, name=name, version="9", run="r", **more)
    assert set(catalog.known(session, pipeline, ["9"])) == {("good", "9")}


def test_publish_and_roll_back(session: Session, pipeline: str, schema: str) -> None:
    view, tables = TableName(schema, "a"), {number: TableName(schema, f"a__{number}") for number in ("1", "2")}
    for number, table in tables.items():
        session.write(table, ibis.schema({"n": "int64"}), iter(pa.table({"n": [int(number)]}).to_batches()))
    catalog.open_head(session, pipeline, "prod")
    assert catalog.published(session, pipeline, "prod").pointers == {}
    for sequence, number in enumerate(["1", "2", "1"]):
        made = _move(session, pipeline, f"run-{sequence}", sequence, a=number)
        assert (made.sequence, made.pointers) == (sequence + 1, {"a": number})
        session.point(view, tables[number])
        catalog.shown(session, pipeline, "prod", made.sequence)
        assert rows_of(session.fetch(physical(view, session.describe(view, ["n"])))) == [(int(number),)]
    now = catalog.published(session, pipeline, "prod")
    assert (now.sequence, now.shown, now.run, now.pointers) == (3, 3, "run-2", {"a": "1"})
    history = catalog.publishes(session, pipeline)["prod"]
    assert [(p.sequence, p.run, p.pointers["a"]) for p in history] == [
        (3, "run-2", "1"),
        (2, "run-1", "2"),
        (1, "run-0", "1"),
    ]


def test_publish_that_comes_too_late(session: Session, pipeline: str) -> None:
    catalog.open_head(session, pipeline, "prod")
    _move(session, pipeline, "first", 0, a="1")
    with pytest.raises(Conflict, match="first"):
        _move(session, pipeline, "second", 0, a="2")
    assert catalog.published(session, pipeline, "prod").pointers == {"a": "1"}


def test_two_publish_at_once(target: Target, session: Session, pipeline: str) -> None:
    catalog.open_head(session, pipeline, "prod")
    barrier = threading.Barrier(2)

    def publish(run: str) -> bool:
        with target.session() as own:
            barrier.wait()
            try:
                return _move(own, pipeline, run, 0, a=run).run == run
            except (Conflict, Contended):
                return False

    with ThreadPoolExecutor(2) as pool:
        won = dict(zip(["x", "y"], pool.map(publish, ["x", "y"]), strict=True))
    assert sum(won.values()) == 1, won
    now = catalog.published(session, pipeline, "prod")
    assert (now.sequence, won[now.run], now.pointers) == (1, True, {"a": now.run})

"""The catalog on every warehouse: versions, what environments point at, rollback, and what is forgotten."""

from __future__ import annotations

import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import ibis
import pyarrow as pa
import pytest

from entrepot.activities.catalog.catalog import Catalog, PipelineCatalog
from entrepot.activities.catalog.details import PageDetails
from entrepot.activities.catalog.environment import Publish
from entrepot.activities.catalog.ingest_state import IngestState
from entrepot.activities.catalog.records import CheckVerdict
from entrepot.activities.catalog.tables import now
from entrepot.activities.catalog.version import Version
from entrepot.backends import Session, TableName
from entrepot.backends.base import physical
from entrepot.errors import Conflict, Contended
from tests.conformance.target import Target
from tests.conformance.values import rows_of

pytestmark = pytest.mark.area("Catalog: versions, environments, rollback, collection")

NASTY = 'it\'s "nasty" \\ 👩‍🚀\n%s'


@pytest.fixture
def catalog(target: Target, session: Session) -> PipelineCatalog:
    """The catalog of a pipeline that nobody else has."""
    made = Catalog(session, target.schema)
    made.ensure()
    return made.pipeline(f"pipeline {uuid.uuid4().hex}")


def _version(name: str, version: str, table: TableName | None = None, seconds: float = 0.0) -> Version:
    return Version(
        name=name,
        version=version,
        kind="transform",
        identity="hash",
        table=table,
        columns={"n": "int64", "Größe": "decimal(12, 2)"},
        inferred={"n": "int64", "Größe": "decimal(10, 2)"},
        rows=3,
        details=PageDetails(path="page.html", title=NASTY),
        run="run-1",
        seconds=seconds,
    )


def _publish(catalog: PipelineCatalog, run: str, expected: int, **pointers: str) -> Publish:
    return catalog.environment("prod").publish(run, "publish", pointers, list(pointers), expected=expected)


def test_ensure_twice(target: Target, session: Session, catalog: PipelineCatalog) -> None:
    Catalog(session, target.schema).ensure()
    assert catalog.versions({"a": "1"}) == {}
    assert catalog.environment("prod").ingest_state("a") == IngestState(0)


def test_versions(catalog: PipelineCatalog) -> None:
    made = replace(_version("a", "1", TableName("s", "t"), seconds=1.5), inputs={"source": "0"})
    catalog.add_version(made)
    catalog.add_version(_version("b", "1"))
    catalog.add_version(_version("a", "2"))
    assert catalog.versions({"a": "1"}) == {"a": made}
    known = catalog.known(["1"])
    assert set(known) == {("a", "1"), ("b", "1")}
    assert known["a", "1"].inputs == {"source": "0"}
    found = next(each for each in catalog.every_version() if each.key == ("a", "1"))
    assert (found.rows, found.seconds, found.bytes) == (3, 1.5, None)
    assert abs((found.made_at.replace(tzinfo=None) - now()).total_seconds()) < 3600


def test_forgotten(session: Session, catalog: PipelineCatalog, schema: str) -> None:
    name = TableName(schema, "made")
    session.write(name, ibis.schema({"n": "int64"}), iter(pa.table({"n": [1]}).to_batches()))
    catalog.add_version(_version("a", "1", name))
    catalog.add_version(_version("b", "1"))
    with session.transaction():
        catalog.delete_versions([("a", "1")])
        session.drop_table(name)
    assert set(catalog.known(["1"])) == {("b", "1")}
    assert session.tables(schema) == set()


def test_ingest_states(catalog: PipelineCatalog) -> None:
    prod, dev = catalog.environment("prod"), catalog.environment("dev")
    for number in (1, 2):
        load = IngestState(number - 1, load=f"l{number}", run=str(number), tables={"t": str(number)}, watermarks="s")
        prod.replace_ingest_state("source", load)
    last = prod.ingest_state("source")
    assert (last.sequence, last.load, last.tables, last.watermarks) == (2, "l2", {"t": "2"}, "s")
    with pytest.raises(Conflict, match="run 2 loaded for 'prod'"):
        prod.replace_ingest_state("source", IngestState(1, load="l3", run="3"))
    assert [load.load for load in catalog.loads()["source"]] == ["l2", "l1"]
    # An environment without a load of its own begins where the newest load is.
    first = dev.ingest_state("source")
    assert (first.sequence, first.load) == (0, "l2")
    assert dev.own_ingest_state("source") is None


def test_checks(catalog: PipelineCatalog) -> None:
    for name, violations in (("good", 0), ("bad", 5)):
        more = {"severity": "block", "violations": violations, "sample": [{"s": NASTY}], "inputs": {}, "identity": "h"}
        catalog.add_verdict(CheckVerdict(name=name, version="9", run="r", guards=[], checked_at=now(), **more))
    assert set(catalog.known(["9"])) == {("good", "9")}


def test_publish_and_roll_back(session: Session, catalog: PipelineCatalog, schema: str) -> None:
    view, tables = TableName(schema, "a"), {number: TableName(schema, f"a__{number}") for number in ("1", "2")}
    for number, table in tables.items():
        session.write(table, ibis.schema({"n": "int64"}), iter(pa.table({"n": [int(number)]}).to_batches()))
    prod = catalog.environment("prod")
    prod.create()
    assert prod.head().pointers == {}
    for sequence, number in enumerate(["1", "2", "1"]):
        made = _publish(catalog, f"run-{sequence}", sequence, a=number)
        assert (made.sequence, made.pointers) == (sequence + 1, {"a": number})
        session.repoint_view(view, tables[number])
        prod.record_views_synced(made.sequence)
        assert rows_of(session.fetch(physical(view, session.describe(view, ["n"])))) == [(int(number),)]
    head = prod.head()
    assert (head.sequence, head.views_synced, head.run, head.pointers) == (3, 3, "run-2", {"a": "1"})
    history = catalog.publishes()["prod"]
    assert history == prod.history()
    assert [(p.sequence, p.run, p.pointers["a"]) for p in history] == [
        (3, "run-2", "1"),
        (2, "run-1", "2"),
        (1, "run-0", "1"),
    ]


def test_publish_that_comes_too_late(catalog: PipelineCatalog) -> None:
    catalog.environment("prod").create()
    _publish(catalog, "first", 0, a="1")
    with pytest.raises(Conflict, match="first"):
        _publish(catalog, "second", 0, a="2")
    assert catalog.environment("prod").head().pointers == {"a": "1"}


def test_two_publish_at_once(target: Target, catalog: PipelineCatalog) -> None:
    catalog.environment("prod").create()
    barrier = threading.Barrier(2)

    def publish(run: str) -> bool:
        with target.session() as own:
            theirs = Catalog(own, target.schema).pipeline(catalog.name)
            barrier.wait()
            try:
                return _publish(theirs, run, 0, a=run).run == run
            except (Conflict, Contended):
                return False

    with ThreadPoolExecutor(2) as pool:
        won = dict(zip(["x", "y"], pool.map(publish, ["x", "y"]), strict=True))
    assert sum(won.values()) == 1, won
    head = catalog.environment("prod").head()
    assert (head.sequence, won[head.run], head.pointers) == (1, True, {"a": head.run})

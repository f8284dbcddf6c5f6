"""What a session does for versions and views; where warehouses lack transactions, what holds without them."""

from __future__ import annotations

import datetime
import decimal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import ibis
import pyarrow as pa
import pytest
import sqlglot.expressions as sge
from ibis import _

from entrepot.backends import QueryTag, Session, TableName
from entrepot.backends.base import count, physical
from entrepot.backends.sql.session import Exists, SqlSession, StatementResult
from entrepot.errors import Contended
from tests.conformance.target import Target, parquet
from tests.conformance.values import check_rows, rows_of

NUMBER = ibis.schema({"n": "int64"})


def _numbers(*values: int) -> pa.Table:
    return pa.table({"n": pa.array(values, pa.int64())})


def _put(session: Session, name: TableName, *values: int) -> ibis.Table:
    """Writes a table of numbers; an expression for it."""
    return physical(name, session.write(name, NUMBER, iter(_numbers(*values).to_batches())).columns)


def _values(session: Session, name: TableName) -> list[int]:
    return sorted(int(row[0]) for row in rows_of(session.fetch(physical(name, session.describe(name, ["n"])))))


def _make(way: str, session: Session, name: TableName, source: ibis.Table) -> Any:
    """Makes a table with the numbers 5 and 6; `source` has a row for each."""
    if way == "write":
        return session.write(name, NUMBER, iter(_numbers(5, 6).to_batches()))
    if way == "load":
        with parquet(_numbers(5, 6)) as path:
            return session.load(name, [path], NUMBER)
    return session.create_as(name, source)


@pytest.fixture
def source(session: Session, schema: str) -> ibis.Table:
    return _put(session, TableName(schema, "source"), 5, 6)


WAYS = pytest.mark.parametrize("way", ["create_as", "load", "write"])


@pytest.mark.area("Versions: made once, and whole")
@WAYS
def test_made(way: str, session: Session, schema: str, source: ibis.Table) -> None:
    made = _make(way, session, TableName(schema, "made"), source)
    assert (made.rows, made.columns.names) == (2, ("n",))
    assert made.columns["n"].is_integer() or made.columns["n"].is_decimal()
    assert made.columns == session.describe(TableName(schema, "made"), ["n"])
    assert _values(session, TableName(schema, "made")) == [5, 6]


@pytest.mark.area("Versions: made once, and whole")
@WAYS
def test_made_already(way: str, session: Session, schema: str, source: ibis.Table, target: Target) -> None:
    """A table that is there is taken as it is, or told of: it is never changed, and never half."""
    name = TableName(schema, "made")
    _put(session, name, 1, 2, 3)
    if target.backend.capabilities.transactional_ddl:
        with pytest.raises(Exists):
            _make(way, session, name, source)
    else:
        assert _make(way, session, name, source).rows == 3
    with target.session() as another:
        assert _values(another, name) == [1, 2, 3]


@pytest.mark.area("Versions: made once, and whole")
@WAYS
def test_made_already_and_removed(
    way: str, session: Session, schema: str, source: ibis.Table, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who finds a table that is gone as it is looked at can begin again: another session needed it no more."""
    name = TableName(schema, "made")
    _put(session, name, 1, 2, 3)
    count = SqlSession._rows

    def removed_before(self: SqlSession, name: TableName, answer: StatementResult) -> int:
        with target.session() as another:
            another.drop_table(name)
        return count(self, name, answer)

    monkeypatch.setattr(type(session), "_rows", removed_before)
    with pytest.raises(Contended):
        _make(way, session, name, source)


@pytest.mark.area("Versions: made once, and whole")
def test_made_by_two_at_once(target: Target, schema: str, source: ibis.Table) -> None:
    barrier = threading.Barrier(2)

    def make(number: int) -> str:
        with target.session() as session:
            barrier.wait()
            try:
                return str(session.create_as(TableName(schema, "made"), source.mutate(n=_.n + number)).rows)
            except Contended:
                return "contended"

    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(make, [0, 100]))
    assert set(results) <= {"2", "contended"}
    assert "2" in results
    with target.session() as session:
        assert _values(session, TableName(schema, "made")) in ([5, 6], [105, 106])


@pytest.mark.area("Versions: made once, and whole")
def test_refused_by_the_warehouse(target: Target, schema: str, source: ibis.Table) -> None:
    refused = source.mutate(n=(_.n.cast("string") + "x").cast("int64"))
    with pytest.raises(Exception, match=r"."), target.session() as session:
        session.create_as(TableName(schema, "made"), refused)
    with target.session() as session:
        assert "made" not in session.tables(schema)


@pytest.mark.area("Versions: made once, and whole")
def test_batches_that_break_off(target: Target, schema: str) -> None:
    def batches() -> Iterator[pa.RecordBatch]:
        yield from _numbers(1, 2).to_batches()
        raise ValueError("the source is gone")

    with pytest.raises(Exception, match="the source is gone"), target.session() as session:
        session.write(TableName(schema, "made"), NUMBER, batches())
    with target.session() as session:
        assert "made" not in session.tables(schema)


@pytest.mark.area("Versions: made once, and whole")
def test_read_and_written_in_one_session(session: Session, schema: str, source: ibis.Table) -> None:
    """As a Python transform does: what comes in is still being read while what goes out is written."""
    reader = session.read(source)
    doubled = (pa.record_batch({"n": [2 * v for v in batch["n"].to_pylist()]}) for batch in reader)
    session.write(TableName(schema, "made"), NUMBER, doubled)
    assert _values(session, TableName(schema, "made")) == [10, 12]


@pytest.mark.area("Rows brought along (memtable)")
def test_rows_brought_along(session: Session, schema: str) -> None:
    before = session.tables(session.scratch)
    texts = ["", "it's", 'quo"ted', "👩‍🚀", None]
    rows = ibis.memtable(pa.table({"n": [1, 2, 3, 4, 5], "s": texts}))
    made = session.create_as(TableName(schema, "made"), rows)
    found = session.fetch(
        physical(TableName(schema, "made"), made.columns).filter(_.n.isin(ibis.memtable({"n": [1, 2, 4]}).n))
    )
    check_rows(rows_of(found), [(1, ""), (2, "it's"), (4, "👩‍🚀")])
    assert session.tables(session.scratch) == before


@pytest.mark.area("Views: they show what they are pointed at")
def test_point(session: Session, schema: str) -> None:
    one, two, view = TableName(schema, "one"), TableName(schema, "two"), TableName(schema, "view")
    _put(session, one, 1)
    session.repoint_view(view, one)
    assert _values(session, view) == [1]
    _put(session, two, 2, 3)
    session.repoint_view(view, two)
    session.repoint_view(view, two)
    assert _values(session, view) == [2, 3]
    assert session.relations(schema) == {"one": "table", "two": "table", "view": "view"}
    assert session.tables(schema) == {"one", "two", "view"}
    session.drop_view(view)
    session.drop_view(view)
    assert session.tables(schema) == {"one", "two"}


@pytest.mark.area("Views: they show what they are pointed at")
def test_point_at_other_columns(session: Session, schema: str) -> None:
    view = TableName(schema, "view")
    _put(session, TableName(schema, "one"), 1)
    session.repoint_view(view, TableName(schema, "one"))
    other = ibis.schema({"Text": "string", "at": "timestamp", "n": "float64"})
    session.write(TableName(schema, "two"), other, iter([]))
    session.repoint_view(view, TableName(schema, "two"))
    found = session.describe(view, other.names)
    assert found.names == other.names
    assert found["Text"].is_string()
    assert found["at"].is_timestamp()
    assert found["n"].is_floating()


@pytest.mark.area("Views: they show what they are pointed at")
def test_view_into_another_schema(target: Target, session: Session, schema: str) -> None:
    other = target.new_schema()
    _put(session, TableName(schema, "one"), 1)
    session.repoint_view(TableName(other, "view"), TableName(schema, "one"))
    assert _values(session, TableName(other, "view")) == [1]
    target.drop(other)
    assert session.tables(schema) == {"one"}


@pytest.mark.area("Schemas and tables: made and dropped")
def test_schemas(target: Target, session: Session) -> None:
    name = target.new_schema()
    session.create_schema(name)
    _put(session, TableName(name, "t"), 1)
    session.repoint_view(TableName(name, "v"), TableName(name, "t"))
    target.drop(name)
    session.drop_schema(name)
    assert session.tables(name) == set()


@pytest.mark.area("Schemas and tables: made and dropped")
def test_tables(session: Session, schema: str) -> None:
    assert session.tables(schema) == set()
    _put(session, TableName(schema, "one"), 1)
    assert session.tables(schema) == {"one"}
    session.drop_table(TableName(schema, "one"))
    session.drop_table(TableName(schema, "one"))
    assert session.tables(schema) == set()


@pytest.mark.area("Schemas and tables: made and dropped")
def test_create_table(session: Session, schema: str) -> None:
    columns = ibis.schema({"k": "string", "n": "int64", "x": "float64", "at": "timestamp"})
    for _again in range(2):
        session.create_table(TableName(schema, "t"), columns, ["k"])
    assert session.describe(TableName(schema, "t"), columns.names).names == columns.names
    assert rows_of(session.fetch(physical(TableName(schema, "t"), columns))) == []


def _rows(session: Session, schema: str, *numbers: int) -> TableName:
    name = TableName(schema, "rows")
    session.create_table(name, ibis.schema({"n": "int64", "s": "string"}))
    session.insert(name, [{"n": n, "s": f"row {n}"} for n in numbers])
    return name


def _is(number: int) -> sge.Condition:
    return sge.column("n", quoted=True).eq(sge.Literal.number(number))


@pytest.mark.area("Rows inserted, updated, deleted")
def test_insert(session: Session, schema: str) -> None:
    name = TableName(schema, "rows")
    columns = {"n": "int64", "s": "string", "x": "float64", "d": "decimal(12, 3)", "b": "boolean", "at": "timestamp"}
    session.create_table(name, ibis.schema(columns))
    at = datetime.datetime(2024, 2, 29, 23, 59, 59, 123456)
    texts = [
        "",
        "it's",
        'quo"ted',
        "back\\slash \\n \\'",
        "line\nbreak\ttab\r",
        "👩‍🚀 שלום",
        "%s {} $1 ? :x -- /* */",
        "NULL",
        "`",
    ]
    rows: list[dict[str, Any]] = [
        {"n": n, "s": s, "x": 0.1 * n, "d": decimal.Decimal("-12345.678"), "b": n % 2 == 0, "at": at}
        for n, s in enumerate(texts)
    ]
    rows += [dict.fromkeys(columns), {"n": -(2**63), "s": "y" * 20_000, "x": -1e300, "d": 0, "b": True, "at": at}]
    session.insert(name, rows)
    session.insert(name, [])
    made = session.describe(name, list(columns))
    check_rows(rows_of(session.fetch(physical(name, made))), [tuple(row.values()) for row in rows])


@pytest.mark.area("Rows inserted, updated, deleted")
def test_query(session: Session, schema: str) -> None:
    name = _rows(session, schema, 1, 2)
    query = sge.select(sge.column("n", quoted=True), sge.column("s", quoted=True))
    found = session.query(query.from_(sge.table_(name.table, db=name.schema, quoted=True)).where(_is(2)))
    assert found == [{"n": 2, "s": "row 2"}]


@pytest.mark.area("Rows inserted, updated, deleted")
def test_update(session: Session, schema: str) -> None:
    name = _rows(session, schema, 1, 1, 2)
    texts = ['it\'s "new" \\ 👩‍🚀', None]
    assert session.update(name, {"s": texts[0]}, _is(1)) == 2
    assert session.update(name, {"s": texts[1], "n": 7}, _is(2)) == 1
    assert session.update(name, {"n": 8}, _is(9)) == 0
    found = session.fetch(physical(name, session.describe(name, ["n", "s"])))
    check_rows(rows_of(found), [(1, texts[0]), (1, texts[0]), (7, None)])


@pytest.mark.area("Rows inserted, updated, deleted")
def test_delete(session: Session, schema: str) -> None:
    name = _rows(session, schema, 1, 1, 2)
    assert session.delete(name, _is(9)) == 0
    assert session.delete(name, _is(1)) == 2
    assert count(session, physical(name, session.describe(name))) == 1


@pytest.mark.area("Rows inserted, updated, deleted")
def test_compare_and_swap(target: Target, session: Session, schema: str) -> None:
    """Of those who update the same row at the same time, expecting the same, one changes it."""
    name = _rows(session, schema, 0)
    barrier = threading.Barrier(3)

    def swap(number: int) -> int:
        with target.session() as own:
            barrier.wait()
            try:
                return own.update(name, {"n": number}, _is(0))
            except Contended:
                return 0

    with ThreadPoolExecutor(3) as pool:
        changed = list(pool.map(swap, [1, 2, 3]))
    assert sum(changed) == 1, changed
    found = rows_of(session.fetch(physical(name, session.describe(name, ["n", "s"]))))
    assert [int(row[0]) for row in found] == [changed.index(1) + 1]


@pytest.mark.area("Transactions, or statements that stand alone")
def test_transaction(target: Target, session: Session, schema: str) -> None:
    name = _rows(session, schema, 1)
    with session.transaction():
        session.insert(name, [{"n": 2, "s": ""}])
        _put(session, TableName(schema, "made"), 5)
        session.repoint_view(TableName(schema, "view"), TableName(schema, "made"))
        assert _values(session, TableName(schema, "view")) == [5]
    with target.session() as another:
        assert _values(another, TableName(schema, "view")) == [5]
        assert count(another, physical(name, another.describe(name))) == 2


@pytest.mark.area("Transactions, or statements that stand alone")
def test_transaction_that_fails(target: Target, schema: str) -> None:
    with target.session() as session:
        name = _rows(session, schema, 1)

    def fail() -> None:
        with target.session() as session, session.transaction():
            session.insert(name, [{"n": 2, "s": ""}])
            _put(session, TableName(schema, "made"), 5)
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        fail()
    happened = not target.backend.capabilities.transactional_ddl
    with target.session() as session:
        assert count(session, physical(name, session.describe(name))) == (2 if happened else 1)
        assert ("made" in session.tables(schema)) == happened


@pytest.mark.area("Sessions: several at once, interrupted, labelled")
def test_two_sessions(target: Target, session: Session, schema: str) -> None:
    with target.session() as another:
        _put(session, TableName(schema, "one"), 1)
        assert _values(another, TableName(schema, "one")) == [1]
        _put(another, TableName(schema, "two"), 2)
    assert _values(session, TableName(schema, "two")) == [2]
    assert session.tables(schema) == {"one", "two"}


@pytest.mark.area("Sessions: several at once, interrupted, labelled")
def test_interrupt(target: Target, session: Session, schema: str) -> None:
    """A query that would run for hours ends when another thread says so, and what it made is not there."""
    many = _put(session, TableName(schema, "many"), *range(3000))
    endless = many
    for number in range(4):
        endless = endless.cross_join(many.select(**{f"n{number}": many.n}))
    work = endless.aggregate(n=(_.n * _.n0 % 7 + _.n1 * _.n2 % 5 + _.n3).max())
    sessions: list[Session] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            with target.backend.session(QueryTag("conformance", "run", "endless"), sessions.append) as own:
                own.create_as(TableName(schema, "made"), work)
        except Exception as error:
            failed.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    for _try in range(60):
        thread.join(1)
        if not thread.is_alive():
            break
        sessions[0].interrupt()  # it may not have begun when this is said for the first time
    assert not thread.is_alive()
    assert [type(error) for error in failed] == [InterruptedError]
    with target.session() as another:
        assert "made" not in another.tables(schema)


@pytest.mark.area("Sessions: several at once, interrupted, labelled")
def test_label(target: Target, schema: str) -> None:
    """Whatever a tenant, run or step is called, statements stay what they are."""
    for label in [
        QueryTag("ACME corp", "run-1", "a,b,c"),
        QueryTag("te*/nant'", 'r"un\\', "-- ä 👩‍🚀 /* ; x=y"),
        QueryTag("t", "r" * 300, "s" * 300),
    ]:
        with target.backend.session(label) as session:
            assert session.query("SELECT 1 AS n") == [{"n": 1}]


@pytest.mark.area("Sessions: several at once, interrupted, labelled")
def test_engine(session: Session) -> None:
    product, _space, version = session.engine().partition(" ")
    assert product
    assert version


@pytest.mark.area("Sessions: several at once, interrupted, labelled")
def test_used(target: Target, session: Session) -> None:
    before = session.usage
    session.fetch(target.input("people").aggregate(n=_.id.max()))
    assert session.usage.statements > before.statements
    assert (session.usage.bytes is not None) == target.backend.capabilities.reports_bytes


@pytest.mark.area("Sessions: several at once, interrupted, labelled")
def test_estimate(target: Target, session: Session) -> None:
    estimate = session.estimate(target.input("people"))
    assert (estimate is not None) == target.backend.capabilities.dry_run
    assert estimate is None or estimate >= 0


@pytest.mark.area("Tables as users get them to publish from")
def test_real_table(session: Session, schema: str) -> None:
    """What publish functions get: they may execute what they make of it."""
    name, columns = TableName(schema, "rows"), ibis.schema({"Mixed": "string", "n": "int64"})
    made = session.write(name, columns, iter(pa.table({"Mixed": ["x", "y", None], "n": [1, 2, 3]}).to_batches()))
    table = session.table(name, made.columns)
    assert tuple(table.columns) == columns.names
    assert int(table.n.sum().execute()) == 6
    assert sorted(table.filter(_.Mixed.notnull()).to_pyarrow()["Mixed"].to_pylist()) == ["x", "y"]


@pytest.mark.area("Tables as users get them to publish from")
def test_block_sample(target: Target, session: Session) -> None:
    if target.backend.capabilities.block_sample:
        sample = target.input("people").sample(0.5, method="block").select("id")
        assert {row[0] for row in rows_of(session.fetch(sample))} <= set(range(1, 7))


@pytest.mark.area("Catalog: versions, environments, rollback, collection")
def test_bytes_of(session: Session, schema: str) -> None:
    first, second, other = (TableName(schema, name) for name in ("first", "Second", "other"))
    for name in (first, second, other):
        _put(session, name, *range(5000))
    if session.dialect.name == "duckdb":  # before, they stand in the write-ahead log, and have no blocks
        session.execute("CHECKPOINT")
    each = [session.bytes_of([name]) for name in (first, second)]
    assert all(each)
    assert session.bytes_of([first, second]) == sum(size or 0 for size in each)
    assert session.bytes_of([]) == 0

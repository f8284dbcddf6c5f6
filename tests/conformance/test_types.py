"""Every type goes into a warehouse and comes back the same, by both ways in and both ways out."""

from __future__ import annotations

import datetime
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import ibis
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from entrepot.backends import Session
from entrepot.backends.base import physical
from tests.conformance.target import Target, parquet
from tests.conformance.together import asked_for, holds
from tests.conformance.types import CASES, TypeCase, family
from tests.conformance.values import check_rows, document, rows_of

COLUMNS = 300


def _plain(case: TypeCase, value: Any) -> Any:
    """A value, however Arrow gave it to Python."""
    dtype = ibis.dtype(case.dtype)
    if value is None:
        return None
    if dtype.is_json():
        return ("document", document(value))
    if dtype.is_map():
        return sorted(value.items() if isinstance(value, dict) else value)
    return value


@dataclass(frozen=True)
class Arrived:
    """What is in the warehouse: the types of its columns, and the rows as they are read from there."""

    columns: ibis.Schema
    rows: pa.Table


def _check(case: TypeCase, arrived: Arrived, target: Target) -> None:
    found, wanted = family(arrived.columns["value"]), family(ibis.dtype(case.dtype))
    if wanted == "timestamp" and not target.backend.capabilities.zones:
        wanted = found
    assert arrived.columns.names == ("id", "value")
    assert found == wanted
    rows = [(i, _plain(case, v)) for i, v in rows_of(arrived.rows)]
    check_rows(rows, [(i, _plain(case, v)) for i, v in rows_of(case.table())], tolerance=0)


def _loaded(target: Target, session: Session, schema: ibis.Schema, table: pa.Table) -> Arrived:
    name = target.new_name()
    with parquet(table) as path:
        made = session.load(name, [path], schema)
    assert made.rows == table.num_rows
    return Arrived(made.columns, session.read(physical(name, made.columns)).read_all())


def _written(target: Target, session: Session, schema: ibis.Schema, table: pa.Table) -> Arrived:
    name = target.new_name()
    made = session.write(name, schema, iter(table.to_batches(max_chunksize=2)), table.schema)
    assert made.rows == table.num_rows
    return Arrived(made.columns, session.fetch(physical(name, made.columns)))


class Together:
    """The columns of all cases in one table, which comes by one of the two ways when it is first asked for.

    A column that is shorter than another begins again, and its first rows alone are its case's.
    """

    def __init__(self, way: Callable[..., Arrived], target: Target, cases: Sequence[TypeCase]) -> None:
        self._way, self._target, self._cases = way, target, cases

    @functools.cached_property
    def _arrived(self) -> Arrived | None:
        tables = {case.id: case.table() for case in self._cases}
        longest = range(max((table.num_rows for table in tables.values()), default=0))
        columns = {
            id: table["value"].take(pa.array([n % table.num_rows for n in longest])) for id, table in tables.items()
        }
        together = pa.table({"id": pa.array(longest, pa.int64()), **columns})
        schema = ibis.schema({"id": "int64", **{case.id: case.dtype for case in self._cases}})
        try:
            with self._target.session() as session:
                return self._way(self._target, session, schema, together)
        except Exception:
            return None

    def of(self, case: TypeCase) -> Arrived | None:
        """What came of a case; None if it has to come alone."""
        if self._arrived is None or case not in self._cases:
            return None
        rows = self._arrived.rows.select(["id", case.id]).rename_columns(["id", "value"])
        own = rows.filter(pc.less(rows["id"], case.table().num_rows))
        return Arrived(ibis.schema({"id": "int64", "value": self._arrived.columns[case.id]}), own)


@pytest.fixture(scope="session")
def loaded(request: pytest.FixtureRequest, target: Target) -> Together:
    return Together(_loaded, target, asked_for(request.session.items, "test_load", target.backend.name))


@pytest.fixture(scope="session")
def written(request: pytest.FixtureRequest, target: Target) -> Together:
    return Together(_written, target, asked_for(request.session.items, "test_write", target.backend.name))


def _alone(way: Callable[..., Arrived], case: TypeCase, target: Target, session: Session) -> None:
    schema = ibis.schema({"id": "int64", "value": case.dtype})
    _check(case, way(target, session, schema, case.table()), target)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
class TestTypes:
    def test_load(self, case: TypeCase, target: Target, session: Session, loaded: Together) -> None:
        arrived = loaded.of(case)
        if arrived is None or not holds(functools.partial(_check, case, arrived, target)):
            _alone(_loaded, case, target, session)

    def test_write(self, case: TypeCase, target: Target, session: Session, written: Together) -> None:
        arrived = written.of(case)
        if arrived is None or not holds(functools.partial(_check, case, arrived, target)):
            _alone(_written, case, target, session)


@pytest.mark.area("Tables without rows, of one column, of 300 columns")
def test_no_rows(target: Target, session: Session) -> None:
    name = target.new_name()
    schema = ibis.schema({"id": "int64", "s": "string", "at": "timestamp('UTC')", "d": "decimal(10, 2)"})
    with parquet(schema.to_pyarrow().empty_table()) as path:
        made = session.load(name, [path], schema)
    assert (made.rows, made.columns.names) == (0, schema.names)
    assert rows_of(session.read(physical(name, made.columns))) == []


@pytest.mark.area("Tables without rows, of one column, of 300 columns")
def test_no_batches(target: Target, session: Session) -> None:
    name = target.new_name()
    made = session.write(name, ibis.schema({"id": "int64", "s": "string"}), iter([]))
    assert (made.rows, made.columns.names) == (0, ("id", "s"))


@pytest.mark.area("Tables without rows, of one column, of 300 columns")
def test_one_column_of_nulls(target: Target, session: Session) -> None:
    name = target.new_name()
    table = pa.table({"s": pa.nulls(3, pa.string())})
    with parquet(table) as path:
        made = session.load(name, [path], ibis.schema({"s": "string"}))
    assert rows_of(session.read(physical(name, made.columns))) == [(None,)] * 3


@pytest.mark.area("Tables without rows, of one column, of 300 columns")
def test_many_columns(target: Target, session: Session) -> None:
    name = target.new_name()
    table = pa.table({f"c{number}": [number, None] for number in range(COLUMNS)})
    with parquet(table) as path:
        made = session.load(name, [path], ibis.schema(dict.fromkeys(table.column_names, "int64")))
    assert made.columns.names == tuple(table.column_names)
    check_rows(rows_of(session.read(physical(name, made.columns))), [tuple(range(COLUMNS)), (None,) * COLUMNS])


@pytest.mark.area("Several files, other column types in the file")
def test_several_files(target: Target, session: Session) -> None:
    name = target.new_name()
    schema = ibis.schema({"id": "int64", "s": "string"})
    with (
        parquet(pa.table({"id": [1, 2], "s": ["a", None]})) as one,
        parquet(pa.table({"id": [3], "s": ["ä"]})) as two,
    ):
        made = session.load(name, [one, two], schema)
    assert made.rows == 3
    check_rows(rows_of(session.read(physical(name, made.columns))), [(1, "a"), (2, None), (3, "ä")])


@pytest.mark.area("Several files, other column types in the file")
def test_columns_of_other_types(target: Target, session: Session) -> None:
    """The schema decides, not the file: a source that has narrower types one day changes no table."""
    name = target.new_name()
    schema = ibis.schema({"a": "int64", "b": "float64", "c": "decimal(12, 2)", "d": "timestamp"})
    table = pa.table(
        {
            "a": pa.array([1], pa.int16()),
            "b": pa.array([2], pa.int32()),
            "c": pa.array([3], pa.int64()),
            "d": pa.array([0], pa.timestamp("ms")),
        }
    )
    with parquet(table) as path:
        made = session.load(name, [path], schema)
    check_rows(rows_of(session.read(physical(name, made.columns))), [(1, 2.0, 3, datetime.datetime(1970, 1, 1))])


@pytest.mark.area("Several files, other column types in the file")
def test_columns_in_another_order(target: Target, session: Session) -> None:
    name = target.new_name()
    with parquet(pa.table({"b": ["x"], "a": [1]})) as path:
        made = session.load(name, [path], ibis.schema({"a": "int64", "b": "string"}))
    assert made.columns.names == ("a", "b")
    check_rows(rows_of(session.read(physical(name, made.columns))), [(1, "x")])


@pytest.mark.area("Reading in batches")
def test_many_rows(target: Target, session: Session) -> None:
    name = target.new_name()
    count = 120_000
    table = pa.table({"id": range(count), "s": [f"row {n}" for n in range(count)]})
    with parquet(table) as path:
        made = session.load(name, [path], ibis.schema({"id": "int64", "s": "string"}))
    assert made.rows == count
    seen = 0
    for batch in session.read(physical(name, made.columns)):
        seen += batch.num_rows
    assert seen == count

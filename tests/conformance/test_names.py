"""Names mean the same everywhere: what a user writes is what a user reads."""

from __future__ import annotations

import ibis
import pyarrow as pa
import pytest

from entrepot.backends import CreatedTable, Session, TableName
from entrepot.backends.base import physical
from entrepot.errors import BadInput
from tests.conformance.names import CASES, NameCase
from tests.conformance.target import Target, parquet
from tests.conformance.values import check_rows, rows_of

SEVERAL = 4
"""Tables of one schema: each costs several statements."""


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
class TestNames:
    def test_column(self, case: NameCase, target: Target, session: Session) -> None:
        loaded, written, made_of, view = (target.new_name() for _ in range(4))
        table = pa.table({name: [number] for number, name in enumerate(case.names)})
        schema = ibis.schema(dict.fromkeys(case.names, "int64"))
        row = tuple(range(len(case.names)))
        with parquet(table) as path:
            made = session.load(loaded, [path], schema)
        assert made.columns.names == tuple(case.names)
        assert session.write(written, schema, iter(table.to_batches())).columns.names == tuple(case.names)
        expression = physical(loaded, made.columns)
        first = case.names[0]
        expression = expression.filter(expression[first] == 0).mutate(**{first: expression[first] + 1})
        derived = session.create_as(made_of, expression.order_by(first))
        assert derived.columns.names == tuple(case.names)
        session.repoint_view(view, made_of)
        columns = session.describe(view, case.names)
        assert columns.names == tuple(case.names)
        found = session.read(physical(view, columns))
        assert found.schema.names == list(case.names)
        check_rows(rows_of(found), [(1, *row[1:])])

    def test_table(self, case: NameCase, target: Target, session: Session, schema: str) -> None:
        names = case.names[:SEVERAL]
        for number, name in enumerate(names):
            session.write(
                TableName(schema, name), ibis.schema({"n": "int64"}), iter(pa.table({"n": [number]}).to_batches())
            )
            session.repoint_view(TableName(schema, f"{name}_view"), TableName(schema, name))
        assert session.tables(schema) == {*names, *(f"{name}_view" for name in names)}
        for number, name in enumerate(names):
            view = physical(TableName(schema, f"{name}_view"), ibis.schema({"n": "int64"}))
            assert rows_of(session.read(view)) == [(number,)]

    def test_schema(self, case: NameCase, target: Target, session: Session) -> None:
        made = target.new_schema(f"_{case.names[0]}")
        session.create_as(TableName(made, "t"), target.input("wide").select("id"))
        assert session.tables(made) == {"t"}
        target.drop(made)
        assert session.tables(made) == set()


@pytest.mark.area("Names that fold into one another are refused")
@pytest.mark.parametrize("way", ["load", "write", "create_as"])
def test_folding(way: str, target: Target, session: Session) -> None:
    name, table = target.new_name(), pa.table({"a": [1], "A": [2]})
    schema = ibis.schema({"a": "int64", "A": "int64"})
    with pytest.raises(BadInput, match="'a' and 'A' differ only in case"):
        _make(way, session, name, schema, table, target)
    assert name.table not in session.tables(target.schema)


@pytest.mark.area("Names that are too long are refused")
@pytest.mark.parametrize("way", ["load", "write", "create_as"])
def test_too_long_a_column(way: str, target: Target, session: Session) -> None:
    longest = target.backend.dialect.identifiers.longest_column
    name, long = target.new_name(), "c" * (longest + 1)
    with pytest.raises(BadInput, match=rf"{longest + 1} (characters|bytes) of {longest}"):
        _make(way, session, name, ibis.schema({long: "int64"}), pa.table({long: [1]}), target)
    fits = "c" * longest
    made = _make(way, session, name, ibis.schema({fits: "int64"}), pa.table({fits: [1]}), target)
    assert made.columns.names == (fits,)


@pytest.mark.area("Names that are too long are refused")
def test_too_long_a_table(target: Target, session: Session) -> None:
    longest = target.backend.dialect.identifiers.longest_table
    name = TableName(target.schema, "t" * (longest + 1))
    with pytest.raises(BadInput, match=rf"{longest + 1} (characters|bytes) of {longest}"):
        session.create_as(name, target.input("wide"))


def _make(
    way: str, session: Session, name: TableName, schema: ibis.Schema, table: pa.Table, target: Target
) -> CreatedTable:
    if way == "write":
        return session.write(name, schema, iter(table.to_batches()), table.schema)
    if way == "load":
        with parquet(table) as path:
            return session.load(name, [path], schema)
    wide = target.input("wide")
    return session.create_as(name, wide.select(**dict.fromkeys(schema.names, wide.q1)))

"""What our compilers change of ibis's."""

from __future__ import annotations

import inspect

import ibis
import pytest
from ibis.backends.sql.compilers.base import SQLGlotCompiler

from entrepot.backends import TableName, dialect
from entrepot.backends.base import physical

BACKENDS = ["duckdb", "snowflake", "bigquery", "databricks"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_ibis_replaces_none_of_our_methods(backend: str) -> None:
    compiler: type[SQLGlotCompiler] = dialect(backend).compiler
    ours = [line.strip() for line in inspect.getsource(compiler).splitlines() if line.startswith("    def visit_")]
    assert ours
    for line in ours:
        name = line.removeprefix("def ").partition("(")[0]
        assert getattr(compiler, name).__module__ == compiler.__module__, name


@pytest.mark.parametrize("backend", BACKENDS)
def test_columns_of_tables_go_by_name(backend: str) -> None:
    """A table may really have others, too, or have them in another order."""
    one, other = (physical(TableName("v", name), ibis.schema({"id": "int64", "n": "int64"})) for name in ("a", "b"))
    some = one.filter(one.n > 0)
    for expression in (
        one,
        one.union(other),
        one.distinct(),
        some.union(other.sample(0.5)),
        one.anti_join(other, "id"),
    ):
        sql = dialect(backend).compile(expression).lower()
        sides = sql.split("select ")[1:]
        assert sides
        for side in sides:
            chosen, _, source = side.partition(" from ")
            assert chosen != "*" or source.startswith("("), sql

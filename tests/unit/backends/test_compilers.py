"""What our compilers change of ibis's."""

from __future__ import annotations

import inspect

import pytest
from ibis.backends.sql.compilers.base import SQLGlotCompiler

from backends import dialect

BACKENDS = ["duckdb", "snowflake", "bigquery", "databricks"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_ibis_replaces_none_of_our_methods(backend: str) -> None:
    compiler: type[SQLGlotCompiler] = dialect(backend)._compiler
    ours = [line.strip() for line in inspect.getsource(compiler).splitlines() if line.startswith("    def visit_")]
    assert ours
    for line in ours:
        name = line.removeprefix("def ").partition("(")[0]
        assert getattr(compiler, name).__module__ == compiler.__module__, name

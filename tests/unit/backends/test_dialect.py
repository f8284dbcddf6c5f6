"""What a dialect refuses is refused in a sentence that names the column and its type."""

from __future__ import annotations

import ibis
import pytest

from entrepot import backends
from entrepot.errors import BadInput


@pytest.mark.parametrize(
    ("backend", "dtype"),
    [
        ("snowflake", "decimal(39, 2)"),
        ("snowflake", "interval('s')"),
        ("bigquery", "array<array<int64>>"),
        ("bigquery", "map<string, int64>"),
        ("databricks", "time"),
        ("databricks", "interval('s')"),
    ],
)
def test_a_column_of_a_type_that_there_is_not(backend: str, dtype: str) -> None:
    schema = ibis.schema({"fine": "int64", "odd": dtype})
    with pytest.raises(BadInput, match=r"column 'odd': .*; cast 'odd' from .* to another type first") as raised:
        backends.dialect(backend).definitions(schema)
    assert dtype.partition("(")[0].partition("<")[0] in str(raised.value)


@pytest.mark.parametrize("backend", ["duckdb", "snowflake", "bigquery", "databricks"])
def test_definitions_are_names_with_types(backend: str) -> None:
    dialect = backends.dialect(backend)
    schema = ibis.schema({"n": "int64", "Two words": "string"})
    assert dialect.definitions(schema) == {
        name: f"{dialect.identifier(name)} {dialect.type(dtype)}" for name, dtype in schema.items()
    }

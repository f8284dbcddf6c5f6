"""What Databricks is, as data: its SQL, its names, and what it can do."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Any

import ibis.expr.datatypes as dt
import ibis.expr.schema as sch

from entrepot.backends.base import Capabilities
from entrepot.backends.databricks.compiler import Compiler
from entrepot.backends.databricks.digest import FORMULAS
from entrepot.backends.databricks.types import Types
from entrepot.backends.dialect import Dialect, Identifiers


def _may_be(char: str) -> bool:
    """Whether Unity Catalog has a character in the names of schemas and tables."""
    return char not in " ./" and unicodedata.category(char) != "Cc"


DIALECT = Dialect(
    name="databricks",
    compiler=Compiler,
    types=Types,
    formulas=FORMULAS,
    identifiers=Identifiers(longest_table=255, longest_column=255, in_table=_may_be, in_schema=_may_be),
)

CAPABILITIES = Capabilities(transactional_ddl=False, clone=True, time_travel=True, tagged_by="query tag")


def casts(schema: sch.Schema) -> str:
    """Columns of files, cast to these types: what stands between SELECT and FROM."""

    def cast(name: str, dtype: dt.DataType) -> str:
        # CAST would make a VARIANT that holds the text.
        quoted = DIALECT.identifier(name)
        return f"parse_json({quoted}) AS {quoted}" if dtype.is_json() else DIALECT.casts(sch.Schema({name: dtype}))

    return ", ".join(cast(name, dtype) for name, dtype in schema.items())


def spelled(described: Mapping[str, Any]) -> str:
    """A type as SQL has it, from what DESCRIBE says in JSON."""
    name = described["name"]
    if name == "struct":
        fields = (f"{DIALECT.identifier(f['name'])}: {spelled(f['type'])}" for f in described["fields"])
        return f"STRUCT<{', '.join(fields)}>"
    if name == "array":
        return f"ARRAY<{spelled(described['element_type'])}>"
    if name == "map":
        return f"MAP<{spelled(described['key_type'])}, {spelled(described['value_type'])}>"
    if name == "decimal":
        return f"DECIMAL({described['precision']}, {described['scale']})"
    if name == "interval":
        return f"INTERVAL {described['start_unit']} TO {described['end_unit']}"
    return str(name)

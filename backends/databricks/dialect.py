"""What Databricks is, as data: its SQL, its names, and what it can do."""

from __future__ import annotations

import unicodedata

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

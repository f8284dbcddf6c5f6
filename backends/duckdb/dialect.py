"""What DuckDB is, as data: its SQL, its names, and what it can do."""

from __future__ import annotations

from entrepot.backends.base import Capabilities
from entrepot.backends.dialect import Dialect, Identifiers
from entrepot.backends.duckdb.compiler import Compiler
from entrepot.backends.duckdb.digest import FORMULAS
from entrepot.backends.duckdb.types import Types

DIALECT = Dialect(
    name="duckdb",
    compiler=Compiler,
    types=Types,
    formulas=FORMULAS,
    python_functions=True,
    identifiers=Identifiers(longest_table=1000, longest_column=1000),
)

CAPABILITIES = Capabilities(
    transactional_ddl=True, primary_keys=True, block_sample=True, statistics=True, unsigned=True
)

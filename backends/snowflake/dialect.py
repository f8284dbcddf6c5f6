"""What Snowflake is, as data: its SQL, its names, and what it can do."""

from __future__ import annotations

from entrepot.backends.base import Capabilities
from entrepot.backends.dialect import Dialect, Identifiers
from entrepot.backends.snowflake.compiler import Compiler
from entrepot.backends.snowflake.digest import FORMULAS
from entrepot.backends.snowflake.types import LARGEST_DECIMAL, Types

DIALECT = Dialect(
    name="snowflake",
    compiler=Compiler,
    types=Types,
    formulas=FORMULAS,
    identifiers=Identifiers(longest_table=255, longest_column=255, capitals=True),
)

CAPABILITIES = Capabilities(
    transactional_ddl=False,
    block_sample=True,
    clone=True,
    time_travel=True,
    tagged_by="query tag",
    largest_decimal=LARGEST_DECIMAL,
)

"""What PostgreSQL is, as data: its SQL, its names, and what it can do."""

from __future__ import annotations

from entrepot.backends.base import Capabilities
from entrepot.backends.dialect import Dialect, Identifiers

from .compiler import Compiler
from .digest import FORMULAS
from .types import Types

CAPABILITIES = Capabilities(transactional_ddl=True, primary_keys=True, block_sample=True)

DIALECT = Dialect(
    name="postgres",
    compiler=Compiler,
    types=Types,
    formulas=FORMULAS,
    # What is longer is cut off without a word.
    identifiers=Identifiers(longest_table=63, longest_column=63, in_bytes=True),
)

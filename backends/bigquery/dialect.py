"""What BigQuery is, as data: its SQL, its names, and what it can do."""

from __future__ import annotations

import unicodedata

from entrepot.backends.base import Capabilities
from entrepot.backends.bigquery.compiler import Compiler
from entrepot.backends.bigquery.digest import FORMULAS
from entrepot.backends.bigquery.types import Types
from entrepot.backends.dialect import Dialect, Identifiers

_IN_TABLES = {"Pc", "Pd", "Zs"}
"""Categories of Unicode, besides letters, marks and numbers, of the characters that a table's name may have."""

DIALECT = Dialect(
    name="bigquery",
    compiler=Compiler,
    types=Types,
    formulas=FORMULAS,
    identifiers=Identifiers(
        longest_table=1024,
        longest_column=300,
        in_column=lambda char: char not in '!"$()*,./;?@[\\]^`{}~\n',
        in_table=lambda char: unicodedata.category(char) in _IN_TABLES or unicodedata.category(char)[0] in "LMN",
        in_schema=lambda char: char == "_" or (char.isascii() and char.isalnum()),
        reserved_prefixes=(
            "_TABLE_",
            "_FILE_",
            "_PARTITION",
            "_ROW_TIMESTAMP",
            "__ROOT__",
            "_COLIDENTIFIER",
            "_CHANGE_SEQUENCE_NUMBER",
            "_CHANGE_TYPE",
            "_CHANGE_TIMESTAMP",
        ),
    ),
)

CAPABILITIES = Capabilities(
    transactional_ddl=False,
    block_sample=True,
    clone=True,
    dry_run=True,
    reports_bytes=True,
    time_travel=True,
    tagged_by="job labels",
    largest_decimal=(76, 38),
)

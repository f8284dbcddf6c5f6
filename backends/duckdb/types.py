"""DuckDB's types, where ibis has others."""

from __future__ import annotations

from ibis.backends.sql.datatypes import DuckDBType


class Types(DuckDBType):  # type: ignore[misc]
    """A decimal of no digits in particular has those that it has elsewhere, and not three places."""

    default_decimal_precision, default_decimal_scale = 38, 9

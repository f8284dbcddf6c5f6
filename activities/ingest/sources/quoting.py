"""Names and texts in the SQL of DuckDB and PostgreSQL, which both quote as the standard does."""

from __future__ import annotations


def quoted(name: str) -> str:
    """A name for SQL."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text for SQL."""
    return "'" + text.replace("'", "''") + "'"

"""Tables of SQLite files, as pipelines name them. What reads them is in `reading`, and is imported by workers alone."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SqliteTable:
    """A table or view of a SQLite file: `SqliteTable("/data/shop.sqlite", "orders", cursor="id")`.

    Attributes:
        path: Of the file.
        table: Its name.
        cursor: The column of numbers or texts by which new rows are known: its values only grow.
    """

    path: str
    table: str
    cursor: str | None = None

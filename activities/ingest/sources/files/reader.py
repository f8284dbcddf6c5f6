"""What the readers of CSV and JSON have in common: the table that they fill, and what they make of a chunk."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import duckdb

from entrepot.activities.ingest.sources.files.column_types import Columns
from entrepot.activities.ingest.sources.files.folders import KnownColumns
from entrepot.activities.ingest.sources.files.text import Chunk, Place
from entrepot.activities.ingest.sources.naming import check_apart, name_of
from entrepot.activities.ingest.sources.quoting import literal, quoted
from entrepot.language.sources import Files

Own = Mapping[str, Mapping[str, str | int]]
"""Files, each with the columns in which its rows say which one they are from, and what those hold."""

FILE_COLUMN = "_file"
"""With `append`, says which file a row is from."""


class Rejected(NamedTuple):
    """A row that could not be taken."""

    line: int
    reason: str
    content: str


@dataclass(frozen=True)
class Part:
    """A chunk as Parquet. Columns of the kind `null` have no type there."""

    rows: int
    path: Path
    rejected: list[Rejected]


@dataclass(frozen=True)
class TextTable:
    """The table that files of CSV or JSON fill."""

    files: Files
    connection: duckdb.DuckDBPyConnection
    folder: Path
    """For what is written on the way."""
    columns: Columns
    """Those that were met so far; readers add to them."""
    own: Own
    begins: Mapping[str, Any]
    """The kinds that columns have already, from loads before."""
    known: Callable[[str], KnownColumns]
    """The columns of a file that are known before it is read."""


class Reader(Protocol):
    """Turns chunks of a table's files into Parquet."""

    columns: Columns

    def chunks(self, path: str, start: Place) -> Iterator[Chunk]:
        """A file's chunks from a place on."""

    def part(self, path: str, chunk: Chunk, target: Path) -> Part:
        """One chunk as Parquet, and the rows that were set aside."""


def named(columns: Mapping[str, str], files: Files, path: str = "", header: Sequence[str] = ()) -> dict[str, str]:
    """The same, by the names that the columns have in the warehouse.

    Args:
        header: All columns of a file, in which one may be twice.

    Raises:
        StepFailed: if two columns have one name.
    """
    names = {column: name_of(column, files.rename) for column in columns}
    where = f"the columns of {path or files.path!r}"
    check_apart([(column, names[column]) for column in header or names], where, "tell them apart by `rename`")
    return {name: columns[column] for column, name in names.items()}


def constants(own: Own, path: str) -> list[str]:
    """SQL for the columns in which rows say which file they are from."""
    columns = own.get(path, {}).items()
    return [f"{literal(v) if isinstance(v, str) else f'{v}::BIGINT'} AS {quoted(n)}" for n, v in columns]

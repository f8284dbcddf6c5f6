"""What readers of text make of a chunk of a file, and the names that columns have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from entrepot.activities.ingest.sources.naming import check_apart, name_of
from entrepot.activities.ingest.sources.quoting import literal, quoted
from entrepot.language.sources import Files

Columns = dict[str, Any]
"""The columns met so far, in order, and the kind of each: see files_types.py and files_json.py."""

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

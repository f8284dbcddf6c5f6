"""What readers of text make of a chunk of a file, and the names that columns have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from dlt.common.normalizers.naming.snake_case import NamingConvention

from activities.sources.quoting import literal, quoted
from entrepot.errors import StepFailed, listed

Columns = dict[str, Any]
"""The columns met so far, in order, and the kind of each: see files_types.py and files_json.py."""

Own = Mapping[str, Mapping[str, str | int]]
"""Files, each with the columns in which its rows say which one they are from, and what those hold."""

FILE_COLUMN = "_file"
"""With `append`, says which file a row is from."""

_NAMING = NamingConvention()


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


def name_of(column: str) -> str:
    """A column's name in the warehouse: as dlt would name it."""
    return str(_NAMING.normalize_path(column))


def named(columns: Mapping[str, str], path: str = "", count: int | None = None) -> dict[str, str]:
    """The same, by the names that the columns have in the warehouse.

    Raises:
        StepFailed: if two columns have one name.
    """
    names = {column: name_of(column) for column in columns}
    twice = sorted(name for name, times in Counter(names.values()).items() if times > 1)
    if twice or len(names) != (count if count is not None else len(names)):
        where = f" of {path!r}" if path else ""
        raise StepFailed(f"two columns{where} have one name: {listed(twice or names)}")
    return {name: columns[column] for column, name in names.items()}


def constants(own: Own, path: str) -> list[str]:
    """SQL for the columns in which rows say which file they are from."""
    columns = own.get(path, {}).items()
    return [f"{literal(v) if isinstance(v, str) else f'{v}::BIGINT'} AS {quoted(n)}" for n, v in columns]

"""Folders such as `year=2024`: what they say becomes columns of the rows of their files.

A column is of whole numbers, or of dates, where text made of each is again what the folder says; else it is text. So
`month=01` loses nothing, and no two folders become one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
from ibis.backends.sql.datatypes import DuckDBType

from entrepot.activities.ingest.sources.files import column_types as types
from entrepot.activities.ingest.sources.files.column_types import Columns
from entrepot.activities.ingest.sources.naming import check_apart, name_of
from entrepot.activities.ingest.sources.quoting import literal, quoted
from entrepot.errors import BadInput, StepFailed, listed
from entrepot.language.sources import Files

NOTHING = "__HIVE_DEFAULT_PARTITION__"
"""What Hive, Spark and DuckDB call the folder of rows that have NULL."""

_KINDS = ("whole", "bigint", "date", "varchar")


@dataclass(frozen=True)
class FolderColumn:
    """A column of which a file's folder says what it holds. What the file says itself must be the same, or NULL.

    Readers take it for a declared one, see column_types.Declared.
    """

    declared: types.Declared
    given: str | None

    takes_all = False
    takes_digits = True
    is_number = False

    @property
    def type(self) -> str:
        """DuckDB's."""
        return self.declared.type

    @property
    def text(self) -> str:
        """What a value has to be, in words."""
        return f"{'NULL' if self.given is None else repr(self.given)}, which the folder says"

    @property
    def absent(self) -> str:
        """SQL for the value where the file does not say it."""
        return self.declared.absent if self.given is None else self.declared.value(literal(self.given))

    def value(self, text: str) -> str:
        """The same: what fits is equal."""
        return self.absent

    def fits(self, text: str, cast: str | None = None) -> str:
        """SQL for whether a text, which is not NULL, says the same."""
        if self.given is None:
            return "(false)"
        return f"({self.declared.fits(text)} AND {self.declared.value(text)} = {self.absent})"


KnownColumns = Mapping[str, types.Declared | FolderColumn]
"""The columns of a file that are known before it is read: declared ones, and those that its folders give."""


def add_folder_columns(columns: Columns, known: KnownColumns) -> None:
    """Adds what folders give to the columns that were met."""
    for name, column in known.items():
        if isinstance(column, FolderColumn):
            columns.setdefault(name, "null")


def folders(path: str) -> list[tuple[str, str | None]]:
    """What the folders of a path say, from above, in the file's own words.

    Raises:
        StepFailed: if they are not of UTF-8.
    """
    parts = [part.partition("=") for part in path.split("/")[:-1]]
    try:
        found = [
            (unquote(key, errors="strict"), unquote(text, errors="strict")) for key, is_, text in parts if key and is_
        ]
    except UnicodeDecodeError as error:
        raise StepFailed(f"the folders of {path!r} cannot be read: {error}") from error
    return [(key, None if text == NOTHING else text) for key, text in found]


def columns_of(
    paths: Sequence[str], files: Files, declared: Mapping[str, types.Declared], begins: Mapping[str, Any]
) -> dict[str, dict[str, FolderColumn]]:
    """For each file the columns that its folders give.

    Args:
        begins: The kinds (see column_types.py) that columns have already.

    Raises:
        BadInput: if the folders tell none.
        StepFailed: if they tell other ones of one file than of another, or what is not of a declared type.
    """
    by_path = _values_of_folders(paths, files)
    columns = {}
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        for name in by_path[paths[0]]:
            texts = list(dict.fromkeys(values[name] for values in by_path.values()))
            columns[name] = declared.get(name) or _inferred(connection, name, texts, types.scalar(begins.get(name)))
            if (bad := _misfit(connection, columns[name], texts)) is not None:
                path = next(path for path, values in by_path.items() if values[name] == bad)
                raise StepFailed(f"the folders of {path!r}: {bad!r} in the column {name!r} is no {columns[name].text}")
    return {path: {n: FolderColumn(columns[n], text) for n, text in values.items()} for path, values in by_path.items()}


def _values_of_folders(paths: Sequence[str], files: Files) -> dict[str, dict[str, str | None]]:
    """What the folders of each file say, by the names that columns have in the warehouse."""
    by_path: dict[str, dict[str, str | None]] = {}
    for path in paths:
        found = [(key, name_of(key, files.rename), text) for key, text in folders(path)]
        check_apart([(key, name) for key, name, _ in found], f"the folders of {path!r}", "tell them apart by `rename`")
        by_path[path] = {name: text for _, name, text in found}
        if by_path[path].keys() != by_path[paths[0]].keys():
            one, other = (listed(list(by_path[each])) or "nothing" for each in (paths[0], path))
            raise StepFailed(
                f"the folders of {paths[0]!r} tell {one}, and those of {path!r} {other}; one table's tell the same"
            )
    if not by_path[paths[0]]:
        raise BadInput(f"no folder of {paths[0]!r} is like `year=2024`, as `hive_partitioning` takes them for columns")
    return by_path


def _inferred(connection: duckdb.DuckDBPyConnection, name: str, texts: list[str | None], begins: str) -> types.Declared:
    asked = f"SELECT {types.kinds_sql('t', (begins, *_KINDS))} FROM (SELECT unnest(?::VARCHAR[]) AS t)"
    ((found,),) = connection.execute(asked, [texts]).fetchall()
    kind = types.join(begins, found)
    return types.Declared(name, str(DuckDBType.from_string(types.SQL_TYPES[kind])))


def _misfit(connection: duckdb.DuckDBPyConnection, column: types.Declared, texts: list[str | None]) -> str | None:
    query = f"SELECT t FROM (SELECT unnest(?::VARCHAR[]) AS t) WHERE t IS NOT NULL AND NOT {column.fits('t')}"
    return next((text for (text,) in connection.execute(query, [texts]).fetchall()), None)


def with_folder_columns(rows: pa.RecordBatch, known: Mapping[str, FolderColumn], path: str) -> pa.RecordBatch:
    """Rows of a file with what its folders tell.

    Raises:
        StepFailed: if the file says otherwise.
    """
    for name, value in _values(known).items():
        column = pa.repeat(value, rows.num_rows)
        if name in rows.schema.names:
            at = rows.schema.get_field_index(name)
            if bad := _others(rows.column(at), value):
                raise StepFailed(f"the file {path!r}: {bad[0]!r} in the column {name!r} is no {known[name].text}")
            rows = rows.set_column(at, name, column)
        else:
            rows = rows.append_column(name, column)
    return rows


def _values(known: Mapping[str, FolderColumn]) -> dict[str, pa.Scalar]:
    if not known:
        return {}
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        asked = ", ".join(f"{column.absent} AS {quoted(name)}" for name, column in known.items())
        row = connection.sql(f"SELECT {asked}").to_arrow_table()
    return {name: row[name][0].cast(column.declared.dtype.to_pyarrow()) for name, column in known.items()}


def _others(column: pa.Array, value: pa.Scalar) -> list[Any]:
    """The first value of a column that is neither this one nor NULL."""
    same = pc.equal(column, value) if value.is_valid else pa.repeat(False, len(column))
    others: list[Any] = column.filter(pc.and_(pc.is_valid(column), pc.invert(pc.fill_null(same, True))))[:1].to_pylist()
    return others

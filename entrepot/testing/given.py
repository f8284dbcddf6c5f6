"""What a test gives for a table, as Arrow: rows written down, data frames, Arrow tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import ibis
import ibis.expr.datatypes as dt
import pyarrow as pa

from entrepot.activities.storage import exact_casts
from entrepot.errors import BadInput, EntrepotError, listed
from entrepot.language.example import Rows

_WHAT = "give rows as dicts, `Rows`, a data frame or an Arrow table"


def arrow_table(name: str, value: Any, declared: Mapping[str, str]) -> pa.Table:
    """The rows that were given for a table.

    Args:
        name: Of the table, for what is said of it.
        declared: The types of columns, where a step declares them. A column that no row has is not added.

    Raises:
        BadInput: if they are no rows, or have a column without a type, or values of another one.
    """
    written = value if isinstance(value, Rows) else None
    types = {**declared, **(written.types if written else {})}
    columns = {column: _dtype(name, column, text) for column, text in types.items()}
    wanted = [*written.types] if written else []
    rows = written.rows if written else value
    if isinstance(rows, Iterable) and not hasattr(rows, "__arrow_c_stream__") and not isinstance(rows, Mapping | str):
        made = _of_rows(name, [*rows], columns, wanted or ([*declared] if not rows else []))
    else:
        made = _of_table(name, rows, columns)
    if untyped := [field.name for field in made.schema if pa.types.is_null(field.type)]:
        types_of = ", ".join(f"{column!r}: 'int64'" for column in untyped)
        raise BadInput(
            f"{name!r}: only NULL is given for {listed(untyped)}, which tells no type; say it, as in "
            f"Rows([...], {{{types_of}}})"
        )
    if not made.schema.names:
        raise BadInput(f"{name!r}: no row is given, and no column known; say them, as in Rows([], {{'id': 'int64'}})")
    return made


def _dtype(name: str, column: str, text: str) -> dt.DataType:
    try:
        return ibis.dtype(text)
    except Exception:  # the parser's own
        raise BadInput(
            f"{name!r}: {text!r} of column {column!r} is no type; write one as ibis does, such as 'int64', "
            "'decimal(10, 2)', 'date' or \"timestamp('UTC')\""
        ) from None


def _of_rows(name: str, rows: list[Any], types: Mapping[str, dt.DataType], wanted: Iterable[str]) -> pa.Table:
    for number, row in enumerate(rows, 1):
        if not isinstance(row, Mapping):
            raise BadInput(f"{name!r}, row {number}: it is a {type(row).__name__}, and no dict; {_WHAT}")
    columns = dict.fromkeys([column for row in rows for column in row] + [*wanted])
    made = {}
    for column in columns:
        values = [row.get(column) for row in rows]
        wanted_type = types[column].to_pyarrow() if column in types else None
        try:
            made[str(column)] = column_of(values, wanted_type)
        except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
            what = f"no {types[column]}" if column in types else "of no one type"
            raise BadInput(f"{name!r}: the values of column {column!r} are {what}: {error}") from error
    return pa.table(made)


def column_of(values: list[Any], wanted: pa.DataType | None) -> Any:
    """Python's values as a column; text is read where the type is another.

    Raises:
        pa.ArrowException, ValueError, TypeError, OverflowError: for a value that the type does not hold.
    """
    if wanted is None:
        return pa.array(values)
    if pa.types.is_string(wanted) or not any(isinstance(value, str) for value in values):
        return exact_casts.array(values, wanted)
    if not all(value is None or isinstance(value, str) for value in values):
        raise ValueError("some are text, and others are not")
    return exact_casts.cast(pa.array(values, pa.string()), wanted)


def _of_table(name: str, given: Any, types: Mapping[str, dt.DataType]) -> pa.Table:
    if (kind := type(given)).__module__.partition(".")[0] == "pandas" and kind.__name__ == "DataFrame":
        table = pa.Table.from_pandas(given, preserve_index=False)
    elif hasattr(given, "__arrow_c_stream__"):
        table = pa.table(given)
    else:
        raise BadInput(f"{name!r}: a {kind.__name__} is given, and is no table; {_WHAT}")
    try:
        table = exact_casts.plain_table(table, f"{name!r}")
        columns = {
            field.name: exact_casts.cast(table[field.name], types[field.name].to_pyarrow())
            if field.name in types
            else table[field.name]
            for field in table.schema
        }
    except (EntrepotError, pa.ArrowException, ValueError) as error:
        raise BadInput(str(error) if isinstance(error, EntrepotError) else f"{name!r}: {error}") from error
    return pa.table(columns)

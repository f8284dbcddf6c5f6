"""How computed rows differ from those that are expected, row by row."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa

from entrepot.errors import BadInput, unknown
from entrepot.testing.given import arrow_table, column_of
from entrepot.testing.results import Result

Row = Mapping[str, Any]

TOLERANCE = 1e-9
"""By which floats may differ: in proportion to the larger, and as such near zero."""
_MOST_SHOWN = 20
_LONGEST_VALUE = 80


@dataclass(frozen=True)
class Cell:
    """A value that differs from what is expected."""

    found: Any
    expected: Any


@dataclass(frozen=True)
class RowDifference:
    """A row that is not as expected: some of its cells, or all of it, which is then missing or not expected."""

    found: Row | None
    """None: the row is missing."""
    expected: Row | None
    """None: the row is not expected."""
    number: int | None = None
    """Where the order counts: which row it is, from 1."""
    tolerance: float = TOLERANCE

    @property
    def cells(self) -> dict[str, Cell]:
        """The columns that differ, where both rows are there."""
        if self.found is None or self.expected is None:
            return {}
        pairs = {name: Cell(self.found[name], value) for name, value in self.expected.items()}
        return {name: cell for name, cell in pairs.items() if not alike(cell.found, cell.expected, self.tolerance)}

    def __str__(self) -> str:
        where = f"row {self.number}: " if self.number is not None else ""
        if self.expected is None or self.found is None:
            row = self.found if self.found is not None else self.expected
            assert row is not None
            mark, what = ("+", "not expected") if self.expected is None else ("-", "missing")
            return f"{mark} {where}{_shown(row)}   {what}"
        cells = self.cells
        texts = [
            f"{name}={_text(value)}" + (f" (expected {_text(cells[name].expected)})" if name in cells else "")
            for name, value in self.found.items()
        ]
        return f"≠ {where}{'  '.join(texts)}"


def assert_rows(
    found: Any,
    expected: Any,
    *,
    ordered: bool = False,
    columns: Sequence[str] | None = None,
    tolerance: float = TOLERANCE,
) -> None:
    """Holds rows against those that are expected, and tells row by row how they differ.

    Columns that none of the expected rows has are not compared; one that some leave out is NULL there. NULL equals NULL
    alone, and NaN equals NaN. True is not 1, and a time with a zone is none without. Text is read as a date, time or
    decimal where a column is one.

    Args:
        found: What `compute` gave; or rows as dicts, a data frame, an Arrow table.
        expected: Rows as dicts, a data frame or an Arrow table.
        ordered: Whether the order of the rows counts. Default: it does not, as tables have none.
        columns: The columns that are compared. Default: those of the expected rows.
        tolerance: By how much floats may differ: as a share of the larger, and as such near zero. Default: `1e-9`.

    Raises:
        AssertionError: If they differ.
        BadInput: If a column is unknown, or something else than rows is given.

    Examples:
        ```python
        from entrepot.testing import assert_rows

        assert_rows([{"country": "CH", "total": 0.1 + 0.2}, {"country": "FR", "total": 1.0}], [
            {"country": "FR", "total": 1},
            {"country": "CH", "total": 0.3},
        ])
        ```
    """
    result = found if isinstance(found, Result) else _result_of(found)
    wanted = [*expected] if isinstance(expected, Sequence) else _result_of(expected).rows()
    different = differences(result, wanted, ordered=ordered, columns=columns, tolerance=tolerance)
    if different:
        raise AssertionError(report(result.name, different, len(result), ordered=ordered, tolerance=tolerance))


def _result_of(value: Any) -> Result:
    name = "rows"
    if isinstance(value, Sequence) and not value:
        return Result(name, {}, pa.table({}))
    table = arrow_table(name, value, {})
    return Result(name, {field.name: str(field.type) for field in table.schema}, table)


def differences(
    result: Result,
    expected: Iterable[Row],
    *,
    ordered: bool = False,
    columns: Sequence[str] | None = None,
    tolerance: float = TOLERANCE,
) -> list[RowDifference]:
    """The rows that differ, in the order of those that are expected.

    Raises:
        BadInput: if a column is expected that the result does not have.
    """
    if not isinstance(expected, Iterable):
        raise BadInput(f"{result.name!r}: a {type(expected).__name__} is expected; write the rows as a list of dicts")
    rows = [*expected]
    for number, row in enumerate(rows, 1):
        if not isinstance(row, Mapping):
            raise BadInput(f"{result.name!r}: the expected row {number} is a {type(row).__name__}, and no dict")
    known = [*dict.fromkeys(name for row in rows for name in row)]
    # Without a row to expect there is no column either: then every row that is found is one too many, as it is.
    names = [*(columns if columns is not None else known if known else result.columns)]
    for name in names:
        if result.columns and name not in result.columns:
            raise BadInput(f"{result.name!r} is expected to have: {unknown('column', name, result.columns)}")
    types = {name: result.to_arrow().schema.field(name).type for name in names if name in result.columns}
    wanted = [{name: _read(row.get(name), types.get(name)) for name in names} for row in rows]
    found = [{name: row[name] for name in names} for row in result.rows()]
    if ordered:
        return _in_order(found, wanted, tolerance)
    return _in_any_order(found, wanted, tolerance)


def _read(value: Any, dtype: pa.DataType | None) -> Any:
    """An expected value as Python has it; text for another type is read as such, if it can be."""
    if isinstance(value, np.generic):
        return value.item()
    if not isinstance(value, str) or dtype is None or pa.types.is_string(dtype) or pa.types.is_large_string(dtype):
        return value
    try:
        return column_of([value], dtype)[0].as_py()
    except (pa.ArrowException, ValueError, TypeError, OverflowError):
        return value


def _in_order(found: Sequence[Row], wanted: Sequence[Row], tolerance: float) -> list[RowDifference]:
    different = []
    for number in range(max(len(found), len(wanted))):
        one = found[number] if number < len(found) else None
        other = wanted[number] if number < len(wanted) else None
        if one is None or other is None or not _same(one, other, tolerance):
            different.append(RowDifference(one, other, number + 1, tolerance))
    return different


def _in_any_order(found: Sequence[Row], wanted: Sequence[Row], tolerance: float) -> list[RowDifference]:
    """Rows that are alike are taken away; of the others those are paired that have most in common."""
    left, missing = [*found], []
    for row in wanted:
        match = next((number for number, other in enumerate(left) if _same(other, row, tolerance)), None)
        if match is None:
            missing.append(row)
        else:
            del left[match]
    different = []
    for row in missing:
        common = [sum(alike(other[name], value, tolerance) for name, value in row.items()) for other in left]
        if left and max(common) * 2 >= len(row) and max(common):
            different.append(RowDifference(left.pop(common.index(max(common))), row, None, tolerance))
        else:
            different.append(RowDifference(None, row))
    return different + [RowDifference(row, None) for row in left]


def _same(found: Row, expected: Row, tolerance: float) -> bool:
    return all(alike(found[name], value, tolerance) for name, value in expected.items())


def alike(found: Any, expected: Any, tolerance: float = TOLERANCE) -> bool:
    """Whether two values are the same, floats within a tolerance."""
    if found is None or expected is None:
        return found is expected
    if isinstance(found, bool) or isinstance(expected, bool):
        return found is expected
    if isinstance(found, Mapping) and isinstance(expected, Mapping):
        same_keys = found.keys() == expected.keys()
        return same_keys and all(alike(value, expected[key], tolerance) for key, value in found.items())
    if isinstance(found, list | tuple) and isinstance(expected, list | tuple):
        return len(found) == len(expected) and all(
            alike(one, other, tolerance) for one, other in zip(found, expected, strict=True)
        )
    if isinstance(found, numbers.Number | Decimal) and isinstance(expected, numbers.Number | Decimal):
        if not isinstance(found, float) and not isinstance(expected, float):
            return bool(found == expected)
        one, other = float(found), float(expected)  # type: ignore[arg-type]
        if math.isnan(one) or math.isnan(other):
            return math.isnan(one) and math.isnan(other)
        return one == other or math.isclose(one, other, rel_tol=tolerance, abs_tol=tolerance)
    return bool(found == expected)


def report(name: str, different: Sequence[RowDifference], rows: int, *, ordered: bool, tolerance: float) -> str:
    """The differences, a line for each row."""
    counts = {
        "differ": sum(each.found is not None and each.expected is not None for each in different),
        "missing": sum(each.found is None for each in different),
        "not expected": sum(each.expected is None for each in different),
    }
    parts = [f"{count} {what}" for what, count in counts.items() if count]
    order = "in this order" if ordered else "in any order"
    of = f"of {rows} row{'s' if rows != 1 else ''}, {order}"
    lines = [f"{name!r} is not as expected: {of}, {', '.join(parts)} (floats within {tolerance:g})"]
    lines += [f"  {each}" for each in different[:_MOST_SHOWN]]
    if len(different) > _MOST_SHOWN:
        lines.append(f"  and {len(different) - _MOST_SHOWN} more")
    return "\n".join(lines)


def _shown(row: Row) -> str:
    return "  ".join(f"{name}={_text(value)}" for name, value in row.items())


def _text(value: Any) -> str:
    text = "NULL" if value is None else str(value) if hasattr(value, "isoformat") else repr(value)
    if isinstance(value, Decimal):
        text = f"Decimal({str(value)!r})"
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}…"

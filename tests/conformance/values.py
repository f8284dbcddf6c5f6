"""When a value that came back from a warehouse is the one that was expected."""

from __future__ import annotations

import datetime
import decimal
import json
import math
import uuid
from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa

TOLERANCE = 1e-9
"""Of floats, relative to their size: warehouses add in another order, and one of them has another pi."""

Row = tuple[Any, ...]


def rows_of(table: pa.Table | pa.RecordBatchReader) -> list[Row]:
    """The rows of an Arrow table as tuples."""
    made = table.read_all() if isinstance(table, pa.RecordBatchReader) else table
    columns = [[_python(value) for value in column.to_pylist()] for column in made.columns]
    return list(zip(*columns, strict=True))


def check_rows(found: Iterable[Row], expected: Iterable[Row], *, tolerance: float = TOLERANCE) -> None:
    """Raises AssertionError unless both have the same rows, in whatever order."""
    left, right = sorted(found, key=_order), sorted(map(tuple, expected), key=_order)
    same = len(left) == len(right) and all(same_value(a, b, tolerance) for a, b in zip(left, right, strict=True))
    if not same:
        raise AssertionError(
            "\n".join(["other rows than expected:", *_shown("found", left), *_shown("expected", right)])
        )


def same_value(found: Any, expected: Any, tolerance: float = TOLERANCE) -> bool:
    """Whether two values are the same. Numbers count by their value, whatever their type; true is not 1."""
    if found is None or expected is None or isinstance(found, bool) or isinstance(expected, bool):
        return found is expected
    if isinstance(found, float) or isinstance(expected, float):
        return _is_number(found) and _is_number(expected) and _near(float(found), float(expected), tolerance)
    if _is_number(found) and _is_number(expected):
        return bool(found == expected)
    if isinstance(found, tuple | list) and isinstance(expected, tuple | list):
        return len(found) == len(expected) and all(
            same_value(a, b, tolerance) for a, b in zip(found, expected, strict=True)
        )
    if isinstance(found, dict) and isinstance(expected, dict):
        return found.keys() == expected.keys() and all(same_value(found[k], expected[k], tolerance) for k in found)
    if isinstance(found, datetime.datetime) and isinstance(expected, datetime.datetime):
        return _utc(found) == _utc(expected)
    return type(found) is type(expected) and bool(found == expected)


def document(value: Any) -> Any:
    """A JSON value as Python, whether the client gave text or the value itself."""
    return json.loads(value) if isinstance(value, str | bytes) else value


def _python(value: Any) -> Any:
    if hasattr(value, "to_pydatetime"):
        return value.to_pydatetime()
    if isinstance(value, uuid.UUID):
        return str(value)
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | decimal.Decimal) and not isinstance(value, bool)


def _near(found: float, expected: float, tolerance: float) -> bool:
    if math.isnan(expected) or math.isinf(expected) or math.isnan(found) or math.isinf(found):
        return found == expected or (math.isnan(found) and math.isnan(expected))
    return math.isclose(found, expected, rel_tol=tolerance, abs_tol=tolerance)


def _utc(value: datetime.datetime) -> datetime.datetime:
    return value.astimezone(datetime.UTC).replace(tzinfo=None) if value.tzinfo else value


def _order(row: Sequence[Any]) -> Any:
    """Sorts rows so that equal ones meet, although the types of their numbers differ."""
    return [_key(value) for value in row]


def _key(value: Any) -> tuple[int, float, str]:
    if value is None:
        return (0, 0.0, "")
    if isinstance(value, bool):
        return (1, float(value), "")
    if _is_number(value):
        number = float(value)
        # Rounded, so that two sums that differ in the last digit sort alike.
        return (2, math.inf, "nan") if math.isnan(number) else (2, float(f"{number:.6g}"), "")
    if isinstance(value, datetime.datetime):
        return (3, 0.0, _utc(value).isoformat())
    return (4, 0.0, str(value))


def _shown(title: str, rows: Sequence[Row]) -> list[str]:
    more = [f"    and {len(rows) - 25} more"] if len(rows) > 25 else []
    return [f"  {title} ({len(rows)}):", *(f"    {str(row)[:300]}" for row in rows[:25]), *more]

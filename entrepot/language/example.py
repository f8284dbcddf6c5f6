"""What a step makes of a few rows: examples that authors write beside their steps, and rows written down for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from entrepot.errors import Location


@dataclass(frozen=True)
class Rows:
    """Rows of a table, written down, with the types that their values do not tell.

    A column whose values are all NULL has no type of its own; decimals, dates and timestamps may be written as text.
    Columns of raw tables and of Python transforms that their steps declare have their types already.

    Args:
        rows: A dict for each row. A column that a row leaves out is NULL there. Default: none.
        types: Names of columns to ibis types, such as `"decimal(10, 2)"` or `"timestamp('UTC')"`. A column that no row
            has is NULL everywhere. Default: by the values.

    Examples:
        ```python
        from entrepot import Rows

        Rows(
            [{"day": "2026-03-01", "amount": "80.00", "returned": None}],
            {"day": "date", "amount": "decimal(10, 2)", "returned": "boolean"},
        )
        ```
    """

    rows: Sequence[Mapping[str, Any]] = ()
    types: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Example:
    """What a step makes of a few rows, as its author declares it. No part of any version."""

    step: str
    says: str
    """What it shows, for people."""
    given: Mapping[str, Any]
    """Tables to their rows, and parameters to their values."""
    expect: Sequence[Mapping[str, Any]]
    ordered: bool
    at: Location

    def __str__(self) -> str:
        return f"{self.step}: {self.says}"

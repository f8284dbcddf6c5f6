"""How a transform is computed by parts: what changed in its inputs says which of its rows are computed anew."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from entrepot.errors import BadInput, unknown

Every = Literal["hour", "day", "week", "month", "year"]


@dataclass(frozen=True)
class ByInterval:
    """A table is computed by intervals of time: only those are computed anew in which an input has changed.

    The function stays as it is: it says the rule for the whole table. Which rows of each input an interval needs is
    found from the expression, through filters, joins on time, groups by time and windows over a range of time; where
    that cannot be known the plan fails and says why. The table is the same as if it were computed as a whole. Late rows
    and corrections mark the intervals that they touch; an input that is read as a whole, such as a table of carriers,
    marks them all when it changes, and so does other code.

    Rows without a time (NULL) are left out.

    Args:
        column: The table's column with the time, a date or timestamp. It comes from a column of an input, as it is,
            cast to a date, or truncated.
        every: The length of an interval: `"hour"`, `"day"`, `"week"` (from Monday), `"month"` or `"year"`. A table that
            is grouped by month needs at least `"month"`. Default: `"day"`.
        batch: How many intervals one statement computes where the table is computed as a whole, so that a first
            computation of many years needs no more memory at a time than so many intervals. It does not count for the
            version. Default: all at once.

    Raises:
        BadInput: If `every` is another word, or `batch` is not above 0.

    Examples:
        ```python
        from entrepot import ByInterval, Pipeline, Table

        shop = Pipeline("shop")


        @shop.ingest(tables={"sales": {"sold_at": "timestamp", "amount": "float64"}})
        def sales():
            return [{"sold_at": "2026-01-01T10:00:00", "amount": 80.0}]


        @shop.transform(incremental=ByInterval("day"))
        def daily(sales: Table) -> Table:
            return sales.group_by(day=sales.sold_at.date()).agg(total=sales.amount.sum())
        ```
    """

    column: str
    every: Every = "day"
    batch: int | None = None

    def __post_init__(self) -> None:
        if self.every not in get_args(Every):
            raise BadInput(f"ByInterval({self.column!r}): {unknown('every', self.every, get_args(Every))}")
        if self.batch is not None and (type(self.batch) is not int or self.batch < 1):
            raise BadInput(f"ByInterval({self.column!r}): `batch` is a number of intervals above 0, not {self.batch!r}")

    @property
    def columns(self) -> tuple[str, ...]:
        """The table's columns that say to which part a row belongs."""
        return (self.column,)

    def __str__(self) -> str:
        return f"by intervals of {self.column!r}"


class ByKey:
    """A table is computed by key: only those rows are computed anew whose key is in rows that have changed in an input.

    As for `ByInterval` the function says the rule for the whole table, and the table is the same as if it were computed
    as a whole. Rows without a key (NULL in one of its columns) are left out.

    Args:
        columns: The table's columns that make up the key. Each comes from a column of an input, as it is.

    Raises:
        BadInput: If there is no column.

    Examples:
        ```python
        from entrepot import ByKey, Pipeline, Table

        shop = Pipeline("shop")


        @shop.ingest(tables={"sales": {"customer": "int64", "amount": "float64"}})
        def sales():
            return [{"customer": 1, "amount": 80.0}]


        @shop.transform(incremental=ByKey("customer"))
        def customers(sales: Table) -> Table:
            return sales.group_by("customer").agg(total=sales.amount.sum())
        ```
    """

    def __init__(self, *columns: str) -> None:
        if not columns:
            raise BadInput("ByKey() names no column")
        self.columns = columns

    def __repr__(self) -> str:
        return f"ByKey({', '.join(map(repr, self.columns))})"

    def __str__(self) -> str:
        return f"by {', '.join(map(repr, self.columns))}"


Incremental = ByInterval | ByKey
"""The ways to compute a table by parts."""

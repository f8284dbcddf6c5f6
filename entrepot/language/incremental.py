"""How a transform is computed by parts: what changed in its inputs says which of its rows are computed anew."""

from __future__ import annotations

import datetime
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

    With `frozen_before`, what begins before that moment is computed once, with the table, and stays as the environment
    shows it: late rows, corrections, another version of an input that is read as a whole and other code count from that
    moment on. So a change of code rebuilds all (no `frozen_before`), goes forward only (today), or from a date.

    Args:
        column: The table's column with the time, a date or timestamp. It comes from a column of an input, as it is,
            cast to a date, or truncated.
        every: The length of an interval: `"hour"`, `"day"`, `"week"` (from Monday), `"month"` or `"year"`. A table that
            is grouped by month needs at least `"month"`. Default: `"day"`.
        batch: How many intervals one statement computes where the table is computed as a whole, so that a first
            computation of many years needs no more memory at a time than so many intervals. It does not count for the
            version. Default: all at once.
        frozen_before: The moment, in UTC, before which nothing is computed anew once the table is there: the beginning
            of an interval, as `"2024-01-01"` or `"2024-01-01T06:00"`. Default: none.

    Raises:
        BadInput: If `every` is another word, `batch` is not above 0, or no interval begins at `frozen_before`.

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
    frozen_before: str | None = None

    def __post_init__(self) -> None:
        if self.every not in get_args(Every):
            raise BadInput(f"ByInterval({self.column!r}): {unknown('every', self.every, get_args(Every))}")
        if self.batch is not None and (type(self.batch) is not int or self.batch < 1):
            raise BadInput(f"ByInterval({self.column!r}): `batch` is a number of intervals above 0, not {self.batch!r}")
        if self.frozen_before is not None and (said := _no_beginning(self.frozen_before, self.every)):
            raise BadInput(f"ByInterval({self.column!r}): `frozen_before` is {self.frozen_before!r}, and {said}")

    @property
    def frozen_until(self) -> datetime.datetime | None:
        """`frozen_before` as a moment in UTC, without zone."""
        return None if self.frozen_before is None else moment_of(self.frozen_before)

    @property
    def columns(self) -> tuple[str, ...]:
        """The table's columns that say to which part a row belongs."""
        return (self.column,)

    def __str__(self) -> str:
        return f"by intervals of {self.column!r}"


def moment_of(text: str) -> datetime.datetime:
    """A moment in UTC, without zone, from an ISO text; one without zone is in UTC.

    Raises:
        ValueError: for what is none of the calendar.
        OverflowError: for one that is none in UTC.
    """
    at = datetime.datetime.fromisoformat(text)
    return at.astimezone(datetime.UTC).replace(tzinfo=None) if at.tzinfo else at


def _no_beginning(text: object, every: Every) -> str:
    """Why no interval begins at a moment; empty, if one does."""
    if not isinstance(text, str):
        return 'has to be a text such as "2024-01-01"'
    try:
        at = moment_of(text)
    except (ValueError, OverflowError):
        return 'is no date or time of the calendar; write it as "2024-01-01" or "2024-01-01T06:00"'
    hour = at.replace(minute=0, second=0, microsecond=0)
    start = hour if every == "hour" else hour.replace(hour=0)
    if every == "week":
        start -= min(start - datetime.datetime.min, datetime.timedelta(days=start.weekday()))
    elif every in ("month", "year"):
        start = start.replace(day=1, month=1 if every == "year" else start.month)
    if at == start:
        return ""
    return f"no {every} begins then; the one that it is in begins at {start.isoformat(sep=' ', timespec='minutes')}"


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

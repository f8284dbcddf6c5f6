"""Steps that take the run's nominal time, in the warehouse and in Python."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import Any

from ibis import _

from entrepot import Pipeline, Table

timed = Pipeline("timed", description="Bills, and which of them are overdue")


@timed.ingest(tables={"bills": {"id": "int64", "due": "timestamp"}})
def source() -> list[dict[str, Any]]:
    """Bills that are due on the first five days of 2026, at noon."""
    return [{"id": day, "due": datetime.datetime(2026, 1, day, 12)} for day in range(1, 6)]


@timed.transform
def overdue(bills: Table, nominal_time: datetime.datetime) -> Table:
    return bills.filter(_.due < nominal_time)


@timed.transform(engine="python", schema={"seen": "timestamp"})
def stamp(nominal_time: datetime.datetime) -> Iterator[list[dict[str, Any]]]:
    yield [{"seen": nominal_time}]


@timed.check("bills", severity="warn")
def all_paid(bills: Table, nominal_time: datetime.datetime) -> Table:
    return bills.filter(_.due < nominal_time)

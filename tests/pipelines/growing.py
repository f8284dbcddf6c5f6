"""Tables that grow: what each source has is what a test has written into its file, as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dlt
from ibis import _

from entrepot import Pipeline, Table

growing = Pipeline(
    "growing", description="Append, merge and scd2", parameters={"folder": "", "contract": "evolve", "factor": 1}
)


AT_ID = dlt.sources.incremental("id", initial_value=0)
AT_TIME = dlt.sources.incremental("minute", initial_value=0, lag=10)


def rows(folder: str, name: str) -> list[dict[str, Any]]:
    """What a source has now."""
    path = Path(folder, f"{name}.json")
    return json.loads(path.read_text()) if path.exists() else []


@growing.ingest
def events(folder: str) -> object:
    """Grows at its end, as its cursor `id` tells."""

    @dlt.resource(name="events", write_disposition="append", primary_key="id")
    def read(at: Any = AT_ID) -> Iterator[list[dict[str, Any]]]:
        yield [row for row in rows(folder, "events") if row["id"] >= at.last_value]

    return read


@growing.ingest
def late(folder: str) -> object:
    """Rows may appear up to ten units late."""

    @dlt.resource(name="late", write_disposition="append")
    def read(at: Any = AT_TIME) -> Iterator[list[dict[str, Any]]]:
        yield [row for row in rows(folder, "late") if row["minute"] >= at.last_value]

    return read


@growing.ingest
def customers(folder: str) -> object:
    """Changes and deletions, by key."""
    return dlt.resource(
        lambda: iter([rows(folder, "customers")]),
        name="customers",
        write_disposition="merge",
        primary_key="id",
        columns={"gone": {"hard_delete": True, "data_type": "bool"}},
    )


@growing.ingest(tables=["orders", "orders__items"])
def orders(folder: str) -> object:
    """Documents with a list in each, by key."""
    return dlt.resource(
        lambda: iter([rows(folder, "orders")]), name="orders", write_disposition="merge", primary_key="id"
    )


@growing.ingest
def prices(folder: str) -> object:
    """A snapshot each time, of which the changes are kept."""
    return dlt.resource(
        lambda: iter([rows(folder, "prices")]),
        name="prices",
        write_disposition={"disposition": "merge", "strategy": "scd2"},
        primary_key="item",
    )


@growing.transform
def totals(events: Table, factor: int) -> Table:
    return events.group_by("kind").agg(n=_.count(), ids=_.id.sum() * factor)

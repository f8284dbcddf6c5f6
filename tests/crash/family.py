"""Documents with a list in each, merged by key: some come anew, some are gone, and their lists with them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from entrepot import Pipeline
from tests.crash.pipeline import SOURCE

BATCHES = {1: range(20), 2: range(10, 25)}
"""The ids of each."""
GONE = 5
"""Of the second batch, each of so many."""

family = Pipeline("family", description="Nested tables and deletions")


@family.ingest(tables=["orders", "orders__items"])
def orders() -> Any:
    import dlt

    def read() -> Iterator[list[dict[str, Any]]]:
        newest = max((SOURCE / "orders").iterdir())
        yield json.loads(newest.read_text())

    gone: Any = {"gone": {"hard_delete": True, "data_type": "bool"}}
    return dlt.resource(read, name="orders", write_disposition="merge", primary_key="id", columns=gone)()


def bring(folder: Path, batch: int) -> None:
    """Writes a batch, counted from 1."""
    path = folder / SOURCE / "orders" / f"{batch}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([_order(number, batch) for number in BATCHES[batch]]))


def _order(number: int, batch: int) -> dict[str, Any]:
    items = [{"name": f"{number}-{batch}-{n}"} for n in range(_items(number, batch))]
    return {"id": number, "gone": batch > 1 and number % GONE == 0, "items": items}


def _items(number: int, batch: int) -> int:
    return (number + batch) % 3 + 1


def expected() -> tuple[int, int]:
    """How many orders there are after both batches, and how many items."""
    newest = {number: batch for batch, numbers in BATCHES.items() for number in numbers}
    there = {number: batch for number, batch in newest.items() if batch == 1 or number % GONE}
    return len(there), sum(_items(number, batch) for number, batch in there.items())

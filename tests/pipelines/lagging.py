"""A table that may be an hour old, between one that may not and what is made of both."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ibis import _

from entrepot import Export, Pipeline, Table

lagging = Pipeline("lagging", parameters={"folder": "", "factor": 1})


@lagging.ingest(tables={"sales": {"id": "int64", "amount": "int64"}})
def source(folder: str) -> Any:
    return json.loads(Path(folder, "sales.json").read_text())


@lagging.transform
def totals(sales: Table) -> Table:
    return sales.agg(total=_.amount.sum())


@lagging.transform(target_lag="1h")
def slow(sales: Table, factor: int) -> Table:
    return sales.agg(total=_.amount.sum() * factor)


@lagging.transform
def both(totals: Table, slow: Table) -> Table:
    return totals.cross_join(slow.rename(slow="total"))


@lagging.publish(target_lag="1d")
def file(totals: Table) -> Export:
    return Export(totals, format="csv")

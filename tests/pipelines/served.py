"""Computed in one warehouse, served from another."""

from __future__ import annotations

import pyarrow as pa
from ibis import _

from entrepot import Copy, Pipeline, Table

served = Pipeline("served", description="Numbers that are shown elsewhere", parameters={"rows": 100})


@served.ingest(tables=["raw"])
def source(rows: int) -> object:
    return pa.table({"number": list(range(rows))})


@served.transform
def numbers(raw: Table) -> Table:
    return raw.mutate(twice=_.number * 2)


@served.publish
def shown_there(numbers: Table) -> Copy:
    return Copy(numbers, schema="shop_window", name="numbers", to="other")

"""A step that takes as long as it is told, or waits for a file, and a check that can be told to fail."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
from ibis import _

from entrepot import Pipeline, Table

slow = Pipeline("slow", description="Takes its time", parameters={"seconds": 0.0, "until": "", "most": 1000})


@slow.ingest(tables={"numbers": {"n": "int64"}})
def source() -> object:
    return {"numbers": [{"n": number} for number in range(100)]}


@slow.transform
def doubled(numbers: Table) -> Table:
    return numbers.mutate(twice=numbers.n * 2)


@slow.transform(engine="python", schema={"n": "int64"})
def slept(doubled: pa.RecordBatchReader, seconds: float, until: str) -> Iterator[pa.RecordBatch]:
    end = time.monotonic() + seconds
    while time.monotonic() < end or (until and not Path(until).exists()):
        time.sleep(0.05)
    for batch in doubled:
        yield batch.select(["n"])


@slow.check(slept)
def small(slept: Table, most: int) -> Table:
    return slept.filter(_.n > most)


@slow.transform
def after(slept: Table) -> Table:
    return slept.mutate(thrice=slept.n * 3)

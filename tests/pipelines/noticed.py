"""Files whose coming is noticed, and a source that says by itself what is new."""

from __future__ import annotations

import time
from pathlib import Path

from entrepot import Files, Pipeline, Table
from entrepot.errors import Unavailable

noticed = Pipeline("noticed", description="Files that come", parameters={"folder": "", "broken": "", "waits": ""})


@noticed.ingest
def events(folder: str) -> object:
    return Files(f"{folder}/*.csv", disposition="append")


def newest(broken: str, waits: str) -> object:
    while waits and Path(waits).exists():
        time.sleep(0.05)
    if broken and Path(broken).exists():
        raise Unavailable("the service answered 503")
    return 1


@noticed.ingest(probe=newest)
def told() -> object:
    return [{"id": 1}]


@noticed.transform
def ids(events: Table) -> Table:
    return events.select("id")

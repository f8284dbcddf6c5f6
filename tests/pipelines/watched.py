"""Files whose coming is noticed, and a source that says by itself what is new."""

from __future__ import annotations

from pathlib import Path

from entrepot import Files, Pipeline, Table
from entrepot.errors import Unavailable

watched = Pipeline("watched", description="Files that come", parameters={"folder": "", "broken": ""})


@watched.ingest
def events(folder: str) -> object:
    return Files(f"{folder}/*.csv", disposition="append")


def newest(broken: str) -> object:
    if broken and Path(broken).exists():
        raise Unavailable("the service answered 503")
    return 1


@watched.ingest(probe=newest)
def told() -> object:
    return [{"id": 1}]


@watched.transform
def ids(events: Table) -> Table:
    return events.select("id")

"""What the state of a release is made with: a table that grows, one computed from it, a model, a check, a file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dlt
from ibis import _

from entrepot import Export, Model, Pipeline, Table, split

kept = Pipeline("kept", parameters={"source": ""})
AT_ID = dlt.sources.incremental("id", initial_value=0)


@kept.ingest
def events(source: str) -> object:
    @dlt.resource(name="events", write_disposition="append", primary_key="id")
    def read(at: Any = AT_ID) -> Iterator[list[dict[str, Any]]]:
        yield [row for row in json.loads(Path(source).read_text()) if row["id"] >= at.last_value]

    return read


@kept.transform
def doubled(events: Table) -> Table:
    return events.mutate(twice=_.id * 2, is_odd=_.id % 2 == 1)


@kept.check(doubled, severity="warn")
def few(doubled: Table) -> Table:
    return doubled.filter(_.id > 38)


@kept.train(features=doubled, target="is_odd", columns=["id"], split=split.Share(0.3), score=["accuracy"])
def parity() -> object:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression()


@kept.transform
def guessed(doubled: Table, parity: Model) -> Table:
    return parity.predict(doubled, keep=["id"], classes=[True])


@kept.publish
def listed(guessed: Table) -> Export:
    return Export(guessed, "csv")

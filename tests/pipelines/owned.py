"""Pipelines that show the same things, and one that changed: for tests of whose a name is."""

from __future__ import annotations

from typing import Any

import entrepot
from entrepot import Copy, Export, Pipeline, Table


def _pipeline(name: str, *, publishes: bool = True) -> Pipeline:
    made = Pipeline(
        name, parameters={"rows": 3, "schema": "reporting", "copy": "totals", "form": "csv", "to": "", "file": "csv"}
    )

    @made.ingest(tables={"numbers": {"n": "int64"}}, name="source")
    def source(rows: int) -> Any:
        return {"numbers": [{"n": n} for n in range(rows)]}

    @made.transform(name="doubled")
    def doubled(numbers: Table) -> Table:
        return numbers.mutate(n=numbers.n * 2)

    if publishes:

        @made.publish(name="shared")
        def shared(doubled: Table, schema: str, copy: str, to: str) -> Copy:
            return Copy(doubled, schema=schema, name=copy, to=to)

        @made.publish(name="taken_away")
        def taken_away(doubled: Table, form: Any) -> Export:
            return Export(doubled, form)

    return made


one, two = _pipeline("one"), _pipeline("two")
fewer = _pipeline("one", publishes=False)
"""`one`, after its publish steps were dropped."""

hidden = Pipeline("hidden", description="Where its copy goes, its code does not show in plain words")


@hidden.ingest(tables={"numbers": {"n": "int64"}})
def source() -> Any:
    return {"numbers": [{"n": 1}]}


@hidden.publish
def shared(numbers: Table) -> entrepot.Copy:
    return entrepot.Copy(numbers, schema="report" + "ing", name="totals")

"""Tables that are the same for some values of their parameters, and others for others; few steps, and many."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from inspect import Parameter, Signature
from typing import Any

import ibis
import pyarrow as pa
from ibis import _

from entrepot import Dashboard, Panel, Pipeline, Table

PARAMETERS = {"below": 0, "first": 0, "floor": 0, "least": 0, "more": 0, "most": 1000}
LEAVES = 45


def _made(name: str, leaves: int) -> Pipeline:
    p = Pipeline(name, parameters=dict(PARAMETERS))

    @p.ingest(tables=["raw"])
    def source(below: int) -> Any:
        """Rows below 0, which nobody takes."""
        return pa.table({"id": [*range(-below, 12)], "half": [n / 2 for n in range(-below, 12)]})

    @p.transform
    def ids(raw: Table, first: int) -> Table:
        """The same for all `first` up to 0."""
        return raw.filter(_.id >= first, _.id >= 0)

    @p.transform
    def levels(raw: Table, floor: int) -> Table:
        """The same for all `floor` up to 0."""
        return raw.filter(_.id >= 0).select("id", level=ibis.greatest(_.id % 4, floor))

    @p.transform
    def both(ids: Table, levels: Table, least: int) -> Table:
        """The same for all `least` up to 0."""
        return ids.join(levels, "id").filter(_.level >= least)

    @p.transform
    def totals(both: Table, more: int) -> Table:
        """The same for `more` and `-more`."""
        return both.group_by("level").agg(n=_.count(), total=_.half.sum() + ibis.literal(more).abs())

    @p.transform(engine="python", schema={"rows": "int64"})
    def counted(both: pa.RecordBatchReader) -> Any:
        yield [{"rows": len(both.read_all())}]

    @p.check(totals, severity="block")
    def not_too_much(totals: Table, most: int) -> Table:
        return totals.filter(_.total > most)

    @p.publish
    def page(totals: Table) -> Dashboard:
        return Dashboard("Totals", panels=[Panel("All", totals)])

    def add(number: int) -> None:
        @p.transform(name=f"root_{number}")
        def root(raw: Table, first: int) -> Table:
            return raw.filter(_.id >= first, _.id >= 0).select("id", own=_.id + number)

        def leaf(**read: Table) -> Table:
            return read[f"root_{number}"].join(read["both"], "id").select("id", other=_.level + _.own)

        names = (f"root_{number}", "both")
        leaf.__signature__ = Signature(  # type: ignore[attr-defined]
            [Parameter(name, Parameter.KEYWORD_ONLY, annotation=Table) for name in names]
        )
        p.transform(name=f"leaf_{number}")(leaf)

    for number in range(leaves):
        add(number)
    return p


few, many = _made("few", 0), _made("many", LEAVES)


def expected(values: Mapping[str, int]) -> dict[str, Counter[tuple[Any, ...]]]:
    """The rows of every table, computed without any of this."""
    ids = [n for n in range(12) if n >= values["first"]]
    levels = {n: max(n % 4, values["floor"]) for n in range(12)}
    both = [(n, n / 2, levels[n]) for n in ids if levels[n] >= values["least"]]
    groups = {level: [half for _id, half, its in both if its == level] for level in {row[2] for row in both}}
    return {
        "ids": Counter((n, n / 2) for n in ids),
        "levels": Counter(levels.items()),
        "both": Counter(both),
        "totals": Counter((level, len(of), sum(of) + abs(values["more"])) for level, of in groups.items()),
        "counted": Counter([(len(both),)]),
    }


OWN = {"ids": "first", "levels": "floor", "both": "least", "totals": "more", "not_too_much": "most"}
"""The parameter of a step; those that are not here have none."""
READS = {
    "ids": ["raw"],
    "levels": ["raw"],
    "both": ["ids", "levels"],
    "totals": ["both"],
    "counted": ["both"],
    "not_too_much": ["totals"],
    "page": ["totals"],
}

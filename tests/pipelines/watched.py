"""Steps that see more than their inputs: the clock, and a file that is read while their expression is built."""

from __future__ import annotations

from pathlib import Path

import ibis
from ibis import _

from entrepot import Dashboard, Panel, Pipeline, Table

watched = Pipeline(
    "watched",
    description="Events, and whether they still come",
    parameters={"folder": "", "fresh_until": 0, "most": 3},
)


@watched.ingest(tables=["events"])
def source(fresh_until: int) -> object:
    """Four events, of which the last is fresh until a second since 1970."""
    return [{"id": number, "kind": "abcd"[number], "fresh_until": fresh_until} for number in range(4)]


@watched.transform
def chosen(events: Table, folder: str) -> Table:
    """The events of the kinds that a file names."""
    return events.filter(_.kind.isin(set((Path(folder) / "kinds").read_text().split())))


@watched.transform
def stamped(events: Table) -> Table:
    return events.mutate(looked_at=ibis.now())


@watched.check(chosen, severity="warn")
def stale(chosen: Table) -> Table:
    """Events are <fresh>."""
    return chosen.filter(_.fresh_until < ibis.now().epoch_seconds())


@watched.check(chosen, severity="warn")
def few(chosen: Table, most: int) -> Table:
    return chosen.filter(_.id >= most)


@watched.publish
def board(chosen: Table) -> Dashboard:
    return Dashboard("Events", panels=[Panel("By kind", chosen.select("kind"))])

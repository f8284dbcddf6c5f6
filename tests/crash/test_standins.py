"""The boundaries around loading and publishing, on the stand-ins for the warehouses in the cloud.

What these hold cannot be copied, so runs follow one another: each brings one batch more and is disturbed, and after it
everything has to be as it is computed here. `python -m tests.crash` takes each kind of operation, `make test` a few.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from entrepot import backends
from entrepot.activities.catalog.catalog import Catalog
from entrepot.activities.catalog.tables import equals
from entrepot.backends import Backend, QueryTag, TableName
from entrepot.backends.base import physical
from tests.crash import pipeline, small
from tests.crash.boundaries import Boundary, recorded
from tests.crash.cases import House, Outcome, Scenario
from tests.crash.conftest import report, sample
from tests.crash.house import Nursery, Server
from tests.crash.state import Difference

pytestmark = [pytest.mark.crash, pytest.mark.timeout(900)]

Standin = Callable[[str], dict[str, Any]]
RUNS_BEFORE = 2
MOST_RUNS = 30


@pytest.mark.parametrize("target", ["databricks", "bigquery", "snowflake"])
async def test_each_run_ends_as_if_undisturbed(
    target: str,
    parents: tuple[Server, Nursery],
    tmp_path: Path,
    standin: Standin,
    every: int,
    record_property: Callable[[str, Any], None],
) -> None:
    settings = await asyncio.to_thread(standin, target)
    scenario = Scenario({"pipeline": "small"}, pipeline.bring, runs=0)
    house = House(*parents, tmp_path, scenario=scenario, backend=settings)
    backend = backends.create(settings, "the test")
    for batch in range(1, RUNS_BEFORE + 1):
        pipeline.bring(tmp_path, batch)
        outcome = await house.run_in(tmp_path)
        assert not outcome.behind
        assert not outcome.problem, (tmp_path / "worker.log").read_text()
        assert not (await asyncio.to_thread(_difference, backend, batch)).said
    house.boundaries = _distinct(recorded(tmp_path))
    chosen = sample(house.boundaries, every)
    tried = [("kill", b) for b in chosen] + [("cut", b) for b in chosen[::3]]
    outcomes: list[Outcome] = []
    batch = RUNS_BEFORE
    while tried:
        batch += 1
        pipeline.bring(tmp_path, batch)
        outcome = await house.run_in(tmp_path, *tried[0])
        outcome.difference = await asyncio.to_thread(_difference, backend, batch)
        # Now and then what has grown is made into one table, and some of the operations are not met.
        was_not_met = outcome.seconds is None and not outcome.problem and not outcome.said
        if not was_not_met or batch > MOST_RUNS:
            outcomes.append(outcome)
            del tried[0]
    backend.close()
    for fault in ("kill", "cut"):
        report(record_property, target, house, [o for o in outcomes if o.control.fault == fault])


def _distinct(boundaries: list[Boundary]) -> list[Boundary]:
    """Before each kind of operation of the activities that load and publish: the first of its kind."""
    found: dict[str, Boundary] = {}
    for boundary in boundaries:
        activity, _, operation = boundary.name.partition("/")
        if boundary.place == "before" and boundary.kind == "session" and activity in ("load[shop]", "promote[]"):
            # Which of the tables it is about makes no other kind.
            kind = operation.partition("#")[0].replace("visits", "customers")
            found.setdefault(f"{activity}/{kind}", boundary)
    return list(found.values())


def _difference(backend: Backend, runs: int) -> Difference:
    """What is otherwise than after so many undisturbed runs."""
    found = Difference()
    with backend.session(QueryTag("acme", "test", "test")) as session:
        for table, expected in small.expected(runs).items():
            name = TableName("small", table)
            got = small.counted(session.fetch(physical(name, session.describe(name))).to_pylist())
            found.lost += (lost := (expected - got).total())
            found.doubled += (doubled := (got - expected).total())
            if lost or doubled:
                found.said.append(f"{table} lost {lost} rows and has {doubled} too many")
        its, tables = equals("pipeline", "small"), ("environments", "ingest_states", "versions", "runs")
        told = {table: Catalog(session).tables.select(table, its) for table in tables}
    for table in ("environments", "ingest_states"):
        if [row["sequence"] for row in told[table]] != [runs]:
            found.said.append(f"catalog.{table} has {told[table]}")
    for table, columns in {"versions": ("name", "version"), "runs": ("run", "status")}.items():
        counts = Counter(tuple(row[column] for column in columns) for row in told[table])
        found.said += [f"catalog.{table} has {row} {count} times" for row, count in counts.items() if count > 1]
    if len(told["runs"]) != runs:
        found.said.append(f"catalog.runs tells of {len(told['runs'])} runs")
    return found

"""Loads of any columns in any order, however many: a table that grows has the rows that a dict would have."""

from __future__ import annotations

import asyncio
import csv
import datetime
import itertools
import json
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from temporalio.testing import ActivityEnvironment

from activities import catalog, cursors, segments
from activities.ingest import IngestActivities
from activities.messages import Context, ExtractRequest, LoadRequest
from activities.tenant import PipelineSettings, Tenant, Tenants
from activities.work import Work, make_room
from backends import Label
from backends.base import physical
from entrepot.expression import schema_from
from entrepot.loading import Registry

ENVIRONMENT = ActivityEnvironment()
Row = dict[str, Any]

KINDS: dict[str, st.SearchStrategy[Any]] = {
    "name": st.sampled_from(["a", "b", "c"]),
    "n": st.integers(0, 3),
    "x": st.sampled_from([0.5, 1.5]),
    "street": st.sampled_from(["p", "q"]),
    "day": st.sampled_from([datetime.date(2024, 2, 29), datetime.date(2024, 3, 1)]),
}


@dataclass(frozen=True)
class Brought:
    """What a source has at one load: rows by key, of the same columns in this order; and the keys that are gone."""

    columns: tuple[str, ...]
    rows: Mapping[int, Row]
    gone: frozenset[int] = frozenset()
    refresh: bool = False


@st.composite
def brought(draw: st.DrawFn, *, with_deletions: bool = False, refreshes: bool = False) -> Brought:
    columns = draw(st.lists(st.sampled_from(sorted(KINDS)), unique=True, min_size=1))
    order = draw(st.permutations(["id", *columns]))
    keys = draw(st.sets(st.integers(0, 8), min_size=1, max_size=6))
    rows = {key: {name: draw(KINDS[name]) for name in columns} for key in sorted(keys)}
    gone = draw(st.sets(st.sampled_from(sorted(keys)), max_size=2)) if with_deletions else set()
    refresh = refreshes and draw(st.integers(0, 9)) == 0
    return Brought(tuple(order), rows, frozenset(gone), refresh)


@dataclass
class Warehouse:
    """A tenant whose pipeline `ingested` is loaded by the activities alone."""

    tenants: Tenants
    folder: Path
    activities: IngestActivities
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def load(self, step: str, options: Mapping[str, Any], *, refresh: bool = False, environment: str = "prod") -> None:
        """Asks a step's source, and brings what it gives."""
        number = next(self.numbers)
        context = Context(
            tenant="acme",
            pipeline="ingested",
            environment=environment,
            run=f"run-{number}",
            started_at=f"2026-01-01T00:{number // 60:02}:{number % 60:02}",
            parameters={"folder": str(self.folder), "options": dict(options)},
        )

        async def both() -> None:
            asked = ExtractRequest(context=context, step=step, refresh=refresh)
            load = await ENVIRONMENT.run(self.activities.extract, asked)
            if not load.unchanged:
                await ENVIRONMENT.run(self.activities.load, LoadRequest(context=context, load=load))

        asyncio.run(both())

    def version(self, step: str, table: str, environment: str = "prod") -> str:
        """The version that an environment stands at."""
        with self._session() as session:
            return cursors.current(session, "ingested", step, environment).tables[table]

    def rows(self, table: str, version: str) -> list[Row]:
        """The rows of a version."""
        with self._session() as session:
            found = catalog.versions(session, "ingested", {table: version})[table]
            assert found.table is not None
            rows = session.fetch(physical(found.table, schema_from(found.columns))).to_pylist()
            assert len(rows) == found.rows
            return rows

    @contextmanager
    def _session(self) -> Iterator[Any]:
        with self.tenants.get("acme").backend.session(Label("acme", "test", "test")) as session:
            yield session


@contextmanager
def warehouse() -> Iterator[Warehouse]:
    with tempfile.TemporaryDirectory() as state:
        folder = Path(state, "source")
        folder.mkdir()
        backend = {"type": "duckdb", "path": str(Path(state, "acme.duckdb"))}
        tenant = Tenant("acme", backend, str(Path(state, "lake")), {"ingested": PipelineSettings("ingested")})
        tenants = Tenants({"acme": tenant}, Registry({"ingested": "tests.pipelines.ingested:ingested"}))
        make_room(Work(tenant, "room", "room"), "ingested")
        yield Warehouse(tenants, folder, IngestActivities(tenants))
        tenant.close()


@pytest.fixture(autouse=True)
def few_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Segments are written together after few loads, so that this happens several times."""
    monkeypatch.setattr(segments, "MOST", 4)


def as_csv(path: Path, load: Brought, deleted: str | None = None) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*load.columns, *([deleted] if deleted else [])])
        for key, row in load.rows.items():
            values = [key if name == "id" else row[name] for name in load.columns]
            writer.writerow([*values, *([str(key in load.gone).lower()] if deleted else [])])


def as_json(path: Path, load: Brought) -> None:
    rows = []
    for key, row in load.rows.items():
        values = {name: key if name == "id" else row[name] for name in load.columns}
        rows.append({name: str(v) if isinstance(v, datetime.date) else v for name, v in values.items()})
    path.write_text("\n".join(map(json.dumps, rows)))


def seen(rows: Sequence[Row], *but: str) -> Counter[tuple[tuple[str, Any], ...]]:
    """Rows to compare: a column that a row does not have is one without a value."""
    return Counter(
        tuple(sorted((name, value) for name, value in row.items() if value is not None and name not in but))
        for row in rows
    )


def expected(rows: Mapping[int, Row]) -> list[Row]:
    return [{"id": key, **row} for key, row in rows.items()]


deep = settings(max_examples=8)
"""Each example is many loads."""


@pytest.mark.parametrize("format", ["csv", "json"])
@given(loads=st.lists(brought(with_deletions=True, refreshes=True), min_size=5, max_size=9))
@deep
def test_merged_files_are_a_dict(format: str, loads: list[Brought]) -> None:
    with warehouse() as made:
        options = {"path": f"rows.{format}", "disposition": "merge", "key": ["id"]}
        options |= {"deleted": "gone"} if format == "csv" else {}
        held: dict[int, Row] = {}
        stood: dict[str, dict[int, Row]] = {}
        for load in loads:
            path = made.folder / f"rows.{format}"
            as_csv(path, load, "gone") if format == "csv" else as_json(path, load)
            made.load("texts", options, refresh=load.refresh)
            gone = load.gone if format == "csv" else frozenset()
            held = {k: v for k, v in ({} if load.refresh else held | {}).items() if k not in load.rows}
            held |= {k: v for k, v in load.rows.items() if k not in gone}
            stood[made.version("texts", "texts")] = dict(held)
        for version, rows in stood.items():  # every version is as it was
            assert seen(made.rows("texts", version), "gone") == seen(expected(rows))

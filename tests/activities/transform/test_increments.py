"""A table that is computed by parts has the rows that it would have as a whole, whatever its inputs went through."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import ibis
import pyarrow as pa
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from entrepot.activities.catalog.details import GrowingTableDetails, TableDetails
from entrepot.activities.catalog.growing_table import GrowingTable, SameKey, Segment
from entrepot.activities.catalog.version import Version
from entrepot.activities.transform.batches import batches
from entrepot.activities.transform.increments import Created, Growth, Part, Whole
from entrepot.backends import CreatedTable, QueryTag, Session, TableName
from entrepot.backends import create as create_backend
from entrepot.backends.base import physical
from entrepot.identity.expression import bind, schema_from, schema_to
from entrepot.language.incremental import ByInterval
from entrepot.language.step import TransformStep
from entrepot.planning.resolve import Computed, resolve
from tests.pipelines.parts import COLUMNS, parts

TABLES = [name for name in parts.graph.steps if f"{name}_whole" in parts.graph.steps]
START = datetime.datetime(2025, 12, 28, 22)

ends = st.sampled_from([None, datetime.datetime(9999, 12, 31, 23), datetime.datetime(1, 1, 1)])
times = st.one_of(ends, st.integers(0, 12 * 24).map(lambda hours: START + datetime.timedelta(hours=hours)))
shops = st.sampled_from(["a", "b", None])
order = st.tuples(
    times, shops, st.sampled_from([1, 2, 3, None]), st.integers(0, 5), st.sampled_from([False] * 4 + [True])
)
visit = st.tuples(times, shops, st.integers(1, 3))
changes = st.one_of(
    st.tuples(st.just("orders"), st.dictionaries(st.integers(0, 300), order, min_size=1, max_size=4)),
    st.tuples(st.just("visits"), st.lists(visit, min_size=1, max_size=4)),
    st.tuples(st.just("shops"), st.dictionaries(st.sampled_from("ab"), st.sampled_from(["CH", "FR"]))),
    st.tuples(st.just("orders written together"), st.none()),
    st.tuples(st.just("visits written together"), st.none()),
    st.tuples(st.sampled_from(["orders as before", "visits as before"]), st.integers(1, 2)),
    st.tuples(st.just("bonus"), st.integers(0, 1)),
    st.tuples(st.just("an earlier version"), st.integers(0, 3)),
)


@dataclass
class World:
    """Versions of the raw tables and of all that is made of them, in an in-memory DuckDB."""

    session: Session
    now: dict[str, Version] = field(default_factory=dict)
    before: dict[str, list[Version]] = field(default_factory=dict)
    every: dict[tuple[str, str], Version] = field(default_factory=dict)
    made: Counter[str] = field(default_factory=Counter)
    """How often tables were made by parts, or as a whole."""
    bonus: int = 0
    number: int = 0

    def name(self, table: str) -> TableName:
        self.number += 1
        return TableName("v", f"{table}_{self.number}")

    def change(self, what: str, given: Any) -> None:
        """What happens to an input."""
        table, _, how = what.partition(" ")
        if what == "bonus":
            self.bonus = given
        elif what == "an earlier version":
            for name in TABLES:
                self.before[name] = self.before[name][: max(1, len(self.before[name]) - given)]
        elif how == "as before":  # as after a rollback
            self.now[table] = ([self.now[table]] * 3 + self.before[table])[-1 - given]
        elif how == "written together":
            version = self.now[table]
            shape = schema_from(version.inferred)
            made = self.session.create_as(self.name(table), GrowingTable(version.all_segments).rows(shape))
            tables = tuple(segment.table for segment in version.all_segments)
            own = self._segment(TableName("v", f"{table}_{self.number}"), made, together=tables)
            self._grown(table, [own])
        else:
            getattr(self, table)(given)

    def orders(self, given: Mapping[int, Any]) -> None:
        """A load that puts rows in the place of those with their keys."""
        rows = [
            {"id": key, "at": at, "shop": shop, "customer": customer, "amount": amount, "gone": gone}
            for key, (at, shop, customer, amount, gone) in given.items()
        ]
        self._load("orders", rows, {"gone": pa.bool_()}, deleted="gone")

    def visits(self, given: list[Any]) -> None:
        """A load that adds rows."""
        self._load("visits", [{"day": at and at.date(), "shop": shop, "n": n} for at, shop, n in given], {})

    def shops(self, given: Mapping[str, str]) -> None:
        """A load of the whole table."""
        self.now.pop("shops", None)
        self._load("shops", [{"shop": shop, "country": country} for shop, country in given.items()], {})

    def _load(self, table: str, rows: list[dict[str, Any]], more: Mapping[str, pa.DataType], **options: Any) -> None:
        types = schema_from(COLUMNS[table]).to_pyarrow()
        for name, kind in more.items():
            types = types.append(pa.field(name, kind))
        target = self.name(table)
        shape = ibis.schema(types)
        made = self.session.write(target, shape, pa.Table.from_pylist(rows, schema=types).to_batches())
        before = list(self.now[table].all_segments) if table in self.now else []
        if before and table == "orders":
            names = {"id": "id"}
            options["supersedes"] = SameKey(schema_name=target.schema, table=target.table, columns=names)
        self._grown(table, [*before, self._segment(target, made, **options)])

    def _segment(self, target: TableName, made: CreatedTable, **options: Any) -> Segment:
        columns = schema_to(made.columns)
        return Segment(schema_name=target.schema, table=target.table, columns=columns, rows=made.rows, **options)

    def _grown(self, table: str, segments: list[Segment]) -> None:
        view = self.name(table)
        columns = self.session.create_view(view, GrowingTable(segments).rows(schema_from(COLUMNS[table])))
        details = GrowingTableDetails(segments=tuple(segments))
        version = self._add(table, view, schema_to(columns), COLUMNS[table], None, details, {}, "")
        self.before.setdefault(table, []).append(version)

    def _add(
        self,
        name: str,
        table: TableName,
        columns: Any,
        inferred: Any,
        rows: Any,
        details: Any,
        inputs: Any,
        identity: str,
    ) -> Version:
        version = Version(
            name, table.table, "transform", identity, table, columns, inferred, rows, details, "run", inputs=inputs
        )
        self.now[name] = version
        self.every[version.key] = version
        return version

    def compute(self) -> None:
        """Makes every table, by parts of an earlier version where that goes, and holds it against the whole."""
        known = {name: schema_from(COLUMNS[name]) for name in COLUMNS}
        resolved = resolve(parts.graph, known, {**parts.graph.parameters, "bonus": self.bonus})
        for name in TABLES:
            step, computed = parts.graph.steps[name], resolved.steps[name]
            assert isinstance(step, TransformStep)
            inputs = {each: self.now[each] for each in parts.graph.table_inputs(step)}
            self._compute(step, computed, inputs)
            assert computed.built is not None
            whole = bind(computed.built.read(), {each: _rows(version) for each, version in inputs.items()})
            version = self.now[name]
            assert version.table is not None
            expected, found = (bag(self.session, each) for each in (whole, _rows(version).to_expr()))
            assert found == expected, name
            assert version.rows == sum(found.values()), name
            self.before.setdefault(name, []).append(version)

    def _compute(self, step: TransformStep, computed: Computed, inputs: Mapping[str, Version]) -> None:
        target = self.name(step.name)
        names = {name: version.version for name, version in inputs.items()}
        alike = [version for version in self.before.get(step.name, []) if version.identity == computed.identity]
        assert computed.built is not None
        built, needs = computed.built.read(), computed.needs
        assert needs is not None
        inferred = schema_to(built.schema())
        rows = {name: _rows(version).to_expr() for name, version in inputs.items()}

        def of_part(part: Part) -> ibis.Table:
            cut = {n: part.of_input(each, needs[n]) if n in needs else each for n, each in rows.items()}
            return part.of_table(bind(built, {name: each.op() for name, each in cut.items()}))

        if alike:
            base = alike[-1]
            then = {name: self.every[name, version] for name, version in base.inputs.items()}

            def create(table: TableName, part: Part) -> Created:
                made = of_part(part)
                return Created(self.session.create_as(table, made), made.schema())

            assert step.incremental is not None
            growth = Growth(self.session, step.incremental, computed, base, then, inputs, target.table, "v")
            try:
                grown = growth.make(create)
            except Whole:
                pass
            else:
                self.made[f"{step.name} by parts"] += 1
                self._add(
                    step.name,
                    grown.view,
                    schema_to(grown.columns),
                    inferred,
                    grown.rows,
                    grown.details,
                    names,
                    computed.identity,
                )
                return
        self.made[f"{step.name} as a whole"] += 1
        whole = bind(built, {name: each.op() for name, each in rows.items()})
        if isinstance(step.incremental, ByInterval):
            by = replace(step.incremental, batch=1 + self.number % 3)
            parts_of = batches(self.session, by, needs, rows)
            self.made["batches"] += len(parts_of)
            in_batches = sum((bag(self.session, of_part(part)) for part in parts_of), Counter())
            assert not parts_of or in_batches == bag(self.session, whole), step.name
        made = self.session.create_as(target, whole)
        self._add(
            step.name, target, schema_to(made.columns), inferred, made.rows, TableDetails(), names, computed.identity
        )


def _rows(version: Version) -> Any:
    assert version.table is not None
    return physical(version.table, schema_from(version.columns)).op()


def bag(session: Session, rows: ibis.Table) -> Counter[tuple[Any, ...]]:
    """The rows of a table, each with how often it is there."""
    return Counter(tuple(row.values()) for row in session.fetch(rows).to_pylist())


@contextmanager
def world(tmp: Any) -> Iterator[World]:
    backend = create_backend({"type": "duckdb", "path": str(tmp / "parts.duckdb")}, "test")
    with backend.session(QueryTag("acme", "run", "step")) as session:
        session.create_schema("v")
        yield World(session)
    backend.close()


@given(st.lists(st.lists(changes, min_size=1, max_size=3), min_size=4, max_size=20))
@settings(max_examples=6, deadline=None, phases=[Phase.generate])
def test_by_parts_is_as_a_whole(tmp_path_factory: pytest.TempPathFactory, rounds: list[list[tuple[str, Any]]]) -> None:
    with world(tmp_path_factory.mktemp("parts")) as its:
        its.shops({"a": "CH"})
        hours = [START + datetime.timedelta(hours=number) for number in range(12 * 24)]
        its.orders({n: (at, "ab"[n % 2], n % 3, n % 5, False) for n, at in enumerate(hours)})
        its.visits([(at, "ab"[n % 2], n % 3) for n, at in enumerate(hours[::12])])
        its.compute()
        for some in rounds:
            for what, given_ in some:
                its.change(what, given_)
            its.compute()


def test_other_types_of_an_input_compute_the_table_as_a_whole(tmp_path: Path) -> None:
    with world(tmp_path) as its:
        its.shops({"a": "CH"})
        its.orders({1: (START, "a", 1, 1, False)})
        its.visits([])
        its.compute()
        its.orders({2: (START, "a", 1, 1, False)})
        orders = its.now["orders"]
        its.now["orders"] = replace(orders, inferred={**orders.inferred, "amount": "float64"})
        its.made.clear()
        its.compute()
        assert its.made["daily as a whole"] == 1, "it uses the amount"
        assert its.made["batches"] > 0
        assert its.made["numbered by parts"] == 1, "it does not"

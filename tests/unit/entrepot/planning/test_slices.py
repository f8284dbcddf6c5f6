"""What is not used of an input does not count: what is skipped for that is as a full rebuild would make it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import ibis
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ibis import _
from sklearn.linear_model import LinearRegression

from entrepot import Pipeline, Table, split
from entrepot.identity.expression import bind, schema_from
from entrepot.planning import resolve as resolve_module
from entrepot.planning.plan import Addressed, Known, Plan, address, decide
from entrepot.planning.resolve import Resolved, resolve
from entrepot.planning.slices import Content
from tests.unit.entrepot.planning.expressions.test_lineage import COLUMNS, _apply, _joins, _verbs, edits

SCHEMA = schema_from(dict.fromkeys(COLUMNS, "int64"))
SALES = schema_from({"id": "int64", "shop": "string", "price": "float64", "day": "date"})


@dataclass
class World:
    """One environment and its catalog, over one raw table."""

    raw: Mapping[str, str]
    schema: Any = SALES
    published: dict[str, str] = field(default_factory=dict)
    known: dict[tuple[str, str], Known] = field(default_factory=dict)

    def plan(self, pipeline: Pipeline, selected: set[str] | None = None) -> tuple[Resolved, Addressed, Plan]:
        graph = pipeline.graph
        chosen = frozenset(graph.steps) if selected is None else frozenset(selected)
        resolved = resolve(graph, dict.fromkeys(self.raw, self.schema), {})
        shown = {name: self._content(name, version) for name, version in self.published.items()}
        addressed = address(graph, resolved.steps, self.raw, chosen, shown, "run")
        asked: dict[str, Any] = {"environment": "prod", "sequence": 1, "ingested": {}}
        return (
            resolved,
            addressed,
            decide(graph, resolved.steps, addressed, chosen, self.published, self.known, **asked),
        )

    def run(self, pipeline: Pipeline, selected: set[str] | None = None) -> dict[str, tuple[str, str]]:
        """Plans and does what the plan says. What each step does, and why."""
        resolved, addressed, plan = self.plan(pipeline, selected)
        for step in plan.to_run():
            version, its = plan.versions[step.name], resolved.steps[step.name]
            inputs = {name: plan.versions[name] for name in step.inputs}
            content = addressed.contents.get(step.name, Content(version))
            self.known[step.name, version] = Known(
                identity=its.identity, inputs=inputs, run="0123456789abcdef", contents=content.ids
            )
        self.published |= plan.moves
        return {step.name: (step.action, step.why) for step in plan.steps}

    def _content(self, name: str, version: str) -> Content:
        known = self.known.get((name, version))
        return Content(version, known.contents if known else None)


def shop(**changed: Any) -> Pipeline:
    """sales → dear → (dear_check), by_shop, learnt, told; any of them may be another."""
    p = Pipeline("shop")
    p.ingest(name="sales")(lambda: None)
    steps: dict[str, Any] = {
        "dear": lambda sales: sales.filter(_.price > 1).mutate(tax=_.price * 0.2, label=_.shop.upper()),
        "by_shop": lambda dear: dear.group_by("shop").agg(total=_.price.sum()),
        "days": lambda by_shop, dear: dear.join(by_shop, "shop").select("day", "total"),
        **changed,
    }
    for name, function in steps.items():
        p.transform(name=name)(function)
    p.check("dear", name="dear_check")(lambda dear: dear.filter(_.tax < 0).select("tax"))
    p.train(name="learnt", features="dear", target="tax", columns=["price"], score="r2", split=split.Share(key="id"))(
        lambda: LinearRegression(fit_intercept=True)
    )
    p.transform(name="told", engine="python", schema={"n": "int64"})(lambda dear: [])
    return p


def test_a_change_of_an_unused_column_stops_below_it() -> None:
    world = World({"sales": "load 1"})
    world.run(shop())
    assert {action for action, _ in world.run(shop()).values()} == {"skip"}
    other = shop(dear=lambda sales: sales.filter(_.price > 1).mutate(tax=_.price * 0.2, label=_.shop.lower()))
    unused = ("skip", "uses none of what changed in dear ('label')")
    assert world.run(other) == {
        "sales": ("skip", "asked"),
        "dear": ("run", "its code or a parameter changed"),
        "by_shop": unused,
        "days": unused,
        "dear_check": unused,
        "learnt": unused,
        "told": ("run", "dear changed"),
    }
    assert {action for action, _ in world.run(other).values()} == {"skip"}


def test_a_new_column_computes_one_table() -> None:
    world = World({"sales": "load 1"})
    world.run(shop())
    more = shop(
        dear=lambda sales: sales.filter(_.price > 1).mutate(
            tax=_.price * 0.2, label=_.shop.upper(), week=_.day.week_of_year()
        )
    )
    did = world.run(more)
    assert {name for name, (action, _) in did.items() if action == "run"} == {"dear", "told"}
    assert did["by_shop"][1] == "uses none of what changed in dear ('week')"


def test_a_change_of_a_used_column_computes_those_that_use_it() -> None:
    world = World({"sales": "load 1"})
    world.run(shop())
    did = world.run(shop(dear=lambda sales: sales.filter(_.price > 1).mutate(tax=_.price * 0.3, label=_.shop.upper())))
    assert {name for name, (action, _) in did.items() if action == "run"} == {"dear", "dear_check", "learnt", "told"}
    assert did["learnt"] == ("run", "dear changed")


def test_a_change_of_the_rows_computes_all() -> None:
    world = World({"sales": "load 1"})
    world.run(shop())
    did = world.run(shop(dear=lambda sales: sales.filter(_.price > 2).mutate(tax=_.price * 0.2, label=_.shop.upper())))
    assert {name for name, (action, _) in did.items() if action == "skip"} == {"sales"}
    assert did["by_shop"] == ("run", "dear changed")


def test_only_what_is_used_is_told_as_a_reason() -> None:
    world = World({"sales": "load 1"})
    world.run(shop())
    did = world.run(
        shop(
            dear=lambda sales: sales.filter(_.price > 1).mutate(tax=_.price * 0.2, label=_.shop.lower()),
            by_shop=lambda dear: dear.group_by("shop").agg(total=_.price.mean()),
        )
    )
    assert did["by_shop"] == ("run", "its code or a parameter changed")
    assert did["days"] == ("run", "by_shop changed")


def test_what_is_not_selected_counts_by_what_it_contains() -> None:
    world = World({"sales": "load 1"})
    world.run(shop())
    assert world.run(shop(), {"by_shop"})["by_shop"] == ("skip", "nothing changed")
    other = shop(dear=lambda sales: sales.filter(_.price > 1).mutate(tax=_.price * 0.2, label=_.shop.lower()))
    assert world.run(other, {"dear"})["dear"][0] == "run"
    assert world.run(other, {"by_shop"})["by_shop"][0] == "skip"


def test_an_input_that_is_not_read_does_not_count() -> None:
    world = World({"sales": "load 1"})
    pipeline = shop(days=lambda sales, by_shop: by_shop.select("total"))
    world.run(pipeline)
    world.raw = {"sales": "load 2"}
    assert world.run(pipeline)["days"] == ("run", "by_shop changed")


def test_an_order_of_columns_that_is_taken_over_counts() -> None:
    world = World({"sales": "load 1"})
    taken = {"days": lambda dear: dear.filter(_.tax > 0)}
    world.run(shop(**taken))
    turned = shop(dear=lambda sales: sales.filter(_.price > 1).mutate(label=_.shop.upper(), tax=_.price * 0.2), **taken)
    did = world.run(turned)
    assert did["days"][0] == "run"
    assert did["by_shop"][0] == "skip"


def test_another_version_of_a_package_is_other_code_for_all_that_it_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    def made() -> Pipeline:
        p = Pipeline("shop")
        p.ingest(name="sales")(lambda: None)
        p.transform(name="dear", depends=["numpy"])(lambda sales: sales.mutate(tax=_.price * 0.2))
        p.transform(name="ids")(lambda dear: dear.select("id"))
        return p

    world = World({"sales": "load 1"})
    world.run(made())
    monkeypatch.setattr(resolve_module, "installed", lambda depends: [f"{each} 99" for each in depends])
    assert {name for name, (action, _) in world.run(made()).items() if action == "run"} == {"dear", "ids"}


def test_what_varies_is_another_with_each_run() -> None:
    p = Pipeline("shop")
    p.ingest(name="sales")(lambda: None)
    p.transform(name="dear")(lambda sales: sales.mutate(at=ibis.now()))
    p.transform(name="ids")(lambda dear: dear.select("id"))
    world = World({"sales": "load 1"})
    first = world.plan(p)[1].versions
    resolved, _, _ = world.plan(p)
    again = address(p.graph, resolved.steps, world.raw, frozenset(p.graph.steps), {}, "another run").versions
    assert first["ids"] != again["ids"]


# Random pipelines whose steps change one by one, with tables that are made in a warehouse or left as they are.

STEPS = ("one", "two", "three", "four")
_recipe = st.lists(_verbs, max_size=3).filter(lambda recipe: _joins(recipe) <= (1, 1))
_rows = st.lists(st.tuples(*[st.none() | st.integers(0, 3)] * 3), max_size=4)
_pipelines = st.tuples(
    *(
        st.tuples(st.sampled_from(("t", *STEPS[:number])), st.sampled_from(("other", *STEPS[:number])), _recipe)
        for number in range(len(STEPS))
    )
)


def _pipeline(recipes: Any) -> Pipeline:
    p = Pipeline("random")
    p.ingest(name="t")(lambda: None)
    p.ingest(name="other")(lambda: None)
    for name, (reads, beside, recipe) in zip(STEPS, recipes, strict=True):
        p.transform(name=name)(_function(reads, beside, recipe))
    return p


def _function(reads: str, beside: str, recipe: Any) -> Any:
    def made(**given: Table) -> Table:
        other = given[beside].view() if beside == reads else given[beside]
        return reduce(
            lambda t, verb: _apply(t, verb, other).cast(dict.fromkeys(COLUMNS, "int64")).select(*COLUMNS),
            recipe,
            given[reads],
        )

    # ibis has to know what it takes, as a function that somebody has written.
    namespace: dict[str, Any] = {"made": made}
    names = ", ".join(dict.fromkeys((reads, beside)))
    exec(f"def step({names}): return made({', '.join(f'{n}={n}' for n in dict.fromkeys((reads, beside)))})", namespace)
    return namespace["step"]


def _table(rows: list[tuple[int | None, ...]]) -> pa.Table:
    return pa.table({name: pa.array([row[n] for row in rows], pa.int64()) for n, name in enumerate(COLUMNS)})


def _multiset(table: pa.Table) -> Counter[tuple[Any, ...]]:
    return Counter(zip(*(table[name].to_pylist() for name in COLUMNS), strict=True))


class Warehouse:
    """Tables by step and version."""

    def __init__(self) -> None:
        self.connection = ibis.duckdb.connect()
        self.tables: dict[tuple[str, str], pa.Table] = {}

    def make(self, resolved: Resolved, plan: Plan, name: str, inputs: tuple[str, ...]) -> pa.Table:
        """What a step computes of the versions that the plan names."""
        built = resolved.steps[name].built
        assert built is not None
        given = {
            each: self.connection.create_table(each, self.tables[each, plan.versions[each]], temp=True, overwrite=True)
            for each in inputs
        }
        return bind(built.read(), {each: table.op() for each, table in given.items()}).to_pyarrow()


@settings(max_examples=60)
@given(_pipelines, _rows, _rows, st.data())
def test_what_a_plan_leaves_is_as_a_rebuild_would_make_it(
    recipes: Any, t: list[Any], other: list[Any], data: st.DataObject
) -> None:
    warehouse = Warehouse()
    world = World({"t": "load", "other": "load"}, SCHEMA)
    warehouse.tables |= {("t", "load"): _table(t), ("other", "load"): _table(other)}
    current = list(recipes)
    for _round in range(data.draw(st.integers(1, 4))):
        number = data.draw(st.integers(0, len(STEPS) - 1))
        reads, beside, recipe = current[number]
        edited = data.draw(edits(recipe))
        if _round and _joins(edited) <= (1, 1):
            current[number] = (reads, beside, edited)
        pipeline = _pipeline(current)
        selected = data.draw(st.none() | st.sets(st.sampled_from(STEPS))) if _round else None
        resolved, _, plan = world.plan(pipeline, selected)
        for step in plan.to_run():
            warehouse.tables[step.name, plan.versions[step.name]] = warehouse.make(
                resolved, plan, step.name, step.inputs
            )
        world.run(pipeline, selected)
        if selected is None:
            for step in plan.steps:
                if step.name in STEPS:
                    rebuilt = warehouse.make(resolved, plan, step.name, step.inputs)
                    assert _multiset(warehouse.tables[step.name, plan.versions[step.name]]) == _multiset(rebuilt)

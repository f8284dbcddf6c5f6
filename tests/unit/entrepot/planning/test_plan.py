"""What a run does, and why: from a graph, versions and what the catalog knows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from entrepot import Pipeline
from entrepot.language.step import CheckStep, IngestStep
from entrepot.planning.graph import Graph
from entrepot.planning.plan import Known, Plan, address, decide
from entrepot.planning.resolve import Computed
from entrepot.planning.slices import Content


def shop() -> Graph:
    """sales, shops → dear → (dear_check), by_shop → page"""
    p = Pipeline("shop")
    p.ingest(name="source", tables=["sales", "shops"])(lambda: None)
    p.transform(name="dear")(lambda sales: sales)
    p.check("dear", name="dear_check")(lambda dear: dear)
    p.transform(name="by_shop")(lambda dear, shops: dear)
    p.publish(name="page")(lambda by_shop: by_shop)
    return p.graph


class World:
    """One environment and the catalog beside it: plans a graph, and runs what the plan says."""

    def __init__(self, graph: Graph, environment: str = "prod") -> None:
        self.graph = graph
        self.environment = environment
        self.identities = {name: f"code of {name}" for name, s in graph.steps.items() if not isinstance(s, IngestStep)}
        self.raw = {t: f"load of {t}" for s in graph.steps.values() if isinstance(s, IngestStep) for t in s.tables}
        self.published: dict[str, str] = {}
        self.known: dict[tuple[str, str], Known] = {}
        self.varying: dict[str, str] = {}

    def plan(self, selected: set[str] | None = None, run: str = "0123456789abcdef", **options: Any) -> Plan:
        chosen = frozenset(self.graph.steps if selected is None else selected)
        computed = {n: Computed(i, varies=self.varying.get(n, "")) for n, i in self.identities.items()}
        shown = {name: Content(version) for name, version in self.published.items()}
        addressed = address(self.graph, computed, self.raw, chosen, shown, run)
        asked: dict[str, Any] = {"environment": self.environment, "sequence": 1, "ingested": {}, **options}
        return decide(self.graph, computed, addressed, chosen, self.published, self.known, **asked)

    def run(self, selected: set[str] | None = None, run: str = "0123456789abcdef") -> Plan:
        plan = self.plan(selected, run)
        for step in plan.to_run():
            inputs = {name: plan.versions[name] for name in step.inputs}
            self.known[step.name, plan.versions[step.name]] = Known(
                identity=self.identities[step.name], inputs=inputs, run=run
            )
        self.published |= plan.moves
        self.published = {n: v for n, v in self.published.items() if n not in plan.removed}
        return plan

    def whys(self, selected: set[str] | None = None, **options: Any) -> Mapping[str, tuple[str, str]]:
        return {step.name: (step.action, step.why) for step in self.plan(selected, **options).steps}


def test_the_first_run_makes_everything() -> None:
    assert World(shop()).whys() == {
        "source": ("skip", "asked"),
        "dear": ("run", "new in prod"),
        "dear_check": ("run", "not checked yet"),
        "by_shop": ("run", "new in prod"),
        "page": ("run", "new in prod"),
    }


def test_before_the_ingest_the_rest_is_told_as_far_as_it_is_known() -> None:
    world = World(shop())
    del world.raw["shops"]
    found = world.whys(ingested=None)
    assert found["source"] == ("run", "a source is asked at every run")
    assert found["dear"] == ("run", "new in prod")
    assert found["by_shop"] == ("run", "what it reads is not there yet")


def test_what_an_ingest_did_is_told() -> None:
    assert World(shop()).whys(ingested={"source": "its files are unchanged"})["source"] == (
        "skip",
        "its files are unchanged",
    )


def test_a_run_with_nothing_new_does_nothing() -> None:
    world = World(shop())
    world.run()
    plan = world.plan()
    assert not plan.to_run()
    assert plan.moves == {}
    assert {why for name, (_, why) in world.whys().items() if name != "source"} == {"nothing changed"}


def test_a_change_of_code_recomputes_what_is_downstream() -> None:
    world = World(shop())
    world.run()
    world.identities["by_shop"] = "other code"
    assert world.whys() == {
        "source": ("skip", "asked"),
        "dear": ("skip", "nothing changed"),
        "dear_check": ("skip", "nothing changed"),
        "by_shop": ("run", "its code or a parameter changed"),
        "page": ("run", "by_shop changed"),
    }


def test_new_rows_recompute_what_reads_them() -> None:
    world = World(shop())
    world.run()
    world.raw["shops"] = "another load"
    assert world.whys()["dear"] == ("skip", "nothing changed")
    assert world.whys()["by_shop"] == ("run", "shops changed")


def test_two_reasons_are_told_together() -> None:
    world = World(shop())
    world.run()
    world.raw |= {"shops": "another load", "sales": "another load"}
    world.identities["by_shop"] = "other code"
    assert world.whys()["by_shop"] == ("run", "its code or a parameter changed and dear, shops changed")


def test_an_input_more_is_a_change_of_code() -> None:
    world = World(shop())
    world.run()
    version = world.published["by_shop"]
    world.known["by_shop", version] = world.known["by_shop", version].model_copy(update={"inputs": {"dear": "x"}})
    world.identities["by_shop"] = "other code"
    assert world.whys()["by_shop"][1].startswith("its code or a parameter changed")


def test_what_another_run_made_is_taken_and_not_made_again() -> None:
    dev = World(shop(), "dev")
    dev.run(run="fedcba9876543210")
    prod = World(shop())
    prod.known = dev.known
    assert prod.whys()["dear"] == ("skip", "made before, by run fedcba9876543")
    assert prod.plan().moves == dev.published


def test_what_reads_the_clock_runs_every_time_and_so_does_what_reads_it() -> None:
    world = World(shop())
    world.varying = {"dear": "it reads the clock"}
    world.run(run="1" * 16)
    assert world.whys(run="2" * 16) == {
        "source": ("skip", "asked"),
        "dear": ("run", "it reads the clock, so it runs every time"),
        "dear_check": ("run", "not checked yet"),
        "by_shop": ("run", "dear changed"),
        "page": ("run", "by_shop changed"),
    }
    assert not world.plan(run="1" * 16).to_run()  # what the run itself has made, it need not make again


def test_a_check_that_reads_the_clock_runs_every_time_alone() -> None:
    world = World(shop())
    world.varying = {"dear_check": "it reads the clock"}
    world.run(run="1" * 16)
    plan = world.plan(run="2" * 16)
    assert [step.name for step in plan.to_run()] == ["dear_check"]
    assert plan.moves == {}


def test_what_reads_the_clock_and_is_not_selected_stays() -> None:
    world = World(shop())
    world.varying = {"dear": "it reads the clock"}
    world.run(run="1" * 16)
    assert not world.plan({"by_shop"}, run="2" * 16).to_run()


def test_going_back_to_old_code_is_a_move_of_pointers() -> None:
    world = World(shop())
    world.run(run="1" * 16)
    first = dict(world.published)
    world.identities["dear"] = "other code"
    world.run(run="2" * 16)
    world.identities["dear"] = "code of dear"
    plan = world.plan()
    assert not plan.to_run()
    assert world.published | plan.moves == first
    assert world.whys()["by_shop"] == ("skip", "made before, by run 1111111111111")


def test_a_published_version_that_the_catalog_lost_is_told() -> None:
    world = World(shop())
    world.run()
    world.known.clear()
    assert world.whys()["dear"] == ("run", "its version is gone from prod")


def test_a_step_that_is_not_selected_stays_as_it_is_published() -> None:
    world = World(shop())
    world.run()
    world.identities["dear"] = "other code"
    plan = world.plan({"by_shop"})
    assert world.whys({"by_shop"})["dear"] == ("hold", "not selected")
    assert plan.versions["dear"] == world.published["dear"]
    assert plan.moves == {}


def test_what_reads_a_held_table_that_nobody_published_is_held_too() -> None:
    found = World(shop()).whys({"by_shop", "source"})
    assert found["dear"] == ("hold", "not selected, and not in prod")
    assert found["by_shop"] == ("hold", "reads dear, which this run does not make and prod does not have")


def test_names_that_the_pipeline_no_longer_makes_are_removed() -> None:
    world = World(shop())
    world.run()
    world.published["old"] = "0"
    assert world.plan().removed == ("old",)
    world.run()
    assert world.plan().removed == ()


def test_a_partial_run_removes_nothing() -> None:
    world = World(shop())
    world.published["old"] = "0"
    assert world.plan({"dear"}).removed == ()
    all_but_sources = {step.name for step in world.graph.steps.values() if not step.is_source}
    assert world.plan(all_but_sources).removed == ("old",)


def test_checks_are_versions_but_are_not_published() -> None:
    plan = World(shop()).plan()
    assert "dear_check" in plan.versions
    assert "dear_check" not in plan.moves


def test_a_plan_is_the_same_after_a_trip_through_json() -> None:
    plan = World(shop()).plan()
    assert Plan.model_validate_json(plan.model_dump_json()) == plan


# Any graph.


@st.composite
def worlds(draw: st.DrawFn) -> World:
    p = Pipeline("shop")
    p.ingest(name="source", tables=["r0", "r1"])(lambda: None)
    names = ["r0", "r1"]
    for number in range(draw(st.integers(1, 9))):
        reads = draw(st.lists(st.sampled_from(names), min_size=1, max_size=3, unique=True))
        namespace: dict[str, Any] = {}
        exec(f"def t{number}({', '.join(reads)}): ...", namespace)
        if draw(st.booleans()) or number == 0:
            p.transform(namespace[f"t{number}"])
            names.append(f"t{number}")
        else:
            p.check(reads[0])(namespace[f"t{number}"])
    return World(p.graph)


def _steps(world: World) -> list[str]:
    return sorted(world.identities)


def _subset(data: st.DataObject, world: World) -> set[str]:
    return data.draw(st.sets(st.sampled_from(_steps(world)), min_size=1))


@given(worlds(), st.data())
def test_exactly_the_descendants_of_a_changed_step_change(world: World, data: st.DataObject) -> None:
    before = world.plan().versions
    changed = data.draw(st.sampled_from(_steps(world)))
    world.identities[changed] = "other code"
    after = world.plan().versions
    expected = {changed, *world.graph.reach([changed], world.graph.downstream)}
    assert {name for name in before if before[name] != after[name]} == expected


@given(worlds(), st.sampled_from(["r0", "r1"]))
def test_exactly_the_descendants_of_new_rows_change(world: World, table: str) -> None:
    before = world.plan().versions
    world.raw[table] = "another load"
    after = world.plan().versions
    readers = {name for name, step in world.graph.steps.items() if table in step.inputs}
    expected = {table, *readers, *world.graph.reach(readers, world.graph.downstream)}
    assert {name for name in before if before[name] != after[name]} == expected


@given(worlds(), st.data())
def test_a_version_depends_on_nothing_downstream(world: World, data: st.DataObject) -> None:
    step = data.draw(st.sampled_from(_steps(world)))
    whole = world.plan().versions[step]
    upstream = {step, *world.graph.reach([step], world.graph.upstream)}
    p = Pipeline("shop")
    p.steps = [s for n, s in world.graph.steps.items() if n in upstream]
    world.graph = p.graph
    assert world.plan().versions[step] == whole


@given(worlds(), st.data())
def test_a_second_run_does_what_the_first_left(world: World, data: st.DataObject) -> None:
    world.run()
    for name in _subset(data, world):
        world.identities[name] = "other code"
    ran = {step.name for step in world.run().to_run()}
    changed = {n for n, code in world.identities.items() if code == "other code"}
    assert ran == changed | world.graph.reach(changed, world.graph.downstream)
    assert not world.plan().to_run()


@given(worlds(), st.data())
def test_only_what_is_selected_moves(world: World, data: st.DataObject) -> None:
    world.run()
    before = dict(world.published)
    world.identities = dict.fromkeys(world.identities, "other code")
    selected = _subset(data, world)
    plan = world.run(selected)
    assert set(plan.moves) <= selected
    assert {n: v for n, v in world.published.items() if n not in selected} == {
        n: v for n, v in before.items() if n not in selected
    }
    assert all(step.action == "hold" for step in plan.steps if step.name not in selected)


@given(worlds(), st.data())
def test_however_a_run_is_divided_the_end_is_the_same(world: World, data: st.DataObject) -> None:
    divided = World(world.graph)
    divided.run({"source"})
    for name in [n for n, s in world.graph.steps.items() if not isinstance(s, IngestStep)]:
        divided.run({name})
    world.run()
    assert divided.published == world.published
    assert set(divided.known) == set(world.known)


@given(worlds())
def test_every_step_has_a_reason_and_a_plan_survives_json(world: World) -> None:
    plan = world.plan()
    assert all(step.why for step in plan.steps)
    assert [step.name for step in plan.steps] == list(world.graph.steps)
    assert Plan.model_validate_json(plan.model_dump_json()) == plan


@given(worlds())
def test_the_planned_checks_name_what_they_guard(world: World) -> None:
    guards = {name: step.guards for name, step in world.graph.steps.items() if isinstance(step, CheckStep)}
    assert {step.name: step.guards for step in world.plan().steps if step.guards} == guards

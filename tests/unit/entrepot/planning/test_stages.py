"""The stages of a run, and what is said of them."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from entrepot.language.step import KINDS
from entrepot.planning.plan import Plan, PlannedStep
from entrepot.planning.stages import Compute, Ingest, Promote, Verify, explain, stages

STEPS = st.lists(
    st.builds(
        PlannedStep,
        name=st.text("abc", min_size=1),
        kind=st.sampled_from(sorted(KINDS)),
        action=st.sampled_from(["run", "skip", "hold"]),
        why=st.just(""),
    ),
    unique_by=lambda step: step.name,
)


def step(name: str, kind: str, action: str = "run") -> PlannedStep:
    return PlannedStep.model_validate({"name": name, "kind": kind, "action": action, "why": ""})


PLAN = Plan(
    steps=(
        step("source", "ingest"),
        step("orders", "transform"),
        step("totals", "transform"),
        step("some", "check"),
        step("old", "transform", "skip"),
    ),
    versions={},
    moves={"raw": "r1", "orders": "o1", "totals": "t1"},
    removed=("gone",),
)


def test_a_plan_is_executed_in_stages() -> None:
    assert [explain(stage) for stage in stages(PLAN, "other")] == [
        "ingest source",
        "compute transform orders and totals, check some",
        "compare orders and totals with other",
        "promote orders, raw and totals, and what is new, remove gone",
    ]


def test_a_run_that_has_nothing_to_do_is_promoted_all_the_same() -> None:
    assert stages(Plan(steps=(), versions={}), "other") == (Promote((), ()),)
    assert explain(Promote((), ())) == "promote nothing"
    assert explain(Promote((), (), is_all=False)) == "promote what is new"
    assert explain(Promote(("a", "b"), (), is_all=False)) == "promote a and b, and what is new"
    assert explain(Promote((), ("a",))) == "remove a"
    assert explain(Promote(("b",), ("a",))) == "promote b, remove a"


@pytest.mark.parametrize(("count", "said"), [(4, "a0, a1, a2 and a3"), (5, "a0, a1, a2 and 2 more")])
def test_many_names_are_cut(count: int, said: str) -> None:
    assert explain(Verify(tuple(f"a{n}" for n in range(count)), "other")) == f"compare {said} with other"


@settings(max_examples=50)
@given(STEPS)
def test_stages_have_each_step_that_runs_once_and_in_its_order(steps: list[PlannedStep]) -> None:
    plan = Plan(steps=tuple(steps), versions={}, moves={step.name: "v" for step in steps})
    every = stages(plan, None)
    staged = [step for stage in every if isinstance(stage, Ingest | Compute) for step in stage.steps]
    assert staged == sorted(plan.to_run(), key=lambda step: step.kind != "ingest")
    is_all = all(step.kind != "ingest" for step in plan.to_run())
    assert every[-1] == Promote(tuple(sorted(plan.moves)), (), is_all)

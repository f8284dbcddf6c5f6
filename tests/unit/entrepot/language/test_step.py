"""A kind of step is one class: what it says of itself is all that the graph and the plan ask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import pytest

from entrepot import BadInput, Pipeline, PipelineError, Table
from entrepot.errors import Location
from entrepot.language.step import KINDS, Made, Step
from entrepot.planning.graph import Graph
from entrepot.planning.plan import address
from entrepot.planning.resolve import resolve
from entrepot.planning.selection import select

SALES = {"id": "int64", "price": "float64"}


@dataclass(frozen=True, eq=False, kw_only=True)
class Announcement(Step):
    """A kind that Entrepot does not have: tells people about a table."""

    kind: ClassVar[Any] = "announcement"
    stage: ClassVar[str] = "announce"
    to: str

    def problems(self) -> Any:
        """Somebody has to hear it."""
        if not self.to:
            yield f"announcement {self.name!r} is for nobody"


def shop(*steps: Step) -> Graph:
    made = Pipeline("shop")

    @made.ingest(tables={"sales": SALES})
    def source() -> None: ...

    return Graph.build("shop", [*made.steps, *steps], {})


def announced(sales: Table) -> str:
    return f"{sales.count()} sales"


def announcement(to: str = "ops", **options: Any) -> Announcement:
    return Announcement(name="news", function=announced, inputs=("sales",), at=Location("shop.py", 1), to=to, **options)


def test_a_new_kind_is_ordered_selected_and_versioned_as_any_other() -> None:
    graph = shop(announcement())
    assert list(graph.steps) == ["source", "news"]
    assert select(graph, "sales+") == {"source", "news"}
    found = resolve(graph, {}, graph.parameters)
    versions = address(graph, found.steps, {"sales": "1"}, frozenset(graph.steps), {}).versions
    assert versions.keys() == {"sales", "news"}
    assert versions != address(graph, found.steps, {"sales": "2"}, frozenset(graph.steps), {}).versions


def test_what_is_wrong_with_a_new_kind_is_told_with_its_place() -> None:
    with pytest.raises(PipelineError, match=r"shop.py:1: announcement 'news' is for nobody"):
        shop(announcement(to=""))


def test_no_step_can_read_what_a_kind_produces_for_nobody() -> None:
    reader = Announcement(name="echo", function=print, inputs=("news",), at=Location("shop.py", 9), to="ops")
    with pytest.raises(PipelineError, match="announcement 'echo': unknown input 'news'"):
        shop(announcement(), reader)


MADE: dict[str, Made | None] = {
    "ingest": "Table",
    "transform": "Table",
    "check": None,
    "train": "Model",
    "publish": None,
}


def test_every_kind_says_what_it_produces_and_in_which_stage() -> None:
    assert {name: kind.produces for name, kind in KINDS.items()} == MADE
    assert [kind.stage for kind in KINDS.values()] == ["ingest", "transform", "transform", "train", "publish"]


def test_what_a_step_reads_makes_and_guards() -> None:
    p = Pipeline("shop", parameters={"most": 3})

    @p.ingest(tables=["sales", "shops"])
    def source() -> None: ...

    @p.transform
    def dear(sales: Table, most: int) -> Table:
        return sales.filter(sales.price > most)

    @p.check(dear)
    def cheap(dear: Table) -> Table:
        return dear.filter(dear.price < 0)

    @p.train(features=dear, target="price", score="r2")
    def model(most: int) -> None: ...

    @p.publish
    def board(dear: Table) -> None: ...

    steps = p.graph.steps
    assert {name: step.reads for name, step in steps.items()} == {
        "source": (),
        "dear": ("sales", "most"),
        "cheap": ("dear",),
        "model": ("dear", "most"),
        "board": ("dear",),
    }
    assert {name: step.outputs for name, step in steps.items() if step.outputs} == {
        "source": ("sales", "shops"),
        "dear": ("dear",),
        "model": ("model",),
        "board": ("board",),
    }
    assert [step.output_tables for step in steps.values()] == [("sales", "shops"), ("dear",), (), (), ()]
    assert [step.is_sql for step in steps.values()] == [False, True, True, False, False]
    assert steps["cheap"].guards == ("dear",)


def test_selecting_by_a_kind_that_there_is_not_tells_those_that_there_are() -> None:
    with pytest.raises(BadInput, match="unknown kind 'announcement'"):
        select(shop(), "kind:announcement")

"""Which steps a selection means."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot import BadInput, Model, Pipeline, Table
from entrepot.planning.graph import Graph
from entrepot.planning.selection import select

flights = Pipeline("flights", owner="data")


@flights.ingest(tables=["flights", "weather"])
def nyc() -> None: ...


@flights.transform(tags=["hourly"])
def departures(flights: Table, weather: Table) -> Table: ...


@flights.check(departures)
def no_time_travel(departures: Table) -> Table: ...


@flights.train(features=departures, target="late", score="roc_auc", tags="weekly")
def delay_model() -> object: ...


@flights.transform(tags=["hourly"], owner="ops")
def delay_risk(departures: Table, delay_model: Model) -> Table: ...


@flights.publish
def risk_board(delay_risk: Table) -> object: ...


DEPARTURES = {"departures", "no_time_travel"}
SELECTIONS = {
    "departures": DEPARTURES,
    "weather": {"nyc"},
    "departures+": {*DEPARTURES, "delay_model", "delay_risk", "risk_board"},
    "departures+1": {*DEPARTURES, "delay_model", "delay_risk"},
    "+delay_risk": {"nyc", *DEPARTURES, "delay_model", "delay_risk"},
    "1+delay_risk": {*DEPARTURES, "delay_model", "delay_risk"},
    "+delay_model+": {"nyc", *DEPARTURES, "delay_model", "delay_risk", "risk_board"},
    "tag:hourly": {*DEPARTURES, "delay_risk"},
    "tag:week*": {"delay_model"},
    "tag:weekly+": {"delay_model", "delay_risk", "risk_board"},
    "kind:train": {"delay_model"},
    "owner:ops": {"delay_risk"},
    "delay_*": {"delay_model", "delay_risk"},
    "nyc risk_board": {"nyc", "risk_board"},
    "nyc, risk_board": {"nyc", "risk_board"},
    "tag:hourly&owner:ops": {"delay_risk"},
    "tag:hourly & +risk_board, kind:train": {*DEPARTURES, "delay_risk", "delay_model"},
}


@pytest.mark.parametrize("expression", SELECTIONS)
def test_selection(expression: str) -> None:
    assert select(flights.graph, expression) == SELECTIONS[expression]


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("departure", "unknown step 'departure'; did you mean 'departures'?"),
        ("tag:hourli", "unknown tag 'hourli'; did you mean 'hourly'?"),
        ("kind:model", "unknown kind 'model'. Known: 'check', 'ingest'"),
        ("owner:nobody", "unknown owner 'nobody'. Known: 'data', 'ops'"),
        ("by:late", "unknown selection method 'by'. Known: 'kind', 'owner', 'tag'"),
        ("a++b", "cannot read 'a++b' in the selection 'a++b'; write a step's name"),
        ("", "the selection '' selects no step of pipeline 'flights'"),
        ("kind:train&kind:check", "selects no step of pipeline 'flights'"),
    ],
)
def test_what_cannot_be_selected_is_told_with_what_is_known(expression: str, said: str) -> None:
    with pytest.raises(BadInput) as caught:
        select(flights.graph, expression)
    assert said in str(caught.value)


def test_nothing_is_published_past_its_checks() -> None:
    assert "no_time_travel" in select(flights.graph, "departures")


@given(st.sampled_from(sorted(flights.graph.steps)), st.integers(0, 5))
def test_depth_grows_towards_everything(name: str, depth: int) -> None:
    graph: Graph = flights.graph
    assert select(graph, f"{depth}+{name}") <= select(graph, f"{depth + 1}+{name}") <= select(graph, f"+{name}")
    assert select(graph, f"{name}+{depth}") <= select(graph, f"{name}+")
    assert select(graph, f"+{name}+") == select(graph, f"+{name} {name}+")

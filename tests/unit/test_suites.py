"""Where tests run, and what is said of it at the end."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tests import suites
from tests.groups import group_of, turn_of

CONFORMANCE = "tests/conformance/test_operations.py::test_operation"


@pytest.mark.parametrize(
    ("nodeid", "group", "suite"),
    [
        (f"{CONFORMANCE}[bigquery-string-re_search]", "bigquery", "conformance on bigquery"),
        (f"{CONFORMANCE}[duckdb-join-inner]", "duckdb", "conformance on duckdb"),
        ("tests/conformance/test_names.py::test_folding[databricks-load]", "databricks", "conformance on databricks"),
        (
            "tests/conformance/test_matrix.py::test_the_page_is_current",
            "tests/conformance/test_matrix.py",
            "conformance",
        ),
        ("tests/backends/test_snowflake.py::test_it[bigquery]", "snowflake", "backends on snowflake"),
        ("tests/backends/test_bigquery_limits.py::test_it", "bigquery", "backends on bigquery"),
        ("tests/backends/test_duckdb_turns.py::test_it[a-b]", "duckdb", "backends on duckdb"),
        ("tests/backends/test_outside.py::test_on_duckdb", "tests/backends/test_outside.py", "backends"),
        ("tests/standins/test_databricks_gate.py::test_it", "databricks", "standins on databricks"),
        ("tests/standins/test_install.py::test_it[bigquery]", "", "standins"),
        ("tests/crash/test_standins.py::test_each[snowflake]", "crash on stand-ins", "crash on stand-ins"),
        ("tests/crash/test_matrix.py::test_it", "crash", "crash"),
        ("tests/workflows/test_run.py::test_a_path[x/y[0]-duckdb]", "", "workflows"),
    ],
)
def test_each_test_has_a_group_and_a_suite(nodeid: str, group: str, suite: str) -> None:
    assert (group_of(nodeid), suites.suite_of(nodeid)) == (group, suite)


def _report(nodeid: str, start: float, seconds: float) -> Any:
    return SimpleNamespace(nodeid=nodeid, start=start, stop=start + seconds, duration=seconds)


def test_the_table_has_every_suite_in_the_order_in_which_they_began() -> None:
    stats = {
        "": [_report("tests/unit/test_a.py::test_a", 110.0, 30.0)],  # what is prepared counts as work, and as no test
        "passed": [
            _report("tests/unit/test_a.py::test_a", 140.0, 45.0),
            _report("tests/crash/test_matrix.py::test_b", 100.0, 400.0),
        ],
        "failed": [_report("tests/unit/test_a.py::test_c", 200.0, 5.0)],
        "warnings": [SimpleNamespace(nodeid="tests/unit/test_a.py::test_a")],
        "error": [_report("tests/unit/test_broken.py", 0.0, 1.0)],
    }
    head, *lines = suites.table(suites.suites(stats))
    assert head.split() == ["suite", "tests", "work", "from", "until", "minutes"]
    assert [line.split() for line in lines] == [
        ["crash", "1", "6:40", "0:00", "6:40", "1", "passed"],
        ["unit", "2", "1:20", "0:10", "1:45", "1", "passed,", "1", "failed"],
    ]


def test_the_processors_are_told_by_what_they_did_meanwhile() -> None:
    before = suites.Processors(whole=1000.0, idle=900.0)
    assert suites.Processors(1200.0, 950.0).line(before).endswith(" processors, busy 75% of the time")
    assert suites.Processors.now().whole >= suites.Processors.now().idle > 0


def test_what_takes_long_begins_before_what_does_not() -> None:
    nodeids = [
        "tests/unit/test_a.py::test_a",
        "tests/activities/ml/test_a.py::test_a",
        "tests/worker/test_dev.py::test_a",
        "tests/unit/test_house.py::test_a",
        "tests/worker/test_cli.py::test_a",
        "tests/crash/test_matrix.py::test_a",
        f"{CONFORMANCE}[databricks-join-inner]",
    ]
    assert sorted(nodeids, key=turn_of) == nodeids[::-1]

"""Which tests run one after another in one process, since they share what is dear to start or must not be disturbed."""

from __future__ import annotations

import re

from xdist.scheduler import LoadScopeScheduling

GROUPS = ("databricks", "crash on stand-ins", "crash", "bigquery", "snowflake", "duckdb")
"""Stand-ins, whose faults are told to the server and so meet everybody; the cases that die, which mostly wait for those
who come after them; and the inputs of the conformance suite. In this order, so that what takes longest begins first."""

FILES = (
    "tests/worker/test_cli.py",
    "tests/worker/test_install.py",
    "tests/backends/test_outside.py",
    "tests/conformance/test_matrix.py",
    "tests/workflows/test_time_skipping.py",
    "tests/workflows/test_words.py",
    "tests/activities/ingest/sources/dlt/test_rest.py",
    "tests/activities/ingest/sources/postgres/test_types.py",
)
"""Their tests share a server or what another process has computed."""

FOLDERS = ("worker", "workflows", "faults", "activities")
"""The folders whose tests take longest each."""

SLOW = ("tests/unit/test_benchmarks.py", "tests/unit/test_flights_example.py", "tests/unit/test_house.py")
"""Unit tests that take long, and are left out of the daily loop."""

_WITH_STANDINS = re.compile(r"tests/(backends|conformance|standins)\b")


def group_of(nodeid: str) -> str:
    """The group that a test belongs to; empty if it may run anywhere.

    >>> group_of("tests/conformance/test_types.py::test_no_rows[bigquery]")
    'bigquery'
    """
    path, _, parameters = nodeid.partition("[")
    file = path.partition("::")[0]
    if file in FILES:
        return file
    if nodeid.startswith("tests/crash/"):
        return "crash on stand-ins" if file.endswith("/test_standins.py") else "crash"
    if not _WITH_STANDINS.match(nodeid):
        return ""
    # What is tried on several is told by its parameters, and the rest by its folder or file.
    words = re.split(r"[-\]]", parameters) if "/conformance/" in path else re.split(r"\W|_", path)
    return next((group for group in GROUPS if group in words), "")


def turn_of(nodeid: str) -> int:
    """When a test begins, among all: groups first, and what takes long before what does not.

    So the end is even: when nothing is left to be given out, every process is about to end.
    """
    path, folder = nodeid.partition("::")[0], nodeid.split("/")[1]
    turns = (*GROUPS, *FILES, *SLOW, *FOLDERS)
    return next((turns.index(known) for known in (group_of(nodeid), path, folder) if known in turns), len(turns))


def is_fast(nodeid: str) -> bool:
    """Whether `make test-fast` runs a test, besides the few whole runs that are marked: `fast`."""
    path = nodeid.partition("::")[0]
    if path.startswith("tests/conformance/"):
        return group_of(nodeid) == "duckdb" and path != "tests/conformance/test_flights.py"
    return path.startswith(("tests/unit/", "tests/replay/")) and path not in SLOW


class Scheduling(LoadScopeScheduling):
    """Gives each group to a process, and of all other tests one by one to whoever is free.

    The runner's own marks for groups have no effect with pytest 9.2: they are put into a field that it does not have.
    """

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid) or nodeid

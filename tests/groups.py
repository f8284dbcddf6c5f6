"""Which tests run one after another in one process, since they share what is dear to start or must not be disturbed."""

from __future__ import annotations

import re

from xdist.scheduler import LoadScopeScheduling

GROUPS = ("databricks", "crash", "bigquery", "snowflake", "duckdb")
"""Stand-ins, whose faults are told to the server and so meet everybody; the cases that die; and the inputs of the
conformance suite. In this order, so that what takes longest begins first."""

_WITH_STANDINS = re.compile(r"tests/(backends|conformance|standins|crash/test_standins)\b")


def group_of(nodeid: str) -> str:
    """The group that a test belongs to; empty if it may run anywhere.

    >>> group_of("tests/conformance/test_types.py::test_no_rows[bigquery]")
    'bigquery'
    """
    path, _, parameters = nodeid.partition("[")
    if nodeid.startswith("tests/crash/") and "test_standins" not in path:
        return "crash"
    if not _WITH_STANDINS.match(nodeid):
        return ""
    # What is tried on several is told by its parameters, and the rest by its folder or file.
    words = re.split(r"[-\]]", parameters) if "/conformance/" in path or "/crash/" in path else re.split(r"\W|_", path)
    return next((group for group in GROUPS if group in words), "")


class Scheduling(LoadScopeScheduling):  # type: ignore[misc] # it is not typed
    """Gives each group to a process, and of all other tests one by one to whoever is free.

    The runner's own marks for groups have no effect with pytest 9.2: they are put into a field that it does not have.
    """

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid) or nodeid

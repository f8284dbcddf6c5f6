"""The suites that tests belong to, and the table that says which ran and for how long."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import psutil

from tests.groups import GROUPS, group_of

OUTCOMES = ("passed", "failed", "error", "skipped", "xfailed")


def suite_of(nodeid: str) -> str:
    """The suite of a test: its folder below `tests`, and the warehouse that it runs on, if it needs one.

    >>> suite_of("tests/conformance/test_types.py::test_no_rows[bigquery]")
    'conformance on bigquery'
    """
    folder = nodeid.partition("::")[0].split("/")[1]
    group = group_of(nodeid)
    if group not in GROUPS:
        return folder
    return group if group.startswith(folder) else f"{folder} on {group}"


@dataclass
class Suite:
    """What became of the tests of a suite."""

    outcomes: Counter[str] = field(default_factory=Counter)
    work: float = 0.0
    """Seconds that its tests took, summed up over the processes that they ran in."""
    begin: float = float("inf")
    end: float = 0.0
    """When its first test began and its last one ended, in seconds since 1970."""


@dataclass(frozen=True)
class Processors:
    """What the machine's processors have done since it started, in seconds of all of them."""

    whole: float
    idle: float

    @classmethod
    def now(cls) -> Processors:
        """Until now."""
        times = psutil.cpu_times()
        return cls(sum(times), times.idle + getattr(times, "iowait", 0.0))

    def line(self, before: Processors) -> str:
        """How busy they were: where they always were, only less work makes the whole faster."""
        busy = 1 - (self.idle - before.idle) / (self.whole - before.whole)
        return f"{psutil.cpu_count()} processors, busy {busy:.0%} of the time"


def suites(stats: dict[str, list[Any]]) -> dict[str, Suite]:
    """The suites that a terminal reporter has heard of."""
    found: dict[str, Suite] = {}
    for outcome, reports in stats.items():
        for report in _reports(reports):
            suite = found.setdefault(suite_of(report.nodeid), Suite())
            suite.work += report.duration
            if report.start:  # it has none where the process has ended
                suite.begin, suite.end = min(suite.begin, report.start), max(suite.end, report.stop)
            if outcome in OUTCOMES:
                suite.outcomes[outcome] += 1
    return found


def table(ran: Mapping[str, Suite]) -> Iterator[str]:
    """The lines of the table: the suites in the order in which they began; at least one."""
    found = sorted(ran.items(), key=lambda item: item[1].begin)
    first = found[0][1].begin
    yield f"{'suite':<28} {'tests':>6}  {'work':>7}  {'from':>7}  {'until':>7}  minutes"
    for name, suite in found:
        times = [_minutes(seconds) for seconds in (suite.work, suite.begin - first, suite.end - first)]
        told = ", ".join(f"{suite.outcomes[o]} {o}" for o in OUTCOMES if suite.outcomes[o])
        yield f"{name:<28} {suite.outcomes.total():>6}  {'  '.join(times)}  {told}"


def _reports(reports: Iterable[Any]) -> Iterator[Any]:
    # Warnings stand among them, and whole files that could not be collected.
    return (report for report in reports if hasattr(report, "duration") and "::" in report.nodeid)


def _minutes(seconds: float) -> str:
    return f"{int(seconds) // 60:>4}:{int(seconds) % 60:02}"

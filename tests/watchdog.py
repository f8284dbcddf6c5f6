"""A run of tests that comes to its end, and says what has failed, whatever hangs.

The time-out of a test interrupts its main thread, once. What cannot be interrupted, or hangs as fixtures end after
that, would take the whole run with it, and nobody would learn which test it was.
"""

from __future__ import annotations

import faulthandler
import os
import sys
from collections.abc import Generator

import pytest

GRACE_SECONDS = 120
"""Between the interruption of a test and the end of its process; and how long fixtures may take to end."""


class Watchdog:
    """Ends a process whose test hangs, after the stacks of all its threads; and tells each failure at once."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        # What stands in for standard error while tests run is lost with the process.
        self._stderr = os.dup((sys.__stderr__ or sys.stderr).fileno())

    def _watch(self, seconds: float) -> None:
        faulthandler.dump_traceback_later(seconds, exit=True, file=self._stderr)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        marker = item.get_closest_marker("timeout")
        self._watch(float(marker.args[0] if marker else self._config.getini("timeout")) + GRACE_SECONDS)
        try:
            return (yield)
        finally:
            faulthandler.cancel_dump_traceback_later()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(self) -> Generator[None, object, object]:
        # The runner itself ends the watch when a test has failed.
        self._watch(GRACE_SECONDS)
        return (yield)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        terminal = self._config.pluginmanager.getplugin("terminalreporter")
        if report.failed and terminal is not None:
            crash = getattr(report.longrepr, "reprcrash", None)
            why = crash.message.strip().partition("\n")[0] if crash else "its process has ended"
            terminal.ensure_newline()
            terminal.write_line(f"{report.nodeid} failed: {why}")

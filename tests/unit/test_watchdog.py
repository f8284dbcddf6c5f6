"""What keeps a run of tests from its end is ended, and named."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

CONFTEST = """
from tests import watchdog
watchdog.GRACE_SECONDS = 10
def pytest_configure(config):
    config.pluginmanager.register(watchdog.Watchdog(config))
"""

TESTS = """
import threading
import pytest

@pytest.fixture
def never_ends():
    yield
    while True:
        try:
            threading.Event().wait()
        except BaseException:
            pass

def test_before():
    pass

@pytest.mark.timeout(1)
def test_that_is_stuck(never_ends):
    threading.Event().wait()
"""


def test_a_test_that_cannot_be_interrupted_ends_the_run_and_is_named(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_stuck.py").write_text(TESTS)
    asked = ["-n", "2", "--dist", "loadscope", "--max-worker-restart=0", "-o", "timeout=900", "--rootdir"]
    command = [sys.executable, "-m", "pytest", *asked, str(tmp_path), str(tmp_path)]
    ran = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 1
    assert "test_that_is_stuck failed: Failed: Timeout (>1.0s)" in ran.stdout
    assert "in never_ends" in ran.stderr  # the stacks of its threads
    assert "crashed while running 'test_stuck.py::test_that_is_stuck'" in ran.stdout
    assert "1 passed" in ran.stdout

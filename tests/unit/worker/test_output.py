"""Tables on a narrow terminal, and where there is none: names are whole, since people copy them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from entrepot.worker.cli import output
from entrepot.workflows.progress import RunSummary
from tests.worker.terminals import at_terminal, plain

HEADS = ("worker", "state", "deployment", "build id", "steps", "seen at (UTC)", "serves")
WORKER = (
    "218734@ip-10-0-12-231.eu-central-1.compute.internal",
    "serving",
    "entrepot-production-eu",
    "0.2.0-3f9c01d2ab45e678",
    "0 of 10",
    "2026-11-30 01:57:31",
    "acme, a-customer-with-a-long-name and 3 more",
)
STEP = "departures_of_all_airports_with_the_weather_at_that_hour"
WHY = "its code or a parameter changed, and what it reads has another version"
VERSION = "6128b57e6d052da9"


def code(body: str) -> list[str]:
    return [sys.executable, "-c", f"from entrepot.worker.cli import output\n{body}"]


@pytest.fixture
def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


def test_a_table_that_is_too_wide_has_a_line_for_each_cell(environment: dict[str, str], tmp_path: Path) -> None:
    _, said = at_terminal(code(f"output.rows({HEADS}, [{WORKER}, {WORKER}])"), environment, tmp_path)
    lines = [line.split(maxsplit=1) for line in plain(said).splitlines()]
    assert lines.count(["worker", WORKER[0]]) == 2
    for cell in WORKER:
        assert plain(said).count(cell) == 2
    assert "…" not in said


def test_one_column_gives_way_before_any_name_is_broken(environment: dict[str, str], tmp_path: Path) -> None:
    body = f"""
made = output.table("step", "kind", "", "why", "version", yields="why")
made.add_row("departures", "transform", "run", {WHY!r}, {VERSION!r})
output.show(made)
"""
    _, said = at_terminal(code(body), environment, tmp_path)
    heads, first, *more = plain(said).splitlines()
    assert first.startswith("departures  transform  run  its code")
    assert first.endswith(VERSION)
    at, until = heads.index("why"), heads.index("version")
    assert " ".join(line[at:until].strip() for line in (first, *more)) == WHY


def test_a_name_that_is_too_long_goes_on_in_the_next_line(environment: dict[str, str], tmp_path: Path) -> None:
    body = f"""
made = output.table("step", "kind", "", "why", "version", yields="why")
made.add_row({STEP!r}, "transform", "run", {WHY!r}, {VERSION!r})
output.show(made)
"""
    _, said = at_terminal(code(body), environment, tmp_path)
    heads, *lines = plain(said).splitlines()
    at = heads.index("kind")
    assert "".join(line[:at].strip() for line in lines) == STEP
    assert "…" not in said


def test_without_a_terminal_a_row_is_a_line_however_wide(environment: dict[str, str]) -> None:
    wide = ("x" * 200, "y" * 150)
    done = subprocess.run(
        code(f"output.rows(('a', 'b'), [{wide}])"), env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[1].split() == list(wide)


@pytest.mark.parametrize("variable", ["", "NO_COLOR"])
def test_no_color_is_heard(environment: dict[str, str], tmp_path: Path, variable: str) -> None:
    more = {variable: "1"} if variable else {}
    body = "output.failure('no'); output.rows(('a', 'b'), [('1', '2')])"
    _, said = at_terminal(code(body), environment | more, tmp_path)
    is_coloured = "\x1b[1;31m" in said
    assert is_coloured is not bool(variable)


@pytest.mark.parametrize(
    ("moved", "removed", "said"),
    [
        (["a", "b"], [], "✓ published 2 names to prod · "),
        (["a"], ["x"], "✓ published 1 name to prod, and removed x · "),
        ([], ["x", "y"], "✓ removed x, y from prod; nothing else changed · "),
    ],
)
def test_a_publish_that_removes_says_so(moved: list[str], removed: list[str], said: str) -> None:
    whose = {"run": "r", "tenant": "acme", "pipeline": "shop", "environment": "prod"}
    with output.out.capture() as captured:
        output.summary(RunSummary(**whose, outcome="published", steps=[], moved=moved, removed=removed))
    assert captured.get().startswith(said)

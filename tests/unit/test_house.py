"""The house rules, as far as a machine can hold them."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("entrepot", "backends", "activities", "workflows", "worker")
MODULES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
TOP_LEVEL = {
    "activities", "backends", "benchmarks", "deploy", "docs", "entrepot", "examples", "requirements", "tests", "worker",
    "workflows",
}  # fmt: skip


def test_imports_run_one_way() -> None:
    linter = os.path.join(os.path.dirname(sys.executable), "lint-imports")
    linted = subprocess.run([linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert linted.returncode == 0, linted.stdout


def test_the_top_level_is_as_designed() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if tracked.returncode != 0:  # an unpacked archive
        folders = {path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")}
    else:
        folders = {line.partition("/")[0] for line in tracked.stdout.splitlines() if "/" in line}
    assert {name for name in folders if not name.startswith(".")} == TOP_LEVEL


@pytest.mark.parametrize(
    ("modules", "forbidden"),
    [
        (
            "entrepot, entrepot.planning.graph, entrepot.planning.plan",
            "ibis duckdb sklearn pandas pyarrow dlt temporalio",
        ),
        ("entrepot.workflows.pipeline, entrepot.workflows.maintenance", "ibis duckdb sklearn pandas pyarrow dlt"),
        ("entrepot.worker.cli.app", "ibis duckdb sklearn pandas pyarrow dlt temporalio pydantic"),
    ],
)
def test_what_must_be_light_is_light(modules: str, forbidden: str) -> None:
    code = f"import {modules}, sys; print([m for m in {forbidden.split()} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_says_what_it_is_for_and_is_not_too_long(path: Path) -> None:
    text = path.read_text()
    assert ast.get_docstring(ast.parse(text))
    assert len(text.splitlines()) <= 800


MADE_IN = {
    r"\bClient\.connect\(|\bpydantic_data_converter\b": ["worker/client.py"],
    r"(?<!\w)Worker\(": ["worker/process.py"],
    r"\bstart_local\(|\bstart_time_skipping\(": ["tests/servers/temporal.py"],
}
"""Where alone clients, workers and servers are made, so that none of them lacks the data converter."""


@pytest.mark.parametrize(("made", "places"), MADE_IN.items())
def test_clients_and_workers_are_made_in_one_place(made: str, places: list[str]) -> None:
    folders = (*PACKAGES, "examples", "benchmarks", "tests")
    modules = (path for folder in folders for path in (ROOT / folder).rglob("*.py"))
    found = {str(path.resolve().relative_to(ROOT)) for path in modules if re.search(made, path.read_text())}
    own_project = {"tests/worker/test_install.py"}  # it writes a user's project, with a worker of its own
    assert sorted(found - own_project) == places


ROOMS = sorted({path.parent for path in MODULES} - {ROOT / "worker" / "cli"})
"""Not the command line's: a file a command."""


@pytest.mark.parametrize("folder", ROOMS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_folder_can_be_read_at_a_glance(folder: Path) -> None:
    unread = {"__pycache__", "__init__.py", "py.typed"}
    entries = {each.name for each in folder.iterdir() if not each.is_symlink()} - unread
    assert len(entries) <= 11, sorted(entries)


def test_everything_that_authors_import_is_documented() -> None:
    import entrepot

    for name in entrepot.__all__:
        public = getattr(entrepot, name)
        assert public.__doc__, name


def test_requirements_are_pinned_by_hash_and_name_no_index() -> None:
    for path in (ROOT / "requirements").glob("*.txt"):
        text = path.read_text()
        assert "http" not in text, path
        assert "--index" not in text, path
        assert "--find-links" not in text, path
        packages = [line for line in text.splitlines() if line and line[0].isalnum()]
        assert packages
        assert all("==" in line for line in packages), path

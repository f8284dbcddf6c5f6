"""What the documentation says is true, as far as a machine can tell: its examples run, its links lead somewhere."""

from __future__ import annotations

import inspect
import posixpath
import re
import subprocess
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_overloads

import pytest

import entrepot
from entrepot import Pipeline, errors, split

ROOT = Path(__file__).parents[2]
REFERENCE = (ROOT / "docs/reference.md").read_text()
DECORATORS = ("ingest", "transform", "check", "train", "publish")
SPLITS = ("Share", "Time", "Group", "Where")
FENCE = re.compile(r"```python\n(.*?)\n *```", re.DOTALL)
LINK = re.compile(r"\]\(([^)\s#:]*)(?:#([^)\s]*))?\)")
CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)


def _public() -> Iterator[tuple[str, Any]]:
    """What authors use, each with its name in the reference."""
    yield from ((f"entrepot.{name}", getattr(entrepot, name)) for name in entrepot.__all__)
    yield from ((f"entrepot.Pipeline.{name}", getattr(Pipeline, name)) for name in DECORATORS)
    yield from ((f"entrepot.split.{name}", getattr(split, name)) for name in SPLITS)
    yield "entrepot.Model.predict", entrepot.Model.predict
    yield "entrepot.errors.Unavailable", errors.Unavailable


PUBLIC = dict(_public())
OURS = {name: found for name, found in PUBLIC.items() if name not in ("entrepot.Table", "entrepot.split")}


@pytest.mark.parametrize("name", PUBLIC)
def test_everything_that_authors_use_is_in_the_reference(name: str) -> None:
    assert re.search(rf"^(::: |## `){re.escape(name)}`?$", REFERENCE, re.MULTILINE)


@pytest.mark.parametrize("name", OURS)
def test_everything_that_authors_use_has_one_example_that_runs(name: str) -> None:
    (example,) = FENCE.findall(inspect.getdoc(OURS[name]) or "")
    found: dict[str, Any] = {"__name__": "example"}
    exec(compile(textwrap.dedent(example), name, "exec"), found)
    for pipeline in (value for value in found.values() if isinstance(value, Pipeline)):
        if name != "entrepot.PipelineError":
            assert pipeline.graph.steps


@pytest.mark.parametrize("name", [name for name in OURS if not name.endswith(("Error", "BadInput", "Unavailable"))])
def test_every_argument_of_a_decorator_is_described(name: str) -> None:
    text = inspect.getdoc(OURS[name]) or ""
    missing = [argument for argument in _arguments(OURS[name]) if f"    {argument}: " not in text]
    assert not missing


def _arguments(function: Any) -> set[str]:
    """The names of what a function or class takes, in any of its overloads."""
    each = [inspect.signature(overload).parameters for overload in get_overloads(function) or [function]]
    return {name for parameters in each for name in parameters} - {"self", "function"}


def _pages() -> list[Path]:
    tracked = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=False)
    if tracked.returncode == 0:
        return [ROOT / line for line in tracked.stdout.splitlines()]
    return [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *ROOT.glob("*/README.md")]  # an unpacked archive


def _anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as forges and MkDocs make them."""
    headings = re.findall(r"^#+ (.*)$", CODE.sub(lambda code: code[0].strip("`"), page.read_text()), re.MULTILINE)
    return {re.sub(r"[\s]+", "-", re.sub(r"[^\w\s-]", "", heading.lower()).strip()) for heading in headings}


@pytest.mark.parametrize("page", _pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_what_is_there(page: Path) -> None:
    for path, anchor in LINK.findall(CODE.sub("", page.read_text())):
        target = Path(posixpath.normpath(page.parent / path)) if path else page
        assert target.exists(), f"{path} is not there"
        assert not anchor or anchor in _anchors(target), f"{path}#{anchor} is not there"

"""What the documentation says is true, as far as a machine can tell: its examples run, its links lead somewhere."""

from __future__ import annotations

import inspect
import posixpath
import re
import shlex
import subprocess
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_overloads

import pytest
import typer

import entrepot
from entrepot import Pipeline, errors, split, testing
from entrepot.protocol.backfills import BackfillInput
from entrepot.protocol.environments import CreateInput, DiffInput, PromoteInput
from entrepot.protocol.maintenance import DropInput, GcInput, RepairInput, RollbackInput
from entrepot.protocol.messages import RunInput
from entrepot.protocol.parity import ParityInput
from entrepot.worker.cli.app import app
from entrepot.worker.reading import OpenPipeline

ROOT = Path(__file__).parents[2]
REFERENCE = (ROOT / "docs/reference.md").read_text()
DECORATORS = ("ingest", "transform", "check", "train", "publish", "example")
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
    yield "entrepot.open", entrepot.open
    yield "entrepot.worker.reading.OpenPipeline.table", OpenPipeline.table
    yield "entrepot.errors.Unavailable", errors.Unavailable
    yield from ((f"entrepot.testing.{name}", getattr(testing, name)) for name in testing.__all__ if name != "Rows")


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
    every = {name for parameters in each for name in parameters} - {"self", "function"}
    return {name for name in every if not name.startswith("_")}


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


# What is to be typed, and what is named

SPAN = re.compile(r"```[a-z]*\n(.*?)```|`([^`\n]*)`", re.DOTALL)
TYPED = re.compile(
    r"^(?:[A-Z_]+=\S+ |docker compose exec \S+ |\$ )*entrepot (?P<rest>[a-z-][^|<>;]*?)(?: {2,}.*| #.*)?$", re.MULTILINE
)
CALLED_SO = ("digest",)
"""What follows the name and is no command: `entrepot digest 2` is how a table's digest is made."""
PLACE = re.compile(
    r"(?<![\w/.~:$-])(?:activities|backends|benchmarks|deploy|docs|entrepot|examples|tests|worker|workflows)/[\w/.-]*\w"
)
MADE = re.compile(r"backends/(postgres|acme|mine)\b|docs/_site\b")
VARIABLE = re.compile(r"\bENTREPOT_(?!(?:POSTGRES|SNOWFLAKE|BIGQUERY|DATABRICKS)_)[A-Z_]*[A-Z]\b")
BY_RUNS = ("raw",)
"""What runs alone give to a workflow that they start."""
INPUTS = {
    "Pipeline": RunInput,
    "Backfill": BackfillInput,
    "Rollback": RollbackInput,
    "Create": CreateInput,
    "Diff": DiffInput,
    "Promote": PromoteInput,
    "Parity": ParityInput,
    "Gc": GcInput,
    "Drop": DropInput,
    "Repair": RepairInput,
}


def _code(page: Path) -> Iterator[str]:
    """What stands in a page as code, its lines joined where they go on."""
    for block, span in SPAN.findall(page.read_text()):
        yield (block or span).replace("\\\n", " ")


def _wrong(words: Sequence[str]) -> str | None:
    """The first of the words of a command that the command line does not have."""
    command: Any = typer.main.get_command(app)
    for word in words:
        commands = getattr(command, "commands", {})
        if word in commands:
            command = commands[word]
        elif word.startswith("-"):
            known = {option for parameter in command.params for option in parameter.opts} | {"--help", "-h"}
            if word.partition("=")[0] not in known:
                return word
        elif commands:
            return word
    return None


@pytest.mark.parametrize("page", _pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_places_and_variables_that_a_page_names_are_there(page: Path) -> None:
    source = "\n".join(path.read_text() for path in _sources())
    wrong = []
    for code in _code(page):
        for found in TYPED.finditer(code):
            words = shlex.split(found["rest"].replace("'", ""))
            if words and words[0] not in CALLED_SO and (word := _wrong(words)):
                wrong.append(f"entrepot {found['rest']}: {word}")
        if page.name != "CHANGELOG.md":
            wrong += [each for each in PLACE.findall(code) if not _is_there(page, each)]
            wrong += [each for each in VARIABLE.findall(code) if each not in source]
    assert not wrong


def _is_there(page: Path, place: str) -> bool:
    return (ROOT / place).exists() or (page.parent / place).exists() or MADE.match(place) is not None


def _sources() -> Iterator[Path]:
    for folder in ("entrepot", "backends", "activities", "workflows", "worker", "deploy", "tests", "benchmarks"):
        yield from (path for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".yaml", ".example", ".sh"))
    yield ROOT / "Makefile"


@pytest.mark.parametrize("workflow", INPUTS)
def test_the_input_of_each_workflow_is_the_one_that_is_documented(workflow: str) -> None:
    row = re.search(rf"^\| `{workflow}` \| `(.*?)` \|", (ROOT / "docs/operations.md").read_text(), re.MULTILINE)
    assert row is not None
    said = {name: optional == "?" for name, optional in re.findall(r'"(\w+)"(\??)', row[1])}
    fields = {name: not field.is_required() for name, field in INPUTS[workflow].model_fields.items()}
    assert said == {name: optional for name, optional in fields.items() if name not in BY_RUNS}

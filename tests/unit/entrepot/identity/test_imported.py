"""Which code made something: a commit, where it is certain, else the content of files."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from entrepot.identity.imported import commit, content, stamp


def git(folder: Path, *arguments: str) -> str:
    who = ["-c", "user.name=somebody", "-c", "user.email=somebody@acme.example"]
    done = subprocess.run(["git", "-C", str(folder), *who, *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def module(tmp_path: Path) -> Path:
    """A file that is committed."""
    git(tmp_path, "init", "-q")
    made = tmp_path / "shop.py"
    made.write_text("one = 1\n")
    git(tmp_path, "add", "shop.py")
    git(tmp_path, "commit", "-qm", "a shop")
    return made


def test_a_committed_pipeline_is_known_by_its_commit(module: Path) -> None:
    imported = {str(module): stamp(str(module))}
    first = git(module.parent, "rev-parse", "--short=12", "HEAD")
    assert commit(imported) == first
    # What others change beside it is no change of it.
    (module.parent / "other.py").write_text("")
    assert commit(imported) == first


def test_what_no_commit_has_is_known_by_its_content(module: Path) -> None:
    imported = {str(module): stamp(str(module))}
    before = content(frozenset(imported.items()))
    module.write_text("one = 12\n")
    assert commit(imported) == ""  # changed since it was imported
    assert commit({str(module): stamp(str(module))}) == ""  # changed since it was committed
    assert content(frozenset({str(module): stamp(str(module))}.items())) != before
    installed = module.parent / "installed.py"
    installed.write_text("")
    (module.parent / ".gitignore").write_text("installed.py\n")
    assert commit({str(installed): stamp(str(installed))}) == ""
    assert commit({}) == ""


def test_outside_of_any_repository_there_is_no_commit(tmp_path: Path) -> None:
    alone = tmp_path / "alone.py"
    alone.write_text("")
    assert commit({str(alone): stamp(str(alone))}) == ""

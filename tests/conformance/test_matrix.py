"""The page of what works where is current, and says nothing of cases that do not exist."""

from __future__ import annotations

import fnmatch
import json
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest

from tests.conformance import matrix
from tests.conformance.gaps import GAPS
from tests.conformance.meanings import MEANINGS
from tests.conformance.target import BACKENDS


@pytest.fixture(scope="module")
def made() -> dict[str, Any]:
    """The page and the cases, from a process of their own: they are collected, as is being done here already."""
    code = "import json; from tests.conformance import matrix as m; print(json.dumps([m.render(), m.collected()]))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=matrix.HERE.parents[1], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return dict(zip(["page", "cases"], json.loads(done.stdout), strict=True))


def test_the_page_is_current(made: dict[str, Any]) -> None:
    assert matrix.PAGE.read_text() == made["page"], "run `python -m tests.conformance.matrix`"


def test_every_gap_has_cases(made: dict[str, Any]) -> None:
    """A gap whose case was renamed would hide nothing, and say something wrong."""
    known = {case for groups in made["cases"].values() for cases in groups.values() for case in cases}
    for gap in GAPS:
        assert gap.backend in BACKENDS
        assert gap.cases, gap
        for pattern in gap.cases:
            assert any(replace(gap, cases=(pattern,)).covers(case) for case in known), f"{gap.backend}: no {pattern!r}"


def test_every_meaning_has_cases(made: dict[str, Any]) -> None:
    """What the page says of an operation is held by something."""
    known = [case for cases in made["cases"]["operations"].values() for case in cases]
    for meaning in MEANINGS:
        assert meaning.cases, meaning
        for pattern in meaning.cases:
            assert fnmatch.filter(known, f"operations/{pattern}"), f"{meaning.operation}: no {pattern!r}"

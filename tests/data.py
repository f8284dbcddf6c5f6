"""Real data sets that tests read where they are present: `ENTREPOT_DATA`, by default beside the project."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

FOLDER = Path(os.environ.get("ENTREPOT_DATA") or Path(__file__).parents[2] / "shared" / "data")
ABSENT = "ENTREPOT_DATA names no folder with it"
"""What a skip says; nothing can be set up instead, so that it is none of those that fail in CI."""


def data(name: str) -> Path:
    """A file or folder of them; without it the test is skipped."""
    path = FOLDER / name
    if not path.exists():
        pytest.skip(f"the data set {name!r} is not here: {ABSENT}")
    return path

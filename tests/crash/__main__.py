"""`python -m tests.crash`: the whole crash matrix, and its table."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.exit(pytest.main([str(Path(__file__).parent), "-m", "crash", "-q", *sys.argv[1:]]))

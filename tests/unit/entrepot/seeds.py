"""What a script prints in processes that order sets differently."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[3]


def printed(script: str, seeds: Iterable[str], path: Path | None = None) -> set[str]:
    """The different outputs of a script, run once with each hash seed from the project's folder.

    Args:
        path: A folder with modules that it imports, if they are not the project's.
    """
    return {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed, **({"PYTHONPATH": str(path)} if path else {})},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in seeds
    }

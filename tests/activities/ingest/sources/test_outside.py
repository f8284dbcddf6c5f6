"""A source from outside: `examples/sqlite` is installed as anybody's package would be, and its tests load with it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).parents[4]
OUTSIDE = CHECKOUT / "examples" / "sqlite"
UV = Path(sys.executable).with_name("uv")


def test_a_source_of_another_package_is_loaded(tmp_path: Path) -> None:
    subprocess.run([UV, "pip", "install", "-q", "--no-deps", "--target", tmp_path, OUTSIDE], check=True)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", OUTSIDE / "tests"],
        cwd=CHECKOUT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert "passed" in done.stdout

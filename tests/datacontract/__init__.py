"""A second opinion of our files: `datacontract-cli`, by those who keep the models of the standard, which also holds a
file against the DuckDB file that it names. It is in an environment of its own: it needs other versions than we do."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import entrepot_standins as standins
import pytest

REQUIREMENTS = Path(__file__).parent / "requirements.txt"


def command() -> str:
    """The command, installed when it is first asked for."""
    home = standins.default_home()
    home.mkdir(parents=True, exist_ok=True)
    stamp = hashlib.sha256(REQUIREMENTS.read_bytes() + sys.version.encode()).hexdigest()[:16]
    target = home / "datacontract"
    with (home / "datacontract.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # until the file is closed: one process installs, and others wait
        if not (target / f".made-from-{stamp}").exists():
            shutil.rmtree(target, ignore_errors=True)
            _uv("venv", "-q", "--python", sys.executable, str(target))
            into = ["--python", str(target / "bin" / "python")]
            _uv("pip", "install", "-q", *into, "--require-hashes", "-r", str(REQUIREMENTS))
            (target / f".made-from-{stamp}").touch()
    return str(target / "bin" / "datacontract")


def _uv(*arguments: str) -> None:
    uv = shutil.which("uv", path=os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", ""))))
    if uv is None:
        pytest.skip("datacontract-cli cannot be set up: uv is not installed: pip install -r requirements/uv.txt")
    environment = {k: v for k, v in os.environ.items() if k not in {"VIRTUAL_ENV", "PYTHONHOME", "PYTHONPATH"}}
    done = subprocess.run([uv, *arguments], check=False, env=environment, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"datacontract-cli cannot be set up: uv {arguments[0]} failed: {done.stderr.strip()[-2000:]}")


def tested(file: Path) -> dict[str, Any]:
    """What it finds of a file and of the table that the file names."""
    report = file.with_suffix(".report.json")
    arguments = ["test", str(file), "--output-format", "json", "--output", str(report)]
    done = subprocess.run([command(), *arguments], check=False, capture_output=True, text=True, timeout=300)
    assert report.exists(), done.stdout + done.stderr
    found: dict[str, Any] = json.loads(report.read_text())
    return found


def is_breaking(old: Path, new: Path) -> bool:
    """Whether it takes the change of a file for one that breaks who relies on it."""
    done = subprocess.run([command(), "breaking", str(old), str(new)], check=False, capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return done.returncode == 1

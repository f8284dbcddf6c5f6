"""Which code of a pipeline a worker has: its git commit, or the content of its modules' files, as it imported them."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

Stamps = frozenset[tuple[str, tuple[int, int]]]
"""Files, as they were when they were imported."""
_SECONDS = 5
"""How long git may take."""


def stamp(file: str | os.PathLike[str]) -> tuple[int, int]:
    """What changes when a file does: its time and size; zeros, if it is not there."""
    try:
        found = os.stat(file)
    except OSError:
        return 0, 0
    return found.st_mtime_ns, found.st_size


def content(stamps: Stamps) -> str:
    """The hash of imported code; of files that have changed since, what is known of them."""
    found = hashlib.sha256(version("entrepot").encode())
    for file, imported in sorted(stamps):
        try:
            text = Path(file).read_bytes() if stamp(file) == imported else repr(imported).encode()
        except OSError:
            text = repr(imported).encode()
        found.update(Path(file).name.encode() + b"\0" + hashlib.sha256(text).digest())
    return found.hexdigest()[:16]


def commit(stamps: Mapping[str, tuple[int, int]]) -> str:
    """The git commit that has these files as they were imported, in 12 characters; empty if there is none."""
    files = sorted(stamps)
    if not files or any(stamp(file) != imported for file, imported in stamps.items()):
        return ""
    folder = str(Path(files[0]).parent)
    if not _git(folder, "ls-files", "--error-unmatch", "--", *files):  # they are not, where they are installed
        return ""
    if _git(folder, "status", "--porcelain", "--", *files) != "":
        return ""
    return _git(folder, "rev-parse", "--short=12", "HEAD") or ""


def _git(folder: str, *arguments: str) -> str | None:
    """What git says; None if it cannot: there is no git, no repository, or it is somebody else's."""
    try:
        done = subprocess.run(
            ["git", "--no-optional-locks", "-C", folder, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
    except (OSError, subprocess.SubprocessError, UnicodeError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None

"""What workers that were killed have left in this machine's folder for temporary files."""

from __future__ import annotations

import datetime
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path

from entrepot.language.limits import LONGEST

PREFIX = "entrepot-"
"""With which the names of all scratch folders begin."""

LONGEST_SECONDS = (LONGEST + datetime.timedelta(hours=1)).total_seconds()
"""No step lasts longer; what was not touched since is nobody's."""


def left() -> dict[Path, int]:
    """Scratch folders of this user in which nothing has happened for so long, each with the bytes in it."""
    return {
        folder: sum(_size(file) for file in _within(folder))
        for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*")
        if folder.is_dir() and _is_ours(folder) and _rests(folder)
    }


def remove(folders: dict[Path, int]) -> None:
    """Removes them."""
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def _is_ours(folder: Path) -> bool:
    with suppress(OSError):
        return not folder.is_symlink() and folder.stat().st_uid == os.getuid()
    return False


def _within(folder: Path) -> Iterator[Path]:
    """What there is in a folder. Those of work that goes on come and go meanwhile, at which `Path.rglob` would fail."""
    for where, folders, files in os.walk(folder):
        yield from (Path(where, name) for name in (*folders, *files))


def _rests(folder: Path) -> bool:
    border = time.time() - LONGEST_SECONDS
    return all(_touched(each) < border for each in chain([folder], _within(folder)))


def _touched(file: Path) -> float:
    with suppress(OSError):
        return file.lstat().st_mtime
    return time.time()  # it has gone this moment


def _size(file: Path) -> int:
    with suppress(OSError):
        return file.lstat().st_size
    return 0

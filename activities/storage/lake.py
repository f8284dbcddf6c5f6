"""The lake: a tenant's file store, on any fsspec URL. Raw loads, models and pages; every file is written once.

A path in it is made by `below`, of names alone, so nothing leads out of the tenant's lake; and no file is touched under
a path that another part of the world could read otherwise.
"""

from __future__ import annotations

import datetime
import hashlib
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import fsspec

from entrepot.errors import BadInput, EntrepotError, StepFailed, Unavailable
from entrepot.language.names import shown
from entrepot.tracebacks import describe, is_transient, writing

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")
_LEADS_AWAY = re.compile(r"(^|/)\.\.?(/|$)|[\x00-\x1f\x7f\\]|%(2e|2f|5c|00)", re.IGNORECASE)


def below(root: str, *parts: str) -> str:
    """A path or URL in a lake.

    Args:
        root: Where the lake is.
        parts: Names of folders and files, or paths of such names.

    Raises:
        BadInput: for a part that is not made of names, and could lead elsewhere.
    """
    for part in parts:
        if not all(_NAME.fullmatch(name) for name in part.split("/")):
            raise BadInput(f"{shown(part)} is no path in a lake: it has names of letters, digits and '_-.' alone")
    return "/".join([root, *parts])


def check_below(root: str, path: str) -> str:
    """A path that was written down elsewhere, if it is one in a lake.

    Raises:
        BadInput: if it is another, which somebody else's data may stand at.
    """
    if not path.startswith(f"{root}/"):
        raise BadInput(f"{shown(path)} is no path in a lake: it is not below {root}")
    below(root, path[len(root) + 1 :])
    return path


_PART = ".part-"
"""What follows the name of a file that is being written."""


@dataclass(frozen=True)
class File:
    """What a listing tells of a file."""

    changed_at: datetime.datetime
    """UTC, without zone."""
    bytes: int


def put(local: str, target: str) -> None:
    """Moves a local file to its place in the lake: whole, or not at all.

    Raises:
        Unavailable: if the lake cannot be written to now.
    """
    with _reached(target, "written") as (filesystem, path), _arriving(filesystem, path) as part:
        if _is_local(filesystem):
            shutil.move(local, part)  # on one disk, nothing is copied
        else:
            filesystem.put_file(local, part)
            os.remove(local)


def write(data: bytes, target: str) -> None:
    """Writes a small file: whole, or not at all.

    Raises:
        Unavailable: if the lake cannot be written to now.
    """
    with (
        _reached(target, "written") as (filesystem, path),
        _arriving(filesystem, path) as part,
        filesystem.open(part, "wb") as file,
    ):
        file.write(data)


def _located(target: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """The file system of a path, and the path in it.

    Raises:
        BadInput: if it leads elsewhere than it says.
    """
    if _LEADS_AWAY.search(target):
        raise BadInput(f"{shown(target)} is no path in a lake: it has '..', a backslash or what cannot be seen")
    filesystem, path = fsspec.core.url_to_fs(target)
    return filesystem, path


@contextmanager
def _reached(target: str, done: str) -> Iterator[tuple[fsspec.AbstractFileSystem, str]]:
    """The lake's file system, and a path in it. What goes wrong there says that it is the lake, and where.

    Raises:
        FileNotFoundError: if there is no such file.
        Unavailable: if it is away, full, or closed to this process.
        BadInput: if there is no such lake, or the path leads elsewhere than it says.
    """
    try:
        yield _located(target)
    except (FileNotFoundError, InterruptedError, EntrepotError):
        raise
    except Exception as error:
        kind = BadInput if is_transient(error) is False else Unavailable
        raise kind(f"the lake cannot be {done} at {target}: {describe(error)}") from error


@contextmanager
def _arriving(filesystem: fsspec.AbstractFileSystem, path: str) -> Iterator[str]:
    """Where a file is written before it has its name. What a failure leaves, as a full disk does, is removed."""
    part = f"{path}{_PART}{uuid.uuid4().hex}"
    try:
        with writing("the lake's file", path):
            filesystem.makedirs(os.path.dirname(path), exist_ok=True)
            yield part
            filesystem.mv(part, path)
    except BaseException:
        with suppress(Exception):
            filesystem.rm(part)
        raise


def read(target: str, sha256: str | None = None) -> bytes:
    """A small file's content.

    Args:
        sha256: Its hash when it was written, where somebody remembers it.

    Raises:
        FileNotFoundError: if there is no such file.
        StepFailed: if it is another one.
    """
    with _reached(target, "read") as (filesystem, path), filesystem.open(path, "rb") as file:
        data = bytes(file.read())
    if sha256 is not None:
        _check_same(target, len(data), hashlib.sha256(data).hexdigest(), sha256)
    return data


def exists(target: str) -> bool:
    """Whether there is such a file or folder."""
    with _reached(target, "read") as (filesystem, path):
        return bool(filesystem.exists(path))


def size(target: str) -> int:
    """A file's size in bytes."""
    with _reached(target, "read") as (filesystem, path):
        return int(filesystem.size(path))


def files(target: str) -> dict[str, File]:
    """Every file in a folder and its folders."""
    found = {}
    with _reached(target, "read") as (filesystem, path):
        base = target[: -len(path)] if target.endswith(path) else ""
        for name, details in filesystem.find(path, detail=True).items():
            with suppress(FileNotFoundError):  # it has got its name, or was removed, meanwhile
                found[base + name] = File(filesystem.modified(name).replace(tzinfo=None), int(details["size"] or 0))
    return found


def is_unfinished(target: str) -> bool:
    """Whether a file is being written; or was, by somebody who died."""
    return _PART in target.rpartition("/")[2]


def remove(target: str) -> None:
    """Removes a file or folder, if it is there."""
    with _reached(target, "written") as (filesystem, path):
        if filesystem.exists(path):
            filesystem.rm(path, recursive=True)


def _is_local(filesystem: fsspec.AbstractFileSystem) -> bool:
    protocols = (filesystem.protocol,) if isinstance(filesystem.protocol, str) else filesystem.protocol
    return "file" in protocols


def local_copy(target: str, folder: str, sha256: str) -> str:
    """A local path of a file in the lake: itself where the lake is local, else a copy in `folder`.

    Raises:
        StepFailed: if it is not there, or not the one of this hash.
    """
    filesystem, path = _located(target)
    name = hashlib.sha256(target.encode()).hexdigest() + os.path.splitext(path)[1]
    copy = None if _is_local(filesystem) else os.path.join(folder, name)
    check(target, sha256, copy)
    return copy or path


def check(target: str, sha256: str, copy: str | None = None) -> None:
    """Reads a file in the lake, and checks that it is the one that was written.

    Args:
        sha256: Its hash when it was written.
        copy: Where to write it meanwhile, if anywhere.

    Raises:
        StepFailed: if it is not there, or another one.
    """
    digest, size = hashlib.sha256(), 0
    arrives = copy or os.devnull
    try:
        with (
            _reached(target, "read") as (filesystem, path),
            filesystem.open(path, "rb") as source,
            writing("the copy of a file of the lake", arrives),
            open(arrives, "wb") as arriving,
        ):
            while chunk := source.read(_CHUNK):
                digest.update(chunk)
                size += len(chunk)
                if copy:
                    arriving.write(chunk)
    except FileNotFoundError as error:
        raise StepFailed(f"{target} is gone from the lake") from error
    _check_same(target, size, digest.hexdigest(), sha256)


def _check_same(target: str, size: int, found: str, written: str) -> None:
    if found != written:
        raise StepFailed(
            f"{target} is not the file that was written: it has {size:,} bytes of the hash {found[:12]}, "
            f"and was written with the hash {written[:12]}"
        )


def sha256_of(local: Path) -> str:
    """The hash of a local file."""
    with local.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


_CHUNK = 1 << 20

"""The lake: a tenant's file store, on any fsspec URL. Raw loads, models and pages; every file is written once."""

from __future__ import annotations

import datetime
import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import fsspec


def put(local: str, target: str) -> None:
    """Moves a local file to its place in the lake: whole, or not at all."""
    filesystem, path = fsspec.core.url_to_fs(target)
    with _arriving(filesystem, path) as part:
        if _is_local(filesystem):
            shutil.move(local, part)  # on one disk, nothing is copied
        else:
            filesystem.put_file(local, part)
            os.remove(local)


def write(data: bytes, target: str) -> None:
    """Writes a small file: whole, or not at all."""
    filesystem, path = fsspec.core.url_to_fs(target)
    with _arriving(filesystem, path) as part, filesystem.open(part, "wb") as file:
        file.write(data)


@contextmanager
def _arriving(filesystem: fsspec.AbstractFileSystem, path: str) -> Iterator[str]:
    """Where a file is written before it has its name. What a failure leaves, as a full disk does, is removed."""
    filesystem.makedirs(os.path.dirname(path), exist_ok=True)
    part = f"{path}.part-{uuid.uuid4().hex}"
    try:
        yield part
        filesystem.mv(part, path)
    except BaseException:
        with suppress(Exception):
            filesystem.rm(part)
        raise


def read(target: str) -> bytes:
    """A small file's content."""
    filesystem, path = fsspec.core.url_to_fs(target)
    with filesystem.open(path, "rb") as file:
        return bytes(file.read())


def exists(target: str) -> bool:
    """Whether there is such a file or folder."""
    filesystem, path = fsspec.core.url_to_fs(target)
    return bool(filesystem.exists(path))


def size(target: str) -> int:
    """A file's size in bytes."""
    filesystem, path = fsspec.core.url_to_fs(target)
    return int(filesystem.size(path))


def files(target: str) -> dict[str, datetime.datetime]:
    """Every file in a folder and its folders, and when it was written: UTC, without zone."""
    filesystem, path = fsspec.core.url_to_fs(target)
    base = target[: -len(path)] if target.endswith(path) else ""
    return {base + name: filesystem.modified(name).replace(tzinfo=None) for name in filesystem.find(path)}


def remove(target: str) -> None:
    """Removes a file or folder, if it is there."""
    filesystem, path = fsspec.core.url_to_fs(target)
    if filesystem.exists(path):
        filesystem.rm(path, recursive=True)


def _is_local(filesystem: fsspec.AbstractFileSystem) -> bool:
    protocols = (filesystem.protocol,) if isinstance(filesystem.protocol, str) else filesystem.protocol
    return "file" in protocols


@contextmanager
def local_copy(target: str, folder: str) -> Iterator[str]:
    """A local path of a file in the lake: itself where the lake is local, else a copy in `folder`."""
    filesystem, path = fsspec.core.url_to_fs(target)
    if _is_local(filesystem):
        yield path
    else:
        copy = os.path.join(folder, hashlib.sha256(target.encode()).hexdigest() + os.path.splitext(path)[1])
        filesystem.get_file(path, copy)
        yield copy

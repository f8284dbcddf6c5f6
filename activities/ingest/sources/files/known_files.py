"""Which files were read before: known by what they hold, however they are packed and whatever they are called."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import fsspec

from entrepot.activities.ingest.sources.files.text import PACKED, readable, unpacked
from entrepot.activities.ingest.sources.stream import Watermark

_THREADS = 4


@dataclass(frozen=True)
class Known:
    """The files that were read."""

    files: Mapping[str, str] = field(default_factory=dict)
    """Each with the hash of its bytes."""
    unpacked: Mapping[str, str] = field(default_factory=dict)
    """The hashes of packed bytes, each with that of what is in them."""
    names: Mapping[str, str] = field(default_factory=dict)
    """What the rows of a file say that they are from, where that is not its path."""

    @classmethod
    def read(cls, watermark: Watermark) -> Known:
        """As a watermark has them."""
        return cls(watermark.get("files", {}), watermark.get("unpacked", {}), watermark.get("names", {}))

    @property
    def watermark(self) -> Watermark:
        """Where the next load continues: at files that are not among these."""
        others = {"unpacked": dict(self.unpacked), "names": dict(self.names)}
        return {"files": dict(self.files)} | {what: found for what, found in others.items() if found}

    def content(self, path: str) -> str:
        """The hash of what is in a file, packed or not."""
        hashed = self.files[path]
        return self.unpacked.get(hashed, hashed)

    def name(self, path: str) -> str:
        """What the rows of a file say that they are from."""
        return self.names.get(path, path)


@dataclass(frozen=True)
class Compared:
    """The files that there are now, beside those that were read."""

    read: tuple[str, ...]
    """Those whose rows are to be read: they are new, or changed."""
    replaced: tuple[str, ...]
    """What the rows that theirs take the place of say that they are from."""
    known: Known
    """All that are known now."""


def compared(
    before: Known,
    paths: Sequence[str],
    *,
    adds: bool,
    says: Callable[[str], object] = lambda path: None,
    hashed: Mapping[str, str] | None = None,
) -> Compared:
    """What is new in files.

    A file that has the content of a known one that is not there any more is that file under a new name. A file of
    another content than before is a changed one. Two files side by side are two, whatever they hold.

    Args:
        adds: Rows of files that are gone stay, so these stay known. Else what a file brings may hold again what another
            had brought before, so that a new name is a new file, but for the ending of a packed one.
        says: What of a path the rows have: where that is another, it is another file.
        hashed: The hash of each file's bytes, where these are known.
    """
    files = hashes(paths) if hashed is None else hashed
    new = [p for p in paths if p.endswith(PACKED) and files[p] not in before.unpacked]
    inside = dict(zip([files[p] for p in new], _each(_hash_inside, new), strict=True))
    now = Known(files, {h: inside.get(h) or before.unpacked[h] for p, h in files.items() if p.endswith(PACKED)})
    same = {p for p in paths if p in before.files and before.content(p) == now.content(p)}
    lost = sorted((p for p in before.files if p not in same), key=lambda p: (p in files, p))  # gone ones first
    moved: dict[str, str] = {}
    for path in paths:
        if path not in same:
            same_content = [p for p in lost if before.content(p) == now.content(path) and says(p) == says(path)]
            found = (p for p in same_content if adds or _plain(p) == _plain(path))
            if (old := next(found, None)) is not None:
                moved[path] = old
                lost.remove(old)
    read = tuple(p for p in paths if p not in same and p not in moved)
    gone = [p for p in lost if p not in files] if adds else []
    names = {p: before.name(moved.get(p, p)) for p in (*same, *moved, *gone)}
    for path in read:
        names[path] = _free(path, set(names.values()))
    known = Known(
        files={**{p: before.files[p] for p in gone}, **files},
        unpacked={**{h: before.unpacked[h] for p in gone if (h := before.files[p]) in before.unpacked}, **now.unpacked},
        names={p: name for p, name in sorted(names.items()) if name != p},
    )
    return Compared(read, tuple(before.name(p) for p in lost if p in files), known)


def hashes(paths: Sequence[str]) -> dict[str, str]:
    """The hash of each file's bytes, as they are."""
    return dict(zip(paths, _each(_hash, paths), strict=True))


def _each(one: Callable[[str], str], paths: Sequence[str]) -> list[str]:
    with ThreadPoolExecutor(_THREADS) as threads:
        return list(threads.map(one, paths))


def _hash(path: str) -> str:
    with readable(path), fsspec.open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _hash_inside(path: str) -> str:
    found = hashlib.sha256()
    for block in unpacked(path):
        found.update(block)
    return found.hexdigest()


def _plain(path: str) -> str:
    """A path without the ending of a packed file."""
    name, ending = os.path.splitext(path)
    return name if ending in PACKED else path


def _free(path: str, taken: set[str]) -> str:
    """What the rows of a file shall say that they are from: its path, unless rows of another file say that."""
    names = itertools.chain([path], (f"{path}#{number}" for number in itertools.count(2)))
    return next(name for name in names if name not in taken)

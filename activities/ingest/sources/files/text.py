"""The text of a file in pieces that end where a record ends: unpacked, in UTF-8, within limits."""

from __future__ import annotations

import bz2
import codecs
import gzip
import lzma
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import IO, Any, NamedTuple, TypeVar

import fsspec
import pyarrow as pa

from entrepot.errors import BadInput, StepFailed, Unavailable

CHUNK = 24 << 20
"""Bytes of text that are looked at together: some hundred thousand rows. From 32 MB on, malloc would take each block
from the system anew, which costs a seventh of all time."""

LONGEST = 256 << 20
"""Bytes of the longest line, or of the longest value of a JSON array."""

BOMB_RATIO = 1_000
BOMB_FREE = 100 << 20
"""A packed file that becomes more than `BOMB_RATIO` times as large, beyond its first `BOMB_FREE` bytes, is refused."""

PACKED = (".gz", ".bz2", ".xz", ".zip", ".zst")

HEAD = 64 << 10
"""Bytes by which a text is known: whether it has a byte order mark, and its line ends."""

_BOM = codecs.BOM_UTF8

T = TypeVar("T")


class Place(NamedTuple):
    """Where a record begins: the bytes of text before it, and its line; and the columns that the file named above."""

    offset: int = 0
    line: int = 1
    header: tuple[str, ...] = ()


@dataclass(frozen=True)
class Chunk:
    """Some whole records of a file, the line at which they begin, and where the next ones do."""

    data: bytes
    line: int
    end: Place
    lines: tuple[int, ...] = ()
    """The line of each record, where records were put on lines of their own."""


class _Counted:
    """A raw file that knows how much was read of it."""

    def __init__(self, raw: IO[bytes]) -> None:
        self._raw = raw
        self.taken = 0

    def read(self, size: int = -1) -> bytes:
        data = self._raw.read(size)
        self.taken += len(data)
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._raw, name)


@contextmanager
def readable(path: str) -> Iterator[None]:
    """What can go wrong with a file, in a sentence.

    Raises:
        StepFailed: for a file that is not there any more, may not be read, or is not what its ending says.
        Unavailable: if its store does not answer.
    """
    try:
        yield
    except (gzip.BadGzipFile, lzma.LZMAError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise StepFailed(f"the file {path!r} cannot be unpacked: {error}") from error
    except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
        raise StepFailed(f"the file {path!r} cannot be read: {error.strerror or error}") from error
    except OSError as error:
        if isinstance(error.errno, int) or not path.lower().endswith((".bz2", ".zst")):
            raise Unavailable(f"the file {path!r} cannot be read now: {error}") from error
        raise StepFailed(f"the file {path!r} cannot be unpacked: {error}") from error  # as these say it


def unpacked(path: str, size: int | None = None, start: int = 0) -> Iterator[bytes]:
    """A file's bytes, as they are inside of its packing, in blocks of a size.

    Args:
        start: From which byte on; for a file that is not packed.

    Raises:
        StepFailed: if it cannot be read or unpacked, or becomes too large.
        BadInput: for an archive that does not hold exactly one file.
    """
    with readable(path), ExitStack() as stack:
        raw = _Counted(stack.enter_context(fsspec.open(path, "rb")))
        stream, done = _opened(path, raw, stack), 0
        if start:
            stream.seek(start)
        while block := stream.read(size or CHUNK):
            done += len(block)
            if is_packed(path) and done > BOMB_FREE and done > BOMB_RATIO * raw.taken:
                raise StepFailed(
                    f"the file {path!r} becomes more than {BOMB_RATIO:,} times as large when it is unpacked; it is "
                    "taken for a bomb"
                )
            yield block


def is_packed(path: str) -> bool:
    """Whether a file's name says that it is packed."""
    return path.lower().endswith(PACKED)


def _opened(path: str, raw: Any, stack: ExitStack) -> Any:
    ending = path.lower()
    if ending.endswith(".gz"):
        return stack.enter_context(gzip.GzipFile(fileobj=raw))
    if ending.endswith(".bz2"):
        return stack.enter_context(bz2.BZ2File(raw))
    if ending.endswith(".xz"):
        return stack.enter_context(lzma.LZMAFile(raw))
    if ending.endswith(".zst"):
        return stack.enter_context(pa.CompressedInputStream(pa.PythonFile(raw, "r"), "zstd"))
    if ending.endswith(".zip"):
        archive = stack.enter_context(zipfile.ZipFile(raw))
        members = [m for m in archive.namelist() if not m.endswith("/") and not m.startswith("__MACOSX/")]
        if len(members) != 1:
            raise BadInput(f"the archive {path!r} must hold one file, and holds {len(members)}: {members[:5]}")
        return stack.enter_context(archive.open(members[0]))
    return raw


def ahead(items: Iterator[T]) -> Iterator[T]:
    """The same items, of which the next is made in a thread while one is looked at."""
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = thread.submit(next, items, None)
            yield item


def text(path: str, encoding: str, start: int = 0, size: int | None = None) -> Iterator[bytes]:
    """A file's text in UTF-8. Bytes that are not of the encoding become bytes that are not UTF-8: the reader's affair.

    Args:
        start: From which byte of the text on. The blocks end where they do without it.

    Raises:
        BadInput: for an encoding that is not known.
    """
    try:
        decoder = codecs.getincrementaldecoder(encoding)("surrogateescape")
    except LookupError as error:
        raise BadInput(f"unknown encoding {encoding!r}, for {path!r}") from error
    is_utf8 = codecs.lookup(encoding).name in ("utf-8", "utf-8-sig", "ascii")
    at = block_start = 0
    head = b""
    if start and is_utf8 and not is_packed(path):  # else what is before has to be read as well
        head = next(unpacked(path, HEAD), b"")
        mark = len(_BOM) if head.startswith(_BOM) else 0
        block_start = (start + mark) // CHUNK * CHUNK
        at = max(0, block_start - mark)
    for block in unpacked(path, size, block_start):
        try:
            data = block if is_utf8 else decoder.decode(block).encode("utf-8", "surrogatepass")
        except UnicodeDecodeError as error:
            raise StepFailed(f"the file {path!r} is not {encoding}: {error.reason}") from error
        head = head or data[:HEAD]
        if at == 0:
            data = data.removeprefix(_BOM)
        wanted = data[max(0, start - at) :]
        at += len(data)
        if wanted:
            yield wanted.replace(b"\r", b"\n") if _is_old_mac(head) else wanted


def _is_old_mac(head: bytes) -> bool:
    return b"\n" not in head and b"\r" in head[: HEAD - 1]  # the last one may be half of a line end


def chunk_of(data: bytes, start: Place) -> Chunk:
    """Whole records that begin at a place."""
    return Chunk(data, start.line, Place(start.offset + len(data), start.line + data.count(b"\n")))


def first_lines(path: str, encoding: str, number: int) -> list[bytes]:
    """So many lines of a file, or all that it has, each with its end."""
    begin = b""
    for block in text(path, encoding, size=HEAD):
        begin += block
        if begin.count(b"\n") >= number or len(begin) > LONGEST:
            break
    return begin.splitlines(keepends=True)[:number]


def whole_records(
    path: str, encoding: str, start: Place, end: Callable[[bytes], int]
) -> Generator[Chunk, None, tuple[bytes, Place]]:
    """The whole records of a file, block by block, and what is left behind the last one. `end`: where that ends."""
    rest, here = b"", start
    for block in _with_line_ends(text(path, encoding, start.offset)):
        _check_has_end(block, path, here, rest)
        data = rest + block
        cut = end(data)
        if cut:
            yield (chunk := chunk_of(data[:cut], here))
            here = chunk.end
        rest = data[cut:]
        _check_length(rest, path, here)
    return rest, here


def _with_line_ends(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """The text in blocks that each hold the end of a line, so that a long line is neither copied nor searched again.

    A block without one is the last, or longer than a line may be.
    """
    held: list[bytes] = []
    for block in blocks:
        held.append(block)
        if b"\n" in block or sum(map(len, held)) > LONGEST:
            yield b"".join(held)
            held = []
    if held:
        yield b"".join(held)


def _check_has_end(block: bytes, path: str, here: Place, rest: bytes) -> None:
    if len(block) > LONGEST and b"\n" not in block:
        raise StepFailed(too_long(path, here.line + rest.count(b"\n")))


def _check_length(rest: bytes, path: str, here: Place) -> None:
    if len(rest) > LONGEST:
        raise StepFailed(too_long(path, here.line))


def too_long(path: str, line: int) -> str:
    """The sentence for a record beyond `LONGEST`."""
    return f"{path}:{line}: the line is longer than {LONGEST:,} bytes, or a quote in it is never closed"

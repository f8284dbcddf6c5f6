"""The text of a file in pieces that end where a record ends: unpacked, in UTF-8, within limits."""

from __future__ import annotations

import bz2
import codecs
import gzip
import json
import lzma
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import IO, Any, NamedTuple, TypeVar

import fsspec
import pyarrow as pa

from entrepot.activities.ingest.sources.files.csv_records import Records
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
_DECODER = json.JSONDecoder(strict=False)
_EXPECTED = {"[": "the array", "v": "a value", ",": "a comma", ".": "nothing more"}

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


def line_chunks(path: str, encoding: str, start: Place) -> Iterator[Chunk]:
    """A file of JSON, one value a line."""
    rest, here = yield from _whole(path, encoding, start, lambda data: data.rfind(b"\n") + 1)
    if rest:
        yield _chunk(rest, here)


def _chunk(data: bytes, start: Place) -> Chunk:
    return Chunk(data, start.line, Place(start.offset + len(data), start.line + data.count(b"\n")))


def array_at(path: str, encoding: str, keys: Sequence[str]) -> Place:
    """Where an array begins that a JSON object has under some keys, one within the other.

    Raises:
        StepFailed: if it has none.
    """
    begin = b""
    for block in text(path, encoding):
        begin += block
        known = begin.decode("utf-8", "surrogateescape")
        try:
            at = _array_at(known, keys)
        except (IndexError, json.JSONDecodeError) as error:
            if len(begin) > LONGEST:
                raise StepFailed(_too_long(path, 1)) from error
            continue  # more text is needed to know
        if at is not None:
            before = known[:at].encode("utf-8", "surrogateescape")
            return Place(len(before), 1 + before.count(b"\n"))
        break
    raise StepFailed(f"the file {path!r} has no array of rows under {'.'.join(keys)!r}, which `records` names")


def _array_at(text: str, keys: Sequence[str]) -> int | None:
    at = _behind_space(text, 0)
    for key in keys:
        if text[at] != "{":
            return None
        name = None
        while name != key:
            at = _behind_space(text, at + 1)
            if text[at] == "}":
                return None
            name, at = _DECODER.raw_decode(text, at)
            at = _behind_space(text, _behind_space(text, at) + 1)
            if name != key:
                at = _behind_space(text, _DECODER.raw_decode(text, at)[1])
                if text[at] == "}":
                    return None
    return at if text[at] == "[" else None


def _behind_space(text: str, at: int) -> int:
    while text[at] in " \t\r\n":
        at += 1
    return at


def value_chunks(path: str, encoding: str, start: Place, array: Place | None) -> Iterator[Chunk]:
    """The values of a JSON array, or of a file that is one value after another, each put on a line of its own.

    Args:
        array: Where the array begins; None: there is none.

    Raises:
        StepFailed: for invalid JSON, even where bad rows are rejected: what comes behind it cannot be told apart.
    """
    values, lines, size, end = [], [], 0, start
    for value, line, end in _values(path, encoding, start, array):
        values.append(value)
        lines.append(line)
        size += len(value)
        if size >= CHUNK:
            yield Chunk(b"\n".join(values), lines[0], end, tuple(lines))
            values, lines, size = [], [], 0
    if values:
        yield Chunk(b"\n".join(values), lines[0], end, tuple(lines))


def _values(path: str, encoding: str, start: Place, array: Place | None) -> Iterator[tuple[bytes, int, Place]]:
    """Each value, its line, and where it ends."""
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    blocks = text(path, encoding, start.offset)
    rest, at, line = "", 0, start.line
    offset, behind = start.offset, 0  # the bytes of the text before the character `behind` of the rest
    # One of: [ (the start), v (a value or the end), , (a comma or the end), . (nothing)
    follows = "," if array else "v"
    expected, ended = "[" if array and start.offset == array.offset else follows, False
    while True:
        while at < len(rest):
            char = rest[at]
            if char in " \t\r\n":
                line += char == "\n"
                at += 1
            elif expected == "v" and not (char == "]" and array):
                end = _value_end(rest, at, ended, path, line)
                if end is None:
                    break
                value = rest[at:end].encode("utf-8", "surrogateescape")
                offset, behind = offset + at - behind + len(value), end  # between values, all is ASCII
                first, line = line, line + value.count(b"\n")
                # Between tokens a tab is as good as the end of a line, and within a text as wrong.
                yield value.replace(b"\n", b"\t").replace(b"\r", b"\t"), first, Place(offset, line)
                at, expected = end, follows
            elif char == "," and expected == ",":
                at, expected = at + 1, "v"
            elif char == "]" and expected in "v,":
                at, expected = at + 1, "."
                if array and array.offset:  # what comes behind it is of the object around
                    return
            elif char == "[" and expected == "[":
                at, expected = at + 1, "v"
            else:
                found = rest[at : at + 40]
                raise StepFailed(f"{path}:{line}: invalid JSON: {found!r} where {_EXPECTED[expected]} was expected")
        if ended:
            break
        block = next(blocks, None)
        ended = block is None
        offset += at - behind
        rest, at, behind = rest[at:] + decoder.decode(block or b"", ended), 0, 0
    if array and expected != ".":
        raise StepFailed(f"{path}:{line}: invalid JSON: the array does not end")


def _value_end(rest: str, at: int, ended: bool, path: str, line: int) -> int | None:
    """Where the JSON value at `at` ends; None if more text is needed to know."""
    try:
        _, end = _DECODER.raw_decode(rest, at)
    except json.JSONDecodeError as error:
        if ended:
            bad = line + rest.count("\n", at, error.pos)
            raise StepFailed(f"{path}:{bad}: invalid JSON: {error.msg}") from error
        if len(rest) - at > LONGEST:
            raise StepFailed(_too_long(path, line)) from error
        return None
    return None if end == len(rest) and not ended else int(end)  # a number may go on in the next block


def first_lines(path: str, encoding: str, number: int) -> list[bytes]:
    """So many lines of a file, or all that it has, each with its end."""
    begin = b""
    for block in text(path, encoding, size=HEAD):
        begin += block
        if begin.count(b"\n") >= number or len(begin) > LONGEST:
            break
    return begin.splitlines(keepends=True)[:number]


def csv_chunks(path: str, encoding: str, records: Records, start: Place) -> Iterator[Chunk]:
    """A CSV file's records; the file's first line is not told from the others."""
    rest, here = yield from _whole(path, encoding, start, lambda data: records.end(data)[0])
    while rest:
        cut, is_open = records.end(rest)
        if not is_open:
            yield _chunk(rest, here)
            break
        # A quote that is never closed makes one bad line, and not a bad rest of the file.
        end = rest.find(b"\n", cut) + 1 or len(rest)
        for data in (rest[:cut], rest[cut:end]):
            if data:
                yield (chunk := _chunk(data, here))
                here = chunk.end
        rest = rest[end:]


def _whole(
    path: str, encoding: str, start: Place, end: Callable[[bytes], int]
) -> Generator[Chunk, None, tuple[bytes, Place]]:
    """The whole records of a file, block by block, and what is left behind the last one. `end`: where that ends."""
    rest, here = b"", start
    for block in _with_line_ends(text(path, encoding, start.offset)):
        _check_has_end(block, path, here, rest)
        data = rest + block
        cut = end(data)
        if cut:
            yield (chunk := _chunk(data[:cut], here))
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
        raise StepFailed(_too_long(path, here.line + rest.count(b"\n")))


def _check_length(rest: bytes, path: str, here: Place) -> None:
    if len(rest) > LONGEST:
        raise StepFailed(_too_long(path, here.line))


def _too_long(path: str, line: int) -> str:
    return f"{path}:{line}: the line is longer than {LONGEST:,} bytes, or a quote in it is never closed"

"""What code raises, told so that it can be kept and shown: short, as clean text, with the author's own line.

A user's code may raise anything: an exception whose `str` raises, a message of megabytes or with half a character, a
chain of hundreds of causes. Here all of it becomes a sentence; and here, and nowhere else, is decided whether trying
again can help.
"""

from __future__ import annotations

import errno
import json
import linecache
import os
import re
import resource
import shutil
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import groupby, islice
from pathlib import Path
from types import TracebackType
from typing import Any

from entrepot.errors import EntrepotError, Location, Unavailable
from entrepot.secrets import scrub

LONGEST = 1_200
"""Characters that are kept of a message: Temporal shows 4 KB of a failure, and refuses megabytes for ever."""

_LINES = 5
"""Lines that are kept of the way to where something was raised: the deepest."""
_LONGEST_LINE = 300

_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_UNFIT = re.compile("[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")
"""What PostgreSQL, Protobuf or a terminal do not take: control characters, halves of characters."""

_OURS = f"{Path(__file__).parent}{os.sep}"
_EXAMPLES = f"{_OURS}examples{os.sep}"
"""As good as an author's own."""
_INSTALLED = tuple(sysconfig.get_path(which) + os.sep for which in ("stdlib", "purelib", "platlib"))


def cut(text: str, most: int = LONGEST) -> str:
    """The beginning of a text, without secrets and what cannot be stored or shown. What is left out is counted."""
    text = scrub(text)  # before it is cut: half a secret would not be known as one
    length = len(text)
    clean = _ANSI.sub("", text[: 2 * most].replace("\r\n", "\n"))
    shown = _UNFIT.sub("\ufffd", clean)
    if length <= most or (length <= 2 * most and len(shown) <= most):
        return shown
    return f"{shown[:most]}… ({length - most:,} more characters)"


def describe(error: BaseException, most: int = LONGEST) -> str:
    """An exception's own sentence, for an error of ours; for any other its type and message, and how it came about."""
    text = message(error, most)
    if isinstance(error, EntrepotError):
        return text
    if isinstance(error, OSError) and (said := _of_machine(error)):
        return cut(said, most)
    if isinstance(error, MemoryError):
        return cut(f"no memory is left: {text or _name(error)}", most)
    told = f"{_name(error)}: {text}" if text else _name(error)
    if isinstance(error, BaseExceptionGroup):
        told += f": {'; '.join(describe(part, most // 4) for part in islice(_leaves(error), 3))}"
    elif (first := _beginning(error)) is not error:
        told += f", because of {_name(first)}: {message(first, most // 2)}"
    if isinstance(error, AttributeError):
        told += _of_type(error)
    if isinstance(error, ImportError):
        told += "; install it where the worker runs"
    return cut(told, 2 * most)


def _of_machine(error: OSError) -> str:
    """What is used up or closed, in a sentence, where the machine says so."""
    why = os.strerror(error.errno or 0)
    if error.errno in (errno.EMFILE, errno.ENFILE):  # whichever file it was that came too late
        most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return f"{why}: this process may have {most} open at a time (`ulimit -n`)"
    if error.errno not in NOT_WRITABLE:
        return ""
    place = error.filename2 or error.filename  # of a copy, the first is what is read
    verb = "use" if error.errno == errno.EACCES else "write"
    return f"cannot {verb} {place or 'a file that the error does not name'}: {why}"


@contextmanager
def writing(what: str, path: str | os.PathLike[str]) -> Iterator[None]:
    """While a file is written: where the machine refuses, the error says which file, and what it is for; Python's and
    Arrow's often say neither.

    Raises:
        Unavailable: if the disk is full, or may not be written to.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in NOT_WRITABLE:
            raise
        raise Unavailable(f"{what} {path} cannot be written: {os.strerror(error.errno)}{_room(path)}") from error


@contextmanager
def full_if_unnamed(folder: str) -> Iterator[None]:
    """While code of others works, which writes to this folder, too: an error of a full disk that names no file is about
    the folder's, if there is no room left.

    Raises:
        Unavailable: if that is so.
    """
    try:
        yield
    except OSError as error:
        is_named = error.filename or error.filename2
        if error.errno not in NOT_WRITABLE or is_named or shutil.disk_usage(folder).free > _ROOM_BYTES:
            raise
        raise Unavailable(f"no room is left for scratch files in {folder}{_room(folder)}") from error


_ROOM_BYTES = 1 << 20


def _room(path: str | os.PathLike[str]) -> str:
    """How much room there is on a file's disk, which tells a full one from a quota."""
    place = Path(path)
    with suppress(OSError, StopIteration):
        disk = shutil.disk_usage(next(each for each in (place, *place.parents) if each.exists()))
        return f" ({disk.free / 1e6:,.1f} MB of {disk.total / 1e6:,.1f} MB are free)"
    return ""


def _of_type(error: AttributeError) -> str:
    """Of which type a column is that has not what was asked of it: its author took it for one of another."""
    value = _attribute(error, "obj")
    if not type(value).__module__.startswith("ibis."):
        return ""
    import ibis.expr.types as ir  # workflows do without

    return f": {value.get_name()!r} is of the type {value.type()}" if isinstance(value, ir.Value) else ""


def message(error: BaseException, most: int = LONGEST) -> str:
    """What an exception says of itself, whatever becomes of asking it."""
    try:
        return cut(str(error), most).strip()
    except BaseException as broken:  # a user's `__str__` may do anything
        return f"(it cannot say what: its str() raises {_name(broken)})"


def author_line(error: BaseException, home: str = "") -> Location | None:
    """The deepest line of the author's own code, which may have called a library.

    Args:
        home: A file of the author's, whose folder is his even where it is an installed package.
    """
    for each in _chain(error):
        if isinstance(each, SyntaxError) and each.filename:
            return Location(each.filename, each.lineno or 0)
        if own := [step for step in _steps(each) if _is_own(step, home)]:
            return Location(own[-1].tb_frame.f_code.co_filename, own[-1].tb_lineno)
    return None


def origin(error: BaseException) -> BaseException | None:
    """What an error of ours came from, where that was none of ours; another is its own."""
    return next((each for each in _chain(error) if not isinstance(each, EntrepotError)), None)


def author_traceback(error: BaseException, home: str = "") -> TracebackType | None:
    """A traceback of the last lines of the author's own code, and of the one that raised; of any, if none is his."""
    chain = list(_chain(error))
    of = next((each for each in chain if any(_is_own(step, home) for step in _steps(each))), error)
    every = [step for step in _steps(of) if _is_short(step)]
    every = [next(same) for _, same in groupby(every, lambda step: (step.tb_frame.f_code, step.tb_lineno))]
    own = [step for step in every if _is_own(step, home)] or every
    chosen = [*own[-_LINES:], *(every[-1:] if every[-1:] != own[-1:] else [])]
    way: TracebackType | None = None
    for step in reversed(chosen):
        way = TracebackType(way, step.tb_frame, step.tb_lasti, step.tb_lineno)
    return way


def _steps(error: BaseException) -> list[TracebackType]:
    step, found = error.__traceback__, []
    while step is not None:
        found.append(step)
        step = step.tb_next
    return found


def _is_own(step: TracebackType, home: str) -> bool:
    file = step.tb_frame.f_code.co_filename
    folder = os.path.dirname(home) + os.sep
    if home and folder.startswith(_INSTALLED):
        return file.startswith(folder)
    return file.startswith(_EXAMPLES) or not file.startswith(("<", *_INSTALLED, _OURS))


def _is_short(step: TracebackType) -> bool:
    return len(linecache.getline(step.tb_frame.f_code.co_filename, step.tb_lineno)) <= _LONGEST_LINE


def _name(error: BaseException) -> str:
    return cut(type(error).__name__, 100)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The exception, what it came from, and so on; of a group, its parts as well. Each once: chains can be circles."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        each = waiting.pop(0)
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        if isinstance(each, BaseExceptionGroup):
            waiting.extend(each.exceptions)
        waiting.append(each.__cause__ or (None if each.__suppress_context__ else each.__context__))


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for each in group.exceptions:
        if isinstance(each, BaseExceptionGroup):
            yield from _leaves(each)
        else:
            yield each


def _beginning(error: BaseException) -> BaseException:
    """What an exception was raised from in the first place, where its author says so."""
    seen = {id(error)}
    while (cause := error.__cause__) is not None and id(cause) not in seen:
        error = cause
        seen.add(id(error))
    return error


# Whether trying again can help ---------------------------------------------------------------------------------------

NOT_WRITABLE = (errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT, errno.EFBIG)
"""What the machine says where a disk is full, or may not be written to. Somebody may make room."""

_NEVER = (
    *(ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, NameError, NotImplementedError),
    *(RecursionError, SyntaxError, TypeError, ValueError),
    *(FileExistsError, FileNotFoundError, IsADirectoryError, NotADirectoryError),
)
"""The same code meets the same again."""
_NEVER_NUMBERS = (errno.EINVAL, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOTSUP)

_AGAIN = (BlockingIOError, ConnectionError, MemoryError, TimeoutError)
_AGAIN_NAMES = re.compile(
    r"Connect(ion|Error|Timeout)|Time(d)?Out|Timeout|Transient|Temporar|Throttl|RateLimit|TooManyRequests|Unavailable"
    r"|Disconnected|IncompleteRead|ProtocolError|Locked"
)
"""What libraries call it that are no part of Python: of HTTP clients, clouds and databases."""
_AGAIN_CODES = (408, 425, 429)
"""Of HTTP, beside those from 500 on."""


def is_transient(error: BaseException) -> bool | None:
    """Whether trying again can help; None where neither the error nor what it came from says so.

    What is away, locked, full, throttled or late may be there later. What is missing, misspelt or of a wrong type
    stays so.
    """
    if not isinstance(error, Exception | BaseExceptionGroup):
        return False  # it asked to end
    verdicts = (_is_transient_itself(each) for each in _chain(error))
    return next((verdict for verdict in verdicts if verdict is not None), None)


def _parts_are_transient(group: BaseExceptionGroup[BaseException]) -> bool | None:
    verdicts = {is_transient(part) for part in group.exceptions}
    return False if False in verdicts else True if True in verdicts else None


def _is_transient_itself(error: BaseException) -> bool | None:
    if isinstance(error, BaseExceptionGroup):
        return _parts_are_transient(error)
    if isinstance(error, EntrepotError):
        return isinstance(error, Unavailable)
    if (code := _http_code(error)) is not None:
        return code in _AGAIN_CODES or code >= 500
    if isinstance(error, json.JSONDecodeError):
        return None  # whoever answered may answer otherwise
    if isinstance(error, _AGAIN):
        return True
    if isinstance(error, _NEVER):
        return False
    if isinstance(error, OSError) and isinstance(error.errno, int):
        return error.errno not in _NEVER_NUMBERS
    names = [kind.__name__ for kind in type(error).__mro__ if kind.__module__ != "builtins"]
    return True if any(_AGAIN_NAMES.search(name) for name in names) else None


def _http_code(error: BaseException) -> int | None:
    """The code of an HTTP answer, as `requests`, `httpx`, `urllib`, `aiohttp` and clients of clouds keep it."""
    for holder in (_attribute(error, "response"), error):
        for name in ("status_code", "status", "code"):
            code = _attribute(holder, name)
            if isinstance(code, int) and 400 <= code < 600:
                return int(code)
    return None


def _attribute(holder: Any, name: str) -> Any:
    try:
        return getattr(holder, name, None)
    except Exception:  # a property of somebody's
        return None

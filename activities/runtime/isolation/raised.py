"""What user code has raised, on its way out of its process: the worker has not, and need not have, its classes."""

from __future__ import annotations

import contextlib
import pickle
import traceback
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from entrepot.errors import EntrepotError
from entrepot.secrets import scrub
from entrepot.tracebacks import author_traceback, cut, message, origin


class Foreign(Exception):
    """An exception of a class that only its own process knows. It is raised by a class of the same name."""


@dataclass(frozen=True)
class Raised:
    """An error of Entrepot's as data, and where it came from."""

    error: bytes
    """Its class, arguments and attributes."""
    origin: Origin | None

    @classmethod
    def of(cls, error: EntrepotError | InterruptedError) -> Raised:
        """The error as data."""
        first = origin(error)
        return cls(_pickled(error), Origin.of(first) if first is not None and first is not error else None)

    def again(self) -> BaseException:
        """The error, to be raised in the worker."""
        kind, arguments, attributes = pickle.loads(self.error)
        made: BaseException = kind.__new__(kind)
        made.args = arguments
        made.__dict__.update(attributes)
        made.__cause__ = self.origin.again() if self.origin else None
        return made


@dataclass(frozen=True)
class Origin:
    """What an error of ours came from."""

    kind: str
    text: str
    exact: bytes | None
    """The exception itself, where it is one of Python's own."""
    frames: tuple[tuple[str, int, str], ...]
    """File, line and function of the author's lines on the way to it."""

    @classmethod
    def of(cls, error: BaseException) -> Origin:
        """The exception as data."""
        lines = traceback.extract_tb(author_traceback(error))
        exact = None
        if type(error).__module__ == "builtins" and not isinstance(error, BaseExceptionGroup):
            with contextlib.suppress(Exception):  # somebody's own objects among its arguments
                data = pickle.dumps(error)
                is_telling = scrub(str(error)) != str(error)
                exact = None if is_telling or type(pickle.loads(data)) is not type(error) else data
        kind = cut(type(error).__name__, 100)
        frames = tuple((frame.filename, frame.lineno or 0, frame.name) for frame in lines)
        return cls(kind, message(error), exact, frames)

    def again(self) -> BaseException:
        """The exception, or one of a class of the same name."""
        foreign = type(self.kind, (Foreign,), {})
        made: BaseException = foreign(self.text) if self.exact is None else pickle.loads(self.exact)
        return made.with_traceback(_traceback(self.frames))


def _pickled(error: BaseException) -> bytes:
    """Its class, arguments and attributes; of what cannot travel, the message alone."""
    notes = {name: value for name, value in vars(error).items() if not name.startswith("__")}
    clean = tuple(scrub(each) if isinstance(each, str) else each for each in error.args)
    for arguments, attributes in ((clean, notes), ((message(error),), {})):
        whole: tuple[type[BaseException], tuple[Any, ...], dict[str, Any]] = (type(error), arguments, attributes)
        try:
            data = pickle.dumps(whole)
            pickle.loads(data)
        except Exception:  # somebody's own objects
            continue
        return data
    return pickle.dumps((RuntimeError, (message(error),), {}))


def _traceback(frames: tuple[tuple[str, int, str], ...]) -> TracebackType | None:
    """A traceback that names these lines. Python makes one only of code that runs, so code of such a name is run."""
    way: TracebackType | None = None
    for file, line, name in reversed(frames):
        code = compile("\n" * max(line - 1, 0) + "raise RuntimeError", file, "exec").replace(co_name=name)
        try:
            exec(code, {})
        except RuntimeError as error:
            step = error.__traceback__ and error.__traceback__.tb_next
        if step:
            way = TracebackType(way, step.tb_frame, step.tb_lasti, step.tb_lineno)
    return way

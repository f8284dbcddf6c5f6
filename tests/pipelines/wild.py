"""Steps that misbehave in every way: the parameter `where` says which, `what` how. A hesitant source fails once."""

from __future__ import annotations

import asyncio
import errno
import importlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ibis
import pyarrow as pa
from sklearn.linear_model import LinearRegression
from temporalio.exceptions import ApplicationError

from entrepot import Dashboard, Pipeline, Table, split

wild = Pipeline("wild", parameters={"where": "", "what": "", "hesitant": False})


class Unspeakable(Exception):
    """It raises where it is asked what it is."""

    def __str__(self) -> str:
        raise KeyError("no words")


class Answer(Exception):
    """What an HTTP client raises."""

    def __init__(self, status_code: int) -> None:
        super().__init__(f"the server answers {status_code}")
        self.status_code = status_code


def chained(length: int) -> Exception:
    """An error that came from so many others."""
    error: Exception = ZeroDivisionError("the very first")
    for number in range(length):
        after = RuntimeError(f"after {number}")
        after.__cause__ = error
        error = after
    return error


def circle() -> Exception:
    """Two errors that came from each other."""
    one, other = RuntimeError("one"), RuntimeError("other")
    one.__cause__, other.__cause__ = other, one
    return one


def recurse(number: int = 0) -> int:
    """Goes down, and never up."""
    return recurse(number + 1) + 1


RAISED: dict[str, Callable[[], BaseException]] = {
    "interrupt": KeyboardInterrupt,
    "cancelled": lambda: asyncio.CancelledError("who"),
    "closed": GeneratorExit,
    "stopped": lambda: StopIteration("no more"),
    "interrupted": lambda: InterruptedError("a signal"),
    "unspeakable": Unspeakable,
    "huge": lambda: ValueError("x" * 3_000_000),
    "huge name": lambda: type("X" * 700_000, (Exception,), {})("called so"),
    "unfit": lambda: ValueError("half \ud800, nothing \x00, \x1b[31mred\x1b[0m"),
    "group": lambda: ExceptionGroup("both", [ValueError("left"), ExceptionGroup("in", [KeyError("right")])]),
    "chained": lambda: chained(400),
    "circle": circle,
    "key": lambda: KeyError("colour"),
    "type": lambda: TypeError("unsupported operand"),
    "strange": lambda: OSError("something is odd"),
    "full": lambda: OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/data/x"),
    "away": lambda: ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"),
    "late": lambda: TimeoutError("no answer for 30 s"),
    "unknown": lambda: RuntimeError("it says nothing of itself"),
    "throttled": lambda: Answer(429),
    "down": lambda: Answer(503),
    "not found": lambda: Answer(404),
    "temporal's": lambda: ApplicationError("y" * 700_000, type="Odd", non_retryable=False),
}


def misbehave(what: str) -> None:
    """Does it."""
    if what == "exit":
        sys.exit(3)
    if what == "module":
        importlib.import_module("s3fs_that_nobody_has")
    if what == "file":
        open("/nowhere/at-all.csv").close()
    if what == "depth":
        recurse()
    if what in RAISED:
        raise RAISED[what]()


def is_first_attempt() -> bool:
    """Whether it was not asked before by a process that was forked from the same one; every second time it was."""
    mark = Path(tempfile.gettempdir()).parent / f"hesitated-{os.getppid()}"
    if mark.exists():
        mark.unlink()
        return False
    mark.touch()
    return True


@ibis.udf.scalar.python
def leaving(n: int) -> int:
    """A function in Python that the warehouse calls."""
    misbehave("exit")
    return n


@wild.ingest(tables={"numbers": {"n": "int64"}})
def numbers(where: str, what: str, hesitant: bool) -> Any:
    if where == "ingest":
        misbehave(what)
    if hesitant and is_first_attempt():
        raise ConnectionResetError("not now")

    def rows() -> Iterator[dict[str, int]]:
        yield {"n": 1}
        if where == "rows":
            misbehave(what)
        yield from ({"n": number} for number in range(2, 40))

    return rows()


@wild.transform
def doubled(numbers: Table, where: str, what: str) -> Table:
    if where == "transform":
        misbehave(what)
    if where == "engine":
        text = ibis.literal("no date")
        date = numbers.n.cast("string").concat(text).cast("date")
        broken = {"cast": date.year(), "function": leaving(numbers.n)}
        return numbers.mutate(twice=broken[what])
    return numbers.mutate(twice=numbers.n * 2)


@wild.transform(engine="python", schema={"n": "int64"})
def streamed(numbers: pa.RecordBatchReader, where: str, what: str) -> Iterator[Any]:
    yield [{"n": 0}]
    if where == "python":
        misbehave(what)
    yield from numbers


@wild.check(doubled, severity="warn")
def even(doubled: Table, where: str, what: str) -> Table:
    if where == "check":
        misbehave(what)
        return doubled.mutate(text=ibis.literal("x").repeat(3_000_000))
    return doubled.filter(doubled.twice % 2 == 1)


class Stubborn(LinearRegression):  # type: ignore[misc]
    """Learns nothing."""

    def __init__(self, what: str = "") -> None:
        super().__init__()
        self.what = what

    def fit(self, *_: Any, **__: Any) -> Any:
        misbehave(self.what)
        raise AssertionError(self.what)


@wild.train(features="doubled", target="twice", split=split.Share(0.3), score="r2")
def model(where: str, what: str) -> Any:
    return Stubborn(what) if where == "train" else LinearRegression()


@wild.publish
def board(doubled: Table, where: str, what: str) -> Dashboard:
    if where == "publish":
        misbehave(what)
    return Dashboard("Numbers", [])

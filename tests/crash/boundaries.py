"""Where a run can be interrupted: before and after everything that an activity does to the world outside it.

Nothing of this is in the code that is tested. `install` wraps, in a worker of the tests, every method of a session that
writes, everything of the lake that writes, the beginning and end of each activity, and what it tells while it works. A
boundary is named by the code: `load[shop]/ingest._load:insert entrepot.loads#1`.
"""

from __future__ import annotations

import functools
import inspect
import json
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import sqlglot
from fsspec.implementations.local import LocalFileSystem

from entrepot.activities.runtime.isolation import call
from entrepot.activities.storage import lake
from entrepot.backends import Session, TableName

ROOT = Path(__file__).parents[2]
CONTROL = "control.json"
RECORD = "record.jsonl"
_READS = {
    "query",
    "fetch",
    "read",
    "estimate",
    "describe",
    "tables",
    "table",
    "engine",
    "interrupt",
    "transaction",
    "check",
    "open",
    "close",
}
"""What a session has that writes nothing; a transaction shows as the statements that begin and end it."""
_LAKE_READS = {
    "read",
    "exists",
    "size",
    "files",
    "local_copy",
    "check",
    "sha256_of",
    "is_unfinished",
    "below",
    "check_below",
}
_ACTIVITIES = ROOT / "entrepot" / "activities"
_BELOW = (_ACTIVITIES / "catalog", _ACTIVITIES / "storage" / "lake.py")
"""What stands between a step and what it does to the world; the step's own function names a boundary."""


@dataclass(frozen=True)
class Boundary:
    """A place in a run. `session` and `lake`: what stands in for the world there."""

    name: str
    place: str  # before, after
    kind: str  # session, lake, activity, point

    def __str__(self) -> str:
        return f"{self.place} {self.name}"

    @property
    def repeats(self) -> tuple[str, int]:
        """What it is the n-th of, and n."""
        what, _, number = self.name.rpartition("#")
        return what, int(number)

    @property
    def operation(self) -> str:
        """What is done there, without what it is done to: insert, lake.put."""
        return self.name.rpartition("#")[0].rpartition(":")[2].partition(" ")[0]


@dataclass(frozen=True)
class Control:
    """What a worker is told: which fault at which boundary, or none; and the warehouse."""

    fault: str = ""
    boundary: Boundary | None = None
    is_plain: bool = False
    """DuckDB, as if it had no transactions."""
    backend: dict[str, Any] | None = None
    """The settings of another than DuckDB."""

    def write(self, folder: Path) -> None:
        (folder / CONTROL).write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, folder: Path) -> Control:
        given = json.loads((folder / CONTROL).read_text())
        boundary = given.pop("boundary")
        return cls(boundary=Boundary(**boundary) if boundary else None, **given)


@dataclass
class Attempt:
    """One attempt of one activity, and how often it has done what."""

    name: str
    done: Counter[str] = field(default_factory=Counter)


Fire = Callable[[Boundary, Session | None], None]
_attempt: ContextVar[Attempt | None] = ContextVar("attempt", default=None)
_is_inside: ContextVar[bool] = ContextVar("is_inside", default=False)
_fire: list[Fire] = []


@contextmanager
def attempt(name: str) -> Iterator[None]:
    """While the block runs, boundaries are those of an attempt of an activity."""
    token = _attempt.set(Attempt(name))
    try:
        yield
    finally:
        _attempt.reset(token)


@contextmanager
def point(
    operation: str, kind: str = "point", session: Session | None = None, *, is_whole: bool = True
) -> Iterator[None]:
    """Something with an effect, and the two boundaries around it; none outside of activities, or within a whole."""
    current = _attempt.get()
    if current is None or _is_inside.get() or not _fire:
        yield
        return
    name = _numbered(current, f"{_caller()}:{operation}")
    _reached(Boundary(name, "before", kind), session)
    token = _is_inside.set(is_whole)
    try:
        yield
    finally:
        _is_inside.reset(token)
    _reached(Boundary(name, "after", kind), session)


def mark(place: str, operation: str) -> None:
    """A boundary that stands alone: the beginning of an activity, or its end."""
    if (current := _attempt.get()) is not None and _fire:
        _reached(Boundary(_numbered(current, operation), place, "activity"), None)


def _numbered(current: Attempt, operation: str) -> str:
    what = f"{current.name}/{operation}"
    current.done[what] += 1
    return f"{what}#{current.done[what]}"


def _reached(boundary: Boundary, session: Session | None) -> None:
    with open(RECORD, "a") as record:
        record.write(json.dumps(asdict(boundary)) + "\n")
    _fire[0](boundary, session)


def recorded(folder: Path) -> list[Boundary]:
    """The boundaries of an undisturbed run; of those that repeat, the first, the second and the last."""
    seen = [Boundary(**json.loads(line)) for line in (folder / RECORD).read_text().splitlines()]
    most: Counter[str] = Counter()
    for boundary in seen:
        what, number = boundary.repeats
        most[what] = max(most[what], number)
    return list(dict.fromkeys(b for b in seen if b.repeats[1] in (1, 2, most[b.repeats[0]])))


def _caller() -> str:
    """The nearest function of the activities, or of the pipeline, that is not just a way to the warehouse or lake."""
    frame = sys._getframe(2)
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        is_below = any(path.is_relative_to(each) for each in _BELOW)
        is_ours = (path.is_relative_to(_ACTIVITIES) and not is_below) or path.name == "pipeline.py"
        if is_ours and not frame.f_code.co_name.startswith("<"):
            return f"{path.stem}.{frame.f_code.co_name}"
        frame = frame.f_back  # type: ignore[assignment]
    return "worker"


def install(fire: Fire) -> None:
    """Puts the boundaries into this process. `fire` is called at each of them."""
    _fire[:] = [fire]
    for kind in _with_subclasses(Session):
        for name, method in list(vars(kind).items()):
            is_method = inspect.isfunction(method) and not getattr(method, "__isabstractmethod__", False)
            if is_method and not name.startswith("_") and name not in _READS:
                setattr(kind, name, _of_session(method))
    for name, function in list(vars(lake).items()):
        if inspect.isfunction(function) and function.__module__ == lake.__name__ and _writes(name):
            setattr(lake, name, _of_lake(function))
    moved = LocalFileSystem.mv  # the moment between a file that is written and its being there
    LocalFileSystem.mv = functools.wraps(moved)(_of_move(moved))
    setattr(call, "_called", _of_process(call._called))  # noqa: B010 - processes of user code are forked from here


def _writes(name: str) -> bool:
    return not name.startswith("_") and name not in _LAKE_READS


def _with_subclasses(kind: type[Any]) -> Iterator[type[Any]]:
    yield kind
    for each in kind.__subclasses__():
        yield from _with_subclasses(each)


def _of_session(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def wrapped(self: Session, *given: Any, **named: Any) -> Any:
        with point(f"{method.__name__} {_shown(given[0])}" if given else method.__name__, "session", self):
            return method(self, *given, **named)

    return wrapped


def _of_lake(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapped(*given: Any, **named: Any) -> Any:
        target = str([*given, *named.values()][-1])
        with point(f"lake.{function.__name__} {_scrubbed(os.path.basename(target))}", "lake", is_whole=False):
            return function(*given, **named)

    return wrapped


_CALLS = {"_extract": "extract", "_compute": "transform", "_fit": "train", "_output": "publish"}
"""What activities call in processes of their own."""


def _of_process(called: Callable[..., Any]) -> Callable[..., Any]:
    def wrapped(own: call.Call) -> Any:
        name = own.asked.function.__name__
        with attempt(f"{_CALLS.get(name, name)}[{own.asked.step}]"):
            return called(own)

    return wrapped


def _of_move(function: Callable[..., Any]) -> Callable[..., Any]:
    def wrapped(*given: Any, **named: Any) -> Any:
        with point("move", "lake"):
            return function(*given, **named)

    return wrapped


def _shown(first: Any) -> str:
    """What an operation is about: a table, a schema, or the first words of a statement."""
    if isinstance(first, TableName):
        return _scrubbed(f"{first.schema}.{first.table}")
    if isinstance(first, str) and " " in first:
        return _statement(first)
    return _scrubbed(str(first))


def _statement(sql: str) -> str:
    tree = sqlglot.parse_one(sql, dialect="duckdb", error_level=sqlglot.ErrorLevel.IGNORE)
    table = tree.find(sqlglot.exp.Table) if tree else None
    words = " ".join(re.findall(r"[A-Z]+", sql)[:2])
    return _scrubbed(f"{words} {table.db}.{table.name}") if table else words


def _scrubbed(text: str) -> str:
    """Without hashes, ids and times, which differ from one run to the next."""
    return re.sub(r"(?=[0-9a-f-]*\d)[0-9a-f][0-9a-f-]{7,}", "…", text)

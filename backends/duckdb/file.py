"""A DuckDB file, shared by the sessions of this process and, in turns, with other processes.

DuckDB lets one process at a time have a file, so processes queue for it: each draws a ticket, and the lowest has its
turn. A process that sees others wait lets no new piece of work in, lets those that run finish, closes the file, and
draws a new ticket when it wants the file again.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import duckdb

from entrepot.backends.duckdb import compaction
from entrepot.backends.duckdb.client import Locked, connect, translated
from entrepot.errors import Unavailable

_IDLE_SECONDS = 0.5
"""How long the file stays open after its last use, if nobody else wants it."""

_LOOK_SECONDS = 0.02
_REFUSED_SECONDS = 0.1


class Ticket:
    """A place in the queue of processes that want a file.

    It is a lock on one byte of the file `<path>.queue`, which stays empty. The kernel takes it back when the process
    dies. Bytes are numbered by the clock that all processes of a machine share, so later tickets have higher numbers.
    These locks do not hold within a process: it must not draw a second one before it drops the first.
    """

    def __init__(self, path: str) -> None:
        self._number = 0
        self._file: int | None = None
        try:
            self._file = os.open(f"{path}.queue", os.O_RDWR | os.O_CREAT, 0o666)
        except OSError:
            return  # where no queue can be, DuckDB alone decides, and says what is wrong with the place
        while not self._draw(self._file):
            pass

    def _draw(self, file: int) -> bool:
        self._number = time.monotonic_ns()
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, self._number)
        except (BlockingIOError, PermissionError):
            return False  # another process looks at this byte just now
        if not self.is_followed():
            return True
        # Somebody drew later and locked earlier, and may have found nobody before him.
        fcntl.lockf(file, fcntl.LOCK_UN, 1, self._number)
        return False

    def is_first(self) -> bool:
        """Whether it is this process's turn."""
        return not self._is_locked(0, self._number)

    def is_followed(self) -> bool:
        """Whether another process waits for this one."""
        return self._is_locked(self._number + 1, 0)

    def _is_locked(self, start: int, length: int) -> bool:
        if self._file is None:
            return False
        try:
            fcntl.lockf(self._file, fcntl.LOCK_SH | fcntl.LOCK_NB, length, start)
        except (BlockingIOError, PermissionError):
            return True
        fcntl.lockf(self._file, fcntl.LOCK_UN, length, start)
        return False

    def drop(self) -> None:
        """Leaves the queue."""
        if self._file is not None:
            os.close(self._file)


@dataclass(eq=False)
class _Use:
    """A session that waits for the file or has it. Sessions of one thread, or of one tag, are one piece of work."""

    tag: object
    came: float = field(default_factory=time.monotonic)
    thread: int = field(default_factory=threading.get_ident)
    opened: _Opened | None = None

    def is_with(self, other: _Use) -> bool:
        return self.thread == other.thread or self.tag == other.tag


class _Opened:
    """An open database, and who uses it."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self.connection = connection
        self.uses: set[_Use] = set()
        self.idle_since = 0.0


class File:
    """One DuckDB file, as the sessions of this process share it."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._changed = threading.Condition()
        self._ticket: Ticket | None = None
        self._opened: _Opened | None = None
        self._waiting: list[_Use] = []
        self._is_watched = False
        self._is_reserved = False
        """Whether new work waits, since somebody wants the file for himself, or has it."""

    @contextmanager
    def used(
        self, tag: object, options: Mapping[str, Any], patience: float, check: Callable[[], None]
    ) -> Iterator[duckdb.DuckDBPyConnection]:
        """The open database. Waits its turn as long as it takes; `check` may raise to end that.

        Raises:
            Unavailable: if the file cannot be used, if a process that does not queue has it for longer than `patience`
                seconds, or if this piece of work and another could wait for each other's files forever.
        """
        use = _Use(tag)
        with self._changed:
            try:
                opened = self._enter(use, options, patience, check)
            except Unavailable as error:
                # Temporal shows a failure only up to 4 KB, stack included, and how it came about in here says nothing.
                raise error.with_traceback(None) from error.__cause__
        try:
            yield opened.connection
        finally:
            with self._changed:
                self._leave(use, opened)

    def close(self) -> None:
        """Closes the file now if nobody uses it."""
        with self._changed:
            if self._opened is not None and not self._opened.uses:
                self._close()

    def compact(self, options: Mapping[str, Any], patience: float, check: Callable[[], None]) -> int:
        """Writes the file anew if much of it is free, once nobody uses it. Returns by how many bytes it is smaller;
        0, too, if others use it for longer than `patience` seconds, or do the same: then a later attempt does it."""
        with self._changed:
            if self._is_reserved:
                return 0
            self._is_reserved = True
        try:
            # Not under the lock: who waits for the file while it is copied can be interrupted.
            is_ours = self._wait_until_free(time.monotonic() + patience, check)
            return compaction.compact(self.path, options) if is_ours and os.path.exists(self.path) else 0
        finally:
            with self._changed:
                self._is_reserved = False
                if self._opened is None:
                    self._drop_ticket()
                self._changed.notify_all()

    def _wait_until_free(self, until: float, check: Callable[[], None]) -> bool:
        with self._changed:
            while not self._is_free():
                check()
                if time.monotonic() > until:
                    return False
                self._changed.wait(_LOOK_SECONDS)
            return True

    def _is_free(self) -> bool:
        """Whether nobody uses the file, and it is this process's turn: then it is closed."""
        if self._opened is not None and self._opened.uses:
            return False
        if self._opened is not None:
            self._close()
        self._ticket = self._ticket or Ticket(self.path)
        return self._ticket.is_first()

    def _enter(self, use: _Use, options: Mapping[str, Any], patience: float, check: Callable[[], None]) -> _Opened:
        self._waiting.append(use)
        refused_at: float | None = None
        try:
            while True:
                check()
                pause = _LOOK_SECONDS
                try:
                    if opened := self._admitted(use, options):
                        return opened
                except Locked:
                    pause, now = _REFUSED_SECONDS, time.monotonic()
                    refused_at = refused_at or now
                    if now - refused_at > patience:
                        raise
                if time.monotonic() - use.came > patience:
                    self._check_order(use)
                self._changed.wait(pause)
        except BaseException:
            if use.opened is not None:
                self._leave(use, use.opened)
            raise
        finally:
            if use in self._waiting:
                self._waiting.remove(use)
            if self._opened is None and not self._waiting and not self._is_reserved:
                self._drop_ticket()

    def _admitted(self, use: _Use, options: Mapping[str, Any]) -> _Opened | None:
        """What is open, if it is this one's turn to use it."""
        if use.opened is not None:
            return use.opened
        opened = self._opened
        if self._is_reserved and not (opened and any(use.is_with(other) for other in opened.uses)):
            return None
        if opened is not None and not os.path.exists(self.path):  # deleted under us: what it holds is lost already
            self._close()
            opened = None
        if opened is not None:
            is_going_on = any(use.is_with(other) for other in opened.uses)
            if is_going_on or self._ticket is None or not self._ticket.is_followed():
                use.opened = opened
                opened.uses.add(use)
                return opened
            if opened.uses:
                return None  # another process's turn is next
            self._close()
        self._open(options)
        return use.opened

    def _open(self, options: Mapping[str, Any]) -> None:
        """Opens the file if it is this process's turn. All that wait for it are let in."""
        with translated(self.path):
            os.makedirs(os.path.dirname(self.path), exist_ok=True)
            self._ticket = self._ticket or Ticket(self.path)
            if not self._ticket.is_first():
                return
        self._opened = _Opened(connect(self.path, options))
        for use in self._waiting:
            use.opened = self._opened
        self._opened.uses.update(self._waiting)
        self._waiting.clear()
        self._changed.notify_all()

    def _leave(self, use: _Use, opened: _Opened) -> None:
        opened.uses.remove(use)
        if opened.uses or opened is not self._opened:
            return
        if self._ticket is not None and self._ticket.is_followed():
            self._close()
            return
        opened.idle_since = time.monotonic()
        if not self._is_watched:
            self._is_watched = True
            threading.Thread(target=self._watch, name="entrepot-duckdb").start()

    def _watch(self) -> None:
        """Closes the file when it has been idle for a while, or another process wants it."""
        while True:
            time.sleep(_LOOK_SECONDS)
            with self._changed:
                opened = self._opened
                if opened is not None and not opened.uses:
                    is_wanted = self._ticket is not None and self._ticket.is_followed()
                    if not is_wanted and time.monotonic() - opened.idle_since < _IDLE_SECONDS:
                        continue
                    self._close()
                self._is_watched = False
                return

    def _close(self) -> None:
        if self._opened is not None:
            self._opened.connection.close()
        self._opened = None
        self._drop_ticket()
        self._changed.notify_all()

    def _drop_ticket(self) -> None:
        if self._ticket is not None:
            self._ticket.drop()
        self._ticket = None

    def _check_order(self, use: _Use) -> None:
        """Raises if others may wait for a file of this piece of work while it waits for theirs.

        Whoever waits for the later of two files may wait on: somebody who has that does not wait for the earlier.
        """
        for path, file in sorted(_files.items()):
            opened = file._opened
            if path > self.path and opened and any(use.is_with(other) for other in list(opened.uses)):
                raise Unavailable(
                    f"the DuckDB file {self.path} is used by another process, which may wait for {path}, "
                    "used here by the same step"
                )


_files: weakref.WeakValueDictionary[str, File] = weakref.WeakValueDictionary()


def file_at(path: str) -> File:
    """The file at a path: the same for all of this process."""
    return _files.setdefault(path, File(path))

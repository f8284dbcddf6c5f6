"""Connections that a worker keeps open between pieces of work: to open one takes a second or more."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

C = TypeVar("C")

IDLE_SECONDS = 120.0


class Pool(Generic[C]):
    """Open connections of one tenant. Each is used by one thread at a time; what has idled for long is closed."""

    def __init__(self, open_one: Callable[[], C], close: Callable[[C], object]) -> None:
        self._open_one = open_one
        self._close = close
        self._free: list[tuple[float, C]] = []
        self._lock = threading.Lock()
        self._is_closed = False

    @contextmanager
    def taken(self) -> Iterator[C]:
        """A connection that nobody else uses. After an error it is closed: nobody knows what state it is in. So it is
        after `close`."""
        connection = self._reused() or self._open_one()
        try:
            yield connection
        except BaseException:
            self._discard(connection)
            raise
        with self._lock:
            if not self._is_closed:
                self._free.append((time.monotonic(), connection))
                return
        self._discard(connection)

    def _reused(self) -> C | None:
        with self._lock:
            border = time.monotonic() - IDLE_SECONDS
            old = [c for since, c in self._free if since < border]
            self._free = [(since, c) for since, c in self._free if since >= border]
            newest = self._free.pop()[1] if self._free else None
        for connection in old:
            self._discard(connection)
        return newest

    def _discard(self, connection: C) -> None:
        with contextlib.suppress(Exception):  # it may be broken already
            self._close(connection)

    def close(self) -> None:
        """Closes what is free, and from now on what becomes free."""
        with self._lock:
            self._is_closed = True
            free, self._free = self._free, []
        for _, connection in free:
            self._discard(connection)

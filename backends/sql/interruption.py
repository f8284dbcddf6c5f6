"""How the statements of a session are stopped from another thread."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Interruption:
    """Counts how often a session was interrupted. Work that may begin after an interruption, as to clean up, keeps the
    count of the moment in which it began; other work keeps 0."""

    def __init__(self) -> None:
        self.count = 0

    def request(self, cancel: Callable[[], object] | None = None) -> None:
        """Interrupts. `cancel` tells the warehouse, in a thread of its own: whoever interrupts may be an event loop, or
        hold locks."""
        self.count += 1
        if cancel is not None:
            threading.Thread(target=cancel, name="entrepot-cancel", daemon=True).start()

    def check(self, since: int = 0) -> None:
        """Raises InterruptedError if it was interrupted after `since`."""
        if self.count > since:
            raise InterruptedError("cancelled")

    @contextmanager
    def heeded(self, since: int = 0) -> Iterator[None]:
        """While work is done that an interruption after `since` stops: then that is the error, whatever else fails."""
        self.check(since)
        try:
            yield
        except InterruptedError:
            raise
        except Exception as error:
            if self.count > since:
                raise InterruptedError("cancelled") from error
            raise
        self.check(since)

"""Whose code goes first where processors are short: a tenant that runs much at once does not slow the others down.

Each of a tenant's processes has a lane. That of the first is as wide as any other's, and each further one is narrower,
so that all of a tenant's together weigh hardly more than the first. Where nobody else wants a processor, they have it
all.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

STEP = 5
"""A process that is nicer by so much has a third of the time."""
MOST = 19


class Lanes:
    """The lanes of a worker's tenants."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken: defaultdict[str, set[int]] = defaultdict(set)

    @contextmanager
    def lane(self, tenant: str) -> Iterator[int]:
        """The widest that the tenant does not use, while the block runs: how nice its process is."""
        taken = self._taken[tenant]
        with self._lock:
            number = next(each for each in count() if each not in taken)
            taken.add(number)
        try:
            yield min(number * STEP, MOST)
        finally:
            with self._lock:
                taken.discard(number)

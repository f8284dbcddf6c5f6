"""Whose activities begin: where several tenants have work for a worker, each has its share of the processors.

Temporal hands work out in turn, but what it has handed out runs at once: beside hundreds of runs of one tenant, all
others would be slow. So the activities of each tenant take turns here. One that has run for a while waits for something
else than a processor, such as a warehouse that does not answer: it leaves its turn to the next, and goes on.

Who has had much lately begins nothing while somebody who has had little has a turn. So a short run is hardly slower
beside a flood of others than alone; one that lasts is soon as any other.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Any

from temporalio import activity
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput, Interceptor

from entrepot.activities.runtime.activity import HEARTBEAT_SECONDS
from entrepot.protocol.activities import PREPARE, SLOTS
from entrepot.worker.telemetry.about import about

ALONE = 8
"""So many turns has a tenant while no other has work. Temporal takes at most 10 updates of `Slots` at once."""
SECONDS = 1.0
"""No turn is longer. Who had none for so long has no work: between two activities of a run there is a little time."""
GAP = 0.1
"""How long who has had much waits beyond the turn of another: a run's next activity mostly comes so soon."""
MEMORY = 10.0
"""Seconds after which what somebody has had counts half."""
MUCH = 2.0
"""Who has had so many times as much as another, and `SECONDS` more, has had much."""


@dataclass
class _Tenant:
    turns: int = 0
    waiting: list[tuple[bool, int, asyncio.Future[None]]] = field(default_factory=list)
    """A heap: what goes on before what begins, and of these who has waited for longest."""
    seen: float = 0.0
    used: float = 0.0
    """Seconds of turns that it has had lately."""

    def is_here(self, now: float) -> bool:
        """Whether it has work."""
        return bool(self.turns or self.waiting) or self.seen > now - SECONDS

    def is_busy(self, now: float) -> bool:
        """Whether it has a turn, or had one just now."""
        return bool(self.turns) or self.seen > now - GAP

    def has_had_much(self, other: _Tenant) -> bool:
        """Whether it is the other's turn."""
        return self.used > MUCH * other.used + SECONDS


class Turns(Interceptor):
    """Lets the activities of a worker begin, each tenant's in its turns. The others wait without keeping a thread.

    Args:
        processors: How many there are to share.
    """

    def __init__(self, processors: int) -> None:
        self._processors = processors
        self._tenants: dict[str, _Tenant] = {}
        self._numbers = count()
        self._counted_at = 0.0

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        """Called by the worker for each activity."""
        return _Activity(next, self)

    @asynccontextmanager
    async def turn(
        self, name: str, *, begins: bool, wait: Callable[[asyncio.Future[None]], Any]
    ) -> AsyncIterator[None]:
        """A turn of a tenant while the block runs, but no longer than it may be.

        Args:
            begins: Whether it is the first of a run, which comes after those of runs that have begun.
            wait: How it is waited for.
        """
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        tenant = self._tenants.setdefault(name, _Tenant())
        heapq.heappush(tenant.waiting, (begins, next(self._numbers), mine))
        self._go_on()
        leave = _Once(partial(self._left, tenant))
        try:
            await wait(mine)
            asyncio.get_running_loop().call_later(SECONDS, leave)
            yield
        finally:
            mine.cancel()
            if not mine.cancelled():
                leave()

    def _left(self, tenant: _Tenant) -> None:
        self._count()
        tenant.turns -= 1
        tenant.seen = self._counted_at
        self._go_on()
        asyncio.get_running_loop().call_later(GAP, self._go_on)

    def _count(self) -> None:
        """What everybody has had until now."""
        now = asyncio.get_running_loop().time()
        passed, self._counted_at = now - self._counted_at, now
        for tenant in self._tenants.values():
            tenant.used = tenant.used * 0.5 ** (passed / MEMORY) + tenant.turns * passed

    def _go_on(self) -> None:
        self._count()
        now = self._counted_at
        self._tenants = {name: each for name, each in self._tenants.items() if each.is_here(now) or each.used > 0.01}
        here = [each for each in self._tenants.values() if each.is_here(now)]
        share = max(self._processors // len(here), 1) if len(here) > 1 else ALONE
        for tenant in sorted(here, key=lambda each: each.used):
            while tenant.waiting and tenant.turns < share:
                if any(other.is_busy(now) and tenant.has_had_much(other) for other in here):
                    break
                _, _, its = heapq.heappop(tenant.waiting)
                if not its.done():
                    its.set_result(None)
                    tenant.turns += 1


_FIRST = (PREPARE.name, SLOTS.name)
"""What runs begin with."""


class _Once:
    def __init__(self, call: Callable[[], None]) -> None:
        self._call: Callable[[], None] | None = call

    def __call__(self) -> None:
        if (call := self._call) is not None:
            self._call = None
            call()


class _Activity(ActivityInboundInterceptor):
    def __init__(self, next: ActivityInboundInterceptor, turns: Turns) -> None:
        super().__init__(next)
        self._turns = turns

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        if not (tenant := about(input.args).get("tenant")):
            return await super().execute_activity(input)
        async with self._turns.turn(tenant, begins=activity.info().activity_type in _FIRST, wait=_alive):
            return await super().execute_activity(input)


async def _alive(turn: asyncio.Future[None]) -> None:
    """Waits for a turn, with signs of life."""
    while not (await asyncio.wait({turn}, timeout=HEARTBEAT_SECONDS))[0]:
        activity.heartbeat()

"""Turns of activities: a tenant alone has many, several have their shares, and who waits for other things leaves it."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.worker import turns
from entrepot.worker.turns import ALONE, Turns


class Work:
    """Activities of tenants that go on until they are told to end."""

    def __init__(self, processors: int) -> None:
        self.turns = Turns(processors)
        self.waiting: Counter[str] = Counter()
        self.running: dict[str, list[asyncio.Event]] = {}
        self.began: list[str] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def add(self, tenant: str, *, begins: bool = False, name: str = "") -> asyncio.Task[None]:
        """Another activity, which begins when it can."""
        self._tasks.append(asyncio.create_task(self._act(tenant, begins, name or tenant)))
        await settled()
        return self._tasks[-1]

    async def end(self, tenant: str) -> None:
        """Ends what has run for longest."""
        self.running[tenant].pop(0).set()
        await settled()

    async def end_all(self) -> None:
        while left := [tenant for tenant, running in self.running.items() if running]:
            for tenant in left:
                await self.end(tenant)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=60)
        assert not self.waiting.total()

    def count(self, tenant: str) -> int:
        return len(self.running.get(tenant, ()))

    async def _act(self, tenant: str, begins: bool, name: str) -> None:
        async def wait(turn: asyncio.Future[None]) -> None:
            self.waiting[tenant] += 1
            try:
                await turn
            finally:
                self.waiting[tenant] -= 1

        async with self.turns.turn(tenant, begins=begins, wait=wait):
            self.began.append(name)
            end = asyncio.Event()
            self.running.setdefault(tenant, []).append(end)
            await end.wait()


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.fixture
def endless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Turns that nobody leaves, and tenants that always have work."""
    monkeypatch.setattr(turns, "SECONDS", 3600.0)


async def test_a_tenant_alone_has_many_turns_and_beside_another_its_share(endless: None) -> None:
    work = Work(processors=2)
    for _ in range(20):
        await work.add("a")
    assert work.count("a") == ALONE
    for _ in range(3):
        await work.add("b")
    assert work.count("b") == 1, "it waits for nobody"
    for left in reversed(range(1, ALONE)):
        await work.end("a")
        assert work.count("a") == left, "nothing of it begins before it has no more than its share"
    await work.end("a")
    await work.end("b")
    assert (work.count("a"), work.count("b")) == (1, 1)
    await work.end_all()


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Turns of which some soon are much."""
    monkeypatch.setattr(turns, "SECONDS", 0.2)
    monkeypatch.setattr(turns, "GAP", 0.05)


async def test_who_has_had_much_begins_nothing_while_another_has_a_turn(short: None) -> None:
    work = Work(processors=2)
    for _ in range(4):
        await work.add("a")
    await asyncio.sleep(0.1)
    await work.end_all()  # it has had 0.4 seconds
    await work.add("b")
    await work.add("a")
    assert (work.count("a"), work.count("b")) == (0, 1), "it would have a share, and waits"
    await work.end("b")
    assert work.count("a") == 0, "another activity of that run is about to come"
    await asyncio.sleep(0.1)
    assert work.count("a") == 1
    await work.add("b")
    assert work.count("b") == 1, "who has had little waits for nobody"
    await work.add("a")
    await work.end("a")
    assert work.count("a") == 0
    await asyncio.sleep(0.35)
    assert work.count("a") == 1, "a turn does not last longer than it may"
    await work.end_all()


async def test_who_has_had_as_much_as_another_begins_beside_it(short: None) -> None:
    work = Work(processors=2)
    for each in "ab":
        await work.add(each)
    await asyncio.sleep(0.1)
    await work.end_all()
    for each in "ab":
        await work.add(each)
    assert (work.count("a"), work.count("b")) == (1, 1)
    await work.end_all()


async def test_who_has_had_much_does_not_wait_for_ever_for_those_who_always_have_work(
    short: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "MEMORY", 0.1)
    work = Work(processors=2)
    for _ in range(8):
        await work.add("a")
    await asyncio.sleep(0.15)
    await work.end_all()
    await work.add("b")
    await work.add("a")
    assert work.count("a") == 0
    async with asyncio.timeout(60):
        while not work.count("a"):
            await work.add("b")
            await asyncio.sleep(0.02)
            await work.end("b")
    await work.end_all()


async def test_what_somebody_has_had_is_forgotten_in_time(short: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "MEMORY", 0.01)
    work = Work(processors=2)
    for _ in range(4):
        await work.add("a")
    await asyncio.sleep(0.1)
    await work.end_all()
    await asyncio.sleep(0.1)
    for each in "ba":
        await work.add(each)
    assert (work.count("a"), work.count("b")) == (1, 1)
    await work.end_all()


async def test_what_runs_goes_on_before_another_begins(endless: None) -> None:
    work = Work(processors=1)
    await work.add("b")
    await work.add("a", name="first")
    await work.add("a", name="begins", begins=True)
    await work.add("a", name="goes on")
    for _ in range(3):
        await work.end("a")
    assert work.began == ["b", "first", "goes on", "begins"]
    await work.end_all()


async def test_what_hangs_keeps_nobody_waiting_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "SECONDS", 0.02)
    work = Work(processors=1)
    for tenant in ("a", "b") * 20:
        await work.add(tenant)
    async with asyncio.timeout(60):
        while (work.count("a"), work.count("b")) != (20, 20):
            await asyncio.sleep(0.01)
    await work.end_all()


async def test_who_is_cancelled_takes_no_turn(endless: None) -> None:
    work = Work(processors=2)
    running, other = [await work.add(each) for each in ("a", "b")]
    waiting = [await work.add("a") for _ in range(3)]
    waiting[0].cancel()
    running.cancel()
    await settled()
    assert work.began == ["a", "b", "a"]
    work.running["a"].pop(0)  # the one that was cancelled
    await work.end("a")
    assert work.began == ["a", "b", "a", "a"]
    await work.end_all()
    assert not other.cancelled()


@given(
    processors=st.integers(1, 6),
    happens=st.lists(st.tuples(st.sampled_from("abcd"), st.booleans()), max_size=60),
)
def test_nobody_has_more_than_its_share_and_no_share_lies_idle(
    processors: int, happens: list[tuple[str, bool]]
) -> None:
    """Something of a tenant comes, or ends."""

    async def play() -> None:
        work, seen = Work(processors), set[str]()
        for tenant, comes in happens:
            before = {each: work.count(each) for each in seen}
            if comes:
                seen.add(tenant)
                await work.add(tenant)
            elif work.count(tenant):
                await work.end(tenant)
            share = ALONE if len(seen) < 2 else max(processors // len(seen), 1)
            for each in seen:
                assert work.count(each) <= max(share, before.get(each, 0))
                assert work.count(each) >= share or not work.waiting[each]
        await work.end_all()

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(turns, "SECONDS", 3600.0)
        asyncio.run(play())

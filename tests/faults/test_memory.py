"""A worker's memory is flat, however many runs it has made. Held before: it has made some, so that all that is loaded
or remembered once is there."""

from __future__ import annotations

import gc
from collections import Counter

import pytest

from tests.activities.maintenance.staged import House, opened

WARM, MEASURED = 3, 4
MOST = 100
"""Objects that a run may leave: caches of names and statements fill slowly. Each of the faults left thousands."""


def objects() -> Counter[str]:
    """What is alive, by type."""
    gc.collect()
    return Counter(f"{type(each).__module__}.{type(each).__qualname__}" for each in gc.get_objects())


def assert_flat(house: House, *, grows: bool) -> None:
    def run() -> None:
        house.events += grows
        house.complete()

    for _ in range(WARM):
        run()
    before = objects()
    for _ in range(MEASURED):
        run()
    more = objects() - before
    assert more.total() < MOST * MEASURED, more.most_common(10)


@pytest.mark.parametrize("grows", [False, True], ids=["nothing new", "a new row each time"])
def test_a_run_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch, *, grows: bool) -> None:
    with opened(monkeypatch) as house:
        assert_flat(house, grows=grows)

"""A tenant's processes: the first is as nice as any other's, and each further one lets others go first."""

from __future__ import annotations

from contextlib import ExitStack

from entrepot.activities.runtime.isolation.lanes import MOST, STEP, Lanes


def test_each_further_process_of_a_tenant_is_nicer_until_a_wider_lane_is_free() -> None:
    lanes = Lanes()
    with ExitStack() as every:
        assert [every.enter_context(lanes.lane("acme")) for _ in range(2)] == [0, STEP]
        with lanes.lane("globex") as other:
            assert other == 0
        with lanes.lane("acme") as third:
            assert third == 2 * STEP
        assert [every.enter_context(lanes.lane("acme")) for _ in range(8)] == [2 * STEP, 3 * STEP, *[MOST] * 6]
    with lanes.lane("acme") as first:
        assert first == 0

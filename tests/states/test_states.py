"""What a release has left is read by today's version: shown, added to, rolled back, collected."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from temporalio.testing import WorkflowEnvironment

from tests.conftest import House, serving
from tests.states.make import KEPT, SOURCE, loaded, place, rows, unpack

RELEASES = sorted(path.name.removeprefix("release_") for path in KEPT.glob("release_*"))


@pytest.fixture(params=RELEASES)
async def house(request: pytest.FixtureRequest, temporal: WorkflowEnvironment) -> AsyncIterator[House]:
    with place():
        unpack(request.param)
        async with serving(temporal.client, loaded()) as house:
            yield house


async def test_the_state_of_a_release_is_that_of_today(house: House) -> None:
    asked = {"parameters": {"source": str(SOURCE)}}
    assert house.query("SELECT count(*), sum(twice) FROM kept.doubled") == [(40, 40 * 41)]
    shown = {schema: house.query(f"SELECT count(*) FROM {schema}.guessed") for schema in ("kept", "kept__dev")}
    assert shown == {"kept": [(40,)], "kept__dev": [(40,)]}

    SOURCE.write_text(rows(*range(1, 46)))
    again = await house.run("kept", **asked)
    assert again.outcome == "published"
    assert house.query("SELECT count(*), count(DISTINCT id) FROM kept.events") == [(45, 45)]
    assert len(Path(again.links["listed"]).read_text().splitlines()) == 46

    for expected in (40, 30):
        await (await house.start("Rollback", {"tenant": "acme", "pipeline": "kept"})).result()
        assert house.query("SELECT count(*) FROM kept.doubled") == [(expected,)]
    await (await house.start("Gc", {"tenant": "acme", "keep_days": 0, "keep_publishes": 1})).result()
    assert house.query("SELECT count(*) FROM kept.doubled") == [(30,)]
    assert house.query("SELECT count(*) FROM kept__dev.doubled") == [(40,)]

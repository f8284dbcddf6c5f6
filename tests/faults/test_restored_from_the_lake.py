"""A lake without its catalog: the warehouse's file is deleted, and the next run goes on as if nothing had been."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from temporalio.testing import WorkflowEnvironment

from tests.conftest import House, serving, settings

PIPELINES = {"ingested": "tests.pipelines.ingested:ingested"}


async def test_the_next_run_goes_on_behind_the_newest_loads(temporal: WorkflowEnvironment, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    asked: dict[str, Any] = {"select": "counted+", "parameters": {"folder": str(source)}}

    def bring(rows: int) -> Counter[int]:
        """The source has so many rows; the oracle of what is shown then: each id, once."""
        (source / "counted.rows").write_text(json.dumps([{"id": n} for n in range(1, rows + 1)]))
        return Counter(range(1, rows + 1))

    def shown(house: House, schema: str) -> tuple[Counter[int], dict[int, int]]:
        """The raw rows, and how many of each the transform has counted."""
        rows = house.query(f"SELECT id FROM {schema}.counted")
        return Counter(n for (n,) in rows), dict(house.query(f"SELECT id, n FROM {schema}.ids"))

    async with serving(temporal.client, settings(tmp_path, PIPELINES)) as house:
        bring(200)
        await house.run("ingested", **asked)
        bring(205)
        await house.run("ingested", **asked)
        bring(207)
        await house.run("ingested", environment="dev", **asked)
    for path in tmp_path.glob("acme.duckdb*"):
        path.unlink()
    async with serving(temporal.client, settings(tmp_path, PIPELINES)) as house:
        failure = await house.fail(tenant="acme", pipeline="ingested", **asked)
        assert failure.type == "BadInput"
        assert "the catalog has no load of 'counted' in prod, and the lake has that of run" in failure.message
        restored = await (await house.start("Repair", {"tenant": "acme", "from_lake": True})).result()
        assert [said.partition(" as run ")[0] for said in restored["found"]] == [
            f"pipeline 'ingested', environment {name!r}: 'counted' was restored" for name in ("dev", "prod")
        ]
        assert not restored["left"]
        assert not (await (await house.start("Repair", {"tenant": "acme", "from_lake": True})).result())["found"]
        bring(207)
        for environment, rows in (("dev", 207), ("prod", 210)):
            expected = bring(rows)
            run = await house.run("ingested", environment=environment, **asked)
            assert run.outcome == "published"
            schema = "ingested" if environment == "prod" else "ingested__dev"
            assert shown(house, schema) == (expected, dict(expected))
        [loaded] = [step.rows for step in run.steps if step.name == "counted"]
        assert loaded == 5  # what came since; not the 205 rows of before
        assert (await house.run("ingested", **asked)).outcome == "nothing to do"

"""Workers of one task queue whose tenant files are of different age: Temporal gives the work to any of them.

What must hold: a run of a tenant or pipeline that one worker knows is done, whoever takes its work first, and says what
it waits for. What no worker knows is refused at once, in a sentence.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from temporalio.client import Client, WorkflowFailureError
from temporalio.testing import WorkflowEnvironment

from entrepot.worker import process
from entrepot.worker.client import reach
from entrepot.worker.config import settings
from entrepot.worker.deployments import served, waiting
from entrepot.worker.deployments.workers import workers
from tests.conftest import House
from tests.waiting import eventually

TENANT = """
[tenants.{name}]
backend = {{ type = "duckdb", path = "{name}.duckdb" }}
"""
SHOP = 'pipelines.shop = "tests.pipelines.shop:shop"\n'
BOTH = SHOP + 'pipelines.slow = "tests.pipelines.slow:slow"\n'


@dataclass
class Fleet:
    """Workers of one task queue, each with a tenant file of its own."""

    address: str
    folder: Path
    task_queue: str = field(default_factory=lambda: f"test-{uuid.uuid4().hex}")

    def write(self, name: str, pipelines: str, *tenants: str) -> Path:
        file = self.folder / f"{name}.toml"
        file.write_text(pipelines + "".join(TENANT.format(name=tenant) for tenant in tenants))
        return file

    @asynccontextmanager
    async def worker(self, name: str, pipelines: str, *tenants: str) -> AsyncIterator[House]:
        """A worker, known by its name, that others have heard of."""
        client = await reach(self.address, identity=name)
        loaded = settings.load(str(self.write(name, pipelines, *tenants)), str(self.folder / "state")).connect()
        async with process.create(client, loaded, task_queue=self.task_queue):
            house = House(client, loaded, self.task_queue, self.folder)
            await eventually(lambda: self.is_known(client, name))
            yield house
        for tenant in loaded.tenants.values():
            tenant.close()

    async def is_known(self, client: Client, name: str) -> bool:
        return any(each.identity == name for each in await workers(client, self.task_queue))


@pytest.fixture
def fleet(temporal: WorkflowEnvironment, tmp_path: Path) -> Fleet:
    return Fleet(temporal.client.service_client.config.target_host, tmp_path)


async def test_runs_are_done_by_the_worker_that_knows_their_tenant_and_pipeline(fleet: Fleet) -> None:
    async with fleet.worker("old", SHOP, "acme") as old, fleet.worker("new", BOTH, "acme", "globex") as new:
        of_new = [("globex", "shop"), ("acme", "slow"), ("globex", "slow")]
        handles = [await old.start("Pipeline", {"tenant": t, "pipeline": p}) for t, p in [*of_new, ("acme", "shop")]]
        assert [(await each.result())["outcome"] for each in handles] == ["published"] * 4
        assert new.query("SELECT count(*) FROM slow.after", "globex") == [(100,)]

        with pytest.raises(WorkflowFailureError) as caught:
            await (await old.start("Pipeline", {"tenant": "globx", "pipeline": "shop"})).result()
        assert "unknown tenant 'globx'" in str(caught.value.cause)

        found = await workers(old.client, fleet.task_queue)
        answers = await served.asked(old.client, fleet.task_queue, found)
        assert {name: list(each.tenants) for name, each in answers.items()} == {
            "old": ["acme"],
            "new": ["acme", "globex"],
        }
        assert answers["old"].knows("acme", "shop")
        assert not answers["old"].knows("acme", "slow")
        [lacks] = served.missing(answers, new.tenants)
        assert lacks.startswith("old does not know 'acme/slow', 'globex/shop', 'globex/slow': give it the same")


async def test_a_run_of_a_new_tenant_waits_while_the_changed_file_cannot_be_used(fleet: Fleet) -> None:
    async with fleet.worker("only", SHOP, "acme") as house:
        assert (await house.run()).outcome == "published"
        file = fleet.write("only", SHOP, "acme", "globex")
        whole = file.read_text()
        file.write_text(whole.replace("duckdb", "dcukdb"))
        waits = await house.start("Pipeline", {"tenant": "globex", "pipeline": "shop"})
        said = await eventually(lambda: waiting.why(house.client, waits, fleet.task_queue))
        # what is asked first may be of the tenant alone
        assert said.startswith(("tenant 'globex': not known", "tenant 'globex', pipeline 'shop': not known"))
        assert "not known to the worker only, and waits for one that knows it: " in said
        assert "only.toml has changed but cannot be used" in said
        assert (await house.run()).outcome == "nothing to do"  # of the tenants that it knows
        file.write_text(whole)
        assert (await waits.result())["outcome"] == "published"

"""Two groups of tenants on one server, each with a tenant file, a task queue and workers of its own.

What must hold: the workers of one group never run what is another's, and its schedules are nobody else's to change.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from tests.worker.processes import Place

TENANT = """
pipelines.shop = "tests.pipelines.shop:shop"
[tenants.{name}]
backend = {{ type = "duckdb", path = "{name}.duckdb" }}
[[tenants.{name}.schedules]]
pipeline = "shop"
every = "12h"
"""


@dataclass
class Group(Place):
    """A tenant, and whoever serves it."""

    name: str = ""

    def __post_init__(self) -> None:
        (self.folder / f"{self.name}.toml").write_text(TENANT.format(name=self.name))

    def environment(self, **more: str) -> dict[str, str]:
        own = {"ENTREPOT_TASK_QUEUE": f"group-{self.name}", "ENTREPOT_TENANTS": f"{self.name}.toml"}
        return super().environment(**{**own, **more})

    def scheduled(self) -> set[str]:
        return {each["scheduleId"] for each in json.loads(self.temporal("schedule", "list", "-o", "json").stdout)}


def test_a_worker_serves_the_tenants_of_its_group_alone(tmp_path: Path) -> None:
    acme = Group(tmp_path, name="acme")
    globex = Group(tmp_path, acme.port, acme.ui_port, name="globex")
    with acme.server_alone(), acme.spawned("worker"):
        assert acme.entrepot("run", "shop").returncode == 0
        refused = acme.entrepot("run", "shop", "-t", "globex")
        assert refused.returncode == 2
        assert "unknown tenant 'globex'. Known: 'acme'" in refused.stderr

        # The other's worker does not run, and nobody else takes its work.
        start = [
            "workflow",
            "start",
            "--type",
            "Pipeline",
            "--task-queue",
            "group-globex",
            "-w",
            "globex/shop",
            "--input",
        ]
        assert globex.temporal(*start, '{"tenant": "globex", "pipeline": "shop"}').returncode == 0

        for group in (globex, acme):
            assert group.entrepot("schedules", "apply").returncode == 0
        assert {"acme/shop", "globex/shop"} <= acme.scheduled()
        described = json.loads(acme.temporal("schedule", "describe", "-s", "globex/shop", "-o", "json").stdout)
        assert described["schedule"]["action"]["startWorkflow"]["taskQueue"]["name"] == "group-globex"
        shown = json.loads(globex.temporal("workflow", "describe", "-w", "globex/shop", "-o", "json").stdout)
        assert shown["workflowExecutionInfo"]["status"] == "WORKFLOW_EXECUTION_STATUS_RUNNING"
        assert shown["workflowExecutionInfo"]["historyLength"] == "2"  # it was started, and given to nobody

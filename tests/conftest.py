"""What tests share: a real Temporal server, a real worker, tenants on DuckDB files of their own."""

from __future__ import annotations

import asyncio
import base64
import functools
import os
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import entrepot_standins as standins
import hypothesis
import pytest
import pytest_asyncio
from entrepot_standins.ports import free_port
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.exceptions import ApplicationError
from temporalio.testing import WorkflowEnvironment

from entrepot.activities.runtime.tenant import Tenants
from entrepot.worker import process
from entrepot.worker.config.settings import Settings
from entrepot.worker.config.tenant_schema import TenantSection
from entrepot.worker.payloads.codec import SETTING
from entrepot.workflows.progress import RunSummary
from tests import data, suites
from tests.groups import Scheduling, is_fast, turn_of
from tests.servers.postgres import Server, running
from tests.servers.temporal import dev_server
from tests.watchdog import Watchdog

# How long an example takes says something of the machine, and of what else it does.
# Property-based tests take the same examples each time, so that a run here says what CI will say. Others are searched
# for by `pytest --hypothesis-profile search`.
hypothesis.settings.register_profile("entrepot", deadline=None, derandomize=True)
hypothesis.settings.register_profile("search", deadline=None)
hypothesis.settings.load_profile("entrepot")


BEGAN = suites.Processors.now()


def pytest_configure(config: pytest.Config) -> None:
    """No test can keep a run from its end; and what tests' clients and workers give to Temporal is encrypted."""
    config.pluginmanager.register(Watchdog(config))
    os.environ["PAYLOAD_KEYS"] = f"tests:{base64.b64encode(bytes(range(32))).decode()}"
    os.environ[SETTING] = "env:PAYLOAD_KEYS"


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """In CI a skip is a failure: everything that a test needs can be set up there."""
    outcome: Any = yield
    report = outcome.get_result()
    can_be_set_up = data.ABSENT not in str(report.longrepr)
    if report.skipped and os.environ.get("CI") and can_be_set_up and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped in CI, where nothing may be skipped: {report.longrepr}"


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Scheduling:
    """How tests are given to processes."""
    return Scheduling(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest first; and which are of the daily loop."""
    items.sort(key=lambda item: turn_of(item.nodeid))
    for item in items:
        if is_fast(item.nodeid):
            item.add_marker(pytest.mark.fast)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Which suites ran, and for how long."""
    if ran := suites.suites(terminalreporter.stats):
        terminalreporter.section("suites")
        for line in suites.table(ran):
            terminalreporter.write_line(line)
        terminalreporter.write_line(suites.Processors.now().line(BEGAN))


@pytest.fixture(autouse=True)
def its_modules_are_forgotten(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What a test imported from folders of tests is forgotten, so that another finds its own under the same name."""
    before = set(sys.modules)
    yield
    for name in sys.modules.keys() - before:
        if _stands_in(sys.modules[name], tmp_path_factory.getbasetemp()):
            del sys.modules[name]


def _stands_in(module: ModuleType | None, folder: Path) -> bool:
    """Whether a module, or a package even without a file, is of a folder."""
    if (spec := getattr(module, "__spec__", None)) is None:
        return False
    places = [spec.origin, *(spec.submodule_search_locations or ())]
    return any(Path(place).is_relative_to(folder) for place in places if place)


@pytest.fixture(scope="session")
def standin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], dict[str, Any]]]:
    """Gives the settings that reach a warehouse's stand-in, which is started when it is first asked for."""
    with ExitStack() as stack:

        @functools.cache
        def started(name: str) -> dict[str, Any]:
            return stack.enter_context(standins.running(name, standins.default_home(), tmp_path_factory.mktemp(name)))

        def settings(name: str) -> dict[str, Any]:
            try:
                return dict(started(name))
            except standins.NotAvailable as error:
                pytest.skip(f"the stand-in for {name} cannot be set up: {error}")

        yield settings


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A PostgreSQL server of this process's own, started when it is first asked for."""
    with running() as server:
        yield server


@pytest.fixture
def shop_database(postgres: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment variable with which sources find the server."""
    monkeypatch.setenv("SHOP", postgres.url)


@pytest_asyncio.fixture(scope="session")
async def temporal() -> AsyncIterator[WorkflowEnvironment]:
    """A Temporal dev server for the session, with Entrepot's search attributes."""
    fairness = ["--dynamic-config-value", "matching.enableFairness=true"]
    async with dev_server(port=free_port(), dev_server_extra_args=fairness) as environment:
        await process.register_search_attributes(environment.client)
        yield environment


@dataclass
class House:
    """Tenants, and a worker that serves them from a task queue of its own."""

    client: Client
    tenants: Tenants
    task_queue: str
    state: Path

    async def start(self, workflow: str, value: Any, id: str | None = None, **options: Any) -> WorkflowHandle[Any, Any]:
        """Starts a workflow with JSON, as the CLI does."""
        return await self.client.start_workflow(
            workflow, value, id=id or uuid.uuid4().hex, task_queue=self.task_queue, **options
        )

    async def run(
        self, pipeline: str = "shop", tenant: str = "acme", workflow: str = "Pipeline", **more: Any
    ) -> RunSummary:
        """Runs a pipeline to its end."""
        handle = await self.start(workflow, {"tenant": tenant, "pipeline": pipeline, **more})
        return RunSummary.model_validate(await handle.result())

    async def fail(self, workflow: str = "Pipeline", **value: Any) -> ApplicationError:
        """Runs a workflow that must fail; its failure."""
        handle = await self.start(workflow, value)
        with pytest.raises(WorkflowFailureError) as caught:
            await asyncio.wait_for(handle.result(), 300)
        assert isinstance(caught.value.cause, ApplicationError)
        return caught.value.cause

    def query(self, sql: str, tenant: str = "acme") -> list[tuple[Any, ...]]:
        """Rows of a query against a tenant's warehouse, as any client of it would ask."""
        backend: Any = self.tenants.get(tenant).backend
        from entrepot.backends import QueryTag

        with backend.session(QueryTag(tenant, "test", "test")) as session:
            return session._connection.execute(sql).fetchall()  # type: ignore[no-any-return]


def settings(state: Path, pipelines: Mapping[str, str], **tenants: TenantSection) -> Settings:
    """Settings as a tenant file would give them."""
    chosen = tenants or {"acme": TenantSection(backend={"type": "duckdb", "path": "acme.duckdb"})}
    return Settings(None, state, pipelines, chosen)


@asynccontextmanager
async def serving(client: Client, loaded: Settings, **options: Any) -> AsyncIterator[House]:
    """A worker over settings while the block runs."""
    async with working(client, loaded.connect(**options), loaded.state) as house:
        yield house


@asynccontextmanager
async def working(client: Client, tenants: Tenants, state: Path) -> AsyncIterator[House]:
    """A worker over tenants while the block runs."""
    task_queue = f"test-{uuid.uuid4().hex}"
    try:
        async with process.create(client, tenants, task_queue=task_queue):
            yield House(client, tenants, task_queue, state)
    finally:
        # A client of Databricks that is left open tries long to close itself, although its server has ended.
        for tenant in tenants.tenants.values():
            tenant.close()


@pytest_asyncio.fixture
async def shop(temporal: WorkflowEnvironment, tmp_path: Path) -> AsyncIterator[House]:
    """The shop pipeline for the tenant acme."""
    async with serving(temporal.client, settings(tmp_path, {"shop": "tests.pipelines.shop:shop"})) as house:
        yield house


@pytest_asyncio.fixture
async def growing(temporal: WorkflowEnvironment, tmp_path: Path) -> AsyncIterator[House]:
    """The pipeline whose tables grow, for the tenant acme."""
    async with serving(temporal.client, settings(tmp_path, {"growing": "tests.pipelines.growing:growing"})) as house:
        yield house


__all__ = ["House", "serving", "settings", "working"]

"""Workers that are forked from a parent which has imported everything: a start takes a fraction of a second.

The parent is told on its standard input which worker to start (`spawn`) or to kill, and says on its standard output
which have started and ended.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import selectors
import signal
import traceback
from datetime import timedelta
from pathlib import Path
from typing import Any

from temporalio import activity
from temporalio.common import RetryPolicy
from temporalio.plugin import SimplePlugin
from temporalio.worker import (
    ActivityInboundInterceptor,
    ExecuteActivityInput,
    Interceptor,
    StartActivityInput,
    WorkerConfig,
    WorkflowInboundInterceptor,
    WorkflowInterceptorClassInput,
    WorkflowOutboundInterceptor,
)
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner
from temporalio.workflow import ActivityHandle

TENANT = "acme"
PIPELINES = {
    "crash": "tests.crash.pipeline:crash",
    "family": "tests.crash.family:family",
    "long": "tests.crash.long:long",
    "small": "tests.crash.small:small",
}
_OF_EVERY_CASE = (
    *(target.partition(":")[0] for target in PIPELINES.values()),
    "google.cloud.bigquery",
    "ibis.backends.duckdb.converter",
    "ibis.formats.pandas",
    "narwhals._pandas_like.namespace",  # by scikit-learn's estimators
    "tests.crash.faults",
    "entrepot.worker.client",
    "entrepot.worker.telemetry.logs",
    "entrepot.worker.config.tenant_schema",
    "entrepot.worker.config.settings",
)
"""Imported once, so that no worker has to."""
HERE = "/proc/self/cwd"
"""The folder of the case, by a name that is the same in all of them: paths stand in the catalog."""
HEARTBEAT = {"server": timedelta(seconds=10)}
"""Of activities, by fault, where it is another than the shortest: with the server away, nobody dies."""
SHORTEST_HEARTBEAT = timedelta(seconds=2)

_heartbeat = SHORTEST_HEARTBEAT


def main() -> None:
    """The parent, until its standard input ends."""
    from entrepot.worker import process

    os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"
    for name in _OF_EVERY_CASE:
        importlib.import_module(name)
    process.warm_up()
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    os.set_blocking(reading, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(writing)
    children: set[int] = set()
    selector = selectors.DefaultSelector()
    selector.register(0, selectors.EVENT_READ)
    selector.register(reading, selectors.EVENT_READ)
    _say(ready=True)
    rest = b""
    while True:
        for key, _ in selector.select():
            if key.fd == reading:
                os.read(reading, 1000)
                _bury(children)
                continue
            given = os.read(0, 100_000)
            if not given:
                for pid in children:
                    os.kill(pid, signal.SIGKILL)
                os._exit(0)  # what would be cleaned up is the children's
            *lines, rest = (rest + given).split(b"\n")
            for line in lines:
                _do(json.loads(line), children)


def _do(asked: dict[str, Any], children: set[int]) -> None:
    if "kill" in asked:
        if asked["kill"] in children:
            os.kill(asked["kill"], signal.SIGKILL)
    elif pid := os.fork():
        children.add(pid)
        _say(started=pid, key=asked["key"])
    else:
        _child(asked)


def _bury(children: set[int]) -> None:
    while children:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        children.discard(pid)
        _say(ended=pid, status=os.waitstatus_to_exitcode(status))


def _say(**what: Any) -> None:
    print(json.dumps(what), flush=True)


def _child(asked: dict[str, Any]) -> None:
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.chdir(asked["folder"])
        log = os.open("worker.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for number in (1, 2):
            os.dup2(log, number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        asyncio.run(_serve(asked["address"], asked["task_queue"]))
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


async def _serve(address: str, task_queue: str) -> None:
    from entrepot.activities.ingest import landing
    from entrepot.activities.runtime import activity as runtime
    from entrepot.activities.runtime.isolation.processes import PROCESSES
    from entrepot.activities.transform import transform
    from entrepot.backends.duckdb.backend import DuckDB, DuckDBSession
    from entrepot.worker import process
    from entrepot.worker.client import reach
    from entrepot.worker.config.settings import Settings
    from entrepot.worker.config.tenant_schema import TenantSection
    from entrepot.worker.telemetry import logs
    from tests.crash import long
    from tests.crash.boundaries import Control, install
    from tests.crash.faults import Fault

    global _heartbeat  # noqa: PLW0603 - the workflow's interceptor is made by the SDK
    logs.configure()
    control = Control.read(Path())
    _heartbeat = HEARTBEAT.get(control.fault, SHORTEST_HEARTBEAT)
    runtime.HEARTBEAT_SECONDS = 0.3
    landing.SECONDS = 0
    transform.BATCH_SECONDS = 3600  # so that batches are the same in each run
    if control.is_plain:
        from dataclasses import replace

        from entrepot.backends.sql.session import SqlSession

        plain = replace(DuckDB.capabilities, transactional_ddl=False)
        DuckDB.capabilities = DuckDBSession.capabilities = plain
        setattr(DuckDBSession, "_rows", SqlSession._rows)  # noqa: B010 - of a table that was there, it has to ask
    long.install()
    duckdb = {"type": "duckdb", "path": f"{HERE}/acme.duckdb", "threads": 1}
    section = TenantSection(backend=control.backend or duckdb, lake=f"{HERE}/lake", parallel=1)
    tenants = Settings(None, Path.cwd(), PIPELINES, {TENANT: section}).connect()
    if control.backend and control.backend["type"] == "bigquery":
        from google.cloud.bigquery import _pandas_helpers

        # After the last rows its client waits so long before it looks whether more come: at each read.
        setattr(_pandas_helpers, "_PROGRESS_INTERVAL", 0.01)  # noqa: B010
    install(Fault(control))
    PROCESSES.fork_here()
    client = await reach(address, plugins=[_Quick()])
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with process.create(client, tenants, task_queue=task_queue):
        await stop.wait()
    for tenant in tenants.tenants.values():
        tenant.close()


class _Quick(SimplePlugin):
    """Makes a worker notice within a moment what takes it half a minute elsewhere, and puts the boundaries in."""

    def __init__(self) -> None:
        super().__init__("crash", interceptors=[_Boundaries()])

    def configure_worker(self, config: WorkerConfig) -> WorkerConfig:
        from tests.crash.faults import GRACE_SECONDS

        config = super().configure_worker(config)
        config["graceful_shutdown_timeout"] = timedelta(seconds=GRACE_SECONDS)
        config["sticky_queue_schedule_to_start_timeout"] = timedelta(seconds=0.5)
        config["max_heartbeat_throttle_interval"] = timedelta(seconds=0.1)
        config["default_heartbeat_throttle_interval"] = timedelta(seconds=0.1)
        runner = config["workflow_runner"]
        assert isinstance(runner, SandboxedWorkflowRunner)
        config["workflow_runner"] = SandboxedWorkflowRunner(runner.restrictions.with_passthrough_modules("tests"))
        return config


class _Boundaries(Interceptor):
    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        return _Activity(next)

    def workflow_interceptor_class(self, input: WorkflowInterceptorClassInput) -> type[WorkflowInboundInterceptor]:
        return _Workflow


class _Activity(ActivityInboundInterceptor):
    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        from tests.crash.boundaries import attempt, mark

        with attempt(f"{activity.info().activity_type}[{_about(input.args[0])}]"):
            mark("before", "begin")
            result = await super().execute_activity(input)
            mark("after", "end")
            return result


def _about(message: Any) -> str:
    """The step that an activity's message is about. Activities are given it as JSON."""
    for found in (message, message.get("load")) if isinstance(message, dict) else ():
        if found and (step := found.get("step") or next(iter(found.get("steps") or ()), None)):
            return str(step)
    return ""


class _Workflow(WorkflowInboundInterceptor):
    def init(self, outbound: WorkflowOutboundInterceptor) -> None:
        super().init(_Impatient(outbound))


class _Impatient(WorkflowOutboundInterceptor):
    def start_activity(self, input: StartActivityInput) -> ActivityHandle[Any]:
        input.heartbeat_timeout = _heartbeat
        most = input.retry_policy.maximum_attempts if input.retry_policy else 0
        input.retry_policy = RetryPolicy(initial_interval=timedelta(seconds=0.1), maximum_attempts=most)
        return super().start_activity(input)


if __name__ == "__main__":
    from tests.crash.worker import main as imported  # the module by its own name, which interceptors are found by

    imported()

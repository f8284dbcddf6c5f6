"""User code that hangs, holds the interpreter, ends its process, crashes or eats memory.

What must hold: the step fails in a sentence that names it and how its process ended; it alone is tried again, or not;
it ends when its run is cancelled; and the worker, its other runs and other tenants notice nothing.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
import pytest_asyncio
from temporalio.client import WorkflowFailureError
from temporalio.testing import WorkflowEnvironment

from entrepot.activities.runtime.isolation import processes
from entrepot.worker.config.tenant_schema import TenantSection
from tests.conftest import House, serving, settings
from tests.waiting import eventually, is_alive

STEPS = ("numbers", "doubled", "model", "file")
SECTIONS = {name: TenantSection(backend={"type": "duckdb", "path": f"{name}.duckdb"}) for name in ("acme", "globex")}


@pytest_asyncio.fixture
async def deadly(temporal: WorkflowEnvironment, tmp_path: Path) -> AsyncIterator[House]:
    """The deadly pipeline for two tenants."""
    known = {"deadly": "tests.pipelines.deadly:deadly"}
    async with serving(temporal.client, settings(tmp_path, known, **SECTIONS)) as house:
        yield house


async def until_written(mark: Path) -> int:
    """The id of the process that harms, once it does."""

    async def written() -> str:
        return mark.read_text() if mark.exists() else ""

    return int(await eventually(written))


async def until_gone(*pids: int) -> None:
    """Until none of some processes is there."""

    async def are_gone() -> bool:
        return not any(map(is_alive, pids))

    await eventually(are_gone)


@pytest.mark.parametrize("step", STEPS)
async def test_a_process_that_ends_itself_or_crashes_is_told_of_and_hurts_nobody_else(deadly: House, step: str) -> None:
    for what, how in (("exit", "ended itself with exit code 3"), ("crash", "was killed by SIGSEGV")):
        other = asyncio.create_task(deadly.run("deadly", tenant="globex", force="doubled"))
        failure = await deadly.fail(tenant="acme", pipeline="deadly", parameters={"where": step, "what": what})
        assert f"{step!r}" in failure.message
        assert f"its process {how}; it had " in failure.message
        assert "not tried again" in failure.message
        assert (await other).outcome == "published"
    assert (await deadly.run("deadly")).outcome == "published"
    assert deadly.query("SELECT sum(twice) FROM deadly.doubled") == [(9900,)]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("what", ["hang", "hold"])
async def test_what_hangs_ends_with_its_run_and_keeps_nobody_waiting(
    deadly: House, tmp_path: Path, step: str, what: str
) -> None:
    mark = tmp_path / "mark"
    parameters = {"where": step, "what": what, "mark": str(mark)}
    run = await deadly.start("Pipeline", {"tenant": "acme", "pipeline": "deadly", "parameters": parameters})
    pid = await until_written(mark)
    assert (await deadly.run("deadly", tenant="globex")).outcome == "published"
    await run.cancel()
    with pytest.raises(WorkflowFailureError):
        await asyncio.wait_for(run.result(), 120)
    await until_gone(pid)
    assert (await deadly.run("deadly")).outcome == "published"


@pytest.mark.parametrize(
    ("what", "how"),
    [
        ("exit", "ended itself with exit code 3"),
        ("crash", "was killed by SIGSEGV"),
        ("hang", "has not returned within 3 s; its process was killed"),
        ("hold", "has not returned within 3 s; its process was killed"),
    ],
)
async def test_a_function_that_builds_an_expression_fails_the_plan_and_hurts_nobody_else(
    deadly: House, monkeypatch: pytest.MonkeyPatch, what: str, how: str
) -> None:
    monkeypatch.setattr(processes, "BUILD_SECONDS", 3.0 if what in ("hang", "hold") else 60.0)
    other = asyncio.create_task(deadly.run("deadly", tenant="globex"))
    failure = await deadly.fail(tenant="acme", pipeline="deadly", parameters={"where": "built", "what": what})
    assert failure.type == "PipelineError"
    assert "transform 'built': its " in failure.message
    assert how in failure.message
    assert (await other).outcome == "published"
    assert (await deadly.run("deadly")).outcome == "published"
    assert deadly.query("SELECT sum(half) FROM deadly.built") == [(4950,)]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells who has lost their parent")
@pytest.mark.parametrize("step", [*STEPS, "built"])
async def test_what_a_step_has_started_ends_with_it(deadly: House, tmp_path: Path, step: str) -> None:
    mark = tmp_path / "mark"
    parameters = {"where": step, "what": "start", "mark": str(mark)}
    assert (await deadly.run("deadly", parameters=parameters)).outcome == "published"
    await until_gone(*map(int, mark.read_text().split()))


async def test_a_function_that_a_warehouse_calls_runs_in_a_process_of_its_own(deadly: House, tmp_path: Path) -> None:
    failure = await deadly.fail(tenant="acme", pipeline="deadly", parameters={"where": "halved", "what": "exit"})
    assert "transform 'built'" in failure.message
    assert "its process ended itself with exit code 3" in failure.message
    assert (await deadly.run("deadly")).outcome == "published"


@pytest.mark.parametrize(
    ("where", "what"),
    [
        ("read", "exit"),
        ("read", "hold"),
        ("scored", "hold"),
        ("scored", "eat"),
        ("contract", "exit"),
        ("contract", "eat"),
    ],
)
async def test_models_that_score_and_checks_of_contracts_hurt_nobody_else(
    temporal: WorkflowEnvironment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, what: str
) -> None:
    mark = tmp_path / "mark"
    monkeypatch.setenv("HARM", f"{where}|{what}|{mark}")
    parameters = {"where": where, "what": what, "mark": str(mark)}
    monkeypatch.setattr(processes, "BUILD_SECONDS", 3.0 if where == "read" else 60.0)
    limited = {"backend": SECTIONS["acme"].backend, "limits": {"memory": "900MB"}}
    acme = TenantSection.model_validate(limited)
    known = {"deadly": "tests.pipelines.deadly:deadly"}
    async with serving(temporal.client, settings(tmp_path, known, acme=acme, globex=SECTIONS["globex"])) as house:
        run = await house.start("Pipeline", {"tenant": "acme", "pipeline": "deadly", "parameters": parameters})
        pid = await until_written(mark)
        monkeypatch.delenv("HARM")
        assert (await house.run("deadly", tenant="globex")).outcome == "published"
        if what == "hold":
            await run.cancel()
        with pytest.raises(WorkflowFailureError) as caught:
            await asyncio.wait_for(run.result(), 120)
        await until_gone(pid)
        if what != "hold":
            how = "its process ended itself with exit code 3" if what == "exit" else "and its limit is 900 MB"
            assert how in str(caught.value.cause)
            step = "check 'built.contract'" if where == "contract" else "transform 'scored'"
            assert step in str(caught.value.cause)
        assert (await house.run("deadly")).outcome == "published"
        assert house.query("SELECT count(*), sum(prediction) FROM deadly.scored") == [(100, pytest.approx(9900))]


async def test_a_plan_that_hangs_ends_with_its_run(deadly: House, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    parameters = {"where": "built", "what": "hold", "mark": str(mark)}
    run = await deadly.start("Pipeline", {"tenant": "acme", "pipeline": "deadly", "parameters": parameters})
    pid = await until_written(mark)
    await run.cancel()
    with pytest.raises(WorkflowFailureError):
        await asyncio.wait_for(run.result(), 120)
    async with asyncio.timeout(60):
        while psutil.pid_exists(pid):
            await asyncio.sleep(0.05)


async def test_a_function_that_builds_an_expression_may_have_what_its_own_step_says(deadly: House) -> None:
    failure = await deadly.fail(tenant="acme", pipeline="deadly", parameters={"where": "built", "what": "eat"})
    assert "transform 'built': its process had " in failure.message
    assert "of memory, and its limit is 900 MB; it was killed" in failure.message
    assert (await deadly.run("deadly")).outcome == "published"


@pytest.mark.parametrize("step", ["numbers", "model"])
async def test_what_eats_memory_is_ended_at_its_limit(temporal: WorkflowEnvironment, tmp_path: Path, step: str) -> None:
    acme = TenantSection.model_validate({"backend": SECTIONS["acme"].backend, "limits": {"memory": "900MB"}})
    known = {"deadly": "tests.pipelines.deadly:deadly"}
    async with serving(temporal.client, settings(tmp_path, known, acme=acme)) as house:
        failure = await house.fail(tenant="acme", pipeline="deadly", parameters={"where": step, "what": "eat"})
        assert failure.type == "LimitExceeded"
        assert "of memory, and its limit is 900 MB; it was killed (it is not tried again)" in failure.message
        assert (await house.run("deadly")).outcome == "published"


async def test_sys_exit_is_an_error_as_any_other(deadly: House) -> None:
    failure = await deadly.fail(tenant="acme", pipeline="deadly", parameters={"where": "doubled", "what": "leave"})
    assert "SystemExit: 4" in failure.message


async def test_code_sees_its_own_tenants_variables_alone(
    temporal: WorkflowEnvironment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DEADLY_OWN", "DEADLY_OTHERS", "DEADLY_SHARED", "DEADLY_OPEN"):
        monkeypatch.setenv(name, "x")
    acme = SECTIONS["acme"].model_copy(update={"backends": {"far": _snowflake("DEADLY_OWN", "DEADLY_SHARED")}})
    globex = SECTIONS["globex"].model_copy(update={"backends": {"far": _snowflake("DEADLY_OTHERS", "DEADLY_SHARED")}})
    known = {"deadly": "tests.pipelines.deadly:deadly"}
    async with serving(temporal.client, settings(tmp_path, known, acme=acme, globex=globex)) as house:
        failure = await house.fail(tenant="acme", pipeline="deadly", parameters={"where": "numbers", "what": "look"})
    assert "LookupError: DEADLY_OPEN,DEADLY_OWN,DEADLY_SHARED" in failure.message


def _snowflake(key: str, phrase: str) -> dict[str, str]:
    secrets = {"private_key": f"env:{key}", "private_key_passphrase": f"env:{phrase}"}
    return {"type": "snowflake", "account": "a", "user": "u", "database": "d", "warehouse": "w", **secrets}


@pytest.mark.parametrize(
    ("harm", "sentence"),
    [
        ("exit", "cannot be imported: its process ended itself with exit code 5"),
        ("hang", "was not imported within 2 s"),
    ],
)
async def test_a_module_that_ends_or_hangs_as_it_is_imported_is_refused(
    temporal: WorkflowEnvironment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harm: str, sentence: str
) -> None:
    monkeypatch.setenv("FATAL", harm)
    monkeypatch.syspath_prepend(tmp_path)  # or else the process that has imported it for the case before would do
    monkeypatch.setattr(processes, "IMPORT_SECONDS", 2.0)
    known = {"fatal": "tests.pipelines.fatal:fatal", "deadly": "tests.pipelines.deadly:deadly"}
    async with serving(temporal.client, settings(tmp_path, known)) as house:
        run = asyncio.create_task(house.fail(tenant="acme", pipeline="fatal"))
        assert (await house.run("deadly")).outcome == "published"
        failure = await run
        assert failure.type == "BadInput"
        assert f"pipeline 'fatal' (tests.pipelines.fatal:fatal): its module {sentence}" in failure.message
        monkeypatch.setenv("FATAL", "")
        assert (await house.run("fatal")).outcome == "published"


WORKER = """
import sys
from pathlib import Path
from entrepot.activities.runtime.context import ActivityContext
from entrepot.activities.runtime.isolation.processes import StepProcesses
from entrepot.activities.runtime.tenant import PipelineSettings, Tenant, Tenants
from entrepot.registry import Registry
from tests.faults.calls import hang

tenant = Tenant("acme", {"type": "duckdb", "path": "x"}, "lake", {"deadly": PipelineSettings("deadly")})
tenants = Tenants({"acme": tenant}, Registry({"deadly": "tests.pipelines.deadly:deadly"}))
step = tenants.pipeline("acme", "deadly").graph.steps["numbers"]
StepProcesses(ActivityContext(tenant, "run", "step"), tenants, "deadly", step).run(hang, sys.argv[1])
"""


async def test_a_worker_that_is_killed_leaves_no_process_behind(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    worker = subprocess.Popen((sys.executable, "-c", WORKER, str(mark)), env=environment)
    pid = await until_written(mark)
    ancestors = [process.pid for process in psutil.Process(pid).parents()]
    family = [pid, *ancestors[: ancestors.index(worker.pid)]]
    assert len(family) == 3  # the call, the server of its code, and the first server
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    await until_gone(*family)

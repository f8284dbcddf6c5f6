"""Bad input and broken surroundings: each gets a sentence that helps, and nothing is half-published."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from temporalio.api.sdk.v1 import WorkflowMetadata
from temporalio.client import WorkflowFailureError
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.exceptions import CancelledError, WorkflowAlreadyStartedError
from temporalio.testing import WorkflowEnvironment

from entrepot.errors import Unavailable
from entrepot.worker.config.tenant_schema import TenantSection
from tests.conftest import House, serving, settings
from tests.waiting import eventually, retried, until_running

SHOP = {"tenant": "acme", "pipeline": "shop"}


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({**SHOP, "tenant": "acne"}, "unknown tenant 'acne'; did you mean 'acme'? Known: 'acme'"),
        ({**SHOP, "pipeline": "shpo"}, "unknown pipeline 'shpo'; did you mean 'shop'?"),
        (
            {**SHOP, "environment": "prdo"},
            "unknown environment 'prdo'; did you mean 'prod'? Known: 'dev', 'pr_*', 'prod'",
        ),
        ({**SHOP, "select": "ordrs+"}, "unknown step 'ordrs'; did you mean"),
        ({**SHOP, "select": "tag:weekly"}, "unknown tag 'weekly'. Known: 'hourly'"),
        ({**SHOP, "parameters": {"limt": 1}}, "unknown parameter 'limt'; did you mean 'limit'?"),
        ({**SHOP, "parameters": {"limit": "high"}}, "the parameter 'limit' is a float, and the run sets it to 'high'"),
        ({**SHOP, "enviroment": "dev"}, "unknown field 'enviroment'; did you mean 'environment'?"),
        ({"tenant": "acme"}, "the field 'pipeline' is missing"),
        ({**SHOP, "dry_run": "yes"}, "the field 'dry_run' is wrong: it should be a valid boolean, and is 'yes'"),
        ({**SHOP, "tenant": 7}, "the field 'tenant' is wrong: it should be a valid string, and is 7"),
        ("acme", "takes one JSON object"),
        ([SHOP], "takes one JSON object"),
        (None, "takes one JSON object"),
    ],
)
async def test_wrong_names_fields_and_types_are_refused_at_once(shop: House, value: Any, said: str) -> None:
    handle = await shop.start("Pipeline", value)
    with pytest.raises(WorkflowFailureError) as caught:
        await asyncio.wait_for(handle.result(), 300)
    cause: Any = caught.value.cause
    assert said in cause.message
    assert (cause.type, cause.non_retryable) == ("BadInput", True)


@pytest.mark.parametrize(
    ("workflow", "value", "said"),
    [
        ("Rollback", {**SHOP, "too": "x"}, "unknown field 'too'; did you mean 'to'?"),
        (
            "Rollback",
            {**SHOP, "environment": "dev"},
            "nothing was published there yet. Environments that have a publish: none",
        ),
        ("Rollback", {**SHOP, "pipeline": "x"}, "unknown pipeline 'x'"),
        (
            "Gc",
            {**SHOP, "keep_days": -1},
            "the field 'keep_days' is wrong: it should be greater than or equal to 0",
        ),
        ("Gc", {**SHOP, "tenant": "x"}, "unknown tenant 'x'"),
    ],
)
async def test_the_other_workflows_refuse_likewise(shop: House, workflow: str, value: Any, said: str) -> None:
    assert said in (await shop.fail(workflow, **value)).message


async def test_a_rollback_to_a_run_that_never_published_names_those_that_did(shop: House) -> None:
    run = await shop.run()
    failure = await shop.fail("Rollback", **SHOP, to="beef")
    assert f"no publish of run 'beef'. Runs that published there: '{run.run}'" in failure.message
    assert "no earlier publish to go back to" in (await shop.fail("Rollback", **SHOP)).message


async def test_a_worker_without_the_pipeline_says_what_it_has(temporal: WorkflowEnvironment, tmp_path: Path) -> None:
    async with serving(temporal.client, settings(tmp_path, {"other": "tests.pipelines.shop:shop"})) as house:
        failure = await house.fail(**SHOP)
    assert "tenant 'acme': unknown pipeline 'shop'" in failure.message


@asynccontextmanager
async def user_code(temporal: WorkflowEnvironment, folder: Path, code: str, name: str) -> AsyncIterator[House]:
    """A worker for a pipeline whose module is written here."""
    (folder / f"{name}.py").write_text(code)
    sys.path.insert(0, str(folder))
    try:
        async with serving(temporal.client, settings(folder, {name: f"{name}:{name}"}), reload=True) as house:
            yield house
    finally:
        sys.path.remove(str(folder))


NUMBERS = """
from ibis import _
from entrepot import Files, Pipeline, Table
{name} = Pipeline("{name}")

@{name}.ingest
def numbers():
    return Files("{path}")

@{name}.transform
def doubled(numbers: Table) -> Table:
    return numbers.mutate(twice=numbers.n * 2)
"""


async def test_a_module_that_fails_to_import_is_named_with_its_line(
    temporal: WorkflowEnvironment, tmp_path: Path
) -> None:
    async with user_code(temporal, tmp_path, "x = 1\nimport nowhere_at_all\n", "broken_import") as house:
        failure = await house.fail(tenant="acme", pipeline="broken_import")
    assert "its module fails to import at " in failure.message
    assert "broken_import.py:2: ModuleNotFoundError: No module named 'nowhere_at_all'" in failure.message


async def test_every_problem_of_a_pipeline_is_told_at_once(temporal: WorkflowEnvironment, tmp_path: Path) -> None:
    code = NUMBERS.format(name="twice_wrong", path="x.csv") + "\n".join(
        ["", "@twice_wrong.transform", "def a(numbrs): ...", "@twice_wrong.check()", "def b(): ..."]
    )
    async with user_code(temporal, tmp_path, code, "twice_wrong") as house:
        failure = await house.fail(tenant="acme", pipeline="twice_wrong")
    assert "unknown input 'numbrs'; did you mean 'numbers'?" in failure.message
    assert "check 'b' looks at nothing" in failure.message


async def test_a_missing_file_is_named(temporal: WorkflowEnvironment, tmp_path: Path) -> None:
    code = NUMBERS.format(name="no_file", path=tmp_path / "gone.csv")
    async with user_code(temporal, tmp_path, code, "no_file") as house:
        failure = await house.fail(tenant="acme", pipeline="no_file")
    assert "ingest 'numbers'" in failure.message
    assert failure.type == "StepFailed"
    assert f"there is no file '{tmp_path / 'gone.csv'}'" in failure.message


async def test_a_column_that_vanished_stops_the_run_before_anything_shows(
    temporal: WorkflowEnvironment, tmp_path: Path
) -> None:
    data = tmp_path / "numbers.csv"
    data.write_text("n,m\n1,2\n3,4\n")
    async with user_code(temporal, tmp_path, NUMBERS.format(name="vanishing", path=data), "vanishing") as house:
        await house.run("vanishing")
        data.write_text("k,m\n1,2\n")
        failure = await house.fail(tenant="acme", pipeline="vanishing")
        assert "transform 'doubled'" in failure.message
        assert "'n'" in failure.message
        assert house.query("SELECT n, twice FROM vanishing.doubled ORDER BY n") == [(1, 2), (3, 6)]
        assert house.query("SELECT n FROM vanishing.numbers ORDER BY n") == [(1,), (3,)]
        assert house.query("SELECT status FROM entrepot.runs ORDER BY ended_at") == [("completed",), ("failed",)]


@pytest.mark.fast
async def test_a_broken_contract_and_a_blocking_check_publish_nothing(
    temporal: WorkflowEnvironment, tmp_path: Path
) -> None:
    data = tmp_path / "numbers.csv"
    data.write_text("n\n1\n2\n")
    code = NUMBERS.format(name="guarded", path=data).replace("@guarded.transform", "@guarded.transform(contract=Small)")
    code = code.replace(
        'Pipeline("guarded")',
        'Pipeline("guarded")\nfrom pandera import ibis as pa\n'
        "class Small(pa.DataFrameModel):\n    twice: int = pa.Field(le=10)",
    )
    code += "\n@guarded.check('doubled')\ndef not_seven(doubled): return doubled.filter(doubled.n == 7)\n"
    async with user_code(temporal, tmp_path, code, "guarded") as house:
        await house.run("guarded")
        data.write_text("n\n1\n70\n")
        failure = await house.fail(tenant="acme", pipeline="guarded")
        assert failure.type == "CheckFailed"
        assert "'doubled.contract' of doubled" in failure.message
        assert "less_than_or_equal_to(10)" in failure.message
        data.write_text("n\n3\n7\n")
        for _ in range(2):  # a check that blocked must block again, though nothing is new
            failure = await house.fail(tenant="acme", pipeline="guarded")
            assert "1 violating row" in failure.message or "1 violating rule" in failure.message
        assert house.query("SELECT n FROM guarded.doubled ORDER BY n") == [(1,), (2,)]
        assert house.query("SELECT count(*) FROM entrepot.publishes") == [(1,)]


async def test_code_that_changes_while_its_run_goes_on_is_noticed(
    temporal: WorkflowEnvironment, tmp_path: Path
) -> None:
    data = tmp_path / "numbers.csv"
    data.write_text("n\n1\n")
    code = NUMBERS.format(name="changing", path=data) + (
        "\n@changing.transform(engine='python', schema={'n': 'int64'})\n"
        "def slow(doubled):\n    import time\n    time.sleep(2)\n"
        "    yield from doubled.read_all().select(['n']).to_batches()\n"
        "\n@changing.transform\ndef last(slow: Table) -> Table:\n    return slow.mutate(k=slow.n + 1)\n"
    )
    async with user_code(temporal, tmp_path, code, "changing") as house:
        handle = await house.start("Pipeline", {"tenant": "acme", "pipeline": "changing"})
        await until_running(handle, "slow")
        (tmp_path / "changing.py").write_text(code.replace("slow.n + 1", "slow.n + 20"))
        with pytest.raises(WorkflowFailureError) as caught:
            await handle.result()
        assert "its code changed after the run was planned; start the run again" in str(caught.value.cause)
        assert (await house.run("changing")).outcome == "published"


async def test_a_second_start_under_the_same_id_is_refused(shop: House) -> None:
    handle = await shop.start("Pipeline", SHOP, id="acme/shop-second-start")
    with pytest.raises(WorkflowAlreadyStartedError):
        await shop.start(
            "Pipeline", SHOP, id="acme/shop-second-start", id_conflict_policy=WorkflowIDConflictPolicy.FAIL
        )
    assert (await handle.result())["outcome"] == "published"


async def test_two_runs_at_once_publish_one_after_the_other_or_say_so(shop: House) -> None:
    handles = [await shop.start("Pipeline", {**SHOP, "parameters": {"limit": limit}}) for limit in (10.0, 20.0)]
    ended = await asyncio.gather(*(handle.result() for handle in handles), return_exceptions=True)
    failures = [e for e in ended if isinstance(e, WorkflowFailureError)]
    assert len(failures) <= 1
    for failure in failures:
        assert "published while this run was going, so nothing of it was published; start it again" in str(
            failure.cause
        )
    [(sequence, distinct)] = shop.query("SELECT max(sequence), count(DISTINCT run) FROM entrepot.publishes")
    assert sequence == distinct == 2 - len(failures)


@contextmanager
def held_by_another_process(path: Path) -> Iterator[int]:
    """Another process keeps a DuckDB file open for writing."""
    code = f"import duckdb, time; c = duckdb.connect({str(path)!r}); print('open', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield process.pid
        finally:
            process.kill()


async def test_a_locked_duckdb_file_is_waited_for(
    temporal: WorkflowEnvironment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(temporal.client, settings(tmp_path, {"shop": "tests.pipelines.shop:shop"})) as house:
        with held_by_another_process(tmp_path / "acme.duckdb") as holder:
            with monkeypatch.context() as hurried:
                hurried.setattr("entrepot.backends.duckdb.backend.LOCK_SECONDS", 0.5)
                with pytest.raises(Unavailable, match=f"is locked by process {holder}"):
                    await asyncio.to_thread(house.query, "SELECT 1")
            handle = await house.start("Pipeline", SHOP)
            await asyncio.sleep(1)
        assert (await handle.result())["outcome"] == "published"


@contextmanager
def small_disk(folder: Path, megabytes: int, *, read_only: bool = False) -> Iterator[Path]:
    """A file system of its own, small or read-only."""
    folder.mkdir()
    options = f"size={megabytes}M" + (",ro" if read_only else "")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"cannot mount a small disk to fill: {mounted.stderr.decode().strip()} (needs root)")
    try:
        yield folder
    finally:
        time.sleep(1)  # DuckDB closes the file a moment after its last use
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize("where", ["warehouse", "lake"])
async def test_a_full_disk_is_named_and_nothing_is_published(
    temporal: WorkflowEnvironment, tmp_path: Path, where: str
) -> None:
    with small_disk(tmp_path / "small", 1) as disk:
        (disk / "filler").write_bytes(b"x" * (900 << 10))
        tenant = TenantSection(
            backend={"type": "duckdb", "path": str(disk / "a.duckdb") if where == "warehouse" else "a.duckdb"},
            lake=str(disk / "lake") if where == "lake" else None,
        )
        loaded = settings(tmp_path, {"shop": "tests.pipelines.shop:shop"}, acme=tenant)
        async with serving(temporal.client, loaded) as house:
            handle = await house.start("Pipeline", {**SHOP, "parameters": {"rows": 40_000}})
            message = await retried(handle)
            where_it_is = (
                f"the DuckDB file {disk}/a.duckdb" if where == "warehouse" else f"the lake's file {disk}/lake/"
            )
            assert where_it_is in message, message
            assert "cannot be written: No space left" in message, message
            (disk / "filler").unlink()
            if where == "lake":
                subprocess.run(["mount", "-o", "remount,size=64M", str(disk)], check=True)
                assert (await handle.result())["outcome"] == "published"
                assert not list(disk.rglob("*.part-*"))  # what was begun there takes no space
            else:
                await handle.terminate()


async def test_a_read_only_disk_is_named(temporal: WorkflowEnvironment, tmp_path: Path) -> None:
    with small_disk(tmp_path / "fixed", 1, read_only=True) as disk:
        tenant = TenantSection(backend={"type": "duckdb", "path": str(disk / "a.duckdb")})
        async with serving(
            temporal.client, settings(tmp_path, {"shop": "tests.pipelines.shop:shop"}, acme=tenant)
        ) as house:
            handle = await house.start("Pipeline", SHOP)
            message = await retried(handle)
            assert "read-only" in message.lower(), message
            await handle.terminate()


async def test_a_cancelled_run_stops_its_work_and_publishes_nothing(
    temporal: WorkflowEnvironment, tmp_path: Path
) -> None:
    data = tmp_path / "numbers.csv"
    data.write_text("n\n" + "\n".join(map(str, range(2000))))
    code = NUMBERS.format(name="endless", path=data) + (
        "\n@endless.transform\ndef huge(doubled: Table) -> Table:\n"
        "    pairs = doubled.cross_join(doubled.view()).select('n', m='n_right')\n"
        "    return pairs.cross_join(pairs.view()).aggregate(total=(_.n * _.m % 7).sum())\n"
    )
    async with user_code(temporal, tmp_path, code, "endless") as house:
        handle = await house.start("Pipeline", {"tenant": "acme", "pipeline": "endless"})
        await until_running(handle, "huge")
        await handle.cancel()
        with pytest.raises(WorkflowFailureError):
            await asyncio.wait_for(handle.result(), 300)
        assert house.query("SELECT status, error FROM entrepot.runs") == [("cancelled", "the run was cancelled")]
        assert house.query("SELECT count(*) FROM entrepot.publishes") == [(0,)]


async def test_a_run_that_is_cancelled_while_it_is_planned_ends_though_the_plan_is_made(
    temporal: WorkflowEnvironment, tmp_path: Path
) -> None:
    data = tmp_path / "numbers.csv"
    data.write_text("n\n1\n")
    code = NUMBERS.format(name="planned", path=data) + (
        "\nimport time\nfrom pathlib import Path\n@planned.transform\ndef slow(doubled: Table) -> Table:\n"
        f"    Path({str(tmp_path / 'asked')!r}).touch()\n    time.sleep(2)\n    return doubled\n"
    )
    async with user_code(temporal, tmp_path, code, "planned") as house:
        handle = await house.start("Pipeline", {"tenant": "acme", "pipeline": "planned"})

        async def is_planning() -> bool:
            return (tmp_path / "asked").exists()

        await eventually(is_planning)
        await handle.cancel()
        with pytest.raises(WorkflowFailureError) as caught:
            await asyncio.wait_for(handle.result(), 300)
        assert isinstance(caught.value.cause, CancelledError)
        assert house.query("SELECT status FROM entrepot.runs") == [("cancelled",)]
        assert house.query("SELECT count(*) FROM entrepot.publishes") == [(0,)]


async def test_while_a_step_is_tried_again_the_run_says_why_and_then_no_more(
    temporal: WorkflowEnvironment, tmp_path: Path
) -> None:
    async with serving(temporal.client, settings(tmp_path, {"awaiting": "tests.pipelines.awaiting:awaiting"})) as house:
        value = {"tenant": "acme", "pipeline": "awaiting", "parameters": {"until": str(tmp_path / "there")}}
        handle = await house.start("Pipeline", value)

        async def said() -> str:
            metadata = await handle.query("__temporal_workflow_metadata", result_type=WorkflowMetadata)
            return metadata.current_details if "again" in metadata.current_details else ""

        details = await eventually(said)
        assert "| source\u2003 | ↻\u00a0again\u2003 | attempt" in details
        assert "- **source**: tenant 'acme', pipeline 'awaiting': ingest 'source'" in details
        assert "ConnectionError: not there yet" in details
        (tmp_path / "there").touch()
        assert (await handle.result())["outcome"] == "published"
        metadata = await handle.query("__temporal_workflow_metadata", result_type=WorkflowMetadata)
        assert "| source\u2003 | ✓\u00a0done" in metadata.current_details
        assert "again" not in metadata.current_details

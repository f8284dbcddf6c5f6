"""Whatever a step does, its failure is one: named, short, with the author's line, and tried again where that helps."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
import pytest_asyncio
from temporalio.client import WorkflowFailureError
from temporalio.common import RetryPolicy
from temporalio.exceptions import ApplicationError, FailureError
from temporalio.testing import WorkflowEnvironment

from entrepot.language.limits import DEFAULTS
from entrepot.worker.config.tenant_schema import TenantSection
from entrepot.workflows import calls
from tests.conftest import House, serving, settings
from tests.pipelines import wild as code

CODE = Path(code.__file__)
STEPS = {
    "ingest": "ingest 'numbers'",
    "rows": "ingest 'numbers'",
    "transform": "transform 'doubled'",
    "engine": "transform 'doubled'",
    "python": "transform 'streamed'",
    "check": "check 'even'",
    "train": "train 'model'",
    "publish": "publish 'board'",
}


@pytest_asyncio.fixture(scope="module")
async def house(temporal: WorkflowEnvironment, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    """The pipeline whose steps misbehave, which has run once. What is tried again is tried at once."""
    quick = RetryPolicy(initial_interval=timedelta(milliseconds=1), maximum_attempts=DEFAULTS.attempts or 0)
    tenants = {name: TenantSection(backend={"type": "duckdb", "path": f"{name}.duckdb"}) for name in ("acme", "globex")}
    folder = tmp_path_factory.mktemp("wild")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calls, "retries", lambda limits: quick)
        loaded = settings(folder, {"wild": "tests.pipelines.wild:wild"}, **tenants)
        async with serving(temporal.client, loaded) as served:
            await served.run("wild")
            yield served


@dataclass(frozen=True)
class Failed:
    """How a run failed."""

    kind: str
    message: str
    attempts: int
    retried: str
    """What was said when it was tried again."""
    stack: str
    """The lines that Temporal shows of the activity's failure."""
    size: int
    """Bytes of the whole history's failures."""


async def failed(house: House, where: str, what: str) -> Failed:
    """A run whose step misbehaves."""
    step = STEPS[where].split("'")[1]
    value = {"tenant": "acme", "pipeline": "wild", "select": step, "parameters": {"where": where, "what": what}}
    handle = await house.start("Pipeline", value)
    with pytest.raises(WorkflowFailureError) as caught:
        await asyncio.wait_for(handle.result(), 300)
    cause = caught.value.cause
    assert isinstance(cause, ApplicationError)
    history = (await handle.fetch_history()).events
    started = [event.activity_task_started_event_attributes for event in history]
    attempts = max(event.attempt for event in started)
    decode = house.client.data_converter.decode_failure
    retried = "".join([str(await decode(each.last_failure)) for each in started if each.HasField("last_failure")])
    ends = [event.activity_task_failed_event_attributes for event in history]
    stack = "".join([_stacks(await decode(each.failure)) for each in ends if each.HasField("failure")])
    size = max(event.ByteSize() for event in history)
    return Failed(str(cause.type), cause.message, attempts, retried, stack, size)


def _stacks(error: BaseException | None) -> str:
    if not isinstance(error, FailureError) or error.failure is None:
        return ""
    return error.failure.stack_trace + _stacks(error.__cause__)


NEVER = ("StepFailed", 1)
AGAIN = ("Unavailable", 5)
ONCE = ("PipelineError", 1)  # a plan builds every step: what is wrong is wrong before anything runs


CASES = [
    ("python", "exit", NEVER, "SystemExit: 3"),
    ("python", "interrupt", NEVER, "KeyboardInterrupt"),
    ("python", "cancelled", NEVER, "CancelledError: who"),
    ("python", "closed", NEVER, "GeneratorExit"),
    ("python", "stopped", NEVER, "generator raised StopIteration"),
    ("python", "unspeakable", NEVER, "Unspeakable: (it cannot say what: its str() raises KeyError)"),
    ("python", "huge", NEVER, "xxx… (2,998,800 more characters)"),
    ("python", "huge name", NEVER, "more characters): called so"),
    ("python", "unfit", NEVER, "ValueError: half \ufffd, nothing \ufffd, red"),
    ("python", "group", NEVER, "both (2 sub-exceptions): ValueError: left; KeyError: 'right'"),
    ("python", "chained", NEVER, "RuntimeError: after 399, because of ZeroDivisionError: the very first"),
    ("python", "circle", NEVER, "RuntimeError: one"),
    ("python", "depth", NEVER, "RecursionError: maximum recursion depth exceeded"),
    ("python", "key", NEVER, "KeyError: 'colour'"),
    ("python", "type", NEVER, "TypeError: unsupported operand"),
    ("python", "module", NEVER, "No module named 's3fs_that_nobody_has'; install it where the worker runs"),
    ("python", "file", NEVER, "FileNotFoundError: [Errno 2] No such file or directory: '/nowhere/at-all.csv'"),
    ("python", "strange", NEVER, "OSError: something is odd"),
    ("python", "unknown", NEVER, "RuntimeError: it says nothing of itself"),
    ("python", "not found", NEVER, "Answer: the server answers 404"),
    ("python", "temporal's", NEVER, "ApplicationError: Odd: yyy"),
    ("python", "full", AGAIN, "cannot write /data/x: No space left on device"),
    ("python", "away", AGAIN, "ConnectionRefusedError: [Errno 111] Connection refused"),
    ("python", "late", AGAIN, "TimeoutError: no answer for 30 s"),
    ("python", "throttled", AGAIN, "Answer: the server answers 429"),
    ("python", "down", AGAIN, "Answer: the server answers 503"),
    ("rows", "exit", NEVER, "SystemExit: 3"),
    ("rows", "closed", NEVER, "GeneratorExit"),
    ("rows", "huge", NEVER, "more characters)"),
    ("rows", "key", NEVER, "KeyError: 'colour'"),
    ("rows", "module", NEVER, "install it where the worker runs"),
    ("rows", "strange", AGAIN, "OSError: something is odd"),
    ("rows", "unknown", AGAIN, "RuntimeError: it says nothing of itself"),
    ("ingest", "interrupt", NEVER, "KeyboardInterrupt"),
    ("ingest", "stopped", AGAIN, "StopIteration: no more"),
    ("ingest", "unspeakable", AGAIN, "its str() raises KeyError"),
    ("ingest", "file", NEVER, "'/nowhere/at-all.csv'"),
    ("transform", "exit", ONCE, "raised SystemExit: 3"),
    ("transform", "huge", ONCE, "more characters)"),
    ("transform", "unspeakable", ONCE, "its str() raises KeyError"),
    ("transform", "away", AGAIN, "raised ConnectionRefusedError"),
    ("check", "unfit", ONCE, "ValueError: half \ufffd"),
    ("engine", "cast", NEVER, "DuckDB cannot compute it: Conversion Error: invalid date field format"),
    ("engine", "function", NEVER, "SystemExit: 3"),
    ("train", "exit", NEVER, "SystemExit: 3"),
    ("train", "huge", NEVER, "more characters)"),
    ("publish", "cancelled", NEVER, "CancelledError: who"),
    ("publish", "late", AGAIN, "TimeoutError: no answer for 30 s"),
]
"""Where, what, how it ends, and what is said of it."""


@pytest_asyncio.fixture(scope="module")
async def ended(house: House) -> Mapping[tuple[str, str], Failed]:
    """How all of them fail, at the same time."""
    found = await asyncio.gather(*(failed(house, where, what) for where, what, _, _ in CASES))
    return {(where, what): each for (where, what, _, _), each in zip(CASES, found, strict=True)}


@pytest.mark.parametrize(("where", "what", "end", "said"), CASES)
def test_whatever_a_step_does_is_one_failure_that_is_named(
    ended: Mapping[tuple[str, str], Failed], where: str, what: str, end: tuple[str, int], said: str
) -> None:
    found = ended[where, what]
    # DuckDB itself fails now and then when many register streams at once: `std::bad_cast`. That is tried again.
    attempts = found.attempts if said in found.retried else 1
    assert (found.kind, attempts) == end, found
    assert said in found.message
    assert STEPS[where] in found.message
    assert re.match("tenant 'acme'[,:] pipeline 'wild'", found.message)
    assert f"{CODE}:" in found.message
    assert len(found.message) < 3_000
    assert found.size < 20_000
    if end != ONCE:
        tried = "(it was tried 5 times)" if end == AGAIN else "(it is not tried again)"
        reads = where in ("engine", "python", "train", "publish")
        looked_at = r"; look: (`entrepot (sql|show) [^`]+`(, )?)+" if reads else ""
        assert re.search(rf"{re.escape(tried)}{looked_at}$", found.message)
    if where != "engine":
        assert f'File "{CODE}"' in found.stack
        assert len(found.stack) < 6_000


def test_the_line_is_the_author_s_own(ended: Mapping[tuple[str, str], Failed]) -> None:
    lines = CODE.read_text().splitlines()
    reading = 1 + next(number for number, line in enumerate(lines) if "at-all.csv" in line)
    assert f", at {CODE}:{reading} " in ended["python", "file"].message


async def test_other_tenants_and_the_worker_go_on(house: House) -> None:
    bad = asyncio.gather(*(failed(house, "python", what) for what in ("exit", "interrupt", "huge", "depth")))
    assert (await house.run("wild", "globex")).outcome == "published"
    assert {each.kind for each in await bad} == {"StepFailed"}
    assert (await house.run("wild")).outcome == "nothing to do"


async def test_violating_rows_of_megabytes_are_told_in_a_few_words(house: House) -> None:
    parameters = {"where": "check", "what": "long values"}
    ran = await house.run("wild", "globex", environment="dev", select="+even", parameters=parameters)
    (line,) = [step for step in ran.steps if step.name == "even"]
    assert line.warned
    assert line.note.startswith("39 violating rows, for example ")
    assert len(line.note) < 400


async def test_a_driver_of_the_lake_that_is_missing_is_told_before_anything_runs(
    temporal: WorkflowEnvironment, tmp_path: Path
) -> None:
    away = TenantSection(backend={"type": "duckdb", "path": "acme.duckdb"}, lake="lakefs://nobody/has/this")
    async with serving(temporal.client, settings(tmp_path, {"wild": "tests.pipelines.wild:wild"}, acme=away)) as house:
        found = await failed(house, "ingest", "")
    assert (found.kind, found.attempts) == ("BadInput", 1)
    assert "the lake cannot be read at lakefs://nobody/has/this/" in found.message
    assert "install it where the worker runs" in found.message


@pytest.mark.parametrize(
    ("workflow", "field"),
    [
        *[("Pipeline", field) for field in ("tenant", "pipeline", "environment", "parameters", "dry_run")],
        *[("Repair", field) for field in ("tenant", "pipeline", "dry_run")],
    ],
)
async def test_an_input_of_megabytes_is_refused_in_a_few_words(house: House, workflow: str, field: str) -> None:
    value = {"x" * 700_000: 1} if field == "parameters" else "x" * 1_500_000
    failure = await house.fail(workflow, **{"tenant": "acme", "pipeline": "wild", field: value})
    assert failure.type == "BadInput"
    assert len(failure.message) < 3_000
    assert "xxx…" in failure.message

"""A function called in a process of its own: what goes in, comes out, and is told of it."""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entrepot.activities.runtime.context import ActivityContext
from entrepot.activities.runtime.isolation import processes
from entrepot.activities.runtime.isolation.lanes import MOST, STEP
from entrepot.activities.runtime.isolation.processes import StepProcesses
from entrepot.activities.runtime.isolation.raised import Raised
from entrepot.activities.runtime.tenant import PipelineSettings, Tenant, Tenants
from entrepot.errors import BadInput, LimitExceeded, PipelineError, Problem, StepFailed, Unavailable
from entrepot.language.limits import OwnLimits
from entrepot.registry import Registry
from entrepot.tracebacks import author_line, describe
from tests.faults import calls
from tests.waiting import until


def acme() -> Tenants:
    tenant = Tenant("acme", {"type": "duckdb", "path": "x"}, "lake", {"deadly": PipelineSettings("deadly")})
    made = Tenants({"acme": tenant}, Registry({"deadly": "tests.pipelines.deadly:deadly"}))
    made.pipeline("acme", "deadly")
    return made


@pytest.fixture(scope="module")
def tenants() -> Tenants:
    return acme()


def step_processes(tenants: Tenants, pipeline: str = "deadly", step: str = "numbers") -> StepProcesses:
    work = ActivityContext(tenants.get("acme"), "run", step)
    return StepProcesses(work, tenants, pipeline, tenants.pipeline("acme", pipeline).graph.steps[step])


@pytest.fixture
def deadly(tenants: Tenants) -> StepProcesses:
    return step_processes(tenants)


def test_a_tenants_second_process_lets_others_go_first(tenants: Tenants) -> None:
    own = step_processes(tenants).run(calls.nice)
    one = pa.record_batch({"n": [1]})
    first = step_processes(tenants).stream(
        calls.merged, feeds={"one": pa.RecordBatchReader.from_batches(one.schema, [one, one])}
    )
    next(first)
    assert step_processes(tenants).run(calls.nice) == min(own + STEP, MOST)
    first.close()
    assert step_processes(tenants).run(calls.nice) == own


TABLES = st.lists(st.lists(st.integers(-5, 5) | st.none(), max_size=4), max_size=4)


@settings(max_examples=15)
@given(one=TABLES, other=TABLES)
def test_feeds_are_read_by_turns_and_what_is_given_comes_back(
    tenants: Tenants, one: list[list[int | None]], other: list[list[int | None]]
) -> None:
    schema = pa.schema({"n": pa.int64(), "word": pa.dictionary(pa.int32(), pa.string())})

    def reader(lists: list[list[int | None]]) -> pa.RecordBatchReader:
        batches = [
            pa.record_batch([pa.array(n, pa.int64()), pa.array(map(str, n)).dictionary_encode()], schema=schema)
            for n in lists
        ]
        return pa.RecordBatchReader.from_batches(schema, batches)

    found: list[Any] = []
    rows = 0
    stream = step_processes(tenants).stream(calls.merged, feeds={"one": reader(one), "other": reader(other)})
    while True:
        try:
            found += next(stream).to_pylist()
        except StopIteration as end:
            rows = end.value
            break
    wanted = [{"n": n, "word": str(n)} for each in (*one, *other) for n in each]
    assert sorted(found, key=str) == sorted(wanted, key=str)
    assert rows == len(wanted)


def test_no_two_processes_draw_the_same_numbers(deadly: StepProcesses) -> None:
    drawn = {deadly.run(calls.drawn) for _ in range(5)}
    assert len(drawn) == 5


def test_more_memory_than_the_limit_ends_the_call_and_says_so(tenants: Tenants) -> None:
    acme = replace(tenants.get("acme"), step_limits=OwnLimits(memory=600_000_000))
    limited = step_processes(Tenants({"acme": acme}, tenants.registry))
    with pytest.raises(LimitExceeded, match=r"had [\d.]+ (GB|MB) of memory, and its limit is 600 MB; it was killed"):
        limited.run(calls.eat)
    assert limited.work.progress["eaten"] > 1


def test_log_records_are_the_workers(deadly: StepProcesses, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "entrepot"):
        deadly.run(calls.logged)
    assert ("entrepot.calls", logging.INFO, "three of 3") in caplog.record_tuples


def test_temporary_files_go_with_the_process(deadly: StepProcesses) -> None:
    assert not Path(deadly.run(calls.kept)).exists()


def test_a_worker_goes_on_when_the_process_that_forks_was_killed(deadly: StepProcesses) -> None:
    deadly.run(calls.drawn)
    with pytest.raises((Unavailable, StepFailed)):
        deadly.run(calls.kill_servers)

    def numbers() -> set[float]:
        with contextlib.suppress(Unavailable):  # whoever calls before the end was noticed is told to try again
            return {deadly.run(calls.drawn), deadly.run(calls.drawn)}
        return set()

    assert len(until(numbers)) == 2


CODE = "from entrepot import Pipeline\nchanging = Pipeline('changing')\n@changing.ingest\ndef a(): return []\n"


@pytest.fixture
def changing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file of a pipeline."""
    monkeypatch.syspath_prepend(tmp_path)
    file = tmp_path / "changing.py"
    file.write_text(CODE)
    yield file
    sys.modules.pop("changing", None)


def changing_tenants(*, reload: bool = False) -> Tenants:
    runs = {"changing": PipelineSettings("changing")}
    made = {name: Tenant(name, {"type": "duckdb", "path": "x"}, "lake", runs) for name in ("acme", "globex")}
    return Tenants(made, Registry({"changing": "changing:changing"}, reload=reload))


def called(tenants: Tenants, tenant: str = "acme") -> float:
    step = tenants.pipeline(tenant, "changing").graph.steps["a"]
    work = ActivityContext(tenants.get(tenant), "run", "a")
    return float(StepProcesses(work, tenants, "changing", step).run(calls.drawn))


def test_what_a_worker_has_imported_is_what_runs_though_its_file_has_changed(changing: Path) -> None:
    tenants = changing_tenants()
    processes.load_with(tenants)
    tenants.pipeline("acme", "changing")
    changing.write_text("raise RuntimeError('it is not imported')\n")
    assert called(tenants, "acme") >= 0
    assert called(tenants, "globex") >= 0


def test_code_that_was_changed_on_disk_is_refused_where_nothing_has_it_any_more(changing: Path) -> None:
    tenants = changing_tenants()
    tenants.pipeline("acme", "changing")
    changing.write_text(CODE + "# changed\n")
    with pytest.raises(StepFailed, match=r"changing\.py' changed since this worker imported pipeline 'changing'"):
        called(tenants)


def test_code_that_changes_as_it_is_called_is_imported_anew_in_development(
    changing: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenants = changing_tenants(reload=True)
    pipeline = tenants.pipeline("acme", "changing")
    changing.write_text(CODE + "# changed\n")
    with monkeypatch.context() as patched:
        patched.setattr(tenants.registry, "load", lambda name: pipeline)  # as if it had changed just after
        with pytest.raises(Unavailable, match="it is imported anew"):
            called(tenants)
    assert called(tenants) >= 0


def test_an_edit_of_the_same_second_and_size_is_seen_in_development(
    changing: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    tenants = changing_tenants(reload=True)
    processes.load_with(tenants)
    for name in ("one", "two", "six"):
        changing.write_text(f"NAME = '{name}'\n{CODE}")
        os.utime(changing, ns=(10**18, 10**18 + ord(name[0])))
        step = tenants.pipeline("acme", "changing").graph.steps["a"]
        work = ActivityContext(tenants.get("acme"), "run", "a")
        assert StepProcesses(work, tenants, "changing", step).run(calls.named) == name


def causes() -> Iterator[BaseException]:
    yield ValueError("one\ntwo")
    yield OSError(28, "No space left on device", "/lake/file")
    yield KeyError("x")
    yield UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")
    yield Own(object(), text="x")
    yield ExceptionGroup("several", [ValueError("a"), TypeError("b")])


class Own(Exception):
    """An exception that cannot travel."""

    def __init__(self, thing: object, *, text: str) -> None:
        super().__init__(f"own {text}")
        self.thing = thing
        self.lock = open


@pytest.mark.parametrize("cause", list(causes()), ids=lambda cause: type(cause).__name__)
@pytest.mark.parametrize(
    "error",
    [
        StepFailed("it failed"),
        Unavailable("away"),
        BadInput("bad"),
        PipelineError("shop", [Problem("wrong")]),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_comes_out_as_it_was(error: Exception, cause: BaseException) -> None:
    try:
        try:
            raise cause
        except BaseException as first:
            raise error from first
    except BaseException as raised:
        again = Raised.of(raised).again()  # type: ignore[arg-type]
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert again.__cause__ is not None
    assert type(again.__cause__).__name__ == type(cause).__name__
    assert describe(again.__cause__).splitlines()[0].startswith(describe(cause).splitlines()[0][:40])
    assert str(author_line(again.__cause__) or "").startswith(__file__)


OF_ITSELF = """
from entrepot.activities.runtime.isolation.processes import PROCESSES
from tests.activities.runtime.isolation.test_processes import acme, step_processes
from tests.faults import calls

print("once", end=" ")
PROCESSES.fork_here()
print(repr(step_processes(acme()).run(calls.typed)))
"""


def test_what_a_worker_forks_of_itself_neither_waits_for_its_terminal_nor_repeats_its_words() -> None:
    terminal, nobody_types = os.pipe()
    try:
        done = subprocess.run(
            [sys.executable, "-c", OF_ITSELF], stdin=terminal, capture_output=True, text=True, timeout=300, check=False
        )
    finally:
        os.close(terminal)
        os.close(nobody_types)
    assert (done.stdout, done.stderr) == ("once ''\n", "")

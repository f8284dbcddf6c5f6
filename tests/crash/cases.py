"""A case of the matrix: one fault at one boundary of one run, and what came of it."""

from __future__ import annotations

import asyncio
import shutil
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from temporalio.client import WorkflowFailureError, WorkflowHandle
from temporalio.exceptions import CancelledError
from temporalio.service import RPCError

from tests.crash import pipeline, state
from tests.crash.boundaries import RECORD, Boundary, Control, recorded
from tests.crash.faults import FIRED, GO, make_room, small_disk
from tests.crash.house import Nursery, Server
from tests.crash.state import Difference, State
from tests.crash.worker import TENANT

AT_ONCE = 6
LONGEST_SECONDS = 300
MOST_WORKERS = 6
"""That one case may use up: more die of something else."""
STANDSTILL_SECONDS = 4
"""After which one run is taken to wait for the other."""
SHOWN = 5
"""Of the differences that a case has."""


@dataclass
class Outcome:
    """How a case ended."""

    control: Control
    folder: Path
    problem: str = ""
    behind: list[str] = field(default_factory=list)
    """What the run said that it could not show."""
    difference: Difference = field(default_factory=Difference)
    seconds: float | None = None
    """From the fault to the end of the run; None if the fault did not happen."""

    @property
    def is_good(self) -> bool:
        return not self.problem and not self.said and self.seconds is not None

    @property
    def said(self) -> list[str]:
        """All that is otherwise than after an undisturbed run."""
        return self.behind + self.difference.said

    def __str__(self) -> str:
        said = self.said
        more = f" (and {len(said) - SHOWN} more)" if len(said) > SHOWN else ""
        why = self.problem or "; ".join(said[:SHOWN]) + more or "the boundary was not reached"
        return f"{self.control.fault} {self.control.boundary}: {why} (see {self.folder})"


@dataclass
class FullLake:
    """What came of a run whose lake was full for good, and of the run after it."""

    boundary: Boundary
    problem: str
    """Why the run failed; empty, if it did not."""
    behind: list[str]
    """What it said that it could not show."""
    seen: State
    after: str = ""
    """What the next run could not do."""
    difference: Difference = field(default_factory=Difference)


class Round:
    """Cases that wait for the server to be killed, once for all of them."""

    def __init__(self, cases: int) -> None:
        self._missing = cases
        self.full = asyncio.Event()
        self.over = asyncio.Event()

    def arrive(self) -> None:
        self._missing -= 1
        if not self._missing:
            self.full.set()


@dataclass(frozen=True)
class Scenario:
    """What runs, and how often: the last run is the one that is disturbed."""

    asked: Mapping[str, Any]
    """A run's input, but for the tenant."""
    bring: Callable[[Path, int], None]
    """Puts into a folder what the source has at a run, counted from 1."""
    runs: int
    workflow: str = "Pipeline"
    """The type of the last one, where that is no run of a pipeline."""
    before: Sequence[Mapping[str, Any]] = ()
    """The inputs of the runs before, where they are others."""

    def start(self, number: int) -> tuple[str, Mapping[str, Any]]:
        """The type and the input of a run, counted from 1."""
        if number < self.runs and self.before:
            return "Pipeline", self.before[number - 1]
        return self.workflow, self.asked


WHOLE = Scenario({"pipeline": pipeline.crash.name}, pipeline.bring, runs=2)


@dataclass
class House:
    """Everything that cases share. `template` is the folder as the runs before the last left it."""

    server: Server
    nursery: Nursery
    folder: Path
    is_plain: bool = False
    scenario: Scenario = WHOLE
    backend: dict[str, Any] | None = None
    """The settings of a warehouse whose content is not in the folder."""
    template: Path = field(init=False)
    undisturbed: Path = field(init=False)
    boundaries: list[Boundary] = field(init=False)
    expected: State = field(init=False)
    round: Round = field(init=False)

    async def prepare(self) -> None:
        """The runs before, and the last one undisturbed."""
        self.template = self.folder / "template"
        self.template.mkdir(parents=True)
        for number in range(1, self.scenario.runs):
            self.scenario.bring(self.template, number)
            await self._run(self.template, number)
        self.scenario.bring(self.template, self.scenario.runs)
        (self.template / RECORD).unlink(missing_ok=True)
        self.undisturbed = self.copy()
        await self._run(self.undisturbed, self.scenario.runs)
        self.boundaries = recorded(self.undisturbed)
        self.expected = state.read(self.undisturbed)
        assert not self.expected.missing

    async def run_in(self, folder: Path, fault: str = "", boundary: Boundary | None = None) -> Outcome:
        """One more run in a folder, with its source as it is there now."""
        (folder / RECORD).unlink(missing_ok=True)
        (folder / FIRED).unlink(missing_ok=True)
        control = Control(fault, boundary, self.is_plain, self.backend)
        control.write(folder)
        case = _Case(self, folder, control)
        await case.run()
        return Outcome(control, folder, case.problem, case.behind, seconds=case.seconds)

    async def left_by_death(self, boundary: Boundary) -> State:
        """What there is to see after a worker died at a boundary, and no other has come."""
        folder = self.copy()
        Control("kill", boundary, self.is_plain).write(folder)
        case = _Case(self, folder)
        await case.run_to_death()
        return state.read(folder)

    async def with_full_lake(self, boundary: Boundary) -> FullLake:
        """A run whose lake is full for good from a boundary on; and the next one, after somebody has made room."""
        folder = self.folder / uuid.uuid4().hex[:8]
        with small_disk(folder / "lake"):
            shutil.copytree(self.template, folder, dirs_exist_ok=True)
            Control("full", boundary, self.is_plain).write(folder)
            case = _Case(self, folder)
            await case.run()
            found = FullLake(boundary, case.problem, case.behind, state.read(folder))
            make_room(folder / "lake")
            Control(is_plain=self.is_plain).write(folder)
            again = _Case(self, folder)
            await again.run()
            found.after = again.problem or "; ".join(again.behind)
            got = state.read(folder)
            found.difference = state.compare(self.expected, got, is_same_run=False, is_plain=self.is_plain)
        return found

    async def at_the_same_time(self, runs: int) -> tuple[list[str], Difference]:
        """How each of some runs ended that were started together, with a worker for each; and what came of them."""
        folder = self.copy()
        Control(is_plain=self.is_plain).write(folder)
        case = _Case(self, folder)
        ends = await case.run_together(runs)
        got = state.read(folder)
        return ends, state.compare(self.expected, got, is_same_run=False, is_plain=self.is_plain)

    async def two_runs(
        self, folder: Path, boundary: Boundary, meanwhile: Callable[[], None] = lambda: None, *, workers: int = 2
    ) -> list[str]:
        """How each of two runs ended: one that waits at a boundary, and one that starts then, after something else.

        Args:
            workers: With one, the runs do not wait for each other to have the DuckDB file.
        """
        Control("wait", boundary, self.is_plain).write(folder)
        return await _Case(self, folder).run_beside(meanwhile, workers)

    async def _run(self, folder: Path, number: int) -> None:
        Control(is_plain=self.is_plain).write(folder)
        case = _Case(self, folder, number=number)
        await case.run()
        assert not case.problem, f"{case.problem}\n{(folder / 'worker.log').read_text()}"
        assert not case.behind

    def copy(self) -> Path:
        """A folder for one more case."""
        return Path(shutil.copytree(self.template, self.folder / uuid.uuid4().hex[:8]))

    async def disturb(self, fault: str, boundaries: Sequence[Boundary]) -> list[Outcome]:
        """Runs a case for each boundary, some at once."""
        slots = asyncio.Semaphore(AT_ONCE)

        async def one(boundary: Boundary) -> Outcome:
            async with slots:
                return await self._disturb(Control(fault, boundary, self.is_plain))

        if fault != "server":
            return await asyncio.gather(*map(one, boundaries))
        outcomes: list[Outcome] = []
        for start in range(0, len(boundaries), AT_ONCE):
            group = boundaries[start : start + AT_ONCE]
            self.round = Round(len(group))
            running = [asyncio.create_task(one(each)) for each in group]
            await self.round.full.wait()
            self.server.kill()
            self.round.over.set()
            await self.server.start()
            outcomes += await asyncio.gather(*running)
        return outcomes

    async def _disturb(self, control: Control) -> Outcome:
        outcome = await self.disturbed(control)
        if outcome.is_good:
            shutil.rmtree(outcome.folder)
        return outcome

    async def disturbed(self, control: Control) -> Outcome:
        """One case, whose folder is left."""
        folder = self.copy()
        control.write(folder)
        case = _Case(self, folder, control)
        await case.run()
        outcome = Outcome(control, folder, case.problem, case.behind, seconds=case.seconds)
        if not case.problem:
            was_cancelled = control.fault == "cancel"
            outcome.difference = state.compare(
                self.expected,
                state.read(folder),
                is_same_run=not was_cancelled,
                is_plain=self.is_plain,
                was_cancelled=was_cancelled,
            )
        return outcome


class _Case:
    def __init__(self, house: House, folder: Path, control: Control | None = None, number: int | None = None) -> None:
        self._house = house
        self._number = house.scenario.runs if number is None else number
        self._folder = folder
        self._control = control or Control()
        self._queue = f"crash-{uuid.uuid4().hex}"
        self._workers: list[asyncio.Future[int]] = []
        self.problem = ""
        self.behind: list[str] = []
        """What the run has published and could not show."""
        self.seconds: float | None = None
        self._has_arrived = False

    async def run(self) -> None:
        """The run, with a worker beside it at any time."""
        serving = asyncio.create_task(self._serve())
        try:
            handle = await self._start()
            disturbing = asyncio.create_task(self._disturb(handle))
            try:
                async with asyncio.timeout(LONGEST_SECONDS):
                    behind = await _behind(handle)
                    if behind is None and self._control.fault == "cancel":
                        behind = await _behind(await self._start())
                    assert behind is not None, "the run was cancelled"
                    self.behind = behind
            except TimeoutError:
                self.problem = f"the run did not end within {LONGEST_SECONDS} s"
            except WorkflowFailureError as error:
                self.problem = f"the run failed: {error.cause}"
            disturbing.cancel()
            if (fired := self._folder / FIRED).exists():
                self.seconds = time.time() - fired.stat().st_mtime
        finally:
            serving.cancel()
            if self._control.fault == "server" and not self._has_arrived:
                self._house.round.arrive()
            for pid in await asyncio.gather(*self._workers):
                await self._house.nursery.kill(pid)

    async def run_to_death(self) -> None:
        """The run, until its only worker dies."""
        pid = await self._house.nursery.start(self._folder, self._queue, self._house.server.address)
        handle = await self._start()
        await asyncio.wait_for(self._house.nursery.ended(pid), LONGEST_SECONDS)
        await handle.terminate()

    async def run_together(self, runs: int) -> list[str]:
        """Some runs at once, with as many workers."""
        async with self._workers_at_once(runs):
            return await _ends(await asyncio.gather(*(self._start() for _ in range(runs))))

    async def run_beside(self, meanwhile: Callable[[], None], workers: int) -> list[str]:
        """Two runs. The first waits for the second to end, or to wait for the first."""
        async with self._workers_at_once(workers):
            first = await self._start()
            async with asyncio.timeout(LONGEST_SECONDS):
                await self._fired()
            meanwhile()
            second = await self._start()
            await asyncio.wait({asyncio.ensure_future(_ends([second]))}, timeout=STANDSTILL_SECONDS)
            (self._folder / GO).touch()
            return await _ends([first, second])

    @asynccontextmanager
    async def _workers_at_once(self, workers: int) -> AsyncIterator[None]:
        start = self._house.nursery.start
        pids = [await start(self._folder, self._queue, self._house.server.address) for _ in range(workers)]
        try:
            yield
        finally:
            for pid in pids:
                await self._house.nursery.kill(pid)

    async def _start(self) -> WorkflowHandle[object, object]:
        workflow, asked = self._house.scenario.start(self._number)
        return await self._house.server.client.start_workflow(
            workflow,
            {"tenant": TENANT, **asked},
            id=f"crash-{uuid.uuid4().hex}",
            task_queue=self._queue,
            task_timeout=timedelta(seconds=2),
        )

    async def _serve(self) -> None:
        """One worker after the other; and, when one is told to end, the next before it has."""
        while len(self._workers) < MOST_WORKERS:
            starting = self._house.nursery.start(self._folder, self._queue, self._house.server.address)
            self._workers.append(asyncio.ensure_future(starting))
            pid = await asyncio.shield(self._workers[-1])
            ended = asyncio.ensure_future(self._house.nursery.ended(pid))
            if self._control.fault == "term" and len(self._workers) == 1:
                await asyncio.wait({ended, asyncio.ensure_future(self._fired())}, return_when=asyncio.FIRST_COMPLETED)
            else:
                await ended
        self.problem = f"{MOST_WORKERS} workers died"

    async def _fired(self) -> None:
        while not (self._folder / FIRED).exists():
            await asyncio.sleep(0.02)

    async def _disturb(self, handle: WorkflowHandle[object, object]) -> None:
        """The part of a fault that is not the worker's."""
        if self._control.fault not in ("cancel", "server"):
            return
        await self._fired()
        if self._control.fault == "cancel":
            await self._house.server.cancel(handle.id)
        else:
            self._has_arrived = True
            self._house.round.arrive()
            await self._house.round.over.wait()
        (self._folder / GO).touch()


async def _ends(handles: Sequence[WorkflowHandle[object, object]]) -> list[str]:
    """How runs ended: completed, or why not."""
    ends = await asyncio.gather(*map(_ended, handles), return_exceptions=True)
    return [str(end.cause) if isinstance(end, WorkflowFailureError) else str(end) for end in ends]


async def _ended(handle: WorkflowHandle[object, object]) -> str:
    return "completed" if await _behind(handle) is not None else "cancelled"


async def _behind(handle: WorkflowHandle[object, object]) -> list[str] | None:
    """Waits for the end of a run, also while the server is away. What it could not show; None: it was cancelled."""
    while True:
        try:
            ended: Any = await handle.result()
            return list(ended["behind"])
        except RPCError:
            await asyncio.sleep(0.1)
        except WorkflowFailureError as error:
            if isinstance(error.cause, CancelledError):
                return None
            raise

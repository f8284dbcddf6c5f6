"""Calls of user code, seen from the worker: each in a process that ends with it, or is killed."""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import ibis
import psutil
import pyarrow as pa

from entrepot import secrets
from entrepot.activities.runtime.context import ActivityContext, format_bytes
from entrepot.activities.runtime.isolation import call as protocol
from entrepot.activities.runtime.isolation import fork_server
from entrepot.activities.runtime.isolation.call import (
    Answered,
    Asked,
    Done,
    Given,
    Logged,
    Next,
    Progress,
    Query,
    Question,
    Resolved,
    Started,
    Surroundings,
)
from entrepot.activities.runtime.isolation.channel import Channel, from_buffer, to_buffer
from entrepot.activities.runtime.isolation.fork_server import COMMAND, EXIT, FORK, KILL
from entrepot.activities.runtime.isolation.lanes import Lanes
from entrepot.activities.runtime.isolation.raised import Raised
from entrepot.activities.runtime.tenant import Tenants, Variables
from entrepot.errors import BadInput, EntrepotError, LimitExceeded, StepFailed, Unavailable, listed
from entrepot.identity.imported import stamp
from entrepot.language.step import Step

PREPARE = "entrepot.worker.process:load"
"""What the first fork server does before it serves."""
MOST_SERVERS = 32
"""Versions of pipelines that stay imported. The one that was not called for longest goes."""
LOOK_SECONDS = 0.2
"""How often it is looked how much memory a call has."""
BUILD_SECONDS = 60.0
"""How long a step's function may take to say what is to be computed."""
IMPORT_SECONDS = 120.0
"""How long importing a pipeline may take."""


@dataclass(frozen=True)
class Ended:
    """How a process has ended."""

    status: int
    peak: int
    """The most memory that it had, in bytes."""

    def __str__(self) -> str:
        at = f"; it had {format_bytes(self.peak)} of memory at most"
        if os.WIFSIGNALED(self.status):
            number = os.WTERMSIG(self.status)
            hint = ". If the machine ran out of memory: set `memory`, or stream" if number == signal.SIGKILL else ""
            return f"its process was killed by {signal.Signals(number).name}{at}{hint}"
        return f"its process ended itself with exit code {os.waitstatus_to_exitcode(self.status)}{at}"


class Work(Protocol):
    """For whom a process runs."""

    progress: dict[str, int]

    def while_running(self, stop: Callable[[], None]) -> contextlib.AbstractContextManager[None]:
        """While the block runs, `stop` is called when the work is stopped."""

    def check(self) -> None:
        """Raises InterruptedError if it was stopped."""


class Process:
    """A process that was forked for one call."""

    def __init__(self, server: ForkServer, number: int, channel: Channel, ended: Future[Ended]) -> None:
        self._server = server
        self._number = number
        self.channel = channel
        self.ended = ended

    def kill(self) -> None:
        """Kills it, if it still runs. From any thread."""
        self._server.tell(KILL, self._number)


class ForkServer:
    """One fork server. It ends when its control socket is closed."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._lock = threading.Lock()
        self._running: dict[int, Future[Ended]] = {}
        self._count = 0
        self.is_open = True
        threading.Thread(target=self._listen, name="entrepot-processes", daemon=True).start()

    @property
    def is_idle(self) -> bool:
        """Whether nothing that it has forked is running."""
        with self._lock:
            return not self._running

    def fork(self) -> Process:
        """A process that waits to be told what to call.

        Raises:
            Unavailable: if the server has ended.
        """
        ours, theirs = socket.socketpair()
        with self._lock, theirs:
            self._count += 1
            number, ended = self._count, Future[Ended]()
            self._running[number] = ended
            try:
                socket.send_fds(self._control, [COMMAND.pack(FORK, number)], [theirs.fileno()])
            except OSError as error:
                ours.close()
                raise Unavailable("the process that starts others for user code has ended") from error
        return Process(self, number, Channel(ours.detach()), ended)

    def tell(self, command: bytes, number: int) -> None:
        """Sends a command; one that has ended needs none."""
        with self._lock, contextlib.suppress(OSError):
            self._control.sendall(COMMAND.pack(command, number))

    def close(self) -> None:
        """Ends the server and all that it has forked."""
        with contextlib.suppress(OSError):
            self._control.shutdown(socket.SHUT_RDWR)

    def _listen(self) -> None:
        while received := self._received():
            number, status, peak = EXIT.unpack(received)
            with self._lock:
                ended = self._running.pop(number)
            ended.set_result(Ended(status, peak * 1024))
        with self._lock:
            self.is_open = False
            left, self._running = self._running, {}
            self._control.close()
        for ended in left.values():
            ended.set_exception(Unavailable("its process has ended, and with it the one that started it"))

    def _received(self) -> bytes:
        try:
            return self._control.recv(EXIT.size, socket.MSG_WAITALL)
        except OSError:
            return b""


@dataclass(frozen=True)
class Code:
    """Which code a process has imported."""

    pipeline: str
    reference: str
    stamps: tuple[tuple[str, tuple[int, int]], ...]
    """Of the files that make it, each as it was when it was imported."""

    @classmethod
    def of(cls, pipeline: str, reference: str, stamps: Mapping[str, tuple[int, int]]) -> Code:
        """The code that these files make."""
        return cls(pipeline, reference, tuple(sorted(stamps.items())))

    def is_on_disk(self) -> bool:
        """Whether it could be imported again."""
        return all(stamp(file) == as_imported for file, as_imported in self.stamps)

    def is_of(self, pipeline: str, reference: str) -> bool:
        """Whether it is a version of this pipeline."""
        return (self.pipeline, self.reference) == (pipeline, reference)

    def changed(self, now: Code) -> list[str]:
        """The files that another version has changed. Modules of its package that only one has loaded do not count:
        other pipelines there may have asked for them."""
        newer = dict(now.stamps)
        return [file for file, as_imported in self.stamps if newer.get(file, as_imported) != as_imported]


@dataclass(frozen=True)
class Place:
    """Where and for whom code was imported: a process that has done it serves nobody else."""

    hidden: frozenset[str]
    """The environment variables that it has not seen."""
    path: tuple[str, ...]
    folder: str

    @classmethod
    def here(cls, variables: Variables) -> Place:
        """As this process is now."""
        return cls(variables.hidden, tuple(sys.path), os.getcwd())


class Processes:
    """The fork servers of a worker: the first, and one for each pipeline's code."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._first: ForkServer | None = None
        self._servers: OrderedDict[tuple[Code, Place], ForkServer] = OrderedDict()
        self._locks: dict[tuple[str, str, Place], threading.Lock] = {}

    def first(self) -> ForkServer:
        """The fork server from which all others are forked; started when it is first asked for."""
        with self._lock:
            if self._first is None or not self._first.is_open:
                ours, theirs = socket.socketpair()
                with theirs:
                    subprocess.Popen(  # it ends when `ours` is closed
                        (sys.executable, "-m", fork_server.__name__, str(theirs.fileno()), PREPARE),
                        pass_fds=[theirs.fileno()],
                        stdin=subprocess.DEVNULL,
                        start_new_session=True,
                        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                    )
                self._first = ForkServer(ours)
            return self._first

    def fork_here(self) -> None:
        """Makes the first fork server of this process as it is, which costs no second import, and shares its memory.

        For one that has imported what is heavy, and has neither threads nor connections yet.
        """
        ours, theirs = socket.socketpair()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()  # or else each that is forked writes again what is left in them
        if os.fork() == 0:
            try:
                ours.close()
                os.setsid()
                with open(os.devnull) as nothing:
                    os.dup2(nothing.fileno(), 0)  # user code that would read waits for nobody to type
                fork_server.serve(theirs, protocol.run, fork_server.PATIENCE)
            finally:
                os._exit(1)
        theirs.close()
        self._first = ForkServer(ours)

    def of(self, code: Code, variables: Variables) -> ForkServer:
        """The fork server that has imported this code, which is made when it is loaded.

        Raises:
            Changed: if there is none any more, and none can be made, since the files are others now.
        """
        place = Place.here(variables)
        with self._lock_of(code.pipeline, code.reference, place):
            if (server := self._found(code, place)) is None:
                made, server = self._import(code.pipeline, code.reference, place, variables)
                if changed := code.changed(made):
                    raise Changed(changed)
        return server

    def load(self, pipeline: str, reference: str, variables: Variables) -> None:
        """Imports a pipeline's code for the calls to come, unless there is a fork server that has done so.

        Raises:
            BadInput: if it cannot be imported; PipelineError: if it is not valid.
            Unavailable: if it may be imported the next time.
        """
        place = Place.here(variables)
        with self._lock_of(pipeline, reference, place):
            with self._lock:
                known = [code for code, where in self._servers if code.is_of(pipeline, reference) and where == place]
            if not any(code.is_on_disk() and self._found(code, place) for code in known):
                self._import(pipeline, reference, place, variables)

    def _lock_of(self, pipeline: str, reference: str, place: Place) -> threading.Lock:
        with self._lock:
            return self._locks.setdefault((pipeline, reference, place), threading.Lock())

    def _found(self, code: Code, place: Place) -> ForkServer | None:
        with self._lock:
            for made, where in list(self._servers):
                if where == place and made.is_of(code.pipeline, code.reference) and not code.changed(made):
                    if (server := self._servers[made, where]).is_open:
                        self._servers.move_to_end((made, where))
                        return server
                    del self._servers[made, where]
        return None

    def _import(self, pipeline: str, reference: str, place: Place, variables: Variables) -> tuple[Code, ForkServer]:
        stamps, server = _imported(self.first().fork(), pipeline, reference, variables)
        code = Code.of(pipeline, reference, stamps)
        with self._lock:
            self._servers[code, place] = server
            self._make_room(code)
        return code, server

    def _make_room(self, newest: Code) -> None:
        """Ends servers for which nothing runs: of code that others have followed; else, where there are too many, the
        one that was not called for longest. It can be made again only while its files are as they were."""
        for (code, place), server in list(self._servers.items()):
            is_followed = newest.is_of(code.pipeline, code.reference) and newest.changed(code)
            is_too_many = len(self._servers) > MOST_SERVERS and code.is_on_disk()
            if code != newest and server.is_idle and (is_followed or is_too_many):
                del self._servers[code, place]
                server.close()


class Changed(Exception):
    """Files that make a pipeline are not as they were when it was imported."""

    def __init__(self, files: Iterable[str]) -> None:
        super().__init__(listed(files))


def _imported(
    process: Process, pipeline: str, reference: str, variables: Variables
) -> tuple[Mapping[str, tuple[int, int]], ForkServer]:
    """Lets a process import a pipeline and become a fork server. It may hang, or end itself.

    Returns:
        The stamps of the files that were imported, and the server.
    """
    where = f"pipeline {pipeline!r} ({reference}): its module "
    watch = threading.Timer(IMPORT_SECONDS, process.kill)
    watch.start()
    try:
        with started(process, Nobody(), variables, becomes_server=True):
            asked = Asked(protocol.import_pipeline, (pipeline, reference))
            try:
                next(conversation(process, Nobody(), asked))
            except StopIteration as end:
                return end.value, ForkServer(socket.socket(fileno=os.dup(process.channel.fileno())))
            raise AssertionError("an import gives no batches")
    except (StepFailed, Unavailable) as error:
        if not watch.is_alive():
            raise BadInput(f"{where}was not imported within {IMPORT_SECONDS:.0f} s") from None
        if process.ended.done() and not process.ended.exception():
            raise BadInput(f"{where}cannot be imported: {error}") from None
        raise
    finally:
        watch.cancel()


Read = Callable[[ibis.Table], pa.RecordBatchReader]
"""The rows of an expression over tables of the warehouse."""

PROCESSES = Processes()
"""The worker's."""
LANES = Lanes()
"""The worker's."""


def load_with(tenants: Tenants) -> None:
    """Lets each pipeline be imported and validated in a process, of which those for its calls are forked from then on,
    before a worker itself imports it."""
    registry = tenants.registry
    registry.rehearse = lambda name, reference: PROCESSES.load(name, reference, tenants.shared(name))


def server_of(tenants: Tenants, pipeline: str) -> ForkServer:
    """The fork server that has imported a pipeline as the worker has.

    Raises:
        StepFailed: if there is none, and the files have changed since; Unavailable: if they are imported anew.
    """
    registry = tenants.registry
    code = Code.of(pipeline, registry.references[pipeline], registry.stamps(pipeline))
    try:
        return PROCESSES.of(code, tenants.shared(pipeline))
    except Changed as changed:
        if registry.reloads:
            raise Unavailable(f"{changed} changed as pipeline {pipeline!r} was called; it is imported anew") from None
        raise StepFailed(f"{changed} changed since this worker imported pipeline {pipeline!r}; restart it") from None


class Nobody(Work):
    """Work that is not stopped, since nobody waits for it."""

    def __init__(self) -> None:
        self.progress = {}

    def while_running(self, stop: Callable[[], None]) -> contextlib.AbstractContextManager[None]:
        """Nobody stops it."""
        return contextlib.nullcontext()

    def check(self) -> None:
        """Nobody has stopped it."""


@dataclass(frozen=True)
class StepProcesses:
    """Where a step's code runs: each call in a process of its own, which has imported the pipeline.

    Functions that are called stand in a module; their first argument is their `Call`.

    Raises:
        InterruptedError: if the work is stopped meanwhile.
        LimitExceeded: if it had more memory than the step may have.
        StepFailed: if its process ended itself or crashed.
        Unavailable: if it was killed by others.
    """

    work: ActivityContext
    tenants: Tenants
    pipeline: str
    step: Step

    def run(
        self,
        function: Callable[..., Any],
        *arguments: Any,
        feeds: Mapping[str, pa.RecordBatchReader] | None = None,
        read: Read | None = None,
    ) -> Any:
        """What a function returns.

        Args:
            feeds: What `Call.feed` reads.
            read: Reads what `Call.read` asks for.
        """
        batches = self._call(function, arguments, feeds or {}, read)
        while True:
            try:
                next(batches)
            except StopIteration as end:
                return end.value

    def stream(
        self, function: Callable[..., Any], *arguments: Any, feeds: Mapping[str, pa.RecordBatchReader]
    ) -> Generator[pa.RecordBatch, None, Any]:
        """The batches that a function gives."""
        return self._call(function, arguments, feeds, None)

    def _call(
        self,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        feeds: Mapping[str, pa.RecordBatchReader],
        read: Read | None,
    ) -> Generator[pa.RecordBatch, None, Any]:
        tenant = self.work.tenant.name
        variables = self.tenants.variables(tenant)
        limits = self.work.tenant.limits_of(self.tenants.pipeline(tenant, self.pipeline))
        memory = self.step.limits.over(limits).memory
        asked = Asked(function, arguments, self.step.name, {name: reader.schema for name, reader in feeds.items()})
        process = server_of(self.tenants, self.pipeline).fork()
        with LANES.lane(tenant) as nice, started(process, self.work, variables, nice=nice):
            return (yield from conversation(process, self.work, asked, Readers(feeds, read), memory))


@contextmanager
def started(
    process: Process, work: Work, variables: Variables, *, becomes_server: bool = False, nice: int = 0
) -> Iterator[None]:
    """While the block runs, the process has a folder for temporary files, and is killed when the work is stopped.

    A process that does not become a server has ended afterwards.
    """
    scratch = tempfile.mkdtemp(prefix="entrepot-")
    try:
        with work.while_running(process.kill):
            process.channel.send(
                Surroundings(
                    environment={name: value for name, value in os.environ.items() if name not in variables.hidden},
                    path=list(sys.path),
                    folder=os.getcwd(),
                    scratch=scratch,
                    levels={name: logging.getLogger(name).level for name in ("", "entrepot", "dlt")},
                    references=variables.references,
                    becomes_server=becomes_server,
                    nice=nice,
                )
            )
            yield
    except BaseException:
        process.kill()
        raise
    finally:
        if not becomes_server:
            process.kill()
        process.channel.close()
        shutil.rmtree(scratch, ignore_errors=True)


def conversation(
    process: Process,
    work: Work,
    asked: Asked,
    readers: Readers | None = None,
    memory: int | None = None,
) -> Generator[Any, Any, Any]:
    """Tells a process what to call, and answers what it asks until it has returned. It gives batches, or answers.

    Args:
        memory: The most that it may have, in bytes.
    """
    channel, watch = process.channel, _MemoryWatch(process, memory)
    readers = readers or Readers()
    deadline: float | None = None
    limits: Iterator[int | None] = iter(())
    try:
        channel.send(asked)
        while True:
            message = _received(channel, deadline)
            asked_at = time.monotonic()
            if isinstance(message, Started):
                watch.begin(message.pid)
            elif isinstance(message, Query | Next):
                channel.send(readers.answer(message))
                deadline = deadline and deadline + time.monotonic() - asked_at  # the warehouse's time is not its own
            elif isinstance(message, Given):
                yield from from_buffer(message.data)
            elif isinstance(message, Answered):
                questions: Sequence[Question] | None = yield message.answer
                deadline = time.monotonic() + BUILD_SECONDS
                if questions is not None:
                    channel.send(questions)
                    limits = iter(question.memory for question in questions)
                watch.limit(next(limits, None))
            elif isinstance(message, Raised):
                raise message.again()
            elif isinstance(message, Done):
                return message.value
            else:
                _take_note(work, message)
    except (EOFError, OSError) as error:
        if isinstance(error, InterruptedError) or not isinstance(error, EOFError | BrokenPipeError | ConnectionError):
            raise
        work.check()
        watch.check()
        raise _death(process) from None
    finally:
        watch.end()


def _received(channel: Channel, deadline: float | None) -> Any:
    """What a process says next."""
    if deadline is not None and not channel.poll(max(0.0, deadline - time.monotonic())):
        raise StepFailed(f"its function has not returned within {BUILD_SECONDS:g} s; its process was killed")
    return channel.receive()


def _take_note(work: Work, message: object) -> None:
    """What a process says, and waits for no answer."""
    if isinstance(message, Progress):
        work.progress = message.rows
    elif isinstance(message, Logged):
        logging.getLogger(message.record.name).handle(message.record)
    elif isinstance(message, Resolved):
        secrets.register_all(message.values)


def _death(process: Process) -> StepFailed | Unavailable:
    """Why a process is not there any more. What was killed from outside may do better the next time."""
    ended = process.ended.result(timeout=30)
    if os.WIFSIGNALED(ended.status) and os.WTERMSIG(ended.status) in (signal.SIGKILL, signal.SIGTERM):
        return Unavailable(str(ended))
    return StepFailed(str(ended))


class Readers:
    """What a call may read."""

    def __init__(self, feeds: Mapping[str, pa.RecordBatchReader] = {}, read: Read | None = None) -> None:
        self._readers = dict(feeds)
        self._read = read

    def answer(self, question: Query | Next) -> pa.Schema | pa.Buffer | Raised | None:
        """The columns of a query; the next batch of a reader, nothing at its end; or why there is none."""
        try:
            if isinstance(question, Next):
                return to_buffer(self._readers[question.feed].read_next_batch())
            assert self._read is not None
            self._readers[""] = self._read(pickle.loads(question.expression))
            return self._readers[""].schema
        except StopIteration:
            return None
        except EntrepotError as error:
            return Raised.of(error)


class _MemoryWatch:
    """Kills a process that has more memory than it may have."""

    def __init__(self, process: Process, most: int | None) -> None:
        self._process = process
        self._most = most
        self._pid = 0
        self._looking: threading.Thread | None = None
        self._exceeded: tuple[int, int] | None = None
        """What it had, and what it might have had."""
        self._ended = threading.Event()

    def begin(self, pid: int) -> None:
        """From now on, until the end."""
        self._pid = pid
        self.limit(self._most)

    def limit(self, most: int | None) -> None:
        """From now on it may have so much."""
        self._most = most
        if most is not None and self._looking is None:
            self._looking = threading.Thread(target=self._look, name="entrepot-memory", daemon=True)
            self._looking.start()

    def end(self) -> None:
        """Looks no more."""
        self._ended.set()

    def check(self) -> None:
        """Raises LimitExceeded if it has killed the process."""
        if self._exceeded is not None:
            used, most = map(format_bytes, self._exceeded)
            raise LimitExceeded(f"its process had {used} of memory, and its limit is {most}; it was killed")

    def _look(self) -> None:
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(self._pid)
            while not self._ended.wait(LOOK_SECONDS):
                used, most = process.memory_info().rss, self._most
                if most is not None and used > most:
                    self._exceeded = used, most
                    self._process.kill()
                    return

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
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Protocol

import ibis
import psutil
import pyarrow as pa

from entrepot import secrets
from entrepot.activities.runtime.context import ActivityContext, format_bytes
from entrepot.activities.runtime.isolation import call as protocol
from entrepot.activities.runtime.isolation import fork_server
from entrepot.activities.runtime.isolation.call import (
    Asked,
    Done,
    Given,
    Logged,
    Next,
    Progress,
    Query,
    Resolved,
    Started,
    Surroundings,
)
from entrepot.activities.runtime.isolation.fork_server import COMMAND, EXIT, FORK, KILL
from entrepot.activities.runtime.isolation.raised import Raised
from entrepot.activities.runtime.tenant import Tenants, Variables
from entrepot.errors import BadInput, EntrepotError, LimitExceeded, PipelineError, StepFailed, Unavailable, listed
from entrepot.language.step import Step
from entrepot.registry import Registry

PREPARE = "entrepot.worker.process:load"
"""What the first fork server does before it serves."""
MOST_SERVERS = 32
"""Versions of pipelines that stay imported. The one that was not called for longest goes."""
LOOK_SECONDS = 0.2
"""How often it is looked how much memory a call has."""
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

    def __init__(self, server: ForkServer, number: int, connection: Connection, ended: Future[Ended]) -> None:
        self._server = server
        self._number = number
        self.connection = connection
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
        return Process(self, number, Connection(ours.detach()), ended)

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
    """Which code a process has imported, and for whom: what it shares with no other tenant."""

    tenant: str
    pipeline: str
    reference: str
    stamps: tuple[tuple[str, tuple[int, int]], ...]
    """Of the files that make it, as the worker has imported them."""

    @classmethod
    def of(cls, registry: Registry, tenant: str, pipeline: str) -> Code:
        """The code of a pipeline that the worker has loaded."""
        return cls(tenant, pipeline, registry.references[pipeline], tuple(sorted(registry.stamps(pipeline).items())))


class Processes:
    """The fork servers of a worker: the first, and one for each pipeline's code."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._first: ForkServer | None = None
        self._servers: OrderedDict[tuple[object, ...], ForkServer] = OrderedDict()
        self._locks: dict[tuple[object, ...], threading.Lock] = {}

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

    def of(self, code: Code, work: Work, variables: Variables) -> ForkServer:
        """The fork server that has imported a pipeline's code.

        Raises:
            StepFailed: if the code on disk is not what the worker has imported; if importing it ends the process.
        """
        key = (code, tuple(sys.path), os.getcwd())
        with self._lock:
            lock = self._locks.setdefault(key, threading.Lock())
        with lock:
            if (server := self._servers.get(key)) is None or not server.is_open:
                server = self._made(code, work, variables)
            with self._lock:
                self._servers[key] = server
                self._servers.move_to_end(key)
                while len(self._servers) > MOST_SERVERS:
                    other, old = self._servers.popitem(last=False)
                    self._locks.pop(other, None)
                    old.close()
        return server

    def _made(self, code: Code, work: Work, variables: Variables) -> ForkServer:
        process = self.first().fork()
        with started(process, work, variables, becomes_server=True):
            asked = Asked(protocol.import_pipeline, (code.pipeline, code.reference))
            try:
                next(conversation(process, work, asked, _Readers()))
            except StopIteration as end:
                if changed := [file for file, stamp in code.stamps if end.value.get(file, stamp) != stamp]:
                    process.kill()
                    raise StepFailed(
                        f"{listed(changed)} changed since this worker imported pipeline {code.pipeline!r}; restart it"
                    ) from None
            return ForkServer(socket.socket(fileno=os.dup(process.connection.fileno())))


Read = Callable[[ibis.Table], pa.RecordBatchReader]
"""The rows of an expression over tables of the warehouse."""

PROCESSES = Processes()
"""The worker's."""


def rehearse(name: str, reference: str) -> None:
    """Imports a pipeline in a process of its own, before a worker imports it: it may hang, or end its process.

    Raises:
        BadInput: if it does; whatever else importing it raises.
    """
    process = PROCESSES.first().fork()
    watch = threading.Timer(IMPORT_SECONDS, process.kill)
    watch.start()
    try:
        with started(process, _Nobody(), Variables()):
            asked = Asked(protocol.import_pipeline, (name, reference))
            for _ in conversation(process, _Nobody(), asked, _Readers()):
                pass
    except (BadInput, PipelineError):
        raise
    except (StepFailed, Unavailable) as error:
        where = f"pipeline {name!r} ({reference}): its module "
        if not watch.is_alive():
            raise BadInput(f"{where}was not imported within {IMPORT_SECONDS:.0f} s") from None
        if process.ended.done():
            raise BadInput(f"{where}cannot be imported: {error}") from None
        raise
    finally:
        watch.cancel()


class _Nobody:
    """Work that is not stopped, since nobody waits for it."""

    def __init__(self) -> None:
        self.progress: dict[str, int] = {}

    def while_running(self, stop: Callable[[], None]) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def check(self) -> None:
        return


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
        server = PROCESSES.of(Code.of(self.tenants.registry, tenant, self.pipeline), self.work, variables)
        limits = self.work.tenant.limits_of(self.tenants.pipeline(tenant, self.pipeline))
        asked = Asked(function, arguments, self.step.name, {name: reader.schema for name, reader in feeds.items()})
        process = server.fork()
        with started(process, self.work, variables):
            return (
                yield from conversation(
                    process, self.work, asked, _Readers(feeds, read), self.step.limits.over(limits).memory
                )
            )


@contextmanager
def started(process: Process, work: Work, variables: Variables, *, becomes_server: bool = False) -> Iterator[None]:
    """While the block runs, the process has a folder for temporary files, and is killed when the work is stopped.

    A process that does not become a server has ended afterwards.
    """
    scratch = tempfile.mkdtemp(prefix="entrepot-")
    try:
        with work.while_running(process.kill):
            process.connection.send(
                Surroundings(
                    environment={name: value for name, value in os.environ.items() if name not in variables.hidden},
                    path=list(sys.path),
                    folder=os.getcwd(),
                    scratch=scratch,
                    levels={name: logging.getLogger(name).level for name in ("", "entrepot", "dlt")},
                    references=variables.references,
                    becomes_server=becomes_server,
                )
            )
            yield
    except BaseException:
        process.kill()
        raise
    finally:
        if not becomes_server:
            process.kill()
        process.connection.close()
        shutil.rmtree(scratch, ignore_errors=True)


def conversation(
    process: Process, work: Work, asked: Asked, readers: _Readers, memory: int | None = None
) -> Generator[pa.RecordBatch, None, Any]:
    """Tells a process what to call, and answers what it asks until it has returned.

    Args:
        memory: The most that it may have, in bytes.
    """
    connection, watch = process.connection, _MemoryWatch(process, memory)
    try:
        connection.send(asked)
        while True:
            message = connection.recv()
            if isinstance(message, Started):
                watch.begin(message.pid)
            elif isinstance(message, Query | Next):
                connection.send(readers.answer(message))
            elif isinstance(message, Given):
                yield from protocol.from_bytes(message.data)
            elif isinstance(message, Progress):
                work.progress = message.rows
            elif isinstance(message, Logged):
                logging.getLogger(message.record.name).handle(message.record)
            elif isinstance(message, Resolved):
                secrets.register_all(message.values)
            elif isinstance(message, Raised):
                raise message.again()
            elif isinstance(message, Done):
                return message.value
    except (EOFError, OSError) as error:
        if isinstance(error, InterruptedError) or not isinstance(error, EOFError | BrokenPipeError | ConnectionError):
            raise
        work.check()
        watch.check()
        raise _death(process) from None
    finally:
        watch.end()


def _death(process: Process) -> StepFailed | Unavailable:
    """Why a process is not there any more. What was killed from outside may do better the next time."""
    ended = process.ended.result(timeout=30)
    if os.WIFSIGNALED(ended.status) and os.WTERMSIG(ended.status) in (signal.SIGKILL, signal.SIGTERM):
        return Unavailable(str(ended))
    return StepFailed(str(ended))


class _Readers:
    """What a call may read."""

    def __init__(self, feeds: Mapping[str, pa.RecordBatchReader] = {}, read: Read | None = None) -> None:
        self._readers = dict(feeds)
        self._read = read

    def answer(self, question: Query | Next) -> pa.Schema | bytes | Raised:
        """The columns of a query; the next batch of a reader, nothing at its end; or why there is none."""
        try:
            if isinstance(question, Next):
                return protocol.to_bytes(self._readers[question.feed].read_next_batch())
            assert self._read is not None
            self._readers[""] = self._read(pickle.loads(question.expression))
            return self._readers[""].schema
        except StopIteration:
            return b""
        except EntrepotError as error:
            return Raised.of(error)


class _MemoryWatch:
    """Kills a process that has more memory than it may have."""

    def __init__(self, process: Process, most: int | None) -> None:
        self._process = process
        self._most = most
        self._exceeded: int | None = None
        self._ended = threading.Event()

    def begin(self, pid: int) -> None:
        """From now on, until the end."""
        if self._most is not None:
            threading.Thread(target=self._look, args=(pid, self._most), name="entrepot-memory", daemon=True).start()

    def end(self) -> None:
        """Looks no more."""
        self._ended.set()

    def check(self) -> None:
        """Raises LimitExceeded if it has killed the process."""
        if self._exceeded is not None and self._most is not None:
            raise LimitExceeded(
                f"its process had {format_bytes(self._exceeded)} of memory, and its limit is "
                f"{format_bytes(self._most)}; it was killed"
            )

    def _look(self, pid: int, most: int) -> None:
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(pid)
            while not self._ended.wait(LOOK_SECONDS):
                if (used := process.memory_info().rss) > most:
                    self._exceeded = used
                    self._process.kill()
                    return

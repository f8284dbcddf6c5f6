"""A call of user code, seen from the process that it has for itself."""

from __future__ import annotations

import logging
import logging.handlers
import os
import pickle
import queue
import random
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import ibis
import pyarrow as pa

from entrepot import secrets
from entrepot.activities.runtime.context import attribute_errors
from entrepot.activities.runtime.isolation.channel import Channel, from_buffer, to_buffer
from entrepot.activities.runtime.isolation.fork_server import serve
from entrepot.activities.runtime.isolation.raised import Raised
from entrepot.errors import EntrepotError, StepFailed
from entrepot.language.step import Step
from entrepot.pipeline import Pipeline
from entrepot.planning.graph import Graph
from entrepot.registry import Registry
from entrepot.tracebacks import describe


@dataclass(frozen=True)
class Surroundings:
    """What a process has of its worker's: it was forked from one that may have begun long ago."""

    environment: dict[str, str]
    path: list[str]
    folder: str
    """The working directory."""
    scratch: str
    """For temporary files; the worker removes it."""
    levels: dict[str, int] = field(default_factory=dict)
    """Of loggers, by name."""
    references: frozenset[str] = frozenset()
    """Where its tenant's secrets stand: user code may read and print them itself."""
    becomes_server: bool = False
    """Whether it serves calls, once it has done what it was called for."""
    nice: int = 0
    """How far it lets others go first."""


@dataclass(frozen=True)
class Asked:
    """What a process is to call."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    step: str = ""
    """Whose code it is; what fails is told as the step's."""
    feeds: dict[str, pa.Schema] = field(default_factory=dict)
    """The columns of what it may read, by name."""


@dataclass(frozen=True)
class Question:
    """What a process is to call next, of those that answer several questions."""

    function: Callable[..., Any]
    """It is given the `Call`, the step and the arguments."""
    step: str
    arguments: tuple[Any, ...]
    memory: int | None = None
    """The most that the process may have meanwhile, in bytes."""


@dataclass(frozen=True)
class Answered:
    """What a question has given. After the last of several, it waits for more."""

    answer: Any


@dataclass(frozen=True)
class Started:
    """The first that a call says."""

    pid: int


@dataclass(frozen=True)
class Next:
    """The call wants the next batch of one of its feeds, or, without a name, of its last query."""

    feed: str


@dataclass(frozen=True)
class Query:
    """The call wants the rows of an expression, which the worker is to read."""

    expression: bytes


@dataclass(frozen=True)
class Given:
    """The call gives a batch."""

    data: pa.Buffer


@dataclass(frozen=True)
class Progress:
    """How far the call has come."""

    rows: dict[str, int]


@dataclass(frozen=True)
class Logged:
    """A log record that the worker is to handle as its own."""

    record: logging.LogRecord


@dataclass(frozen=True)
class Resolved:
    """The secrets that the call has resolved, by reference: the worker tells of what it raises, and must know them."""

    values: dict[str, tuple[str, ...]]


@dataclass(frozen=True)
class Done:
    """The call has returned."""

    value: Any


_IMPORTED: list[Pipeline] = []
"""The pipeline that this process has imported, and with it all that are forked from it."""


class Call:
    """What a function gets as its first argument when it is called in a process of its own."""

    def __init__(self, channel: Channel, asked: Asked) -> None:
        self._channel = channel
        self.asked = asked
        self._lock = threading.RLock()

    @property
    def step(self) -> Step:
        """The step whose code is called."""
        return self.graph.steps[self.asked.step]

    @property
    def graph(self) -> Graph:
        """Of the pipeline that this process has imported."""
        return _IMPORTED[0].graph

    def report(self, rows: dict[str, int]) -> None:
        """Says how far it has come: rows by table."""
        self.send(Progress(rows))

    def give(self, batch: pa.RecordBatch) -> None:
        """Hands a batch to the worker."""
        self.send(Given(to_buffer(batch)))

    def feed(self, name: str) -> pa.RecordBatchReader:
        """The batches that the worker reads for it."""
        return pa.RecordBatchReader.from_batches(self.asked.feeds[name], self._batches(name))

    def read(self, expression: ibis.Table) -> pa.Table:
        """The rows of an expression over tables of the warehouse.

        Raises:
            StepFailed: if the expression cannot be sent to the worker.
            EntrepotError: whatever the worker meets as it reads them.
        """
        try:
            data = pickle.dumps(expression)
        except Exception as error:
            raise StepFailed(f"it executes what cannot be sent to its worker: {describe(error)}") from error
        with self._lock:
            schema = self.ask(Query(data))
            return pa.Table.from_batches(self._batches(""), schema=schema)

    def ask(self, question: object) -> Any:
        """The worker's answer."""
        with self._lock:
            self.send(question)
            answer = self.receive()
        if isinstance(answer, Raised):
            raise answer.again()
        return answer

    def receive(self) -> Any:
        """What the worker says. Without a worker there is nothing to go on for."""
        try:
            return self._channel.receive()
        except (EOFError, OSError):
            os._exit(1)

    def send(self, message: object) -> None:
        """Tells the worker something. Without a worker there is nothing to go on for."""
        with self._lock:
            try:
                self._channel.send(message)
            except OSError:
                os._exit(1)

    def _batches(self, name: str) -> Iterator[pa.RecordBatch]:
        while data := self.ask(Next(name)):
            yield from from_buffer(data)


def import_pipeline(call: Call, name: str, reference: str) -> dict[str, tuple[int, int]]:
    """Imports a pipeline for all calls that are forked from here; the stamps of the files that make it."""
    registry = Registry({name: reference})
    pipeline = registry.load(name)
    _ = pipeline.graph
    _IMPORTED.append(pipeline)
    return registry.stamps(name)


def answer(call: Call) -> None:
    """Answers questions until its worker has no more."""
    call.send(Answered(None))
    while True:
        questions: Sequence[Question] = call.receive()
        for question in questions:
            step = call.graph.steps[question.step]
            found = _outcome(partial(question.function, call, step, *question.arguments))
            if isinstance(found, Raised):
                call.send(Resolved(secrets.resolved()))
            try:
                call.send(Answered(found))
            except Exception as error:
                failed = StepFailed(f"what it gives cannot be sent to its worker: {describe(error)}")
                call.send(Answered(Raised.of(failed)))


def run(descriptor: int) -> None:
    """What a forked process does: one call, told over the socket."""
    channel = Channel(descriptor)
    try:
        given: Surroundings = channel.receive()
        _surround(given)
        asked: Asked = channel.receive()
    except (EOFError, OSError):
        return
    call = Call(channel, asked)
    _log_to(call, given.levels)
    call.send(Started(os.getpid()))
    outcome = _outcome(lambda: _called(call))
    call.send(Resolved(secrets.resolved()))
    call.send(outcome if isinstance(outcome, Raised) else Done(outcome))
    sys.stdout.flush()
    sys.stderr.flush()
    if given.becomes_server and not isinstance(outcome, Raised):
        control = socket.socket(fileno=os.dup(channel.fileno()))
        channel.close()
        serve(control, run)


def _called(call: Call) -> Any:
    with attribute_errors(call.step) if call.asked.step else nullcontext():
        return call.asked.function(call, *call.asked.arguments)


def _outcome(called: Callable[[], Any]) -> Any:
    """What it returns, or what it raises."""
    try:
        return called()
    except (EntrepotError, InterruptedError) as error:
        return Raised.of(error)
    except BaseException as error:
        failed = StepFailed(describe(error))
        failed.__cause__ = error
        return Raised.of(failed)


def _surround(given: Surroundings) -> None:
    os.environ.clear()
    os.environ.update(given.environment)
    sys.path[:] = given.path
    os.chdir(given.folder)
    os.nice(given.nice)
    tempfile.tempdir = given.scratch
    for reference in given.references:
        secrets.refer(reference)
    random.seed()
    if (numpy := sys.modules.get("numpy")) is not None:
        numpy.random.seed()  # or else all that are forked from one draw the same numbers


class _ToWorker(logging.handlers.QueueHandler):
    """Hands log records to the worker, as text where their arguments cannot travel."""

    def __init__(self, call: Call) -> None:
        super().__init__(queue.SimpleQueue())
        self._call = call

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        prepared: logging.LogRecord = super().prepare(record)
        prepared.msg = prepared.message = secrets.scrub(prepared.message)
        return prepared

    def enqueue(self, record: logging.LogRecord) -> None:
        self._call.send(Logged(record))


def _log_to(call: Call, levels: Mapping[str, int]) -> None:
    root = logging.getLogger()
    root.handlers[:] = [_ToWorker(call)]
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)

"""What goes wrong at a boundary, in the worker that has reached it."""

from __future__ import annotations

import errno
import os
import signal
import threading
import time
from pathlib import Path

import duckdb
from temporalio import activity

from entrepot.backends import Session
from entrepot.backends.duckdb.backend import DuckDBSession
from entrepot.backends.duckdb.client import translated
from entrepot.errors import Unavailable
from tests.crash.boundaries import Boundary, Control

FIRED = "fired"
GO = "go"
FAULTS = {
    "kill": "the worker dies (SIGKILL)",
    "term": "the worker is told to end (SIGTERM)",
    "server": "the Temporal server dies (SIGKILL)",
    "cut": "the connection to the warehouse is cut",
    "disk": "the disk is full (as an error of the operation)",
    "cancel": "the run is cancelled with the CLI, and run again",
    "wait": "nothing goes wrong, but the step waits for a while",
}
GRACE_SECONDS = 0.2
"""How long a worker that was told to end lets its activities go on."""


class Fault:
    """Happens once, at one boundary; a file says that it has."""

    def __init__(self, control: Control) -> None:
        self._control = control

    def __call__(self, boundary: Boundary, session: Session | None) -> None:
        if boundary != self._control.boundary or not _first():
            return
        match self._control.fault:
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "term":
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(3 * GRACE_SECONDS)
            case "server" | "wait":
                _wait_to_go_on()
            case "cancel":
                _wait_to_go_on()
                _wait_for_cancellation()
            case "cut":
                _cut(session)
            case "disk":
                _full(session)


def _first() -> bool:
    try:
        os.close(os.open(FIRED, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


def _wait_to_go_on() -> None:
    while not Path(GO).exists():
        time.sleep(0.02)


def _wait_for_cancellation() -> None:
    """Only where the event loop goes on meanwhile, which hears of it."""
    deadline = time.monotonic() + 2
    while threading.current_thread() is not threading.main_thread() and not activity.is_cancelled():
        time.sleep(0.02)
        if time.monotonic() > deadline:
            return


def _cut(session: Session | None) -> None:
    """Closes the connection under the session, and raises what its next statement says of it."""
    if connection := getattr(session, "_connection", None):
        connection.close()
        session.query("SELECT 1")  # type: ignore[union-attr]
    raise Unavailable("the connection was cut")


def _full(session: Session | None) -> None:
    if isinstance(session, DuckDBSession):
        with translated(session._path):
            raise duckdb.IOException("IO Error: Could not write all bytes to file: No space left on device")
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

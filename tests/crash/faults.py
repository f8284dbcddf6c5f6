"""What goes wrong at a boundary, in the worker that has reached it."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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
    "full": "the lake is full from then on, until somebody makes room",
    "cancel": "the run is cancelled with the CLI, and run again",
    "wait": "nothing goes wrong, but the step waits for a while",
}
GRACE_SECONDS = 0.2
"""How long a worker that was told to end lets its activities go on."""


class Fault:
    """Happens once, at one boundary; a file says that it has."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._worker = os.getpid()  # a boundary may be in a process of user code

    def __call__(self, boundary: Boundary, session: Session | None) -> None:
        if boundary != self._control.boundary or not _first():
            return
        match self._control.fault:
            case "kill":
                os.kill(self._worker, signal.SIGKILL)
                os.kill(os.getpid(), signal.SIGKILL)
            case "term":
                os.kill(self._worker, signal.SIGTERM)
                time.sleep(3 * GRACE_SECONDS)
            case "server" | "wait":
                _wait_to_go_on()
            case "cancel":
                _wait_to_go_on()
                if os.getpid() == self._worker:
                    _wait_for_cancellation()
                else:
                    time.sleep(2)  # it is killed meanwhile
            case "cut":
                _cut(session)
            case "disk":
                _full(session)
            case "full":
                fill(Path("lake"))


FILLER = "filler"
"""The file that takes all the room of a small disk."""


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """A folder that is a disk of its own, so that it can be full, where this process may mount one."""
    folder.mkdir(parents=True)
    if os.geteuid() == 0:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_DISK_BYTES}", "tmpfs", folder], check=True)
    try:
        yield
    finally:
        if os.geteuid() == 0:
            subprocess.run(["umount", "--lazy", folder], check=True)


_DISK_BYTES = 4 << 20


def fill(folder: Path) -> None:
    """Nothing can be written there any more: the disk is full, or (for whom may not mount one) not to be written to."""
    if os.geteuid():
        _set_modes(folder, 0o555)
        return
    with suppress(OSError), open(folder / FILLER, "ab", buffering=0) as filler:
        while filler.write(bytes(4096)):
            pass


def make_room(folder: Path) -> None:
    """It can be written to again."""
    if os.geteuid():
        _set_modes(folder, 0o755)
    (folder / FILLER).unlink(missing_ok=True)


def _set_modes(folder: Path, mode: int) -> None:
    for each in [folder, *(path for path in folder.rglob("*") if path.is_dir())]:
        each.chmod(mode)


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

"""Starts a stand-in, waits until it can be used, and ends it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from entrepot_standins.environments import install
from entrepot_standins.kinds import STANDINS, Place, Standin
from entrepot_standins.ports import free_port

LOG = "server.log"


@contextmanager
def running(name: str, home: Path, folder: Path) -> Iterator[dict[str, Any]]:
    """A stand-in that runs until the end of the block. Gives the tenant settings that reach it.

    Args:
        name: Which; one of `STANDINS`.
        home: Where environments are kept. It is installed there if need be.
        folder: For its data, its own HOME, its secrets and its log. What is in it is kept, and served again.

    Raises:
        NotAvailable: if something that it needs is missing on this machine.
        RuntimeError: if it ends, or is not healthy in time; the text has the end of its log.
    """
    standin = STANDINS[name]
    environment = install(name, home)
    folder = folder.resolve()
    for part in ("data", "home", "tmp"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    place = Place(free_port(), free_port(), folder, environment)
    with ExitStack() as stack:
        process = _start(standin, place)
        stack.callback(_end, process)
        _wait(standin, place, process)
        if standin.prepare is not None:
            standin.prepare(place)
        yield standin.settings(place)


def _start(standin: Standin, place: Place) -> subprocess.Popen[bytes]:
    command = [str(place.environment / "bin" / "python"), str(standin.server), *standin.arguments(place)]
    # Nothing of the user's: settings of clients and of Python, extensions and proxies stay out.
    environment = {
        "PATH": os.environ["PATH"],
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        "HOME": str(place.folder / "home"),
        "TMPDIR": str(place.folder / "tmp"),
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        **standin.variables(),
    }
    with (place.folder / LOG).open("ab") as log:
        return subprocess.Popen(
            command,
            cwd=place.folder,
            env=environment,
            # Closed when this process ends, however it ends: the servers watch it and end too.
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            # A group of its own, so that its children end with it and Ctrl-C here is ours to handle.
            start_new_session=True,
        )


def _wait(standin: Standin, place: Place, process: subprocess.Popen[bytes]) -> None:
    url = f"http://127.0.0.1:{place.port}{standin.healthy}"
    # The loopback is reached directly, whatever proxy the user's environment names.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    end = time.monotonic() + standin.seconds
    while time.monotonic() < end:
        if process.poll() is not None:
            raise RuntimeError(f"The {standin.name} stand-in ended with {process.returncode}. {_tail(place)}")
        with suppress(urllib.error.URLError, OSError), opener.open(url, timeout=5) as answer:
            if answer.status == 200:
                return
        time.sleep(0.1)
    raise RuntimeError(f"The {standin.name} stand-in is not healthy after {standin.seconds} seconds. {_tail(place)}")


def _tail(place: Place) -> str:
    path = place.folder / LOG
    return f"The end of its log, {path}:\n{path.read_text(errors='replace')[-3000:]}"


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends the server and every child that it started."""
    _signal(process, signal.SIGTERM)
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        pass
    finally:
        # What is left of its group, such as a Java machine that outlived its parent.
        _signal(process, signal.SIGKILL)
        process.wait()
        if process.stdin is not None:
            process.stdin.close()


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)

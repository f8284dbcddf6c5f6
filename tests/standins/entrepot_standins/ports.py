"""Ports for servers that cannot look for one themselves, or have to come back to theirs after they were killed."""

from __future__ import annotations

import fcntl
import os
import random
import socket
import tempfile
from pathlib import Path
from typing import IO

HOST = "127.0.0.1"
NUMBERS = range(20_000, 32_000)
"""Below those that systems give to connections that go out, one of which might be given between two of a server's."""

_held: list[IO[str]] = []


def free_port() -> int:
    """A port of the loopback that nobody listens on, and that is given to no other test while this process lives.

    Raises:
        RuntimeError: if all are taken.
    """
    folder = Path(tempfile.gettempdir()) / f"entrepot-ports-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    for number in random.sample(NUMBERS, len(NUMBERS)):
        lock = (folder / str(number)).open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with socket.socket() as probe:
                probe.bind((HOST, number))
        except OSError:
            lock.close()
            continue
        _held.append(lock)  # its lock ends with this process, however that ends
        return number
    raise RuntimeError(f"no port from {NUMBERS.start} to {NUMBERS.stop} is free")

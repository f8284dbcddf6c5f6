"""Functions for processes of their own."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import psutil

from entrepot.activities.runtime.isolation.call import Call


def hang(call: Call, mark: str) -> None:
    """Says who it is, and never ends."""
    Path(mark).write_text(str(os.getpid()))
    while True:
        time.sleep(60)


def drawn(call: Call) -> float:
    """A random number."""
    return float(np.random.rand())


def nice(call: Call) -> int:
    """How far it lets others go first."""
    return os.nice(0)


def merged(call: Call) -> int:
    """Reads its feeds by turns, and gives what it has read."""
    readers = [call.feed(name) for name in call.asked.feeds]
    rows = 0
    while readers:
        for reader in list(readers):
            try:
                batch = reader.read_next_batch()
            except StopIteration:
                readers.remove(reader)
                continue
            rows += batch.num_rows
            call.give(batch)
    return rows


def eat(call: Call) -> None:
    """Takes memory until it is stopped."""
    eaten = []
    while len(eaten) < 300:  # a machine of any size survives a test that fails
        eaten.append(bytearray(os.urandom(1 << 20) * 16))
        call.report({"eaten": len(eaten)})


def logged(call: Call) -> None:
    """Logs, and something that cannot travel with it."""
    logging.getLogger("entrepot.calls").info("three of %s", Unsendable())


class Unsendable:
    """It holds what no other process can have."""

    def __init__(self) -> None:
        self.lock = threading.Lock()

    def __str__(self) -> str:
        return "3"


def kept(call: Call) -> str:
    """A file that it leaves."""
    with tempfile.NamedTemporaryFile(delete=False) as file:
        return file.name


def kill_servers(call: Call) -> None:
    """Kills what it was forked from, up to the worker."""
    for process in psutil.Process().parents():
        if "fork_server" in " ".join(process.cmdline()):
            process.kill()
    time.sleep(60)


def typed(call: Call) -> str:
    """What somebody has typed."""
    return sys.stdin.read()


def named(call: Call) -> str:
    """The name that the module of its step has."""
    return str(call.step.function.__globals__["NAME"])

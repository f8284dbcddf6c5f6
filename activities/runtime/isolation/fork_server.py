"""A process that has imported what is heavy, and forks one process for each call of user code.

Not `multiprocessing`'s own: that one imports the worker's `__main__` again in each process, and cannot tell how much
memory a process had that has ended. A fork server may be forked itself: of each version of a pipeline there is one that
has imported it, so that a call begins with a process that is as if new, and that costs milliseconds.

Over its control socket it is told `_COMMAND`s; with `FORK` comes the call's own socket. It answers with an `_EXIT` for
each process that has ended. When the socket is closed, because its worker has ended in whatever way, it kills what it
has forked, and ends.

What a call has started ends with it, on Linux also what has left its group: a call adopts what loses its parent, and
once it has ended, its server does, and kills it.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import os
import selectors
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable, Set
from pathlib import Path

COMMAND = struct.Struct("<cq")
"""What to do, and the number of the call."""
FORK, KILL = b"F", b"K"
EXIT = struct.Struct("<qqq")
"""The number of the call, the status that `wait` gives, and the most memory that it had, in KB."""

_KILL_ME_WITH_MY_PARENT = 1
"""PR_SET_PDEATHSIG of Linux's `prctl`."""
_ADOPT_ORPHANS = 36
"""PR_SET_CHILD_SUBREAPER."""


def serve(control: socket.socket, run: Callable[[int], None], patience: float = 0.0) -> None:
    """Serves until the control socket is closed. Never returns.

    Args:
        run: What each process does, with the file descriptor of its call's socket.
        patience: Seconds in which other servers that it has forked may end first, with what they have forked.
    """
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)  # or else there is nothing to be woken by
    for each in (signal.SIGINT, signal.SIGTERM):  # are for the worker, which ends us
        signal.signal(each, signal.SIG_IGN)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    forked: dict[int, int] = {}
    imported = _children()  # what the pipeline's module itself has started
    _prctl(_ADOPT_ORPHANS, 1)
    selector = selectors.DefaultSelector()
    selector.register(control, selectors.EVENT_READ)
    selector.register(woken, selectors.EVENT_READ)
    gc.collect()
    gc.freeze()  # what is there is shared with what is forked, as long as nobody walks through it
    while True:
        for key, _ in selector.select():
            if key.fileobj is control:
                received, descriptors = _received(control)
                if not received:
                    time.sleep(patience)
                    _end(forked)
                command, number = COMMAND.unpack(received)
                if command == KILL and number in forked:
                    _kill(forked[number])
                elif command == FORK:
                    forked[number] = _fork(descriptors[0], (control.fileno(), woken, wake), run)
                    os.close(descriptors[0])
            else:
                os.read(woken, 4_096)
                _reap(control, forked, imported)


def _received(control: socket.socket) -> tuple[bytes, list[int]]:
    """A command, and what comes with it; nothing, if the worker is gone."""
    try:
        received, descriptors, _, _ = socket.recv_fds(control, COMMAND.size, 1)
    except OSError:
        return b"", []
    return received, descriptors


def _fork(call: int, not_its: tuple[int, ...], run: Callable[[int], None]) -> int:
    parent = os.getpid()
    if pid := os.fork():
        return pid
    code = 1
    try:
        os.setpgid(0, 0)  # so that what it starts itself can be killed with it
        signal.set_wakeup_fd(-1)
        for each in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM):
            signal.signal(each, signal.SIG_DFL)
        for descriptor in not_its:
            os.close(descriptor)
        if sys.platform == "linux":
            _prctl(_KILL_ME_WITH_MY_PARENT, signal.SIGKILL)
            _prctl(_ADOPT_ORPHANS, 1)
            if os.getppid() != parent:
                os._exit(1)
            with open("/proc/self/oom_score_adj", "w") as file:
                file.write("500")  # where memory runs out, this goes before the worker
        run(call)
        code = 0
    finally:
        os._exit(code)


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value)


def _children() -> set[int]:
    """The processes whose parent this one is; none, where the system does not tell."""
    found: set[int] = set()
    for thread in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):  # the thread has ended
            found |= set(map(int, thread.read_text().split()))
    return found


def _reap(control: socket.socket, forked: dict[int, int], imported: Set[int]) -> None:
    """Tells of all that have ended."""
    numbers = {pid: number for number, pid in forked.items()}
    while forked and (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)):
        _kill(ended.si_pid)  # what it has left running; its number is nobody else's before it is waited for
        pid, status, used = os.wait4(ended.si_pid, 0)
        if pid not in numbers:
            continue
        _kill_children({*forked.values(), *imported})  # what had left its group, and is adopted now
        del forked[numbers[pid]]
        peak = used.ru_maxrss if sys.platform == "linux" else used.ru_maxrss // 1024
        try:
            control.sendall(EXIT.pack(numbers[pid], status, peak))
        except OSError:
            _end(forked)


def _kill(pid: int) -> None:
    """Kills a process and those that it has started."""
    for kill in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError, PermissionError):  # it had no time yet to have a group
            kill(pid, signal.SIGKILL)


def _kill_children(but: Set[int]) -> None:
    """Kills the children of this process, and then theirs, which are its own once they have lost their parent."""
    while others := _children() - but:
        for pid in others:
            _kill(pid)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)


def _end(forked: dict[int, int]) -> None:
    for pid in forked.values():
        _kill(pid)
    _kill_children(frozenset())
    os._exit(0)


PATIENCE = 1.0
"""Of the first server."""


def main(descriptor: int, prepare: str) -> None:
    """The first fork server, which is told by name what to do before it serves."""
    from entrepot.activities.runtime.isolation.call import run
    from entrepot.secrets import scrub_output

    scrub_output()  # of all that are forked, and before a library's logger has its stream
    module, _, function = prepare.partition(":")
    getattr(importlib.import_module(module), function)()
    serve(socket.socket(fileno=descriptor), run, PATIENCE)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])

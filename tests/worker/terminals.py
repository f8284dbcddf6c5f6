"""Commands at a terminal: a pseudo-terminal of so many columns, whose output is read to its end."""

from __future__ import annotations

import fcntl
import os
import re
import struct
import subprocess
import termios
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.cells import cell_len

_CONTROLS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def at_terminal(
    command: Sequence[str], environment: Mapping[str, str], folder: Path, *, columns: int = 80
) -> tuple[int, str]:
    """The exit code of a command, and all that it wrote to the terminal, as it wrote it."""
    ours, its = os.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    own = {name: value for name, value in environment.items() if name not in ("COLUMNS", "LINES")}
    own["TERM"] = "xterm-256color"
    with subprocess.Popen(command, stdin=its, stdout=its, stderr=its, env=own, cwd=folder) as process:
        os.close(its)
        said = b""
        try:
            while part := os.read(ours, 65536):
                said += part
        except OSError:  # as Linux says that nobody has the other end any more
            pass
        finally:
            os.close(ours)
    return process.returncode, said.decode().replace("\r\n", "\n")


def plain(said: str, *, columns: int = 80) -> str:
    """What stands on the terminal, without colours, after it was made sure that no line is too long for it."""
    text = _CONTROLS.sub("", said)
    assert max(map(cell_len, text.splitlines()), default=0) <= columns
    return text

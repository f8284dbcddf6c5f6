"""Functions for processes of their own."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from entrepot.activities.runtime.isolation.call import Call


def hang(call: Call, mark: str) -> None:
    """Says who it is, and never ends."""
    Path(mark).write_text(str(os.getpid()))
    while True:
        time.sleep(60)


def drawn(call: Call) -> float:
    """A random number."""
    return float(np.random.rand())


def merged(call: Call) -> int:
    """Reads its feeds by turns, and gives what it has read."""
    readers = [call.feed(name) for name in call.feeds]
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
    while True:
        eaten.append(bytearray(os.urandom(1 << 20) * 16))
        call.report({"eaten": len(eaten)})


def table(call: Call) -> pa.Table:
    """A table."""
    return pa.table({"a": [1]})

"""What a worker and a process of its own say to each other: any objects, and rows without a copy on their way."""

from __future__ import annotations

import pickle
import socket
import struct
from collections.abc import Iterator
from multiprocessing.connection import wait
from typing import Any

import pyarrow as pa

_COUNT = struct.Struct("<I")
_MOST_AT_ONCE = 1 << 30
"""Bytes that are asked of the system in one call."""


class Channel:
    """One end of a socket. A message is a pickle, and the buffers that it names, each written as it stands in memory.

    One thread may send while another receives, but not two of them the same.

    Args:
        descriptor: Of the socket, which is the channel's from now on.
    """

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=descriptor)

    def send(self, message: object) -> None:
        """Says something. Nothing is sent of what cannot be pickled.

        Raises:
            OSError: if nobody listens any more.
        """
        buffers: list[pickle.PickleBuffer] = []
        parts = [memoryview(pickle.dumps(message, protocol=5, buffer_callback=buffers.append))]
        parts += [buffer.raw() for buffer in buffers]
        sizes = (part.nbytes for part in parts)
        head = _COUNT.pack(len(parts)) + struct.pack(f"<{len(parts)}Q", *sizes)
        self._socket.sendall(head + parts[0])  # most messages are small, and are nothing more
        for part in parts[1:]:
            self._socket.sendall(part)

    def receive(self) -> Any:
        """What the other end says; waits for it.

        Raises:
            EOFError: if it has closed, or has ended.
        """
        (count,) = _COUNT.unpack(self._read(_COUNT.size))
        sizes = struct.unpack(f"<{count}Q", self._read(8 * count))
        data, *buffers = map(self._read, sizes)
        return pickle.loads(data, buffers=buffers)

    def poll(self, seconds: float) -> bool:
        """Whether the other end says something, or has closed, within this time."""
        return bool(wait([self._socket], seconds))

    def fileno(self) -> int:
        """The socket's descriptor."""
        return self._socket.fileno()

    def close(self) -> None:
        """Closes this end."""
        self._socket.close()

    def _read(self, size: int) -> pa.Buffer:
        # Arrow's own memory: it is not zeroed before, is aligned as Arrow wants it, and goes with the last of its rows.
        buffer = pa.allocate_buffer(size)
        view, read = memoryview(buffer), 0
        while read < size:
            received = self._socket.recv_into(view[read:], min(size - read, _MOST_AT_ONCE), socket.MSG_WAITALL)
            if not received:
                raise EOFError
            read += received
        return buffer


def to_buffer(rows: pa.RecordBatch | pa.Table) -> pa.Buffer:
    """Rows with their schema and dictionaries. Of a slice, only its own."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write(rows)
    return sink.getvalue()


def from_buffer(data: pa.Buffer) -> Iterator[pa.RecordBatch]:
    """What `to_buffer` has made; the rows stand in the buffer."""
    with pa.ipc.open_stream(data) as reader:
        yield from reader

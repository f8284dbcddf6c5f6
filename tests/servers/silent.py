"""A PostgreSQL that accepts the login, and then never answers; or not even that."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_SSL = 80877103
_WELCOME = b"R" + struct.pack("!ii", 8, 0) + b"Z" + struct.pack("!i", 5) + b"I"


@contextmanager
def running(*, welcomes: bool) -> Iterator[str]:
    """Its URL while the block runs."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        held: list[socket.socket] = []

        def serve() -> None:
            while True:
                try:
                    peer, _ = listening.accept()
                except OSError:
                    return
                held.append(peer)
                while welcomes and (start := peer.recv(1024)):
                    if struct.unpack("!i", start[4:8])[0] != _SSL:
                        peer.sendall(_WELCOME)
                        break
                    peer.sendall(b"N")

        threading.Thread(target=serve, daemon=True).start()
        try:
            yield f"postgresql://me:secret@127.0.0.1:{listening.getsockname()[1]}/shop"
        finally:
            for peer in held:
                peer.close()

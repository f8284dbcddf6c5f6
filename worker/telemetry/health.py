"""How others see whether a worker works: `/health`, `/ready` and `/metrics` over HTTP, and the activity `ping`.

- `/health`: the process lives, and its event loop, on which heartbeats depend, answers.
- `/ready`: besides, the Temporal server has seen this worker ask for work lately.
- `/metrics`: what Temporal's SDK and `metrics.py` count, as Prometheus reads it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from temporalio import activity
from temporalio.client import Client
from temporalio.service import RPCError

from entrepot.errors import BadInput, Unavailable
from entrepot.worker.client import TASK_QUEUE, pollers
from entrepot.worker.telemetry import metrics

HOST = "127.0.0.1"
SILENT_SECONDS = 150.0
"""A worker asks anew at least each minute; one that has not asked for this long does not work."""
_ANSWER_SECONDS = 5.0
_TYPES = {200: "OK", 404: "Not Found", 503: "Service Unavailable"}


@activity.defn(name="ping")
async def ping() -> str:
    """Done at once by a worker that works."""
    return "pong"


def parsed(address: str) -> tuple[str, int]:
    """`HOST:PORT`, or `PORT` of this machine alone.

    Raises:
        BadInput: for what is neither.
    """
    host, _, port = address.rpartition(":")
    if not port.isdecimal() or not 0 < int(port) < 65_536:
        raise BadInput(f"cannot read the address {address!r}; write HOST:PORT, or a PORT of {HOST}")
    return host or HOST, int(port)


@dataclass(frozen=True)
class _Endpoint:
    client: Client
    metrics_port: int
    task_queue: str

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request, and the end of the connection."""
        with contextlib.suppress(OSError, TimeoutError, ValueError, asyncio.IncompleteReadError):
            async with asyncio.timeout(2 * _ANSWER_SECONDS):
                request = (await reader.readline()).split()
                while (await reader.readline()).strip():
                    pass
                path = request[1].decode("latin-1").partition("?")[0] if len(request) > 1 else ""
                code, text = await self._page(path)
                body = text.encode()
                head = f"HTTP/1.1 {code} {_TYPES[code]}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"
                writer.write(f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body)
                await writer.drain()
        writer.close()

    async def _page(self, path: str) -> tuple[int, str]:
        match path:
            case "/health":
                return 200, "alive\n"
            case "/ready":
                wrong = await self._not_ready()
                return (503, f"{wrong}\n") if wrong else (200, "ready\n")
            case "/metrics":
                return 200, await _fetched(self.metrics_port) + metrics.memory()
        return 404, "there are /health, /ready and /metrics\n"

    async def _not_ready(self) -> str | None:
        """Why nobody should count on this worker now."""
        where = self.client.service_client.config.target_host
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                found = await pollers(self.client, self.task_queue)
        except (RPCError, RuntimeError, TimeoutError) as error:
            return f"the Temporal server at {where} does not answer: {error or 'it takes too long'}"
        own = [each.last_access_time.ToMilliseconds() / 1000 for each in found if each.identity == self.client.identity]
        if not own:
            return f"the Temporal server at {where} has not seen this worker ask for work"
        silent = time.time() - max(own)
        if silent > SILENT_SECONDS:
            return f"the Temporal server at {where} has not seen this worker ask for work for {silent:.0f} s"
        return None


async def _fetched(port: int) -> str:
    """What Temporal's SDK shows on a port of its own."""
    reader, writer = await asyncio.open_connection(HOST, port)
    writer.write(f"GET /metrics HTTP/1.0\r\nHost: {HOST}\r\n\r\n".encode())
    answer = (await reader.read()).decode()
    writer.close()
    return answer.partition("\r\n\r\n")[2]


@asynccontextmanager
async def listening(
    client: Client, address: str, metrics_port: int, task_queue: str = TASK_QUEUE
) -> AsyncIterator[None]:
    """Answers at an address while the block runs.

    Raises:
        Unavailable: if it cannot be had.
    """
    host, port = parsed(address)
    try:
        server = await asyncio.start_server(_Endpoint(client, metrics_port, task_queue).answer, host, port)
    except OSError as error:
        raise Unavailable(f"cannot listen at {host}:{port}: {error.strerror}; choose another with --listen") from error
    async with server:
        yield

"""A REST server as they are met outside: pages, rate limits, errors that go away, slow answers, tokens that expire."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

Fault = Literal["limit", "error", "slow"]


class Rest:
    """Serves rows under `/link` (pages by Link header) and `/cursor` (pages by a cursor in the JSON).

    Attributes:
        faults: What goes wrong, by the number of the request, counted from 1.
        uses: After how many requests a token is refused; None: nobody needs one. Tokens are got under `/token`.
        lifetime: The seconds of life that a token's answer promises.
        requests: Every answer's path and status.
        tokens: How many tokens were given out.
    """

    def __init__(
        self,
        rows: Sequence[Mapping[str, Any]],
        *,
        page: int = 100,
        faults: Mapping[int, Fault] | None = None,
        uses: int | None = None,
        lifetime: int = 3600,
    ) -> None:
        self.rows, self.page, self.faults, self.uses, self.lifetime = rows, page, faults or {}, uses, lifetime
        self.requests: list[tuple[str, int]] = []
        self.tokens = 0
        self.url = ""
        self._used = 0
        self._lock = threading.Lock()

    @contextmanager
    def running(self) -> Iterator[Rest]:
        """The server, listening on a loopback port of its own."""
        server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"rest": self}))
        self.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    def answer(self, method: str, target: str, token: str | None) -> tuple[int, dict[str, str], Any]:
        """Status, headers and body."""
        parts = urlsplit(target)
        asked = {name: values[0] for name, values in parse_qs(parts.query).items()}
        with self._lock:
            if method == "POST" and parts.path == "/token":
                self.tokens += 1
                self._used = 0
                return 200, {}, {"access_token": f"token-{self.tokens}", "expires_in": self.lifetime}
            fault = self.faults.get(len(self.requests) + 1)
            if fault == "limit":
                return 429, {"Retry-After": "1"}, {"message": "slow down"}
            if fault == "error":
                return 500, {}, {"message": "try again"}
            if self.uses is not None:
                self._used += 1
                if token != f"Bearer token-{self.tokens}" or self._used > self.uses:
                    return 401, {}, {"message": "expired"}
        if fault == "slow":
            time.sleep(0.5)
        start = int(asked.get("after") or asked.get("page") or 0)
        rows, end = list(self.rows[start : start + self.page]), start + self.page
        more = end < len(self.rows)
        if parts.path == "/link":
            return 200, {"Link": f'<{self.url}/link?page={end}>; rel="next"'} if more else {}, rows
        return 200, {}, {"items": rows, "next": str(end) if more else None}


class _Handler(BaseHTTPRequestHandler):
    rest: Rest
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._reply()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self._reply()

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _reply(self) -> None:
        status, headers, body = self.rest.answer(self.command, self.path, self.headers.get("Authorization"))
        self.rest.requests.append((self.path, status))
        data = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {**headers, "Content-Type": "application/json", "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

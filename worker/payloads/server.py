"""A codec server: decrypts payloads for people, in the Web UI and the `temporal` CLI, and encrypts what they type.

It is asked by browsers and the CLI alone, with a few payloads at a time, so the standard library's server is enough. It
gives plain text to whoever may ask it: by default that is this machine, and pages of the Web UI alone.
"""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from google.protobuf import json_format
from temporalio.api.common.v1 import Payloads

from entrepot.errors import BadInput, EntrepotError, Unavailable
from entrepot.secrets import Secret
from entrepot.worker.payloads.codec import Codec

_MOST_BYTES = 16 << 20
"""Of a request: Temporal's own limit is 4 MB, and JSON has them in base64."""


class CodecServer(ThreadingHTTPServer):
    """Answers to `POST /encode` and `POST /decode`.

    Args:
        origin: The Web UI's, as browsers tell it: `http://127.0.0.1:8233`. Pages of others get nothing.
        token: What a request must have as `Authorization: Bearer`, if anything.

    Raises:
        Unavailable: if the port is taken, or the address is not this machine's.
    """

    daemon_threads = True

    def __init__(self, ip: str, port: int, origin: str, token: Secret | None = None) -> None:
        self.origin = origin.rstrip("/")
        self.token = token
        if token is not None:
            token.read()  # one that is missing is said at the start
        try:
            super().__init__((ip, port), _Handler)
        except OSError as error:
            raise Unavailable(f"the codec server cannot listen on {ip}:{port}: {error.strerror}") from None

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://{self.server_address[0]!s}:{self.server_port}"

    def allows(self, authorization: str) -> bool:
        """Whether who sends such a header may ask."""
        if self.token is None:
            return True
        return hmac.compare_digest(authorization.encode(), f"Bearer {self.token.read()}".encode())

    @contextmanager
    def serving(self) -> Iterator[str]:
        """Its address, while it serves in a thread of its own."""
        thread = Thread(target=self.serve_forever, name="codec-server", daemon=True)
        thread.start()
        try:
            yield self.url
        finally:
            self.shutdown()
            self.server_close()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: CodecServer
    protocol_version = "HTTP/1.1"
    timeout = 30
    """Seconds after which a silent connection is closed."""

    def do_OPTIONS(self) -> None:
        self._answer(HTTPStatus.NO_CONTENT if self._is_from_ui() else HTTPStatus.FORBIDDEN)

    def do_POST(self) -> None:
        size = self.headers.get("Content-Length", "")
        if not size.isdigit() or int(size) > _MOST_BYTES:
            self.close_connection = True
            self._answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, {"message": f"a request has up to {_MOST_BYTES} bytes"})
            return
        body = self.rfile.read(int(size))
        if not self._is_from_ui():
            self._answer(HTTPStatus.FORBIDDEN, {"message": f"pages of {self.server.origin} alone may ask"})
        elif not self.server.allows(self.headers.get("Authorization", "")):
            self._answer(HTTPStatus.UNAUTHORIZED, {"message": "the token is missing or wrong"})
        elif self.path not in ("/encode", "/decode"):
            self._answer(HTTPStatus.NOT_FOUND, {"message": f"unknown path {self.path!r}. Known: '/decode', '/encode'"})
        else:
            self._code(body)

    def _is_from_ui(self) -> bool:
        """Whether no page asks, as the CLI does, or one of the Web UI: any page may send requests to this machine."""
        return self.headers.get("Origin", self.server.origin).rstrip("/") == self.server.origin

    def _code(self, body: bytes) -> None:
        codec = Codec()
        try:
            payloads = _parsed(body).payloads
            made = asyncio.run(codec.encode(payloads) if self.path == "/encode" else codec.decode(payloads))
        except EntrepotError as error:
            self._answer(HTTPStatus.BAD_REQUEST, {"message": str(error)})
            return
        self._answer(HTTPStatus.OK, json_format.MessageToDict(Payloads(payloads=made)))

    def _answer(self, status: HTTPStatus, content: object = None) -> None:
        data = b"" if content is None else json.dumps(content).encode()
        self.send_response(status)
        if self.headers.get("Origin") and self._is_from_ui():
            self.send_header("Access-Control-Allow-Origin", self.server.origin)
            self.send_header("Access-Control-Allow-Methods", "POST, OPTIONS")
            self.send_header("Access-Control-Allow-Headers", "Authorization, Content-Type, X-Namespace")
            self.send_header("Access-Control-Allow-Credentials", "true")
            self.send_header("Vary", "Origin")
        if content is not None:
            self.send_header("Content-Type", "application/json")
        if status != HTTPStatus.NO_CONTENT:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: who reads which payload is the Web UI's to log."""


def _parsed(body: bytes) -> Payloads:
    try:
        return json_format.Parse(body, Payloads())
    except (json_format.ParseError, UnicodeDecodeError) as error:
        raise BadInput(f"the request is no JSON of payloads: {error}") from None

"""A Databricks SQL warehouse on this machine: its protocol, in front of Spark with Iceberg tables.

    server.py --port 15000 --folder DATA --jars JARS [--host 127.0.0.1] [--token x]

GET /health answers 200 as soon as statements can be run; control.py says what a test can ask for. It stands in for
the warehouse's protocol, errors and most of its SQL. It is not Delta, and has neither Unity Catalog's permissions nor
Databricks' optimiser.
"""

from __future__ import annotations

import argparse
import hmac
import json
import os
import shutil
import stat
import sys
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import volumes
from control import Control
from databricks.sql.thrift_api.TCLIService import TCLIService
from engine import Engine
from protocol import Protocol
from thrift.protocol.TBinaryProtocol import TBinaryProtocol
from thrift.transport.TTransport import TMemoryBuffer

REASON = "x-databricks-reason-phrase"  # the header in which the client looks for the text of an error


class Server(ThreadingHTTPServer):
    """Serves each connection in a thread of its own."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, host: str, port: int, token: str, engine: Engine) -> None:
        super().__init__((host, port), Handler)
        self.token = token
        self.volumes = engine.volumes
        self.control = Control()
        base = f"http://{host}:{self.server_port}"
        self.processor = TCLIService.Processor(Protocol(engine, self.control, base))


class Handler(BaseHTTPRequestHandler):
    """One request over HTTP: a call of the protocol, a file of a volume, or a word of a test."""

    server: Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # header and body go out together

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path == "/control":
            self._control(body)
        elif not self.path.startswith("/sql/"):
            self._answer(404)
        elif self._admitted() and self._available(body):
            self._answer(200, self._call(body), {"Content-Type": "application/x-thrift"})

    def do_GET(self) -> None:
        if self.path == "/health":
            self._json(200, {"status": "ok"})
        elif self.path == "/control":
            self._json(200, {"statements": self.server.control.statements()})
        elif (path := self._file()) is not None:
            self._answer(200, path.read_bytes()) if path.is_file() else self._answer(404)

    def do_PUT(self) -> None:
        if (path := self._file()) is None:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.part")  # a reader never sees half a file
        with part.open("wb") as file:
            self._copy(file)
        part.replace(path)
        self._answer(201)

    def do_DELETE(self) -> None:
        if (path := self._file()) is None:
            return
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        self._answer(204)

    def log_message(self, *_: Any) -> None:
        """The log is for what goes wrong, not for each request."""

    def _copy(self, file: Any) -> None:
        left = int(self.headers.get("Content-Length") or 0)
        while left and (data := self.rfile.read(min(left, 1 << 20))):
            file.write(data)
            left -= len(data)

    def _admitted(self) -> bool:
        """Whether the token is the right one; else it is refused as Databricks does."""
        given = self.headers.get("Authorization")
        if given is None:
            self._answer(401, headers={REASON: "Credential was not sent or was of an unsupported type for this API."})
            return False
        right = hmac.compare_digest(given.encode(), f"Bearer {self.server.token}".encode())
        if right and not self.server.control.failing("expired"):
            return True
        self._answer(403, headers={REASON: "Invalid access token."})
        return False

    def _available(self, body: bytes) -> bool:
        """Whether a statement may come now; else the client is told to come again."""
        if b"ExecuteStatement" not in body[:64]:
            return True
        failure = self.server.control.failing("unavailable", body.decode(errors="replace"))
        if failure is None:
            return True
        text = "TEMPORARILY_UNAVAILABLE: The warehouse is stopped or starting."
        self._answer(503, headers={"Retry-After": str(failure.seconds), REASON: text})
        return False

    def _call(self, body: bytes) -> bytes:
        # No limit of lengths: rows that a client inserts may be long, and it is no stranger.
        limits = {"string_length_limit": None, "container_length_limit": None}
        out = TMemoryBuffer()
        self.server.processor.process(TBinaryProtocol(TMemoryBuffer(body), **limits), TBinaryProtocol(out))
        return out.getvalue()

    def _control(self, body: bytes) -> None:
        try:
            self.server.control.tell(json.loads(body or b"{}"))
        except ValueError as error:
            self._json(400, {"error": str(error)})
        else:
            self._json(200, {"status": "ok"})

    def _file(self) -> Path | None:
        """The file that the address means; else the request is refused."""
        path = volumes.file_of(self.server.volumes, self.path)
        if path is None:
            self._answer(403)
        return path

    def _json(self, code: int, value: Any) -> None:
        self._answer(code, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _answer(self, code: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> None:
        self.send_response(code)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def end_with_parent() -> None:
    """Ends this process when the pipe that it reads from closes, as it does when the process that started it ends."""
    if not stat.S_ISFIFO(os.fstat(sys.stdin.fileno()).st_mode):
        return

    def watch() -> None:
        sys.stdin.buffer.read()
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()


def main() -> None:
    """Serves until it is ended."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True, help="for tables and volumes, which are kept")
    parser.add_argument("--jars", type=Path, required=True, help="where install.py put them")
    parser.add_argument("--token", default="x", help="the access token that is accepted")
    options = parser.parse_args()
    end_with_parent()
    engine = Engine(options.folder.resolve(), options.jars.resolve())
    Server(options.host, options.port, options.token, engine).serve_forever()


if __name__ == "__main__":
    main()

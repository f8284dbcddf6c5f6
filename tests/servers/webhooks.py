"""Servers that hooks are told by: of HTTP and of SMTP, on this machine, with what they were sent."""

from __future__ import annotations

import json
import socketserver
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast


@dataclass
class Received:
    """One request."""

    headers: dict[str, str]
    content: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.content)


@dataclass
class Webhooks:
    """What a server was sent, and what it answers: each answer once, and the last for ever."""

    url: str = ""
    answers: list[int] = field(default_factory=lambda: [200])
    requests: list[Received] = field(default_factory=list)
    says: str = ""


@contextmanager
def http_server() -> Iterator[Webhooks]:
    its = Webhooks()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            its.requests.append(Received({k.lower(): v for k, v in self.headers.items()}, content))
            status = its.answers.pop(0) if len(its.answers) > 1 else its.answers[0]
            self.send_response(status)
            if 300 <= status < 400:
                self.send_header("Location", f"{its.url}/elsewhere")
            self.send_header("Content-Length", str(len(its.says)))
            self.end_headers()
            self.wfile.write(its.says.encode())

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    its.url = f"http://127.0.0.1:{server.server_port}"
    with _serving(server):
        yield its


@dataclass
class Mailboxes:
    """What a mail server took, and what it refuses."""

    port: int = 0
    messages: list[EmailMessage] = field(default_factory=list)
    logins: int = 0
    busy: int = 0
    """So many connections it refuses for now."""
    unknown: set[str] = field(default_factory=set)


@contextmanager
def smtp_server(tls: ssl.SSLContext | None = None) -> Iterator[Mailboxes]:
    """With a context it offers STARTTLS, and takes nothing without."""
    its = Mailboxes()

    class Handler(socketserver.StreamRequestHandler):
        def say(self, text: str) -> None:
            self.wfile.write(f"{text}\r\n".encode())
            self.wfile.flush()

        def handle(self) -> None:
            if its.busy:
                its.busy -= 1
                self.say("421 too busy, come back")
                return
            self.say("220 here")
            is_secure = tls is None
            while line := self.rfile.readline().decode().strip():
                word = line.partition(" ")[0].upper()
                if word == "EHLO":
                    self.say("250-here")
                    self.say("250 AUTH PLAIN" if is_secure else "250 STARTTLS")
                elif word == "STARTTLS" and tls is not None:
                    self.say("220 go on")
                    try:
                        secured = tls.wrap_socket(self.request, server_side=True)
                    except (ssl.SSLError, OSError):
                        return
                    self.rfile, self.wfile = secured.makefile("rb"), cast("Any", secured.makefile("wb"))
                    is_secure = True
                elif not is_secure:
                    self.say("530 STARTTLS first")
                elif word == "AUTH":
                    its.logins += 1
                    self.say("235 welcome")
                elif word == "RCPT" and any(name in line for name in its.unknown):
                    self.say("550 nobody of that name")
                elif word == "DATA":
                    self.say("354 go on")
                    content = b""
                    while (data := self.rfile.readline()) != b".\r\n":
                        content += data
                    its.messages.append(cast("EmailMessage", message_from_bytes(content, policy=policy.default)))
                    self.say("250 taken")
                else:
                    self.say("221 bye" if word == "QUIT" else "250 fine")

    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    its.port = server.server_address[1]
    with _serving(server):
        yield its


@contextmanager
def _serving(server: socketserver.BaseServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

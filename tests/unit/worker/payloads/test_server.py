"""The codec server gives plain text to the Web UI and the CLI, and to no page of anybody else's."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator

import pytest
from google.protobuf import json_format
from temporalio.api.common.v1 import Payload, Payloads

from entrepot.errors import Unavailable
from entrepot.secrets import Secret
from entrepot.worker.payloads.codec import Codec
from entrepot.worker.payloads.server import CodecServer

UI = "http://127.0.0.1:8233"
PLAIN = Payload(metadata={"encoding": b"json/plain"}, data=b'{"tenant": "acme"}')


@pytest.fixture
def server() -> Iterator[CodecServer]:
    made = CodecServer("127.0.0.1", 0, f"{UI}/")
    with made.serving():
        yield made


def ask(
    server: CodecServer, path: str, body: bytes = b"{}", method: str = "POST", **headers: str
) -> tuple[int, dict[str, object], dict[str, str]]:
    """The status, the JSON and the headers of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=30)
    connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    answer = connection.getresponse()
    read = answer.read()
    connection.close()
    return answer.status, json.loads(read) if read else {}, dict(answer.getheaders())


def as_json(*payloads: Payload) -> bytes:
    return json_format.MessageToJson(Payloads(payloads=payloads)).encode()


async def test_it_decrypts_and_encrypts_in_the_order_asked(server: CodecServer) -> None:
    encrypted = await Codec().encode([PLAIN])
    status, found, _ = ask(server, "/decode", as_json(PLAIN, *encrypted), X_Namespace="default")
    assert (status, json_format.ParseDict(found, Payloads())) == (200, Payloads(payloads=[PLAIN, PLAIN]))
    status, found, _ = ask(server, "/encode", as_json(PLAIN))
    assert status == 200
    assert await Codec().decode(json_format.ParseDict(found, Payloads()).payloads) == [PLAIN]


def test_pages_of_the_web_ui_may_ask_and_others_may_not(server: CodecServer) -> None:
    for method in ("OPTIONS", "POST"):
        status, _, headers = ask(server, "/decode", method=method, Origin=UI)
        assert status in (200, 204)
        assert headers["Access-Control-Allow-Origin"] == UI
        assert "Authorization" in headers["Access-Control-Allow-Headers"]
        for origin in ("https://evil.example", "null", "http://127.0.0.1:8234"):
            status, _, headers = ask(server, "/decode", method=method, Origin=origin)
            assert status == 403
            assert "Access-Control-Allow-Origin" not in headers


def test_what_is_no_payload_or_path_is_a_sentence(server: CodecServer) -> None:
    assert ask(server, "/decode", b"no json")[0] == 400
    assert ask(server, "/decode", b"\xff")[0] == 400
    status, said, _ = ask(server, "/decod")
    assert (status, said["message"]) == (404, "unknown path '/decod'. Known: '/decode', '/encode'")
    status, said, _ = ask(server, "/decode", method="POST", Content_Length="99999999999")
    assert status == 413
    unknown = Payload(metadata={"encoding": b"binary/encrypted", "encryption-key-id": b"x"}, data=b"0" * 40)
    status, said, _ = ask(server, "/decode", as_json(unknown))
    assert (status, said["message"]) == (400, "the payload was encrypted with the key 'x'; known here: 'tests'")


def test_where_there_is_a_token_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODEC_TOKEN", "geheim")
    server = CodecServer("127.0.0.1", 0, UI, Secret("env:CODEC_TOKEN", "--token"))
    with server.serving():
        assert ask(server, "/decode")[0] == 401
        assert ask(server, "/decode", Authorization="Bearer other")[0] == 401
        assert ask(server, "/decode", Authorization="Bearer geheim")[0] == 200
        assert ask(server, "/decode", method="OPTIONS", Origin=UI)[0] == 204  # browsers ask that without it


def test_a_port_that_is_taken_is_a_sentence(server: CodecServer) -> None:
    with pytest.raises(Unavailable, match=f"cannot listen on 127.0.0.1:{server.server_port}: Address already in use"):
        CodecServer("127.0.0.1", server.server_port, UI)

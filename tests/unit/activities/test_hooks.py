"""What a webhook and a mailbox are sent, and how their servers' answers are understood."""

from __future__ import annotations

import datetime
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from entrepot.activities.runtime import hooks
from entrepot.activities.runtime.tenant import Smtp
from entrepot.errors import BadInput, Unavailable
from entrepot.protocol.hooks import Body, EmailHook, RunEvent, WebhookHook
from tests.servers.webhooks import http_server, smtp_server


def event(text: str = "flights for acme in prod failed: no disk", **more: str) -> RunEvent:
    whose = {"event": "failed", "tenant": "acme", "pipeline": "flights", "environment": "prod", "run": "r1"}
    its = {"workflow_id": "acme/flights", "at": "2026-11-20T06:30:00", "text": text}
    return RunEvent.model_validate({**whose, **its, **more})


def test_the_signature_is_that_of_standard_webhooks() -> None:
    """The example of the specification."""
    key = hooks.signing_key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    signed = hooks.signature(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert hooks.signing_key("plain") == b"plain"
    with pytest.raises(BadInput, match="must be base64"):
        hooks.signing_key("whsec_***")


@pytest.mark.parametrize("form", ["event", "slack", "teams"])
def test_every_body_says_what_has_happened(form: Body) -> None:
    assert "no disk" in str(hooks.body(WebhookHook(webhook="https://x", body=form), event()))


@pytest.mark.parametrize(
    ("status", "raised"),
    [
        *((200, None), (204, None)),
        *((302, BadInput), (400, BadInput), (410, BadInput)),
        *((408, Unavailable), (429, Unavailable), (500, Unavailable), (503, Unavailable)),
    ],
)
def test_what_is_tried_again(status: int, raised: type[Exception] | None) -> None:
    with http_server() as server:
        server.answers = [status]
        hook = WebhookHook(webhook=f"{server.url}/path-nobody-may-know")
        if raised is None:
            assert hooks._post(hook, event()).endswith(f"answered {status}")
        else:
            with pytest.raises(raised, match=f"answered {status}") as caught:
                hooks._post(hook, event())
            assert "path-nobody" not in str(caught.value)
        assert len(server.requests) == 1  # a redirect is not followed


def test_a_server_that_is_away_is_tried_again() -> None:
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1 cannot be reached: .*refused"):
        hooks._post(WebhookHook(webhook="http://127.0.0.1:1/secret"), event())


@pytest.mark.parametrize("url", ["", "acme", "file:///etc/passwd", "https://", "http://a b/", "http://[", "http://é.x"])
def test_a_secret_that_is_no_url_is_not_told(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHERE", url)
    with pytest.raises(BadInput) as caught:
        hooks._post(WebhookHook(webhook="env:WHERE"), event())
    assert str(caught.value) == "webhook: what stands there is no URL such as https://host/path"


def test_a_secret_that_is_not_there_is_named() -> None:
    with pytest.raises(BadInput, match="the environment variable NOWHERE_TO_BE_FOUND is not set"):
        hooks._post(WebhookHook(webhook="env:NOWHERE_TO_BE_FOUND"), event())


@pytest.mark.parametrize("text", ["a\r\nBcc: x@y", "", "\ud800", "x" * 5000, "é" * 300, "\n\n"])
def test_any_text_makes_a_message(text: str) -> None:
    made = hooks.message(Smtp("m", "data@acme.example"), EmailHook(email=("a@b", "c@d")), event(text))
    assert made["Bcc"] is None
    assert made["To"] == "a@b, c@d"
    assert made["Message-ID"] == "<r1-failed@acme.example>"
    assert bytes(made)


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """For 127.0.0.1, of nobody whom anybody trusts."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "both.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return path


@pytest.fixture
def context(certificate: Path) -> ssl.SSLContext:
    its = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    its.load_cert_chain(certificate)
    return its


def test_email_goes_by_tls_to_whom_it_trusts(
    certificate: Path, context: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAIL_PASSWORD", "correct horse battery")
    with smtp_server(context) as server:
        smtp = Smtp("localhost", "data@acme.example", server.port, user="data", password="env:MAIL_PASSWORD")
        with pytest.raises(Unavailable, match="certificate verify failed"):
            hooks._send(smtp, EmailHook(email=("a@b",)), event())
        assert (server.logins, server.messages) == (0, [])
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert hooks._send(smtp, EmailHook(email=("a@b",)), event()) == "localhost took it for 1 of 1"
        assert server.logins == 1
        assert "no disk" in server.messages[0].get_content()
        server.unknown = {"a@b"}
        with pytest.raises(BadInput, match="550 nobody of that name; it is not tried again"):
            hooks._send(smtp, EmailHook(email=("a@b",)), event())
        server.busy = 1
        with pytest.raises(Unavailable, match="421 too busy"):
            hooks._send(smtp, EmailHook(email=("a@b",)), event())


def test_a_mail_server_without_tls_gets_nothing() -> None:
    with smtp_server() as server:
        smtp = Smtp("127.0.0.1", "data@acme.example", server.port)
        with pytest.raises(BadInput, match="STARTTLS"):
            hooks._send(smtp, EmailHook(email=("a@b",)), event())
        assert server.messages == []

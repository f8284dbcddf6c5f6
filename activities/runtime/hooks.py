"""Telling people and programs how a run ended, or of a broken promise: requests to their servers, and email.

A request or a message that is sent again carries the same key, so whoever gets it twice can tell. Nothing that is said
of a failure has a secret in it: of a webhook that is its whole URL, so its host is named alone.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import json
import smtplib
import ssl
import time
import urllib.error
import urllib.request
from email.message import EmailMessage
from typing import Any
from urllib.parse import urlsplit

from entrepot.activities.runtime.activity import Activities, implements
from entrepot.activities.runtime.context import ActivityContext
from entrepot.activities.runtime.tenant import Smtp
from entrepot.errors import BadInput, Unavailable
from entrepot.protocol import activities
from entrepot.protocol.hooks import EmailHook, Hooks, RunEvent, WebhookHook
from entrepot.protocol.messages import Delivered, Delivery, RunInput
from entrepot.secrets import REFERENCES, Secret, scrub

SECONDS = 10.0
"""How long a server may take for each of its answers."""
_AGAIN = frozenset({408, 425, 429})
"""What of a server's refusals passes."""
_SHOWN = 200
"""Characters of what a server says."""


class HooksActivities(Activities):
    """The activities `hooks` and `deliver`."""

    @implements(activities.HOOKS)
    def hooks(self, work: ActivityContext, request: RunInput) -> Hooks:
        """Who is told of a run that could not even be prepared."""
        return work.tenant.settings(request.pipeline).hooks_in(request.environment)

    @implements(activities.DELIVER)
    def deliver(self, work: ActivityContext, request: Delivery) -> Delivered:
        """Sends one request or message.

        Raises:
            Unavailable: if it may work later.
            BadInput: if it was refused.
        """
        if isinstance(request.hook, WebhookHook):
            return Delivered(note=_post(request.hook, request.event))
        if work.tenant.smtp is None:
            raise BadInput("email: the tenant file has no [smtp] section any more, which says how it is sent")
        return Delivered(note=_send(work.tenant.smtp, request.hook, request.event))


def body(hook: WebhookHook, event: RunEvent) -> dict[str, Any]:
    """What a webhook is sent: the event itself, or as chat programs want it."""
    match hook.body:
        case "event":
            return event.model_dump(mode="json")
        case "slack":
            return {"text": event.text}
        case "teams":
            card = {
                "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                "type": "AdaptiveCard",
                "version": "1.4",
                "body": [{"type": "TextBlock", "text": event.text, "wrap": True}],
            }
            return {
                "type": "message",
                "attachments": [{"contentType": "application/vnd.microsoft.card.adaptive", "content": card}],
            }


def signature(key: bytes, id: str, timestamp: int, content: bytes) -> str:
    """As the Standard Webhooks have it, for which there are libraries in every language."""
    signed = hmac.digest(key, f"{id}.{timestamp}.".encode() + content, hashlib.sha256)
    return f"v1,{base64.b64encode(signed).decode()}"


def signing_key(secret: str) -> bytes:
    """The key that a secret stands for: `whsec_` and its bytes in base64, or any other text.

    Raises:
        BadInput: if it is no base64 behind that.
    """
    if not secret.startswith("whsec_"):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except ValueError:
        raise BadInput("webhook: `secret` is no key: behind 'whsec_' it must be base64") from None


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect would send the event, and its signature, to somewhere that nobody has named."""

    def redirect_request(self, *arguments: Any) -> None:
        return None


def _post(hook: WebhookHook, event: RunEvent) -> str:
    url = _read(hook.webhook, "webhook")
    host = _host(url)
    content = json.dumps(body(hook, event)).encode()
    now = int(time.time())
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "entrepot",
        "Idempotency-Key": event.key,
        "webhook-id": event.key,
        "webhook-timestamp": str(now),
    }
    if hook.secret is not None:
        key = signing_key(_read(hook.secret, "webhook, `secret`"))
        headers["webhook-signature"] = signature(key, event.key, now, content)
    request = urllib.request.Request(url, content, headers, method="POST")
    try:
        with urllib.request.build_opener(_NoRedirects).open(request, timeout=SECONDS) as answer:
            return f"{host} answered {answer.status}"
    except urllib.error.HTTPError as error:
        with error:
            said = f"webhook: {host} answered {error.code} {_said(error)}".rstrip()
        if error.code >= 500 or error.code in _AGAIN:
            raise Unavailable(said) from None
        raise BadInput(f"{said}; what is refused is not tried again") from None
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise Unavailable(f"webhook: {host} cannot be reached: {reason}") from None


def _host(url: str) -> str:
    """Of a URL, what is no secret.

    Raises:
        BadInput: if it is none.
    """
    try:
        parts = urlsplit(url)
        where = f"{parts.hostname}:{parts.port}" if parts.port else parts.hostname
    except ValueError:
        where, parts = None, urlsplit("")
    if parts.scheme not in ("http", "https") or not where or not url.isascii() or any(c <= " " for c in url):
        raise BadInput("webhook: what stands there is no URL such as https://host/path")
    return where


def _said(error: urllib.error.HTTPError) -> str:
    """What a server says of its refusal, in one line."""
    try:
        text = error.read(4 * _SHOWN).decode(errors="replace")
    except (OSError, http.client.HTTPException):
        return ""
    line = " ".join("".join(c if c.isprintable() else " " for c in scrub(text)).split())
    return f"({line[:_SHOWN]})" if line else ""


def message(smtp: Smtp, hook: EmailHook, event: RunEvent) -> EmailMessage:
    """What is sent by email."""
    made = EmailMessage()
    made["Subject"] = " ".join(_text(event.text.splitlines()[0] if event.text else event.event).split())[:150]
    made["From"] = smtp.sender
    made["To"] = ", ".join(hook.email)
    made["Message-ID"] = f"<{event.key}@{smtp.sender.rpartition('@')[2].rstrip('>')}>"
    made["Auto-Submitted"] = "auto-generated"
    lines = [event.text, ""]
    lines += [f"warning: {each}" for each in event.warnings]
    lines += list(event.reasons)
    lines += [f"tables: {', '.join(event.tables)}"] if event.tables else []
    lines += [f"because: {event.why}"] if event.why else []
    lines += [f"workflow: {event.workflow_id}", f"run: {event.run}", f"at: {event.at} UTC"]
    made.set_content(_text("\n".join(lines)))
    return made


def _text(text: str) -> str:
    return text.encode(errors="replace").decode()


def _send(smtp: Smtp, hook: EmailHook, event: RunEvent) -> str:
    where = f"email: {smtp.host}:{smtp.port}"
    try:
        with _connected(smtp) as server:
            if smtp.user is not None:
                server.login(smtp.user, _read(smtp.password or "", "smtp.password"))
            refused = server.send_message(message(smtp, hook, event))
    except smtplib.SMTPRecipientsRefused as error:
        raise _refusal(where, next(iter(error.recipients.values()))) from None
    except smtplib.SMTPResponseException as error:
        raise _refusal(where, (error.smtp_code, error.smtp_error)) from None
    except smtplib.SMTPNotSupportedError as error:
        raise BadInput(f"{where} cannot do what is asked: {error}") from None
    except (OSError, smtplib.SMTPException) as error:
        raise Unavailable(f"{where} cannot be reached: {error}") from None
    sent = f"{smtp.host} took it for {len(hook.email) - len(refused)} of {len(hook.email)}"
    return f"{sent}; it refused {', '.join(sorted(refused))}" if refused else sent


def _connected(smtp: Smtp) -> smtplib.SMTP:
    context = ssl.create_default_context()
    if smtp.tls == "tls":
        return smtplib.SMTP_SSL(smtp.host, smtp.port, timeout=SECONDS, context=context)
    server = smtplib.SMTP(smtp.host, smtp.port, timeout=SECONDS)
    if smtp.tls == "starttls":
        try:
            server.starttls(context=context)
        except BaseException:
            server.close()
            raise
    return server


def _refusal(where: str, answer: tuple[int, bytes | str]) -> Exception:
    code, text = answer
    said = text.decode(errors="replace") if isinstance(text, bytes) else str(text)
    sentence = f"{where} answered {code} {' '.join(said.split())[:_SHOWN]}"
    return Unavailable(sentence) if 400 <= code < 500 else BadInput(f"{sentence}; it is not tried again")


def _read(given: str, where: str) -> str:
    return Secret(given, where).read().strip() if given.startswith(REFERENCES) else given

"""Hooks in the tenant file: what they may say, and what is said of what they may not."""

from __future__ import annotations

from pathlib import Path

import pytest

from entrepot.errors import BadInput
from entrepot.protocol.hooks import EmailHook, WebhookHook, WorkflowHook
from entrepot.worker.config import settings
from entrepot.worker.config.settings import Settings

TENANT = """
pipelines = { flights = "acme.flights:flights" }
SMTP
[tenants.acme]
backend = { type = "duckdb", path = "acme.duckdb" }
"""
SMTP = 'smtp = { host = "mail.acme.example", sender = "data@acme.example" }'


def load(folder: Path, text: str, smtp: str = "") -> Settings:
    (folder / "tenants.toml").write_text(TENANT.replace("SMTP", smtp) + text)
    return settings.load(str(folder / "tenants.toml"), str(folder / "state"))


def test_a_pipelines_hooks_go_before_its_tenants(tmp_path: Path) -> None:
    text = """
on_failure = { webhook = "env:SLACK", body = "slack" }
on_published = [{ workflow = "Notify", task_queue = "billing" }, { email = ["ops@acme.example"] }]
hooks_for = ["prod", "pr_*"]

[tenants.acme.settings.flights]
on_published = []
on_warned = { webhook = "https://hooks.acme.example/w", secret = "file:/run/key" }
on_late = { workflow = "Page", task_queue = "oncall" }
"""
    tenant = load(tmp_path, text, SMTP).connect().tenants["acme"]
    its = tenant.settings("flights")
    assert its.hooks == {
        "failed": (WebhookHook(webhook="env:SLACK", body="slack"),),
        "warned": (WebhookHook(webhook="https://hooks.acme.example/w", secret="file:/run/key"),),
        "late": (WorkflowHook(workflow="Page", task_queue="oncall"),),
    }
    assert its.hooks_in("pr_1") == its.hooks
    assert its.hooks_in("dev") == {}
    assert tenant.smtp is not None
    assert tenant.smtp.port == 587


def test_a_tenants_hooks_are_those_of_each_pipeline(tmp_path: Path) -> None:
    text = """
on_published = [{ workflow = "Notify", task_queue = "billing" }, { email = ["ops@acme.example"] }]
"""
    tenants = load(tmp_path, text, SMTP).connect()
    assert tenants.tenants["acme"].settings("flights").hooks == {
        "published": (
            WorkflowHook(workflow="Notify", task_queue="billing"),
            EmailHook(email=("ops@acme.example",)),
        )
    }


def test_code_has_not_the_secrets_of_hooks(tmp_path: Path) -> None:
    smtp = SMTP.replace(" }", ', user = "data", password = "env:SMTP_PASSWORD" }')
    text = 'on_failure = { webhook = "env:SLACK", secret = "env:KEY" }'
    tenants = load(tmp_path, text, smtp).connect()
    assert tenants.variables("acme").hidden >= {"SLACK", "KEY", "SMTP_PASSWORD"}
    assert not tenants.variables("acme").references


BAD = {
    'on_failure = { url = "https://x" }': "a hook has one of 'email', 'webhook', 'workflow', and this has none",
    'on_failure = { webhook = "https://x", email = ["a@b"] }': "and this has 'email', 'webhook'",
    'on_failure = { webhook = "https://x", task_queue = "q" }': "unknown setting of a hook with `webhook` 'task_queue'",
    'on_failure = { workflow = "Page" }': "needs `task_queue`",
    'on_failure = { webhook = "ftp://x/y" }': "must be a URL such as https://host/path",
    'on_failure = { webhook = "https://x:99999999/y" }': "must be a URL such as https://host/path",
    'on_failure = { webhook = "https://hooks.slack.com/services/T0/B0/abc" }': "can post to hooks.slack.com",
    'on_failure = { webhook = "https://x.logic.azure.com/workflows/1" }': "can post to x.logic.azure.com",
    'on_failure = { webhook = "https://acme.example/hook?key=1" }': "so it is a secret",
    'on_failure = { webhook = "https://me:pw@acme.example/hook" }': "has a password in it",
    'on_failure = { webhook = "https://acme.example", secret = "abc" }': "must be a reference such as 'env:NAME'",
    'on_failure = { webhook = "https://acme.example", body = "xml" }': "'event', 'slack' or 'teams'",
    "on_failure = { email = [] }": "at least 1",
    'on_failure = { email = ["ops"] }': "'ops' is no address",
    'on_failure = { email = ["ops@x\\r\\nBcc: b@c"] }': "is no address",
    'on_failure = "https://x"': "must be a list",
    'on_failed = { webhook = "https://x" }': "unknown setting 'on_failed'; did you mean 'on_failure'",
    'hooks_for = ["Prod"]': "is not a valid environment",
}


@pytest.mark.parametrize(("text", "said"), BAD.items())
def test_what_is_wrong_is_said(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(BadInput) as caught:
        load(tmp_path, text)
    assert said in str(caught.value)
    assert "tenants.acme" in str(caught.value)


BAD_SMTP = {
    'smtp = { host = "m" }': "smtp.sender is missing",
    'smtp = { host = "m", sender = "a@b", user = "u" }': "`user` and `password` go together",
    'smtp = { host = "m", sender = "a@b", user = "u", password = "p" }': "never the secret itself",
    'smtp = { host = "m", sender = "a@b", user = "u", password = "env:P", tls = "none" }': "in the open",
}


@pytest.mark.parametrize(("text", "said"), BAD_SMTP.items())
def test_what_is_wrong_with_the_mail_server_is_said(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(BadInput) as caught:
        load(tmp_path, "", text)
    assert said in str(caught.value)


def test_email_needs_a_server(tmp_path: Path) -> None:
    with pytest.raises(BadInput) as caught:
        load(tmp_path, '[tenants.acme.settings.flights]\non_failure = { email = ["a@b"] }')
    assert "tenants.acme: a hook sends email, and the file has no [smtp] section" in str(caught.value)

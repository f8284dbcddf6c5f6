"""The shape of the tenant file's hooks, and of the server by which email is sent."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from entrepot.errors import listed, unknown
from entrepot.protocol.hooks import Body, EmailHook, Hook, Hooks, WebhookHook, WorkflowHook
from entrepot.secrets import REFERENCES
from entrepot.worker.config.section import Section

_ADDRESS = re.compile(r"[^@\s<>,;\"]+@[^@\s<>,;\"]+")
_KEEP_SECRETS = ("hooks.slack.com", "webhook.office.com", "logic.azure.com", "api.powerplatform.com", "discord.com")
"""Hosts of which a webhook's whole URL is the key to it."""
_KINDS = ("workflow", "webhook", "email")


def _reference(value: str) -> str:
    if not value.startswith(REFERENCES):
        # The value is not repeated: it may be the secret.
        raise ValueError("must be a reference such as 'env:NAME' or 'file:PATH', never the secret itself")
    return value


def _url(value: str) -> str:
    if value.startswith(REFERENCES):
        return value
    try:
        parts = urlsplit(value)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        host, parts = "", urlsplit("")
    if parts.scheme not in ("http", "https") or not host or not value.isascii() or not value.isprintable():
        raise ValueError("must be a URL such as https://host/path, or a reference such as 'env:NAME'")
    if parts.query or parts.username or any(f".{host}".endswith(f".{known}") for known in _KEEP_SECRETS):
        raise ValueError(
            f"whoever knows the whole URL can post to {host}, so it is a secret, and would stand in histories; give a "
            "reference such as 'env:NAME'"
        )
    return value


def _address(value: str) -> str:
    if not _ADDRESS.fullmatch(value) or not value.isascii() or not value.isprintable():
        raise ValueError(f"{value!r} is no address such as 'ops@acme.example'")
    return value


Reference = Annotated[str, AfterValidator(_reference)]
Address = Annotated[str, AfterValidator(_address)]


class HookSection(Section):
    """One hook: a workflow of one's own, a webhook or email."""

    workflow: str | None = Field(default=None, min_length=1)
    task_queue: str | None = Field(default=None, min_length=1)
    webhook: Annotated[str, AfterValidator(_url)] | None = None
    secret: Reference | None = None
    body: Body = "event"
    email: list[Address] | None = Field(default=None, min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _one_kind(cls, given: Any) -> Any:
        if isinstance(given, dict):
            kinds = [kind for kind in _KINDS if kind in given]
            if len(kinds) != 1:
                raise ValueError(f"a hook has one of {listed(_KINDS)}, and this has {listed(kinds)}")
            takes = {"workflow": ("task_queue",), "webhook": ("secret", "body"), "email": ()}[kinds[0]]
            for key in given:
                if key not in (kinds[0], *takes):
                    raise ValueError(unknown(f"setting of a hook with `{kinds[0]}`", key, [kinds[0], *takes]))
            if kinds == ["workflow"] and "task_queue" not in given:
                raise ValueError("a hook with `workflow` needs `task_queue`: where that workflow's workers are")
        return given

    def hook(self) -> Hook:
        """What runs carry of it."""
        if self.workflow is not None:
            return WorkflowHook(workflow=self.workflow, task_queue=str(self.task_queue))
        if self.webhook is not None:
            return WebhookHook(webhook=self.webhook, secret=self.secret, body=self.body)
        return EmailHook(email=tuple(self.email or ()))


def _as_list(given: Any) -> Any:
    return [given] if isinstance(given, dict) else given


OneOrMore = Annotated[list[HookSection], BeforeValidator(_as_list)]
"""A hook, or a list of them; an empty one: nobody is told."""


class HooksSection(Section):
    """Who is told how runs end, and of broken promises: what tenants and their pipelines have in common."""

    on_failure: OneOrMore | None = None
    on_published: OneOrMore | None = None
    on_warned: OneOrMore | None = None
    on_late: OneOrMore | None = None

    def over(self, tenant: HooksSection) -> Hooks:
        """A pipeline's hooks: of each event its own, else its tenant's."""
        events = {"failed": "on_failure", "published": "on_published", "warned": "on_warned", "late": "on_late"}
        made: dict[Any, tuple[Hook, ...]] = {}
        for event, setting in events.items():
            own, its_tenants = getattr(self, setting), getattr(tenant, setting)
            made[event] = tuple(each.hook() for each in (its_tenants if own is None else own) or ())
        return {event: hooks for event, hooks in made.items() if hooks}

    @property
    def sends_email(self) -> bool:
        """Whether one of them is email."""
        every = (self.on_failure, self.on_published, self.on_warned, self.on_late)
        return any(hook.email for hooks in every for hook in hooks or ())


class SmtpSection(Section):
    """The server by which email is sent."""

    host: str = Field(min_length=1)
    sender: Address
    port: int = Field(default=587, ge=1, le=65535)
    tls: Literal["starttls", "tls", "none"] = "starttls"
    user: str | None = Field(default=None, min_length=1)
    password: Reference | None = None

    @model_validator(mode="after")
    def _goes_together(self) -> SmtpSection:
        if (self.user is None) != (self.password is None):
            raise ValueError("`user` and `password` go together")
        if self.password is not None and self.tls == "none":
            raise ValueError("with tls = 'none' the password would travel in the open; leave it away, or use TLS")
        return self

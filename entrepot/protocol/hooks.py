"""Hooks: what is told of how a run ended, or of a promise that is broken, and to whom.

No secrets: of those only where they stand.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

from entrepot.language.names import EnvironmentName, Id, MaybeId, PipelineName, TenantName

EventName = Literal["failed", "published", "warned", "late", "fresh"]
LATE: EventName = "late"
"""Who is told of this, is told when a promise is kept again, too."""
Body = Literal["event", "slack", "teams"]


class Told(BaseModel):
    """Immutable and closed, as all messages are."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class RunEvent(Told):
    """What has happened, as hooks are told: the input of their workflows, and the body of their requests."""

    event: EventName
    tenant: TenantName
    pipeline: PipelineName
    environment: EnvironmentName
    text: str
    """A sentence for people."""
    run: Id
    """Whose workflow tells it."""
    workflow_id: str
    at: str
    """When, in UTC."""
    why: str = ""
    """What caused the run, where that was no person and no schedule."""
    error: str = ""
    tables: tuple[str, ...] = ()
    """What was published; of very many, the first."""
    warnings: tuple[str, ...] = ()
    since: str = ""
    """Of tables that are late, or were: since when the first of them, in UTC."""
    reasons: tuple[str, ...] = ()
    """Of each of these tables, in a sentence: why it is late; or until when it is fresh."""
    breach: MaybeId = ""
    """What tells these breaches of promises from others."""

    @property
    def key(self) -> str:
        """The same however often it is told."""
        return f"{self.breach or self.run}-{self.event}"


def sentence(
    event: EventName,
    *,
    tenant: str,
    pipeline: str,
    environment: str,
    error: str = "",
    tables: Sequence[str] = (),
    warnings: Sequence[str] = (),
    since: str = "",
    reasons: Sequence[str] = (),
) -> str:
    """What has happened, for people."""
    whose = f"{pipeline} for {tenant} in {environment}"
    match event:
        case "failed":
            return f"{whose} failed: {error}"
        case "published":
            return f"{whose} published {_several('table', tables)}"
        case "warned":
            return f"{whose} published with {_several('warning', warnings)}"
        case "late":
            return f"{whose} is late with {_several('table', tables)}; {reasons[0] if reasons else ''}"
        case "fresh":
            return f"{whose} is fresh again with {_several('table', tables)}; late since {since} UTC"


def _several(what: str, names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{len(names)} {what}{'' if len(names) == 1 else 's'}: {', '.join(names[:_NAMED])}{more}"


_NAMED = 10


class WorkflowHook(Told):
    """A workflow of somebody's own, in any language."""

    workflow: str
    task_queue: str

    @property
    def what(self) -> str:
        """The hook, in a few words."""
        return f"workflow {self.workflow}"


class WebhookHook(Told):
    """A request to a server."""

    webhook: str
    """Its URL, or where that stands."""
    secret: str | None = None
    """Where the key stands by which requests are signed."""
    body: Body = "event"

    @property
    def what(self) -> str:
        """The hook, in a few words."""
        return "webhook"


class EmailHook(Told):
    """A message to people."""

    email: tuple[str, ...]

    @property
    def what(self) -> str:
        """The hook, in a few words."""
        return "email"


Hook = WorkflowHook | WebhookHook | EmailHook
Hooks = dict[EventName, tuple[Hook, ...]]
"""Whom a pipeline tells of what."""

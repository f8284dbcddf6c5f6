"""The messages of what looks after environments: `Drop` and `Repair`."""

from __future__ import annotations

from pydantic import Field

from entrepot.protocol.messages import Message


class DropInput(Message):
    """The input of `Drop`."""

    tenant: str = Field(min_length=1)
    environment: str = Field(min_length=1)
    pipeline: str | None = Field(default=None, min_length=1)
    """Default: every pipeline that has something there. `prod` is dropped for one that is named."""
    dry_run: bool = False


class RepairInput(Message):
    """The input of `Repair`."""

    tenant: str = Field(min_length=1)
    pipeline: str | None = Field(default=None, min_length=1)
    """Default: all that the tenant runs."""
    dry_run: bool = False
    """Only look."""


class Repaired(Message):
    """What `Repair` found, and what is left to do for runs."""

    found: tuple[str, ...] = ()
    """What differs from the catalog, each a sentence."""
    left: tuple[str, ...] = ()
    """What somebody has to look at, each a sentence."""
    runs: dict[str, dict[str, tuple[str, ...]]] = Field(default_factory=dict)
    """Pipeline and environment to the steps that are to be computed anew."""

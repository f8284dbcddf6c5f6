"""What runs and their tenant's `Slots` say to each other: how many steps may run at once, over all workers."""

from __future__ import annotations

from pydantic import Field

from entrepot.language.names import Id
from entrepot.protocol.messages import Message, TenantInput


class SlotsGranted(Message):
    """How many slots a run has."""

    number: int
    """The number of the request that it answers; an answer to an earlier one counts no more."""
    slots: int
    others_wait: bool = False
    """Other runs of the tenant have none: who has several gives each back once a step is done."""


class SlotsRequest(TenantInput):
    """What a run of the tenant has, and wants. It is sent whenever that changes; with nothing wanted, all is free."""

    workflow_id: str
    run: Id
    number: int
    held: int = Field(ge=0)
    wanted: int = Field(ge=0)


class SlotsAsked(SlotsRequest):
    """A run's request, and how many slots its tenant has by the tenant file of today."""

    most: int = Field(ge=1)


class Holders(TenantInput):
    """The request of `closed_runs`: the runs that have slots, each with the id of its workflow."""

    workflow_ids: dict[str, str]


class Share(Message):
    """What one run has, in the state of `Slots`."""

    request: SlotsAsked
    granted: int
    told: bool = False
    """Whether it knows that others wait."""


class SlotsState(TenantInput):
    """The input of `Slots`: a tenant, and what was known of it when the history became too long."""

    most: int = 1
    shares: tuple[Share, ...] = ()

"""The workflow types by which environments are made of others, compared and promoted: `Create`, `Diff`, `Promote`."""

from __future__ import annotations

from typing import Any

from temporalio import workflow

from entrepot.protocol import activities
from entrepot.protocol.environments import Created, CreateInput, DiffInput, EnvironmentDiff, PromoteInput
from entrepot.protocol.messages import Promoted
from entrepot.workflows.around.publishes import announced_by_hand
from entrepot.workflows.calls import call, check_not_cancelled, in_a_sentence, parse_input
from entrepot.workflows.search_attributes import OUTCOME, STAGE, label


@workflow.defn(name="Create")
class Create:
    """Makes an environment that shows what another shows."""

    @workflow.run
    async def run(self, payload: Any = None) -> Created:
        """Pointers and views only; no data is computed or copied."""
        request = parse_input(CreateInput, payload)
        with in_a_sentence():
            created = await call(activities.CREATE, request)
        label(request)
        return created


@workflow.defn(name="Diff")
class Diff:
    """Compares what two environments show, down to the rows."""

    @workflow.run
    async def run(self, payload: Any = None) -> EnvironmentDiff:
        """Changes nothing."""
        request = parse_input(DiffInput, payload)
        with in_a_sentence():
            found = await call(activities.DIFF, request)
        label(request)
        return found


@workflow.defn(name="Promote")
class Promote:
    """Points an environment at what another shows, all of it or nothing."""

    @workflow.run
    async def run(self, payload: Any = None) -> Promoted:
        """Moves pointers only. What both show at first is recorded: if it has changed when they move, nothing does."""
        request = parse_input(PromoteInput, payload)
        with in_a_sentence():
            prepared = await call(activities.PREPARE_PROMOTION, request)
            check_not_cancelled()
            promoted = await call(activities.PROMOTE_ENVIRONMENT, prepared)
        promoted = await announced_by_hand(promoted, request, f"was promoted from {request.like}")
        label(request, STAGE.value_set("done"), OUTCOME.value_set("promoted"))
        return promoted

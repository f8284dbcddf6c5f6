"""Who learns of a publish: the triggers that wait for it, and, where no run has published, hooks."""

from __future__ import annotations

from temporalio import workflow
from temporalio.exceptions import ActivityError, is_cancelled_exception

from entrepot.protocol import activities
from entrepot.protocol.messages import Context, Promoted, Target
from entrepot.protocol.triggers import Announcement
from entrepot.workflows.around.hooks import event_of, tell
from entrepot.workflows.calls import call, failure_of, priority

MOST_TOLD = 200
"""Tables and warnings of which hooks are told; a message has to stay small."""


async def announced(promoted: Promoted, context: Context, what: str) -> Promoted:
    """Tells the triggers that wait for a publish. Whether they can be told, the publish stands."""
    done = promoted.model_copy(update={"listeners": (), "hooks": ()})
    if not promoted.listeners or not promoted.moved:
        return done
    at = f"{workflow.now():%Y-%m-%d %H:%M} UTC"
    told = Announcement(
        context=context, listeners=promoted.listeners, what=f"{what} at {at} (run {context.run})", key=context.run
    )
    try:
        await call(activities.ANNOUNCE, told, priority=priority(context.tenant))
    except ActivityError as error:
        if is_cancelled_exception(error):
            raise
        why = f"{', '.join(promoted.listeners)} could not be told of it: {failure_of(error).message}"
        return done.model_copy(update={"behind": (*done.behind, why)})
    return done


async def announced_by_hand(promoted: Promoted, request: Target, did: str) -> Promoted:
    """Tells triggers and hooks that somebody has moved what an environment shows, without a run.

    Args:
        did: What was done, as in `was rolled back`.
    """
    info, moved = workflow.info(), tuple(sorted(promoted.moved))
    whose = {"tenant": request.tenant, "pipeline": request.pipeline, "environment": request.environment}
    if moved:
        text = f"{request.pipeline} for {request.tenant} in {request.environment} {did}"
        event = event_of(request, "published", text, tables=moved[:MOST_TOLD])
        await tell(promoted.hooks, event)
    return await announced(promoted, Context(**whose, run=info.run_id), f"{request.tenant}/{request.pipeline} {did}")

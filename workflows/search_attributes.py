"""What the Web UI's lists show of a workflow, and by what they can be searched."""

from __future__ import annotations

from temporalio import workflow
from temporalio.common import SearchAttributeKey, SearchAttributeUpdate

from entrepot.protocol.maintenance import OfEnvironment
from entrepot.protocol.messages import Target, TenantInput

TENANT = SearchAttributeKey.for_keyword("Tenant")
PIPELINE = SearchAttributeKey.for_keyword("Pipeline")
ENVIRONMENT = SearchAttributeKey.for_keyword("Environment")
BACKEND = SearchAttributeKey.for_keyword("Backend")
STAGE = SearchAttributeKey.for_keyword("Stage")
OUTCOME = SearchAttributeKey.for_keyword("Outcome")
"""How it ended: `published`, `published with warnings`, `nothing to do`, `failed`, `cancelled`, `rolled back` or
`promoted`; or that it is only `planned`. What was refused before it began has none."""
CAUSE = SearchAttributeKey.for_keyword("Cause")
"""Of runs that a trigger has begun: the pipelines that have published, `source` or `code`."""
SEARCH_ATTRIBUTES = (TENANT, PIPELINE, ENVIRONMENT, BACKEND, STAGE, OUTCOME, CAUSE)


def label(request: TenantInput, *more: SearchAttributeUpdate[str]) -> None:
    """Says whose workflow it is, and of what."""
    updates: list[SearchAttributeUpdate[str]] = [TENANT.value_set(request.tenant)]
    if request.pipeline is not None:
        updates.append(PIPELINE.value_set(request.pipeline))
    if isinstance(request, Target | OfEnvironment):
        updates.append(ENVIRONMENT.value_set(request.environment))
    workflow.upsert_search_attributes([*updates, *more])


def label_stage(stage: str, *more: SearchAttributeUpdate[str]) -> None:
    """Says how far a workflow has come."""
    workflow.upsert_search_attributes([STAGE.value_set(stage), *more])

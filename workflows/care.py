"""The workflow types that look after what runs have made: `Rollback` and `Collect`."""

from __future__ import annotations

from typing import Any

from temporalio import workflow

from activities import names
from activities.messages import CollectInput, Committed, RollbackInput
from workflows.run import ENVIRONMENT, PIPELINE, STAGE, TENANT, call, in_a_sentence, understood


@workflow.defn(name="Rollback")
class Rollback:
    """Points an environment at what it showed after an earlier publish."""

    @workflow.run
    async def run(self, input: Any = None) -> Committed:
        """Moves pointers only; no data is computed or copied."""
        asked = understood(RollbackInput, input)
        with in_a_sentence():
            moved: Committed = await call(names.ROLLBACK, asked, Committed)
        workflow.upsert_search_attributes(
            [
                TENANT.value_set(asked.tenant),
                PIPELINE.value_set(asked.pipeline),
                ENVIRONMENT.value_set(asked.environment),
                STAGE.value_set("done"),
            ]
        )
        return moved


@workflow.defn(name="Collect")
class Collect:
    """Removes versions that nothing points at and nobody made lately."""

    @workflow.run
    async def run(self, input: Any = None) -> dict[str, Any]:
        """The versions removed (or, with `dry_run`, those that would be), and how many stay."""
        asked = understood(CollectInput, input)
        with in_a_sentence():
            collected: dict[str, Any] = await call(names.COLLECT, asked, dict)
        workflow.upsert_search_attributes([TENANT.value_set(asked.tenant), PIPELINE.value_set(asked.pipeline)])
        return collected

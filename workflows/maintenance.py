"""The workflow types that look after what runs have made: `Rollback`, `Gc`, `Drop` and `Repair`."""

from __future__ import annotations

from typing import Any

from temporalio import workflow
from temporalio.exceptions import ChildWorkflowError, is_cancelled_exception

from entrepot.protocol import activity_names
from entrepot.protocol.maintenance_messages import DropInput, Repaired, RepairInput
from entrepot.protocol.messages import GcInput, Promoted, RollbackInput
from entrepot.workflows.calls import call, failure_of, in_a_sentence, parse_input
from entrepot.workflows.run import ENVIRONMENT, PIPELINE, STAGE, TENANT


@workflow.defn(name="Rollback")
class Rollback:
    """Points an environment at what it showed after an earlier publish."""

    @workflow.run
    async def run(self, input: Any = None) -> Promoted:
        """Moves pointers only; no data is computed or copied."""
        asked = parse_input(RollbackInput, input)
        with in_a_sentence():
            moved: Promoted = await call(activity_names.ROLLBACK, asked, Promoted)
        workflow.upsert_search_attributes(
            [
                TENANT.value_set(asked.tenant),
                PIPELINE.value_set(asked.pipeline),
                ENVIRONMENT.value_set(asked.environment),
                STAGE.value_set("done"),
            ]
        )
        return moved


@workflow.defn(name="Gc")
class Gc:
    """Removes versions that nothing points at and nobody made lately, and what forgotten pipelines show."""

    @workflow.run
    async def run(self, input: Any = None) -> dict[str, Any]:
        """The versions removed (or, with `dry_run`, those that would be), and how many stay."""
        asked = parse_input(GcInput, input)
        with in_a_sentence():
            collected: dict[str, Any] = await call(activity_names.GC, asked, dict)
        of = [PIPELINE.value_set(asked.pipeline)] if asked.pipeline else []
        workflow.upsert_search_attributes([TENANT.value_set(asked.tenant), *of])
        return collected


@workflow.defn(name="Drop")
class Drop:
    """Takes an environment away: what it shows, where it stands with its sources, and its history."""

    @workflow.run
    async def run(self, input: Any = None) -> dict[str, Any]:
        """What was shown (or, with `dry_run`, what is), by pipeline."""
        asked = parse_input(DropInput, input)
        with in_a_sentence():
            dropped: dict[str, Any] = await call(activity_names.DROP, asked, dict)
        its = [TENANT.value_set(asked.tenant), ENVIRONMENT.value_set(asked.environment)]
        workflow.upsert_search_attributes(its)
        return dropped


@workflow.defn(name="Repair")
class Repair:
    """Finds what somebody dropped, replaced or emptied by hand, and makes it good."""

    @workflow.run
    async def run(self, input: Any = None) -> Repaired:
        """Brings raw tables back and points views; what has to be computed, runs do, one after another."""
        asked = parse_input(RepairInput, input)
        workflow.upsert_search_attributes([TENANT.value_set(asked.tenant)])
        with in_a_sentence():
            repaired: Repaired = await call(activity_names.REPAIR, asked, Repaired)
        left = list(repaired.left)
        for pipeline, environments in sorted(repaired.runs.items()) if not asked.dry_run else ():
            for environment, steps in sorted(environments.items()):
                its = {"tenant": asked.tenant, "pipeline": pipeline, "environment": environment}
                chosen = " ".join(steps)
                try:
                    await workflow.execute_child_workflow(
                        "Pipeline",
                        {**its, "select": chosen, "force": chosen},
                        id=f"{workflow.info().workflow_id}:{pipeline}:{environment}",
                        static_summary=f"computes {chosen} anew",
                    )
                except ChildWorkflowError as error:
                    if is_cancelled_exception(error):
                        raise
                    left.append(f"{pipeline} in {environment}: {failure_of(error).message}")
        return repaired.model_copy(update={"left": tuple(left)})

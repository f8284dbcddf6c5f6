"""The workflow types that look after what runs have made: `Rollback`, `Gc`, `Drop` and `Repair`."""

from __future__ import annotations

from typing import Any

from temporalio import workflow
from temporalio.exceptions import ChildWorkflowError, is_cancelled_exception

from entrepot.protocol import activities
from entrepot.protocol.maintenance import DropInput, Dropped, GcInput, GcResult, Repaired, RepairInput, RollbackInput
from entrepot.protocol.messages import Promoted
from entrepot.workflows.around.publishes import announced_by_hand
from entrepot.workflows.calls import call, failure_of, in_a_sentence, parse_input
from entrepot.workflows.search_attributes import OUTCOME, STAGE, label


@workflow.defn(name="Rollback")
class Rollback:
    """Points an environment at what it showed after an earlier publish."""

    @workflow.run
    async def run(self, payload: Any = None) -> Promoted:
        """Moves pointers only; no data is computed or copied."""
        request = parse_input(RollbackInput, payload)
        with in_a_sentence():
            promoted = await call(activities.ROLLBACK, request)
        if not request.dry_run:
            promoted = await announced_by_hand(promoted, request, "was rolled back")
        label(request, STAGE.value_set("done"), OUTCOME.value_set("planned" if request.dry_run else "rolled back"))
        return promoted


@workflow.defn(name="Gc")
class Gc:
    """Removes unreferenced versions older than the retention period, and what forgotten pipelines show."""

    @workflow.run
    async def run(self, payload: Any = None) -> GcResult:
        """The versions removed (or, with `dry_run`, those that would be), and how many stay."""
        request = parse_input(GcInput, payload)
        with in_a_sentence():
            result = await call(activities.GC, request)
        label(request)
        return result


@workflow.defn(name="Drop")
class Drop:
    """Takes an environment away: what it shows, where it stands with its sources, and its history."""

    @workflow.run
    async def run(self, payload: Any = None) -> Dropped:
        """What was shown (or, with `dry_run`, what is), by pipeline."""
        request = parse_input(DropInput, payload)
        with in_a_sentence():
            dropped = await call(activities.DROP, request)
        label(request)
        return dropped


@workflow.defn(name="Repair")
class Repair:
    """Finds what somebody dropped, replaced or emptied by hand, and repairs it."""

    @workflow.run
    async def run(self, payload: Any = None) -> Repaired:
        """Restores raw tables and repoints views; what has to be computed is left to runs, one after another."""
        request = parse_input(RepairInput, payload)
        with in_a_sentence():
            repaired = await call(activities.REPAIR, request)
        label(request)
        left = list(repaired.left)
        for pipeline, environments in sorted(repaired.runs.items()) if not request.dry_run else ():
            for environment, steps in sorted(environments.items()):
                target = {"tenant": request.tenant, "pipeline": pipeline, "environment": environment}
                chosen = " ".join(steps)
                try:
                    await workflow.execute_child_workflow(
                        "Pipeline",
                        {**target, "select": chosen, "force": chosen},
                        id=f"{workflow.info().workflow_id}:{pipeline}:{environment}",
                        static_summary=f"computes {chosen} anew",
                    )
                except ChildWorkflowError as error:
                    if is_cancelled_exception(error):
                        raise
                    left.append(f"{pipeline} in {environment}: {failure_of(error).message}")
        return repaired.model_copy(update={"left": tuple(left)})

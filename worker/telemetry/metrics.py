"""What a worker counts of its work, for Prometheus, beside what Temporal's SDK counts by itself.

Every metric carries the tenant and the pipeline. What is of nobody that this worker serves is counted under `?`: names
that somebody makes up make no new series.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from datetime import timedelta
from typing import Any

import psutil
from temporalio import activity, workflow
from temporalio.common import MetricMeter
from temporalio.exceptions import ApplicationError, FailureError, is_cancelled_exception
from temporalio.worker import (
    ActivityInboundInterceptor,
    ExecuteActivityInput,
    ExecuteWorkflowInput,
    Interceptor,
    WorkflowInboundInterceptor,
    WorkflowInterceptorClassInput,
)

from entrepot.activities.runtime.tenant import Tenants
from entrepot.errors import BadInput
from entrepot.protocol.activities import is_work_queue
from entrepot.protocol.messages import Load, StepResult
from entrepot.worker.telemetry import logs
from entrepot.worker.telemetry.about import about

_NOBODY = "?"
_TAKEN: Counter[str] = Counter()
"""The slots of this process that are taken now, by tenant."""


class Measured(Interceptor):
    """Counts every activity and workflow of a worker, and tells its log whose work it is.

    Args:
        tenants: Whom it serves.
    """

    def __init__(self, tenants: Tenants) -> None:
        self._tenants = tenants

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        """Temporal asks for it once for each activity."""
        return _Activity(next, self._tenants)

    def workflow_interceptor_class(self, input: WorkflowInterceptorClassInput) -> type[WorkflowInboundInterceptor]:
        """Temporal asks for it once for each run."""
        return _Run


class _Activity(ActivityInboundInterceptor):
    def __init__(self, next: ActivityInboundInterceptor, tenants: Tenants) -> None:
        super().__init__(next)
        self._tenants = tenants

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        info, asked = activity.info(), about(input.args)
        logs.ABOUT.set({**asked, "activity": info.activity_type, "attempt": info.attempt})
        whose = self._whose(asked)
        meter = activity.metric_meter().with_additional_attributes(whose)
        waited = info.started_time - info.current_attempt_scheduled_time
        _histogram(meter, "queue_latency", "From when an activity could start to when a worker took it.", waited)
        try:
            with _slot(meter, whose["tenant"]) if is_work_queue(info.task_queue) else nullcontext():
                result = await super().execute_activity(input)
        except BaseException as error:
            _count_failure(meter, error)
            raise
        for done in result if isinstance(result, list) else [result]:
            _count_step(meter, done)
        return result

    def _whose(self, asked: Mapping[str, Any]) -> dict[str, str]:
        """The tenant and pipeline, if they are served here."""
        tenant = self._tenants.tenants.get(asked.get("tenant", ""))
        pipeline = asked.get("pipeline", "")
        known = tenant is not None and pipeline in tenant.pipelines
        return {"tenant": tenant.name if tenant else _NOBODY, "pipeline": pipeline if known else _NOBODY}


class _Run(WorkflowInboundInterceptor):
    async def execute_workflow(self, input: ExecuteWorkflowInput) -> Any:
        started, asked = workflow.now(), about(input.args)
        try:
            result = await super().execute_workflow(input)
        except BaseException as error:
            if isinstance(error, FailureError):
                self._count(asked, started, "cancelled" if is_cancelled_exception(error) else "failed", error)
            raise
        outcome = getattr(result, "outcome", None) or "completed"
        self._count(asked, started, outcome)
        return result

    def _count(self, asked: Mapping[str, Any], started: Any, status: str, error: BaseException | None = None) -> None:
        is_refused = (
            isinstance(error, ApplicationError) and error.type == BadInput.__name__
        )  # its names may be anything
        whose = {name: _NOBODY if is_refused else str(asked.get(name) or _NOBODY) for name in ("tenant", "pipeline")}
        meter = workflow.metric_meter().with_additional_attributes({**whose, "status": status})
        meter.create_counter("entrepot_runs", "Workflows that ended.").add(1)
        _histogram(meter, "run_latency", "From a workflow's start to its end.", workflow.now() - started)


@contextmanager
def _slot(meter: MetricMeter, tenant: str) -> Iterator[None]:
    gauge = meter.create_gauge("entrepot_slots_taken", "Steps that this worker runs now.")

    def count(more: int) -> None:
        _TAKEN[tenant] += more
        gauge.set(_TAKEN[tenant], {"pipeline": "", "activity_type": ""})

    count(1)
    try:
        yield
    finally:
        count(-1)


def _count_failure(meter: MetricMeter, error: BaseException) -> None:
    kind, again = type(error).__name__, True
    if isinstance(error, ApplicationError):
        kind, again = error.type or kind, not error.non_retryable
    counter = meter.create_counter("entrepot_failures", "Attempts that failed; `again`: whether they are tried again.")
    counter.add(1, {"error": kind, "again": str(again).lower()})


def _count_step(meter: MetricMeter, done: Any) -> None:
    """Rows and bytes of what a step made, or of what was loaded into the lake."""
    if isinstance(done, StepResult):
        meter.create_counter("entrepot_steps", "Steps that were computed, or found unchanged.").add(1)
        rows, size = done.rows or 0, done.bytes or 0
    elif isinstance(done, Load):
        rows, size = (sum(getattr(each, name) for each in done.tables.values()) for name in ("rows", "bytes"))
    else:
        return
    meter.create_counter("entrepot_rows", "Rows that steps made.").add(rows)
    meter.create_counter("entrepot_bytes", "Bytes that steps wrote.").add(size)


def _histogram(meter: MetricMeter, name: str, what: str, took: timedelta) -> None:
    meter.create_histogram_timedelta(f"entrepot_{name}", what).record(max(took, timedelta()))


def memory() -> str:
    """The memory of this process and of those that it has started, as Prometheus reads it."""
    lines = ["# HELP entrepot_memory_bytes Resident memory.", "# TYPE entrepot_memory_bytes gauge"]
    own = psutil.Process()
    for process in (own, *own.children(recursive=True)):
        with suppress(psutil.Error):  # it has ended meanwhile
            lines.append(f'entrepot_memory_bytes{{pid="{process.pid}"}} {process.memory_info().rss}')
    return "\n".join(lines) + "\n"

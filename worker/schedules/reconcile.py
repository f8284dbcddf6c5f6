"""One Temporal Schedule for each schedule of the tenant file: what differs is shown, and made the same.

Three parts: `desired` says what the file wants, `diff` compares it with what there is (both pure), `plan` and `apply`
talk to Temporal. Schedules that Entrepot made carry a memo, which Temporal sets at creation and no update can change;
others are never touched. Whether a schedule is paused is set when it is created, and is the operators' from then on.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from temporalio.api.common.v1 import Payload
from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleDescription,
    ScheduleIntervalSpec,
    ScheduleListDescription,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleSpec,
    ScheduleState,
    ScheduleUpdate,
    ScheduleUpdateInput,
)
from temporalio.common import SearchAttributePair, TypedSearchAttributes
from temporalio.service import RPCError, RPCStatusCode

from entrepot.errors import BadInput, Conflict
from entrepot.language.limits import duration_text
from entrepot.protocol.maintenance import GcInput
from entrepot.protocol.messages import RunInput
from entrepot.worker.client import TASK_QUEUE, gc_workflow_id, run_workflow_id
from entrepot.worker.config.settings import Settings
from entrepot.worker.config.tenant_schema import GcSection, ScheduleSection
from entrepot.worker.payloads.codec import CannotDecrypt
from entrepot.worker.schedules import cron, lasting, triggers, watches
from entrepot.worker.schedules.changes import Actual, Change, change_of, each_of
from entrepot.workflows.calls import priority
from entrepot.workflows.search_attributes import ENVIRONMENT, PIPELINE, TENANT

WORKFLOW = "Pipeline"
MEMO = {"made_by": TASK_QUEUE}
"""Of each schedule: another group of tenants, with workers and a file of its own, has others."""
PAUSED_NOTE = "paused in the tenant file when it was made"
_DEFAULT_TASK_TIMEOUT = timedelta(seconds=10)
_LONGEST_JITTER = timedelta(hours=1)


@dataclass(frozen=True)
class Desired:
    """A schedule as the tenant file wants it."""

    schedule: Schedule
    attributes: TypedSearchAttributes
    facts: Mapping[str, str]


def desired(settings: Settings) -> dict[str, Desired]:
    """The schedules that the tenant file wants, by id: `tenant/pipeline`, then `/environment` unless it is prod.

    A schedule with a `name` has it after a `#`.
    """
    return {
        _id(tenant, section): _desired(tenant, section)
        for tenant, of_tenant in settings.tenants.items()
        for section in of_tenant.schedules
    }


def collecting(settings: Settings) -> dict[str, Desired]:
    """The schedules by which each tenant's garbage is collected, by id: `tenant:gc`."""
    if settings.file is None:
        return {}  # whoever has no tenant file asked for no schedules
    return {gc_workflow_id(tenant): _collecting(tenant, its.gc) for tenant, its in settings.tenants.items()}


def diff(wanted: Mapping[str, Desired], actual: Mapping[str, Actual]) -> list[Change]:
    """What has to happen to each schedule: those of the file in its order, then those that go."""
    changes = []
    for schedule_id, each in wanted.items():
        paused = each.schedule.state.note if each.schedule.state.paused else None
        found = actual.get(schedule_id)
        changes.append(change_of(schedule_id, _when_text(each.facts), each.facts, found, paused))
    gone = (schedule_id for schedule_id, found in actual.items() if found.ours and schedule_id not in wanted)
    return changes + [
        Change(schedule_id, "delete", _when_text(actual[schedule_id].facts), paused=actual[schedule_id].paused)
        for schedule_id in sorted(gone)
    ]


async def plan(client: Client, settings: Settings) -> list[Change]:
    """What `apply` would do. Changes nothing.

    Raises:
        BadInput: if there is no tenant file, and so every schedule would be deleted.
    """
    wanted = desired(settings) | collecting(settings)
    changes = diff(wanted, await _actual(client, wanted))
    changes += await triggers.plan(client, triggers.desired(settings))
    changes += await watches.plan(client, watches.desired(settings))
    if settings.file is None and changes:
        raise BadInput("there is no tenant file here, and Temporal has schedules of one; name it with --tenants")
    return changes


async def apply(client: Client, settings: Settings) -> list[Change]:
    """Makes Temporal's schedules, triggers and watches what the tenant file says, and returns what was done.

    Raises:
        BadInput: if there is no tenant file, and so every schedule would be deleted.
        Conflict: if somebody else changed the same schedules at the same time. Doing it again is safe.
    """
    from entrepot.worker.process import register_search_attributes

    wanted = desired(settings) | collecting(settings)
    going_on = triggers.desired(settings) | watches.desired(settings)
    changes = await plan(client, settings)
    if any(change.action in ("create", "update") for change in changes):
        await register_search_attributes(client)

    async def make(change: Change) -> None:
        if change.is_workflow:
            return await lasting.make(client, going_on, change)
        try:
            if change.action == "create":
                each = wanted[change.id]
                await client.create_schedule(change.id, each.schedule, memo=MEMO, search_attributes=each.attributes)
            elif change.action == "update":
                await client.get_schedule_handle(change.id).update(_updater(wanted[change.id]))
            elif change.action == "delete":
                await client.get_schedule_handle(change.id).delete()
        except (ScheduleAlreadyRunningError, RPCError) as error:
            missing = isinstance(error, RPCError) and error.status == RPCStatusCode.NOT_FOUND
            if missing and change.action == "delete":
                return None
            if missing or isinstance(error, ScheduleAlreadyRunningError):
                raise Conflict(
                    f"schedule {change.id!r} was just created or deleted by somebody else; try again"
                ) from error
            raise
        return None

    await each_of(changes, make)
    return changes


def _id(tenant: str, section: ScheduleSection) -> str:
    plain = run_workflow_id(tenant, section.pipeline, section.environment)
    return plain if section.name is None else f"{plain}#{section.name}"


def _collecting(tenant: str, section: GcSection) -> Desired:
    asked = GcInput(tenant=tenant, keep_days=section.keep_days, keep_publishes=section.keep_publishes)
    action = ScheduleActionStartWorkflow(
        "Gc",
        asked.model_dump(mode="json", exclude_defaults=True),
        id=gc_workflow_id(tenant),
        task_queue=TASK_QUEUE,
        static_summary=f"Garbage collection for {tenant}, by schedule",
        typed_search_attributes=TypedSearchAttributes([SearchAttributePair(TENANT, tenant)]),
        priority=priority(tenant),
    )
    # Not all tenants at the same time. One that was missed is made up for by the next.
    spec = ScheduleSpec(intervals=[ScheduleIntervalSpec(section.every)], jitter=min(section.every / 4, _LONGEST_JITTER))
    policy = SchedulePolicy(overlap=ScheduleOverlapPolicy.SKIP, catchup_window=timedelta(minutes=10))
    schedule = Schedule(action=action, spec=spec, policy=policy, state=ScheduleState())
    attributes = action.typed_search_attributes
    return Desired(schedule, attributes, _facts(schedule, action, attributes, action.args, str(action.static_summary)))


def _desired(tenant: str, section: ScheduleSection) -> Desired:
    run = RunInput(
        tenant=tenant,
        pipeline=section.pipeline,
        environment=section.environment,
        select=section.select,
        parameters=section.parameters,
    )
    attributes = TypedSearchAttributes(
        [
            SearchAttributePair(TENANT, tenant),
            SearchAttributePair(PIPELINE, section.pipeline),
            SearchAttributePair(ENVIRONMENT, section.environment),
        ]
    )
    # What a person would write on the command line, and no more.
    given = run.model_dump(mode="json", exclude_defaults=True)
    summary = f"{section.pipeline} for {tenant} in {section.environment}, by schedule"
    action = ScheduleActionStartWorkflow(
        WORKFLOW,
        given,
        id=_id(tenant, section),  # Temporal appends the time of each start
        task_queue=TASK_QUEUE,
        static_summary=summary,
        typed_search_attributes=attributes,
        priority=priority(tenant),
    )
    schedule = Schedule(
        action=action,
        spec=ScheduleSpec(
            calendars=[cron.parse(section.cron)] if section.cron else [],
            intervals=[ScheduleIntervalSpec(section.every)] if section.every else [],
            time_zone_name=section.time_zone,
            jitter=section.jitter,
        ),
        policy=SchedulePolicy(overlap=ScheduleOverlapPolicy[section.overlap.upper()], catchup_window=section.catch_up),
        state=ScheduleState(paused=section.paused, note=PAUSED_NOTE if section.paused else None),
    )
    return Desired(schedule, attributes, _facts(schedule, action, attributes, [given], summary))


async def _actual(client: Client, wanted: Iterable[str]) -> dict[str, Actual]:
    """Every schedule that Entrepot made, and whatever else has an id that the file wants.

    The ids come from a list that may lag a moment behind; what is said of each does not.
    """
    ids = {*wanted, *[each.id async for each in made_here(client)]}
    found: dict[str, Actual] = {}

    async def look(schedule_id: str) -> None:
        try:
            found[schedule_id] = await _described(client, await client.get_schedule_handle(schedule_id).describe())
        except RPCError as error:
            if error.status != RPCStatusCode.NOT_FOUND:
                raise

    await each_of(sorted(ids), look)
    return found


async def made_here(client: Client) -> AsyncIterator[ScheduleListDescription]:
    """The schedules that were made for the tenants of this task queue."""
    async for each in await client.list_schedules():
        with suppress(CannotDecrypt):  # another group's, with a key of its own
            if _is_ours(await each.memo()):
                yield each


def _is_ours(memo: Mapping[str, Any]) -> bool:
    return all(memo.get(key) == value for key, value in MEMO.items())


async def _described(client: Client, description: ScheduleDescription) -> Actual:
    schedule, action = description.schedule, description.schedule.action
    assert isinstance(action, ScheduleActionStartWorkflow)  # Temporal has no other kind of action
    arguments = [await _decoded(client, each) for each in action.args]
    summary = await _decoded(client, action.static_summary)
    facts = _facts(schedule, action, description.typed_search_attributes, arguments, summary)
    paused = (schedule.state.note or "") if schedule.state.paused else None
    return Actual(_is_ours(await description.memo()), facts, paused)


async def _decoded(client: Client, value: Any) -> Any:
    if not isinstance(value, Payload):
        return value
    try:
        return (await client.data_converter.decode([value]))[0]
    except Exception as error:  # somebody put in what is no JSON, or another codec wrote it: drift like any other
        return f"unreadable: {type(error).__name__}"


def _updater(wanted: Desired) -> Callable[[ScheduleUpdateInput], ScheduleUpdate]:
    def update(current: ScheduleUpdateInput) -> ScheduleUpdate:
        state = current.description.schedule.state
        attributes = current.description.typed_search_attributes.updated(*wanted.attributes)
        return ScheduleUpdate(dataclasses.replace(wanted.schedule, state=state), attributes)

    return update


def _facts(
    schedule: Schedule,
    action: ScheduleActionStartWorkflow,
    attributes: TypedSearchAttributes,
    arguments: Iterable[Any],
    summary: Any,
) -> dict[str, str]:
    """What a schedule does, as text for people that is equal if, and only if, it does the same.

    The server writes a specification its own way, so what is compared is not what was sent. What Entrepot never sets is
    there only if somebody has set it.
    """
    spec, policy = schedule.spec, schedule.policy
    when = [cron.text(each) for each in spec.calendars]
    when += [
        f"every {_text(each.every)}" + (f" from {_text(each.offset)}" if each.offset else "") for each in spec.intervals
    ]
    facts = {
        "when": ", ".join(sorted(when)) or "never",
        "time zone": spec.time_zone_name or "UTC",
        "jitter": _text(spec.jitter),
        "overlap": policy.overlap.name.lower(),
        "catch up": _text(policy.catchup_window),
        "workflow": action.workflow,
        "workflow id": action.id,
        "task queue": action.task_queue,
        "input": " ".join(json.dumps(each, sort_keys=True, ensure_ascii=False, default=str) for each in arguments)
        or "none",
        "summary": str(summary or "none"),
        "search attributes": _attributes_text(attributes),
        "search attributes of its runs": _attributes_text(action.typed_search_attributes),
        "fairness key": action.priority.fairness_key or "none",
    }
    timeout = action.task_timeout
    extras = {
        "never at": ", ".join(cron.text(each) for each in spec.skip),
        "not before": spec.start_at,
        "not after": spec.end_at,
        "pause on failure": policy.pause_on_failure,
        "execution timeout": action.execution_timeout,
        "run timeout": action.run_timeout,
        "task timeout": timeout if timeout != _DEFAULT_TASK_TIMEOUT else None,
        "retries": action.retry_policy,
        "memo": ", ".join(sorted(action.memo or ())),
        "priority": action.priority.priority_key,
        "fairness weight": action.priority.fairness_weight,
    }
    return facts | {name: str(value) for name, value in extras.items() if value}


def _attributes_text(attributes: TypedSearchAttributes) -> str:
    values = {key.name: attributes.get(key) for key in (TENANT, PIPELINE, ENVIRONMENT)}
    return " ".join(f"{name}={value}" for name, value in values.items() if value) or "none"


def _when_text(facts: Mapping[str, str]) -> str:
    zone = "" if facts["when"].startswith("every ") else f" in {facts['time zone']}"
    return f"{facts['when']}{zone}"


def _text(span: timedelta | None) -> str:
    return duration_text(span) if span else "none"

"""What the commands do. They are clients of Temporal: what they start, the `temporal` CLI can start, too."""

from __future__ import annotations

import asyncio
import json as jsonlib
import uuid
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from entrepot.errors import BadInput, Unavailable, unknown

T = TypeVar("T")


def run(
    pipeline: str,
    tenant: str | None,
    tenants: str | None,
    environment: str,
    select: str | None,
    parameters: Iterable[str],
    how: Mapping[str, Any],
    json: bool,
) -> None:
    """`entrepot run`. `how` says how sources are asked, and what is computed anew, where not as usual."""
    from entrepot.worker.cli import follow, output
    from entrepot.worker.client import connected
    from entrepot.workflows.progress import RunSummary

    name = tenant_of(tenant, tenants)
    value = _input(name, pipeline, environment, select, parameters) | {n: v for n, v in how.items() if v}
    if "backfill" in value:
        value["backfill"] = _range(value["backfill"])
    id = follow.workflow_id(name, pipeline, environment)
    started = False

    async def go() -> RunSummary:
        nonlocal started
        async with connected() as client:
            handle = await follow.start(client, "Pipeline", value, id, f"{pipeline} for {name} in {environment}")
            started = True
            watched = follow.wait_with_hints(client, handle) if json else follow.watch(client, handle, output.out)
            return RunSummary.model_validate(await watched)

    try:
        ended = asyncio.run(go())
    except (KeyboardInterrupt, Unavailable):
        if started:
            output.err.print(f"The run goes on. {follow.how_to_follow(id)}", soft_wrap=True)
        raise
    output.json(ended) if json else output.summary(ended)


def plan(
    pipeline: str,
    tenant: str | None,
    tenants: str | None,
    environment: str,
    select: str | None,
    parameters: Iterable[str],
    json: bool,
) -> None:
    """`entrepot plan`."""
    from entrepot.worker.cli import follow, output
    from entrepot.workflows.progress import RunSummary

    name = tenant_of(tenant, tenants)
    value = {**_input(name, pipeline, environment, select, parameters), "dry_run": True}
    # Beside a run that may be going on: a plan changes nothing, so it needs no mutex.
    id = f"{follow.workflow_id(name, pipeline, environment)}:plan:{uuid.uuid4().hex[:8]}"
    ended = RunSummary.model_validate(wait_for("Pipeline", value, id, f"Plan of {pipeline} for {name}"))
    assert ended.plan is not None
    output.json(ended.plan) if json else output.plan(ended.plan)


def parity(
    pipeline: str,
    on: str | None,
    tenant: str | None,
    tenants: str | None,
    environment: str,
    select: str | None,
    parameters: Iterable[str],
    fresh: bool,
    json: bool,
) -> None:
    """`entrepot parity`."""
    from entrepot.protocol.messages import ParityReport
    from entrepot.worker.cli import follow, output
    from entrepot.worker.client import connected

    name = tenant_of(tenant, tenants)
    value = _input(name, pipeline, environment, select, parameters)
    value |= {"on": _names(on), "fresh": fresh}
    id = f"{follow.workflow_id(name, pipeline, environment)}:parity"

    async def go() -> Any:
        async with connected() as client:
            handle = await follow.start(client, "Parity", value, id, f"Parity of {pipeline} for {name}")
            # With JSON, on standard error: it may take an hour, and nobody waits for that long in silence.
            return await follow.watch(client, handle, output.err if json else output.out)

    report = ParityReport.model_validate(asyncio.run(go()))
    output.json(report) if json else output.parity(report)
    if not report.agrees:
        raise SystemExit(1)


def rollback(
    pipeline: str,
    tenant: str | None,
    tenants: str | None,
    environment: str,
    to: str | None,
    cursor: bool,
    json: bool,
) -> None:
    """`entrepot rollback`."""
    from entrepot.worker.cli import follow, output

    name = tenant_of(tenant, tenants)
    value: dict[str, Any] = {
        "tenant": name,
        "pipeline": pipeline,
        "environment": environment,
        **({"to": to} if to else {}),
    }
    value |= {"cursor": True} if cursor else {}
    id = f"{follow.workflow_id(name, pipeline, environment)}:rollback"
    ended = wait_for("Rollback", value, id, f"Rollback of {pipeline} for {name}")
    if json:
        output.json(ended)
    elif ended["moved"]:
        output.out.print(f"✓ {environment} moved back: {', '.join(ended['moved'])}", soft_wrap=True)
        if ahead := ended["ahead"]:
            output.out.print(
                f"  {', '.join(ahead)}: the next run goes on behind the newest load and shows again what was hidden; "
                "with --cursor it would ask the source for the gap once more",
                soft_wrap=True,
            )
    else:
        output.out.print(f"✓ nothing to do: {environment} shows that already")


def versions(pipeline: str, tenant: str | None, tenants: str | None, json: bool) -> None:
    """`entrepot versions`."""
    from entrepot.protocol import activity_names
    from entrepot.worker.cli import output

    rows = asyncio.run(_asked(activity_names.VERSIONS, {"tenant": tenant_of(tenant, tenants), "pipeline": pipeline}))
    output.json(rows) if json else output.versions(rows)


def checks(
    pipeline: str,
    tenant: str | None,
    tenants: str | None,
    table: str | None,
    run: str | None,
    environment: str | None,
    json: bool,
) -> None:
    """`entrepot checks`."""
    from entrepot.protocol import activity_names
    from entrepot.worker.cli import output

    value = {"tenant": tenant_of(tenant, tenants), "pipeline": pipeline}
    value |= {n: v for n, v in {"table": table, "run": run, "environment": environment}.items() if v}
    rows = asyncio.run(_asked(activity_names.CHECKS, value))
    if json:
        output.json(rows)
    elif rows:
        output.checks(rows)
    else:
        output.out.print("✓ no violating rows")


def graph(pipeline: str, select: str | None, mermaid: bool, json: bool, tenants: str | None) -> None:
    """`entrepot graph`."""
    from entrepot.planning.selection import select as chosen
    from entrepot.registry import Registry
    from entrepot.worker.cli import output
    from entrepot.worker.config import settings

    made = Registry(settings.load(tenants).references).load(pipeline).graph
    names = chosen(made, select) if select else frozenset(made.steps)
    steps = [step for name, step in made.steps.items() if name in names]
    if mermaid:
        lines = [f'  {s.name.replace(".", "_")}["{s.name}<br/><i>{s.kind}</i>"]' for s in steps]
        lines += [
            f"  {source.replace('.', '_')} --> {s.name.replace('.', '_')}"
            for s in steps
            for source in sorted(made.upstream[s.name] & names)
        ]
        output.out.print("\n".join(["flowchart LR", *lines]), soft_wrap=True)
    elif json:
        output.json(
            [
                {
                    "name": s.name,
                    "kind": s.kind,
                    "inputs": list(made.table_inputs(s)),
                    "outputs": list(s.outputs),
                    "description": s.description,
                    "owner": s.owner,
                    "tags": sorted(s.tags),
                    "at": str(s.at),
                }
                for s in steps
            ]
        )
    else:
        lines_of = [
            (s.name, s.kind, ", ".join(made.table_inputs(s)) or ", ".join(s.outputs), s.description) for s in steps
        ]
        output.rows(("step", "kind", "reads (or brings)", ""), lines_of)


def sql(
    step: str, backend: str, tenant: str | None, parameters: Iterable[str], tenants: str | None, state: str | None
) -> None:
    """`entrepot sql`."""
    from entrepot.worker.cli.sql import compiled
    from entrepot.worker.config import settings

    name = tenant_of(tenant, tenants)
    print(compiled(settings.load(tenants, state).connect(), name, step, backend, _parameters(parameters)))


def worker(tenants: str | None, state: str | None, slots: int) -> None:
    """`entrepot worker`."""
    from entrepot.worker import logs, process
    from entrepot.worker.client import connect
    from entrepot.worker.config import settings

    logs.configure()
    served = settings.load(tenants, state).connect()
    process.warm_up()

    async def serve() -> None:
        client = await connect(runtime=logs.runtime())
        logs.log.info("serving %s from %s", ", ".join(served.tenants), client.service_client.config.target_host)
        async with process.serving(client, served, slots=slots) as stop:
            await stop.wait()

    asyncio.run(serve())


def dev(tenants: str | None, state: str | None, port: int, ui_port: int, standins: str | None) -> None:
    """`entrepot dev`."""
    from entrepot.worker.config import settings
    from entrepot.worker.local import dev as development

    asyncio.run(development.serve(settings.load(tenants, state), port, ui_port, _names(standins)))


def demo(state: str | None) -> None:
    """`entrepot demo`."""
    from entrepot.worker.local.demo import main

    main(state)


def doctor(tenants: str | None, state: str | None) -> None:
    """`entrepot doctor`."""
    from entrepot.worker.cli.doctor import main

    main(tenants, state)


def schedules(tenants: str | None, *, apply: bool) -> None:
    """`entrepot schedules plan|apply`."""
    from entrepot.worker.cli import output
    from entrepot.worker.client import connected
    from entrepot.worker.config import settings
    from entrepot.worker.schedules import reconcile as reconciler

    loaded = settings.load(tenants)

    async def reconcile() -> list[Any]:
        async with connected() as client:
            return list(await (reconciler.apply if apply else reconciler.plan)(client, loaded))

    changes = asyncio.run(reconcile())
    for change in changes:
        output.out.print(change.sentence, soft_wrap=True)
    if not changes:
        output.out.print("The tenant file has no schedules, and Temporal has none of ours.")
    if not apply and any(change.is_change for change in changes):
        raise SystemExit(1)


def wait_for(workflow: str, value: dict[str, Any], id: str, summary: str) -> Any:
    """Starts a short workflow and waits for its result."""
    from entrepot.worker.cli import follow
    from entrepot.worker.client import connected

    async def go() -> Any:
        async with connected() as client:
            handle = await follow.start(client, workflow, value, id, summary)
            return await follow.wait_with_hints(client, handle)

    return asyncio.run(go())


async def _asked(activity: str, value: Mapping[str, str]) -> Any:
    """What an activity answers that is started by itself."""
    from datetime import timedelta

    from temporalio.client import ActivityFailureError
    from temporalio.common import RetryPolicy
    from temporalio.exceptions import ApplicationError

    from entrepot.worker.cli.follow import RunFailed, wait_for_answer
    from entrepot.worker.client import TASK_QUEUE, connected

    async with connected() as client:
        listing = client.execute_activity(
            activity,
            dict(value),
            id=f"{value['tenant']}/{value['pipeline']}:{activity}:{uuid.uuid4().hex[:8]}",
            task_queue=TASK_QUEUE,
            result_type=list,
            start_to_close_timeout=timedelta(minutes=5),
            schedule_to_close_timeout=timedelta(minutes=10),
            retry_policy=RetryPolicy(maximum_attempts=3),
        )
        try:
            return await wait_for_answer(client, listing)
        except ActivityFailureError as error:
            cause = error.cause
            if isinstance(cause, ApplicationError):
                raise (BadInput if cause.type == "BadInput" else RunFailed)(cause.message) from None
            raise RunFailed(str(cause or error)) from None


def _input(
    tenant: str, pipeline: str, environment: str, select: str | None, parameters: Iterable[str]
) -> dict[str, Any]:
    """The JSON that a person would start the workflow with."""
    value: dict[str, Any] = {"tenant": tenant, "pipeline": pipeline, "environment": environment}
    if select:
        value["select"] = select
    if given := _parameters(parameters):
        value["parameters"] = given
    return value


def _range(given: str) -> dict[str, Any]:
    """`FROM..TO`: whole numbers, or texts."""
    start, dots, end = given.partition("..")
    if not (start and dots and end):
        raise BadInput(f"--backfill takes a range FROM..TO, and got {given!r}")
    return {"start": _bound(start), "end": _bound(end)}


def _bound(text: str) -> int | str:
    return int(text) if text.lstrip("-").isdigit() else text


def _names(given: str | None) -> list[str]:
    """Names with commas between."""
    return [each.strip() for each in (given or "").split(",") if each.strip()]


def _parameters(given: Iterable[str]) -> dict[str, Any]:
    """`NAME=VALUE` pairs; a value that is not JSON is text."""
    values: dict[str, Any] = {}
    for each in given:
        name, equals, text = each.partition("=")
        if not equals or not name:
            raise BadInput(f"cannot read the parameter {each!r}; write NAME=VALUE")
        try:
            values[name] = jsonlib.loads(text)
        except jsonlib.JSONDecodeError:
            values[name] = text
    return values


def tenant_of(given: str | None, file: str | None) -> str:
    """The tenant that is meant: the one given, else the only one there is."""
    from entrepot.worker.config import settings

    names = settings.tenant_names(file)
    if given is None:
        if len(names) == 1:
            return names[0]
        raise BadInput(f"name a tenant with --tenant; known: {', '.join(names)}")
    if names and given not in names and file is not None:
        raise BadInput(unknown("tenant", given, names))
    return given

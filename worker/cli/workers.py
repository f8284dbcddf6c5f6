"""`entrepot workers`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

from entrepot.worker.cli.options import JsonOption

if TYPE_CHECKING:
    from entrepot.worker.deployments.served import Served
    from entrepot.worker.deployments.workers import ServingWorker

_SHOWN = 6
"""So many tenants of a worker are named."""


def workers(as_json: JsonOption = False) -> None:
    """List the workers that serve, or did lately: where, with which code, for whom, and what they have to do.

    \b
    Examples:
      entrepot workers
      entrepot workers --json    # with the pipelines of each tenant
    """
    import asyncio

    from entrepot.worker.cli import output
    from entrepot.worker.client import TASK_QUEUE, connected
    from entrepot.worker.deployments import served
    from entrepot.worker.deployments import workers as serving

    async def go() -> tuple[list[ServingWorker], Mapping[str, Served]]:
        async with connected() as client:
            found = await serving.workers(client)
            return found, await served.asked(client, TASK_QUEUE, found)

    found, answers = asyncio.run(go())
    if as_json:
        output.json([{**asdict(each), "serves": answers.get(each.identity)} for each in found])
    elif found:
        heads = ("worker", "state", "deployment", "build id", "steps", "seen at (UTC)", "started at (UTC)", "serves")
        output.rows(heads, (_line(each, answers.get(each.identity)) for each in found))
    else:
        output.out.print(f"No worker serves the task queue {TASK_QUEUE!r}. Start one: entrepot worker")


def _line(worker: ServingWorker, served: Served | None) -> list[str]:
    steps = f"{worker.running} of {worker.slots}" if worker.slots else ""
    times = [time.isoformat(" ", "seconds") for time in (worker.seen, worker.started)]
    version = worker.version
    return [worker.identity, worker.state, version.deployment_name, version.build_id, steps, *times, _whom(served)]


def _whom(served: Served | None) -> str:
    if served is None:
        return ""
    names = sorted(served.tenants)
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more + (" (its tenant file cannot be read)" if served.behind else "")

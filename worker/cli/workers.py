"""`entrepot workers`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from entrepot.worker.cli.options import JsonOption

if TYPE_CHECKING:
    from entrepot.worker.deployments.workers import ServingWorker


def workers(as_json: JsonOption = False) -> None:
    """List the workers that serve, or did lately: where, with which code, and what they have to do.

    \b
    Example:
      entrepot workers
    """
    import asyncio

    from entrepot.worker.cli import output
    from entrepot.worker.client import TASK_QUEUE, connected
    from entrepot.worker.deployments import workers as serving

    async def go() -> list[ServingWorker]:
        async with connected() as client:
            return await serving.workers(client)

    found = asyncio.run(go())
    if as_json:
        output.json(found)
    elif found:
        heads = ("worker", "state", "deployment", "build id", "steps", "seen at (UTC)", "started at (UTC)")
        output.rows(heads, map(_line, found))
    else:
        output.out.print(f"No worker serves the task queue {TASK_QUEUE!r}. Start one: entrepot worker")


def _line(worker: ServingWorker) -> list[str]:
    steps = f"{worker.running} of {worker.slots}" if worker.slots else ""
    times = [time.isoformat(" ", "seconds") for time in (worker.seen, worker.started)]
    return [worker.identity, worker.state, worker.version.deployment_name, worker.version.build_id, steps, *times]

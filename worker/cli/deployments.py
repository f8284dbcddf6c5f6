"""`entrepot deployments`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from entrepot.worker.cli.options import JsonOption

if TYPE_CHECKING:
    from temporalio.client import Client

    from entrepot.worker.deployments.versions import Deployment, Version
    from entrepot.worker.deployments.workers import ServingWorker

group = typer.Typer()

BuildArgument = Annotated[str, typer.Argument(help="Build id, as `entrepot deployments` shows it.")]
DeploymentOption = Annotated[
    str | None, typer.Option(help="Default: the only one there is.", envvar="TEMPORAL_DEPLOYMENT_NAME")
]


@group.callback(invoke_without_command=True)
def show(context: typer.Context, as_json: JsonOption = False) -> None:
    """Show the versions of the workers: which gets new runs, and which still have runs to end.

    \b
    Examples:
      entrepot deployments
      entrepot deployments ramp 0.2.0-3f9c01d2ab45e678 10
      entrepot deployments set-current 0.2.0-3f9c01d2ab45e678
      entrepot deployments rollback
    """
    if context.invoked_subcommand is not None:
        return
    import asyncio

    from entrepot.worker.cli import output
    from entrepot.worker.client import connected
    from entrepot.worker.deployments import versions, workers

    async def go() -> tuple[Sequence[Deployment], Sequence[ServingWorker]]:
        async with connected() as client:
            return await versions.deployments(client), await workers.workers(client)

    found, serving = asyncio.run(go())
    lines = [_line(deployment, version, serving) for deployment in found for version in deployment.versions]
    if as_json:
        output.json(lines)
    elif lines:
        heads = ("deployment", "build id", "status", "new runs", "running", "workers", "created at (UTC)")
        output.rows(heads, ([str(value) for value in line.values()] for line in lines))
    else:
        output.out.print("No worker is of a deployment, so none is versioned: runs go on with whatever code is there.")
    for line in lines:
        if line["running"] and not line["workers"]:
            what = f"⚠ no worker of build {line['build_id']} is there, and runs that stay on it wait: {line['running']}"
            output.err.print(what, style="yellow", soft_wrap=True)


@group.command("set-current")
def set_current(build_id: BuildArgument, deployment: DeploymentOption = None) -> None:
    """Give all new runs to a version. Runs that are under way stay on theirs.

    \b
    Example:
      entrepot deployments set-current 0.2.0-3f9c01d2ab45e678
    """
    from entrepot.worker.deployments import versions

    async def change(client: Client, its: Deployment) -> str:
        await versions.set_current(client, its, build_id)
        return f"{build_id} gets all new runs"

    _changed(change, deployment)


@group.command()
def ramp(
    build_id: BuildArgument,
    percentage: Annotated[float, typer.Argument(min=0, max=100, help="Of new runs; 0 ends the ramp.")],
    deployment: DeploymentOption = None,
) -> None:
    """Give a part of the new runs to a version, and the others to the current one.

    \b
    Example:
      entrepot deployments ramp 0.2.0-3f9c01d2ab45e678 10
    """
    from entrepot.worker.deployments import versions

    async def change(client: Client, its: Deployment) -> str:
        await versions.ramp(client, its, build_id, percentage)
        return f"{build_id} gets {percentage:g} % of new runs" if percentage else "no version is ramping"

    _changed(change, deployment)


@group.command()
def rollback(deployment: DeploymentOption = None) -> None:
    """Take a ramp back; without one, give new runs to the version that was current before.

    \b
    Example:
      entrepot deployments rollback
    """
    from entrepot.worker.deployments import versions

    _changed(versions.roll_back, deployment)


def _line(deployment: Deployment, version: Version, serving: Sequence[ServingWorker]) -> dict[str, str | int]:
    from entrepot.worker.deployments.workers import of_version

    share = {"ramping": deployment.percentage, "current": 100 - deployment.percentage}.get(version.status, 0)
    return {
        "deployment": deployment.name,
        "build_id": version.build_id,
        "status": version.status,
        "new_runs": f"{share:g} %",
        "running": version.running,
        "workers": len(of_version(serving, deployment.name, version.build_id)),
        "created_at": version.created.isoformat(" ", "seconds"),
    }


def _changed(change: Callable[[Client, Deployment], Awaitable[str]], name: str | None) -> None:
    """Makes a change, and says what is so now; also if nobody is there who could take what he is given."""
    import asyncio

    from entrepot.worker.cli import output
    from entrepot.worker.client import connected
    from entrepot.worker.deployments import versions, waiting

    async def go() -> tuple[str, str | None]:
        async with connected() as client:
            its = await versions.chosen(client, name)
            return f"{its.name}: {await change(client, its)}", await waiting.why(client)

    done, lacking = asyncio.run(go())
    output.out.print(f"✓ {done}", soft_wrap=True)
    if lacking:
        output.err.print(f"⚠ {lacking}", style="yellow", soft_wrap=True)

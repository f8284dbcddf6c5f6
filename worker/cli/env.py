"""`entrepot env`: a tenant's environments, listed, made of one another, promoted and dropped."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

import typer

from entrepot.errors import BadInput
from entrepot.language.names import DEFAULT_ENVIRONMENT, ENVIRONMENT, PIPELINE
from entrepot.worker.cli import env_diff
from entrepot.worker.cli.options import (
    DryRunOption,
    JsonOption,
    PipelineOption,
    TenantOption,
    TenantsOption,
    named,
    names,
)

group = typer.Typer(help="Manage a tenant's environments.", no_args_is_help=True)
group.command()(env_diff.diff)

EnvironmentArgument = Annotated[
    str, typer.Argument(help="Environment name, such as pr_12.", callback=named(ENVIRONMENT))
]


@group.command(name="list")
def list_environments(
    pipeline: Annotated[
        str | None, typer.Option("--pipeline", "-p", help="Default: every pipeline.", callback=named(PIPELINE))
    ] = None,
    tenant: TenantOption = None,
    as_json: JsonOption = False,
    tenants: TenantsOption = None,
) -> None:
    """List a tenant's environments: what was published there last, and how many names differ from prod.

    \b
    Examples:
      entrepot env list
      entrepot env list --pipeline flights --json
    """
    from entrepot.protocol import activities
    from entrepot.worker.cli import follow, output
    from entrepot.worker.config import settings

    value = {"tenant": settings.tenant_of(tenant, tenants), **({"pipeline": pipeline} if pipeline else {})}
    rows = follow.execute_activity(activities.ENVIRONMENTS.name, value)
    output.json(rows) if as_json else _show_environments(rows)


def _show_environments(rows: Iterable[dict[str, Any]]) -> None:
    from entrepot.planning.plan import short
    from entrepot.worker.cli import output

    lines = [
        (
            row["pipeline"],
            row["environment"],
            f"{row['names']:,}",
            "" if row["differ"] is None else f"{row['differ']:,}",
            row["published_at"],
            f"{row['action']} by {short(row['run'])}" if row["published_at"] else "never published",
            "not all is shown yet" if row["behind"] else "",
        )
        for row in rows
    ]
    if not lines:
        output.out.print("✓ no environment yet")
        return
    heads = ("pipeline", "environment", "names", f"differ from {DEFAULT_ENVIRONMENT}", "published at (UTC)", "by", "")
    output.rows(heads, lines)


@group.command()
def history(
    environment: EnvironmentArgument,
    pipeline: PipelineOption,
    tenant: TenantOption = None,
    as_json: JsonOption = False,
    tenants: TenantsOption = None,
) -> None:
    """List what was published to an environment, newest first: to choose what to roll back to.

    \b
    Example:
      entrepot env history prod --pipeline flights
    """
    from entrepot.planning.plan import short
    from entrepot.protocol import activities
    from entrepot.worker.cli import follow, output
    from entrepot.worker.config import settings

    name = settings.tenant_of(tenant, tenants)
    value = {"tenant": name, "pipeline": pipeline, "environment": environment}
    rows = follow.execute_activity(activities.HISTORY.name, value)
    if as_json:
        output.json(rows)
        return
    lines = []
    for row in rows:
        more = f" and {row['moved'] - len(row['names'])} more" if row["moved"] > len(row["names"]) else ""
        moved = f"{', '.join(row['names'])}{more}" or "nothing"
        what = (row["action"], short(row["run"]), moved, row["why"], row["code"], row["cause"])
        lines.append((str(row["sequence"]), row["published_at"], *what))
    output.rows(("", "published at (UTC)", "action", "run", "moved", "why", "code", "caused by"), lines)


@group.command()
def create(
    environment: EnvironmentArgument,
    like: Annotated[
        str, typer.Option("--like", help="The environment whose versions it shows.", callback=named(ENVIRONMENT))
    ] = DEFAULT_ENVIRONMENT,
    pipeline: Annotated[
        str | None,
        typer.Option(
            "--pipeline", "-p", help="Default: every pipeline that shows something there.", callback=named(PIPELINE)
        ),
    ] = None,
    tenant: TenantOption = None,
    as_json: JsonOption = False,
    tenants: TenantsOption = None,
) -> None:
    """Create an environment that shows what another shows, at once. No data is computed or copied.

    \b
    Examples:
      entrepot env create dev
      entrepot env create pr_12 --like dev --pipeline flights

    \b
    The same with plain Temporal:
      temporal workflow start --type Create --task-queue entrepot \\
        --workflow-id acme:create:dev --input '{"tenant": "acme", "environment": "dev", "like": "prod"}'
    """
    from entrepot.worker.cli import follow, output
    from entrepot.worker.config import settings

    name = settings.tenant_of(tenant, tenants)
    value = {"tenant": name, "environment": environment, "like": like}
    value |= {"pipeline": pipeline} if pipeline else {}
    ended = follow.execute("Create", value, f"{name}:create:{environment}", f"{environment} like {like} for {name}")
    if as_json:
        output.json(ended)
        return
    for owner, shown in ended["shows"].items():
        output.out.print(f"✓ {environment} of {owner} shows {output.count(len(shown), 'name')}, like {like}")
    output.behind(ended["behind"])


@group.command()
def promote(
    like: Annotated[str, typer.Argument(metavar="FROM", help="What is promoted.", callback=named(ENVIRONMENT))],
    environment: Annotated[
        str, typer.Argument(metavar="TO", help="What shows it afterwards.", callback=named(ENVIRONMENT))
    ],
    pipeline: PipelineOption,
    expect: Annotated[
        str | None,
        typer.Option(
            help="What each showed when you looked, as `env diff` prints it: dev=RUN,prod=RUN. If one shows something "
            "else by now, nothing moves."
        ),
    ] = None,
    tenant: TenantOption = None,
    as_json: JsonOption = False,
    tenants: TenantsOption = None,
) -> None:
    """Point an environment at what another shows, all of it or nothing. No data is computed or copied.

    \b
    Example:
      entrepot env promote dev prod --pipeline flights

    \b
    The same with plain Temporal:
      temporal workflow start --type Promote --task-queue entrepot --workflow-id acme/flights:promote \\
        --input '{"tenant": "acme", "pipeline": "flights", "like": "dev", "environment": "prod"}'
    """
    from entrepot.worker.cli import follow, output
    from entrepot.worker.client import run_workflow_id
    from entrepot.worker.config import settings

    name = settings.tenant_of(tenant, tenants)
    value: dict[str, Any] = {"tenant": name, "pipeline": pipeline, "like": like, "environment": environment}
    value |= {"expect": _expected(expect)} if expect else {}
    workflow_id = f"{run_workflow_id(name, pipeline, environment)}:promote"
    ended = follow.execute("Promote", value, workflow_id, f"{like} to {environment}, of {pipeline} for {name}")
    if as_json:
        output.json(ended)
    elif ended["moved"]:
        moved = sorted(ended["moved"])
        told = f"promoted {output.count(len(moved), 'name')} from {like} to {environment}: {', '.join(moved)}"
        output.out.print(f"✓ {told}", soft_wrap=True)
        _tell_of_sources(ended, like, environment)
        for link, path in ended["links"].items():
            if link in moved:
                output.out.print(f"  {link}: {path}", soft_wrap=True)
        output.behind(ended["behind"])
    else:
        output.out.print(f"✓ nothing to do: {environment} already shows what {like} shows")
        output.behind(ended["behind"])


def _tell_of_sources(ended: dict[str, Any], like: str, environment: str) -> None:
    from entrepot.worker.cli import output

    if ahead := ended["ahead"]:
        told = f"{environment} has loaded more than {like}, which its next run shows again"
        output.out.print(f"  {', '.join(ahead)}: {told}", soft_wrap=True)
    if again := ended["again"]:
        told = f"goes on where {like} stood: what {environment} had loaded beside is asked of the source again"
        output.out.print(f"  {', '.join(again)}: {told}", soft_wrap=True)


def _expected(given: str) -> dict[str, str]:
    """The run that each environment is expected to show."""
    pairs = [each.partition("=") for each in names(given)]
    if not all(name and equals for name, equals, _ in pairs):
        raise BadInput(f"cannot read --expect {given!r}; write dev=RUN,prod=RUN, as `entrepot env diff` prints it")
    return {name: run for name, _, run in pairs}


@group.command()
def drop(
    environment: EnvironmentArgument,
    pipeline: Annotated[
        str | None,
        typer.Option(
            "--pipeline", "-p", help="Default: every pipeline that has something there.", callback=named(PIPELINE)
        ),
    ] = None,
    tenant: TenantOption = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
    tenants: TenantsOption = None,
) -> None:
    """Drop an environment: its views, files and history. Its versions are removed by the next `entrepot gc`.

    \b
    Examples:
      entrepot env drop pr_12
      entrepot env drop prod --pipeline old_name

    \b
    The same with plain Temporal:
      temporal workflow start --type Drop --task-queue entrepot \\
        --workflow-id acme:drop:pr_12 --input '{"tenant": "acme", "environment": "pr_12"}'
    """
    from entrepot.worker.cli import follow, output
    from entrepot.worker.config import settings

    name = settings.tenant_of(tenant, tenants)
    value = {"tenant": name, "environment": environment, "dry_run": dry_run}
    value |= {"pipeline": pipeline} if pipeline else {}
    ended = follow.execute("Drop", value, f"{name}:drop:{environment}", f"Drop of {environment} for {name}")
    if as_json:
        output.json(ended)
        return
    done = "would be dropped" if dry_run else "dropped"
    for owner, shown in ended["removed"].items():
        for each in shown:
            output.out.print(f"  {each}")
        output.out.print(f"✓ {environment} of {owner} {done}: {output.count(len(shown), 'name')}", soft_wrap=True)

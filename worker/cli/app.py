"""The command line. It starts fast: what a command needs is imported when the command runs.

Exit codes: 0 done · 1 the run failed · 2 bad input · 3 Temporal, a warehouse or a disk cannot be used · 130 Ctrl-C.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any, NoReturn

import typer

from entrepot.errors import BadInput, EntrepotError, PipelineError, Unavailable
from entrepot.worker.cli import commands, maintenance

app = typer.Typer(
    name="entrepot",
    help="Durable pipelines: ingest, transform, train, publish.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
schedules = typer.Typer(help="Reconcile the schedules of the tenant file into Temporal.", no_args_is_help=True)
app.add_typer(schedules, name="schedules")
env = typer.Typer(help="Environments of a tenant.", no_args_is_help=True)
app.add_typer(env, name="env")

TenantOption = Annotated[
    str | None, typer.Option("--tenant", "-t", help="Default: the only tenant there is.", envvar="ENTREPOT_TENANT")
]
EnvironmentOption = Annotated[str, typer.Option("--environment", "-e", help="Where it is published.")]
SelectOption = Annotated[
    str | None, typer.Option("--select", "-s", help="Which steps: departures+ · +delay_risk · tag:hourly · kind:train.")
]
ParameterOption = Annotated[list[str] | None, typer.Option("--parameter", "-p", help="NAME=VALUE, as often as needed.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]
TenantsOption = Annotated[
    str | None, typer.Option("--tenants", help="The tenant file. Default: tenants.toml, if it is there.")
]
StateOption = Annotated[
    str | None, typer.Option("--state", help="Folder for state. Default: ENTREPOT_STATE or .entrepot.")
]
PipelineArgument = Annotated[str, typer.Argument(help="The pipeline's name.")]


@app.command()
def demo(state: StateOption = None) -> None:
    """Run the flights pipeline end to end on a Temporal server of its own.

    \b
    Example:
      entrepot demo --state /tmp/entrepot
    """
    commands.demo(state)


@app.command()
def dev(
    tenants: TenantsOption = None,
    state: StateOption = None,
    port: Annotated[int, typer.Option(help="Of the Temporal server.")] = 7233,
    ui_port: Annotated[int, typer.Option(help="Of the Web UI.")] = 8233,
    standins: Annotated[
        str | None, typer.Option(help="Local stand-ins beside the tenants' warehouses: snowflake,bigquery,databricks.")
    ] = None,
) -> None:
    """Temporal server, Web UI and worker in one, until Ctrl-C. Pipelines are reloaded when they change.

    \b
    Examples:
      entrepot dev, and in another terminal: entrepot run flights
      entrepot dev --standins snowflake,bigquery, and then: entrepot parity flights
    """
    commands.dev(tenants, state, port, ui_port, standins)


@app.command()
def worker(
    tenants: TenantsOption = None,
    state: StateOption = None,
    slots: Annotated[int, typer.Option(min=1, help="Activities that run at the same time.")] = 16,
) -> None:
    """Serve every tenant of the tenant file, until SIGTERM. Connects as the temporal CLI does (TEMPORAL_ADDRESS ...).

    \b
    Example:
      TEMPORAL_ADDRESS=temporal:7233 entrepot worker --tenants tenants.toml
    """
    commands.worker(tenants, state, slots)


@app.command()
def run(
    pipeline: PipelineArgument,
    tenant: TenantOption = None,
    environment: EnvironmentOption = "prod",
    select: SelectOption = None,
    parameter: ParameterOption = None,
    refresh: Annotated[bool, typer.Option("--refresh", help="Load everything anew, as if nothing had been.")] = False,
    backfill: Annotated[
        str | None, typer.Option(help="Load a range of the cursor again: FROM..TO, without TO itself.")
    ] = None,
    replay: Annotated[
        str | None, typer.Option(help="Ask no source: take what this environment has loaded, from the lake.")
    ] = None,
    force: Annotated[
        str | None, typer.Option(help="Steps to compute anew, though nothing changed; written as --select is.")
    ] = None,
    json: JsonOption = False,
    tenants: TenantsOption = None,
) -> None:
    """Start a run, watch it, and end with its summary. Ctrl-C stops watching, not the run.

    \b
    Examples:
      entrepot run flights
      entrepot run flights --select departures+ --environment dev
      entrepot run flights -p late_after=30 --json
      entrepot run shop --select orders+ --backfill 2026-01-01..2026-02-01
      entrepot run shop --environment dev --replay prod
      entrepot run flights --force departures+

    \b
    The same with plain Temporal:
      temporal workflow start --type Pipeline --task-queue entrepot \\
        --workflow-id acme/flights --input '{"tenant": "acme", "pipeline": "flights"}'
    """
    how = {"refresh": refresh, "backfill": backfill, "replay": replay, "force": force}
    commands.run(pipeline, tenant, tenants, environment, select, parameter or [], how, json)


@app.command()
def plan(
    pipeline: PipelineArgument,
    tenant: TenantOption = None,
    environment: EnvironmentOption = "prod",
    select: SelectOption = None,
    parameter: ParameterOption = None,
    json: JsonOption = False,
    tenants: TenantsOption = None,
) -> None:
    """Show which steps would run, and why each. Nothing is read from sources or written.

    \b
    Example:
      entrepot plan flights --select +delay_risk
    """
    commands.plan(pipeline, tenant, tenants, environment, select, parameter or [], json)


@app.command()
def parity(
    pipeline: PipelineArgument,
    on: Annotated[
        str | None,
        typer.Option(help="Warehouses, with commas between; the others are held against the first. Default: all."),
    ] = None,
    tenant: TenantOption = None,
    environment: EnvironmentOption = "prod",
    select: SelectOption = None,
    parameter: ParameterOption = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Digest every table, whatever earlier comparisons certified.")
    ] = False,
    json: JsonOption = False,
    tenants: TenantsOption = None,
) -> None:
    """Compute every table on several warehouses from the same load, and compare. Exit code 1: they do not agree.

    \b
    Example:
      entrepot parity flights --on duckdb,snowflake
    """
    commands.parity(pipeline, on, tenant, tenants, environment, select, parameter or [], fresh, json)


@app.command()
def sql(
    step: Annotated[str, typer.Argument(help="STEP, or PIPELINE.STEP where several pipelines have it.")],
    backend: Annotated[
        str, typer.Option("--backend", "-b", help="duckdb, snowflake, bigquery or databricks.")
    ] = "duckdb",
    tenant: TenantOption = None,
    parameter: ParameterOption = None,
    tenants: TenantsOption = None,
    state: StateOption = None,
) -> None:
    """Print the SQL of a transform or check for any warehouse, without a connection.

    The raw tables' columns come from the lake's last ingest, or from what the ingest step declares.

    \b
    Example:
      entrepot sql departures --backend snowflake
    """
    commands.sql(step, backend, tenant, parameter or [], tenants, state)


@app.command()
def graph(
    pipeline: PipelineArgument,
    select: SelectOption = None,
    mermaid: Annotated[bool, typer.Option("--mermaid", help="As a Mermaid diagram.")] = False,
    json: JsonOption = False,
    tenants: TenantsOption = None,
) -> None:
    """Show a pipeline's steps, in the order in which they can run, and what each reads.

    \b
    Example:
      entrepot graph flights --mermaid
    """
    commands.graph(pipeline, select, mermaid, json, tenants)


@app.command()
def versions(
    pipeline: PipelineArgument, tenant: TenantOption = None, json: JsonOption = False, tenants: TenantsOption = None
) -> None:
    """List every version of a pipeline's tables, models and pages, and which environments show it.

    \b
    Example:
      entrepot versions flights --json
    """
    commands.versions(pipeline, tenant, tenants, json)


@app.command()
def checks(
    pipeline: PipelineArgument,
    table: Annotated[str | None, typer.Option(help="Of the checks that guard this table.")] = None,
    run: Annotated[str | None, typer.Option(help="Of this run: its id, or the first characters of it.")] = None,
    environment: Annotated[
        str | None, typer.Option("--environment", "-e", help="Of its runs, and of what it shows now.")
    ] = None,
    tenant: TenantOption = None,
    json: JsonOption = False,
    tenants: TenantsOption = None,
) -> None:
    """List the violating rows that checks have found and kept, the newest first.

    \b
    Examples:
      entrepot checks flights
      entrepot checks flights --table departures --environment prod
    """
    commands.checks(pipeline, tenant, tenants, table, run, environment, json)


@app.command()
def rollback(
    pipeline: PipelineArgument,
    tenant: TenantOption = None,
    environment: EnvironmentOption = "prod",
    to: Annotated[str | None, typer.Option(help="The run to go back to. Default: the publish before the last.")] = None,
    cursor: Annotated[
        bool,
        typer.Option("--cursor", help="The cursors go back, too: the next run asks the sources for the gap again."),
    ] = False,
    json: JsonOption = False,
    tenants: TenantsOption = None,
) -> None:
    """Point an environment at what it showed after an earlier publish. No data is computed or copied.

    \b
    Example:
      entrepot rollback flights --to 01a1ff1b
    """
    commands.rollback(pipeline, tenant, tenants, environment, to, cursor, json)


@app.command()
def gc(
    pipeline: Annotated[
        str | None, typer.Argument(help="Default: every pipeline, those included that the tenant runs no more.")
    ] = None,
    tenant: TenantOption = None,
    keep_days: Annotated[float, typer.Option(min=0, help="Versions made within these days stay.")] = 7,
    keep_publishes: Annotated[
        int, typer.Option(min=1, help="What each environment's last publishes showed stays.")
    ] = 3,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    json: JsonOption = False,
    tenants: TenantsOption = None,
) -> None:
    """Remove versions that nothing points at and nobody made lately, and what pipelines show that are run no more.

    \b
    Examples:
      entrepot gc flights --keep-days 30 --dry-run
      entrepot gc
    """
    maintenance.gc(pipeline, tenant, tenants, keep_days, keep_publishes, dry_run, json)


@app.command()
def doctor(
    tenants: TenantsOption = None,
    state: StateOption = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Make good what somebody dropped, replaced or emptied by hand.")
    ] = False,
) -> None:
    """Check everything that a run needs: tenant file, pipelines, Temporal, workers, warehouses, lakes, disk; and
    whether all that is shown stands in the warehouse as it was made.

    \b
    Examples:
      entrepot doctor --tenants tenants.toml
      entrepot doctor --repair

    \b
    The repair with plain Temporal:
      temporal workflow start --type Repair --task-queue entrepot --workflow-id acme:repair \\
        --input '{"tenant": "acme"}'
    """
    maintenance.repair(tenants) if repair else commands.doctor(tenants, state)


@env.command("drop")
def env_drop(
    environment: Annotated[str, typer.Argument(help="Such as pr_12.")],
    pipeline: Annotated[
        str | None, typer.Option("--pipeline", help="Default: every pipeline that has something there.")
    ] = None,
    tenant: TenantOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    json: JsonOption = False,
    tenants: TenantsOption = None,
) -> None:
    """Take an environment away: its views, files and history. Its versions go with the next `entrepot gc`.

    \b
    Examples:
      entrepot env drop pr_12
      entrepot env drop prod --pipeline old_name

    \b
    The same with plain Temporal:
      temporal workflow start --type Drop --task-queue entrepot \\
        --workflow-id acme:drop:pr_12 --input '{"tenant": "acme", "environment": "pr_12"}'
    """
    maintenance.env_drop(environment, pipeline, tenant, tenants, dry_run, json)


@schedules.command("plan")
def schedules_plan(tenants: TenantsOption = None) -> None:
    """Show what `apply` would create, change or delete. Exit code 1 if there is anything.

    \b
    Example:
      entrepot schedules plan --tenants tenants.toml
    """
    commands.schedules(tenants, apply=False)


@schedules.command("apply")
def schedules_apply(tenants: TenantsOption = None) -> None:
    """Make Temporal's schedules what the tenant file says. Doing it twice changes nothing the second time.

    \b
    Example:
      entrepot schedules apply --tenants tenants.toml
    """
    commands.schedules(tenants, apply=True)


_COMPUTING = ("demo", "dev", "worker")
"""The commands that run pipelines."""


def _with_a_fixed_seed() -> None:
    """Begins anew with one seed for the order of sets: `select(*set(names))` has the same columns in every worker."""
    if "PYTHONHASHSEED" not in os.environ and any(word in _COMPUTING for word in sys.argv[1:2]):
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def main() -> NoReturn:
    """The entry point. Ends the process at once: native libraries are not to be unloaded one by one."""
    _with_a_fixed_seed()
    code: Any = 0
    try:
        app()
    except SystemExit as ended:
        code = ended.code
    except EntrepotError as error:
        from entrepot.worker.cli import output

        output.failure(str(error))
        code = 2 if isinstance(error, BadInput | PipelineError) else 3 if isinstance(error, Unavailable) else 1
    except KeyboardInterrupt:
        code = 130
    except BrokenPipeError:
        code = 0
    with open(os.devnull, "w") as nowhere:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except BrokenPipeError:
                os.dup2(nowhere.fileno(), stream.fileno())
    os._exit(code if isinstance(code, int) else 1)


if __name__ == "__main__":
    main()

"""`entrepot plan`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from entrepot.errors import BadInput, unknown
from entrepot.language.names import DEFAULT_ENVIRONMENT
from entrepot.worker.cli.options import (
    EnvironmentOption,
    JsonOption,
    ParameterOption,
    PipelineArgument,
    SelectOption,
    TenantOption,
    TenantsOption,
    run_input,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from entrepot.planning.plan import Plan

_FORMS = ("text", "json", "markdown")


def plan(
    pipeline: PipelineArgument,
    tenant: TenantOption = None,
    environment: EnvironmentOption = DEFAULT_ENVIRONMENT,
    select: SelectOption = None,
    parameter: ParameterOption = None,
    as_json: JsonOption = False,
    form: Annotated[str, typer.Option("--format", help="text, json, or markdown for a comment.")] = "text",
    tenants: TenantsOption = None,
) -> None:
    """Show which steps would run, and why. Sources are not read, and nothing is written.

    \b
    Examples:
      entrepot plan flights --select +delay_risk
      entrepot plan flights --environment dev --format markdown
    """
    import uuid

    if form not in _FORMS:
        raise BadInput(unknown("format", form, _FORMS))
    if as_json and form == "markdown":
        raise BadInput("a plan is printed once: leave out --json or --format")

    from entrepot.worker.cli import follow, markdown, output
    from entrepot.worker.client import run_workflow_id
    from entrepot.worker.config import settings
    from entrepot.workflows.progress import RunSummary

    name = settings.tenant_of(tenant, tenants)
    value = {**run_input(name, pipeline, environment, select, parameter), "dry_run": True}
    # Beside a run that may be going on: a plan changes nothing, so it needs no mutex.
    workflow_id = f"{run_workflow_id(name, pipeline, environment)}:plan:{uuid.uuid4().hex[:8]}"
    planned = follow.execute_for_its_result("Pipeline", value, workflow_id, f"Plan of {pipeline} for {name}")
    ended = RunSummary.model_validate(planned)
    assert ended.plan is not None
    if as_json or form == "json":
        output.json({**ended.plan.model_dump(), "stages": ended.stages})
    elif form == "markdown":
        heading = f"**Plan** of {markdown.code(pipeline)} for {markdown.code(name)} in {markdown.code(environment)}"
        typer.echo(markdown.joined([heading, *markdown.of_plan(ended.plan, ended.stages)]), nl=False)
    else:
        _show(ended.plan, ended.stages)


def _published(made: Plan) -> Iterator[str]:
    """What would be published: each name, since that is what people would see change."""
    from entrepot.worker.cli import output

    if made.moves:
        yield f"{output.count(len(made.moves), 'name')} would be published: {', '.join(sorted(made.moves))}"
    if made.removed:
        yield f"{output.count(len(made.removed), 'name')} would be removed: {', '.join(made.removed)}"
    if asked := [step.name for step in made.to_run() if step.kind == "ingest"]:
        also = "also " if made.moves or made.removed else ""
        yield f"What {', '.join(asked)} brings, and what is made of it, would {also}be published where it is new."
    elif not made.moves and not made.removed:
        yield "Nothing would be published."


def _show(made: Plan, stages: Iterable[str]) -> None:
    """What a run would do, and why; and its stages, in order."""
    from rich.text import Text

    from entrepot.worker.cli import output

    table = output.table("step", "kind", "", "why", "version", yields="why")
    styles = {"run": "green", "skip": "dim", "hold": "dim"}
    for step in made.steps:
        version = made.versions.get(step.name, "")
        table.add_row(step.name, step.kind, Text(step.action, style=styles[step.action]), step.why, version)
    output.show(table)
    runs = len(made.to_run())
    output.out.print(f"{output.count(runs, 'step')} of {len(made.steps)} would run.", soft_wrap=True)
    for line in _published(made):
        output.out.print(line, soft_wrap=True)
    output.out.print(" → ".join(stages), style="dim", soft_wrap=True)
    output.standing({step.name: step.stands for step in made.steps if step.stands})

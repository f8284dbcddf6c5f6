"""`entrepot tenants`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from entrepot.errors import BadInput, EntrepotError, unknown
from entrepot.language.names import TENANT
from entrepot.worker.cli.options import JsonOption, StateOption, TenantsOption, named

if TYPE_CHECKING:
    from entrepot import Pipeline
    from entrepot.activities.runtime.tenant import Tenants
    from entrepot.worker.config.settings import Settings
    from entrepot.worker.config.tenant_schema import PipelineSection, ScheduleSection

group = typer.Typer(help="Check the tenant file, and show what holds for a tenant.", no_args_is_help=True)


@group.command()
def check(tenants: TenantsOption = None, state: StateOption = None) -> None:
    """Say everything that is wrong with the tenant file. Exit code 2 if anything is.

    Pipelines are imported, so that parameters and the selections of schedules are held against them. Warehouses are
    not asked, and no secret is read: `entrepot doctor` does that.

    \b
    Example:
      entrepot tenants check --tenants tenants.toml
    """
    from entrepot.worker.cli import output
    from entrepot.worker.config import settings

    loaded = settings.load(tenants, state)
    if problems := list(_not_for_its_pipelines(loaded)):
        raise BadInput("\n  ".join([f"{loaded.file} has {output.count(len(problems), 'problem')}:", *problems]))
    where = loaded.file or "no tenant file"
    output.out.print(f"✓ {where}: {output.count(len(loaded.tenants), 'tenant')}: {', '.join(loaded.tenants)}")


@group.command()
def show(
    tenant: Annotated[
        str | None, typer.Argument(help="Tenant. Default: every one.", callback=named(TENANT), envvar="ENTREPOT_TENANT")
    ] = None,
    as_json: JsonOption = False,
    tenants: TenantsOption = None,
    state: StateOption = None,
) -> None:
    """Show what holds for a tenant, defaults included, and where each value comes from. Secrets stay references.

    \b
    Examples:
      entrepot tenants show acme
      entrepot tenants show acme --json
    """
    from entrepot.worker.cli import output
    from entrepot.worker.config import settings, shown

    loaded = settings.load(tenants, state)
    if tenant is not None and tenant not in loaded.tenants:
        raise BadInput(unknown("tenant", tenant, loaded.tenants))
    found = {name: shown.held(loaded, name) for name in loaded.tenants if tenant in (None, name)}
    if as_json:
        every = {
            name: [{"setting": each.setting, "value": each.value, "from": each.source} for each in its]
            for name, its in found.items()
        }
        output.json({"file": str(loaded.file) if loaded.file else None, "state": str(loaded.state), "tenants": every})
        return
    for name, its in found.items():
        output.heading(name)
        output.rows(("setting", "value", "from"), [(each.setting, _said(each.value), each.source) for each in its])


@group.command()
def schema() -> None:
    """Print the JSON Schema of the tenant file, for editors that complete and check TOML by it.

    \b
    Example:
      entrepot tenants schema > tenants.schema.json
    """
    from entrepot.worker.config import json_schema

    sys.stdout.write(json_schema.written())


def _said(value: Any) -> str:
    """A value as the file would have it."""
    import json

    return "none" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _not_for_its_pipelines(settings: Settings) -> Iterator[str]:
    """What only a pipeline's code shows: it cannot be imported, or does not have that parameter or step."""
    tenants = settings.connect()
    loaded: dict[str, Pipeline] = {}
    for name in tenants.registry.references:
        with _told(problems := list[str](), f"pipelines.{name}"):
            loaded[name] = tenants.registry.load(name)
            _ = loaded[name].graph
        yield from problems
    for name, section in settings.tenants.items():
        for pipeline in (loaded[each] for each in section.runs(tenants.registry.references) if each in loaded):
            with _told(problems := list[str](), f"tenants.{name}.settings.{pipeline.name}"):
                tenants.parameters(name, pipeline, {})
            yield from problems
            yield from _of_promises(section.of(pipeline.name), f"tenants.{name}.settings.{pipeline.name}", pipeline)
            for index, schedule in enumerate(section.schedules):
                if schedule.pipeline == pipeline.name and not problems:
                    yield from _of_schedule(tenants, name, pipeline, schedule, index)


def _of_promises(section: PipelineSection, where: str, pipeline: Pipeline) -> Iterator[str]:
    """What a pipeline's own settings want of promises, where its code makes none."""
    if any(step.fresh_within for step in pipeline.graph.steps.values()):
        return
    settings = {
        "on_late": bool(section.on_late),
        "trigger.promises": bool(section.trigger and section.trigger.promises),
    }
    for setting in (name for name, is_wanted in settings.items() if is_wanted):
        yield (
            f"{where}.{setting}: no table of {pipeline.name!r} promises to be fresh; write fresh_within, such as "
            "fresh_within='2h', at the step that makes it"
        )


def _of_schedule(tenants: Tenants, name: str, pipeline: Pipeline, schedule: ScheduleSection, index: int) -> list[str]:
    from entrepot.planning.selection import select
    from entrepot.worker.config.validation import place_of_schedule

    with _told(problems := list[str](), place_of_schedule(f"tenants.{name}", index)):
        tenants.parameters(name, pipeline, schedule.parameters)
        if schedule.select:
            select(pipeline.graph, schedule.select)
    return problems


@contextmanager
def _told(problems: list[str], where: str) -> Iterator[None]:
    """Adds what goes wrong in the block to `problems`."""
    try:
        yield
    except EntrepotError as error:
        problems.append(f"{where}: {error}")

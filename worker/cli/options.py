"""The arguments and options that several commands share, and what their values mean."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Annotated, Any

import typer

from entrepot.errors import BadInput
from entrepot.language.names import ENVIRONMENT, PIPELINE, TENANT, Kind


def named(kind: Kind) -> Callable[[str | None], str | None]:
    """The callback of what is a name: it stands in the id of a workflow before a worker has looked at it."""
    return lambda given: None if given is None else kind.check(given)


PipelineArgument = Annotated[str, typer.Argument(help="Pipeline name.", callback=named(PIPELINE))]
PipelineOption = Annotated[str, typer.Option("--pipeline", "-p", help="Pipeline name.", callback=named(PIPELINE))]
TenantOption = Annotated[
    str | None,
    typer.Option(
        "--tenant",
        "-t",
        help="Default: the only tenant in the tenant file.",
        envvar="ENTREPOT_TENANT",
        callback=named(TENANT),
    ),
]
EnvironmentOption = Annotated[
    str, typer.Option("--environment", "-e", help="Target environment.", callback=named(ENVIRONMENT))
]
SelectOption = Annotated[
    str | None,
    typer.Option("--select", "-s", help="Steps to select: departures+ · +delay_risk · tag:hourly · kind:train."),
]
ParameterOption = Annotated[list[str] | None, typer.Option("--parameter", "-p", help="NAME=VALUE; may be repeated.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Only show what would be removed.")]
TenantsOption = Annotated[
    str | None, typer.Option("--tenants", help="Tenant file. Default: ENTREPOT_TENANTS or tenants.toml, if it exists.")
]
StateOption = Annotated[str | None, typer.Option("--state", help="State folder. Default: ENTREPOT_STATE or .entrepot.")]


def run_input(
    tenant: str, pipeline: str, environment: str, select: str | None, parameters: Iterable[str] | None
) -> dict[str, Any]:
    """The JSON that a person would start the workflow with."""
    value: dict[str, Any] = {"tenant": tenant, "pipeline": pipeline, "environment": environment}
    if select:
        value["select"] = select
    if given := parsed(parameters):
        value["parameters"] = given
    return value


def parsed(parameters: Iterable[str] | None) -> dict[str, Any]:
    """`NAME=VALUE` pairs; a value that is not JSON is text.

    Raises:
        BadInput: for one that is not such a pair.
    """
    import json

    values: dict[str, Any] = {}
    for each in parameters or ():
        name, equals, text = each.partition("=")
        if not equals or not name:
            raise BadInput(f"cannot read the parameter {each!r}; write NAME=VALUE")
        try:
            values[name] = json.loads(text)
        except json.JSONDecodeError:
            values[name] = text
    return values


def cursor_range(given: str) -> dict[str, Any]:
    """`FROM..TO`: whole numbers, or texts.

    Raises:
        BadInput: for what is no range.
    """
    start, dots, end = given.partition("..")
    if not (start and dots and end):
        raise BadInput(f"a range is written FROM..TO, where TO is excluded, and {given!r} is none")
    return {"start": bound(start), "end": bound(end)}


def bound(text: str) -> int | str:
    """A whole number, or a text."""
    return int(text) if text.lstrip("-").isdigit() else text


def names(given: str | None) -> list[str]:
    """The names of a comma-separated list."""
    return [each.strip() for each in (given or "").split(",") if each.strip()]

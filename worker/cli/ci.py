"""`entrepot ci`."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from entrepot.errors import BadInput
from entrepot.language.names import DEFAULT_ENVIRONMENT, PIPELINE
from entrepot.worker.cli.options import SelectOption, StateOption, TenantOption, TenantsOption

if TYPE_CHECKING:
    from entrepot.worker.local.change import Built

_LONGEST_NUMBER = 18
_SOURCES = ("GITHUB_REF", "CI_MERGE_REQUEST_IID")


def ci(
    pipelines: Annotated[
        list[str] | None, typer.Argument(metavar="[PIPELINES]", help="Default: all of the tenant's.")
    ] = None,
    number: Annotated[
        str | None, typer.Option("--number", "-n", help="The pull request's. Default: what GitHub or GitLab say.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The file for the comment. Default: standard output.")
    ] = None,
    rows: Annotated[
        bool, typer.Option("--rows", help="Tell rows and values, too: of differences, and of checks.")
    ] = False,
    allow_breaking: Annotated[
        bool, typer.Option("--allow-breaking", help="Do not fail where prod would lose columns or names.")
    ] = False,
    drop: Annotated[
        bool, typer.Option("--drop", help="Only drop the environment: the pull request is closed.")
    ] = False,
    select: SelectOption = None,
    tenant: TenantOption = None,
    tenants: TenantsOption = None,
    state: StateOption = None,
) -> None:
    """Build a pull request into the environment pr_NUMBER, compare it with prod, and write one comment in Markdown.

    It is a worker of its own, with the code that stands here. Sources are asked only for what prod does not show yet,
    unless --select names them. Exit code 1, if a run or check fails, or a change breaks what prod shows.

    \b
    Examples:
      entrepot ci --output comment.md
      entrepot ci flights --number 12 --rows
      entrepot ci --number 12 --drop
    """
    from entrepot.protocol.messages import without_example
    from entrepot.worker.cli import output as terminal
    from entrepot.worker.cli.comment import Change, comment

    environment = f"pr_{_number(number, os.environ)}"
    for named in pipelines or ():
        PIPELINE.check(named)
    if select and len(pipelines or ()) != 1:
        raise BadInput("a selection is of one pipeline's steps: name the pipeline")
    if output is not None and not output.absolute().parent.is_dir():
        raise BadInput(f"--output {str(output)!r}: there is no folder {str(output.absolute().parent)!r}")
    name, built, dropped = _work(tenants, state, tenant, pipelines or [], environment, select, rows=rows, drop=drop)
    if drop:
        told = f"dropped {environment} of {', '.join(dropped)}" if dropped else f"nothing to drop: no {environment}"
        terminal.out.print(f"✓ {told}", soft_wrap=True)
        return
    change = Change(name, environment, DEFAULT_ENVIRONMENT, built, allow_breaking, rows)
    text = comment(change)
    if output is None:
        typer.echo(text, nl=False)
    else:
        output.write_text(text, encoding="utf-8")
    for each in built:
        breaks = "it breaks what prod shows" if each.breaking and not allow_breaking else ""
        why = (each.error if rows else without_example(each.error)) or breaks
        terminal.err.print(
            f"{'✗' if why else '✓'} {each.pipeline} in {environment}{why and f': {why}'}", soft_wrap=True
        )
    raise typer.Exit(change.exit_code)


def _work(
    file: str | None,
    state: str | None,
    tenant: str | None,
    pipelines: list[str],
    environment: str,
    select: str | None,
    *,
    rows: bool,
    drop: bool,
) -> tuple[str, list[Built], list[str]]:
    """The tenant, what came of each pipeline, and of which the environment was dropped."""
    import asyncio
    import logging

    from entrepot.worker.config import settings
    from entrepot.worker.local.change import site
    from entrepot.worker.telemetry import logs

    logs.configure()
    if not rows:  # what fails is told in the comment; in the log, it would be told with a row
        logging.getLogger("temporalio.activity").setLevel(logging.CRITICAL)
    loaded = settings.load(file, state)
    known = loaded.connect()
    chosen = known.get(settings.tenant_of(tenant, file))
    chosen.check_environment(environment)
    for each in pipelines:
        chosen.settings(each)
    built: list[Built] = []
    dropped: list[str] = []

    async def go() -> None:
        async with site(loaded, known, chosen.name, environment) as there:
            if drop:
                dropped.extend(await there.drop(pipelines or None))
                return
            for each in pipelines or sorted(chosen.pipelines):
                built.append(await there.build(each, select))

    # To close the loop would wait for threads that nobody can interrupt.
    asyncio.Runner().run(go())
    return chosen.name, built, dropped


def _number(given: str | None, environment: Mapping[str, str]) -> int:
    """The number of the pull request that is meant.

    Raises:
        BadInput: if that is none, or nobody says it.
    """
    if given is not None:
        found = re.fullmatch(r"[0-9]+", given)
        if not found or len(given) > _LONGEST_NUMBER:
            raise BadInput(f"--number {given!r} is no number of a pull request")
        return int(given)
    pull = re.fullmatch(r"refs/pull/([0-9]+)/(merge|head)", environment.get("GITHUB_REF", ""))
    merge = re.fullmatch(r"([0-9]+)", environment.get("CI_MERGE_REQUEST_IID", ""))
    if (found := pull or merge) is None or len(found[1]) > _LONGEST_NUMBER:
        raise BadInput(
            f"the number of the pull request is not known: give --number, as {' and '.join(_SOURCES)} do not say it"
        )
    return int(found[1])

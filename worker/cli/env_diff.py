"""`entrepot env diff`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from entrepot.language.names import ENVIRONMENT
from entrepot.worker.cli.options import (
    JsonOption,
    PipelineOption,
    SelectOption,
    TenantOption,
    TenantsOption,
    named,
)

if TYPE_CHECKING:
    from entrepot.protocol.environments import ChangedName, EnvironmentDiff, RowChanges

_FEW = 3
"""Values and rows that a terminal shows of a table; JSON has more."""


def diff(
    environment: Annotated[
        str, typer.Argument(metavar="ENV", help="What is looked at, such as dev.", callback=named(ENVIRONMENT))
    ],
    against: Annotated[
        str,
        typer.Argument(metavar="AGAINST", help="What it is held against: prod.", callback=named(ENVIRONMENT)),
    ],
    pipeline: PipelineOption,
    select: SelectOption = None,
    tenant: TenantOption = None,
    as_json: JsonOption = False,
    tenants: TenantsOption = None,
) -> None:
    """Compare what two environments show: versions and why they differ, columns, and rows. Changes nothing.

    \b
    Examples:
      entrepot env diff dev prod --pipeline flights
      entrepot env diff dev prod --pipeline flights --select departures --json

    \b
    The same with plain Temporal:
      temporal workflow start --type Diff --task-queue entrepot --workflow-id acme/flights/dev:diff:prod \\
        --input '{"tenant": "acme", "pipeline": "flights", "environment": "dev", "against": "prod"}'
    """
    from entrepot.protocol.environments import EnvironmentDiff
    from entrepot.worker.cli import follow, output
    from entrepot.worker.client import run_workflow_id
    from entrepot.worker.config import settings

    name = settings.tenant_of(tenant, tenants)
    value: dict[str, Any] = {"tenant": name, "pipeline": pipeline, "environment": environment, "against": against}
    value |= {"select": select} if select else {}
    workflow_id = f"{run_workflow_id(name, pipeline, environment)}:diff:{against}"
    about = f"{environment} against {against}, of {pipeline} for {name}"
    found = EnvironmentDiff.model_validate(follow.execute_for_its_result("Diff", value, workflow_id, about))
    output.json(found) if as_json else show(found)


def show(found: EnvironmentDiff) -> None:
    """What differs, a line for each name, and how to promote it."""
    from entrepot.planning.plan import short
    from entrepot.worker.cli import output

    here, there = found.environment, found.against
    for each in found.only_left:
        output.out.print(f"+ {each.name} · {each.kind}{_count(each.rows)} · only in {here}", soft_wrap=True)
    for each in found.only_right:
        stays = "stays when it is promoted" if each.stays else "no step makes it any more: it goes when it is promoted"
        output.out.print(f"- {each.name} · {each.kind}{_count(each.rows)} · only in {there}; {stays}", soft_wrap=True)
    for changed in found.changed:
        output.out.print(" · ".join([f"~ {changed.name}", changed.kind, *_told(changed, here)]), soft_wrap=True)
        for line in _rows(changed.rows, here, there) if changed.rows else ():
            output.out.print(f"    {line}", soft_wrap=True)
    if found.left_out:
        output.out.print(f"  and {output.count(found.left_out, 'name')} more: name some by --select")
    if found.ahead:
        told = f"{there} has loaded more than {here} shows; promoted, it is hidden until the next run"
        output.out.print(f"  {', '.join(found.ahead)}: {told}", soft_wrap=True)
    differ = len(found.only_left) + len(found.only_right) + len(found.changed) + found.left_out
    if not differ:
        output.out.print(f"✓ {here} and {there} show the same: {output.count(found.same, 'name')}")
        return
    seen = ",".join(f"{name}={short(run)}" for name, run in found.seen.items())
    output.out.print(
        f"{output.count(differ, 'name')} differ{'s' if differ == 1 else ''}, {found.same:,} the same. As it is: "
        f"entrepot env promote {here} {there} --pipeline {found.pipeline} --expect {seen}",
        soft_wrap=True,
    )


def _count(rows: int | None) -> str:
    return f" · {rows:,} rows" if rows is not None else ""


def _told(changed: ChangedName, here: str) -> Iterator[str]:
    """Why it is another version, and what that does to its columns and rows."""
    yield changed.why
    if changed.note:
        yield changed.note
    columns = changed.columns
    what = [f"{name} is new ({kind})" for name, kind in columns.added.items()]
    what += [f"{name} is gone" for name in columns.removed]
    what += [f"{name} was {before} and is {after}" for name, (before, after) in columns.retyped.items()]
    if what:
        yield f"{changed.impact}: {', '.join(what)}"
    if changed.left_rows is not None and changed.left_rows != changed.right_rows:
        yield f"{changed.right_rows:,} → {changed.left_rows:,} rows in {here}"
    if changed.rows is not None:
        yield (
            f"equal rows{f' ({changed.rows.why})' if changed.rows.why else ''}"
            if changed.rows.equal
            else (changed.rows.why)
        )


def _rows(rows: RowChanges, here: str, there: str) -> Iterator[str]:
    for cell in rows.cells[:_FEW]:
        key = ", ".join(f"{name} = {value}" for name, value in cell.key.items())
        yield f"{cell.column} where {key}: {_text(cell.left)} in {here}, {_text(cell.right)} in {there}"
    for where, alone in ((here, rows.only_left), (there, rows.only_right)):
        for row in alone[:_FEW]:
            yield f"only in {where}: {', '.join(f'{name} = {_text(value)}' for name, value in row.items())}"


def _text(value: str | None) -> str:
    return "NULL" if value is None else value

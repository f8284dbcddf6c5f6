"""`entrepot graph`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from entrepot.worker.cli.options import JsonOption, PipelineArgument, SelectOption, TenantsOption

if TYPE_CHECKING:
    from entrepot.language.step import Step
    from entrepot.planning.graph import Graph


def graph(
    pipeline: PipelineArgument,
    select: SelectOption = None,
    mermaid: Annotated[bool, typer.Option("--mermaid", help="Print a Mermaid diagram.")] = False,
    as_json: JsonOption = False,
    tenants: TenantsOption = None,
) -> None:
    """Show a pipeline's steps, in an order in which they can run, and what each reads.

    \b
    Example:
      entrepot graph flights --mermaid
    """
    from entrepot.planning.selection import select as chosen
    from entrepot.registry import Registry
    from entrepot.worker.cli import output
    from entrepot.worker.config import settings

    made = Registry(settings.load(tenants).references).load(pipeline).graph
    names = chosen(made, select) if select else frozenset(made.steps)
    steps = [step for name, step in made.steps.items() if name in names]
    if mermaid:
        output.out.print(_mermaid(made, steps), soft_wrap=True)
    elif as_json:
        output.json([_facts(made, step) for step in steps])
    else:
        lines = [
            (s.name, s.kind, ", ".join(made.table_inputs(s)) or ", ".join(s.outputs), s.description) for s in steps
        ]
        output.rows(("step", "kind", "reads (or loads)", ""), lines)


def _mermaid(made: Graph, steps: Sequence[Step]) -> str:
    ids = {step.name: step.name.replace(".", "_") for step in steps}
    nodes = [f'  {ids[step.name]}["{step.name}<br/><i>{step.kind}</i>"]' for step in steps]
    arrows = [
        f"  {ids[source]} --> {ids[step.name]}"
        for step in steps
        for source in sorted(made.upstream[step.name] & {*ids})
    ]
    return "\n".join(["flowchart LR", *nodes, *arrows])


def _facts(made: Graph, step: Step) -> dict[str, Any]:
    return {
        "name": step.name,
        "kind": step.kind,
        "inputs": list(made.table_inputs(step)),
        "outputs": list(step.outputs),
        "description": step.description,
        "owner": step.owner,
        "tags": sorted(step.tags),
        "at": str(step.at),
    }

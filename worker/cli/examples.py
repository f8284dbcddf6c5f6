"""`entrepot test`: the examples that pipelines declare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from entrepot.errors import BadInput
from entrepot.language.names import PIPELINE
from entrepot.worker.cli.options import JsonOption, SelectOption, TenantsOption, named

if TYPE_CHECKING:
    from entrepot.language.example import Example
    from entrepot.pipeline import Pipeline
    from entrepot.testing.examples import Outcome


def examples(
    pipeline: Annotated[
        str | None, typer.Argument(help="Pipeline name. Default: every one.", callback=named(PIPELINE))
    ] = None,
    select: SelectOption = None,
    as_json: JsonOption = False,
    tenants: TenantsOption = None,
) -> None:
    """Compute the examples that pipelines declare, on DuckDB in memory; a server and a warehouse are not needed.

    Exit code 1, if one is not as expected; 2, if one cannot be computed as it stands.

    \b
    Examples:
      entrepot test
      entrepot test flights -s departures+ --json
    """
    from entrepot.registry import Registry
    from entrepot.testing.examples import outcomes
    from entrepot.worker.cli import output
    from entrepot.worker.config import settings

    registry = Registry(settings.load(tenants).references)
    if select and pipeline is None and len(registry.references) != 1:
        raise BadInput("a selection is of one pipeline's steps: name the pipeline")
    loaded = [registry.load(name) for name in ([pipeline] if pipeline else registry.references)]
    chosen = {each: _selected(each, select) for each in loaded}
    every = [outcome for each, examples in chosen.items() for outcome in outcomes(each, examples)]
    if as_json:
        output.json([_facts(each) for each in every])
    else:
        _tell(every, [each for each, examples in chosen.items() if not examples], select)
    if failed := [each for each in every if not each.passed]:
        raise typer.Exit(2 if any(each.is_bad_input for each in failed) else 1)


def _selected(pipeline: Pipeline, selection: str | None) -> list[Example]:
    """The examples of the steps that are selected, checks and contracts with what they guard; else all."""
    if not selection:
        return pipeline.examples
    from entrepot.planning.selection import select

    steps = select(pipeline.graph, selection)
    return [each for each in pipeline.examples if pipeline.graph.producers.get(each.step, each.step) in steps]


def _tell(every: Sequence[Outcome], without: Sequence[Pipeline], selection: str | None) -> None:
    from entrepot.worker.cli import output

    for each in every:
        line = f"{each.pipeline} · {each.example}"
        if each.passed:
            output.out.print(f"✓ {line}", soft_wrap=True)
        else:
            output.out.print(f"✗ {line} · {each.example.at}", soft_wrap=True)
            indented = each.why.replace("\n", "\n  ")
            output.out.print(f"  {indented}", soft_wrap=True)
    for pipeline in without:
        lacks = f"of what {selection!r} selects" if selection else "yet: `Pipeline.example` declares one"
        output.out.print(f"pipeline {pipeline.name!r} has no example {lacks}", soft_wrap=True)
    if every:
        failed = sum(not each.passed for each in every)
        output.out.print(f"{output.count(len(every), 'example')}, {f'{failed} not' if failed else 'all'} as expected")


def _facts(outcome: Outcome) -> Mapping[str, Any]:
    return {
        "pipeline": outcome.pipeline,
        "step": outcome.example.step,
        "says": outcome.example.says,
        "at": str(outcome.example.at),
        "passed": outcome.passed,
        "bad_input": outcome.is_bad_input,
        "why": outcome.why,
        "differences": [_difference(each) for each in outcome.differences],
    }


def _difference(each: Any) -> Mapping[str, Any]:
    return {"row": each.number, "found": each.found, "expected": each.expected, "columns": [*each.cells]}

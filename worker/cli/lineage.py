"""`entrepot lineage`: of which columns a column is made, and what is made of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from entrepot.errors import BadInput, unknown
from entrepot.worker.cli.options import JsonOption, ParameterOption, StateOption, TenantOption, TenantsOption, parsed

if TYPE_CHECKING:
    from entrepot.activities.runtime.tenant import Tenants
    from entrepot.planning.expressions.lineage import Source
    from entrepot.planning.flow import Edge, Flow
    from entrepot.planning.graph import Graph


def lineage(
    column: Annotated[str, typer.Argument(help="TABLE.COLUMN, or a table, model, check or page as a whole.")],
    up: Annotated[bool, typer.Option("--up", help="Only what it is made of.")] = False,
    down: Annotated[bool, typer.Option("--down", help="Only what is made of it.")] = False,
    pipeline: Annotated[str | None, typer.Option("--pipeline", help="Needed where several pipelines have it.")] = None,
    tenant: TenantOption = None,
    parameter: ParameterOption = None,
    as_json: JsonOption = False,
    tenants: TenantsOption = None,
    state: StateOption = None,
) -> None:
    """Show of which columns a column is made, over all steps, and what is made of it; from the code, without a server.

    `filter`, `join`, `group`, `sort`, `window` and `unnest` decide over its rows; everything else makes its values.

    \b
    Examples:
      entrepot lineage departures.delay --up
      entrepot lineage flights.dep_delay --down --json
    """
    from entrepot.planning.flow import Flow
    from entrepot.worker.cli import output
    from entrepot.worker.cli.resolved import resolved_without_warehouse
    from entrepot.worker.config import settings

    name = settings.tenant_of(tenant, tenants)
    connected = settings.load(tenants, state).connect()
    its = connected.get(name)
    table, _, named = column.partition(".")
    chosen = pipeline or _having(connected, name, its.pipelines, table)
    if table not in (names := _names(connected.pipeline(name, chosen).graph)):
        raise BadInput(f"pipeline {chosen!r}: {unknown('table', table, names)}")
    graph, resolved, _ = resolved_without_warehouse(connected, its, chosen, parsed(parameter), [table])
    flow = Flow(graph, resolved)
    start = _start(flow, table, named)
    both = up == down
    made_of = flow.up(start) if up or both else []
    makes = flow.down(start) if down or both else []
    if as_json:
        output.json({"column": column, "pipeline": chosen, "up": _facts(made_of), "down": _facts(makes)})
        return
    for title, edges, is_asked in (("is made of", made_of, up or both), ("is in", makes, down or both)):
        if is_asked:
            output.out.print(f"{column} {title}" + ("" if edges else " nothing else"))
            output.rows(("column", "how", "of"), _lines(edges)) if edges else None


def _having(tenants: Tenants, tenant: str, pipelines: Mapping[str, Any], table: str) -> str:
    """The pipeline that makes something.

    Raises:
        BadInput: if none does, or several do.
    """
    made = {each: _names(tenants.pipeline(tenant, each).graph) for each in pipelines}
    having = [each for each, names in made.items() if table in names]
    if not having:
        raise BadInput(unknown("table", table, sorted({name for names in made.values() for name in names})))
    if len(having) > 1:
        raise BadInput(f"several pipelines have {table!r}; choose one with --pipeline: {', '.join(having)}")
    return having[0]


def _names(graph: Graph) -> list[str]:
    """All that a pipeline makes, and its checks."""
    return [name for step in graph.steps.values() for name in (step.outputs or (step.name,))]


def _start(flow: Flow, table: str, column: str) -> list[Source]:
    every = flow.columns(table)
    if not column:
        return every
    columns = [each.column for each in every if each.column is not None]
    if column not in columns:
        raise BadInput(f"{table!r}: {unknown('column', column, columns)}")
    return [each for each in every if each.column == column]


def _lines(edges: Iterable[Edge]) -> list[tuple[str, str, str]]:
    return [(_text(edge.target), ", ".join(edge.how), _text(edge.source)) for edge in edges]


def _text(source: Source) -> str:
    return source.table if source.column is None else f"{source.table}.{source.column}"


def _facts(edges: Iterable[Edge]) -> list[dict[str, Any]]:
    return [
        {"column": _text(edge.target), "of": _text(edge.source), "how": list(edge.how), "direct": edge.is_direct}
        for edge in edges
    ]

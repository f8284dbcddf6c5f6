"""What the steps of a pipeline compute, as far as it is known without a warehouse."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import ibis.expr.schema as sch

from entrepot.activities.runtime.tenant import Tenant, Tenants, parameter_values
from entrepot.activities.storage import lake
from entrepot.errors import BadInput, listed
from entrepot.identity.expression import schema_from
from entrepot.language.step import IngestStep
from entrepot.planning.graph import Graph
from entrepot.planning.resolve import Resolved, resolve


def resolved_without_warehouse(
    tenants: Tenants, tenant: Tenant, pipeline: str, parameters: Mapping[str, Any], wanted: Iterable[str]
) -> tuple[Graph, Resolved, dict[str, Any]]:
    """A pipeline's graph, what its steps compute, and the values of its parameters.

    The columns of raw tables come from the last ingest in the lake, or from what the ingest step declares.

    Args:
        wanted: The steps and raw tables that are asked for.

    Raises:
        BadInput: if the columns of raw tables are not known yet, of which one of these steps is made.
    """
    made = tenants.pipeline(tenant.name, pipeline)
    values = parameter_values(made, tenants.parameters(tenant.name, made, parameters))
    resolved = resolve(made.graph, _raw_schemas(tenant, made.graph), values)
    if any(name not in resolved.steps and name not in resolved.known for name in wanted):
        missing = listed(t for s in made.graph.of(IngestStep) for t in s.tables if t not in resolved.known)
        raise BadInput(
            f"the columns of {missing} are not known yet: run {pipeline!r} once, or declare them in "
            "`ingest(tables={...})`"
        )
    return made.graph, resolved, values


def _raw_schemas(tenant: Tenant, graph: Graph) -> dict[str, sch.Schema]:
    """The columns that the last ingest left in the lake."""
    found = {}
    for step in graph.of(IngestStep):
        for table in step.tables:
            path = tenant.lake_path("raw", graph.name, table, "columns.json")
            if lake.exists(path):
                found[table] = schema_from(json.loads(lake.read(path)))
    return found

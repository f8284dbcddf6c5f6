"""What a table that does not agree is computed by: its expression, and the SQL of each warehouse."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from entrepot.activities.catalog.catalog import Catalog
from entrepot.activities.ml.models import known_of
from entrepot.activities.runtime.tenant import Tenants, parameter_values
from entrepot.activities.transform.compilation import select
from entrepot.errors import EntrepotError
from entrepot.planning.resolve import arguments, expression
from entrepot.protocol.parity import Comparison, TableParity

LONGEST = 10_000
"""Characters that a report shows of a statement or an expression."""


def explained(tenants: Tenants, asked: Comparison, table: TableParity, catalogs: Iterable[Catalog]) -> TableParity:
    """Adds the expression and the SQL, where there are any."""
    context = asked.context
    pipeline = tenants.pipeline(context.tenant, context.pipeline)
    step = pipeline.graph.steps.get(asked.name)
    if step is None or not step.is_sql:
        return table
    tenant, given = tenants.get(context.tenant), None
    for catalog in catalogs:
        try:
            inputs = catalog.pipeline(context.pipeline).versions(asked.inputs)
            known: dict[str, Any] = {name: known_of(version) for name, version in inputs.items()}
            given = arguments(step, known, parameter_values(pipeline, context.parameters))
            break
        except (EntrepotError, KeyError):  # that warehouse lacks an input, or does not answer any more
            continue
    if given is None:
        return table

    def sql(warehouse: str) -> str:
        try:
            return select(tenant.at(warehouse).backend.dialect, step, given)[:LONGEST]
        except EntrepotError as error:
            return f"-- {error}"[:LONGEST]

    sides = [s if s.agrees or s.sql else s.model_copy(update={"sql": sql(s.backend)}) for s in table.sides]
    made = repr(expression(step, given)[0])[:LONGEST]
    return table.model_copy(update={"expression": made, "sql": table.sql or sql(asked.on[0]), "sides": tuple(sides)})

"""ibis expressions: how steps make them, and the hash that names what they compute."""

from __future__ import annotations

import datetime
import decimal
import enum
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.operations as ops
import ibis.expr.schema as sch

from entrepot.code import digest, function_identity

INPUT = "input"
"""The catalog under which a step's inputs stand as unbound tables, so that no real table can be taken for one."""


def input_table(name: str, schema: sch.Schema) -> ibis.Table:
    """What a step gets for a table: its name and columns, bound to no warehouse."""
    return ibis.table(schema, name=name, database=INPUT)


def is_input(node: Any) -> bool:
    """Whether a node stands for one of the step's inputs."""
    return isinstance(node, ops.UnboundTable) and node.namespace.database == INPUT


def bind(expression: ibis.Table, tables: Mapping[str, ops.Relation]) -> ibis.Table:
    """The expression with its inputs replaced by real tables."""
    replacements = {node: tables[node.name] for node in expression.op().find(ops.UnboundTable) if is_input(node)}
    return expression.op().replace(replacements).to_expr()  # type: ignore[no-any-return]


def schema_from(columns: Mapping[str, str]) -> sch.Schema:
    """A schema from column names and ibis types as text."""
    return sch.Schema({name: _dtype(text) for name, text in columns.items()})


def schema_to(schema: sch.Schema) -> dict[str, str]:
    """A schema as column names and ibis types as text. Whether a column may be NULL is left out: warehouses differ."""
    return {name: str(nullable(dtype)) for name, dtype in schema.items()}


def nullable(dtype: dt.DataType) -> dt.DataType:
    """The type as one that may be NULL; only the outermost one counts for a column."""
    return dtype if dtype.nullable else dtype.copy(nullable=True)


@lru_cache(maxsize=4096)
def _dtype(text: str) -> dt.DataType:
    return dt.dtype(text)


def identity(expression: ibis.Table) -> str:
    """The hash of what an expression computes, independent of how it was written.

    Nodes are numbered in the order of a walk from the leaves, so a name bound to an intermediate expression, a reordered
    import or a comment leave no trace. Inputs count by name only: their versions are part of the step's version, and the
    types that a warehouse gives their columns are not part of what is computed.
    """
    numbers: dict[Any, int] = {}
    described: list[Any] = []
    aliases: dict[Any, int] = {}
    for node in expression.op().find(ops.Node, ordered=True):
        described.append(_describe_node(node, numbers, aliases))
        numbers[node] = len(numbers)
    return digest(described)


def _describe_node(node: ops.Node, numbers: Mapping[Any, int], aliases: dict[Any, int]) -> Any:
    if is_input(node):
        return ["input", node.name]
    if isinstance(node, ops.InMemoryTable):
        return ["rows", schema_to(node.schema), digest(node.data.to_pyarrow(node.schema).to_pylist())]
    if isinstance(node, ops.ScalarUDF | ops.AggUDF):
        arguments = [_describe_value(a, numbers) for a in node.args]
        return ["function", str(node.__input_type__), node.__func_name__, _function(node), str(node.dtype), arguments]
    if isinstance(node, ops.SelfReference):
        # Numbered by a counter of the process: only which references are the same is part of the expression.
        return ["self", numbers[node.parent], aliases.setdefault(node, len(aliases))]
    return [type(node).__name__, [_describe_value(a, numbers) for a in node.args]]


def _function(node: Any) -> str:
    is_builtin = str(node.__input_type__).endswith("BUILTIN")
    return "" if is_builtin else function_identity(node.__func__)


def _describe_value(value: Any, numbers: Mapping[Any, int]) -> Any:
    if isinstance(value, ops.Node):
        return ["node", numbers[value]]
    if isinstance(value, Mapping):
        return ["map", [[str(k), _describe_value(v, numbers)] for k, v in value.items()]]
    if isinstance(value, tuple | list):
        return [_describe_value(v, numbers) for v in value]
    if isinstance(value, frozenset | set):
        return ["set", sorted((_describe_value(v, numbers) for v in value), key=repr)]
    if isinstance(value, enum.Enum):
        return ["enum", value.name]
    if isinstance(value, dt.DataType | decimal.Decimal | datetime.date | datetime.time | datetime.timedelta):
        return [type(value).__name__, str(value)]
    return [type(value).__name__, repr(value)]

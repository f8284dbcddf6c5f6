"""ibis expressions: how steps make them, and the hash that names what they compute."""

from __future__ import annotations

import datetime
import decimal
import enum
import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import ibis
import ibis.expr.datashape as ds
import ibis.expr.datatypes as dt
import ibis.expr.operations as ops
import ibis.expr.schema as sch
from ibis.common.collections import FrozenDict
from ibis.common.graph import Graph

from entrepot.identity import volatility
from entrepot.identity.code import Code, function_code, function_identity, stable_hash

ops.ExtractEpochSeconds.dtype = dt.int64  # ibis says int32, in which time ends in 2038

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
    return expression.op().replace(replacements).to_expr()


def schema_from(columns: Mapping[str, str]) -> sch.Schema:
    """A schema from column names and types as text."""
    return sch.Schema({name: type_from(text) for name, text in columns.items()})


def schema_to(schema: sch.Schema) -> dict[str, str]:
    """A schema as column names and types as text. Whether a column may be NULL is left out: warehouses differ."""
    return {name: type_to(nullable(dtype)) for name, dtype in schema.items()}


def nullable(dtype: dt.DataType) -> dt.DataType:
    """The type as one that may be NULL; only the outermost one counts for a column."""
    return dtype if dtype.nullable else dtype.copy(nullable=True)


_PLAIN = re.compile("(?!__)[a-zA-Z_0-9]+")
_ENCODED = "__x"
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"(?=\s*:)')


def type_to(dtype: dt.DataType) -> str:
    """A type as ibis writes it, but for names of fields that ibis would not read again: `struct<"a b": int64>`."""
    return _named(str(_with_names(dtype, lambda name: name if _PLAIN.fullmatch(name) else _encoded(name))))


@lru_cache(maxsize=4096)
def type_from(text: str) -> dt.DataType:
    """A type from its text; what ibis cannot read raises as it does there."""
    plain = _QUOTED.sub(lambda match: _encoded(json.loads(match[0])), text)
    return _with_names(dt.dtype(plain), lambda name: _decoded(name) if name.startswith(_ENCODED) else name)


def _encoded(name: str) -> str:
    return _ENCODED + name.encode("utf-8", "surrogatepass").hex() + "x"


def _decoded(name: str) -> str:
    return bytes.fromhex(name[len(_ENCODED) : -1]).decode("utf-8", "surrogatepass")


def _named(text: str) -> str:
    return re.sub(f"{_ENCODED}([0-9a-f]*)x", lambda match: json.dumps(_decoded(match[0]), ensure_ascii=False), text)


def _with_names(dtype: dt.DataType, name: Callable[[str], str]) -> dt.DataType:
    """The type with other names of the fields within."""
    if dtype.is_struct():
        return dtype.copy(fields={name(key): _with_names(inner, name) for key, inner in dtype.items()})
    if dtype.is_array():
        return dtype.copy(value_type=_with_names(dtype.value_type, name))
    if dtype.is_map():
        keys, values = (_with_names(inner, name) for inner in (dtype.key_type, dtype.value_type))
        return dtype.copy(key_type=keys, value_type=values)
    return dtype


Nodes = dict[ops.Node, Sequence[ops.Node]]
"""What an expression is made of: every node once, with what it is made of itself, which comes before it."""


def nodes_of(expression: ibis.Table) -> Nodes:
    """The nodes of an expression; the last is the expression itself."""
    return _nodes(expression.op())


def _nodes(root: ops.Node) -> Nodes:
    nodes: Nodes = Graph.from_bfs(root).toposort()[0]
    return nodes


def described(nodes: Nodes) -> Code:
    """What an expression computes, and why it is no function of its inputs, if so.

    The hash is independent of how it was written: each node is hashed with the hashes of the nodes that it is made of,
    so a name bound to an intermediate expression, a reordered import or a comment leave no trace. Inputs count by name
    only: their versions are part of the step's version, and the types that a warehouse gives their columns are not part
    of what is computed.
    """
    varies = next(filter(None, map(_varies, reversed(nodes))), "")
    return Code(_identity(nodes), varies)


def _identity(nodes: Nodes) -> str:
    nodes = canonical(nodes)
    hashes: dict[ops.Node, str] = {}
    aliases: dict[ops.Node, int] = {}
    inner = inner_chains(nodes)
    for node in nodes:
        if node not in inner:
            hashes[node] = stable_hash(describe_node(node, hashes, aliases))
    return hashes[next(reversed(nodes))]


_CHAINS = (ops.And, ops.Or)


def inner_chains(nodes: Nodes) -> set[ops.Node]:
    """What is nothing but a part of longer chains of `&` or `|`: of a thousand, each would name all before it."""
    within, beside = set[ops.Node](), set[ops.Node]()
    for node, below in nodes.items():
        for child in below:
            if isinstance(child, _CHAINS):
                (within if type(child) is type(node) else beside).add(child)
    return within - beside


_VARYING: dict[type[ops.Node], str] = {
    ops.TimestampNow: volatility.CLOCK,
    ops.DateNow: volatility.CLOCK,
    ops.RandomScalar: volatility.CHANCE,
    ops.RandomUUID: volatility.CHANCE,
}


def _varies(node: ops.Node) -> str:
    if _is_python(node):
        return function_code(node.__func__).varies
    if isinstance(node, ops.ScalarUDF | ops.AggUDF):
        return volatility.of_function(str(node.__func_name__))
    if isinstance(node, ops.Sample):
        return volatility.CHANCE if node.seed is None else ""
    if isinstance(node, ops.Limit):
        return "" if node.n == 0 or _is_sorted(node.parent) else volatility.ANY_ROWS
    return _VARYING.get(type(node), "")


def _is_sorted(node: ops.Relation) -> bool:
    """Whether rows come in an order: sorted, or one row at most."""
    while isinstance(node, ops.Project | ops.Filter | ops.DropColumns | ops.FillNull | ops.DropNull | ops.Limit):
        node = node.parent
    return isinstance(node, ops.Sort) or (isinstance(node, ops.Aggregate) and not node.groups)


def foreign(nodes: Nodes) -> list[str]:
    """The names of what an expression reads beside its step's inputs: other tables, and values to be given later."""
    read = (ops.UnboundTable, ops.DatabaseTable, ops.SQLQueryResult, ops.ScalarParameter)
    others = (node for node in nodes if isinstance(node, read) and not is_input(node))
    return sorted({str(getattr(node, "name", "a SQL query")) for node in others})


_OVER_ARRAYS = (ops.ArrayMap, ops.ArrayFilter)


def canonical(nodes: Nodes) -> Nodes:
    """The expression with the parameters of functions over arrays named by how deep they are nested."""
    if not any(isinstance(node, _OVER_ARRAYS) for node in nodes):
        return nodes
    root = next(reversed(nodes))

    def rename(node: ops.Node, _: Any, **kwargs: Any) -> ops.Node:
        made = node.__recreate__(kwargs)
        if not isinstance(made, _OVER_ARRAYS):
            return made
        depth = 1 + max((int(within.param.name.split(".")[0]) for within in made.body.find(_OVER_ARRAYS)), default=0)
        old = {"param": made.param, "index": made.index}
        new = {what: p and ops.Argument(f"{depth}.{what}", p.shape, p.dtype) for what, p in old.items()}
        body = made.body.replace({p: new[what] for what, p in old.items() if p is not None})
        return made.copy(body=body, **new)

    return _nodes(root.map(rename)[root])


def describe_node(node: ops.Node, hashes: Mapping[ops.Node, str], aliases: dict[ops.Node, int]) -> Any:
    """What a node does, as data that can be hashed.

    Args:
        hashes: Of the nodes that it is made of.
        aliases: The numbers of references of a table to itself; new ones are added.
    """
    if is_input(node):
        return ["input", node.name]
    if isinstance(node, ops.InMemoryTable):
        rows = node.data.to_pyarrow(node.schema).to_pylist()
        return ["rows", list(schema_to(node.schema).items()), stable_hash(rows)]
    if isinstance(node, ops.ScalarUDF | ops.AggUDF):
        declared = [repr(p.annotation.pattern) for p in node.__signature__.parameters.values()]
        arguments = [_describe_value(a, hashes) for a in node.args]
        return ["function", _function(node, hashes), str(node.dtype), declared, arguments]
    if isinstance(node, ops.SelfReference):
        # Numbered by a counter of the process: only which references are the same is part of the expression.
        return ["self", hashes[node.parent], aliases.setdefault(node, len(aliases))]
    if isinstance(node, _CHAINS):
        return [type(node).__name__, sorted({hashes[part] for part in chain_parts(node)})]
    unordered = _UNORDERED.get(type(node), ())
    values = [frozenset(v) if n in unordered and v else v for n, v in zip(node.argnames, node.args, strict=True)]
    return [type(node).__name__, [_describe_value(value, hashes) for value in values]]


_UNORDERED: dict[type[ops.Node], tuple[str, ...]] = {
    ops.InValues: ("options",),
    ops.Filter: ("predicates",),
    ops.JoinLink: ("predicates",),
    ops.DropNull: ("subset",),
    ops.WindowFunction: ("group_by",),
}
"""Arguments whose order changes nothing. They are often written as a Python set, which has another order in each
process."""


def chain_parts(chain: ops.Node) -> set[ops.Node]:
    """What a chain of `&` or `|` is made of."""
    found, left = set[ops.Node](), [chain]
    for node in left:
        for side in node.args:
            if side not in found:
                found.add(side)
                left += [side] if type(side) is type(chain) else []
    return {node for node in found if type(node) is not type(chain)}


def _is_python(node: ops.Node) -> bool:
    return isinstance(node, ops.ScalarUDF | ops.AggUDF) and node.__input_type__.name != "BUILTIN"


def _function(node: Any, hashes: Mapping[ops.Node, str]) -> Any:
    """A function that the warehouse has, by its name; one that is written in Python, by its code."""
    kind, config = node.__input_type__.name, _describe_value(node.__config__, hashes)
    if _is_python(node):
        return [kind, function_identity(node.__func__), config]
    namespace = node.__udf_namespace__
    return [kind, node.__func_name__, namespace.catalog, namespace.database, config]


def _describe_value(value: Any, hashes: Mapping[ops.Node, str]) -> Any:
    if isinstance(value, ops.Node):
        return ["node", hashes[value]]
    if isinstance(value, Mapping):
        items = [[_describe_value(k, hashes), _describe_value(v, hashes)] for k, v in value.items()]
        return ["map", sorted(items, key=repr) if type(value) is FrozenDict else items]
    if isinstance(value, tuple | list):
        return ["list", [_describe_value(v, hashes) for v in value]]
    if isinstance(value, frozenset | set):
        return ["set", sorted((_describe_value(v, hashes) for v in value), key=repr)]
    if isinstance(value, enum.Enum):
        return ["enum", value.name]
    if isinstance(value, dt.DataType):
        return ["type", repr(value)]
    if isinstance(value, ds.DataShape):
        return ["shape", type(value).__name__]
    if isinstance(value, decimal.Decimal | datetime.date | datetime.time | datetime.timedelta):
        return [type(value).__name__, str(value)]
    return [type(value).__name__, repr(value)]

"""How much one step may ask for: more than that would be planned for minutes, and no warehouse would take the SQL.

What an expression is made of is counted node by node, each once, so counting takes no time whatever it is made of.
"""

from __future__ import annotations

import ibis.expr.operations as ops

from entrepot.errors import EntrepotError
from entrepot.identity.expression import Nodes

MOST_CHAINED = 250
"""Operations over tables, one upon the other: such as `filter`, `mutate` and `join`."""
MOST_WRITTEN = 200_000
"""Operations as they would be written in SQL, where a value that is used twice stands twice."""
_ADVICE = "split the step: what is in between then is a table, which is computed once"
TOO_DEEP = f"its expression is nested too deeply: {_ADVICE}"


def check_bounds(nodes: Nodes) -> None:
    """Refuses an expression that nobody could compute.

    Raises:
        EntrepotError: with what there is too much of.
    """
    for what, found, most in (
        ("chains {} operations over tables", _chained(nodes), MOST_CHAINED),
        ("would be SQL of {} operations", _written(nodes), MOST_WRITTEN),
    ):
        if found > most:
            raise EntrepotError(f"its expression {what.format(f'{found:,}')}, and at most {most:,} go: {_ADVICE}")


def _chained(nodes: Nodes) -> int:
    """How many tables are made one of the other at most."""
    chained: dict[ops.Node, int] = {}
    for node, below in nodes.items():
        chained[node] = _is_table(node) + max((chained[child] for child in below), default=0)
    return max(chained.values())


def _written(nodes: Nodes) -> int:
    """How long the SQL would be: tables that are used several times are written once (see `compiling.shared`)."""
    users = dict.fromkeys(nodes, 0)
    for node, below in reversed(nodes.items()):  # each after those that use it
        of_join = isinstance(node, ops.Reference | ops.JoinLink)
        for child in set(below) if of_join else below if _is_written(node) else ():
            users[child] += users[node] if of_join else 1
    length: dict[ops.Node, int] = {}
    total = 0
    for node, below in nodes.items():
        length[node] = 1 + (sum(length[child] for child in below) if _is_written(node) else 0)
        if _is_table(node) and users[node] > 1:
            total += length[node]
            length[node] = 1
    return total + length[node]


def _is_table(node: ops.Node) -> bool:
    """Whether a node makes a table; a reference only names one."""
    return isinstance(node, ops.Relation) and not isinstance(node, ops.Reference)


def _is_written(node: ops.Node) -> bool:
    """Whether what a node is made of stands where it does; a column names its table."""
    return not isinstance(node, ops.Field)

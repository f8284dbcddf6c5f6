"""How much one step may ask for: more than that would be planned for minutes, and no warehouse would take the SQL.

What an expression is made of is counted node by node, each once, so counting takes no time whatever it is made of.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import ibis
import ibis.expr.operations as ops

from entrepot.errors import EntrepotError

MOST_CHAINED = 250
"""Operations over tables, one upon the other: such as `filter`, `mutate` and `join`."""
MOST_WRITTEN = 200_000
"""Operations as they would be written in SQL, where a value that is used twice stands twice."""
_ADVICE = "split the step: what is in between then is a table, which is computed once"
TOO_DEEP = f"its expression is nested too deeply: {_ADVICE}"


def check_bounds(expression: ibis.Table) -> None:
    """Refuses what nobody could compute.

    Raises:
        EntrepotError: with what there is too much of.
    """
    nodes = expression.op().find(ops.Node, ordered=True)
    chained: dict[ops.Node, int] = {}
    for node in nodes:
        is_own = isinstance(node, ops.Relation) and not isinstance(node, ops.Reference)
        chained[node] = int(is_own) + max((chained[child] for child in _below(node)), default=0)
    for what, found, most in (
        ("chains {} operations over tables", max(chained.values()), MOST_CHAINED),
        ("would be SQL of {} operations", _written(nodes), MOST_WRITTEN),
    ):
        if found > most:
            raise EntrepotError(f"its expression {what.format(f'{found:,}')}, and at most {most:,} go: {_ADVICE}")


def _written(nodes: Sequence[ops.Node]) -> int:
    """How long the SQL would be: tables that are used several times are written once (see `compiling.shared`)."""
    users: Counter[ops.Node] = Counter()
    for node in reversed(nodes):  # each after those that use it
        of_join = isinstance(node, ops.Reference | ops.JoinLink)
        users.update(dict.fromkeys(_below(node), users[node]) if of_join else _below(node) if _is_written(node) else ())
    length: dict[ops.Node, int] = {}
    total = 0
    for node in nodes:
        length[node] = 1 + (sum(length[child] for child in _below(node)) if _is_written(node) else 0)
        if isinstance(node, ops.Relation) and not isinstance(node, ops.Reference) and users[node] > 1:
            total += length[node]
            length[node] = 1
    return total + length[nodes[-1]]


def _is_written(node: ops.Node) -> bool:
    """Whether what a node is made of stands where it does; a column names its table."""
    return not isinstance(node, ops.Field)


def _below(node: ops.Node) -> tuple[ops.Node, ...]:
    return tuple(node.__children__)

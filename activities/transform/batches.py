"""A table that is computed by intervals, as a whole for the first time, by several statements: each is of so many
intervals, so that none needs the memory or the time of all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import ibis

from entrepot.activities.catalog.growing_table import GrowingTable, Segment
from entrepot.activities.transform.increments import Intervals, Moment, Whole, moved, segment, starts_of
from entrepot.backends import CreatedTable, Session, TableName
from entrepot.identity.expression import schema_from
from entrepot.language.incremental import ByInterval
from entrepot.planning.expressions.parts import Needed

MOST_TOGETHER = 30
"""So many tables one statement writes together: what makes SQL of them, or reads that, goes no deeper than
some tens."""


def batches(
    session: Session, by: ByInterval, needs: Mapping[str, Needed], inputs: Mapping[str, ibis.Table]
) -> list[Intervals]:
    """What each statement computes, one after another. Together they leave out no time; between the first and the last
    each has as many intervals as `by` says of those in which there are rows.

    Args:
        needs: What an interval needs of the inputs that are read by parts.
        inputs: The rows of all inputs.
    """
    assert by.batch is not None
    if not needs:
        return []
    try:
        starts = starts_of(session, by, [(its, [inputs[name]]) for name, its in needs.items()])
    except Whole:  # times that cannot be counted
        return []
    touched: set[Moment] = set()
    for moment, needed in starts:
        touched.update(moved(moment, by.every, number) for number in range(-needed.after, needed.before + 1))
    known = sorted(moment for moment in touched if moment is not None)
    borders: list[Moment] = [None, *known[by.batch :: by.batch], None]
    return [Intervals(by, ((start, end),)) for start, end in pairwise(borders)]


def written_together(
    session: Session,
    made: Sequence[Segment],
    target: TableName,
    named: Callable[[], TableName],
    check: Callable[[], None],
) -> CreatedTable:
    """Writes tables into one, and drops them; many by and by.

    Args:
        named: A new name for a table in between.
        check: Raises where the work is to end; called before each statement.
    """
    if len(made) > MOST_TOGETHER:
        some = [made[start : start + MOST_TOGETHER] for start in range(0, len(made), MOST_TOGETHER)]
        made = [segment(name := named(), written_together(session, each, name, named, check)) for each in some]
        return written_together(session, made, target, named, check)
    check()
    table = session.create_as(target, GrowingTable(made).rows(schema_from(made[0].columns)))
    for each in made:
        session.drop_table(each.name)
    return table

"""A table that is computed by intervals, as a whole for the first time, by several statements: each is of so many
intervals, so that none needs the memory or the time of all.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import ibis

from entrepot.activities.transform.increments import Intervals, Moment, Whole, moved, starts_of
from entrepot.backends import Session
from entrepot.language.incremental import ByInterval
from entrepot.planning.expressions.parts import Needed


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

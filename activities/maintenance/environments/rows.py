"""The rows in which two versions of a table differ: found by the digests and the bisection of parity, within one
warehouse and within bounds of statements, time and memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from entrepot.activities.catalog.version import Version
from entrepot.activities.parity.bisection import Found, Row, compare_rows, texts
from entrepot.activities.parity.comparison import said
from entrepot.activities.parity.digests import DigestedTable, common_kinds, digest_of
from entrepot.activities.runtime.activity import is_last_attempt
from entrepot.activities.runtime.context import ActivityContext
from entrepot.backends import Session
from entrepot.errors import Unavailable, listed
from entrepot.identity.expression import schema_from
from entrepot.protocol.environments import RowChanges

MOST_CELLS, MOST_ROWS, MOST_COLUMNS = 10, 5, 12
"""Of one table, that a result tells: Temporal takes results of 2 MB."""


def row_changes(work: ActivityContext, session: Session, left: Version, right: Version) -> RowChanges:
    """How the rows of one version differ from those of another. What fails is told, too.

    Raises:
        Unavailable: if the warehouse cannot be used now, and it is tried again.
    """
    try:
        return _compared(work, session, left, right)
    except InterruptedError:
        raise
    except Exception as error:
        if isinstance(error, Unavailable) and not is_last_attempt():
            raise
        return RowChanges(equal=None, why=f"its rows could not be compared: {said(error)}")


def _compared(work: ActivityContext, session: Session, left: Version, right: Version) -> RowChanges:
    ours, theirs = (_source(session, version) for version in (left, right))
    shared = [name for name in left.columns if name in right.columns]
    kinds = {name: kind for name, kind in common_kinds([ours.schema, theirs.schema]).items() if name in shared}
    usable = {name: kind for name, kind in kinds.items() if kind is not None}
    if not usable:
        return RowChanges(equal=None, why="they have no column in common that could be compared")
    beside = [f"{name!r} cannot be compared" for name in shared if name not in usable]
    for source in (ours, theirs):
        work.check_limits(session, source.expression)
    here, there = digest_of(ours, usable), digest_of(theirs, usable)
    if here.hex == there.hex:
        return RowChanges(equal=True, why="; ".join(beside))
    found = compare_rows(ours, theirs, usable, rows=max(here.rows, there.rows))
    if found.within_tolerance:
        return RowChanges(equal=True, why="; ".join(["but for the last digits of floats", *beside]))
    return RowChanges(
        equal=False,
        why="; ".join([*_sentence(found, here.rows, there.rows), *beside]),
        cells=tuple(found.cells[:MOST_CELLS]),
        only_left=_shown(found.only_left, found.key),
        only_right=_shown(found.only_right, found.key),
    )


def _source(session: Session, version: Version) -> DigestedTable:
    assert version.table is not None
    return DigestedTable(session, version.table, schema_from(version.columns))


def _sentence(found: Found, here: int, there: int) -> Iterator[str]:
    if found.differing:
        least = "" if found.complete else "at least "
        columns = list(dict.fromkeys(cell.column for cell in found.cells))
        where = f", in {listed(columns)}" if columns else ""
        yield f"{least}{found.differing:,} {'row differs' if found.differing == 1 else 'rows differ'}{where}"
    elif here == there:
        yield f"digests differ, and the {found.looked_at:,} rows that were looked at do not"
    if found.stopped:
        yield found.stopped


def _shown(rows: Sequence[Row], key: Iterable[str]) -> tuple[dict[str, str | None], ...]:
    """Some rows, and of each the columns by which it is found, before some others."""
    first = tuple(key)
    told = []
    for cells in map(texts, rows[:MOST_ROWS]):
        names = list(dict.fromkeys((*first, *cells)))[:MOST_COLUMNS]
        told.append({name: cells[name] for name in names})
    return tuple(told)

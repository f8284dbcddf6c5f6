"""From two digests that differ to the rows that do: by buckets of the key, finer and finer, then cell by cell."""

from __future__ import annotations

import datetime
import json
import math
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from decimal import Context, Decimal
from typing import Any

from entrepot.activities.parity.digests import DigestedTable
from entrepot.backends.sql.digest import query, rows
from entrepot.identity.table_digest import NESTED, ColumnKind
from entrepot.protocol.parity import Cell

BUCKETS = 1024
FINER = 64
FINEST = 2**24
MOST_REFINED = 16
"""Of the buckets that are too large to be looked at, so many of the largest are taken apart."""
_NO_ROWS = (0, 0, 0)
ROWS_AT_ONCE = 5_000
ROWS_LOOKED_AT = 100_000
"""So many rows on each side are compared one by one at most."""
SHOWN = 20
STATEMENTS, SECONDS = 40, 60.0
"""Of statements, and of time, no more than that is begun to find rows: then what was found is told."""
RELATIVE = 1e-9
ABSOLUTE = 1e-12
"""Floats are the same within RELATIVE of the larger, or ABSOLUTE of the largest in their column: sums are added up in
another order on every warehouse."""
_KEYS = ("integer", "string", "date", "timestamp", "decimal")
_EXACTLY = Context(prec=100)
"""Python's own context has 28 digits, and refuses more."""
_MOST_CANDIDATES = 12
_WIDEST_KEY = 3
_NO_KEY = "no column by which its rows could be found"

Row = dict[str, Any]


@dataclass
class Found:
    """What differs between two tables."""

    cells: list[Cell] = field(default_factory=list)
    only_left: list[Row] = field(default_factory=list)
    only_right: list[Row] = field(default_factory=list)
    differing: int = 0
    """Rows that differ, of those that were looked at."""
    looked_at: int = 0
    complete: bool = True
    """Whether every row was looked at that can differ."""
    key: tuple[str, ...] = ()
    stopped: str = ""
    """Why not every row was looked at, if that needs a word."""

    @property
    def within_tolerance(self) -> bool:
        """Whether nothing differs but the last digits of floats."""
        return self.complete and not self.differing


class _Spent(Exception):
    """No further statement may be begun."""


class _Bound:
    """What may be spent on finding rows."""

    def __init__(self) -> None:
        self._statements = 0
        self._end = time.monotonic() + SECONDS

    def spend(self, statements: int) -> None:
        """Raises _Spent if so many statements are too many now."""
        self._statements += statements
        if self._statements > STATEMENTS:
            raise _Spent(f"the search for rows ended after {STATEMENTS} statements, which is its bound")
        if time.monotonic() > self._end:
            raise _Spent(f"the search for rows ended after {SECONDS:.0f} s, which is its bound")


def compare_rows(left: DigestedTable, right: DigestedTable, kinds: Mapping[str, ColumnKind], *, rows: int) -> Found:
    """Finds the rows in which two tables differ, within a bound. `rows`: of the larger of them.

    Few rows are fetched as they are: buckets cost statements, each of which may take seconds. So are those with nested
    values, of which no warehouse can digest buckets.
    """
    found = Found()
    try:
        if rows <= ROWS_AT_ONCE or NESTED in kinds.values():
            _all_rows(left, right, kinds, found, rows)
        else:
            _in_buckets(left, right, kinds, found)
    except _Spent as error:
        found.complete, found.stopped = False, str(error)
    return found


def _all_rows(
    left: DigestedTable, right: DigestedTable, kinds: Mapping[str, ColumnKind], found: Found, rows: int
) -> None:
    found.complete = rows <= ROWS_LOOKED_AT
    if not found.complete:
        found.stopped = f"it has nested values, and more than {ROWS_LOOKED_AT:,} rows are not looked at one by one"
        return
    ours, theirs = _of_both(left, right, lambda source: _streamed(source, kinds))
    found.looked_at = len(ours)
    values = {n: len({row[n] for row in ours}) for n, kind in kinds.items() if kind.name in _KEYS}
    found.key = _key(list(values), values, len(ours))
    if not found.key:
        found.stopped, found.complete = _NO_KEY, False
        return
    _compare(ours, theirs, kinds, found.key, defaultdict(float), found)


def _in_buckets(left: DigestedTable, right: DigestedTable, kinds: Mapping[str, ColumnKind], found: Found) -> None:
    bound = _Bound()
    bound.spend(1)
    found.key = key_of(left, kinds)
    if not found.key:
        found.stopped, found.complete = _NO_KEY, False
        return
    largest: dict[str, float] = defaultdict(float)
    chunks, found.complete = _differing(left, right, kinds, found.key, bound)
    for buckets, only in chunks:
        if found.looked_at >= ROWS_LOOKED_AT or len(found.cells) >= SHOWN:
            found.complete = False
            break
        bound.spend(2)
        ours, theirs = _of_both(left, right, lambda s: _rows(s, kinds, found.key, buckets, only))  # noqa: B023
        found.looked_at += len(ours)
        _compare(ours, theirs, kinds, found.key, largest, found)


def _of_both(
    left: DigestedTable, right: DigestedTable, rows_of: Callable[[DigestedTable], list[Row]]
) -> list[list[Row]]:
    """Rows of both sides: at the same time, unless one session has both."""
    if left.session is right.session:
        return [rows_of(left), rows_of(right)]
    with ThreadPoolExecutor(max_workers=2) as pool:
        return list(pool.map(rows_of, (left, right)))


def key_of(source: DigestedTable, kinds: Mapping[str, ColumnKind]) -> tuple[str, ...]:
    """A column whose values are all different, else some columns that do not hold floats."""
    candidates = [name for name, kind in kinds.items() if kind.name in _KEYS][:_MOST_CANDIDATES]
    if not candidates:
        return ()
    table = source.expression
    counts = {f"c{n}": table[name].nunique() for n, name in enumerate(candidates)}
    row = source.session.fetch(table.aggregate(total=table.count(), **counts)).to_pylist()[0]
    return _key(candidates, {name: row[f"c{n}"] for n, name in enumerate(candidates)}, row["total"])


def _key(candidates: Sequence[str], values: Mapping[str, int], rows: int) -> tuple[str, ...]:
    """Of columns with so many values, the one that tells all rows apart, else those that do best."""
    for name in candidates:
        if values[name] == rows:
            return (name,)
    best = sorted(candidates, key=lambda name: -values[name])[:_WIDEST_KEY]
    return tuple(name for name in candidates if name in best)


def _differing(
    left: DigestedTable, right: DigestedTable, kinds: Mapping[str, ColumnKind], key: tuple[str, ...], bound: _Bound
) -> tuple[list[tuple[int, list[int]]], bool]:
    """The buckets that differ, in chunks of few rows, each with the number of buckets there are; and whether all."""
    buckets, only, complete = BUCKETS, list[int](), True
    while True:
        bound.spend(2)
        ours, theirs = (_buckets(source, kinds, key, buckets, only) for source in (left, right))
        sizes = {b: max(ours.get(b, _NO_ROWS)[0], theirs.get(b, _NO_ROWS)[0]) for b in sorted({*ours, *theirs})}
        sizes = {b: size for b, size in sizes.items() if ours.get(b) != theirs.get(b)}
        if max(sizes.values(), default=0) <= ROWS_AT_ONCE or buckets * FINER > FINEST:
            return _cut(sizes, buckets), complete
        largest = sorted(sizes, key=lambda b: -sizes[b])[:MOST_REFINED]
        complete = complete and len(largest) == len(sizes)
        only = [b + n * buckets for b in largest for n in range(FINER)]
        buckets *= FINER


def _cut(sizes: Mapping[int, int], buckets: int) -> list[tuple[int, list[int]]]:
    chunks: list[tuple[int, list[int]]] = []
    room = 0
    for name, size in sizes.items():
        if room < size or not chunks:
            chunks.append((buckets, []))
            room = ROWS_AT_ONCE
        chunks[-1][1].append(name)
        room -= size
    return chunks


def _buckets(
    source: DigestedTable, kinds: Mapping[str, ColumnKind], key: tuple[str, ...], buckets: int, only: Sequence[int]
) -> dict[int, tuple[int, int, int]]:
    sql = query(
        source.session.dialect.formulas, source.sql, source.columns(kinds), keys=key, buckets=buckets, only=only
    )
    rows = source.session.query(sql)
    return {int(r["bucket"]): (int(r["row_count"]), int(r["sum_a"]), int(r["sum_b"])) for r in rows}


def _rows(
    source: DigestedTable, kinds: Mapping[str, ColumnKind], key: tuple[str, ...], buckets: int, only: Sequence[int]
) -> list[Row]:
    sql = rows(source.session.dialect.formulas, source.sql, source.columns(kinds), key, buckets, only)
    names = list(kinds)
    return [
        {name: canonical(value, kinds[name]) for name, value in zip(names, row.values(), strict=False)}
        for row in source.session.query(sql)
    ]


def _streamed(source: DigestedTable, kinds: Mapping[str, ColumnKind]) -> list[Row]:
    """Every row of a small table."""
    batches = source.session.read(source.expression.select(*kinds))
    return [{n: canonical(v, kinds[n]) for n, v in row.items()} for batch in batches for row in batch.to_pylist()]


def canonical(value: Any, kind: ColumnKind) -> Any:
    """A value as a client gives it, as the kind that it is compared as."""
    if value is None:
        return None
    if kind.name == "integer":
        return int(value)
    if kind.name == "decimal":
        return _EXACTLY.create_decimal(str(value)).normalize(_EXACTLY)
    if kind.name == "float":
        return float(value)
    if kind.name == "timestamp":
        if not isinstance(value, datetime.datetime):
            return datetime.datetime.combine(value, datetime.time())
        return value.astimezone(datetime.UTC).replace(tzinfo=None) if value.tzinfo else value
    if kind.name == "binary":
        return bytes(value)
    if kind.name == "nested":
        decoded = json.loads(value) if isinstance(value, str) else value
        return json.dumps(decoded, sort_keys=True, default=str, ensure_ascii=False)
    return value if kind.name in ("date", "time") else str(value)


def _compare(
    ours: list[Row],
    theirs: list[Row],
    kinds: Mapping[str, ColumnKind],
    key: tuple[str, ...],
    largest: dict[str, float],
    found: Found,
) -> None:
    """Pairs rows by their key; rows with the same key in the order of their values."""
    floats = [name for name, kind in kinds.items() if kind.name == "float"]
    for row in (*ours, *theirs):
        for name in floats:
            if row[name] is not None and math.isfinite(row[name]):
                largest[name] = max(largest[name], abs(row[name]))
    pairs: dict[tuple[Any, ...], tuple[list[Row], list[Row]]] = defaultdict(lambda: ([], []))
    for side, side_rows in enumerate((ours, theirs)):
        for row in side_rows:
            pairs[tuple(row[name] for name in key)][side].append(row)
    for mine, other in pairs.values():
        if len(mine) > 1 or len(other) > 1:
            mine.sort(key=repr)
            other.sort(key=repr)
        for left, right in zip(mine, other, strict=False):
            cells = [
                n for n in kinds if not _same(left[n], right[n], is_float=n in floats, absolute=ABSOLUTE * largest[n])
            ]
            found.differing += bool(cells)
            named = {name: _text(left[name]) or "NULL" for name in key}
            found.cells += [Cell(key=named, column=n, left=_text(left[n]), right=_text(right[n])) for n in cells]
        found.only_left += mine[len(other) :]
        found.only_right += other[len(mine) :]
        found.differing += abs(len(mine) - len(other))
    del found.cells[SHOWN:]


def _same(left: Any, right: Any, *, is_float: bool, absolute: float) -> bool:
    if left is None or right is None or not is_float:
        return bool(left == right)
    if math.isnan(left) or math.isnan(right):
        return math.isnan(left) and math.isnan(right)
    return bool(left == right or abs(left - right) <= max(RELATIVE * max(abs(left), abs(right)), absolute))


def _text(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, Decimal):
        return f"{value:f}"
    text = value.hex() if isinstance(value, bytes) else repr(value) if isinstance(value, float) else str(value)
    return text if len(text) <= 200 else text[:200] + "…"


def texts(row: Row) -> dict[str, str | None]:
    """A row for people."""
    return {name: _text(value) for name, value in row.items()}

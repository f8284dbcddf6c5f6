"""The rows on which SQL is held against an estimator: some at random, and those that are rare.

What a random sample would miss is asked of the whole table: every value of a text, of which an estimator knows some and
no others; NULL, NaN and infinity; the least and the greatest. So what scikit-learn refuses, or treats as a case of its
own, is seen, however few rows have it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Any

import ibis
import ibis.expr.operations as ops
import pyarrow as pa

from entrepot.activities.ml.translation import MOST_CATEGORIES, NotTranslatable
from entrepot.backends import Session

ROWS = 2_000
"""Rows at random; a table that has no more is compared as a whole."""
ROWS_OF_A_KIND = 20
LARGE_TABLE = 1_000_000
BLOCK_ROWS = 100_000
"""Rows of the blocks that the sample of a large table comes from: about fifty blocks of DuckDB's."""
_LARGEST_FLOAT32 = 3.4e38
"""Trees refuse what is beyond it, as everything else refuses infinity."""


def rows_to_compare(
    session: Session, table: ibis.Table, features: Sequence[str], encoded: Sequence[str], block_sample: bool
) -> ibis.Table:
    """An expression of feature rows.

    Args:
        encoded: Features of which every value is wanted: what is text reaches a model by an encoder.
        block_sample: Whether the warehouse can read some blocks of a table instead of all.
    """
    columns = table.select(*features)
    facts = Facts.of(session, columns)
    if facts.total <= ROWS:
        return columns
    nulls = [columns[name].isnull() for name in features if facts.values[name] < facts.total]
    rare = [kind for name, bounds in facts.bounds.items() for kind in _rare_values(columns[name], *bounds)]
    parts = [_at_random(table, facts.total, block_sample).select(*features).limit(ROWS)]
    parts += [columns.filter(reduce(or_, nulls)).limit(ROWS // 4)] if nulls else []
    parts += [columns.filter(kind).limit(ROWS_OF_A_KIND) for kind in (*nulls, *rare)]
    parts += [_one_of_each(columns, name) for name in encoded]
    return ibis.union(*parts) if len(parts) > 1 else parts[0]


def check_categories(rows: pa.Table, encoded: Sequence[str]) -> None:
    """Raises NotTranslatable if a feature has more values than can be compared one by one."""
    for name in encoded:
        if rows.num_rows > ROWS and len(rows[name].unique()) > MOST_CATEGORIES:
            raise NotTranslatable(f"its feature {name!r} is encoded, and has more than {MOST_CATEGORIES:,} values")


@dataclass(frozen=True)
class Facts:
    """What the whole table says of its columns."""

    total: int
    values: dict[str, int]
    """Column to its rows that are not NULL."""
    bounds: dict[str, tuple[float, float]]
    """Column of fractions to its least and its greatest value, if it has any."""

    @classmethod
    def of(cls, session: Session, columns: ibis.Table) -> Facts:
        """Asks, in one pass."""
        numbered = dict(enumerate(columns.columns))
        asked: dict[str, Any] = {"total": columns.count()}
        for number, name in numbered.items():
            value: Any = columns[name]
            asked[f"values_{number}"] = value.count()
            if value.type().is_floating():
                asked |= {f"least_{number}": value.min(), f"greatest_{number}": value.max()}
        [found] = session.fetch(columns.aggregate(**asked)).to_pylist()
        bounds = {name: (found.get(f"least_{n}"), found.get(f"greatest_{n}")) for n, name in numbered.items()}
        return cls(
            found["total"],
            {name: found[f"values_{number}"] for number, name in numbered.items()},
            {name: (least, greatest) for name, (least, greatest) in bounds.items() if None not in (least, greatest)},
        )


def _rare_values(value: Any, least: float, greatest: float) -> list[Any]:
    """Conditions on a feature that some rows of the whole table may meet, and few need to."""
    if math.isnan(greatest):  # to a warehouse NaN is greater than all numbers, or what comes of any with it
        return [value.isnan(), ~value.isnan() & (value.abs() > _LARGEST_FLOAT32)]
    if max(abs(least), abs(greatest)) > _LARGEST_FLOAT32:
        return [value.abs() > _LARGEST_FLOAT32]
    near = (greatest - least) * 1e-9  # a literal may be off by a last digit
    return [value <= least + near, value >= greatest - near]


def _one_of_each(columns: ibis.Table, name: str) -> ibis.Table:
    others = {other: columns[other].arbitrary() for other in columns.columns if other != name}
    return columns.group_by(name).aggregate(**others).select(*columns.columns).limit(MOST_CATEGORIES + 1)


def _at_random(table: ibis.Table, total: int, block_sample: bool) -> ibis.Table:
    """More rows than the sample needs, of so many in total."""
    share = 2 * ROWS / total
    if share >= 1:
        return table
    # To read all of a large table would take as long as to score it: its blocks are chosen at random first.
    if total >= LARGE_TABLE and isinstance(table.op(), ops.UnboundTable) and block_sample:
        blocks = BLOCK_ROWS / total
        table, share = table.sample(blocks, method="block"), share / blocks
    return table.filter(ibis.random() < share)

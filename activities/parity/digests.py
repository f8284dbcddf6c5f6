"""Digests of tables in warehouses: the same for the same rows, whichever warehouse has them. See docs/parity.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import reduce

import ibis
import ibis.expr.schema as sch

from entrepot.backends import Session, TableName
from entrepot.backends.base import physical
from entrepot.backends.sql.digest import Column, narrowed, query, statistics
from entrepot.identity.table_digest import NESTED, ColumnKind, Digest, common, kind, of_batches


@dataclass(frozen=True)
class DigestedTable:
    """A table, or an expression, in a warehouse."""

    session: Session
    table: TableName | ibis.Table
    schema: sch.Schema

    @property
    def sql(self) -> str:
        """What stands after FROM."""
        dialect = self.session.dialect
        if isinstance(self.table, TableName):
            return dialect.table(self.table)
        return f"({dialect.compile(self.table)}) AS {dialect.identifier('sent')}"

    @property
    def expression(self) -> ibis.Table:
        """The same for ibis."""
        return physical(self.table, self.schema) if isinstance(self.table, TableName) else self.table

    def columns(self, kinds: Mapping[str, ColumnKind]) -> dict[str, Column]:
        """Each column as this warehouse has it, and as what it is taken."""
        dialect = self.session.dialect
        return {name: Column(dialect.identifier(name), self.schema[name], kind) for name, kind in kinds.items()}


def common_kinds(schemas: Sequence[sch.Schema]) -> dict[str, ColumnKind | None]:
    """Every column, and as what it can be compared in all of these tables; None: it cannot, or one lacks it."""
    kinds: dict[str, ColumnKind | None] = {}
    for name in dict.fromkeys(name for schema in schemas for name in schema):
        found = [_kind(schema, name) for schema in schemas]
        kinds[name] = reduce(lambda a, b: common(a, b) if a and b else None, found)
    return kinds


def _kind(schema: sch.Schema, name: str) -> ColumnKind | None:
    if name not in schema:
        return None
    try:
        return kind(schema[name])
    except ValueError:
        return None


def digests_of(sources: Sequence[DigestedTable], kinds: Mapping[str, ColumnKind]) -> list[Digest]:
    """The digest of each, computed at the same time, each in its own warehouse."""
    with ThreadPoolExecutor(max_workers=len(sources)) as pool:
        return list(pool.map(lambda source: digest_of(source, kinds), sources))


def digest_of(source: DigestedTable, kinds: Mapping[str, ColumnKind], statements: list[str] | None = None) -> Digest:
    """The digest of a table whose columns are taken as these kinds: inside the warehouse, in one scan.

    The table must not change meanwhile: versions do not. Values without a schema have no form that all warehouses could
    write: a table with such a column is streamed.

    Args:
        statements: Takes each statement before it is asked, for whoever tells of its failure.

    Raises:
        ValueError: if a value has no digest.
    """
    asked = [] if statements is None else statements
    if NESTED in kinds.values():
        return of_batches(source.session.read(source.expression.select(*kinds)), kinds)
    columns = source.columns(kinds)
    if source.session.capabilities.statistics and isinstance(source.table, TableName):
        asked.append(statistics(source.sql, columns))
        (found,) = source.session.query(asked[-1])
        columns = narrowed(columns, list(found.values()))
    asked.append(query(source.session.dialect.formulas, source.sql, columns))
    (row,) = source.session.query(asked[-1])
    return Digest(int(row["row_count"]), (int(row["sum_a"]), int(row["sum_b"])), dict(kinds))

"""How many bytes a query processes, by the sizes that BigQuery documents for its types.

The emulator says 0. Here it is the sum over the tables that the query reads, views opened, of those columns whose names
the query mentions; `*` means all. What a view only passes on counts if the query mentions it. That is BigQuery's rule
but for this: a column that is mentioned for one table is counted in every other table of the query that has one of that
name, and `*` in a subquery counts columns that nothing outside uses. So it is rather too large than too small.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import duckdb
from local_bigquery.catalog import metadata
from local_bigquery.engine import database
from local_bigquery.engine.database import quote
from local_bigquery.models import Table
from local_bigquery.sql.translate import parse
from sqlglot import exp

FIXED = {
    "BOOLEAN": 1,
    **dict.fromkeys(["TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UBIGINT", "FLOAT", "DOUBLE"], 8),
    "DATE": 8,
    "TIME": 8,
    "TIMESTAMP": 8,
    "TIMESTAMP WITH TIME ZONE": 8,
    "INTERVAL": 16,
}
BILLED_AT_LEAST = 10 * 1024 * 1024
Reference = tuple[str, str, str]


def processed(cursor: duckdb.DuckDBPyConnection, tree: exp.Expression, read: Iterable[Reference]) -> int:
    """The bytes that a statement processes. `read`: the tables and views that it names."""
    views, found = list[exp.Expression](), set[Reference]()
    waiting = list(read)
    while waiting:
        reference = waiting.pop()
        if reference in found:
            continue
        found.add(reference)
        if definition := view(reference):
            body = parse(definition)[0]
            views.append(body)
            waiting += [named(table, reference) for table in body.find_all(exp.Table) if table.db or table.catalog]
    names = mentioned(tree, views)
    return sum(table_bytes(cursor, reference, names) for reference in found)


def billed(number: int) -> int:
    """What is paid for: whole megabytes, and ten of them at least."""
    megabyte = 1024 * 1024
    return max(BILLED_AT_LEAST, -(-number // megabyte) * megabyte) if number else 0


def mentioned(query: exp.Expression, views: Iterable[exp.Expression]) -> set[str] | None:
    """The names of columns that are used, in lower case; None if a `*` means all."""
    names = set[str]()
    for tree in (query, *views):
        left_out = passed_on(tree) if tree is not query else set()
        for node in tree.find_all(exp.Star, exp.Identifier):
            if id(node) in left_out:
                continue
            if isinstance(node, exp.Star) and not isinstance(node.parent, exp.Count):
                return None
            names.add(node.name.lower())
    return names


def passed_on(view: exp.Expression) -> set[int]:
    """The nodes of a view's columns that it takes as they are: whether they are read, the query decides."""
    if not isinstance(view, exp.Select) or view.args.get("distinct"):
        return set()
    plain = [column for column in view.expressions if isinstance(column, exp.Star | exp.Column)]
    return {id(node) for column in plain for node in column.walk()}


def view(reference: Reference) -> str | None:
    """The query of a view; None for a table."""
    resource = metadata.load(Table, *reference)
    return resource.view.query if resource and resource.view else None


def named(table: exp.Table, inside: Reference) -> Reference:
    """The table that a view names, by default in the view's own project."""
    return table.catalog or inside[0], table.db, table.name


def table_bytes(cursor: duckdb.DuckDBPyConnection, reference: Reference, names: set[str] | None) -> int:
    """The bytes of those columns of a table; none for a view, or for what is no table."""
    if not [kind for _, kind, _ in database.objects(*reference) if kind == "TABLE"]:
        return 0
    with cursor.cursor() as own:
        columns = own.execute(f"describe {quote(*reference)}").fetchall()
        sizes = [size(name, kind) for name, kind, *_ in columns if names is None or name.lower() in names]
        if not sizes:
            return 0
        row: Any = own.execute(f"select {' + '.join(sizes)} from {quote(*reference)}").fetchone()
    return int(row[0] or 0)


def size(name: str, kind: str) -> str:
    """An aggregate: the bytes of a column. NULLs take none."""
    column = quote(name)
    if kind in FIXED:
        return f"{FIXED[kind]} * count({column})"
    if kind.startswith("DECIMAL"):
        scale = int(kind.rstrip(")").rpartition(",")[2])
        return f"{16 if scale <= 9 else 32} * count({column})"
    if kind == "VARCHAR":
        return f"coalesce(sum(2 + strlen({column})), 0)"
    if kind == "BLOB":
        return f"coalesce(sum(2 + octet_length({column})), 0)"
    # JSON by its text, as BigQuery does; for STRUCT, ARRAY and others, what they are as JSON is near enough.
    return f"coalesce(sum(strlen(to_json({column})::varchar)), 0)"

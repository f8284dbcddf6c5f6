"""How many rows a statement changed, which Databricks answers and Iceberg only notes in its snapshots.

Each statement marks the snapshots that it commits, and reads from its own what was added and what was deleted. Tables
are merged on read, so that a snapshot has the changed rows alone: an update adds the new rows, and deletes as many by
their positions.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import results
from names import FLAGS, NAME, quoted
from pyspark.sql import DataFrame
from results import Result
from sessions import Session

KIND = re.compile(
    rf"INSERT\s+(?:INTO|OVERWRITE)\s+(?:TABLE\s+)?(?P<insert>{NAME})|UPDATE\s+(?P<update>{NAME})"
    rf"|DELETE\s+FROM\s+(?P<delete>{NAME})|MERGE\s+(?:WITH\s+SCHEMA\s+EVOLUTION\s+)?INTO\s+(?P<merge>{NAME})",
    FLAGS,
)
CREATES = re.compile(rf"CREATE\s+(?:OR\s+REPLACE\s+)?TABLE\s+(?:IF\s+NOT\s+EXISTS\s+)?{NAME}\b.*?\bAS\b", FLAGS)
MARK = "standin-statement"


def nothing(session: Session) -> Result:
    """What Databricks answers to CREATE TABLE AS: the columns, and no row."""
    columns = pa.schema([("num_affected_rows", pa.int64()), ("num_inserted_rows", pa.int64())])
    return results.of_table(columns.empty_table(), session.engine.scratch)


def run(session: Session, sql: str, work: Callable[[], DataFrame]) -> Result:
    """Runs a statement that changes rows of a table, and answers how many."""
    match = KIND.match(sql)
    assert match is not None
    kind, name = next((kind, match[kind]) for kind in COUNTS if match[kind])
    with session.engine.marked(MARK) as mark:
        work()
    table = session.engine.iceberg(session.spark, quoted(*session.full(name)))
    added, deleted = _changes(table, mark)
    counts = COUNTS[kind](added, deleted, sql)
    table_of_counts = pa.table({column: pa.array([count], pa.int64()) for column, count in counts.items()})
    result = results.of_table(table_of_counts, session.engine.scratch)
    result.modified = counts["num_affected_rows"]
    return result


def _changes(table: Any, mark: str) -> tuple[int, int]:
    """Rows that the marked snapshots added and deleted."""
    added = deleted = 0
    for snapshot in table.snapshots():
        summary = snapshot.summary()
        if summary.get(MARK) == mark:
            added += int(summary.get("added-records") or 0)
            # A new file of deleted positions may take the place of older ones, whose rows it has too. And deleted
            # files have rows that had been deleted before by their positions.
            deleted += int(summary.get("added-position-deletes") or 0) - int(
                summary.get("removed-position-deletes") or 0
            )
            deleted += int(summary.get("deleted-records") or 0)
    return added, deleted


def _insert(added: int, deleted: int, sql: str) -> dict[str, int | None]:
    return {"num_affected_rows": added, "num_inserted_rows": added}


def _update(added: int, deleted: int, sql: str) -> dict[str, int | None]:
    return {"num_affected_rows": added}


def _delete(added: int, deleted: int, sql: str) -> dict[str, int | None]:
    return {"num_affected_rows": deleted}


def _merge(added: int, deleted: int, sql: str) -> dict[str, int | None]:
    """Two counts for three unknown numbers: known as soon as the statement lacks one of the three actions."""
    updated: int | None = None
    if not re.search(r"THEN\s+DELETE\b", sql, FLAGS):
        updated = deleted
    elif not re.search(r"THEN\s+INSERT\b", sql, FLAGS):
        updated = added
    elif not re.search(r"THEN\s+UPDATE\b", sql, FLAGS):
        updated = 0
    known = updated is not None
    return {
        "num_affected_rows": added + deleted - (updated or 0) if known else None,
        "num_updated_rows": updated,
        "num_deleted_rows": deleted - (updated or 0) if known else None,
        "num_inserted_rows": added - (updated or 0) if known else None,
    }


COUNTS = {"insert": _insert, "update": _update, "delete": _delete, "merge": _merge}

"""Publishing to another warehouse: computed in one, served from another, and verified before anybody sees it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import ibis

from entrepot.activities.parity.digests import DigestedTable, common_kinds, digests_of
from entrepot.activities.runtime.context import ActivityContext
from entrepot.backends import Session, TableName
from entrepot.errors import StepFailed, listed


def copy_to_warehouse(
    work: ActivityContext, session: Session, table: ibis.Table, target: TableName, warehouse: str
) -> tuple[int, str]:
    """Streams a table into another of the tenant's warehouses, in bounded memory. Returns its rows and its digest.

    The target's name is its version's, so an attempt that comes again finds what is there.

    Raises:
        StepFailed: if what arrived is not what was sent; it is removed.
    """
    with work.session(warehouse=warehouse) as there:
        there.create_schema(target.schema)
        if target.table not in there.tables(target.schema):
            work.check_limits(session, table)
            reader = session.read(table)
            there.write(target, table.schema(), _checked(work, reader), reader.schema)
        with there.contended_if_gone(target):
            columns = there.describe(target, table.schema())
        kinds = common_kinds([table.schema(), columns])
        if lost := [name for name, kind in kinds.items() if kind is None]:
            there.drop_table(target)
            raise StepFailed(f"{warehouse} cannot hold {listed(lost)} as here; what arrived was removed")
        usable = {name: kind for name, kind in kinds.items() if kind is not None}
        sides = [DigestedTable(session, table, table.schema()), DigestedTable(there, target, columns)]
        sent, arrived = digests_of(sides, usable)
        if sent.hex != arrived.hex:
            there.drop_table(target)
            raise StepFailed(
                f"{arrived.rows:,} rows arrived on {warehouse} with the digest {arrived.hex[:12]}, and {sent.rows:,} "
                f"were sent with {sent.hex[:12]}; what arrived was removed"
            )
    return arrived.rows, arrived.hex


def _checked(work: ActivityContext, batches: Any) -> Iterator[Any]:
    for batch in batches:
        work.check()
        yield batch

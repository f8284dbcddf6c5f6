"""A long load in chunks: every resource is stopped where its cursor moves on, and the next extraction goes on there."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.compute as pc
from dlt.extract import DltResource, DltSource, Incremental

from entrepot.activities.ingest.sources.dlt import compat
from entrepot.activities.ingest.sources.dlt.cursors import cursor_of, is_beyond, no_value, skips_known_rows, state_of
from entrepot.errors import StepFailed

CHUNK_ROWS = 500_000
CHUNK_SECONDS = 10.0


class Chunks:
    """Parts of a load: every resource is stopped where its cursor moves on, after enough rows or time.

    Only where dlt can go on from there without losing or doubling a row: all resources are ordered by a growing cursor.
    """

    def __init__(self) -> None:
        self.boundaries: dict[str, Any] = {}
        """The cursor's value at which each resource was stopped the last time."""
        self.began = 0.0
        self._steps: list[_Stop] = []
        self._possible: bool | None = None
        self._given_up = False

    def begin(self, sources: Sequence[DltSource]) -> None:
        """To be called before each extraction."""
        self.began, self._steps = time.monotonic(), []
        self._possible = None if all(_may_be_cut(source) for source in sources) else False
        for resource in (r for source in sources for r in source.resources.extracted):
            if not resource.is_transformer:
                self._steps.append(step := _Stop(self, resource))
                step.add()

    @property
    def has_more(self) -> bool:
        """Whether the last extraction was stopped."""
        return any(step.stopped for step in self._steps)

    @property
    def possible(self) -> bool:
        """Known only when dlt has evaluated all resources."""
        if self._possible is None:
            self._possible = not self._given_up and all(_orders(cursor_of(step.resource)) for step in self._steps)
        return self._possible

    def give_up(self) -> None:
        """For sources that begin at their first row again each time: the rest comes in one go."""
        self._given_up, self._possible = True, False


def _may_be_cut(source: DltSource) -> bool:
    """Whether nothing about the source itself forbids it; of cursors, little is known before dlt's evaluation."""
    return not source.schema.settings.get("schema_contract") and all(
        not resource.is_transformer
        and callable(compat.generator_of(resource))  # it can be asked again
        and resource.limit is None
        and resource.schema_contract is None  # dlt knows new columns from old ones by the chunk
        and _grows(resource.write_disposition)
        and not compat.has_variants(resource)
        for resource in source.resources.extracted
    )


def _grows(disposition: Any) -> bool:
    given = disposition if isinstance(disposition, dict) else {"disposition": disposition}
    return given.get("disposition") in ("append", "merge") and given.get("strategy") != "scd2"


def _orders(cursor: Incremental[Any] | None) -> bool:
    return (
        cursor is not None
        and cursor.row_order == "asc"
        and cursor.last_value_func is max
        and cursor.end_value is None
        and cursor.on_cursor_value_missing != "include"
        and cursor.get_cursor_column_name() is not None
        and (skips_known_rows(cursor) or (cursor.range_start == "open" and not cursor.lag))
    )


class _Stop(compat.Step):
    """Stands before dlt's cursor, which must not see rows that are left for the next chunk."""

    placement_affinity: ClassVar[float] = 0.9

    def __init__(self, chunks: Chunks, resource: DltResource) -> None:
        super().__init__(resource)
        self._chunks = chunks
        self.stopped = False
        self._is_ready = False
        self._cursor: Incremental[Any] | None = None
        self._name = ""
        self._state: Any = {}  # dlt's, of the cursor
        self._start: Any = None
        self._is_new = False  # the cursor has moved in this chunk, so that stopping gets us on
        self._new_rows = 0
        self._rows = 0
        self._last: Any = None  # the row before's value
        self._full = False  # enough: only rows with the value of `_last` still belong to this chunk

    def __call__(self, item: Any, meta: Any = None) -> Any:
        if self.stopped:
            return None
        if not self._is_ready:  # only now has dlt evaluated the resource
            self._is_ready = True
            self._cursor = cursor_of(self.resource)
            if self._cursor is not None:
                self._name = self._cursor.get_cursor_column_name() or ""
                self._state = state_of(self._cursor)
                self._start = self._state.get("last_value")
        if self._cursor is None:
            return item
        if hasattr(item, "__arrow_c_stream__") or isinstance(item, pa.RecordBatch):
            return self._arrow(item if isinstance(item, pa.Table | pa.RecordBatch) else pa.table(item), item)
        if not self._chunks.possible:
            self._rows += len(item) if isinstance(item, list) else 1
            return item
        rows = item if isinstance(item, list) else [item]
        if not rows or not isinstance(rows[0], dict):
            return item
        self._look()
        for index, row in enumerate(rows):
            value = row.get(self._name)
            if value is not None:
                if self._goes_on(value):
                    return rows[:index] or None
                self._last = value
        self._count(len(rows))
        return item

    def _arrow(self, table: Any, item: Any) -> Any:
        assert self._cursor is not None
        if self._name not in table.column_names:
            return item
        column = table[self._name]
        if column.null_count and self._cursor.on_cursor_value_missing == "raise":
            row = self._rows + pc.index(pc.is_null(column), True).as_py()
            raise StepFailed(no_value(self.resource.name, self._name, f"row {row + 1}"))
        if not self._chunks.possible or not len(column) - column.null_count:
            self._rows += table.num_rows
            return item
        self._look()
        known = column.drop_null()
        if isinstance(known, pa.ChunkedArray):
            known = known.combine_chunks()
        if pc.any(pc.less(known[1:], known[:-1])).as_py():
            falls = pc.index(pc.less(known[1:], known[:-1]), True).as_py()
            self._last = known[falls].as_py()
            self._goes_on(known[falls + 1].as_py())
        if self._goes_on(known[0].as_py()):
            return None
        if self._full:
            keep = pc.fill_null(pc.equal(column, known[0]), False)
            if not pc.all(keep).as_py():
                self._stop()
                return table.filter(keep)
        self._last = known[-1].as_py()
        self._count(table.num_rows)
        return item

    def _goes_on(self, value: Any) -> bool:
        """Whether the row with this value is for the next chunk."""
        if self._last is not None and value != self._last:
            if value < self._last:
                raise StepFailed(
                    f"resource {self.resource.name!r}: row_order='asc' is not true: {self._name!r} goes back from "
                    f"{self._last} to {value} at row {self._rows + 1}; without row_order it is read in one go"
                )
            if self._full:
                self._stop()
                return True
        before = self._chunks.boundaries.get(self.resource.name)
        if self._last is None and before is not None and value < before:
            self._chunks.give_up()
        return False

    def _stop(self) -> None:
        self.stopped = True
        self._chunks.boundaries[self.resource.name] = self._last
        self.close()

    def _look(self) -> None:
        """Rows that dlt leaves out since an earlier load or chunk had them do not count."""
        self._is_new = self._is_new or self._state.get("last_value") != self._start
        since = time.monotonic() - self._chunks.began
        is_enough = self._new_rows >= CHUNK_ROWS or since >= CHUNK_SECONDS
        self._full = self._is_new and is_enough and not is_beyond(self._last)

    def _count(self, rows: int) -> None:
        self._rows += rows
        self._new_rows += rows if self._is_new else 0

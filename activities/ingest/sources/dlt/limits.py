"""How far dlt's cursors move: to a day ahead of now, so that a wrong date does not hide all that come later.

dlt follows the greatest value that it meets. After an extraction its cursor is put back to the greatest one that is not
beyond, and notes from which value on the next load brings rows again, in the place of those of before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import pyarrow as pa
from dlt.common.jsonpath import find_values
from dlt.extract import DltResource, DltSource
from dlt.extract.incremental import Incremental
from dlt.extract.items_transform import BaseItemTransform, ItemTransform

from entrepot.activities.ingest.sources.dlt.cursors import bound_of, is_beyond, latest, own
from entrepot.activities.ingest.sources.postgres.boundary import beyond_note
from entrepot.activities.ingest.sources.stream import Bound, Json

AGAIN = "entrepot_again"
"""In dlt's state of a cursor: from which value on rows come again. None: all."""


class Limits:
    """Of all cursors of a load."""

    def __init__(self, before: Json) -> None:
        self._before = before
        self._steps: list[_Watch] = []
        self.notes: dict[str, list[str]] = {}

    def begin(self, sources: Sequence[DltSource], state: Json) -> None:
        """To be called before each extraction. A cursor that is beyond already begins anew."""
        self._steps = []
        for source in sources:
            for resource in source.resources.extracted:
                resource._pipe.remove_by_type(_Watch)
                cursor = own(resource)
                if not cursor or cursor.last_value_func is max:  # not known before dlt's evaluation, or one that grows
                    self._steps.append(step := _Watch(source.name, resource))
                    resource.add_step(step)
                kept = _entry(state, source.name, resource.name, cursor.cursor_path) if cursor else {}
                if cursor and cursor.last_value_func is max and is_beyond(kept.get("last_value")):
                    kept |= {"last_value": cursor.initial_value, "unique_hashes": []}
                    _entry(self._before, source.name, resource.name, cursor.cursor_path)[AGAIN] = None

    def settle(self, state: Json) -> None:
        """Puts cursors back in dlt's state, after an extraction."""
        for step in self._steps:
            cursor = step.cursor
            kept = _entry(state, step.source, step.resource.name, cursor.cursor_path) if cursor else {}
            kept.pop(AGAIN, None)
            if cursor and step.count:
                again = step.least if cursor.range_start == "open" and step.followed is not None else step.followed
                followed = cursor.initial_value if step.followed is None else step.followed
                kept |= {"last_value": followed, "unique_hashes": [], AGAIN: bound_of(again)}
                note = beyond_note(step.count, cursor.cursor_path, step.greatest, latest(step.greatest))
                self.notes.setdefault(step.resource.name, []).extend(note)

    def again(self, source: str, cursor: Incremental[Any]) -> tuple[Bound] | None:
        """From which value on rows of before come again; None: the cursor had not met any beyond."""
        kept = _entry(self._before, source, cursor.resource_name or "", cursor.cursor_path)
        return (kept[AGAIN],) if AGAIN in kept else None


class _Watch(ItemTransform[Any, Any]):
    """Stands behind dlt's cursor. Rows are looked at only once it has met a value that is beyond."""

    placement_affinity: ClassVar[float] = 1.05

    def __init__(self, source: str, resource: DltResource) -> None:
        BaseItemTransform.__init__(self)
        self.source = source
        self.resource = resource
        self.cursor: Incremental[Any] | None = None
        self.followed: Any = None
        self.least: Any = None
        self.greatest: Any = None
        self.count = 0
        self._is_ready = False

    def __call__(self, item: Any, meta: Any = None) -> Any:
        if not self._is_ready:  # only now has dlt evaluated the resource
            self._is_ready = True
            cursor = own(self.resource)
            if cursor and cursor.last_value_func is max and cursor.end_value is None:
                self.cursor, self.followed = cursor, cursor.start_value
        if self.cursor is not None:
            now = (self.cursor._cached_state or {}).get("last_value")
            if self.count or is_beyond(now):
                self._look(item)
            elif now is not None:
                self.followed = now
        return item

    def _look(self, item: Any) -> None:
        for value in self._values(item):
            if not is_beyond(value):
                self.followed = value if self.followed is None else max(self.followed, value)
                continue
            self.count += 1
            self.least = value if self.least is None else min(self.least, value)
            self.greatest = value if self.greatest is None else max(self.greatest, value)

    def _values(self, item: Any) -> Iterator[Any]:
        assert self.cursor is not None
        if hasattr(item, "__arrow_c_stream__") or isinstance(item, pa.RecordBatch):
            table = item if isinstance(item, pa.Table | pa.RecordBatch) else pa.table(item)
            rows = [{self.cursor.cursor_path: value} for value in table[self.cursor.cursor_path].to_pylist()]
        else:
            rows = item if isinstance(item, list) else [item]
        name = self.cursor.get_cursor_column_name()
        for row in rows:
            if name is None:
                value = next(iter(find_values(self.cursor.cursor_path, row)), None)
            else:
                value = row.get(name) if isinstance(row, dict) else getattr(row, name, None)
            if value is not None:
                yield value


def _entry(state: Json, source: str, resource: str, cursor: str) -> Json:
    """dlt's state of a cursor, where there is one."""
    its = state.get(source, {}).get("resources", {}).get(resource, {})
    found: Json = its.get("incremental", {}).get(cursor, {})
    return found

"""dlt's incremental resources: their cursors, loading a window of one again, and cutting a long load into chunks."""

from __future__ import annotations

import inspect
import re
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, ClassVar, get_args

import pendulum
import pyarrow as pa
import pyarrow.compute as pc
from dlt.common.time import ensure_pendulum_date, ensure_pendulum_datetime
from dlt.extract import DltResource, DltSource
from dlt.extract.incremental import Incremental, IncrementalResourceWrapper
from dlt.extract.items_transform import BaseItemTransform, ItemTransform
from dlt.extract.pipe import Pipe
from dlt.extract.utils import wrap_iterator

from entrepot.activities.ingest.sources.postgres.boundary import AHEAD
from entrepot.activities.ingest.sources.stream import Bound, Bounds
from entrepot.errors import BadInput, StepFailed

CHUNK_ROWS = 500_000
CHUNK_SECONDS = 10.0

_DATED = re.compile(r"\d{4}-\d\d-\d\d")


def bound_of(value: Any) -> Bound:
    """A cursor's value as JSON can hold it."""
    if isinstance(value, date):
        return value.isoformat()
    return value if value is None or isinstance(value, str | int | float) else str(value)


def latest(value: Any) -> Any:
    """The greatest value that a cursor with values like this one moves to; None for what is no time."""
    now = datetime.now(UTC) + AHEAD
    if isinstance(value, str) and _DATED.match(value):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
        return now if value.tzinfo else now.replace(tzinfo=None)
    if isinstance(value, datetime):
        return now if value.tzinfo else now.replace(tzinfo=None)
    return now.date() if isinstance(value, date) else None


def is_beyond(value: Any) -> bool:
    """Whether a cursor does not move to a value."""
    most = latest(value)
    return most is not None and bool((datetime.fromisoformat(value) if isinstance(value, str) else value) > most)


def own(resource: DltResource) -> Incremental[Any] | None:
    """A resource's cursor, also before dlt has evaluated it."""
    return _of_pipe(resource._pipe) or _declared(resource)


def inherited(resource: DltResource) -> Incremental[Any] | None:
    """The cursor of the resource from which a transformer gets what it transforms."""
    pipe = resource._pipe.parent
    while pipe is not None:
        if found := _of_pipe(pipe):
            return found
        pipe = pipe.parent
    return None


def _of_pipe(pipe: Pipe) -> Incremental[Any] | None:
    step: Any = pipe.get_by_type(Incremental, IncrementalResourceWrapper)
    found = step.incremental if isinstance(step, IncrementalResourceWrapper) else step
    return None if found is None or found is Incremental.EMPTY else found


def _declared(resource: DltResource) -> Incremental[Any] | None:
    """The cursor that the resource's function has in its signature or was called with."""
    function = inspect.unwrap(resource._pipe.gen) if callable(resource._pipe.gen) else None
    parameter = IncrementalResourceWrapper.get_incremental_arg(inspect.signature(function)) if function else None
    if parameter is None:
        return None
    default = parameter.default if isinstance(parameter.default, Incremental) else None
    given = ((resource.args_bound and resource.explicit_args) or {}).get(parameter.name)
    if isinstance(given, Incremental):
        found = default.merge(given) if default else given.copy()
    elif default is not None:
        found = default.copy()
        found.initial_value = default.initial_value if given is None else given
    else:
        return None
    if not hasattr(found, "__orig_class__") and get_args(parameter.annotation):
        found.__orig_class__ = parameter.annotation
    return found


def dedups(cursor: Incremental[Any]) -> bool:
    """Whether a load begins with rows that the last one had, and dlt leaves out those that it knows by their hashes."""
    return cursor.range_start == "closed" and not cursor.lag and cursor.primary_key not in ((), [])


def narrow(sources: Sequence[DltSource], window: Bounds) -> None:
    """Has every cursor of the sources bring just a window; dlt then neither reads nor writes its state.

    Raises:
        BadInput: if there is no cursor, or one that does not grow, or a bound is no value of its type.
    """
    resources = {id(r._pipe): r for source in sources for r in source.resources.extracted}.values()
    cursors = [(resource, cursor) for resource in resources if (cursor := own(resource))]
    if not cursors:
        names = ", ".join(repr(resource.name) for resource in resources)
        raise BadInput(f"a window of the source cannot be loaded again: none of its resources has a cursor ({names})")
    for resource, cursor in cursors:
        if cursor.last_value_func is not max:
            raise BadInput(f"resource {resource.name!r}: its cursor {cursor.cursor_path!r} does not grow, so no window")
        if window.start is None or window.end is None:
            raise BadInput(
                f"resource {resource.name!r}: a window needs both ends, not {window.start!r}, {window.end!r}"
            )
        narrowed = cursor.copy()
        narrowed.initial_value = _value(resource, cursor, window.start)
        narrowed.end_value = _value(resource, cursor, window.end)
        narrowed.lag, narrowed.range_start, narrowed.range_end = None, "closed", "open"
        if cursor.on_cursor_value_missing == "include":
            narrowed.on_cursor_value_missing = "exclude"  # they are in no window
        resource.apply_hints(incremental=narrowed)


def _value(resource: DltResource, cursor: Incremental[Any], bound: str | int | float) -> Any:
    kind: Any = cursor.get_incremental_value_type()
    kinds: dict[type[Any], Callable[[Any], Any]] = {
        pendulum.DateTime: ensure_pendulum_datetime,
        datetime: datetime.fromisoformat,
        date: ensure_pendulum_date,
        Decimal: lambda value: Decimal(str(value)),
        int: int,
        float: float,
        str: str,
    }
    convert = next((c for k, c in kinds.items() if isinstance(kind, type) and issubclass(kind, k)), None)
    try:
        return convert(bound) if convert else bound
    except (TypeError, ValueError) as error:
        raise BadInput(
            f"resource {resource.name!r}: {bound!r} is no value of its cursor {cursor.cursor_path!r}, which is a "
            f"{kind.__name__}"
        ) from error


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
            resource._pipe.remove_by_type(_Stop)
            if not resource.is_transformer:
                self._steps.append(step := _Stop(self, resource))
                resource.add_step(step)

    @property
    def has_more(self) -> bool:
        """Whether the last extraction was stopped."""
        return any(step.stopped for step in self._steps)

    @property
    def possible(self) -> bool:
        """Known only when dlt has evaluated all resources."""
        if self._possible is None:
            self._possible = not self._given_up and all(_orders(own(step.resource)) for step in self._steps)
        return self._possible

    def give_up(self) -> None:
        """For sources that begin at their first row again each time: the rest comes in one go."""
        self._given_up, self._possible = True, False


def _may_be_cut(source: DltSource) -> bool:
    """Whether nothing about the source itself forbids it; of cursors, little is known before dlt's evaluation."""
    return not source.schema.settings.get("schema_contract") and all(
        not resource.is_transformer
        and callable(resource._pipe.gen)  # it can be asked again
        and resource.limit is None
        and resource.schema_contract is None  # dlt knows new columns from old ones by the chunk
        and _grows(resource.write_disposition)
        and not resource._hints_variants
        for resource in source.resources.extracted
    )


def _grows(disposition: Any) -> bool:
    said = disposition if isinstance(disposition, dict) else {"disposition": disposition}
    return said.get("disposition") in ("append", "merge") and said.get("strategy") != "scd2"


def _orders(cursor: Incremental[Any] | None) -> bool:
    return (
        cursor is not None
        and cursor.row_order == "asc"
        and cursor.last_value_func is max
        and cursor.end_value is None
        and cursor.on_cursor_value_missing != "include"
        and cursor.get_cursor_column_name() is not None
        and (dedups(cursor) or (cursor.range_start == "open" and not cursor.lag))
    )


class _Stop(ItemTransform[Any, Any]):
    """Stands before dlt's cursor, which must not see rows that are left for the next chunk."""

    placement_affinity: ClassVar[float] = 0.9

    def __init__(self, chunks: Chunks, resource: DltResource) -> None:
        BaseItemTransform.__init__(self)
        self._chunks = chunks
        self.resource = resource
        self.stopped = False
        self._is_ready = False
        self._cursor: Incremental[Any] | None = None
        self._name = ""
        self._start: Any = None
        self._is_new = False  # the cursor has moved in this chunk, so that stopping gets us on
        self._new_rows = 0
        self._rows = 0
        self._last: Any = None  # the row before's value
        self._full = False  # enough: only rows with the value of `_last` still belong to this chunk

    def bind(self, pipe: Any) -> _Stop:
        if isinstance(pipe.gen, Iterator):
            pipe.replace_gen(wrap_iterator(pipe.gen))
        self._gen = pipe.gen
        return self

    def __call__(self, item: Any, meta: Any = None) -> Any:
        if self.stopped:
            return None
        if not self._is_ready:  # only now has dlt evaluated the resource
            self._is_ready = True
            self._cursor = own(self.resource)
            if self._cursor is not None:
                self._name = self._cursor.get_cursor_column_name() or ""
                self._start = self._state()
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
        if inspect.isgenerator(self._gen):
            self._gen.close()

    def _state(self) -> Any:
        assert self._cursor is not None
        return (self._cursor._cached_state or {}).get("last_value")

    def _look(self) -> None:
        """Rows that dlt leaves out since an earlier load or chunk had them do not count."""
        self._is_new = self._is_new or self._state() != self._start
        since = time.monotonic() - self._chunks.began
        is_enough = self._new_rows >= CHUNK_ROWS or since >= CHUNK_SECONDS
        self._full = self._is_new and is_enough and not is_beyond(self._last)

    def _count(self, rows: int) -> None:
        self._rows += rows
        self._new_rows += rows if self._is_new else 0


def no_value(resource: str, cursor: str, row: str) -> str:
    """The sentence for a cursor that is NULL or missing."""
    return (
        f"resource {resource!r}: its cursor {cursor!r} has no value in {row}; give every row one, or say "
        "on_cursor_value_missing='include' or 'exclude'"
    )

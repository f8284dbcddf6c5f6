"""dlt's incremental resources: their cursors, loading a range of one again, and how far one moves.

dlt follows the greatest value that it meets, so a wrong date would hide all rows that come later. A cursor here moves
to a day ahead of now at most: after an extraction it is put back to the greatest value that is not beyond, and notes
from which value on the next load reads rows again, in the place of existing ones.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any, ClassVar, cast, get_args

import pendulum
import pyarrow as pa
from dlt.common.time import ensure_pendulum_date, ensure_pendulum_datetime
from dlt.extract import DltResource, DltSource, Incremental

from entrepot.activities.ingest.sources.cursor_limit import AHEAD, beyond_note
from entrepot.activities.ingest.sources.dlt import compat
from entrepot.activities.ingest.sources.stream import Json
from entrepot.errors import BadInput
from entrepot.language.interval import Bound, Interval, day_of

AGAIN = "entrepot_again"
"""In dlt's state of a cursor: from which value on rows come again. None: all."""

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


def cursor_of(resource: DltResource) -> Incremental[Any] | None:
    """A resource's cursor, also before dlt has evaluated it."""
    return compat.cursor_of(resource) or _declared(resource)


def state_of(cursor: Incremental[Any]) -> Json:
    """dlt's state of a cursor; a cursor that no resource has taken yet has none."""
    return cast("Json", cursor.get_state()) if cursor.resource_name else {}


def _declared(resource: DltResource) -> Incremental[Any] | None:
    """The cursor that the resource's function has in its signature or was called with."""
    if (parameter := compat.cursor_parameter(resource)) is None:
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


def skips_known_rows(cursor: Incremental[Any]) -> bool:
    """Whether a load begins with rows that the last one had, and dlt leaves out those that it knows by their hashes."""
    return cursor.range_start == "closed" and not cursor.lag and cursor.primary_key not in ((), [])


def restrict(sources: Sequence[DltSource], interval: Interval, state: Json) -> None:
    """Has every cursor of the sources read just an interval; dlt then neither reads nor writes its state.

    Rows that are appended and are beyond the cursor's value in the state are left out: the next load brings them, and
    would have them twice.

    Raises:
        BadInput: if there is no cursor, or one that does not grow, or a bound is no value of its type.
    """
    found = {compat.source_id(r): (source.name, r) for source in sources for r in source.resources.extracted}.values()
    resources = [resource for _, resource in found]
    cursors = [(name, resource, cursor) for name, resource in found if (cursor := cursor_of(resource))]
    if not cursors:
        names = ", ".join(repr(resource.name) for resource in resources)
        raise BadInput(
            f"an interval of the source cannot be loaded again: none of its resources has a cursor ({names})"
        )
    for name, resource, cursor in cursors:
        if cursor.last_value_func is not max:
            raise BadInput(
                f"resource {resource.name!r}: its cursor {cursor.cursor_path!r} does not grow, so it has no intervals"
            )
        if interval.start is None or interval.end is None:
            raise BadInput(
                f"resource {resource.name!r}: an interval needs both ends, not {interval.start!r}, {interval.end!r}"
            )
        narrowed = cursor.copy()
        narrowed.initial_value = _value(resource, cursor, interval.start)
        narrowed.end_value = _value(resource, cursor, interval.end)
        narrowed.lag, narrowed.range_start, narrowed.range_end = None, "closed", "open"
        if cursor.on_cursor_value_missing == "include":
            narrowed.on_cursor_value_missing = "exclude"  # they are in no interval
        resource.apply_hints(incremental=narrowed)
        last = _entry(state, name, resource.name, cursor.cursor_path).get("last_value")
        if last is not None and not is_beyond(last) and resource.write_disposition != "merge":
            _Until(resource, cursor, last).add()


def _value(resource: DltResource, cursor: Incremental[Any], bound: str | int | float) -> Any:
    kind: Any = cursor.get_incremental_value_type()
    kinds: dict[type[Any], Callable[[Any], Any]] = {
        pendulum.DateTime: lambda value: ensure_pendulum_datetime(_text(value)),
        datetime: lambda value: datetime.fromisoformat(_text(value)),
        date: lambda value: ensure_pendulum_date(day_of(_text(value))),
        Decimal: lambda value: Decimal(str(value)),
        int: _whole,
        float: float,
        str: _text,
    }
    convert = next((c for k, c in kinds.items() if isinstance(kind, type) and issubclass(kind, k)), None)
    try:
        return convert(bound) if convert else bound
    except (TypeError, ValueError) as error:
        raise BadInput(
            f"resource {resource.name!r}: {bound!r} is no value of its cursor {cursor.cursor_path!r}, which is a "
            f"{kind.__name__}"
        ) from error


def _text(bound: str | int | float) -> str:
    """A bound of texts or times. A number is none: 5 would be the text that it is written as, or seconds since 1970."""
    if not isinstance(bound, str):
        raise TypeError
    return bound


def _whole(bound: str | int | float) -> int:
    if isinstance(bound, float) and not bound.is_integer():
        raise ValueError
    return int(bound)


def no_value(resource: str, cursor: str, row: str) -> str:
    """The sentence for a cursor that is NULL or missing."""
    return (
        f"resource {resource!r}: its cursor {cursor!r} has no value in {row}; give every row one, or say "
        "on_cursor_value_missing='include' or 'exclude'"
    )


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
                cursor = cursor_of(resource)
                if not cursor or cursor.last_value_func is max:  # not known before dlt's evaluation, or one that grows
                    self._steps.append(step := _Watch(source.name, resource))
                    step.add()
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


class _Watch(compat.Step):
    """Stands behind dlt's cursor. Rows are looked at only once it has met a value that is beyond."""

    placement_affinity: ClassVar[float] = 1.05

    def __init__(self, source: str, resource: DltResource) -> None:
        super().__init__(resource)
        self.source = source
        self.cursor: Incremental[Any] | None = None
        self.followed: Any = None
        self.least: Any = None
        self.greatest: Any = None
        self.count = 0
        self._is_ready = False
        self._state: Any = {}  # dlt's, of the cursor

    def __call__(self, item: Any, meta: Any = None) -> Any:
        if not self._is_ready:  # only now has dlt evaluated the resource
            self._is_ready = True
            cursor = cursor_of(self.resource)
            if cursor and cursor.last_value_func is max and cursor.end_value is None:
                self.cursor, self.followed, self._state = cursor, cursor.start_value, state_of(cursor)
        if self.cursor is not None:
            now = self._state.get("last_value")
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
        return (value for value in _values(self.cursor, item) if value is not None)


class _Until(compat.Step):
    """Stands behind dlt's cursor, and leaves out rows beyond a value."""

    placement_affinity: ClassVar[float] = 1.1

    def __init__(self, resource: DltResource, cursor: Incremental[Any], last: Any) -> None:
        super().__init__(resource)
        self._cursor = cursor
        self._last = last

    def __call__(self, item: Any, meta: Any = None) -> Any:
        is_known = [value is None or not _is_after(value, self._last) for value in _values(self._cursor, item)]
        if all(is_known):
            return item
        if _is_arrow(item):
            return _arrow(item).filter(pa.array(is_known, pa.bool_()))
        if not isinstance(item, list):
            return None
        return [row for row, known in zip(item, is_known, strict=True) if known]


def _is_after(value: Any, last: Any) -> bool:
    """Whether a cursor's value is beyond another, which may be as another library has it."""
    try:
        return bool(value > last)
    except TypeError:
        with suppress(TypeError, ValueError):
            return _moment(value) > _moment(last)
        return False  # its values are of another kind now


def _moment(value: Any) -> datetime:
    at = datetime.fromisoformat(value) if isinstance(value, str) else value
    found: datetime = at if isinstance(at, datetime) else datetime.combine(at, time())
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _is_arrow(item: Any) -> bool:
    return hasattr(item, "__arrow_c_stream__") or isinstance(item, pa.RecordBatch)


def _arrow(item: Any) -> pa.Table | pa.RecordBatch:
    return item if isinstance(item, pa.Table | pa.RecordBatch) else pa.table(item)


def _values(cursor: Incremental[Any], item: Any) -> Iterator[Any]:
    """The cursor's value in each row."""
    if _is_arrow(item):
        yield from _arrow(item)[cursor.cursor_path].to_pylist()
        return
    name = cursor.get_cursor_column_name()
    for row in item if isinstance(item, list) else [item]:
        if name is None:
            yield next(iter(compat.find_values(cursor.cursor_path, row)), None)
        else:
            yield row.get(name) if isinstance(row, dict) else getattr(row, name, None)


def _entry(state: Json, source: str, resource: str, cursor: str) -> Json:
    """dlt's state of a cursor, where there is one."""
    kept = state.get(source, {}).get("resources", {}).get(resource, {})
    found: Json = kept.get("incremental", {}).get(cursor, {})
    return found

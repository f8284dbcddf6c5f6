"""Following a cursor: its values on their way through JSON and SQL, its watermark, and which rows there are known."""

from __future__ import annotations

import datetime as d
import hashlib
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from entrepot.activities.ingest.sources.cursor_limit import AHEAD, beyond_note
from entrepot.activities.ingest.sources.postgres.client import Column, literal
from entrepot.activities.ingest.sources.stream import Watermark
from entrepot.errors import BadInput, StepFailed
from entrepot.language.interval import Bound, day_of
from entrepot.language.sources import PostgresTable

SEEN_ROWS = 10_000
"""How many rows with the greatest cursor value are remembered: so many that a heartbeat can hold them. With more, and
`append`, the next load reads the rows with that value again, and they replace the existing ones."""

_NUMBERED = {
    "whole": "int8",
    "decimal": "numeric",
    "float": "float8",
    "date": "date",
    "timestamp": "timestamp",
    "timestamptz": "timestamptz",
}
"""The kinds of column that can be a cursor, and how PostgreSQL reads their values."""


@dataclass(frozen=True)
class CursorWatermark:
    """How far a read has come: the greatest cursor value, and the rows with it; None: too many to remember."""

    value: Any = None
    seen: Counter[str] | None = field(default_factory=Counter)


@dataclass(frozen=True)
class CursorColumn:
    """The cursor's column and its values, which are Python's between here and there."""

    column: Column
    at: str
    """Which table it is of, for errors."""

    def __post_init__(self) -> None:
        if self.column.kind not in _NUMBERED:
            raise BadInput(
                f"{self.at}: the cursor {self.column.name!r} must be a time or a number, not {self.column.declared}"
            )

    @property
    def name(self) -> str:
        """The column and what kind it is: with another one, values of before mean nothing."""
        return f"{self.column.name} {self.column.kind}"

    def read(self, value: Any) -> Any:
        """A value from JSON or a user.

        Raises:
            BadInput: if it is none.
        """
        readers: dict[str, Callable[[Any], Any]] = {
            "whole": lambda v: int(str(v)),
            "decimal": lambda v: Decimal(str(v)),
            "float": float,
            "date": lambda v: day_of(str(v)),
            "timestamp": lambda v: _utc(v).replace(tzinfo=None),
            "timestamptz": _utc,
        }
        try:
            return readers[self.column.kind](value)
        except (ValueError, InvalidOperation) as error:
            raise BadInput(
                f"{self.at}: {value!r} is no value of the cursor {self.column.name!r} of type {self.column.declared}"
            ) from error

    def write(self, value: Any) -> Bound:
        """A value for JSON."""
        return None if value is None else written(value)

    def minus(self, value: Any, lag: float) -> Any:
        """The value that is a lag before one."""
        match self.column.kind:
            case "whole":
                return value - math.ceil(lag)
            case "decimal":
                return value - Decimal(str(lag))
            case "float":
                return value - lag
            case "date":
                return (d.datetime.combine(value, d.time()) - d.timedelta(seconds=lag)).date()
        return value - d.timedelta(seconds=lag)

    def value(self, rows: pa.RecordBatch, number: int) -> Any:
        """That of one of some rows.

        Raises:
            StepFailed: for one that cannot be followed.
        """
        try:
            found = rows.column(self.column.name)[number].as_py()
        except (ValueError, OverflowError) as error:
            raise StepFailed(f"{self.at}: the cursor {self.column.name!r} has times after year 9999") from error
        if isinstance(found, float) and not math.isfinite(found):
            raise StepFailed(f"{self.at}: the cursor {self.column.name!r} is {found} in some row")
        return found

    def condition(self, operator: str, value: Any) -> str:
        """In SQL."""
        return f"{self.column.sql} {operator} {literal(written(value), _NUMBERED[self.column.kind])}"


class FutureRows:
    """Rows whose cursor is beyond the greatest value that it moves to: a wrong date must not hide all that come later.

    Each load reads them again, and they replace the existing ones, until time has come to them or they are corrected.
    """

    def __init__(self, cursor: CursorColumn, latest: Bound) -> None:
        self._cursor = cursor
        now = d.datetime.now(d.UTC) + AHEAD
        ahead = {"date": now.date(), "timestamp": now.replace(tzinfo=None), "timestamptz": now}
        self._latest = ahead.get(cursor.column.kind) if latest is None else cursor.read(latest)
        self.least: Any = None
        self._greatest: Any = None
        self._count = 0

    def split(self, rows: pa.RecordBatch) -> tuple[pa.RecordBatch, pa.RecordBatch]:
        """Rows in the cursor's order, as those up to that value and those beyond it."""
        if self._latest is None or not rows.num_rows:
            return rows, rows.slice(rows.num_rows)
        followed = pc.sum(pc.less_equal(rows.column(self._cursor.column.name), pa.scalar(self._latest))).as_py() or 0
        beyond = rows.slice(followed)
        if beyond.num_rows:
            self._count += beyond.num_rows
            self._greatest = self._cursor.value(beyond, -1)
            if self.least is None:
                self.least = self._cursor.value(beyond, 0)
        return rows.slice(0, followed), beyond

    def includes(self, value: Any) -> bool:
        """Whether a value is beyond."""
        return self._latest is not None and bool(value > self._latest)

    @property
    def note(self) -> list[str]:
        """What to tell of them, if there are any."""
        return beyond_note(self._count, self._cursor.column.name, self._greatest, self._latest) if self._count else []


class Deduplicator:
    """Tells rows at the watermark, which were read before, from new ones with the same cursor value."""

    def __init__(self, columns: Sequence[Column], source: PostgresTable, cursor: CursorColumn) -> None:
        self.cursor = cursor
        self._appends = source.disposition == "append" or not source.key
        names = {cursor.column.name, *source.key} if self._appends and source.key else {c.name for c in columns}
        by = [column for column in columns if column.name in names]
        self._by = [column.name for column in by]
        self.of = hashlib.sha256(repr([(column.name, str(column.made)) for column in by]).encode()).hexdigest()[:16]
        """The same as long as the same columns are compared."""

    def new(self, batches: Iterable[pa.RecordBatch], start: CursorWatermark) -> Iterator[pa.RecordBatch]:
        """The rows without those that are known already: by their order these are the first."""
        known = Counter(start.seen)
        for rows in batches:
            same = pc.sum(self._having(rows, start.value)).as_py() if known else 0
            if not same:
                known.clear()
                yield rows
                continue
            fresh = []
            for number, row in enumerate(self._hashes(rows.slice(0, same))):
                known[row] -= 1
                if known[row] < 0:
                    fresh.append(number)
            yield rows.take(pa.array(fresh, pa.int64()))
            yield rows.slice(same)

    def watermark(self, rows: pa.RecordBatch, before: CursorWatermark) -> CursorWatermark:
        """How far a read has come with rows that are not empty."""
        last = self.cursor.value(rows, -1)
        count = pc.sum(self._having(rows, last)).as_py()
        seen = before.seen if last == before.value else Counter()
        if seen is None or count + seen.total() > SEEN_ROWS:
            return CursorWatermark(last, None)
        return CursorWatermark(last, seen + Counter(self._hashes(rows.slice(rows.num_rows - count))))

    def of_piece(self, reached: CursorWatermark) -> Watermark | None:
        """Where an attempt continues behind the last piece; None: nowhere. What is merged may be read again."""
        if reached.seen is None and self._appends:
            return None
        return {
            "last": self.cursor.write(reached.value),
            "of": self.of,
            "seen": sorted((reached.seen or Counter()).elements()),
        }

    def _having(self, rows: pa.RecordBatch, value: Any) -> pa.Array:
        column = rows.column(self.cursor.column.name)
        return pc.equal(column, pa.scalar(value, column.type))

    def _hashes(self, rows: pa.RecordBatch) -> list[str]:
        values = [_comparable(rows.column(name)) for name in self._by]
        return [hashlib.blake2b(repr(row).encode(), digest_size=12).hexdigest() for row in zip(*values, strict=True)]


def _comparable(column: pa.Array) -> list[Any]:
    """Values that Python can hold: its times end with the year 9999."""
    if pa.types.is_temporal(column.type):
        column = column.view(pa.int32() if column.type.bit_width == 32 else pa.int64())
    values: list[Any] = column.to_pylist()
    return values


def written(value: Any) -> str | int | float:
    """A value for JSON, and for SQL: times with all their microseconds."""
    if isinstance(value, d.datetime):
        return value.isoformat(timespec="microseconds")
    if isinstance(value, Decimal):
        return format(value, "f")
    return value if isinstance(value, int | float) else str(value)


def _utc(value: Any) -> d.datetime:
    read = d.datetime.fromisoformat(str(value))
    return read.astimezone(d.UTC) if read.tzinfo else read.replace(tzinfo=d.UTC)

"""What every kind of source is to an ingest: opened at a watermark, it gives pieces and says where to continue."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import ibis.expr.schema as sch
import pyarrow as pa

from entrepot.language.interval import Interval
from entrepot.language.sources import Disposition

Json = dict[str, Any]

Watermark = Json
"""Where to continue with a source: an object that the source alone understands, kept as JSON. The one behind the last
piece is where the next load continues (a first load has an empty one); the one behind any other piece is where an
attempt continues that follows a crash within a load."""

FILE_NUMBER = "_entrepot_file"
"""A column that files have on their way only, and only where a load merges several: which of them a row is from."""


@dataclass(frozen=True)
class IntervalFilter(Interval):
    """Rows whose `column` is in an interval."""

    column: str


@dataclass(frozen=True)
class ValueFilter:
    """Rows whose `column` is one of some values."""

    column: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class Hints:
    """What a load has to know of a table, beside its columns."""

    disposition: Disposition = "replace"
    key: tuple[str, ...] = ()
    """What tells a row from the others. With `merge`, new rows replace existing rows with the same key."""
    is_group: bool = False
    """Whether the key names groups of rows that are replaced together (dlt's merge key), and not single rows."""
    deleted: str | None = None
    """The column that says that a row is gone: true, or not NULL where it is no boolean."""
    newest: tuple[str, Literal["asc", "desc"]] | None = None
    """By which column, and in which order, one of several rows with the same key is chosen: the first so ordered. By
    `FILE_NUMBER` it is all rows of one file."""
    replaces: IntervalFilter | ValueFilter | None = None
    """With `append`: the existing rows that the new ones replace."""
    root: str | None = None
    """For a nested table, the table that it hangs from: `_dlt_root_id` is the root's `_dlt_id`."""
    parent: str | None = None
    """For a nested table, the table right above: `_dlt_parent_id` is that one's `_dlt_id`."""
    contract: Literal["evolve", "freeze", "discard"] | None = None
    """What happens when its columns change; None: what the step says."""


@dataclass(frozen=True)
class Piece:
    """Some rows of one table, in the order in which the source gave them."""

    table: str
    rows: pa.RecordBatch | Path | None
    """Arrow, or a local Parquet file, which may be moved away. None: only the watermark, or that it begins anew."""
    watermark: Watermark | None = None
    """What `Stream.pieces` takes to continue behind this piece; None where it cannot continue from here."""
    anew: bool = False
    """Whether the rows of the table that were given before, in this load, count no more: they are given again."""


class Stream(Protocol):
    """A source that is being read, for one load."""

    def pieces(self, watermark: Watermark | None) -> Iterator[Piece]:
        """The rows from the start of this load, or from behind a piece of an attempt before, whose watermark this is.

        Raises:
            StepFailed: if what the source gives cannot be taken: with file and line, page or row.
            Unavailable: if the source cannot be asked now.
            BadInput: if it can never be asked like that: a wrong password, a table that is not there.
        """

    def watermark(self) -> Watermark:
        """After the last piece: where the next load continues."""

    def hints(self) -> dict[str, Hints]:
        """Each table's hints, from its first piece on. After the last piece tables that had no rows may be among them,
        too."""

    def notes(self) -> dict[str, list[str]]:
        """After the last piece: what people should know of the rows of which table."""


@dataclass(frozen=True)
class RawTable:
    """The raw table that a source fills, as its step and the loads before know it."""

    name: str
    columns: sch.Schema
    """Those that have a type already: by the step's declaration, or by a load before."""
    wide: Collection[str] = ()
    """The columns of whole numbers in which some are beyond what a DOUBLE holds."""
    of_step: Collection[str] = ()
    """All tables that the step names."""


class Source(Protocol):
    """Whatever rows come from, as a step's function has returned it: see registry.py for how one is found.

    The constructor takes what the function returned, and asks nothing of anybody.
    """

    def __init__(self, description: Any) -> None: ...

    @property
    def fingerprint(self) -> Callable[[], str] | None:
        """Gives a hash of all that would be read, and of how; None where only reading tells. While it stays the same,
        nothing is read.

        Raises:
            BadInput, StepFailed, Unavailable: as `Stream.pieces` does.
        """

    # It may have a method `probe`, too, which gives a text that is another one when there is something new, without
    # reading all: for triggers.

    def open(self, table: RawTable, watermark: Watermark, interval: Interval | None) -> Stream:
        """Begins a load: of what is behind the watermark or, with an interval, of the rows whose cursor is in it; the
        watermark then stays where it is.

        Raises:
            BadInput: if the description's settings do not go together, or with an interval.
        """

"""What every kind of source gives to an ingest: pieces of tables, and where to go on after each of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import pyarrow as pa

Json = dict[str, Any]

FILE_NUMBER = "_entrepot_file"
"""A column that files have on their way only, and only where a load merges several: which of them a row is from."""

Disposition = Literal["replace", "append", "merge", "scd2"]


Bound = str | int | float | None
"""A value of a cursor as JSON can hold it; times are ISO texts."""


@dataclass(frozen=True)
class Bounds:
    """A range of cursor values to load again: from `start` on, before `end`."""

    start: Bound
    end: Bound


@dataclass(frozen=True)
class Range:
    """Rows whose `column` is at least `start` and less than `end`; None: without bound."""

    column: str
    start: Bound
    end: Bound


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
    """What tells a row from the others. With `merge`, what is brought takes the place of rows with the same key."""
    is_group: bool = False
    """Whether the key names groups of rows that are replaced together (dlt's merge key), and not single rows."""
    deleted: str | None = None
    """The column that says that a row is gone: true, or not NULL where it is no boolean."""
    newest: tuple[str, Literal["asc", "desc"]] | None = None
    """By which column, and in which order, one of several rows with the same key is chosen: the first so ordered. By
    `FILE_NUMBER` it is all rows of one file."""
    replaces: Range | ValueFilter | None = None
    """With `append`: the rows of before that what is brought takes the place of."""
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
    """Arrow, or a local Parquet file, which may be moved away. None: only the position, or that it begins anew."""
    position: Json | None = None
    """What `Stream.pieces` takes to go on after this piece; None where it cannot go on from here."""
    anew: bool = False
    """Whether the rows of the table that were given before, in this load, count no more: they are given again."""


class Stream(Protocol):
    """A source that is being read."""

    def pieces(self, after: Json | None) -> Iterator[Piece]:
        """The rows from the start of this load, or from behind a piece's position, told by an attempt before.

        Raises:
            StepFailed: if what the source gives cannot be taken: with file and line, page or row.
            Unavailable: if the source cannot be asked now.
            BadInput: if it can never be asked like that: a wrong password, a table that is not there.
        """

    def state(self) -> Json:
        """After the last piece: what the source wants to know at its next load."""

    def hints(self) -> dict[str, Hints]:
        """Each table's hints, from its first piece on. After the last piece tables that had no rows may be among them,
        too."""

    def notes(self) -> dict[str, list[str]]:
        """After the last piece: what people should know of the rows of which table."""

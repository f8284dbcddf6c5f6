"""What holds in somebody's files: the tables that a new project makes of them, and the checks that they pass."""

from __future__ import annotations

import builtins
import keyword
import re
import unicodedata
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.schema as sch
import pyarrow as pa
import pyarrow.parquet as pq

from entrepot.activities.ingest.sources.files import files
from entrepot.activities.ingest.sources.files.text import PACKED
from entrepot.errors import BadInput, EntrepotError
from entrepot.language.names import DEVICES, RESERVED
from entrepot.language.sources import Files

LONGEST = 26
"""Leaves room for what is put behind a table's name."""
NO_TABLE = frozenset({*dir(builtins), *keyword.kwlist, "pipeline", "files", "board", "ibis", *RESERVED, *DEVICES})
"""What no function of a project's may be called, or something else there would not find its own."""
_DELIMITERS = (";", "\t", "|")
_MOST_GROUPS = 20


@dataclass(frozen=True)
class FileTable:
    """A file, and what holds of its rows."""

    name: str
    path: Path
    delimiter: str | None
    """What separates the fields of CSV, where it is no comma."""
    rows: pa.Table

    @cached_property
    def types(self) -> dict[str, str]:
        """The columns that have values, each with its ibis type."""
        schema = sch.Schema.from_pyarrow(self._valued.schema)
        return {name: str(dtype.copy(nullable=True)) for name, dtype in schema.items()}

    @cached_property
    def _valued(self) -> pa.Table:
        return self.rows.select([f.name for f in self.rows.schema if not pa.types.is_null(f.type)])

    @property
    def raw(self) -> str:
        """The name of its raw table."""
        return f"raw_{self.name}"

    @property
    def steps(self) -> tuple[str, ...]:
        """The names of its tables and checks."""
        return self.raw, self.name, f"{self.name}_unique", f"{self.name}_complete"

    @cached_property
    def complete(self) -> list[str]:
        """The columns that have a value in every row."""
        return [name for name in self.types if self.rows[name].null_count == 0]

    @cached_property
    def key(self) -> str | None:
        """A column that tells the rows apart: one that is called an id, or else the first."""
        unique = [n for n in self.complete if self._may_be_key(n) and len(self.rows[n].unique()) == self.rows.num_rows]
        return next(
            (name for name in unique if re.search(r"(^|_)(id|key|code|number)$", name)), next(iter(unique), None)
        )

    def _may_be_key(self, name: str) -> bool:
        dtype = ibis.dtype(self.types[name])
        is_plain = dtype.is_integer() or dtype.is_string() or dtype.is_date() or dtype.is_timestamp()
        return bool(name != "rows" and is_plain)

    @cached_property
    def group(self) -> str | None:
        """A column by which rows are counted well: the one with the fewest values, of those that have some."""
        counts = {n: len(self.rows[n].unique()) for n in self.types if self._may_group(n)}
        few = {
            name: count for name, count in counts.items() if 2 <= count <= _MOST_GROUPS and count < self.rows.num_rows
        }
        return min(few, key=lambda name: few[name], default=None)

    def _may_group(self, name: str) -> bool:
        dtype = ibis.dtype(self.types[name])
        return name != "rows" and bool(dtype.is_string() or dtype.is_boolean() or dtype.is_integer())

    @cached_property
    def numbers(self) -> list[str]:
        """Some columns of numbers whose mean may say something."""
        found = [name for name, text in self.types.items() if isinstance(ibis.dtype(text), dt.Numeric)]
        return [name for name in found if name not in (self.key, self.group)][:3]

    @cached_property
    def plain(self) -> list[str]:
        """The columns that can be put in an order, and shown."""
        return [name for name, text in self.types.items() if not ibis.dtype(text).is_nested()]

    @property
    def key_value(self) -> Any:
        """A value that its key might have."""
        assert self.key is not None
        dtype = ibis.dtype(self.types[self.key])
        return 1 if dtype.is_integer() else "a" if dtype.is_string() else "2026-01-01"


def tables_of(paths: Iterable[Path]) -> list[FileTable]:
    """The tables of files, in the order in which these are given.

    Raises:
        BadInput: with every file that cannot be understood, and for two that would be one table.
    """
    found: list[FileTable] = []
    problems: list[str] = []
    for path in dict.fromkeys(paths):
        try:
            found.append(_table(path, found))
        except EntrepotError as error:
            problems.append(str(error).replace("file://", ""))
    if problems:
        raise BadInput("\n  ".join(problems if len(problems) == 1 else ["these files cannot be used:", *problems]))
    return found


def _table(path: Path, before: Iterable[FileTable]) -> FileTable:
    name = identifier(_stem(path), LONGEST, NO_TABLE, "_rows")
    if not name:
        raise BadInput(f"the file {str(path)!r} has no letter from a to z and no digit in its name: a table needs one")
    delimiter, rows = _read(path)
    if rows.num_rows == 0:
        raise BadInput(f"the file {str(path)!r} has no row, so its columns have no types")
    made = FileTable(name, path, delimiter, rows)
    if not made.types:
        raise BadInput(f"the file {str(path)!r} has no value in any row")
    for each in before:
        if clash := {*each.steps} & {*made.steps}:
            both = f"{str(each.path)!r} and {str(path)!r}"
            raise BadInput(f"of the files {both} something would have the same name, {min(clash)!r}; rename one")
    return made


def _stem(path: Path) -> str:
    name = path.name
    for ending in PACKED:
        name = name.removesuffix(ending)
    return name.rpartition(".")[0] or name


def identifier(text: str, longest: int, taken: Collection[str], suffix: str) -> str:
    """Text as a name in small ASCII letters; empty, if nothing is left of it.

    Args:
        taken: Names that get the suffix.
    """
    ascii_text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    words = re.findall("[a-z0-9]+", ascii_text)
    if not words:
        return ""
    name = "_".join(words)
    name = (name if name[0].isalpha() else f"t_{name}")[:longest].rstrip("_")
    return f"{name}{suffix}" if name in taken else name


def _read(path: Path) -> tuple[str | None, pa.Table]:
    """The rows as an ingest would read them, and the delimiter that has to be said, if any has."""
    try:
        return None, _rows(Files(str(path)))
    except EntrepotError as error:
        for delimiter in _DELIMITERS:
            try:
                rows = _rows(Files(str(path), delimiter=delimiter))
            except EntrepotError:
                continue
            if rows.num_columns > 1:
                return delimiter, rows
        raise error


def _rows(source: Files) -> pa.Table:
    pieces: list[pa.Table] = []
    for piece in files.stream("t", source, {}).pieces(None):
        if piece.anew:
            pieces.clear()
        if isinstance(piece.rows, Path):
            pieces.append(pq.read_table(piece.rows, memory_map=False))
        elif piece.rows is not None:
            pieces.append(pa.Table.from_batches([piece.rows]))
    return pa.concat_tables(pieces, promote_options="permissive") if pieces else pa.table({})

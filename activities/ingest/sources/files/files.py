"""Files as a source: which they are, what they hold by their content, and their rows piece by piece."""

from __future__ import annotations

import glob
import os
import tempfile
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import fsspec
import pyarrow as pa

from entrepot.activities.ingest.sources.files import column_types as types
from entrepot.activities.ingest.sources.files import folders, parquet
from entrepot.activities.ingest.sources.files.column_types import Columns
from entrepot.activities.ingest.sources.files.csv import CsvReader
from entrepot.activities.ingest.sources.files.json import JsonReader, is_kept_as, sql_type
from entrepot.activities.ingest.sources.files.known_files import Known, compared, hashes
from entrepot.activities.ingest.sources.files.reader import (
    FILE_COLUMN,
    Own,
    Part,
    Reader,
    Rejected,
    TextTable,
    constants,
    named,
)
from entrepot.activities.ingest.sources.files.text import PACKED, Place, ahead, readable
from entrepot.activities.ingest.sources.naming import name_of
from entrepot.activities.ingest.sources.quoting import literal, quoted
from entrepot.activities.ingest.sources.stream import (
    FILE_NUMBER,
    Hints,
    Piece,
    RawTable,
    Stream,
    ValueFilter,
    Watermark,
)
from entrepot.errors import BadInput, StepFailed, unknown
from entrepot.identity.code import stable_hash
from entrepot.language.interval import Interval
from entrepot.language.sources import Files, Format
from entrepot.secrets import is_told, scrub

_FORMATS: dict[str, Format] = {
    **dict.fromkeys((".csv", ".tsv", ".tab", ".txt"), "csv"),
    **dict.fromkeys((".parquet", ".pq"), "parquet"),
    **dict.fromkeys((".json", ".jsonl", ".ndjson"), "json"),
}
_READERS: dict[str, Callable[[TextTable], Reader]] = {"csv": CsvReader, "json": JsonReader}

REJECTED = "__rejected"
"""The suffix of the table with the rows of a table that were set aside."""

REJECTED_COLUMNS = pa.schema(
    [("file", pa.string()), ("line", pa.int64()), ("reason", pa.string()), ("content", pa.string())]
)


class FileSource:
    """The files of one table."""

    def __init__(self, description: Files) -> None:
        self._files = description
        self._hashed: Mapping[str, str] = {}

    def fingerprint(self) -> str:
        """The hash of the files' content and of how they are read. Dates do not count, nor names unless rows have them.

        It takes a pass over the files before they are read, since only their content says whether they are read at all.
        """
        files = self._files
        now = self._hashed = hashes(found(files))
        content: list[Any] = sorted(now.items()) if files.disposition == "append" else sorted(now.values())
        if files.hive_partitioning:
            content = [content, sorted([hashed, folders.folders(path)] for path, hashed in now.items())]
        return stable_hash(
            [
                content,
                files.format,
                list(files.nulls),
                dict(files.types),
                dict(files.rename),
                [files.delimiter, files.header, list(files.names), files.skip, files.quote, files.escape],
                [files.decimal, files.thousands, files.records],
                files.encoding,
                files.bad_rows,
                files.short_rows,
                files.disposition,
                list(files.key),
                files.deleted,
            ]
        )

    def probe(self) -> str:
        """The hash of what the files' names, sizes and times are; none of them is read. There may be none yet."""
        try:
            paths = found(self._files)
        except BadInput:
            if is_told(self._files.path):
                raise
            return "no files"
        filesystem, _ = fsspec.core.url_to_fs(self._files.path)
        with readable(self._files.path):
            return stable_hash([[path, _stamp(filesystem.info(path))] for path in paths])

    def open(self, table: RawTable, watermark: Watermark, interval: Interval | None) -> Stream:
        """The rows of files that are new or changed or, by `replace` and `scd2`, of all of them.

        Raises:
            BadInput: for settings that do not go together, and for an interval.
        """
        if interval is not None:
            raise BadInput(f"table {table.name!r} is read from files, which have no cursor to backfill a range of")
        aside = rejected_table(table.name)
        if self._files.bad_rows == "reject" and aside not in table.of_step:
            raise BadInput(f"table {table.name!r} sets bad rows aside, so the step has to name {aside!r} as well")
        begins = types.kinds_of(table.columns, table.wide)
        return stream(table.name, self._files, watermark, begins, self._hashed)


_TIMES = {"mtime", "modified", "updated", "last-modified", "lastmodified", "last_modified"}
_CHANGES = {"size", "etag", "generation", "md5hash", "content-md5", "crc32c", *_TIMES}
"""What changes with a file, as file systems call it."""


def _stamp(info: Mapping[str, Any]) -> list[str]:
    return sorted(f"{name.lower()}={value}" for name, value in info.items() if name.lower() in _CHANGES)


def found(files: Files) -> list[str]:
    """The files that a source names, sorted.

    Raises:
        BadInput: if there is none, or the URL has a password in it: rows, states and failures say where they are from.
    """
    if is_told(files.path):
        raise BadInput(
            f"the URL {scrub(files.path)!r} has a password or signature in it, which would stand in the catalog; "
            "give it to fsspec by an environment variable such as FSSPEC_FTP_PASSWORD"
        )
    filesystem, path = fsspec.core.url_to_fs(files.path)
    with readable(files.path):
        # A name may have a bracket in it without being a pattern.
        paths = [path] if filesystem.exists(path) else sorted(filesystem.glob(path)) if glob.has_magic(path) else []
    if not paths:
        raise BadInput(f"there is no file {files.path!r}")
    return [filesystem.unstrip_protocol(p) for p in paths]


def stream(
    table: str,
    files: Files,
    watermark: Watermark,
    begins: Mapping[str, Any] | None = None,
    hashed: Mapping[str, str] | None = None,
) -> FileStream:
    """The files as a source of one table, and of `<table>__rejected` where rows are set aside.

    Args:
        begins: The kinds (see column_types.py) that columns have already, from loads before.
        hashed: The files with the hashes of their content, where these are known.

    Raises:
        BadInput: for settings that do not go together.
    """
    _check(table, files)
    return FileStream(table, files, watermark, begins or {}, hashed or {})


class FileStream:
    """Files that are being read; see activities/ingest/sources/stream.py.

    The last row of CSV and JSON may decide the type of a column. Rows are given at once all the same, with the types
    that all rows so far have. Should a column need another type later, the rest is read for the types alone, and then
    everything is given anew. A column that had no values yet has no type yet: that is no reason to begin anew.
    """

    def __init__(
        self,
        table: str,
        files: Files,
        watermark: Watermark,
        begins: Mapping[str, Any],
        hashed: Mapping[str, str],
    ) -> None:
        self._table = table
        self._hashed = hashed
        self._begins = begins
        self._files = files
        self._declared = {name: types.Declared(name, text) for name, text in named(files.types, files).items()}
        self._of_folders: dict[str, dict[str, folders.FolderColumn]] = {}
        """The columns that each file's folders give."""
        self._known = Known.read(watermark)
        self._watermark: Watermark = {}
        self._changed: tuple[str, ...] = ()
        """What the rows of files that are not as they were say that they are from."""
        self._own: Own = {}
        self._given: list[str] | None = None
        """The columns of the rows that were given; None: there were none."""
        self._has_rejected = False
        self._rest: pa.Schema | None = None
        """The columns, if some of them are in no piece."""

    def pieces(self, watermark: Watermark | None) -> Iterator[Piece]:
        """The rows of the files that are to be read, from behind a watermark."""
        paths = found(self._files)
        kind = _format(paths, self._files)
        if self._files.hive_partitioning:
            self._of_folders = folders.columns_of(paths, self._files, self._declared, self._begins)
            self._declared |= {name: column.declared for name, column in self._of_folders[paths[0]].items()}
        if self._files.disposition in ("append", "merge"):
            hashed = self._hashed if list(self._hashed) == paths else None
            new = compared(self._known, paths, adds=self._files.disposition == "append", says=self._says, hashed=hashed)
            self._changed, self._watermark = new.replaced, new.known.watermark
            paths = list(new.read)
            if self._files.disposition == "append":
                self._own = {path: {FILE_COLUMN: new.known.name(path)} for path in paths}
            elif len(paths) > 1:
                self._own = {path: {FILE_NUMBER: number} for number, path in enumerate(paths)}
        contents = stable_hash([[path, _size(path)] for path in paths])
        if watermark and watermark["files"] != contents:
            raise StepFailed(f"the files {self._files.path!r} have changed while they were read; run again")
        if not paths:
            return
        with tempfile.TemporaryDirectory(prefix="entrepot-files-") as folder:
            start = watermark or {"file": 0, "row": 0, "place": Place(), "given": None, "rejected": False}
            self._given, self._has_rejected = start["given"], start["rejected"]
            scratch = Path(folder)
            pieces = (
                self._parquet(paths, scratch, start) if kind == "parquet" else self._text(paths, scratch, start, kind)
            )
            for piece in pieces:
                behind = piece.watermark
                if piece.table == self._table and behind is not None:
                    self._given = list(behind.get("columns", ())) if piece.rows is not None else None
                about = {"files": contents, "given": self._given, "rejected": self._has_rejected}
                yield replace(piece, watermark=behind and {**behind, **about})
            if self._rest is not None:
                yield Piece(self._table, pa.RecordBatch.from_pylist([], schema=self._rest))

    def watermark(self) -> Watermark:
        """The files that were read, by their content."""
        return self._watermark

    def hints(self) -> dict[str, Hints]:
        """How the rows are combined with existing rows."""
        disposition = self._files.disposition
        if disposition == "append":  # a changed file's rows replace its earlier ones
            hints = Hints("append", replaces=ValueFilter(FILE_COLUMN, self._changed) if self._changed else None)
        else:
            deleted = name_of(self._files.deleted, self._files.rename) if self._files.deleted else None
            key = tuple(name_of(column, self._files.rename) for column in self._files.key)
            # Of rows with one key, that of the last file; what one file has twice stays so, and is refused.
            newest: Any = (FILE_NUMBER, "desc") if self._own else None
            hints = Hints(disposition, key=key, deleted=deleted, newest=newest)
        tables = {self._table: hints}
        if self._files.bad_rows == "reject":
            again = ValueFilter("file", self._changed) if self._changed else None
            is_added = disposition in ("append", "merge")
            aside = Hints("append", replaces=again) if is_added else Hints("replace")
            tables[rejected_table(self._table)] = aside
        return tables

    def notes(self) -> dict[str, list[str]]:
        """There is nothing to tell."""
        return {}

    def _says(self, path: str) -> object:
        """What of a file's path its rows have."""
        return folders.folders(path) if self._files.hive_partitioning else None

    def _known_columns(self, path: str) -> folders.KnownColumns:
        return {**self._declared, **self._of_folders.get(path, {})}

    def _name(self, path: str) -> str:
        return str(self._own.get(path, {}).get(FILE_COLUMN, path))

    def _parquet(self, paths: list[str], folder: Path, start: Watermark) -> Iterator[Piece]:
        sources = parquet.sources(paths, folder, self._files, self._declared)
        schema = parquet.common(sources, {name: column.dtype.to_pyarrow() for name, column in self._declared.items()})
        self._check_types([*schema.names, *self._of_folders.get(paths[0], {})])
        for number, source in enumerate(sources[start["file"] :], start["file"]):
            row = start["row"] if number == start["file"] else 0
            copied = None if row or self._own or self._of_folders else parquet.copied(source, schema, folder)
            if copied:
                yield Piece(self._table, copied, {"file": number + 1, "row": 0})
                continue
            for batch in parquet.batches(source, schema, row, folder):
                row += batch.num_rows
                yield Piece(self._table, self._with_own(batch, source.path), {"file": number, "row": row})
        if self._given is None:
            self._rest = self._with_own(pa.RecordBatch.from_pylist([], schema=schema), paths[0]).schema

    def _with_own(self, batch: pa.RecordBatch, path: str) -> pa.RecordBatch:
        batch = folders.with_folder_columns(batch, self._of_folders.get(path, {}), path)
        for name, value in self._own.get(path, {}).items():
            batch = batch.append_column(name, pa.repeat(pa.scalar(value), batch.num_rows))
        return batch

    def _text(self, paths: list[str], folder: Path, start: Watermark, kind: str) -> Iterator[Piece]:
        columns: Columns = dict(start.get("columns", {}))
        with duckdb.connect() as connection:
            connection.execute("SET TimeZone = 'UTC'; SET memory_limit = '768MB'")
            # Else columns without NULLs become columns that may not have any, here and not there.
            connection.execute("SET disabled_optimizers = 'statistics_propagation'")
            connection.execute(f"SET temp_directory = {literal(str(folder / 'spill'))}")
            table = TextTable(self._files, connection, folder, columns, self._own, self._begins, self._known_columns)
            reader = _READERS[kind](table)
            at = start if start.get("for_types") else (yield from self._rows(reader, paths, folder, start))
            if at is not None:
                yield from self._types_only(reader, paths, folder, at)
                begin = {"file": 0, "place": Place(), "columns": dict(columns)}
                if (yield from self._rows(reader, paths, folder, begin)) is not None:
                    raise StepFailed(f"the files {self._files.path!r} have changed while they were read; run again")
            if kind == "csv":  # not every object of JSON has every key
                self._check_types(columns)
            if columns and self._given != list(columns):
                wanted = {name: column.type for name, column in self._declared.items()}
                none = [
                    f"NULL::{wanted.get(name) or sql_type(kind)} AS {quoted(name)}" for name, kind in columns.items()
                ]
                nothing = ", ".join([*none, *constants(self._own, paths[0])])
                schema = connection.sql(f"SELECT {nothing} LIMIT 0").to_arrow_table().schema
                is_open = {name: self._is_open(name, columns) for name in columns}
                self._rest = pa.schema([f.with_type(pa.null()) if is_open.get(f.name) else f for f in schema])

    def _check_types(self, columns: Iterable[str]) -> None:
        """Raises BadInput for a type or a name of a column that there is not. Files that come later may lack some."""
        known = list(columns)
        asked = {"types": {name: name for name in self._declared}, "rename": self._files.rename}
        for option, named_so in asked.items() if not self._known.files else ():
            if strange := [column for column, name in named_so.items() if name not in known]:
                raise BadInput(f"the files {self._files.path!r}, {option}: {unknown('column', strange[0], known)}")

    def _rows(
        self, reader: Reader, paths: list[str], folder: Path, start: Watermark
    ) -> Generator[Piece, None, Watermark | None]:
        """The rows behind a watermark. Returns where a column gets another type than it had before, if one does."""
        before = dict(reader.columns)
        for path, part, watermark in self._parts(reader, paths, folder, start):
            if self._is_other(before, reader.columns):
                return watermark
            before = watermark["columns"]
            if part.rejected:
                self._has_rejected = True
                yield Piece(
                    rejected_table(self._table),
                    _rejected_rows(self._name(path), part.rejected),
                    None if part.rows else watermark,
                )
            if part.rows:
                yield Piece(self._table, part.path, watermark)
        return None

    def _types_only(self, reader: Reader, paths: list[str], folder: Path, start: Watermark) -> Iterator[Piece]:
        """Takes all rows back, and reads the rest for the types."""
        if self._has_rejected:
            self._has_rejected = False
            yield Piece(rejected_table(self._table), None, anew=True)
        yield Piece(self._table, None, {**start, "for_types": True}, anew=True)
        for _, _, watermark in self._parts(reader, paths, folder, start):
            yield Piece(self._table, None, {**watermark, "for_types": True})

    def _parts(
        self, reader: Reader, paths: list[str], folder: Path, start: Watermark
    ) -> Iterator[tuple[str, Part, Watermark]]:
        """Chunk after chunk from behind a watermark, and the watermark behind each."""
        for number, path in enumerate(paths[start["file"] :], start["file"]):
            offset, line, header = start["place"] if number == start["file"] else Place()
            for chunk in ahead(reader.chunks(path, Place(offset, line, tuple(header)))):
                part = reader.part(path, chunk, folder / "rows.parquet")
                if part.rejected and self._files.bad_rows == "fail":
                    bad = min(part.rejected)
                    raise StepFailed(f"{path}:{bad.line}: {bad.reason}: {bad.content[:200]!r}")
                yield path, part, {"file": number, "place": chunk.end, "columns": dict(reader.columns)}

    def _is_other(self, before: Columns, now: Columns) -> bool:
        """Whether rows that were given would have been given with other types."""
        if not before:
            return self._given is not None
        return any(not is_kept_as(kind, now[name]) for name, kind in before.items() if not self._is_open(name, before))

    def _is_open(self, name: str, columns: Columns) -> bool:
        return columns[name] == "null" and name not in self._declared


def rejected_table(table: str) -> str:
    """The table of the rows of a table that were set aside."""
    return table + REJECTED


def _check(table: str, files: Files) -> None:
    wants_key = files.disposition in ("merge", "scd2")
    if wants_key and not files.key:
        raise BadInput(f"the files of {table!r} have the disposition {files.disposition!r}, which needs a `key`")
    if files.key and not wants_key:
        raise BadInput(
            f"the files of {table!r} have a `key`, which means nothing with the disposition {files.disposition!r}; "
            "it is for merge and scd2"
        )
    if files.deleted and files.disposition != "merge":
        raise BadInput(f"the files of {table!r} have `deleted`, which is for the disposition 'merge' only")
    for what, given, known in (
        ("disposition", files.disposition, ("replace", "append", "merge", "scd2")),
        ("bad_rows", files.bad_rows, ("fail", "reject")),
        ("short_rows", files.short_rows, ("bad", "nulls")),
        ("format", files.format or "csv", ("csv", "parquet", "json")),
    ):
        if given not in known:
            raise BadInput(unknown(what, given, known))


def _format(paths: list[str], files: Files) -> str:
    """The one format of all files."""
    formats: dict[Format, str] = {}
    for path in paths:
        name, ending = os.path.splitext(path)
        if ending.lower() in PACKED:
            ending = os.path.splitext(name)[1]
        found = files.format or _FORMATS.get(ending.lower())
        if found is None:
            raise BadInput(f"cannot tell the format of {path!r} by its name; give `format`: csv, parquet or json")
        formats[found] = path
    if len(formats) > 1:
        one, other = list(formats.values())[:2]
        raise BadInput(f"the files of one table have one format, and {one!r} and {other!r} have not")
    return next(iter(formats))


def _size(path: str) -> int:
    filesystem, name = fsspec.core.url_to_fs(path)
    return int(filesystem.size(name) or 0)


def _rejected_rows(path: str, rejected: list[Rejected]) -> pa.RecordBatch:
    rows = [{"file": path, **row._asdict()} for row in rejected]
    return pa.RecordBatch.from_pylist(rows, schema=REJECTED_COLUMNS)

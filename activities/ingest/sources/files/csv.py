"""CSV: chunks of text to Parquet by DuckDB, with rows set aside that cannot be taken."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import numpy as np

from entrepot.activities.ingest.sources.files import column_types as types
from entrepot.activities.ingest.sources.files.folders import KnownColumns, add_folder_columns
from entrepot.activities.ingest.sources.files.reader import Part, Rejected, TextTable, constants, named
from entrepot.activities.ingest.sources.files.text import PACKED, Chunk, Place, chunk_of, first_lines, whole_records
from entrepot.activities.ingest.sources.quoting import literal, quoted
from entrepot.errors import BadInput, StepFailed

SAMPLE_ROWS = 10_000
"""From so many rows of a chunk the types of columns are guessed; then all rows are asked."""

_SAYS = re.compile(rb"sep=([^\r\n])\r?\n", re.IGNORECASE)
"""The line by which Excel tells the delimiter."""

_MISFIT = "entrepot: a value of another type"
_STRUCTURAL = {
    "TOO MANY COLUMNS": "too many fields",
    "MISSING COLUMNS": "too few fields",
    "UNQUOTED VALUE": "a broken quote",
    "INVALID ENCODING": "bytes that are not of the encoding",
    "LINE SIZE OVER MAXIMUM": "the line is too long",
}
_RECORD_ENDS = (b"\n", b"\r\n", b"\r", b"")


class CsvReader:
    """Turns chunks of one table's files into Parquet."""

    def __init__(self, table: TextTable) -> None:
        self._table = table
        self._files = table.files
        self._sql = table.connection
        self.columns = table.columns
        self._delimiter = self._files.delimiter or ","
        self._records = self._records_of(self._delimiter)
        self._number = types.number(self._files.decimal, self._files.thousands)
        self._declared: KnownColumns = {}
        """Of the file that is read."""

    def chunks(self, path: str, start: Place) -> Iterator[Chunk]:
        """A file's chunks from a place on; the places behind them have the names of its columns.

        Raises:
            StepFailed: for a file without a header, or with two columns of one name.
        """
        header, start = start.header, self._begin(path, start)
        for chunk in _csv_chunks(path, self._files.encoding, self._records, start):
            whole = chunk
            if not header:
                begin, end = next(self._records.each(chunk.data), (0, 0))
                if not end:
                    continue
                line = chunk.line + chunk.data.count(b"\n", 0, begin)
                header = self._header(path, line, chunk.data[begin:end])
                if self._files.header:
                    end = end + len(chunk.data[end : end + 2]) - len(chunk.data[end : end + 2].lstrip(b"\r\n"))
                    skipped = chunk.data.count(b"\n", 0, end)
                    whole = replace(chunk, data=chunk.data[end:], line=chunk.line + skipped)
            yield replace(whole, end=chunk.end._replace(header=header))
        if not header:
            raise StepFailed(f"the file {path!r} is empty; the first line of a CSV file names its columns")

    def _records_of(self, delimiter: str) -> Records:
        return Records(delimiter, self._files.quote, self._files.escape)

    def _begin(self, path: str, start: Place) -> Place:
        """Where a file's header is, or where to go on; and what separates the file's fields."""
        name = path.lower()
        for ending in PACKED:
            name = name.removesuffix(ending)
        delimiter, skip = self._files.delimiter or ("\t" if name.endswith((".tsv", ".tab")) else ","), self._files.skip
        lines = first_lines(path, self._files.encoding, skip + 1) if skip or not self._files.delimiter else []
        if separator := _SAYS.fullmatch(lines[skip] if len(lines) > skip else b""):
            delimiter, skip = self._files.delimiter or separator[1].decode(), skip + 1
            lines = first_lines(path, self._files.encoding, skip)
        self._delimiter, self._records = delimiter, self._records_of(delimiter)
        return start if start.offset else Place(sum(map(len, lines[:skip])), 1 + skip)

    def _header(self, path: str, number: int, line: bytes) -> tuple[str, ...]:
        """The names of the columns, by the first record."""
        options: dict[str, Any] = {"quotechar": self._files.quote} if self._files.quote else {"quoting": csv.QUOTE_NONE}
        if self._files.escape and self._files.escape != self._files.quote:
            options |= {"escapechar": self._files.escape, "doublequote": False}
        try:
            fields = next(csv.reader([line.decode()], delimiter=self._delimiter, strict=True, **options))
        except (UnicodeDecodeError, csv.Error) as error:
            raise StepFailed(f"{path}:{number}: the names of the columns cannot be read: {error}") from error
        others = [mark for mark in ";\t|" if mark in fields[0]] if len(fields) == 1 else []
        if others and not self._files.delimiter:
            raise StepFailed(
                f"{path}:{number}: the first line has no {self._delimiter!r} and has {others[0]!r}; say "
                f"`delimiter={others[0]!r}`, or `delimiter=','` if it is one column"
            )
        if self._files.names:
            if len(self._files.names) != len(fields):
                raise StepFailed(
                    f"{path}:{number}: `names` has {len(self._files.names)}, the line {len(fields)} fields"
                )
            fields = list(self._files.names)
        elif not self._files.header:
            fields = [""] * len(fields)
        columns = [field or f"column_{n}" for n, field in enumerate(fields, 1)]
        return tuple(named(dict.fromkeys(columns, ""), self._files, path, columns))

    def part(self, path: str, chunk: Chunk, target: Path) -> Part:
        """One chunk as Parquet, and the rows that were set aside."""
        self._declared = self._table.known(path)
        new = {column: name for column, name in _named(chunk) if name not in self.columns}
        self.columns |= {name: types.scalar(self._table.begins.get(name)) for name in new.values()}
        add_folder_columns(self.columns, self._declared)
        if not chunk.data:  # a file that has no rows has columns
            return Part(0, target, [])
        text = self._table.folder / "chunk.csv"
        chunk = replace(chunk, data=self._records.prepared(chunk.data, len(chunk.end.header)))
        text.write_bytes(chunk.data)
        try:
            return self._part(path, chunk, text, target, new)
        except duckdb.Error as error:
            first = str(error).splitlines()[0]
            raise StepFailed(f"{path}:{chunk.line}: the lines from here on cannot be read as CSV: {first}") from error

    def _part(self, path: str, chunk: Chunk, text: Path, target: Path, new: Mapping[str, str]) -> Part:
        source = self._source(chunk, text)
        unknown = {column: name for column, name in new.items() if name not in self._declared}
        if unknown:
            # What will be set aside has no say. DuckDB finds bad bytes only in columns that are asked for.
            good = [
                f"({column} IS NULL OR {self._fits(name, column)})"
                for column, name in _named(chunk)
                if name in self._declared
            ]
            self._widen(f"(FROM {source} LIMIT {SAMPLE_ROWS}) WHERE {' AND '.join(good) or 'true'}", unknown)
            self._forget()
        try:
            return Part(self._copy(path, chunk, source, target), target, self._structural(chunk))
        except duckdb.InvalidInputException as error:
            if _MISFIT not in str(error):
                raise
        self._forget()
        return self._second_look(path, chunk, source, target)

    def _second_look(self, path: str, chunk: Chunk, source: str, target: Path) -> Part:
        """For a chunk in which some value is not of its column's type."""
        self._sql.execute(f"CREATE OR REPLACE TEMP TABLE chunk AS FROM {source}")
        starts: list[int] = []
        rejected = self._structural(chunk, starts)
        bad: dict[int, str] = {}  # taken away first: what is set aside has no say in the types
        for column, name in _named(chunk):
            if declared := self._declared.get(name):
                query = (
                    f"SELECT rowid, {column} FROM chunk WHERE {column} IS NOT NULL AND NOT {self._fits(name, column)}"
                )
                for row, value in self._sql.execute(query).fetchall():
                    bad.setdefault(row, f"{value[:100]!r} in the column {name!r} is no {declared.text}")
        if bad:
            rejected += self._located(chunk, starts, bad)
            self._sql.executemany("DELETE FROM chunk WHERE rowid = ?", [[row] for row in bad])
        open_columns = {c: n for c, n in _named(chunk) if n not in self._declared}
        if open_columns:
            tests = ", ".join(types.all_fit(self.columns[n], c, self._number) for c, n in open_columns.items())
            (answers,) = self._sql.execute(f"SELECT {tests} FROM chunk").fetchall()
            misfits = {c: n for (c, n), fits in zip(open_columns.items(), answers, strict=True) if fits is False}
            if misfits:
                self._widen("chunk", misfits)
        rows = self._copy(path, chunk, "chunk", target)
        self._sql.execute("DROP TABLE chunk")
        return Part(rows, target, sorted(rejected))

    def _located(self, chunk: Chunk, structural: list[int], bad: Mapping[int, str]) -> list[Rejected]:
        """Bad rows by their number among the good ones, with their lines."""
        data, gone = chunk.data, set(structural)
        good = (record for record in self._records.each(data) if record[0] not in gone)
        found, line, seen = [], chunk.line, 0
        for row, (start, end) in enumerate(good):
            if row in bad:
                line, seen = line + data.count(b"\n", seen, start), start
                found.append(Rejected(line, bad[row], data[start:end].decode(errors="replace")))
        return found

    def _source(self, chunk: Chunk, text: Path) -> str:
        columns = ", ".join(f"c{n}: 'VARCHAR'" for n in range(len(chunk.end.header)))
        longest = max(2 << 20, len(chunk.data) + 1)
        pads = self._files.short_rows == "nulls"
        return (
            f"read_csv({literal(str(text))}, auto_detect=false, header=false, columns={{{columns}}}, "
            f"delim={literal(self._delimiter)}, quote={literal(self._files.quote)}, new_line='\\n', "
            f"escape={literal(self._files.escape or self._files.quote)}, "
            f"nullstr=[{', '.join(map(literal, self._files.nulls))}], max_line_size={longest}, "
            f"buffer_size={max(longest, 32 << 20)}, null_padding={pads}, parallel={not pads}, "
            "store_rejects=true, rejects_table='rejects', rejects_scan='scans', rejects_limit=0)"
        )

    def _widen(self, table: str, columns: Mapping[str, str]) -> None:
        asked = ", ".join(types.kinds_sql(column, types.KINDS, self._number) for column in columns)
        (kinds,) = self._sql.execute(f"SELECT {asked}, count(COLUMNS(*)) FROM {table}").fetchall()
        for name, kind in zip(columns.values(), kinds, strict=False):
            self.columns[name] = types.join(self.columns[name], kind)

    def _copy(self, path: str, chunk: Chunk, source: str, target: Path) -> int:
        there = {name: column for column, name in _named(chunk)}
        selected, casts = [], ["*"]
        for name, kind in self.columns.items():
            column, declared = there.get(name), self._declared.get(name)
            misfit = f"error({literal(_MISFIT)})"
            if column is None:
                nothing = "NULL" if kind == "null" else f"NULL::{types.SQL_TYPES[kind]}"
                expression = declared.absent if declared else nothing
            elif declared is None and kind == "null":
                expression = f"CASE WHEN {column} IS NOT NULL THEN {misfit} END"
            elif declared.takes_all if declared else types.SQL_TYPES[kind] == "VARCHAR":
                expression = column
            else:
                cast = f"v{column}"  # once, below: for the question and for the answer
                is_number = declared.is_number if declared else kind in types.NUMBERS
                text = self._number(column) if is_number else column
                casts.append(f"{declared.value(text) if declared else types.value(kind, text)} AS {cast}")
                fits = declared.fits(text, cast) if declared else types.fits(kind, text, cast)
                expression = f"CASE WHEN {column} IS NULL OR {fits} THEN {cast} ELSE {misfit} END"
            selected.append(f"{expression} AS {quoted(name)}")
        selected += constants(self._table.own, path)
        source = f"(SELECT {', '.join(casts)} FROM {source})"
        query = f"COPY (SELECT {', '.join(selected)} FROM {source}) TO {literal(str(target))} (FORMAT parquet)"
        ((rows,),) = self._sql.execute(query).fetchall()
        types.without_types(target, [n for n, k in self.columns.items() if k == "null" and n not in self._declared])
        return int(rows)

    def _fits(self, name: str, column: str) -> str:
        declared = self._declared[name]
        return declared.fits(self._number(column) if declared.is_number else column)

    def _structural(self, chunk: Chunk, starts: list[int] | None = None) -> list[Rejected]:
        """The lines that the last reading has set aside."""
        query = "SELECT line_byte_position, error_type, csv_line, error_message FROM rejects ORDER BY ALL"
        found: dict[int, Rejected] = {}
        data = chunk.data
        for position, kind, content, message in self._sql.execute(query).fetchall():
            start = position - 1
            start += len(data[start:]) - len(data[start:].lstrip(b"\r\n"))
            reason = _STRUCTURAL.get(kind, message)
            line = chunk.line + data.count(b"\n", 0, start)
            text = content.strip("\r\n")
            if text.endswith(f"{self._delimiter} "):  # the space is ours: see Records.prepared
                text = text[:-1]
            found.setdefault(start, Rejected(line, reason, text))
        self._forget()
        if starts is not None:
            starts.extend(found)
        return list(found.values())

    def _forget(self) -> None:
        """A reading adds to what the one before has set aside."""
        self._sql.execute("DROP TABLE IF EXISTS rejects; DROP TABLE IF EXISTS scans")


def _csv_chunks(path: str, encoding: str, records: Records, start: Place) -> Iterator[Chunk]:
    """A CSV file's records; the file's first line is not told from the others."""
    rest, here = yield from whole_records(path, encoding, start, lambda data: records.end(data)[0])
    while rest:
        cut, is_open = records.end(rest)
        if not is_open:
            yield chunk_of(rest, here)
            break
        # A quote that is never closed makes one bad line, and not a bad rest of the file.
        end = rest.find(b"\n", cut) + 1 or len(rest)
        for data in (rest[:cut], rest[cut:end]):
            if data:
                yield (chunk := chunk_of(data, here))
                here = chunk.end
        rest = rest[end:]


def _named(chunk: Chunk) -> list[tuple[str, str]]:
    return [(f"c{n}", name) for n, name in enumerate(chunk.end.header)]


class Records:
    """Where CSV records begin and end: a line break within quotes ends none."""

    def __init__(self, delimiter: str, quote: str = '"', escape: str | None = None) -> None:
        for what, given in (("delimiter", delimiter), ("quote", quote or '"'), ("escape", escape or quote or '"')):
            if len(given.encode()) != 1 or given in "\r\n":
                raise BadInput(f"the {what} must be one ASCII character, and is {given!r}")
        if delimiter in (quote, escape):
            raise BadInput(f"the delimiter must not be the quote or the escape, and is {delimiter!r}")
        self._delimiter, self._quote = delimiter.encode(), ord(quote) if quote else -1
        self._escape = escape.encode() if escape and escape != quote else b""
        self._others = bytes(set(range(256)) - set(self._delimiter + b"\n"))
        self._around = np.zeros(256, dtype=bool)
        self._around[list(self._delimiter + b"\r\n" + quote.encode())] = True
        ends, q, e = re.escape(self._delimiter), re.escape(quote.encode()), re.escape(self._escape)
        within = b"(?:[^" + q + e + b"]|" + e + b".)*+" if e else b"[^" + q + b"]*+(?:" + q + q + b"[^" + q + b"]*+)*+"
        plain = b"[^" + ends + rb"\r\n]*+"
        quoted = q + within + q + plain + b"|(" + q + within + rb"\Z)|" if quote else b"((?!))|"
        self._field = re.compile(b"(?:" + quoted + plain + b")(" + ends + rb"|\r\n|\n|\r|\Z)", re.DOTALL)

    def end(self, data: bytes) -> tuple[int, bool]:
        """Where the last whole record ends, and whether a quote is open behind it."""
        array = np.frombuffer(data, np.uint8)
        quotes = np.flatnonzero(array == self._quote)
        if not self._can_count(array, data, quotes):
            return self._end_read(data)
        end = len(data)
        while (end := data.rfind(b"\n", 0, end)) >= 0:
            quotes_before = int(np.searchsorted(quotes, end))
            if quotes_before % 2 == 0:
                break
            end = int(quotes[quotes_before - 1])
        return end + 1, len(quotes) % 2 == 1

    def _can_count(self, array: Any, data: bytes, quotes: Any) -> bool:
        """Whether each opening quote follows a delimiter, and each closing one is followed by one."""
        if self._escape and self._escape in data:
            return False
        before, after = quotes[0::2] - 1, quotes[1::2] + 1
        before, after = before[before >= 0], after[after < len(array)]
        return bool(self._around[array[before]].all() and self._around[array[after]].all())

    def prepared(self, data: bytes, fields: int) -> bytes:
        """The same records as DuckDB takes them: all end alike, and a field too many is never empty.

        DuckDB wants one kind of line ends, and takes lines that end with a delimiter too many. Line breaks within
        quotes stay as they are.
        """
        if b"\r" not in data and (self._quote < 0 or bytes([self._quote]) not in data):
            lines = data.count(b"\n")
            if data.translate(None, self._others) == (self._delimiter * (fields - 1) + b"\n") * lines:
                return data
        array = np.frombuffer(data, np.uint8)
        delimiters, ends = self._marks(array, data)
        is_two = (ends > 0) & (array[ends - 1] == ord("\r")) & (ends < len(data))
        behind, returns = ends - is_two, ends[is_two] - 1
        is_surplus = np.diff(np.searchsorted(delimiters, behind), prepend=0) >= fields
        surplus = behind[is_surplus & (array[behind - 1] == ord(self._delimiter))]
        return bytes(np.insert(np.delete(array, returns), surplus - np.searchsorted(returns, surplus), ord(" ")))

    def _marks(self, array: Any, data: bytes) -> tuple[Any, Any]:
        """Where delimiters and the ends of records are, but for those within quotes."""
        quotes = np.flatnonzero(array == self._quote)
        if self._can_count(array, data, quotes):
            outside = ~np.logical_xor.accumulate(array == self._quote) if len(quotes) else True
            delimiters, ends = (np.flatnonzero((array == byte) & outside) for byte in (ord(self._delimiter), ord("\n")))
        else:
            marks = [(field.end() - 1, field[2]) for field in self._field.finditer(data) if field[2]]
            delimiters = np.array([at for at, mark in marks if mark == self._delimiter], np.int64)
            ends = np.array([at for at, mark in marks if mark in (b"\n", b"\r\n")], np.int64)
        return delimiters, ends if data.endswith(b"\n") else np.append(ends, len(data))

    def _end_read(self, data: bytes) -> tuple[int, bool]:
        end = 0
        for field in self._field.finditer(data):
            if field[2] in (b"\n", b"\r\n"):
                end = field.end()
            if field[1] is not None:
                return end, True
        return end, False

    def each(self, data: bytes) -> Iterator[tuple[int, int]]:
        """Where each record begins and ends, without lines that are empty."""
        start = 0
        for field in self._field.finditer(data):
            if field[2] in _RECORD_ENDS:
                if field.start(2) > start:
                    yield start, field.start(2)
                start = field.end()

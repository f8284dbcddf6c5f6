"""JSON: lines or one array, to Parquet by DuckDB, with values set aside that cannot be taken.

Objects and arrays inside of a value become columns of struct and list types, or JSON text where they are too irregular
for that. Who wants a table of their own for them has dlt's `filesystem` source.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from activities.sources import files_types as types
from activities.sources.files_part import Columns, Own, Part, Rejected, constants, named
from activities.sources.files_text import HEAD, Chunk, Place, array_chunks, line_chunks, text
from activities.sources.quoting import literal, quoted
from entrepot.errors import StepFailed
from entrepot.sources import Files

MOST_FIELDS = 1_000
"""A value with more fields is kept as JSON text: its keys are most likely data."""

_DATES = ("date", "timestamp", "timestamptz", "varchar")
_SCALARS = {"VARCHAR": "varchar", "BIGINT": "bigint", "DOUBLE": "double", "BOOLEAN": "boolean", "NULL": "null"}
_LONG = re.compile(rb"[:\[,\s](-?\d{19,})[,\]}\s]")


@dataclass(frozen=True)
class _Found:
    """What a chunk has under one name: the key, and its structure as DuckDB tells it."""

    key: str
    structure: Any


class JsonReader:
    """Turns chunks of one table's files into Parquet; `columns` are those that it has met so far.

    A column's kind is one of files_types.KINDS, `json` for JSON text, or a structure: a list for arrays, a dict for
    objects.
    """

    def __init__(
        self, files: Files, connection: duckdb.DuckDBPyConnection, folder: Path, columns: Columns, own: Own
    ) -> None:
        self._files = files
        self._own = own
        self._sql = connection
        self._declared = {name: types.Declared(name, text) for name, text in named(files.types, files).items()}
        self.columns = columns

    def chunks(self, path: str, start: Place) -> Iterator[Chunk]:
        """A file's chunks from a place on, one value a line."""
        blocks = text(path, self._files.encoding, size=HEAD)
        first = next((block.lstrip() for block in blocks if block.strip()), b"")
        chunks = array_chunks if first.startswith(b"[") else line_chunks
        return chunks(path, self._files.encoding, start)

    def part(self, path: str, chunk: Chunk, target: Path) -> Part:
        """One chunk as Parquet, and the values that were set aside."""
        rejected, values = self._values(chunk)
        try:
            self._sql.register("chunk", pa.table({"value": values}))
            found = self._found(path, chunk)
            self._learn(found)
            return Part(self._copy(path, found, target), target, rejected)
        except duckdb.Error as error:
            first = str(error).splitlines()[0]
            raise StepFailed(f"{path}:{chunk.line}: the values from here on cannot be read: {first}") from error
        finally:
            self._sql.unregister("chunk")

    def _values(self, chunk: Chunk) -> tuple[list[Rejected], Any]:
        """The values that are objects with all declared columns as they should be, and what was set aside."""
        lines = [line for line in enumerate(chunk.data.split(b"\n")) if line[1].strip()]
        rejected: dict[int, str] = {}
        try:
            values = pa.array([line for _, line in lines], pa.binary()).cast(pa.string())
        except pa.ArrowInvalid:
            for at, (_, line) in enumerate(lines):
                try:
                    line.decode()
                except UnicodeDecodeError:
                    rejected[at] = "bytes that are not of the encoding"
            values = pa.array([line.decode(errors="replace") for _, line in lines])
        self._sql.register("chunk", pa.table({"n": pa.array(range(len(lines)), pa.int64()), "value": values}))
        bad = "NOT json_valid(value) OR json_type(CASE WHEN json_valid(value) THEN value END) <> 'OBJECT'"
        for at, value in self._sql.execute(f"SELECT n, value FROM chunk WHERE {bad} ORDER BY n").fetchall():
            rejected.setdefault(at, _what_is_wrong(value))
        good = f"json_valid(value) AND n NOT IN ({', '.join(map(str, rejected)) or '-1'})"
        for name, declared in self._declared.items():
            for key in self._keys(good, name) if declared.type != "VARCHAR" else ():
                content = f"json_extract_string(CASE WHEN {good} THEN value END, {literal(_pointer(key))})"
                query = f"SELECT n, {content} FROM chunk WHERE {content} IS NOT NULL AND NOT {declared.fits(content)}"
                for at, value in self._sql.execute(query).fetchall():
                    rejected.setdefault(at, f"{value[:100]!r} in the column {name!r} is no {declared.text}")
        self._sql.unregister("chunk")
        if rejected:
            values = values.filter(pa.array([at not in rejected for at in range(len(lines))]))
        aside = []
        for at in sorted(rejected):
            number, line = lines[at]
            where = chunk.lines[number] if chunk.lines else chunk.line + number
            aside.append(Rejected(where, rejected[at], line.decode(errors="replace")))
        return aside, values

    def _keys(self, good: str, name: str) -> list[str]:
        query = f"SELECT DISTINCT unnest(json_keys(value)) FROM chunk WHERE {good}"
        return [key for (key,) in self._sql.execute(query).fetchall() if name in named({key: ""}, self._files)]

    def _found(self, path: str, chunk: Chunk) -> dict[str, _Found]:
        told = self._one("SELECT json_group_structure(value::JSON) FROM chunk")
        structure = json.loads(told) if told else {}
        if not isinstance(structure, dict):  # nothing but empty objects
            return {}
        # Numbers that are too long for 64 bits; rare enough to look for them like that.
        is_long = any(not -(1 << 63) <= int(number) < 1 << 63 for number in _LONG.findall(chunk.data))
        return {
            name: _Found(key, _plain(structure[key], is_long))
            for name, key in named({key: key for key in structure}, self._files, path).items()
        }

    def _learn(self, found: dict[str, _Found]) -> None:
        for name, here in found.items():
            kind = self._kind(here, self.columns.get(name, "null"))
            self.columns[name] = _join(self.columns.get(name, "null"), kind)

    def _kind(self, found: _Found, known: Any) -> Any:
        """The kind of a column in this chunk."""
        if isinstance(found.structure, dict | list):
            return found.structure if _fields(found.structure) <= MOST_FIELDS else "json"
        content = f"json_extract_string(value, {literal(_pointer(found.key))})"
        if found.structure == "JSON":
            kind = f"json_type(value, {literal(_pointer(found.key))})"
            is_nested = self._one(f"SELECT bool_or({kind} IN ('OBJECT', 'ARRAY')) FROM chunk")
            return "json" if is_nested else "varchar"
        if found.structure == "VARCHAR" and known in ("null", *_DATES[:-1]):
            return self._one(f"SELECT {types.kinds_sql(content, _DATES)} FROM chunk")
        return _SCALARS[found.structure]

    def _copy(self, path: str, found: dict[str, _Found], target: Path) -> int:
        asked = {here.key: self._asked(name) for name, here in found.items()}
        selected = [self._selected(name, found.get(name)) for name in self.columns]
        read = f"json_transform(value, {literal(json.dumps(asked))})" if asked else "NULL"
        columns = ", ".join([*selected, *constants(self._own, path)]) or "NULL::VARCHAR AS empty"
        query = f"COPY (SELECT {columns} FROM (SELECT {read} AS row FROM chunk)) TO {literal(str(target))}"
        return int(self._one(f"{query} (FORMAT parquet)"))

    def _one(self, query: str) -> Any:
        """The only value of the answer, which must be read to its end before the connection is used again."""
        return self._sql.execute(query).fetchall()[0][0]

    def _asked(self, name: str) -> Any:
        """What DuckDB is asked to make of a key's values."""
        kind = self.columns[name]
        if isinstance(kind, dict | list) and name not in self._declared:
            return _asked(kind)
        if kind == "json":
            return "JSON"
        return kind.upper() if kind in ("bigint", "double", "boolean") and name not in self._declared else "VARCHAR"

    def _selected(self, name: str, found: _Found | None) -> str:
        declared, kind = self._declared.get(name), self.columns[name]
        if kind == "null" and not declared:
            return f"NULL AS {quoted(name)}"
        if found is None:
            return f"NULL::{declared.type if declared else sql_type(kind)} AS {quoted(name)}"
        value = f"row.{quoted(found.key)}"
        if declared:
            value = declared.value(value)
        elif kind == "json":
            value = f"CAST({value} AS VARCHAR)"
        elif kind in _DATES:
            value = types.value(kind, value)
        return f"{value} AS {quoted(name)}"


def sql_type(kind: Any) -> str:
    """DuckDB's type of a column of a kind."""
    if isinstance(kind, list):
        return f"{sql_type(kind[0])}[]"
    if isinstance(kind, dict):
        return f"STRUCT({', '.join(f'{quoted(key)} {sql_type(inner)}' for key, inner in kind.items())})"
    return "VARCHAR" if kind in ("json", "NULL") else types.SQL_TYPES.get(kind, kind)


def _asked(structure: Any) -> Any:
    """A structure without NULLs that no value has told the type of."""
    if isinstance(structure, dict):
        return {key: _asked(inner) for key, inner in structure.items()}
    return [_asked(structure[0])] if isinstance(structure, list) else structure.replace("NULL", "VARCHAR")


def _what_is_wrong(value: str) -> str:
    try:
        found = json.loads(value)
    except ValueError as error:
        return f"invalid JSON: {error}"
    return f"invalid JSON: an object was expected, and this is {type(found).__name__}"


def _pointer(key: str) -> str:
    return "/" + key.replace("~", "~0").replace("/", "~1")


def _plain(structure: Any, is_long: bool) -> Any:
    """A structure with fewer types; `JSON` for one that holds values of several kinds."""
    if isinstance(structure, dict):
        fields = {key: _plain(inner, is_long) for key, inner in structure.items()}
        return "JSON" if "JSON" in fields.values() or not fields else fields
    if isinstance(structure, list):
        inner = _plain(structure[0], is_long)
        return "JSON" if inner == "JSON" else [inner]
    if structure in ("UBIGINT", "BIGINT", "HUGEINT"):
        return "DOUBLE" if is_long else "BIGINT"
    return structure


def _join(one: Any, other: Any) -> Any:
    """The kind of a column that is of one kind here and of another there."""
    if other in (one, "null"):
        return one
    if one == "null":
        return other
    if isinstance(one, str) and isinstance(other, str):
        return "json" if "json" in (one, other) else types.join(one, other)
    joined = _joined(one, other)
    return "json" if joined is None or _fields(joined) > MOST_FIELDS else joined


def _joined(one: Any, other: Any) -> Any:
    """The structure that takes the values of both; None if there is none."""
    if other in (one, "NULL"):
        return one
    if one == "NULL":
        return other
    if isinstance(one, list) and isinstance(other, list):
        inner = _joined(one[0], other[0])
        return None if inner is None else [inner]
    if isinstance(one, dict) and isinstance(other, dict):
        both = {key: _joined(one.get(key, "NULL"), other.get(key, "NULL")) for key in one | other}
        return None if None in both.values() else both
    numbers = ("BIGINT", "DOUBLE")
    return "DOUBLE" if one in numbers and other in numbers else None


def _fields(structure: Any) -> int:
    if isinstance(structure, dict):
        return sum(map(_fields, structure.values()))
    return _fields(structure[0]) if isinstance(structure, list) else 1

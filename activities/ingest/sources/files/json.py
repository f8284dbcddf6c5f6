"""JSON: lines or one array, to Parquet by DuckDB, with values set aside that cannot be taken.

Objects and arrays inside of a value become columns of struct and list types, or JSON text where they are too irregular
for that. Who wants a table of their own for them has dlt's `filesystem` source.
"""

from __future__ import annotations

import codecs
import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from entrepot.activities.ingest.sources.files import column_types as types
from entrepot.activities.ingest.sources.files import numbers
from entrepot.activities.ingest.sources.files import text as texts
from entrepot.activities.ingest.sources.files.folders import KnownColumns, add_folder_columns
from entrepot.activities.ingest.sources.files.reader import Part, Rejected, TextTable, constants, named
from entrepot.activities.ingest.sources.files.text import HEAD, Chunk, Place, chunk_of, too_long, whole_records
from entrepot.activities.ingest.sources.naming import name_of
from entrepot.activities.ingest.sources.quoting import literal, quoted
from entrepot.errors import StepFailed

MOST_FIELDS = 1_000
"""A value with more fields is kept as JSON text: its keys are most likely data."""

_WHOLE = ("UBIGINT", "BIGINT", "HUGEINT")
_WIDER = [("WHOLE", "BIGINT"), ("WHOLE", "DOUBLE")]
_DATES = ("date", "timestamp", "timestamptz", "varchar")
_SCALARS = {kind: kind.lower() for kind in ("VARCHAR", "WHOLE", "BIGINT", "DOUBLE", "BOOLEAN", "NULL")}

_DECODER = json.JSONDecoder(strict=False)
_EXPECTED = {"[": "the array", "v": "a value", ",": "a comma", ".": "nothing more"}


@dataclass(frozen=True)
class _Found:
    """What a chunk has under one name: the key, and its structure as DuckDB tells it, with `WHOLE` for whole numbers
    that a DOUBLE holds as well, and `JSON` for values of several kinds."""

    key: str
    structure: Any


class JsonReader:
    """Turns chunks of one table's files into Parquet.

    A column's kind is one of column_types.KINDS, `json` for JSON text, or a structure: a list for arrays, a dict for
    objects.
    """

    def __init__(self, table: TextTable) -> None:
        self._table = table
        self._files = table.files
        self._sql = table.connection
        self.columns = table.columns
        self._declared: KnownColumns = {}
        """Of the file that is read."""
        self._inexact: set[str] = set()
        """Of the chunk: the numbers that become texts, the keys whose fractions do, and whether whole ones are wide."""
        self._texts: set[str] = set()
        self._has_wide = False

    def chunks(self, path: str, start: Place) -> Iterator[Chunk]:
        """A file's chunks from a place on, one value a line."""
        blocks = texts.text(path, self._files.encoding, size=HEAD)
        if self._files.records:
            begin = _array_at(path, self._files.encoding, self._files.records.split("."))
            return _value_chunks(path, self._files.encoding, start if start.offset else begin, begin)
        first = next((block.lstrip() for block in blocks if block.strip()), b"")
        if first.startswith(b"["):
            return _value_chunks(path, self._files.encoding, start, Place())
        if first.split(b"\n", 1)[0].strip() == b"{":  # an object that is written on several lines
            return _value_chunks(path, self._files.encoding, start, None)
        return _line_chunks(path, self._files.encoding, start)

    def part(self, path: str, chunk: Chunk, target: Path) -> Part:
        """One chunk as Parquet, and the values that were set aside."""
        self._declared = self._table.known(path)
        lines = [line for line in enumerate(chunk.data.split(b"\n")) if line[1].strip()]
        try:
            rejected = self._register(chunk, lines)
            found = self._found(path)
            if twice := self._twice(found):
                rejected |= twice
                found = self._found(path)
            self._learn(found)
            if texts := {here.key for name, here in found.items() if self._is_text_of_numbers(name, here)}:
                self._as_written(lines, texts)
                found = self._found(path)
            return Part(self._copy(path, found, target), target, _aside(chunk, lines, rejected))
        except duckdb.Error as error:
            first = str(error).splitlines()[0]
            raise StepFailed(f"{path}:{chunk.line}: the values from here on cannot be read: {first}") from error
        finally:
            self._sql.execute("DROP TABLE IF EXISTS chunk")

    def _register(self, chunk: Chunk, lines: list[tuple[int, bytes]]) -> dict[int, str]:
        """Makes the table `chunk` of the values that are objects, and whose declared columns are as they should be.

        Returns: the others, by their numbers, with what is wrong with them.
        """
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
        self._put(range(len(lines)), values)
        bad = "NOT json_valid(value) OR json_type(CASE WHEN json_valid(value) THEN value END) <> 'OBJECT'"
        for at, value in self._sql.execute(f"SELECT n, value FROM chunk WHERE {bad} ORDER BY n").fetchall():
            rejected.setdefault(at, _what_is_wrong(value))
        self._drop(rejected)
        rejected |= self._twice_above()
        long = numbers.long(chunk.data)
        self._inexact, self._texts = numbers.inexact(self._sql, long), set()
        self._has_wide = any(numbers.is_wide(number) for number in long - self._inexact)
        asked = [name for name, declared in self._declared.items() if not declared.takes_all]
        declared = self._keys(asked) if asked else {}
        texts = {key for name, keys in declared.items() for key in keys if self._declared[name].takes_digits}
        if self._inexact or (long and texts):
            self._as_written(lines, texts)
        for name, keys in declared.items():
            for key in keys:
                content = f"json_extract_string(value, {literal(_pointer(key))})"
                query = f"SELECT n, {content} FROM chunk WHERE {content} IS NOT NULL"
                query += f" AND NOT {self._declared[name].fits(content)}"
                for at, value in self._sql.execute(query).fetchall():
                    what = f"{value[:100]!r} in the column {name!r} is no {self._declared[name].text}"
                    rejected.setdefault(at, what)
        self._drop(rejected)
        return rejected

    def _twice_above(self) -> dict[int, str]:
        """Takes out the values that have a key twice."""
        first = self._one("SELECT any_value(json_keys(value)) FROM (FROM chunk LIMIT 1)") or []
        known = first if len(set(first)) == len(first) else []  # most have the keys of the first, in its order
        query = "SELECT n, keys FROM (SELECT n, json_keys(value) AS keys FROM chunk)"
        query += f" WHERE CASE WHEN keys = ?::VARCHAR[] THEN false ELSE {_has_twice('keys')} END"
        rejected = {at: _said_twice(keys) for at, keys in self._sql.execute(query, [known]).fetchall()}
        self._drop(rejected)
        return rejected

    def _put(self, at: Iterable[int], values: Any) -> None:
        self._sql.register("given", pa.table({"n": pa.array(at, pa.int64()), "value": values}))
        self._sql.execute("CREATE OR REPLACE TEMP TABLE chunk AS FROM given")
        self._sql.unregister("given")

    def _drop(self, rejected: Mapping[int, str]) -> None:
        if rejected:
            self._sql.execute(f"DELETE FROM chunk WHERE n IN ({', '.join(map(str, rejected))})")

    def _as_written(self, lines: list[tuple[int, bytes]], keys: Collection[str]) -> None:
        """Makes texts of all fractions under some keys, and of numbers that no type of DuckDB's JSON holds."""
        self._texts |= set(keys)
        left = [n for (n,) in self._sql.execute("SELECT n FROM chunk ORDER BY n").fetchall()]
        made = [numbers.as_written(lines[n][1].decode(), self._inexact, self._texts) for n in left]
        self._put(left, pa.array(made, pa.string()))

    def _keys(self, names: list[str]) -> dict[str, list[str]]:
        """The keys that columns have."""
        keys = self._sql.execute("SELECT DISTINCT unnest(json_keys(value)) AS key FROM chunk ORDER BY key").fetchall()
        return {name: [key for (key,) in keys if name_of(key, self._files.rename) == name] for name in names}

    def _twice(self, found: dict[str, _Found]) -> dict[int, str]:
        """Takes out the values in which an object within has a key twice. Where it stays text, it stays as it is."""
        rejected: dict[int, str] = {}
        for path in (path for here in found.values() for path in _objects(here.structure, _path(here.key))):
            keys = f"json_keys(value, {literal(path)})"
            keys = keys if "[*]" in path else f"[{keys}]"
            query = f"SELECT n, list_filter({keys}, lambda k: {_has_twice('k')})[1] AS twice FROM chunk"
            for at, twice in self._sql.execute(f"FROM ({query}) WHERE twice IS NOT NULL").fetchall():
                rejected[at] = _said_twice(twice)
        self._drop(rejected)
        return rejected

    def _found(self, path: str) -> dict[str, _Found]:
        structure_json = self._one("SELECT json_group_structure(value::JSON) FROM chunk")
        structure = json.loads(structure_json) if structure_json else {}
        if not isinstance(structure, dict):  # nothing but empty objects
            return {}
        wide = self._wide(structure) if self._has_wide else set()
        return {
            name: _Found(key, self._whole(name, key, _plain(structure[key], _path(key), wide)))
            for name, key in named({key: key for key in structure}, self._files, path).items()
        }

    def _whole(self, name: str, key: str, structure: Any) -> Any:
        """A structure, filled from that which the column had before, here or in other loads."""
        before = (self.columns.get(name), self._table.begins.get(name))
        known = next((each for each in before if isinstance(each, dict | list)), None)
        if structure == "JSON" and isinstance(known, dict):
            value = f"json_extract(value, {literal(_pointer(key))})"
            is_empty = self._one(f"SELECT bool_and({value}::VARCHAR IN ('{{}}', 'null')) FROM chunk")
            return known if is_empty else structure
        return structure if structure == "NULL" else _filled(structure, known)

    def _wide(self, structure: Any) -> set[str]:
        """The paths of numbers some of which are whole, and more than a DOUBLE holds."""
        paths = [path for key, inner in structure.items() for path in _numeric(inner, _path(key))]
        paths.sort(key=lambda path: "[*]" in path)  # DuckDB reads those without all at once
        single = [path for path in paths if "[*]" not in path]
        asked = [f"bool_or({numbers.wide_sql(f'texts[{n}]')})" for n in range(1, len(single) + 1)]
        for path in paths[len(single) :]:
            texts = f"json_extract_string(value, {literal(path)})"
            asked.append(f"bool_or(len(list_filter({texts}, lambda x: {numbers.wide_sql('x')})) > 0)")
        texts = f"json_extract_string(value, [{', '.join(map(literal, single))}]::VARCHAR[])"
        answers = self._sql.execute(
            f"SELECT {', '.join([*asked, 'NULL'])} FROM (SELECT value, {texts} AS texts FROM chunk)"
        ).fetchall()[0]
        return {path for path, answer in zip(paths, answers, strict=False) if answer}

    def _learn(self, found: dict[str, _Found]) -> None:
        for name, here in found.items():
            known = self.columns.get(name) or types.scalar(self._table.begins.get(name))
            self.columns[name] = _join(known, self._kind(here, known))
        add_folder_columns(self.columns, self._declared)

    def _is_text_of_numbers(self, name: str, found: _Found) -> bool:
        """Whether a key's values are kept as text, and some are fractions, which DuckDB would write in its own way."""
        declared = self._declared.get(name)
        is_text = declared.type == "VARCHAR" if declared else self.columns[name] == "varchar"
        if not is_text or found.structure not in ("DOUBLE", "JSON"):
            return False
        kind = f"json_type(value, {literal(_pointer(found.key))})"
        return bool(self._one(f"SELECT bool_or({kind} = 'DOUBLE') FROM chunk"))

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
        columns = ", ".join([*selected, *constants(self._table.own, path)]) or "NULL::VARCHAR AS empty"
        query = f"COPY (SELECT {columns} FROM (SELECT {read} AS row FROM chunk)) TO {literal(str(target))}"
        rows = int(self._one(f"{query} (FORMAT parquet)"))
        types.without_types(target, [n for n, k in self.columns.items() if k == "null" and n not in self._declared])
        return rows

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
        plain = kind in ("whole", "bigint", "double", "boolean") and name not in self._declared
        return types.SQL_TYPES[kind] if plain else "VARCHAR"

    def _selected(self, name: str, found: _Found | None) -> str:
        declared, kind = self._declared.get(name), self.columns[name]
        if kind == "null" and not declared:
            return f"NULL AS {quoted(name)}"
        if found is None:
            return f"{declared.absent if declared else f'NULL::{sql_type(kind)}'} AS {quoted(name)}"
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
    return "VARCHAR" if kind == "json" else types.SQL_TYPES.get(kind.lower(), kind)


def is_kept_as(one: Any, other: Any) -> bool:
    """Whether values of one kind are written as those of the other."""
    return one == other or ("json" not in (one, other) and sql_type(one) == sql_type(other))


def _aside(chunk: Chunk, lines: list[tuple[int, bytes]], rejected: Mapping[int, str]) -> list[Rejected]:
    aside = []
    for at in sorted(rejected):
        number, line = lines[at]
        where = chunk.lines[number] if chunk.lines else chunk.line + number
        aside.append(Rejected(where, rejected[at], line.decode(errors="replace")))
    return aside


def _asked(structure: Any) -> Any:
    """What DuckDB is asked to make of a structure."""
    if isinstance(structure, dict):
        return {key: _asked(inner) for key, inner in structure.items()}
    return [_asked(structure[0])] if isinstance(structure, list) else sql_type(structure)


def _what_is_wrong(value: str) -> str:
    try:
        found = json.loads(value)
    except ValueError as error:
        return f"invalid JSON: {error}"
    return f"invalid JSON: an object was expected, and this is {type(found).__name__}"


def _pointer(key: str) -> str:
    return "/" + key.replace("~", "~0").replace("/", "~1")


def _path(*keys: str) -> str:
    return "$" + "".join('."' + key.replace("\\", "\\\\").replace('"', '\\"') + '"' for key in keys)


def _within(structure: Any, path: str) -> Iterator[tuple[Any, str]]:
    """What a structure is made of, itself included, and the paths."""
    yield structure, path
    if isinstance(structure, dict):
        for key, inner in structure.items():
            yield from _within(inner, path + _path(key)[1:])
    elif isinstance(structure, list):
        yield from _within(structure[0], f"{path}[*]")


def _objects(structure: Any, path: str) -> list[str]:
    return [where for inner, where in _within(structure, path) if isinstance(inner, dict)]


def _numeric(structure: Any, path: str) -> list[str]:
    return [where for inner, where in _within(structure, path) if inner in (*_WHOLE, "DOUBLE")]


def _has_twice(keys: str) -> str:
    return f"len(list_distinct({keys})) < len({keys})"


def _said_twice(keys: list[str]) -> str:
    return f"the key {next(key for key, times in Counter(keys).items() if times > 1)!r} is there twice"


def _plain(structure: Any, path: str, wide: Collection[str]) -> Any:
    """A structure with fewer types. `wide`: the paths of whole numbers that a DOUBLE would round."""
    if isinstance(structure, dict):
        fields = {key: _plain(inner, path + _path(key)[1:], wide) for key, inner in structure.items()}
        return "JSON" if "JSON" in fields.values() or not fields else fields
    if isinstance(structure, list):
        inner = _plain(structure[0], f"{path}[*]", wide)
        return "JSON" if inner == "JSON" else [inner]
    if structure in _WHOLE:
        return "BIGINT" if path in wide else "WHOLE"
    return "JSON" if structure == "DOUBLE" and path in wide else structure


def _filled(structure: Any, known: Any) -> Any:
    """A structure, with what is known of the column where no value says anything: in `[]` and NULL."""
    if isinstance(structure, list) and isinstance(known, list):
        return [_filled(structure[0], known[0])]
    if isinstance(structure, dict) and isinstance(known, dict):
        return {key: _filled(inner, known.get(key)) for key, inner in structure.items()}
    return known if structure == "NULL" and known else structure


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
    return other if (one, other) in _WIDER else one if (other, one) in _WIDER else None


def _fields(structure: Any) -> int:
    if isinstance(structure, dict):
        return sum(map(_fields, structure.values()))
    return _fields(structure[0]) if isinstance(structure, list) else 1


def _line_chunks(path: str, encoding: str, start: Place) -> Iterator[Chunk]:
    """A file of JSON, one value a line."""
    rest, here = yield from whole_records(path, encoding, start, lambda data: data.rfind(b"\n") + 1)
    if rest:
        yield chunk_of(rest, here)


def _array_at(path: str, encoding: str, keys: Sequence[str]) -> Place:
    """Where an array begins that a JSON object has under some keys, one within the other.

    Raises:
        StepFailed: if it has none.
    """
    begin = b""
    for block in texts.text(path, encoding):
        begin += block
        known = begin.decode("utf-8", "surrogateescape")
        try:
            at = _array_begin(known, keys)
        except (IndexError, json.JSONDecodeError) as error:
            if len(begin) > texts.LONGEST:
                raise StepFailed(too_long(path, 1)) from error
            continue  # more text is needed to know
        if at is not None:
            before = known[:at].encode("utf-8", "surrogateescape")
            return Place(len(before), 1 + before.count(b"\n"))
        break
    raise StepFailed(f"the file {path!r} has no array of rows under {'.'.join(keys)!r}, which `records` names")


def _array_begin(text: str, keys: Sequence[str]) -> int | None:
    at = _behind_space(text, 0)
    for key in keys:
        if text[at] != "{":
            return None
        name = None
        while name != key:
            at = _behind_space(text, at + 1)
            if text[at] == "}":
                return None
            name, at = _DECODER.raw_decode(text, at)
            at = _behind_space(text, _behind_space(text, at) + 1)
            if name != key:
                at = _behind_space(text, _DECODER.raw_decode(text, at)[1])
                if text[at] == "}":
                    return None
    return at if text[at] == "[" else None


def _behind_space(text: str, at: int) -> int:
    while text[at] in " \t\r\n":
        at += 1
    return at


def _value_chunks(path: str, encoding: str, start: Place, array: Place | None) -> Iterator[Chunk]:
    """The values of a JSON array, or of a file that is one value after another, each put on a line of its own.

    No library does it: DuckDB reads an array as a whole, and ijson, for one, tells neither the line of a value, which
    errors need, nor where it ends, from where a read continues.

    Args:
        array: Where the array begins; None: there is none.

    Raises:
        StepFailed: for invalid JSON, even where bad rows are rejected: what comes behind it cannot be told apart.
    """
    values, lines, size, end = [], [], 0, start
    for value, line, end in _values(path, encoding, start, array):
        values.append(value)
        lines.append(line)
        size += len(value)
        if size >= texts.CHUNK:
            yield Chunk(b"\n".join(values), lines[0], end, tuple(lines))
            values, lines, size = [], [], 0
    if values:
        yield Chunk(b"\n".join(values), lines[0], end, tuple(lines))


def _values(path: str, encoding: str, start: Place, array: Place | None) -> Iterator[tuple[bytes, int, Place]]:
    """Each value, its line, and where it ends."""
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    blocks = texts.text(path, encoding, start.offset)
    rest, at, line = "", 0, start.line
    offset, behind = start.offset, 0  # the bytes of the text before the character `behind` of the rest
    # One of: [ (the start), v (a value or the end), , (a comma or the end), . (nothing)
    follows = "," if array else "v"
    expected, ended = "[" if array and start.offset == array.offset else follows, False
    while True:
        while at < len(rest):
            char = rest[at]
            if char in " \t\r\n":
                line += char == "\n"
                at += 1
            elif expected == "v" and not (char == "]" and array):
                end = _value_end(rest, at, ended, path, line)
                if end is None:
                    break
                value = rest[at:end].encode("utf-8", "surrogateescape")
                offset, behind = offset + at - behind + len(value), end  # between values, all is ASCII
                first, line = line, line + value.count(b"\n")
                # Between tokens a tab is as good as the end of a line, and within a text as wrong.
                yield value.replace(b"\n", b"\t").replace(b"\r", b"\t"), first, Place(offset, line)
                at, expected = end, follows
            elif char == "," and expected == ",":
                at, expected = at + 1, "v"
            elif char == "]" and expected in "v,":
                at, expected = at + 1, "."
                if array and array.offset:  # what comes behind it is of the object around
                    return
            elif char == "[" and expected == "[":
                at, expected = at + 1, "v"
            else:
                found = rest[at : at + 40]
                raise StepFailed(f"{path}:{line}: invalid JSON: {found!r} where {_EXPECTED[expected]} was expected")
        if ended:
            break
        block = next(blocks, None)
        ended = block is None
        offset += at - behind
        rest, at, behind = rest[at:] + decoder.decode(block or b"", ended), 0, 0
    if array and expected != ".":
        raise StepFailed(f"{path}:{line}: invalid JSON: the array does not end")


def _value_end(rest: str, at: int, ended: bool, path: str, line: int) -> int | None:
    """Where the JSON value at `at` ends; None if more text is needed to know."""
    try:
        _, end = _DECODER.raw_decode(rest, at)
    except json.JSONDecodeError as error:
        if ended:
            bad = line + rest.count("\n", at, error.pos)
            raise StepFailed(f"{path}:{bad}: invalid JSON: {error.msg}") from error
        if len(rest) - at > texts.LONGEST:
            raise StepFailed(too_long(path, line)) from error
        return None
    return None if end == len(rest) and not ended else int(end)  # a number may go on in the next block

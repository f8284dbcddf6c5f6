"""Numbers of JSON that a DOUBLE or 64 bits may not hold: found in the text, since a parser rounds them in silence."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from typing import Any

import duckdb

from entrepot.activities.ingest.schema_evolution import DOUBLE_HOLDS
from entrepot.activities.ingest.sources.files import column_types as types

_TO_ZEROS = bytes.maketrans(b"123456789.E", b"0000000000e")
_MAY_BE_LONG = (re.compile(b"0000000000000000+"), re.compile(rb"0e[+-]?000"))
"""More than fifteen digits, or an exponent of three, once all digits are zeros."""

_NUMBER = re.compile(rb"-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_OF_NUMBERS = b"0123456789.eE+-"


def long(data: bytes) -> set[str]:
    """The numbers in a text of JSON that are so long that they may have to be rounded. Some may be parts of texts."""
    found = set()
    zeros = data.translate(_TO_ZEROS)
    for pattern in _MAY_BE_LONG:
        for match in pattern.finditer(zeros):
            start = match.start()
            while start and data[start - 1] in _OF_NUMBERS:
                start -= 1
            if data[start - 1 : start] in (b":", b",", b"[", b" ", b"\t") and (number := _NUMBER.match(data, start)):
                found.add(number[0].decode())
    return found


def inexact(connection: duckdb.DuckDBPyConnection, numbers: Collection[str]) -> set[str]:
    """Those that neither 64 bits nor a DOUBLE hold."""
    fits = " OR ".join(types.fits(kind, "t") for kind in ("bigint", "double"))
    query = f"SELECT t FROM (SELECT unnest(?) AS t) WHERE NOT ({fits})"
    return {text for (text,) in connection.execute(query, [list(numbers)]).fetchall()} if numbers else set()


def is_wide(number: str) -> bool:
    """Whether it is a whole number, and more than a DOUBLE holds."""
    return "." not in number and number.lstrip("-").isdigit() and abs(int(number)) > DOUBLE_HOLDS


def wide_sql(text: str) -> str:
    """The same in SQL, of 64 bits."""
    return f"(regexp_full_match({text}, '-?[0-9]{{16,19}}') AND abs(TRY_CAST({text} AS HUGEINT)) > {DOUBLE_HOLDS})"


class _Fraction(float):
    """A fraction, and how it is written."""

    written: str


def as_written(value: str, inexact: Collection[str], keys: Collection[str]) -> str:
    """A JSON object in which some numbers, and all fractions under some of its keys, are texts."""

    def whole(text: str) -> int | str:
        return text if text in inexact else int(text)

    def fraction(text: str) -> Any:
        if text in inexact:
            return text
        made = _Fraction(text)
        made.written = text
        return made

    read = json.loads(value, parse_int=whole, parse_float=fraction)
    for key in keys:
        if isinstance(found := read.get(key), _Fraction):
            read[key] = found.written
    return json.dumps(read)

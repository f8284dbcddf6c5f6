"""The records of CSV in a text: where each begins and ends, and how DuckDB has to be given them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from entrepot.errors import BadInput

_RECORD_ENDS = (b"\n", b"\r\n", b"\r", b"")


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

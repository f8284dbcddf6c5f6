"""The type of a column of texts: the narrowest one that loses nothing of any of its values.

Whole numbers, dates and times count as such where they are written in the one usual way, so that text made of them
again is the same: `007` and `1.0` are no whole numbers, and a column that has `007` is text.
"""

from __future__ import annotations

from collections.abc import Sequence

import ibis.expr.datatypes as dt
from ibis.backends.sql.datatypes import DuckDBType

from entrepot.errors import BadInput

_CLOCK = r"([01][0-9]|2[0-3]):[0-5][0-9]"
_SECONDS = r"(:[0-5][0-9](\.[0-9]{1,6}0{0,3})?)"
_DAY = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
_ZONE = r"(Z|[+-][0-9]{2}(:?[0-9]{2})?)"
_NUMBER = r"[+-]?(0|[1-9][0-9]{0,18})?(\.[0-9]+)?([eE][+-]?[0-9]{1,3})?|[+-]?(0|[1-9][0-9]{0,18})\."


def _written(pattern: str) -> str:
    return f"(¤ IS NOT NULL AND regexp_full_match(§, '{pattern}'))"


_FITS = {
    "null": "(§ IS NULL)",
    "boolean": "(lower(§) IN ('true', 'false'))",
    "bigint": "coalesce(CAST(¤ AS VARCHAR) = §, false)",
    "double": _written(_NUMBER),
    "date": "coalesce(CAST(¤ AS VARCHAR) = §, false)",
    "time": _written(_CLOCK + _SECONDS),
    "timestamp": _written(f"{_DAY}([ T]{_CLOCK}{_SECONDS}?)?"),
    "timestamptz": _written(f"{_DAY}[ T]{_CLOCK}{_SECONDS}?{_ZONE}"),
    "varchar": "(true)",
}
"""Kinds of columns, the narrower ones first, and what each asks of a text, for which `§` stands, and of what
it was cast to, `¤`."""

KINDS = tuple(_FITS)

SQL_TYPES = {kind: kind.upper() for kind in _FITS} | {"null": "VARCHAR"}

_WIDER = {("bigint", "double"), ("date", "timestamp")}


def fits(kind: str, text: str, cast: str | None = None) -> str:
    """SQL for whether a text, which is not NULL, is of a kind; `cast` stands for its value where that is there."""
    return _FITS[kind].replace("¤", cast or value(kind, text)).replace("§", text)


def all_fit(kind: str, text: str) -> str:
    """SQL for an aggregate: whether all texts, apart from NULLs, are of a kind."""
    return f"coalesce(bool_and({fits(kind, text)}) FILTER (WHERE {text} IS NOT NULL), true)"


def join(one: str, other: str) -> str:
    """The narrowest kind that takes the values of both."""
    if other in (one, "null"):
        return one
    if one == "null" or (one, other) in _WIDER:
        return other
    return one if (other, one) in _WIDER else "varchar"


def value(kind: str, text: str) -> str:
    """SQL for the value of a text that fits."""
    if kind in ("null", "varchar"):
        return text
    return f"(lower({text}) = 'true')" if kind == "boolean" else f"TRY_CAST({text} AS {SQL_TYPES[kind]})"


def kinds_sql(text: str, kinds: Sequence[str]) -> str:
    """SQL for an aggregate: the first of these kinds that takes every one of the texts."""
    tests = " ".join(f"WHEN {all_fit(kind, text)} THEN '{kind}'" for kind in kinds if kind != "null")
    return f"CASE WHEN count({text}) = 0 THEN 'null' {tests} END"


class Declared:
    """A type that the user has declared: what a text must be to be taken, and how it is read.

    Raises:
        BadInput: for a text that is no type.
    """

    def __init__(self, column: str, declared: str) -> None:
        try:
            dtype = dt.dtype(declared)
        except Exception as error:
            raise BadInput(f"the type {declared!r} of the column {column!r} is not known") from error
        self.text = declared
        self.dtype = dtype
        is_text = dtype.is_string() or dtype.is_json()
        self.type = "VARCHAR" if is_text else DuckDBType.to_string(dtype)
        if dtype.is_timestamp() and dtype.timezone:
            self.type = "TIMESTAMPTZ"
        self._fits = "(true)" if is_text else "(¤ IS NOT NULL)"
        if dtype.is_integer():  # DuckDB would round 1.5
            self._fits = f"(regexp_full_match(§, '[+-]?[0-9]+') AND {self._fits})"
        elif dtype.is_date():
            self._fits = f"(strlen(§) <= 10 AND {self._fits})"
        elif dtype.is_timestamp() and not dtype.timezone:  # and would forget the zone
            self._fits = f"(NOT regexp_matches(§, '[ T].*{_ZONE}$') AND {self._fits})"

    def fits(self, text: str, cast: str | None = None) -> str:
        """SQL for whether a text, which is not NULL, is of the type; `cast`: its value where that is there."""
        return self._fits.replace("¤", cast or self.value(text)).replace("§", text)

    def value(self, text: str) -> str:
        """SQL for the value of a text that fits."""
        return text if self.type == "VARCHAR" else f"TRY_CAST({text} AS {self.type})"

"""The type of a column of texts: the narrowest one that loses nothing of any of its values.

Whole numbers, dates and times count as such where they are written in the one usual way, so that text made of them
again is the same: `007` and `+49` are no numbers, and a column that has one of them is text. A fraction counts as a
DOUBLE where that gives all its digits back, and so do infinity and what is no number, as programs write them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import ibis.expr.datatypes as dt
import ibis.expr.schema as sch
import pyarrow as pa
import pyarrow.parquet

from entrepot.activities.ingest.schema_evolution import DOUBLE_HOLDS
from entrepot.activities.ingest.sources.quoting import literal
from entrepot.backends.duckdb.types import Types
from entrepot.backends.sql.parquet import rewritten
from entrepot.errors import BadInput
from entrepot.identity.expression import type_from

_CLOCK = r"([01][0-9]|2[0-3]):[0-5][0-9]"
_SECONDS = r"(:[0-5][0-9](\.[0-9]{1,6}0{0,3})?)"
_DAY = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
_ZONE = r"(Z|[+-][0-9]{2}(:?[0-9]{2})?)"
_NUMBER = r"-?(0|[1-9][0-9]*)?(\.[0-9]+)?([eE][+-]?[0-9]{1,3})?|-?(0|[1-9][0-9]*)\."
_SHORT = _NUMBER.replace("{1,3}", "{1,2}")
"""A DOUBLE gives back 15 digits, whatever they are; longer texts are asked one by one."""

_NO_DIGITS = "'NaN', 'nan', 'inf', '-inf', 'Infinity', '-Infinity'"
"""How pandas, DuckDB and Spark write the values of a DOUBLE that have none."""

_PUT_BACK = ("30 minutes", "1 hour", "2 hours")
"""By how much clocks are put back at the end of summer."""


def _written(pattern: str) -> str:
    return f"(¤ IS NOT NULL AND regexp_full_match(§, '{pattern}'))"


def _digits(text: str) -> str:
    """SQL for the digits that a number's value has."""
    return f"trim(replace(replace(regexp_replace({text}, '[eE].*', ''), '.', ''), '-', ''), '0')"


def _double() -> str:
    again = _digits(f"format('{{:.' || greatest(strlen({_digits('§')}) - 1, 0) || 'e}}', ¤)")
    is_safe = f"(NOT regexp_full_match(§, '-?[0-9]+') OR abs(¤) <= {DOUBLE_HOLDS})"
    return (
        f"(¤ IS NOT NULL AND CASE WHEN strlen(§) <= 15 AND regexp_full_match(§, '{_SHORT}') THEN true "
        "WHEN CAST(¤ AS VARCHAR) = § AND isfinite(¤) THEN true "
        f"WHEN § IN ({_NO_DIGITS}) THEN true "
        f"ELSE regexp_full_match(§, '{_NUMBER}') AND isfinite(¤) AND {is_safe} AND {_digits('§')} = {again} END)"
    )


_FITS = {
    "null": "(§ IS NULL)",
    "boolean": "(lower(§) IN ('true', 'false'))",
    "whole": f"coalesce(CAST(¤ AS VARCHAR) = § AND ¤ BETWEEN -{DOUBLE_HOLDS} AND {DOUBLE_HOLDS}, false)",
    "bigint": "coalesce(CAST(¤ AS VARCHAR) = §, false)",
    "double": _double(),
    "date": "coalesce(CAST(¤ AS VARCHAR) = §, false)",
    "time": _written(_CLOCK + _SECONDS),
    "timestamp": _written(f"{_DAY}([ T]{_CLOCK}{_SECONDS}?)?"),
    "timestamptz": _written(f"{_DAY}[ T]{_CLOCK}{_SECONDS}?{_ZONE}"),
    "varchar": "(true)",
}
"""Kinds of columns, the narrower ones first, and what each asks of a text, for which `§` stands, and of what
it was cast to, `¤`. `whole` numbers are those that a DOUBLE can hold as well: no others can stand beside fractions."""

KINDS = tuple(_FITS)

SQL_TYPES = {kind: kind.upper() for kind in _FITS} | {"null": "VARCHAR", "whole": "BIGINT"}

NUMBERS = ("whole", "bigint", "double")

Columns = dict[str, Any]
"""The columns that were met so far, in order, and the kind of each: one of `KINDS`, or one that json.py has besides."""

_WIDER = {("whole", "bigint"), ("whole", "double"), ("date", "timestamp")}


def kinds_of(columns: sch.Schema, wide: Collection[str]) -> Columns:
    """The kinds that columns of these types begin with: a text stays one though a file has nothing but digits.

    Args:
        wide: The columns of whole numbers in which some are beyond what a DOUBLE holds.
    """
    kinds = {
        name: next((kind for kind in KINDS if SQL_TYPES[kind] == sql_type(dtype) and kind != "null"), None)
        for name, dtype in columns.items()
    }
    known: Columns = {name: "bigint" if name in wide else kind for name, kind in kinds.items() if kind}
    nested = {n: _structure(dtype, n in wide) for n, dtype in columns.items() if dtype.is_array() or dtype.is_struct()}
    return known | {name: structure for name, structure in nested.items() if structure is not None}


def _structure(dtype: dt.DataType, is_wide: bool) -> Any:
    """What json.py calls a value of a type within a list or an object; None for a type that it does not make."""
    if dtype.is_array():
        return None if (inner := _structure(dtype.value_type, is_wide)) is None else [inner]
    if dtype.is_struct():
        fields = {name: _structure(inner, is_wide) for name, inner in dtype.items()}
        return None if None in fields.values() else fields
    whole = "BIGINT" if is_wide else "WHOLE"
    return {"BIGINT": whole, "DOUBLE": "DOUBLE", "BOOLEAN": "BOOLEAN", "VARCHAR": "VARCHAR"}.get(sql_type(dtype))


def scalar(begins: Any) -> str:
    """The kind that a column begins with, where that is no structure."""
    return begins if isinstance(begins, str) else "null"


def fits(kind: str, text: str, cast: str | None = None) -> str:
    """SQL for whether a text, which is not NULL, is of a kind; `cast` stands for its value where that is there."""
    return _FITS[kind].replace("¤", cast or value(kind, text)).replace("§", text)


def number(decimal: str, thousands: str) -> Callable[[str], str]:
    """How SQL makes of a text the number that it would be with a point and without marks between thousands.

    Raises:
        BadInput: for marks that cannot be told from each other, or from digits.
    """
    if (
        len(decimal) != 1
        or len(thousands) > 1
        or decimal == thousands
        or set(decimal + thousands) & set("0123456789-+eE")
    ):
        raise BadInput(f"`decimal` and `thousands` must be two different marks, and are {decimal!r} and {thousands!r}")
    if (decimal, thousands) == (".", ""):
        return lambda text: text
    point, mark = (re.escape(sign).replace("'", "''") for sign in (decimal, thousands))
    whole = f"([0-9]+|[0-9]{{1,3}}({mark}[0-9]{{3}})+)" if mark else "[0-9]+"
    pattern = f"-?({whole}({point}[0-9]*)?|{point}[0-9]+)([eE][+-]?[0-9]+)?"

    def plain(text: str) -> str:
        made = f"replace({text}, {literal(thousands)}, '')" if thousands else text
        number = f"WHEN regexp_full_match({text}, '{pattern}') THEN replace({made}, {literal(decimal)}, '.')"
        return f"CASE {number} WHEN {text} IN ({_NO_DIGITS}) THEN {text} END"

    return plain


def all_fit(kind: str, text: str, number: Callable[[str], str] = lambda text: text) -> str:
    """SQL for an aggregate: whether all texts, apart from NULLs, are of a kind. `number`: see `number`."""
    plain = number(text) if kind in NUMBERS else text
    return f"coalesce(bool_and({fits(kind, plain)}) FILTER (WHERE {text} IS NOT NULL), true)"


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


def kinds_sql(text: str, kinds: Sequence[str], number: Callable[[str], str] = lambda text: text) -> str:
    """SQL for an aggregate: the first of these kinds that takes every one of the texts."""
    tests = " ".join(f"WHEN {all_fit(kind, text, number)} THEN '{kind}'" for kind in kinds if kind != "null")
    return f"CASE WHEN count({text}) = 0 THEN 'null' {tests} END"


class Declared:
    """A type that the user has declared: what a text must be to be taken, and how it is read.

    A text that the type would round or cut is none of its values. A time without a zone is that of the clocks in the
    type's zone, and none where those have shown it never, or twice.

    Raises:
        BadInput: for a text that is no type.
    """

    def __init__(self, column: str, declared: str) -> None:
        try:
            self.dtype = type_from(declared)
        except Exception as error:
            raise BadInput(f"the type {declared!r} of the column {column!r} is not known") from error
        self.text = declared
        self.type = sql_type(self.dtype)
        self._zone = self.dtype.timezone if self.dtype.is_timestamp() else None
        self._fits = " AND ".join(["(true)" if self.type == "VARCHAR" else "(¤ IS NOT NULL)", *_exact(self.dtype)])

    @property
    def takes_all(self) -> bool:
        """Whether every text is of the type."""
        return self.type == "VARCHAR"

    @property
    def absent(self) -> str:
        """SQL for the value in rows that do not have the column."""
        return f"NULL::{self.type}"

    @property
    def is_number(self) -> bool:
        """Whether its texts may be written with other marks."""
        return bool(self.dtype.is_numeric())

    @property
    def takes_digits(self) -> bool:
        """Whether it holds more digits than a DOUBLE, so that numbers must come as they are written."""
        return self.type == "VARCHAR" or self.dtype.is_decimal() or self.dtype.is_integer()

    def fits(self, text: str, cast: str | None = None) -> str:
        """SQL for whether a text, which is not NULL, is of the type; `cast`: its value where that is there."""
        return f"({self._fits})".replace("¤", cast or self.value(text)).replace("§", text)

    def value(self, text: str) -> str:
        """SQL for the value of a text that fits."""
        if self.type == "VARCHAR":
            return text
        if self._zone in (None, "UTC"):
            return f"TRY_CAST({text} AS {self.type})"
        here = f"timezone({literal(self._zone)}, TRY_CAST({text} AS TIMESTAMP))"
        return f"CASE WHEN {_has_zone(text)} THEN TRY_CAST({text} AS TIMESTAMPTZ) ELSE {here} END"


def sql_type(dtype: dt.DataType) -> str:
    """DuckDB's type for values of a type."""
    if dtype.is_string() or dtype.is_json():
        return "VARCHAR"
    if dtype.is_timestamp():
        return "TIMESTAMPTZ" if dtype.timezone else {9: "TIMESTAMP_NS"}.get(dtype.scale or 6, "TIMESTAMP")
    return str(Types.to_string(dtype))


def _has_zone(text: str) -> str:
    return f"regexp_matches({text}, '[ T].*{_ZONE}$')"


def _exact(dtype: dt.DataType) -> list[str]:
    """What a text must not have, since DuckDB's cast would round it, cut it, or leave it out."""
    if dtype.is_integer():
        return ["regexp_full_match(§, '[+-]?[0-9]+')"]
    if dtype.is_decimal():
        scale = Types.default_decimal_scale if dtype.scale is None else dtype.scale
        places = f"[0-9]{{0,{scale}}}0*"
        plain = f"regexp_full_match(§, '[+-]?([0-9]+(\\.{places})?|\\.{places})')"
        return [f"({plain} OR (contains(lower(§), 'e') AND CAST(¤ AS DOUBLE) = TRY_CAST(§ AS DOUBLE)))"]
    if dtype.is_floating():  # the nearest one to a fraction; a whole number is there or not
        return [
            "NOT contains(§, '_')",
            "(isfinite(¤) OR NOT regexp_matches(§, '[0-9]'))",
            "(NOT regexp_full_match(§, '[+-]?[0-9]{8,}') OR TRY_CAST(¤ AS HUGEINT) = TRY_CAST(§ AS HUGEINT))",
        ]
    if dtype.is_date():
        return ["strlen(§) <= 10"]
    if dtype.is_time():
        return [_no_finer_than(6)]
    if dtype.is_timestamp():
        finest = dtype.scale if dtype.scale is not None else 6
        if not dtype.timezone:
            return [_no_finer_than(finest), f"NOT {_has_zone('§')}"]
        return [_no_finer_than(min(finest, 6)), *_one_time(dtype.timezone)]
    return []


def without_types(path: Path, columns: Collection[str]) -> None:
    """Makes columns of a Parquet file that have no values such that have no type: DuckDB writes them as INTEGER."""
    if not columns:
        return
    schema = pyarrow.parquet.read_schema(path)
    typed = [name for name in columns if not pa.types.is_null(schema.field(name).type)]
    if not typed:
        return

    def column(batch: pa.RecordBatch, field: pa.Field) -> pa.Array:
        return pa.nulls(batch.num_rows) if field.name in typed else batch.column(field.name)

    wanted = pa.schema([pa.field(each.name, pa.null()) if each.name in typed else each for each in schema])
    Path(rewritten(str(path), str(path.parent), wanted, column)).replace(path)


def _no_finer_than(places: int) -> str:
    return f"NOT regexp_matches(§, '\\.[0-9]{{{places}}}[0-9]*[1-9]')"


def _one_time(zone: str) -> list[str]:
    """SQL for whether the clocks of a zone have shown a time once."""
    if zone == "UTC":
        return []
    clock, local = f"timezone({literal(zone)}, {{}})", "TRY_CAST(§ AS TIMESTAMP)"
    again = [f"{clock.format(f'¤ {sign} INTERVAL {literal(by)}')} = {local}" for by in _PUT_BACK for sign in "+-"]
    return [f"({_has_zone('§')} OR ({clock.format('¤')} = {local} AND NOT ({' OR '.join(again)})))"]

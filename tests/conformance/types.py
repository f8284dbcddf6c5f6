"""Every type, with the values that have been lost, rounded or turned into others somewhere."""

from __future__ import annotations

import datetime as d
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal as D
from typing import Any

import ibis
import ibis.expr.datatypes as dt
import pyarrow as pa

UTC = d.UTC


@dataclass(frozen=True)
class TypeCase:
    """One column of one type. NULL is added to its values unless told otherwise."""

    id: str
    group: str
    dtype: str
    """As ibis writes it."""
    values: Sequence[Any]
    arrow: pa.DataType | None = None
    """In the file, where it is not what ibis makes of the type."""
    has_null: bool = True

    def table(self) -> pa.Table:
        """The rows, as they come from a source."""
        values = [*self.values, None] if self.has_null else list(self.values)
        kind = self.arrow or ibis.dtype(self.dtype).to_pyarrow()
        return pa.table({"id": pa.array(range(len(values)), pa.int64()), "value": pa.array(values, kind)})


def family(dtype: dt.DataType) -> str:
    """What a type is good for. Whole numbers may be decimals without places: that is what Snowflake has."""
    if dtype.is_integer() or (dtype.is_decimal() and dtype.scale == 0):
        return "whole number"
    if dtype.is_timestamp():
        return "timestamp with zone" if dtype.timezone else "timestamp"
    for kind in (
        "decimal",
        "floating",
        "string",
        "boolean",
        "date",
        "time",
        "binary",
        "json",
        "array",
        "struct",
        "map",
    ):
        if getattr(dtype, f"is_{kind}")():
            return kind
    return str(dtype)


def _whole(bits: int, *, signed: bool) -> TypeCase:
    name = f"{'' if signed else 'u'}int{bits}"
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    return TypeCase(name, "Whole numbers" if signed else "Unsigned whole numbers", name, [0, 1, low, high])


_TEXTS = [
    "",
    " ",
    "NULL",
    "null",
    "\\N",
    "nan",
    "it's",
    'quo"ted',
    "back\\slash",
    "a,b;c|d",
    "tab\tline\nreturn\r",
    "äöüß €",
    "👩‍🚀🎉",
    "e\u0301 is not \u00e9",
    "שלום \u202eעולם",
    "日本語",
    "\ufeffmark",
    "\u0001",
    "{}",
    "x" * 5000,
]

_LARGEST = 1.7976931348623157e308
_AT = [
    d.datetime(1970, 1, 1),
    d.datetime(1969, 12, 31, 23, 59, 59, 999999),
    d.datetime(2024, 3, 31, 2, 30),  # does not exist in Berlin
    d.datetime(2024, 10, 27, 2, 30),  # is there twice
    d.datetime(2024, 2, 29, 23, 59, 59, 123456),
    d.datetime(1900, 1, 1, 0, 0, 0, 1),
]

_DOCUMENTS: list[Any] = [
    {"a": {"b": [1, 2.5, "x", None, True]}},
    [],
    {},
    "text",
    12345678901234567,
    {"ä": "👩‍🚀", "q": 'it\'s "q" \\'},
]

CASES: list[TypeCase] = [
    *(_whole(bits, signed=True) for bits in (8, 16, 32, 64)),
    *(_whole(bits, signed=False) for bits in (8, 16, 32, 64)),
    TypeCase(
        "decimal_10_2", "Decimals", "decimal(10, 2)", [D("0.00"), D("-0.01"), D("99999999.99"), D("-99999999.99")]
    ),
    TypeCase("decimal_38_0", "Decimals", "decimal(38, 0)", [D("0"), D("9" * 38), D("-" + "9" * 38)]),
    TypeCase("decimal_38_9", "Decimals", "decimal(38, 9)", [D("0.000000001"), D("9" * 29 + "." + "9" * 9)]),
    TypeCase("decimal_38_37", "Decimals", "decimal(38, 37)", [D("0." + "0" * 36 + "1"), D("-9." + "9" * 37)]),
    TypeCase(
        "decimal_38_38", "Decimals of 38 places", "decimal(38, 38)", [D("0." + "0" * 37 + "1"), D("-0." + "9" * 38)]
    ),
    TypeCase(
        "float64", "Floats", "float64", [0.0, 0.1, -1.5, 5e-324, 2.2250738585072014e-308, _LARGEST, -_LARGEST, 1 / 3]
    ),
    TypeCase("float64_special", "NaN and infinity", "float64", [math.nan, math.inf, -math.inf]),
    TypeCase("float32", "Floats", "float32", [0.0, 0.5, -1.5, 2.0**-149, 3.4028234663852886e38]),
    TypeCase("float32_special", "NaN and infinity", "float32", [math.nan, math.inf, -math.inf]),
    TypeCase("boolean", "Booleans", "boolean", [True, False]),
    TypeCase("string", "Strings", "string", _TEXTS),
    TypeCase("string_large", "Strings", "string", ["ä" * 1_000_000, "", "y" * 1_000_000]),
    TypeCase("string_large_type", "Strings", "string", _TEXTS[:5], pa.large_string()),
    TypeCase("string_dictionary", "Strings", "string", ["a", "b", "a", ""], pa.dictionary(pa.int32(), pa.string())),
    TypeCase("binary", "Binary", "binary", [b"", b"\x00", b"\x00\xff\xfe", bytes(range(256)), b"text"]),
    TypeCase("date", "Dates", "date", [d.date(1970, 1, 1), d.date(2024, 2, 29), d.date(1969, 12, 31)]),
    TypeCase(
        "date_extremes",
        "Dates, years 1 and 9999",
        "date",
        [d.date(1, 1, 1), d.date(9999, 12, 31), d.date(1582, 10, 10)],
    ),
    TypeCase("time", "Times of day", "time", [d.time(0), d.time(23, 59, 59, 999999), d.time(12, 30)]),
    TypeCase("timestamp", "Timestamps without zone", "timestamp", _AT),
    TypeCase("timestamp_6", "Timestamps without zone", "timestamp(6)", _AT),
    TypeCase(
        "timestamp_extremes",
        "Timestamps, years 1 and 9999",
        "timestamp",
        [d.datetime(1, 1, 1), d.datetime(9999, 12, 31, 23, 59, 59, 999999)],
        pa.timestamp("us"),
    ),
    TypeCase(
        "timestamp_seconds",
        "Timestamps without zone",
        "timestamp(0)",
        [v.replace(microsecond=0) for v in _AT],
        pa.timestamp("s"),
    ),
    TypeCase("timestamp_zone", "Timestamps with zone", "timestamp('UTC')", [v.replace(tzinfo=UTC) for v in _AT]),
    TypeCase(
        "timestamp_zone_other",
        "Timestamps with zone",
        "timestamp('Europe/Berlin')",
        [v.replace(tzinfo=UTC) for v in _AT],
        pa.timestamp("us", "Europe/Berlin"),
    ),
    TypeCase(
        "json",
        "JSON",
        "json",
        [json.dumps(value) for value in _DOCUMENTS],
        pa.string(),
    ),
    TypeCase("array", "Arrays", "array<int64>", [[], [1, 2, 3], [-1]], has_null=False),
    TypeCase("array_of_strings", "Arrays", "array<string>", [["", "a,b", "it's"], []], has_null=False),
    TypeCase("array_with_null", "Arrays that hold NULL", "array<int64>", [[1, None]], has_null=False),
    TypeCase("array_or_null", "Arrays that are NULL", "array<int64>", [[1], []]),
    TypeCase("struct", "Structs", "struct<a: int64, b: string>", [{"a": 1, "b": ""}, {"a": None, "b": None}]),
    TypeCase("struct_nested", "Structs", "struct<a: struct<b: array<int64>>>", [{"a": {"b": [1, 2]}}]),
    TypeCase(
        "array_of_structs", "Structs", "array<struct<a: int64, b: string>>", [[{"a": 1, "b": "x"}], []], has_null=False
    ),
    TypeCase("map", "Maps", "map<string, int64>", [[("a", 1), ("b", 2)], []]),
]

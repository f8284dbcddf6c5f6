"""The input tables of the cases: small, and with every value that has made trouble somewhere."""

from __future__ import annotations

import datetime as d
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal as D
from typing import Any, NamedTuple

import ibis
import ibis.expr.schema as sch
import pyarrow as pa


class Person(NamedTuple):
    id: int
    name: str
    team: str | None
    age: int | None
    pay: D | None
    rate: float | None
    active: bool | None
    born: d.date
    joined: d.datetime | None


class Order(NamedTuple):
    id: int
    person: int | None
    item: str
    amount: D | None
    quantity: int | None
    at: d.datetime


class Number(NamedTuple):
    id: int
    i: int | None
    j: int
    x: float | None
    p: D | None
    q: D


class Text(NamedTuple):
    id: int
    s: str | None


class Time(NamedTuple):
    id: int
    day: d.date | None
    at: d.datetime | None
    zoned: d.datetime | None


class Hard(NamedTuple):
    id: int
    i: int | None
    j: int
    x: float | None
    p: D | None
    q: D
    s: str | None
    at: d.datetime | None
    zoned: d.datetime | None


class Nested(NamedTuple):
    id: int
    value: Any


UTC = d.UTC

PEOPLE = [
    Person(
        1, "Ada", "red", 36, D("1200.50"), 0.5, True, d.date(1815, 12, 10), d.datetime(2024, 1, 31, 23, 59, 59, 123456)
    ),
    Person(2, "Grace", "red", 45, D("2500.00"), 1.25, False, d.date(1906, 12, 9), d.datetime(2024, 2, 29)),
    Person(3, "Edsger", "blue", 45, D("999.99"), None, None, d.date(1930, 5, 11), d.datetime(2023, 12, 31, 12, 30)),
    Person(4, "Barbara", "blue", None, D("3100.10"), -2.0, True, d.date(1939, 11, 7), d.datetime(2024, 3, 31, 1, 30)),
    Person(5, "Donald", None, 86, None, 0.1, True, d.date(1938, 1, 10), None),
    Person(6, "Łukasz", "green", 20, D("0.00"), 1e10, False, d.date(2000, 2, 29), d.datetime(2024, 12, 30, 6)),
]

ORDERS = [
    Order(10, 1, "pen", D("1.10"), 3, d.datetime(2024, 1, 1, 10)),
    Order(11, 1, "ink", D("12.00"), 1, d.datetime(2024, 1, 2, 10)),
    Order(12, 2, "pen", D("1.10"), 10, d.datetime(2024, 1, 2, 11)),
    Order(13, 3, "cap", D("7.77"), None, d.datetime(2024, 1, 3)),
    Order(14, 9, "cap", D("7.77"), 2, d.datetime(2024, 1, 5)),  # of nobody
    Order(15, None, "pen", None, 1, d.datetime(2024, 1, 6)),
    Order(16, 2, "ink", D("12.50"), 2, d.datetime(2024, 1, 9)),
]

NUMBERS = [
    Number(1, 7, 2, 2.5, D("10.25"), D("3.00")),
    Number(2, -7, 2, -2.5, D("-10.25"), D("3.00")),
    Number(3, 7, -2, 0.5, D("0.05"), D("0.50")),
    Number(4, -7, -2, -0.5, D("99999.99"), D("7.00")),
    Number(5, 0, 5, 0.0, D("0.00"), D("1.00")),
    Number(6, None, 3, None, None, D("2.00")),
    Number(7, 1000000007, 998244353, 1.5, D("12345678901.23"), D("-4.00")),
]

SPECIALS = [
    Nested(1, float("nan")),
    Nested(2, float("inf")),
    Nested(3, float("-inf")),
    Nested(4, 0.0),
    Nested(5, None),
    Nested(6, 1.5),
    Nested(7, -1.5),
    Nested(8, float("nan")),
]

TEXTS = [
    Text(1, "Hello, World"),
    Text(2, ""),
    Text(3, None),
    Text(4, "äÖß"),
    Text(5, "👩‍🚀🎉"),
    Text(6, "100% a_b"),
    Text(7, 'it\'s "quoted" \\ back'),
    Text(8, "  padded  "),
    Text(9, "a,b,,c"),
    Text(10, "tab\tnew\nline"),
    Text(11, "שלום עולם"),
    Text(12, "e\u0301"),
]

TIMES = [
    Time(
        1,
        d.date(2024, 1, 31),
        d.datetime(2024, 1, 31, 23, 59, 59, 123456),
        d.datetime(2024, 1, 31, 23, 59, 59, 123456, UTC),
    ),
    Time(2, d.date(2024, 2, 29), d.datetime(2024, 2, 29), d.datetime(2024, 2, 29, tzinfo=UTC)),
    Time(3, d.date(2023, 12, 31), d.datetime(2023, 12, 31, 12, 30), d.datetime(2023, 12, 31, 12, 30, tzinfo=UTC)),
    Time(4, d.date(2024, 3, 31), d.datetime(2024, 3, 31, 1, 30), d.datetime(2024, 3, 31, 1, 30, tzinfo=UTC)),
    Time(5, None, None, None),
    Time(6, d.date(2024, 12, 30), d.datetime(2024, 12, 30, 6), d.datetime(2024, 12, 30, 6, tzinfo=UTC)),
    Time(7, d.date(1969, 7, 20), d.datetime(1969, 7, 20, 20, 17, 40), d.datetime(1969, 7, 20, 20, 17, 40, tzinfo=UTC)),
]

_LATE = d.datetime(2024, 1, 31, 23, 59, 59, 900000)  # the last fraction of a second, of a day and of a month
_EARLY = d.datetime(1969, 12, 31, 23, 59, 59, 100000)  # a fraction before 1970
_NIGHT = d.datetime(2024, 3, 10, 7, 30)  # half an hour after New York's clocks went on to 3:00
_NIGHT_BEFORE = d.datetime(2024, 11, 3, 5, 30)  # 1:30 there, for the first time
_LEAP = d.datetime(2024, 2, 29, 12, 0, 0, 1)
_SUNDAY = d.datetime(2023, 1, 1, 3, 4, 5)  # of the last ISO week of 2022
_MONDAY = d.datetime(2024, 12, 30, 6)  # of the first ISO week of 2025
_FAR = d.datetime(2300, 1, 1)  # beyond the nanoseconds and the int32 seconds

HARD = [
    Hard(1, 9007199254740993, 1, 2.5, D("1.0001"), D("0.10"), "a", _LATE, _LATE.replace(tzinfo=UTC)),
    Hard(2, -9007199254740993, 2, -2.5, D("1.0002"), D("0.30"), "banana", _EARLY, _EARLY.replace(tzinfo=UTC)),
    Hard(3, 9223372036854775807, 10, 3.5, D("-3.3333"), D("2.50"), "zebra", _NIGHT, _NIGHT.replace(tzinfo=UTC)),
    Hard(4, -7, 2, -0.5, D("0.3000"), D("0.10"), "a\\z", _NIGHT_BEFORE, _NIGHT_BEFORE.replace(tzinfo=UTC)),
    Hard(5, -1, 3, 4503599627370497.5, D("-0.5000"), D("0.50"), "straße ÀÉ", _LEAP, _LEAP.replace(tzinfo=UTC)),
    Hard(6, None, 3, None, None, D("1.00"), None, None, None),
    Hard(7, 7, -2, 1e-7, D("-7.5000"), D("-0.70"), "50%\\_x", _SUNDAY, _SUNDAY.replace(tzinfo=UTC)),
    Hard(8, 0, 7, 0.0, D("7.5000"), D("-0.25"), "xa1b22", _MONDAY, _MONDAY.replace(tzinfo=UTC)),
    Hard(9, 64, -3, -1.5, D("12345678.9999"), D("3.00"), "line\nzed", _FAR, _FAR.replace(tzinfo=UTC)),
]
"""What one warehouse or another computes otherwise: halves, numbers beyond a double's 53 bits, signs that patterns
give a meaning to, and points in time at the edge of something."""

QUOTES = [
    ("a", d.datetime(2024, 1, 1, 9), 1.0),
    ("a", d.datetime(2024, 1, 1, 10), 2.0),
    ("b", d.datetime(2024, 1, 1, 9, 30), 5.0),
]
TRADES = [
    (1, "a", d.datetime(2024, 1, 1, 9, 59)),
    (2, "a", d.datetime(2024, 1, 1, 10)),
    (3, "b", d.datetime(2024, 1, 1, 9)),
    (4, "b", d.datetime(2024, 1, 1, 12)),
]

WIDE = [(1, 10, 20, None), (2, 11, None, 31)]

ARRAYS = [Nested(1, [3, 1, 2]), Nested(2, [])]
STRUCTS = [Nested(1, {"a": 1, "b": "x"}), Nested(2, {"a": None, "b": ""}), Nested(3, {"a": 3, "b": None})]
MAPS = [Nested(1, [("a", 1), ("b", 2)]), Nested(2, [])]
DOCUMENTS = [
    Nested(1, '{"a": {"b": [1, 2.5, "x"]}, "t": "text", "n": null, "yes": true}'),
    Nested(2, '{"a": null}'),
    Nested(3, None),
]


@dataclass(frozen=True)
class Table:
    """An input table: its columns, and its rows as Python values."""

    schema: sch.Schema
    rows: Sequence[tuple[Any, ...]]

    def arrow(self) -> pa.Table:
        """Its rows, as they are loaded."""
        target = self.schema.to_pyarrow()
        if any(dtype.is_json() for dtype in self.schema.types):  # as text, which is what a file can hold
            target = pa.schema(
                [pa.field(n, pa.string() if t.is_json() else t.to_pyarrow()) for n, t in self.schema.items()]
            )
        columns = list(zip(*self.rows, strict=True))
        return pa.table([pa.array(c, f.type) for c, f in zip(columns, target, strict=True)], schema=target)


def _nested(dtype: str) -> sch.Schema:
    return ibis.schema({"id": "int64", "value": dtype})


TABLES: dict[str, Table] = {
    "people": Table(
        ibis.schema(
            {
                "id": "int64",
                "name": "string",
                "team": "string",
                "age": "int64",
                "pay": "decimal(12, 2)",
                "rate": "float64",
                "active": "boolean",
                "born": "date",
                "joined": "timestamp",
            }
        ),
        PEOPLE,
    ),
    "orders": Table(
        ibis.schema(
            {
                "id": "int64",
                "person": "int64",
                "item": "string",
                "amount": "decimal(10, 2)",
                "quantity": "int64",
                "at": "timestamp",
            }
        ),
        ORDERS,
    ),
    "numbers": Table(
        ibis.schema(
            {"id": "int64", "i": "int64", "j": "int64", "x": "float64", "p": "decimal(15, 2)", "q": "decimal(15, 2)"}
        ),
        NUMBERS,
    ),
    "specials": Table(_nested("float64"), SPECIALS),
    "texts": Table(ibis.schema({"id": "int64", "s": "string"}), TEXTS),
    "times": Table(ibis.schema({"id": "int64", "day": "date", "at": "timestamp", "zoned": "timestamp('UTC')"}), TIMES),
    "hard": Table(
        ibis.schema(
            {
                "id": "int64",
                "i": "int64",
                "j": "int64",
                "x": "float64",
                "p": "decimal(18, 4)",
                "q": "decimal(18, 2)",
                "s": "string",
                "at": "timestamp",
                "zoned": "timestamp('UTC')",
            }
        ),
        HARD,
    ),
    "quotes": Table(ibis.schema({"symbol": "string", "at": "timestamp", "price": "float64"}), QUOTES),
    "trades": Table(ibis.schema({"id": "int64", "symbol": "string", "at": "timestamp"}), TRADES),
    "wide": Table(ibis.schema({"id": "int64", "q1": "int64", "q2": "int64", "q3": "int64"}), WIDE),
    "arrays": Table(_nested("array<int64>"), ARRAYS),
    "structs": Table(_nested("struct<a: int64, b: string>"), STRUCTS),
    "maps": Table(_nested("map<string, int64>"), MAPS),
    "documents": Table(_nested("json"), DOCUMENTS),
}

"""Arithmetic on whole numbers, decimals and floats, and casts."""

from __future__ import annotations

import datetime as d
import math
from collections.abc import Callable
from decimal import ROUND_HALF_UP
from decimal import Decimal as D
from typing import Any

import ibis
from ibis import _

from tests.conformance.cases import Case, Outcome, group
from tests.conformance.operations.tables import NUMBERS, Number
from tests.conformance.values import Row


def _each(build: Callable[[Any], Any], python: Callable[[Any], Any]) -> tuple[Callable[[Any], ibis.Table], list[Row]]:
    """An expression over every row of numbers that has no NULL, and what Python makes of each."""
    rows: list[Number] = [row for row in NUMBERS if row.i is not None]
    return (
        lambda t: t.numbers.filter(_.i.notnull()).select("id", v=build(_)),
        [(row.id, python(row)) for row in rows],
    )


def _one(build: Callable[[], Any]) -> Callable[[Any], ibis.Table]:
    """An expression without any column, over one row."""
    return lambda t: t.wide.filter(_.id == 1).select(v=build())


def _text(value: str) -> Callable[[Any], Any]:
    """A text that no optimiser can compute before it runs."""
    return lambda t: t.wide.filter(_.id == 1).select(v=ibis.literal(value) + t.wide.id.cast("string").replace("1", ""))


def _cast(value: str, dtype: str, *, lenient: bool = False) -> Callable[[Any], ibis.Table]:
    made = _text(value)
    return lambda t: made(t).select(v=_.v.try_cast(dtype) if lenient else _.v.cast(dtype))


NUMBERS_CASES = group(
    "number",
    "Arithmetic",
    [
        Case("add", *_each(lambda t: t.i + t.j, lambda r: r.i + r.j)),
        Case("multiply", *_each(lambda t: t.i * t.j, lambda r: r.i * r.j)),
        Case("divide_whole_numbers", *_each(lambda t: t.i / t.j, lambda r: r.i / r.j)),
        Case("floor_divide", *_each(lambda t: (t.i // t.j).cast("int64"), lambda r: r.i // r.j)),
        Case(
            "modulo_of_positives",
            lambda t: t.numbers.filter(_.id.isin([1, 7])).select("id", v=_.i % _.j),
            [(1, 1), (7, 1000000007 % 998244353)],
        ),
        Case(
            "modulo_has_the_sign_of_the_dividend",
            lambda t: t.numbers.filter(_.id.isin([2, 3])).select("id", v=_.i % _.j),
            [(2, -1), (3, 1)],
        ),
        Case("negate", *_each(lambda t: -t.i, lambda r: -r.i)),
        Case("abs", *_each(lambda t: t.i.abs(), lambda r: abs(r.i))),
        Case("sign", *_each(lambda t: t.i.sign().cast("int64"), lambda r: (r.i > 0) - (r.i < 0))),
        Case("power", *_each(lambda t: t.x**2, lambda r: r.x**2)),
        Case("sqrt", *_each(lambda t: t.x.abs().sqrt(), lambda r: math.sqrt(abs(r.x)))),
        Case("exp_ln", *_each(lambda t: (t.x.exp() + 1).ln(), lambda r: math.log(math.exp(r.x) + 1))),
        Case("log", _one(lambda: ibis.literal(8.0).log(2)), [(3.0,)]),
        Case("log10", _one(lambda: ibis.literal(1000.0).log10()), [(3.0,)]),
        Case(
            "trigonometry",
            *_each(
                lambda t: t.x.sin() + t.x.cos() + t.x.atan(), lambda r: math.sin(r.x) + math.cos(r.x) + math.atan(r.x)
            ),
        ),
        Case("floor", *_each(lambda t: t.x.floor(), lambda r: math.floor(r.x))),
        Case("ceil", *_each(lambda t: t.x.ceil(), lambda r: math.ceil(r.x))),
        Case("round_decimals_half_up", *_each(lambda t: t.p.round(1), lambda r: r.p.quantize(D("0.1"), ROUND_HALF_UP))),
        Case(
            "round_floats_half_away",
            lambda t: t.numbers.filter(_.id < 6).select("id", v=_.x.round()),
            [(1, 3), (2, -3), (3, 1), (4, -1), (5, 0)],
        ),
        Case("round_to_digits", _one(lambda: ibis.literal(2.71828).round(3)), [(2.718,)]),
        Case(
            "null_is_contagious",
            lambda t: t.numbers.filter(_.id == 6).select(a=_.i + 1, b=_.x * 0, c=_.p - _.q),
            [(None, None, None)],
        ),
        Case("divide_by_zero", lambda t: t.numbers.filter(_.id == 5).select(v=_.j / _.i.nullif(0)), [(None,)]),
        Case(
            "divide_float_by_zero_is_infinite",
            lambda t: t.numbers.filter(_.id.isin([1, 5])).select("id", v=_.x / (_.x * 0.0)),
            [(1, math.inf), (5, math.nan)],
        ),
        Case("decimal_add", *_each(lambda t: t.p + t.q, lambda r: r.p + r.q)),
        Case("decimal_multiply_keeps_its_scale", *_each(lambda t: t.p * t.q, lambda r: r.p * r.q)),
        Case(
            "decimal_divide",
            *_each(lambda t: (t.p / t.q).cast("float64"), lambda r: float(r.p) / float(r.q)),
            tolerance=1e-5,
        ),
        Case("decimal_with_float", *_each(lambda t: t.p * t.x, lambda r: float(r.p) * r.x)),
        Case("decimal_compare", lambda t: t.numbers.filter(_.p == D("0.05")).select("id"), [(3,)]),
        Case("decimal_literal", _one(lambda: ibis.literal(D("0.10"), type="decimal(10, 2)") * 3), [(D("0.30"),)]),
        Case("float_literal", _one(lambda: ibis.literal(0.1) + 0.2), [(0.1 + 0.2,)]),
        Case(
            "float_literal_of_nan_and_inf",
            lambda t: t.wide.filter(_.id == 1).select(a=ibis.literal(float("nan")), b=ibis.literal(float("-inf"))),
            [(float("nan"), float("-inf"))],
        ),
        Case(
            "greatest_least",
            *_each(lambda t: ibis.greatest(t.i, t.j) - ibis.least(t.i, t.j), lambda r: max(r.i, r.j) - min(r.i, r.j)),
        ),
        Case("clip", *_each(lambda t: t.i.clip(lower=-5, upper=5), lambda r: min(max(r.i, -5), 5))),
        Case("between", lambda t: t.numbers.filter(_.i.between(-7, 0)).select("id"), [(2,), (4,), (5,)]),
        Case("overflow_fails", lambda t: t.wide.select(v=(_.id + 9223372036854775806).cast("int64")), Outcome.FAILS),
        Case(
            "overflow_of_a_sum_fails",
            lambda t: t.wide.mutate(big=_.id * 0 + 9223372036854775807).aggregate(v=_.big.sum()),
            Outcome.FAILS,
        ),
        Case(
            "isnan",
            lambda t: t.specials.select("id", v=_.value.isnan()),
            [(1, True), (2, False), (3, False), (4, False), (5, None), (6, False), (7, False), (8, True)],
        ),
        Case(
            "isinf",
            lambda t: t.specials.select("id", v=_.value.isinf()),
            [(1, False), (2, True), (3, True), (4, False), (5, None), (6, False), (7, False), (8, False)],
        ),
        Case(
            "nan_is_kept",
            lambda t: t.specials,
            [(1, math.nan), (2, math.inf), (3, -math.inf), (4, 0.0), (5, None), (6, 1.5), (7, -1.5), (8, math.nan)],
        ),
        Case(
            "nan_groups_with_nan",
            lambda t: t.specials.filter(_.id.isin([1, 8])).group_by("value").aggregate(n=_.count()),
            [(math.nan, 2)],
        ),
        Case(
            "infinity_compares",
            lambda t: t.specials.filter((_.value > 1e300) & (_.id < 6) & ~_.value.isnan()).select("id"),
            [(2,)],
        ),
        Case("bits", *_each(lambda t: (t.id & 3) | 8, lambda r: (r.id & 3) | 8)),
        Case("e_and_pi", _one(lambda: (ibis.e.ln() + ibis.pi.cos()).round(6)), [(0.0,)]),
    ],
)

CASTS = group(
    "cast",
    "Casts",
    [
        Case("whole_to_string", *_each(lambda t: t.i.cast("string"), lambda r: str(r.i))),
        Case("decimal_to_string", *_each(lambda t: t.p.cast("string"), lambda r: str(r.p))),
        Case(
            "boolean_to_string",
            lambda t: t.people.select("id", v=_.active.cast("string")),
            [(1, "true"), (2, "false"), (3, None), (4, "true"), (5, "true"), (6, "false")],
        ),
        Case(
            "boolean_to_number",
            lambda t: t.people.select("id", v=_.active.cast("int64")),
            [(1, 1), (2, 0), (3, None), (4, 1), (5, 1), (6, 0)],
        ),
        Case(
            "number_to_boolean",
            lambda t: t.numbers.filter(_.id.isin([1, 5])).select("id", v=_.i.cast("boolean")),
            [(1, True), (5, False)],
        ),
        Case("date_to_string", lambda t: t.times.filter(_.id == 1).select(v=_.day.cast("string")), [("2024-01-31",)]),
        Case(
            "date_to_timestamp",
            lambda t: t.times.filter(_.id == 1).select(v=_.day.cast("timestamp")),
            [(d.datetime(2024, 1, 31),)],
        ),
        Case(
            "timestamp_to_date",
            lambda t: t.times.filter(_.id == 1).select(v=_.at.cast("date")),
            [(d.date(2024, 1, 31),)],
        ),
        Case("string_to_whole", _cast("-42", "int64"), [(-42,)]),
        Case("string_to_float", _cast("-1.5e3", "float64"), [(-1500.0,)]),
        Case("string_to_decimal", _cast("12.345", "decimal(10, 3)"), [(D("12.345"),)]),
        Case("string_to_date", _cast("2024-02-29", "date"), [(d.date(2024, 2, 29),)]),
        Case(
            "string_to_timestamp",
            _cast("2024-02-29 12:34:56.789", "timestamp"),
            [(d.datetime(2024, 2, 29, 12, 34, 56, 789000),)],
        ),
        Case("string_to_boolean", _cast("true", "boolean"), [(True,)]),
        Case("float_to_whole_of_whole_values", _one(lambda: ibis.literal(-3.0).cast("int64")), [(-3,)]),
        Case("float_to_decimal", _one(lambda: ibis.literal(2.5).cast("decimal(10, 2)")), [(D("2.50"),)]),
        Case("decimal_to_float", *_each(lambda t: t.p.cast("float64"), lambda r: float(r.p))),
        Case("narrow", lambda t: t.wide.filter(_.id == 1).select(v=_.q1.cast("int8")), [(10,)]),
        Case("no_number_fails", _cast("twelve", "int64"), Outcome.FAILS),
        Case("no_date_fails", _cast("2023-02-29", "date"), Outcome.FAILS),
        Case("narrow_fails", lambda t: t.wide.select(v=(_.q1 * 100).cast("int8")), Outcome.FAILS),
        Case("try_cast_number", _cast("twelve", "int64", lenient=True), [(None,)]),
        Case("try_cast_float", _cast("1,5", "float64", lenient=True), [(None,)]),
        Case("try_cast_date", _cast("2023-02-29", "date", lenient=True), [(None,)]),
    ],
)

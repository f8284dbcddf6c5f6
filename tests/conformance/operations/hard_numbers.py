"""The hard values of numbers: what `docs/backends.md` says that operations mean which ibis leaves to each warehouse."""

from __future__ import annotations

import math
import statistics
from decimal import ROUND_HALF_UP, localcontext
from decimal import Decimal as D
from fractions import Fraction

import ibis
from ibis import _

from tests.conformance.cases import Case, group
from tests.conformance.operations.hard import each, fails, one, written
from tests.conformance.operations.tables import ARRAYS, HARD, SPECIALS

_SMALL = (4, 5, 6, 7, 8, 9)


def _rounded(value: float | D | None, places: int = 0) -> D:
    return D(value or 0).quantize(D(1).scaleb(-places), ROUND_HALF_UP)


def _floor(left: D | None, right: D | int) -> int:
    return math.floor(Fraction(left or 0) / Fraction(right))


def _rest(left: int | None, right: int) -> int:
    """What is left has the sign of what is divided, as in C and SQL; Python's has that of the divisor."""
    return int(math.copysign(abs(left or 0) % abs(right), left or 0))


def _exact(*factors: D | None) -> D:
    with localcontext(prec=80):
        return math.prod((factor or D(0) for factor in factors), start=D(1))


def _known(*values: int | None) -> list[int]:
    return [value for value in values if value is not None]


_DECIMALS = [row.p for row in HARD if row.p is not None]
_QUARTILE = statistics.quantiles(map(float, _DECIMALS), n=4, method="inclusive")[0]

HARD_NUMBERS = group(
    "hard",
    "Hard values of numbers",
    [
        # BigQuery's stand-in takes halves for the even number, as DuckDB's cast does; BigQuery itself does not.
        Case("float_to_whole", *each("x", lambda h: h.x.cast("int64"), lambda r: int(_rounded(r.x)))),
        Case("float_literal_to_whole", *one(lambda h: ibis.literal(2.5).cast("int64"), 3)),
        Case(
            "float_expression_to_whole",
            *each("x", lambda h: (h.x / 2 * 2).cast("int32"), lambda r: int(_rounded(r.x)), (1, 2, 4, 6, 7)),
        ),
        Case("decimal_to_whole", *each("p", lambda h: h.p.cast("int64"), lambda r: int(_rounded(r.p)))),
        Case("decimal_to_fewer_places", *each("p", lambda h: h.p.cast("decimal(18, 1)"), lambda r: _rounded(r.p, 1))),
        # BigQuery and Databricks refuse a text with a fraction; BigQuery's stand-in rounds it.
        Case("text_to_whole_rounds", *one(lambda h: written("12.5")(h).cast("int64"), 13)),
        Case("negative_text_to_whole_rounds", *one(lambda h: written("-2.5")(h).cast("int64"), -3)),
        Case("large_text_to_whole", *one(lambda h: written("9223372036854775807")(h).cast("int64"), 2**63 - 1)),
        Case("try_cast_text_rounds", *one(lambda h: written("12.5")(h).try_cast("int64"), 13)),
        Case("try_cast_text_with_blanks", *one(lambda h: written(" 12 ")(h).try_cast("int64"), 12)),
        Case("try_cast_text_with_exponent", *one(lambda h: written("1e2")(h).try_cast("int64"), 100)),
        Case("try_cast_large_text", *one(lambda h: written("-9223372036854775808")(h).try_cast("int64"), -(2**63))),
        Case("try_cast_words", *one(lambda h: written("12 apples")(h).try_cast("int64"), None)),
        Case("try_cast_nothing", *one(lambda h: written("")(h).try_cast("int64"), None)),
        Case("floor_divide", *each("i", lambda h: h.i // h.j, lambda r: r.i // r.j, _SMALL)),
        Case("floor_divide_by_a_literal", *each("i", lambda h: h.i // 2, lambda r: r.i // 2, _SMALL)),
        Case("floor_divide_by_a_negative_literal", *each("i", lambda h: h.i // -3, lambda r: r.i // -3, _SMALL)),
        Case("floor_divide_beyond_doubles", *each("i", lambda h: h.i // h.j, lambda r: r.i // r.j, (1, 2, 3))),
        Case("floor_divide_beyond_doubles_by_a_literal", *each("i", lambda h: h.i // 3, lambda r: r.i // 3, (1, 2, 3))),
        # Snowflake divides to six digits and rounds the last of them; its stand-in has a double's.
        Case("floor_divide_almost_one", *one(lambda h: (h.j * 9999999) // (h.j * 10000000), 0)),
        Case("floor_divide_decimals", *each("p", lambda h: h.p // h.q, lambda r: _floor(r.p, r.q))),
        Case("floor_divide_decimals_by_a_literal", *each("p", lambda h: h.p // 2, lambda r: _floor(r.p, 2))),
        Case("floor_divide_floats", *each("x", lambda h: h.x // 0.25, lambda r: r.x // 0.25)),
        Case("floor_divide_by_zero_fails", *fails(lambda h: h.j // (h.j - h.j))),
        Case("modulo", *each("i", lambda h: h.i % h.j, lambda r: _rest(r.i, r.j))),
        Case("modulo_by_zero_fails", *fails(lambda h: h.j % (h.j - h.j))),
        # BigQuery fills with zeros.
        Case("shift_right", *each("i", lambda h: h.i >> 1, lambda r: r.i >> 1)),
        Case("shift_right_by_a_column", *each("i", lambda h: h.i >> h.j.abs(), lambda r: r.i >> abs(r.j))),
        Case("shift_left", *each("i", lambda h: h.i << 2, lambda r: r.i << 2, _SMALL)),
        Case("shift_left_by_a_column", *each("i", lambda h: h.i << h.j.abs(), lambda r: r.i << abs(r.j), _SMALL)),
        Case(
            "bits_of_negatives",
            *each("i", lambda h: (h.i & 12) | (h.i ^ h.j), lambda r: (r.i & 12) | (r.i ^ r.j), _SMALL),
        ),
        # Of NULL, Snowflake's and BigQuery's are NULL. BigQuery's stand-in leaves it out, unless there is a literal.
        Case(
            "greatest",
            lambda t: t.hard.select("id", v=ibis.greatest(_.i, _.j)),
            [(r.id, max(_known(r.i, r.j))) for r in HARD],
        ),
        Case(
            "least",
            lambda t: t.hard.select("id", v=ibis.least(_.i, _.j)),
            [(r.id, min(_known(r.i, r.j))) for r in HARD],
        ),
        Case(
            "greatest_of_three",
            lambda t: t.hard.select("id", v=ibis.greatest(_.i, ibis.null("int64"), _.id)),
            [(r.id, max(_known(r.i, r.id))) for r in HARD],
        ),
        Case("greatest_of_nothing", *one(lambda h: ibis.greatest(h.i.nullif(h.i), h.j.nullif(h.j)), None)),
        Case("greatest_of_texts", *one(lambda h: ibis.greatest(h.s, h.s.nullif("a"), ibis.literal("B")), "a")),
        Case(
            "greatest_and_least_of_nan",  # as in an order: NaN is more than everything
            lambda t: t.specials.select("id", a=ibis.greatest(_.value, 1.0), b=ibis.least(_.value, 1.0)),
            [
                (row.id, 1.0, 1.0)
                if row.value is None
                else (row.id, math.nan, 1.0)
                if math.isnan(row.value)
                else (row.id, max(row.value, 1.0), min(row.value, 1.0))
                for row in SPECIALS
            ],
        ),
        Case(
            "clip_by_null",
            *each(
                "i",
                lambda h: h.i.clip(lower=h.i.nullif(-7), upper=h.j.nullif(2)),
                lambda r: r.i if r.j == 2 else min(r.i, r.j) if r.i == -7 else max(r.i, min(r.i, r.j)),
                _SMALL,
            ),
        ),
        # Snowflake fails, and Databricks gives NULL; Snowflake's stand-in is as DuckDB.
        Case("ln_of_zero", *one(lambda h: (h.j - 1).ln(), -math.inf)),
        Case("ln_of_negative", *one(lambda h: (h.j - 2).ln(), math.nan)),
        Case("ln_of_null", *one(lambda h: h.j.nullif(1).ln(), None)),
        Case(
            "ln_of_nan_and_infinity",
            lambda t: t.specials.filter(_.id < 3).select("id", v=_.value.ln()),
            [(1, math.nan), (2, math.inf)],
        ),
        Case(
            "ln_of_zero_and_one",
            *each("i", lambda h: h.i.ln(), lambda r: math.log(r.i) if r.i else -math.inf, (1, 3, 6, 7, 8, 9)),
        ),
        Case("log_without_base", *one(lambda h: (h.j + 1).log(), math.log(2))),
        Case("log_to_a_base", *one(lambda h: (h.j * 81).log(3), 4.0)),
        Case("log_of_zero_to_a_base", *one(lambda h: (h.j - 1).log(3), -math.inf)),
        Case(
            "log2_and_log10_of_zero",
            lambda t: t.hard.filter(_.id == 8).select(a=_.i.log2(), b=_.i.log10()),
            [(-math.inf, -math.inf)],
        ),
        Case("log_to_base_10_is_exact", *one(lambda h: (h.j * 1000).log(10).floor(), 3)),
        Case("log10_is_exact", *one(lambda h: (h.j * 1000).log10().floor(), 3)),
        Case("root_of_negative", *each("x", lambda h: h.x.sqrt(), lambda r: math.sqrt(r.x) if r.x >= 0 else math.nan)),
        # BigQuery rounds NUMERIC to nine places, Snowflake products to twelve, and Databricks down to six what may have
        # more than 38 digits. All of the stand-ins but Databricks' are exact, or fail.
        Case(
            "product_of_decimals",
            *each("p", lambda h: h.p * h.p * h.p, lambda r: _exact(r.p, r.p, r.p), range(1, 9)),
        ),
        Case(
            "product_of_more_than_twelve_places",
            *each("p", lambda h: h.p * h.p * h.p * h.q, lambda r: _exact(r.p, r.p, r.p, r.q), range(1, 9)),
        ),
        Case(
            "product_of_decimals_of_few_digits",
            *each(
                "p",
                lambda h: h.p.cast("decimal(9, 4)") * h.p.cast("decimal(9, 4)") * h.q.cast("decimal(9, 2)"),
                lambda r: _exact(r.p, r.p, r.q),
                range(1, 9),
            ),
        ),
        Case(
            "product_of_united_products",
            lambda t: (
                t.hard.select("id", v=_.p * _.p)
                .union(t.hard.select("id", v=_.p).filter(_.id < 0))
                .filter(_.id < 9)
                .select("id", v=_.v * _.v)
            ),
            [(r.id, None if r.p is None else _exact(r.p, r.p, r.p, r.p)) for r in HARD if r.id < 9],
        ),
        Case("product_of_a_sum", *each("p", lambda h: h.p.sum().over() * h.p, lambda r: sum(_DECIMALS) * r.p)),
        Case(
            "product_of_a_mean",
            *each("p", lambda h: h.p.mean().over() * h.p, lambda r: float(sum(_DECIMALS) / len(_DECIMALS) * r.p)),
        ),
        Case(
            "sum_of_decimals_of_38_digits",
            *each("p", lambda h: h.p.cast("decimal(38, 9)") + D("0.000000001"), lambda r: r.p + D("0.000000001")),
        ),
        Case(
            "difference_of_decimals_of_38_digits",
            *each("p", lambda h: D("0.000000001") - h.p.cast("decimal(38, 9)"), lambda r: D("0.000000001") - r.p),
        ),
        # ibis makes a DECIMAL(18, 3) of it for DuckDB, and nine places elsewhere.
        Case("decimal_written_down", *one(lambda h: ibis.literal(D("1.12345678901")), D("1.12345678901"))),
        Case("decimal_written_down_times", *each("p", lambda h: h.p * D("0.0125"), lambda r: _exact(r.p, D("0.0125")))),
        Case("decimal_written_down_compared", *one(lambda h: h.p.between(D("1.00005"), D("1.00015")), True)),
        Case("decimal_without_digits", *one(lambda h: h.p.cast("decimal"), D("1.0001"))),
        # A NUMBER's mean has six places more than it on Snowflake, nine in all on BigQuery; the stand-in has a DOUBLE.
        Case("mean_of_decimals", lambda t: t.hard.aggregate(v=_.p.mean()), [(float(sum(_DECIMALS) / len(_DECIMALS)),)]),
        Case(
            "mean_of_decimals_keeps_its_places",
            lambda t: t.hard.filter(_.id < 4).aggregate(v=_.q.mean()),
            [(float(D("2.90") / 3),)],
        ),
        Case(
            "mean_of_decimals_in_a_window",
            lambda t: t.hard.filter(_.id < 4).select("id", v=_.q.mean().over()),
            [(n, float(D("2.90") / 3)) for n in (1, 2, 3)],
        ),
        Case("median_of_decimals", lambda t: t.hard.filter(_.id < 3).aggregate(v=_.p.median()), [(1.00015,)]),
        Case(
            "median_of_whole_numbers", lambda t: t.hard.filter(_.id.isin([7, 9])).aggregate(v=_.i.median()), [(35.5,)]
        ),
        Case("quantile_of_decimals", lambda t: t.hard.aggregate(v=_.p.quantile(0.25)), [(_QUARTILE,)]),
        Case(
            "deviation_of_decimals",
            lambda t: t.hard.aggregate(v=_.p.std()),
            [(statistics.stdev(map(float, _DECIMALS)),)],
        ),
        # Snowflake and BigQuery know no negative index; the stand-ins count from the end, BigQuery's one too far.
        Case(
            "array_index_from_the_end",
            lambda t: t.arrays.select("id", a=_.value[-1], b=_.value[-3], c=_.value[-4]),
            [(1, 2, 3, None), (2, None, None, None)],
        ),
        Case(
            "array_index_beyond_the_end",
            lambda t: t.arrays.select("id", v=_.value[3]),
            [(row.id, None) for row in ARRAYS],
        ),
        Case(
            "array_index_of_a_column",
            lambda t: t.arrays.select("id", a=_.value[_.id - 2], b=_.value[_.id]),
            [(1, 2, 1), (2, None, None)],
        ),
        Case("hash_is_refused", *fails(lambda h: h.s.hash())),
        Case("hash_of_numbers_is_refused", *fails(lambda h: h.i.hash())),
        Case("float_to_text", *one(lambda h: h.x.cast("string"), "2.5")),
    ],
)

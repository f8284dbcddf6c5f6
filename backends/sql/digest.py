"""The digest of `entrepot.identity.table_digest` as one query in each warehouse's SQL.

Nearly all of it is the same everywhere, since it is arithmetic on 64-bit floats in which nothing is rounded. What
differs is how a value becomes a whole number, and how literals and types are written: `Formulas`, as data,
which stand beside each backend.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from entrepot.identity import table_digest
from entrepot.identity.table_digest import BASE, FLOAT_RANGE, FLOAT_UNITS, HALF, TENS, ColumnKind

if TYPE_CHECKING:
    import ibis.expr.datatypes as dt


NARROW = 15
"""A decimal of so many digits, times a power of ten, is the whole number that it should be after rounding a float. So
many digits are one of the digits to the base `TENS`."""
FIRST, LAST = "0001-01-01 00:00:00", "9999-12-31 23:59:59.999999"
"""Between them is every point in time that all warehouses, and their clients, can tell."""


@dataclass(frozen=True)
class Formulas:
    """What differs in the warehouses' SQL of a digest, as templates: `{x}` is the value."""

    literal: str
    """A 64-bit float from Python's `repr` with an exponent."""
    double: str
    """The value as a 64-bit float."""
    recent: str
    """Whether a timestamp is surely within 2^51 microseconds of 1970, where statistics can tell."""
    integer: str
    """A whole number or boolean as an exact whole number."""
    unsigned: str
    """The same of an unsigned number of 64 bits."""
    date: str
    """Days since 1970-01-01."""
    time: str
    """Microseconds since midnight."""
    timestamp: str
    """Microseconds since 1970-01-01 in UTC, of a timestamp with a zone."""
    naive_timestamp: str
    """The same of a timestamp without one."""
    date_as_timestamp: str
    """The same of a date."""
    truncated: str
    """A decimal without what is behind its point, as an exact whole number."""
    fraction: str
    """What is behind its point, with its sign, exactly."""
    narrow_decimal: str
    """`value * 10^{s}` of a decimal that has then no more than 15 digits, as a 64-bit float."""
    next_digit: str
    """The next 15 decimal places of a fraction, as an exact whole number."""
    after_digit: str
    """What is behind them, as the next fraction."""
    shifted: str
    """A whole number of up to 39 digits without its last 15, towards zero."""
    remainder: str
    """Of a whole number and `{m}`, with the sign of the number."""
    quotient: str
    """Of a whole number of 64 bits and `{m}`, towards zero."""
    hashed: tuple[str, ...]
    """The four limbs of the MD5 of text or bytes, as whole numbers."""
    text: str
    """What has text as its canonical form, as text."""
    nan: str
    """Whether a float is NaN."""
    whole: str
    """A float that is a whole number below 2^53 as one."""
    total: str
    """The exact sum of a column of floats that are whole numbers below 2^53."""
    long_fraction: str = ""
    """The fraction of which `next_digit` takes digits, where that is another: `{own}` has a zero for each of its
    places, `{more}` for each of those that are missing to 38."""
    most_places: int = 38
    """Of a decimal: beyond them its own arithmetic would round."""
    fence: str = ""
    """What ends each stage, so that a planner does not put one into the next, where its names occur several times."""


def limbs(template: str) -> tuple[str, ...]:
    """Of each limb of an MD5 its SQL, where `{start}` is its first of six hexadecimal digits, counted from 1."""
    return tuple(template.replace("{start}", str(start + 1)) for start in table_digest.HASH_STARTS)


@dataclass(frozen=True)
class Column:
    """A column as one warehouse has it: its SQL, its type there, and the kind that it is taken as."""

    sql: str
    dtype: dt.DataType
    kind: ColumnKind
    most: float | Decimal | None = None
    """What is known not to be exceeded by any value's magnitude (as a number of its kind); NaN exceeds everything."""
    nullable: bool = True
    """Whether there may be a NULL."""


def statistics(table: str, columns: Mapping[str, Column]) -> str:
    """The query of what `narrowed` takes. For warehouses that answer it from their metadata, such as DuckDB."""
    asked = ["COUNT(*)"]
    for column in columns.values():
        numeric = column.dtype.is_numeric() and not column.dtype.is_boolean()
        naive = column.dtype.is_timestamp() and column.dtype.timezone is None
        ranged = (numeric or naive) and column.kind.name not in ("string", "binary", "nested")
        bound = [f"MIN({column.sql})", f"MAX({column.sql})"] if ranged else ["NULL", "NULL"]
        asked += [f"COUNT({column.sql})", *bound, _outside(column)]
    return f"SELECT {', '.join(f'{sql} AS s{n}' for n, sql in enumerate(asked))} FROM {table}"


def _outside(column: Column) -> str:
    """How many values are before the year 1, after 9999, or infinite."""
    dtype = column.dtype
    if not (dtype.is_timestamp() or dtype.is_date()):
        return "0"
    zone = "+00" if dtype.is_timestamp() and dtype.timezone is not None else ""
    type_ = "DATE" if dtype.is_date() else "TIMESTAMPTZ" if zone else "TIMESTAMP"
    first, last = (f"CAST('{(each + zone)[: 10 if type_ == 'DATE' else None]}' AS {type_})" for each in (FIRST, LAST))
    value = f"CAST({column.sql} AS {type_})"  # else the bounds would become nanoseconds, which do not reach so far
    return f"COUNT(CASE WHEN {value} < {first} OR {value} > {last} THEN 1 END)"


def narrowed(columns: Mapping[str, Column], found: Sequence[Any]) -> dict[str, Column]:
    """The columns with what the row of `statistics` says of them, so that the query leaves out what would be 0.

    The digest is the same. Only for a table that does not change between the two queries.

    Raises:
        ValueError: if a column has points in time of which there is no digest.
    """
    narrow = {}
    for place, (name, column) in enumerate(columns.items()):
        count, low, high, outside = found[4 * place + 1 : 4 * place + 5]
        if outside:
            raise ValueError(
                f"column {name!r} has {outside:,} values before the year 1, after 9999 or infinite, of which there is "
                "no digest"
            )
        if isinstance(low, datetime):
            low, high = ((each - datetime(1970, 1, 1)) / timedelta(microseconds=1) for each in (low, high))
        most = None
        if low is not None and math.isfinite(low) and math.isfinite(high):
            most = max(abs(low), abs(high)) * (1 if column.kind.is_wide else 10**column.kind.scale)
        narrow[name] = replace(column, nullable=count != found[0], most=most)
    return narrow


def query(
    formulas: Formulas,
    table: str,
    columns: Mapping[str, Column],
    *,
    keys: Sequence[str] = (),
    buckets: int = 1,
    only: Sequence[int] = (),
) -> str:
    """The query of a table's digest: a row of `row_count`, `sum_a` and `sum_b`.

    With `keys`, there is such a row for each `bucket` of rows, by a hash of these columns: from 0 to `buckets`, a power
    of two; bucket b of n has the rows of buckets b and b + n of 2n. `only` leaves out all other buckets.

    Raises:
        ValueError: if the buckets are no power of two, or the keys too wide for one block.
    """
    written = _Query(formulas, columns)
    if keys:
        written.bucket(keys, buckets)
    written.digest()
    selected = [
        "COUNT(*) AS row_count",
        f"COALESCE({formulas.total.format(x=f'a * {_number(formulas, HALF)}')}, 0) AS sum_a",
        f"COALESCE({formulas.total.format(x=f'b * {_number(formulas, HALF)}')}, 0) AS sum_b",
    ]
    if not keys:
        return f"SELECT {', '.join(selected)} FROM {written.source(table, ['a', 'b'])}"
    chosen = f" WHERE bucket IN ({', '.join(map(str, only))})" if only else ""
    source = written.source(table, ["a", "b", "bucket"])
    return f"SELECT bucket, {', '.join(selected)} FROM {source}{chosen} GROUP BY bucket"


def rows(
    formulas: Formulas,
    table: str,
    columns: Mapping[str, Column],
    keys: Sequence[str],
    buckets: int,
    only: Sequence[int],
) -> str:
    """The query of the rows in some buckets: the columns in the order given, then `bucket`.

    Raises:
        ValueError: as `query`.
    """
    written = _Query(formulas, {name: columns[name] for name in keys})
    written.bucket(keys, buckets)
    for place, column in enumerate(columns.values()):
        written.stages[0][f"v{place}_x"] = column.sql
    values = [f"v{place}_x" for place in range(len(columns))]
    source = written.source(table, [*values, "bucket"])
    return f"SELECT {', '.join(values)}, bucket FROM {source} WHERE bucket IN ({', '.join(map(str, only))})"


def _number(formulas: Formulas, value: float) -> str:
    text = repr(float(value))
    return formulas.literal.format(x=text if "e" in text else f"{text}e0")


class _Query:
    """A query as stages, each a subquery over the one before: expressions by name."""

    NAMES = re.compile(r"\b(?:[cv]\d+_\w+|[abpqtu]|bucket|s\d+_\w+)\b")

    def __init__(self, formulas: Formulas, columns: Mapping[str, Column]) -> None:
        self.formulas = formulas
        self.columns = {name: replace(column, sql=f"({column.sql})") for name, column in columns.items()}
        self.stages: list[dict[str, str]] = [{}, {}, {}, {}, {}]
        self.cells = {name: self._cell(f"c{n}", self.columns[name]) for n, name in enumerate(sorted(columns))}

    def source(self, table: str, wanted: Sequence[str]) -> str:
        """The stages as nested subqueries that give the wanted names; each passes on what later ones need."""
        needed = set(wanted)
        carried: list[dict[str, str]] = []
        for stage in reversed(self.stages[1:]):
            here = {name: stage.get(name, name) for name in sorted(needed)}
            carried.append(here)
            needed = {found for expression in here.values() for found in self.NAMES.findall(expression)}
        carried.append({name: self.stages[0][name] for name in sorted(needed)})
        found = table
        for number, here in enumerate(reversed(carried)):
            listed = ", ".join(
                name if name == expression else f"{expression} AS {name}" for name, expression in here.items()
            )
            found = f"(SELECT {listed} FROM {found}{self.formulas.fence}) s{number}"
        return found

    def digest(self) -> None:
        """Adds the stages from limbs to the state of a row, `a` and `b` as multiples of 2^-26."""
        state: list[tuple[str, str, float]] = []
        blocks = table_digest.blocks({name: column.kind for name, column in self.columns.items()})
        for number, names in enumerate(blocks):
            self._lanes(("a", "b"), ("a", "b"), number, names, state)
            self._rounds("a", "b")
            if number < len(blocks) - 1:
                highs = {"s0_a1": "FLOOR(a)", "s0_b1": "FLOOR(b)"}
                self.stages += [highs, {"s0_a0": "a - s0_a1", "s0_b0": "b - s0_b1"}]
                state = [(f"s0_{w}", w, 1.0 if w.endswith("1") else float(HALF)) for w in ("a1", "a0", "b1", "b0")]

    def bucket(self, keys: Sequence[str], buckets: int) -> None:
        """Adds the stages that make `bucket` of the keys.

        Raises:
            ValueError: if the buckets are no power of two up to 2^26, or the keys too wide for one block.
        """
        if buckets & (buckets - 1) or not 1 <= buckets <= HALF:
            raise ValueError(f"{buckets} buckets; their number is a power of two up to {HALF}")
        if len(table_digest.blocks({name: self.columns[name].kind for name in keys})) > 1:
            raise ValueError(f"{len(keys)} columns are too wide a key for buckets; use fewer of {', '.join(keys)}")
        self._lanes(("p", "q"), ("bucket a", "bucket b"), 0, sorted(keys), [])
        self._rounds("p", "q")
        self.stages.append({"q": f"FLOOR(q * {_number(self.formulas, 2.0**13)})"})
        n, share = _number(self.formulas, buckets), _number(self.formulas, 1 / buckets)
        whole = self.formulas.whole.format(x=f"q - FLOOR(q * {share}) * {n}")
        self.stages.append({"bucket": whole})

    def _lanes(
        self,
        lanes: tuple[str, str],
        salts: tuple[str, str],
        block: int,
        names: Sequence[str],
        state: Sequence[tuple[str, str, float]],
    ) -> None:
        stage = {}
        nulls: list[str]
        for lane, salt in zip(lanes, salts, strict=True):
            terms = [_number(self.formulas, table_digest.offset(salt, block) / HALF)]
            nulls = []
            limbs = [(table_digest.STATE, *limb) for limb in state]
            limbs += [(name, *limb) for name in names for limb in self.cells[name]]
            for name, sql, limb, unit in limbs:
                term = f"{sql} * {_number(self.formulas, table_digest.key(salt, name, limb) * unit / HALF)}"
                (nulls if limb == "null" else terms).append(term)
            stage[lane] = " + ".join(terms) + (f" + ({' + '.join(nulls)})" if nulls else "")
        self.stages.append(stage)

    def _rounds(self, a: str, b: str) -> None:
        for to, other in ((a, b), (b, a), (a, b), (b, a)):
            self.stages += [{"t": f"FLOOR({other})"}, {to: f"{to} + t * ({other} - t)"}]

    def _cell(self, x: str, column: Column) -> list[tuple[str, str, float]]:
        """Adds the stages that make the limbs of a column; gives their SQL, names and units."""
        if column.kind.name == "nested":
            raise ValueError(
                "nested values have no digest in SQL: read them, and use entrepot.identity.table_digest.of_batches"
            )
        if column.kind.name == "float":
            limbs = self._float(x, column)
        elif column.kind.name in ("string", "binary"):
            limbs = self._hashed(x, column)
        else:
            limbs = self._exact(x, column)
        if not column.nullable:
            return limbs
        one, zero = _number(self.formulas, 1), _number(self.formulas, 0)
        self.stages[0][f"{x}_null"] = f"CASE WHEN {column.sql} IS NULL THEN {one} ELSE {zero} END"
        return [*limbs, (f"{x}_null", "null", 1.0)]

    def _or_zero(self, column: Column, sql: str) -> str:
        return f"COALESCE({sql}, {_number(self.formulas, 0)})" if column.nullable else sql

    def _float(self, x: str, column: Column) -> list[tuple[str, str, float]]:
        value = column.sql if column.dtype.is_float64() else self.formulas.double.format(x=column.sql)
        self.stages[0][f"{x}_r"] = _float_code(self.formulas, value)
        first = 1 if column.most is not None and column.most < FLOAT_UNITS[0] / 2 else 0
        for place in range(first, len(FLOAT_UNITS) - 1):
            rounder = _number(self.formulas, 1.5 * 2.0**52 * FLOAT_UNITS[place])
            self.stages[2 * place + 1] |= {f"{x}_f{place}": f"({x}_r + {rounder}) - {rounder}"}
            self.stages[2 * place + 2] |= {f"{x}_r": f"{x}_r - {x}_f{place}"}
        limbs = (f"{x}_f0", f"{x}_f1", f"{x}_r")
        return [(limbs[place], f"f{place}", 1 / FLOAT_UNITS[place]) for place in range(first, len(FLOAT_UNITS))]

    def _hashed(self, x: str, column: Column) -> list[tuple[str, str, float]]:
        plain = column.dtype.is_string() or column.dtype.is_binary()
        value = column.sql if plain else self.formulas.text.format(x=column.sql)
        for place, template in enumerate(self.formulas.hashed):
            whole = template.format(x=value)
            self.stages[0][f"{x}_s{place}"] = self._or_zero(column, self.formulas.double.format(x=whole))
        return [(f"{x}_s{place}", f"s{place}", 1.0) for place in range(4)]

    def _exact(self, x: str, column: Column) -> list[tuple[str, str, float]]:
        limbs = []
        for place, sql in _digits(self.formulas, column).items():
            digit = f"{x}_{f'm{-place}' if place < 0 else place}n"
            self.stages[0][digit] = self._or_zero(column, sql)
            if _one_limb(column, place):
                limbs.append((digit, f"{place}l", 1.0))
                continue
            rounder = _number(self.formulas, 1.5 * 2.0**52 * HALF)
            high, low = digit[:-1] + "h", digit[:-1] + "l"
            self.stages[1][high] = f"({digit} + {rounder}) - {rounder}"
            self.stages[2][low] = f"{digit} - {high}"
            limbs += [(high, f"{place}h", 1 / HALF), (low, f"{place}l", 1.0)]
        return limbs


def _one_limb(column: Column, place: int) -> bool:
    """Whether the type holds only numbers of which this digit has a high limb of 0."""
    dtype, name = column.dtype, column.kind.name
    if name == "decimal":
        return place == 0 and column.most is not None and column.most <= HALF // 2
    if place == 0:
        if column.most is not None and column.most <= HALF // 2:
            return True
        return name == "date" or (name == "integer" and (dtype.is_boolean() or dtype.is_int8() or dtype.is_int16()))
    return name in ("integer", "timestamp")


def _single(column: Column) -> bool:
    return column.most is not None and column.most < BASE


def _digits(formulas: Formulas, column: Column) -> dict[int, str]:
    """A column's digits, as floats, by their places: as many as its type there can hold."""
    dtype, kind, x = column.dtype, column.kind, column.sql
    if kind.name == "decimal":
        return _decimal_digits(formulas, column) if kind.is_wide else {0: _narrow(formulas, column)}
    if kind.name == "integer":
        integer = (formulas.unsigned if dtype.is_uint64() else formulas.integer).format(x=x)
        fits = _single(column) or dtype.is_boolean() or (dtype.is_integer() and dtype.nbytes <= 4)
        near = formulas.double.format(x=integer)
        return {0: near} if fits else _divided(formulas, integer, near, f"{x} BETWEEN {{low}} AND {{high}}", 2)
    if kind.name == "timestamp":
        if dtype.is_date():
            whole = formulas.date_as_timestamp.format(x=x)
        else:
            zoned = dtype.is_timestamp() and dtype.timezone is not None
            whole = (formulas.timestamp if zoned else formulas.naive_timestamp).format(x=x)
        if _single(column):
            return {0: formulas.double.format(x=whole)}
        recent = formulas.recent.replace("{x}", x) or f"{whole} BETWEEN {{low}} AND {{high}}"
        return _divided(formulas, whole, formulas.double.format(x=whole), recent, 2)
    whole = (formulas.date if kind.name == "date" else formulas.time).format(x=x)
    return {0: formulas.double.format(x=whole)}


def _narrow(formulas: Formulas, column: Column) -> str:
    """A decimal of few digits without its point."""
    s = column.kind.scale
    return formulas.narrow_decimal.format(x=column.sql, s1=s + 1, zeros="0" * s, power=_number(formulas, 10.0**s))


def _decimal_digits(formulas: Formulas, column: Column) -> dict[int, str]:
    """The digits to the base `TENS` of a decimal that may have many, or of a whole number beside one."""
    dtype, x = column.dtype, column.sql
    precision, own = ((dtype.precision or 38), (dtype.scale or 0)) if dtype.is_decimal() else (20, 0)
    if dtype.is_decimal() and own <= NARROW and column.most is not None and column.most * 10**own < TENS:
        return _few_digits(formulas, x, own)
    if dtype.is_decimal():
        whole = formulas.truncated.format(x=x)
    else:
        whole = (formulas.unsigned if dtype.is_uint64() else formulas.integer).format(x=x)
    near = formulas.double.format(x=whole)
    if precision - own <= NARROW or (column.most is not None and column.most < TENS):
        found = {0: near}
    else:
        count = 2 if precision - own <= 2 * NARROW else 3
        found = _divided(formulas, whole, near, f"{whole} BETWEEN {{low}} AND {{high}}", count, TENS)
    if 0 < own <= NARROW:
        part = formulas.double.format(x=formulas.fraction.format(x=x))
        found[-1] = f"ROUND({part} * {_number(formulas, TENS)})"
    elif own > formulas.most_places:
        raise ValueError(f"{x} has {own} decimal places, and only up to {formulas.most_places} have a digest there")
    elif own:
        rest = (formulas.long_fraction or formulas.fraction).format(x=x, own="0" * own, more="0" * (38 - own))
        for place in range(1, -(-own // NARROW) + 1):
            found[-place] = formulas.double.format(x=formulas.next_digit.format(x=rest))
            rest = formulas.after_digit.format(x=rest)
    return found


def _few_digits(formulas: Formulas, x: str, own: int) -> dict[int, str]:
    """The digits of a decimal of which no value has more than 15: floats tell those apart, and are faster."""
    power = _number(formulas, 10.0**own)
    number = formulas.narrow_decimal.format(x=x, s1=own + 1, zeros="0" * own, power=power)
    whole = f"TRUNC({formulas.double.format(x=x)})"
    return {0: whole, -1: f"({number} - {whole} * {power}) * {_number(formulas, 10.0 ** (NARROW - own))}"}


def _divided(formulas: Formulas, whole: str, near: str, small: str, count: int, base: int = BASE) -> dict[int, str]:
    """The digits of a whole number. Most are below the base, and a warehouse that knows need not divide.

    `near`: the float that it is if `small`, which has a place for bounds. They differ from digit to digit, since DuckDB
    makes a column of an expression that occurs twice, and then does not see that it is true for all rows.
    """
    found, value = {}, whole
    for place in range(count):
        rest = formulas.remainder.format(x=value, m=base) if place < count - 1 else value
        bounds = small.format(low=1 - base + place, high=base - 1 - place, year=1900 + place)
        less = _number(formulas, 0) if place else near
        found[place] = f"CASE WHEN {bounds} THEN {less} ELSE {formulas.double.format(x=rest)} END"
        value = (formulas.quotient if base == BASE else formulas.shifted).format(x=value, m=base)
    return found


def _float_code(formulas: Formulas, x: str) -> str:
    """`entrepot.identity.table_digest.float_codes` of one value; NULL is 0."""

    def number(value: float) -> str:
        return _number(formulas, value)

    def rounded(value: str) -> str:
        return f"(({value} + {value} * {number(2.0**21)}) - {value} * {number(2.0**21)})"

    scaled = f"(CASE WHEN ABS({x}) < 1 THEN ABS({x}) * {number(2.0**600)} ELSE ABS({x}) * {number(2.0**-60)} END)"
    size = rounded(scaled)
    power = f"FLOOR(LN({size}) * {number(1.4426950408889634)} + {number(2.0**-34)})"
    shift = f"CASE WHEN ABS({x}) < 1 THEN {number(700)} ELSE {number(1360)} END"
    mantissa = f"{size} * POWER({number(2)}, {number(31)} - {power})"
    code = f"(({power} + {shift}) * {number(2.0**34)} + {number(2)} * {mantissa} + {number(1)}) * {number(2.0**-49)}"
    return (
        f"CASE WHEN ABS({x}) BETWEEN {number(FLOAT_RANGE[0])} AND {number(FLOAT_RANGE[1])} THEN {rounded(x)}"
        f" WHEN {x} IS NULL OR {x} = 0 THEN {number(0)} WHEN {formulas.nan.format(x=x)} THEN {number(2.0**-41)}"
        f" WHEN ABS({x}) > {number(1.7976931348623157e308)} THEN SIGN({x}) * {number(2.0**-40)}"
        f" ELSE SIGN({x}) * {code} END"
    )

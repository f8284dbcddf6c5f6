"""The digest of `entrepot.digest` as one query in each warehouse's SQL.

Nearly all of it is the same everywhere, since it is arithmetic on 64-bit floats in which nothing is rounded. What
differs is how a value becomes a whole number, and how literals and types are written: a `Dialect`, as data.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from entrepot import digest
from entrepot.digest import BASE, FLOAT_RANGE, FLOAT_UNITS, HALF, Kind

if TYPE_CHECKING:
    import ibis.expr.datatypes as dt


NARROW = 15
"""A decimal of so many digits, times a power of ten, is the whole number that it should be after rounding a float."""


@dataclass(frozen=True)
class Column:
    """A column as one warehouse has it: its SQL, its type there, and the kind that it is taken as."""

    sql: str
    dtype: dt.DataType
    kind: Kind


@dataclass(frozen=True)
class Dialect:
    """How a warehouse writes what is not the same in all. `{x}` is the value."""

    literal: str
    """A 64-bit float from Python's `repr` with an exponent."""
    double: str
    """The value as a 64-bit float."""
    recent: str
    """Whether a timestamp is surely within 2^51 microseconds of 1970, where statistics can tell."""
    integer: str
    """A whole number or boolean as an exact whole number, large enough for what the column holds."""
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
    decimal: str
    """`value * 10^{s}` exactly, as a whole number."""
    wide_decimal: str
    """The same where the product could have more than 38 digits."""
    narrow_decimal: str
    """The same where it has no more than 15 digits, as a 64-bit float."""
    remainder: str
    """Of a whole number and `{m}`, with the sign of the number."""
    quotient: str
    """Of a whole number and `{m}`, towards zero."""
    hashed: tuple[str, ...]
    """The four limbs of the MD5 of text, as whole numbers."""
    hashed_bytes: tuple[str, ...]
    """The same of bytes."""
    text: str
    """What has text as its canonical form, as text."""
    nan: str
    """Whether a float is NaN."""
    whole: str
    """A float that is a whole number below 2^53 as one."""
    total: str
    """The exact sum of a column of floats that are whole numbers below 2^53."""


def _hex(template: str) -> tuple[str, ...]:
    return tuple(template.replace("{start}", str(start + 1)) for start in digest.HASH_STARTS)


DUCKDB = Dialect(
    literal="{x}",
    double="CAST({x} AS DOUBLE)",
    recent="{x} BETWEEN TIMESTAMP '{year}-01-01 00:00:00' AND TIMESTAMP '2040-01-01 00:00:00'",
    integer="CAST({x} AS {integer})",
    date="({x} - DATE '1970-01-01')",
    time="epoch_us({x})",
    timestamp="epoch_us({x})",
    naive_timestamp="epoch_us({x})",
    date_as_timestamp="epoch_us({x})",
    decimal="CAST({x} * CAST(1{zeros} AS DECIMAL({s1}, 0)) AS HUGEINT)",
    wide_decimal="CAST(replace(CAST(CAST({x} AS DECIMAL(38, {s})) AS VARCHAR), '.', '') AS HUGEINT)",
    narrow_decimal="round(CAST({x} AS DOUBLE) * {power})",
    remainder="({x} % {m})",
    quotient="({x} // {m})",
    hashed=_hex("CAST('0x' || substr(md5({x}), {start}, 6) AS INTEGER)"),
    hashed_bytes=_hex("CAST('0x' || substr(md5({x}), {start}, 6) AS INTEGER)"),
    text="CAST({x} AS VARCHAR)",
    nan="isnan({x})",
    whole="CAST({x} AS BIGINT)",
    total="SUM(CAST({x} AS BIGINT))",
)  # fmt: skip

SNOWFLAKE = Dialect(
    literal="CAST('{x}' AS FLOAT)",
    double="CAST({x} AS FLOAT)",
    recent="",
    integer="CAST({x} AS NUMBER(38, 0))",
    date="DATEDIFF('day', DATE '1970-01-01', {x})",
    time="DATEDIFF('microsecond', TIME '00:00:00', {x})",
    timestamp="DATE_PART(EPOCH_MICROSECOND, {x})",
    naive_timestamp="DATE_PART(EPOCH_MICROSECOND, {x})",
    date_as_timestamp="DATE_PART(EPOCH_MICROSECOND, CAST({x} AS TIMESTAMP_NTZ))",
    decimal="CAST({x} * 1{zeros} AS NUMBER(38, 0))",
    wide_decimal=(
        "(CAST(TRUNC({x}) AS NUMBER(38, 0)) * 1{zeros} + CAST(({x} - TRUNC({x})) * 1{zeros} AS NUMBER(38, 0)))"
    ),
    narrow_decimal="CAST(CAST({x} * 1{zeros} AS NUMBER(38, 0)) AS FLOAT)",
    remainder="MOD({x}, {m})",
    quotient="(({x} - MOD({x}, {m})) / {m})",
    hashed=_hex("TO_NUMBER(SUBSTR(MD5({x}), {start}, 6), 'XXXXXX')"),
    hashed_bytes=_hex("TO_NUMBER(SUBSTR(MD5({x}), {start}, 6), 'XXXXXX')"),
    text="CAST({x} AS VARCHAR)",
    nan="{x} = CAST('NaN' AS FLOAT)",
    whole="CAST({x} AS NUMBER(38, 0))",
    total="SUM(CAST({x} AS NUMBER(38, 0)))",
)

BIGQUERY = Dialect(
    literal="{x}",
    double="CAST({x} AS FLOAT64)",
    recent="",
    integer="CAST({x} AS INT64)",
    date="UNIX_DATE({x})",
    time="TIME_DIFF({x}, TIME '00:00:00', MICROSECOND)",
    timestamp="UNIX_MICROS({x})",
    naive_timestamp="UNIX_MICROS(TIMESTAMP({x}, 'UTC'))",
    date_as_timestamp="UNIX_MICROS(TIMESTAMP({x}, 'UTC'))",
    decimal="(CAST({x} AS BIGNUMERIC) * BIGNUMERIC '1{zeros}')",
    wide_decimal="(CAST({x} AS BIGNUMERIC) * BIGNUMERIC '1{zeros}')",
    narrow_decimal="CAST(CAST({x} AS BIGNUMERIC) * BIGNUMERIC '1{zeros}' AS FLOAT64)",
    remainder="MOD({x}, {m})",
    quotient="DIV({x}, {m})",
    hashed=_hex("CAST(CONCAT('0x', SUBSTR(TO_HEX(MD5({x})), {start}, 6)) AS INT64)"),
    hashed_bytes=_hex("CAST(CONCAT('0x', SUBSTR(TO_HEX(MD5({x})), {start}, 6)) AS INT64)"),
    text="CAST({x} AS STRING)",
    nan="IS_NAN({x})",
    whole="CAST({x} AS INT64)",
    total="SUM(CAST(CAST({x} AS INT64) AS NUMERIC))",
)

DATABRICKS = Dialect(
    literal="{x}D",
    double="CAST({x} AS DOUBLE)",
    recent="",
    integer="CAST({x} AS {integer})",
    date="datediff({x}, DATE '1970-01-01')",
    time="{x}",
    timestamp="unix_micros({x})",
    naive_timestamp="unix_micros(to_utc_timestamp(CAST({x} AS TIMESTAMP), current_timezone()))",
    date_as_timestamp="(CAST(datediff({x}, DATE '1970-01-01') AS BIGINT) * 86400000000)",
    decimal="CAST({x} * CAST('1{zeros}' AS DECIMAL({s1}, 0)) AS DECIMAL(38, 0))",
    wide_decimal=(
        "(CAST({x} - {x} % 1 AS DECIMAL(38, 0)) * CAST('1{zeros}' AS DECIMAL(38, 0))"
        " + CAST(({x} % 1) * CAST('1{zeros}' AS DECIMAL({s1}, 0)) AS DECIMAL(38, 0)))"
    ),
    narrow_decimal="CAST(CAST({x} * CAST('1{zeros}' AS DECIMAL({s1}, 0)) AS DECIMAL(38, 0)) AS DOUBLE)",
    remainder="({x} % {m})",
    quotient="(({x} - {x} % {m}) / {m})",
    hashed=_hex("CAST(conv(substr(md5({x}), {start}, 6), 16, 10) AS BIGINT)"),
    hashed_bytes=_hex("CAST(conv(substr(md5({x}), {start}, 6), 16, 10) AS BIGINT)"),
    text="CAST({x} AS STRING)",
    nan="isnan({x})",
    whole="CAST({x} AS BIGINT)",
    total="SUM(CAST({x} AS DECIMAL(38, 0)))",
)


def query(
    dialect: Dialect,
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
    written = _Query(dialect, columns)
    if keys:
        written.bucket(keys, buckets)
    written.digest()
    selected = [
        "COUNT(*) AS row_count",
        f"COALESCE({dialect.total.format(x=f'a * {_number(dialect, HALF)}')}, 0) AS sum_a",
        f"COALESCE({dialect.total.format(x=f'b * {_number(dialect, HALF)}')}, 0) AS sum_b",
    ]
    if not keys:
        return f"SELECT {', '.join(selected)} FROM {written.source(table, ['a', 'b'])}"
    chosen = f" WHERE bucket IN ({', '.join(map(str, only))})" if only else ""
    source = written.source(table, ["a", "b", "bucket"])
    return f"SELECT bucket, {', '.join(selected)} FROM {source}{chosen} GROUP BY bucket"


def rows(
    dialect: Dialect, table: str, columns: Mapping[str, Column], keys: Sequence[str], buckets: int, only: Sequence[int]
) -> str:
    """The query of the rows in some buckets: the columns in the order given, then `bucket`.

    Raises:
        ValueError: as `query`.
    """
    written = _Query(dialect, {name: columns[name] for name in keys})
    written.bucket(keys, buckets)
    for place, column in enumerate(columns.values()):
        written.stages[0][f"v{place}_x"] = column.sql
    values = [f"v{place}_x" for place in range(len(columns))]
    source = written.source(table, [*values, "bucket"])
    return f"SELECT {', '.join(values)}, bucket FROM {source} WHERE bucket IN ({', '.join(map(str, only))})"


def _number(dialect: Dialect, value: float) -> str:
    text = repr(float(value))
    return dialect.literal.format(x=text if "e" in text else f"{text}e0")


class _Query:
    """A query as stages, each a subquery over the one before: expressions by name."""

    NAMES = re.compile(r"\b(?:[cv]\d+_\w+|[abpqtu]|bucket|s\d+_\w+)\b")

    def __init__(self, dialect: Dialect, columns: Mapping[str, Column]) -> None:
        self.dialect = dialect
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
            listed = ", ".join(name if name == said else f"{said} AS {name}" for name, said in here.items())
            found = f"(SELECT {listed} FROM {found}) s{number}"
        return found

    def digest(self) -> None:
        """Adds the stages from limbs to the state of a row, `a` and `b` as multiples of 2^-26."""
        state: list[tuple[str, str, float]] = []
        blocks = digest.blocks({name: column.kind for name, column in self.columns.items()})
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
        if len(digest.blocks({name: self.columns[name].kind for name in keys})) > 1:
            raise ValueError(f"{len(keys)} columns are too wide a key for buckets; use fewer of {', '.join(keys)}")
        self._lanes(("p", "q"), ("bucket a", "bucket b"), 0, sorted(keys), [])
        self._rounds("p", "q")
        self.stages.append({"q": f"FLOOR(q * {_number(self.dialect, 2.0**13)})"})
        n, share = _number(self.dialect, buckets), _number(self.dialect, 1 / buckets)
        whole = self.dialect.whole.format(x=f"q - FLOOR(q * {share}) * {n}")
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
            terms = [_number(self.dialect, digest.offset(salt, block) / HALF)]
            nulls = []
            limbs = [(digest.STATE, *limb) for limb in state]
            limbs += [(name, *limb) for name in names for limb in self.cells[name]]
            for name, sql, limb, unit in limbs:
                term = f"{sql} * {_number(self.dialect, digest.key(salt, name, limb) * unit / HALF)}"
                (nulls if limb == "null" else terms).append(term)
            stage[lane] = " + ".join(terms) + (f" + ({' + '.join(nulls)})" if nulls else "")
        self.stages.append(stage)

    def _rounds(self, a: str, b: str) -> None:
        for to, other in ((a, b), (b, a), (a, b), (b, a)):
            self.stages += [{"t": f"FLOOR({other})"}, {to: f"{to} + t * ({other} - t)"}]

    def _cell(self, x: str, column: Column) -> list[tuple[str, str, float]]:
        """Adds the stages that make the limbs of a column; gives their SQL, names and units."""
        one, zero = _number(self.dialect, 1), _number(self.dialect, 0)
        self.stages[0][f"{x}_null"] = f"CASE WHEN {column.sql} IS NULL THEN {one} ELSE {zero} END"
        null = (f"{x}_null", "null", 1.0)
        if column.kind.name == "float":
            return [*self._float(x, column), null]
        if column.kind.name in ("string", "binary"):
            return [*self._hashed(x, column), null]
        if column.kind.name == "nested":
            raise ValueError("nested values have no digest in SQL: read them, and use entrepot.digest.of_batches")
        return [*self._exact(x, column), null]

    def _float(self, x: str, column: Column) -> list[tuple[str, str, float]]:
        value = column.sql if column.dtype.is_float64() else self.dialect.double.format(x=column.sql)
        self.stages[0][f"{x}_r"] = _float_code(self.dialect, value)
        for place, unit in enumerate(FLOAT_UNITS):
            if place == len(FLOAT_UNITS) - 1:
                break
            rounder = _number(self.dialect, 1.5 * 2.0**52 * unit)
            self.stages[2 * place + 1] |= {f"{x}_f{place}": f"({x}_r + {rounder}) - {rounder}"}
            self.stages[2 * place + 2] |= {f"{x}_r": f"{x}_r - {x}_f{place}"}
        limbs = (f"{x}_f0", f"{x}_f1", f"{x}_r")
        return [(sql, f"f{place}", 1 / FLOAT_UNITS[place]) for place, sql in enumerate(limbs)]

    def _hashed(self, x: str, column: Column) -> list[tuple[str, str, float]]:
        templates = self.dialect.hashed_bytes if column.kind.name == "binary" else self.dialect.hashed
        plain = column.dtype.is_string() or column.dtype.is_binary()
        value = column.sql if plain else self.dialect.text.format(x=column.sql)
        for place, template in enumerate(templates):
            whole = template.format(x=value)
            zero = f"COALESCE({self.dialect.double.format(x=whole)}, {_number(self.dialect, 0)})"
            self.stages[0][f"{x}_s{place}"] = zero
        return [(f"{x}_s{place}", f"s{place}", 1.0) for place in range(4)]

    def _exact(self, x: str, column: Column) -> list[tuple[str, str, float]]:
        digits, limbs = _digits(self.dialect, column), []
        for place, sql in enumerate(digits):
            digit = f"{x}_{place}n"
            self.stages[0][digit] = f"COALESCE({sql}, {_number(self.dialect, 0)})"
            if _one_limb(column, place):
                limbs.append((digit, f"{place}l", 1.0))
                continue
            rounder = _number(self.dialect, 1.5 * 2.0**52 * HALF)
            self.stages[1][f"{x}_{place}h"] = f"({digit} + {rounder}) - {rounder}"
            self.stages[2][f"{x}_{place}l"] = f"{digit} - {x}_{place}h"
            limbs += [(f"{x}_{place}h", f"{place}h", 1 / HALF), (f"{x}_{place}l", f"{place}l", 1.0)]
        return limbs


def _one_limb(column: Column, place: int) -> bool:
    """Whether the type holds only numbers of which this digit has a high limb of 0."""
    dtype, name = column.dtype, column.kind.name
    if place == 0:
        return name == "date" or (name == "integer" and (dtype.is_boolean() or dtype.is_int8() or dtype.is_int16()))
    return place == 2 or name in ("integer", "timestamp") or (dtype.is_decimal() and _length(column) <= 18)


def _length(column: Column) -> int:
    """The digits that a decimal column's values can have as whole numbers."""
    dtype = column.dtype
    precision, scale = (dtype.precision or 38, dtype.scale or 0) if dtype.is_decimal() else (20, 0)
    return precision - scale + column.kind.scale


def _digits(dialect: Dialect, column: Column) -> list[str]:
    """A column's digits to the base 2^51, as floats: as many as its type there can hold."""
    dtype, kind, x = column.dtype, column.kind, column.sql
    if kind.name == "decimal":
        return _decimal_digits(dialect, column)
    if kind.name == "integer":
        integer = dialect.integer.format(x=x, integer="DECIMAL(20, 0)" if dtype.is_uint64() else "BIGINT")
        fits = dtype.is_boolean() or (dtype.is_integer() and dtype.nbytes <= 4)
        near = dialect.double.format(x=integer)
        return [near] if fits else _divided(dialect, integer, near, f"{x} BETWEEN {{low}} AND {{high}}", 2)
    if kind.name == "timestamp":
        if dtype.is_date():
            whole = dialect.date_as_timestamp.format(x=x)
        else:
            zoned = dtype.is_timestamp() and dtype.timezone is not None
            whole = (dialect.timestamp if zoned else dialect.naive_timestamp).format(x=x)
        recent = dialect.recent.replace("{x}", x) or f"{whole} BETWEEN {{low}} AND {{high}}"
        return _divided(dialect, whole, dialect.double.format(x=whole), recent, 2)
    whole = (dialect.date if kind.name == "date" else dialect.time).format(x=x)
    return [dialect.double.format(x=whole)]


def _decimal_digits(dialect: Dialect, column: Column) -> list[str]:
    s, x, length = column.kind.scale, column.sql, _length(column)
    precision = (column.dtype.precision or 38) if column.dtype.is_decimal() else 20
    words = {"x": x, "s": s, "s1": s + 1, "zeros": "0" * s, "power": _number(dialect, 10.0**s)}
    near = dialect.narrow_decimal.format(**words)
    if length <= NARROW:
        return [near]
    whole = (dialect.decimal if precision + s < 38 else dialect.wide_decimal).format(**words)
    if s < NARROW:
        small = f"{x} BETWEEN -1{'0' * (NARROW - s)} + {{one}} AND 1{'0' * (NARROW - s)} - {{one}}"
    else:
        near, small = dialect.double.format(x=whole), f"{whole} BETWEEN {{low}} AND {{high}}"
    return _divided(dialect, whole, near, small, 2 if length <= 30 else 3)


def _divided(dialect: Dialect, whole: str, near: str, small: str, count: int) -> list[str]:
    """The digits of a whole number. Most are below the base, and a warehouse that knows need not divide.

    `near`: the float that it is if `small`, which has a place for bounds. They differ from digit to digit, since DuckDB
    makes a column of an expression that occurs twice, and then does not see that it is true for all rows.
    """
    found = []
    for place in range(count):
        value = dialect.quotient.format(x=whole, m=BASE**place) if place else whole
        rest = dialect.remainder.format(x=value, m=BASE) if place < count - 1 else value
        bounds = small.format(low=1 - BASE + place, high=BASE - 1 - place, one=place, year=1900 + place)
        less = _number(dialect, 0) if place else near
        found.append(f"CASE WHEN {bounds} THEN {less} ELSE {dialect.double.format(x=rest)} END")
    return found


def _float_code(dialect: Dialect, x: str) -> str:
    """`entrepot.digest.float_codes` of one value; NULL is 0."""

    def number(value: float) -> str:
        return _number(dialect, value)

    def rounded(value: str) -> str:
        return f"(({value} + {value} * {number(2.0**21)}) - {value} * {number(2.0**21)})"

    scaled = f"(CASE WHEN ABS({x}) < 1 THEN ABS({x}) * {number(2.0**600)} ELSE ABS({x}) * {number(2.0**-60)} END)"
    size = rounded(scaled)
    power = f"FLOOR(LN({size}) * {number(1.4426950408889634)} + {number(2.0**-34)})"
    shift = f"CASE WHEN ABS({x}) < 1 THEN {number(700)} ELSE {number(1360)} END"
    mantissa = f"{size} * POWER({number(2)}, {number(31)} - {power})"
    code = f"(({power} + {shift}) * {number(2.0**34)} + {number(2)} * {mantissa} + {number(1)}) * {number(2.0**-30)}"
    return (
        f"CASE WHEN ABS({x}) BETWEEN {number(FLOAT_RANGE[0])} AND {number(FLOAT_RANGE[1])} THEN {rounded(x)}"
        f" WHEN {x} IS NULL OR {x} = 0 THEN {number(0)} WHEN {dialect.nan.format(x=x)} THEN {number(2.0**-41)}"
        f" WHEN ABS({x}) > {number(1.7976931348623157e308)} THEN SIGN({x}) * {number(2.0**-40)}"
        f" ELSE SIGN({x}) * {code} END"
    )

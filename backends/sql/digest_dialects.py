"""What is not the same in all warehouses' SQL for the digest: a `Dialect` each, as data."""

from __future__ import annotations

from dataclasses import dataclass

from entrepot.identity import table_digest


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
    long_fraction: str = ""
    """The fraction of which `next_digit` takes digits, where that is another: `{own}` has a zero for each of its
    places, `{more}` for each of those that are missing to 38."""
    most_places: int = 38
    """Of a decimal: beyond them its own arithmetic would round."""
    fence: str = ""
    """What ends each stage, so that a planner does not put one into the next, where its names occur several times."""


def _hex(template: str) -> tuple[str, ...]:
    return tuple(template.replace("{start}", str(start + 1)) for start in table_digest.HASH_STARTS)


def _hex_by_place(template: str) -> tuple[str, ...]:
    def limb(start: int) -> str:
        places = (template.replace("{place}", str(start + place + 1)) for place in range(6))
        return " + ".join(f"({digit}) * {16 ** (5 - place)}" for place, digit in enumerate(places))

    return tuple(limb(start) for start in table_digest.HASH_STARTS)


DUCKDB = Dialect(
    literal="{x}",
    double="CAST({x} AS DOUBLE)",
    recent="{x} BETWEEN TIMESTAMP '{year}-01-01 00:00:00' AND TIMESTAMP '2040-01-01 00:00:00'",
    integer="CAST({x} AS BIGINT)",
    unsigned="CAST({x} AS HUGEINT)",
    date="({x} - DATE '1970-01-01')",
    time="epoch_us({x})",
    timestamp="epoch_us({x})",
    naive_timestamp="epoch_us({x})",
    date_as_timestamp="epoch_us({x})",
    truncated="CAST(trunc({x}) AS HUGEINT)",
    fraction="({x} - trunc({x}))",
    long_fraction=(
        "(CAST(replace(CAST({x} AS VARCHAR), '.', '') AS HUGEINT)"
        " % CAST('1{own}' AS HUGEINT) * CAST('1{more}' AS HUGEINT))"
    ),
    next_digit="({x} // CAST('100000000000000000000000' AS HUGEINT))",
    after_digit="({x} % CAST('100000000000000000000000' AS HUGEINT) * CAST('1000000000000000' AS HUGEINT))",
    shifted="({x} // {m})",
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
    unsigned="CAST({x} AS NUMBER(38, 0))",
    date="DATEDIFF('day', DATE '1970-01-01', {x})",
    time="DATEDIFF('microsecond', TIME '00:00:00', {x})",
    timestamp="DATE_PART(EPOCH_MICROSECOND, {x})",
    naive_timestamp="DATE_PART(EPOCH_MICROSECOND, {x})",
    date_as_timestamp="DATE_PART(EPOCH_MICROSECOND, CAST({x} AS TIMESTAMP_NTZ))",
    truncated="CAST(TRUNC({x}) AS NUMBER(38, 0))",
    fraction="({x} - TRUNC({x}))",
    next_digit="CAST(CAST(TRUNC({x}, 15) AS NUMBER(38, 15)) * 1000000000000000 AS NUMBER(38, 0))",
    after_digit="(({x} - TRUNC({x}, 15)) * 1000000000000000)",
    # By its text: a quotient of numbers of 38 digits has no room for its own places.
    shifted=(
        "(SIGN({x}) * CAST(CONCAT('0', SUBSTR(CAST(ABS({x}) AS VARCHAR), 1,"
        " GREATEST(LENGTH(CAST(ABS({x}) AS VARCHAR)) - 15, 0))) AS NUMBER(38, 0)))"
    ),
    narrow_decimal="CAST(CAST({x} * 1{zeros} AS NUMBER(38, 0)) AS FLOAT)",
    remainder="MOD({x}, {m})",
    quotient="(({x} - MOD({x}, {m})) / {m})",
    hashed=_hex_by_place("POSITION(SUBSTR(MD5({x}), {place}, 1), '0123456789abcdef') - 1"),
    hashed_bytes=_hex_by_place("POSITION(SUBSTR(MD5({x}), {place}, 1), '0123456789abcdef') - 1"),
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
    unsigned="CAST({x} AS NUMERIC)",
    date="UNIX_DATE({x})",
    time="TIME_DIFF({x}, TIME '00:00:00', MICROSECOND)",
    timestamp="UNIX_MICROS({x})",
    naive_timestamp="UNIX_MICROS(TIMESTAMP({x}, 'UTC'))",
    date_as_timestamp="UNIX_MICROS(TIMESTAMP({x}, 'UTC'))",
    truncated="TRUNC({x})",
    fraction="({x} - TRUNC({x}))",
    next_digit="TRUNC(TRUNC({x}, 15) * 1000000000000000)",
    after_digit="(({x} - TRUNC({x}, 15)) * 1000000000000000)",
    shifted="DIV({x}, {m})",
    narrow_decimal="ROUND(CAST({x} AS FLOAT64) * {power})",
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
    integer="CAST({x} AS BIGINT)",
    unsigned="CAST({x} AS DECIMAL(20, 0))",
    date="datediff({x}, DATE '1970-01-01')",
    time="{x}",
    timestamp="unix_micros({x})",
    naive_timestamp=(  # the parts of it, since a session's zone has hours that do not exist
        "(CAST(datediff(CAST({x} AS DATE), DATE '1970-01-01') AS BIGINT) * 86400000000"
        " + (hour({x}) * 60 + minute({x})) * 60000000L + CAST(extract(SECOND FROM {x}) * 1000000 AS BIGINT))"
    ),
    date_as_timestamp="(CAST(datediff({x}, DATE '1970-01-01') AS BIGINT) * 86400000000)",
    truncated="CAST({x} - {x} % 1 AS DECIMAL(38, 0))",
    fraction="({x} % 1)",
    next_digit=(
        "CAST(CAST({x} - {x} % CAST('0.000000000000001' AS DECIMAL(15, 15)) AS DECIMAL(16, 15))"
        " * CAST('1000000000000000' AS DECIMAL(16, 0)) AS DECIMAL(38, 0))"
    ),
    after_digit="({x} % CAST('0.000000000000001' AS DECIMAL(15, 15)) * CAST('1000000000000000' AS DECIMAL(16, 0)))",
    shifted="(({x} - {x} % {m}) / {m})",
    narrow_decimal="CAST(CAST({x} * CAST('1{zeros}' AS DECIMAL({s1}, 0)) AS DECIMAL(38, 0)) AS DOUBLE)",
    remainder="({x} % {m})",
    quotient="(({x} - {x} % {m}) / {m})",
    hashed=_hex("CAST(conv(substr(md5({x}), {start}, 6), 16, 10) AS BIGINT)"),
    hashed_bytes=_hex("CAST(conv(substr(md5({x}), {start}, 6), 16, 10) AS BIGINT)"),
    text="CAST({x} AS STRING)",
    nan="isnan({x})",
    whole="CAST({x} AS BIGINT)",
    total="SUM(CAST({x} AS DECIMAL(38, 0)))",
    most_places=36,
)

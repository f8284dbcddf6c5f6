"""How PostgreSQL writes a table's digest. Its floats raise an error where others overflow, which no formula does."""

from __future__ import annotations

from entrepot.backends.sql.digest import Formulas, limbs

_MICROSECONDS = "CAST(EXTRACT(EPOCH FROM {x}) * 1000000 AS BIGINT)"

FORMULAS = Formulas(
    literal="CAST('{x}' AS DOUBLE PRECISION)",
    double="CAST({x} AS DOUBLE PRECISION)",
    recent="",
    # A boolean becomes no bigint, and the template does not know what it gets: so it goes by way of its text.
    integer="CAST(REPLACE(REPLACE(CAST({x} AS TEXT), 'true', '1'), 'false', '0') AS BIGINT)",
    unsigned="CAST({x} AS NUMERIC)",
    date="({x} - DATE '1970-01-01')",
    time=_MICROSECONDS,
    timestamp=_MICROSECONDS,
    naive_timestamp=_MICROSECONDS,
    date_as_timestamp=_MICROSECONDS,
    truncated="TRUNC({x})",
    fraction="({x} - TRUNC({x}))",
    next_digit="TRUNC({x} * 1000000000000000)",
    after_digit="({x} * 1000000000000000 - TRUNC({x} * 1000000000000000))",
    shifted="DIV({x}, {m})",
    narrow_decimal="CAST(ROUND({x} * 1{zeros}) AS DOUBLE PRECISION)",
    remainder="MOD({x}, {m})",
    quotient="DIV({x}, {m})",
    hashed=limbs("CAST(CAST('x' || SUBSTR(MD5({x}), {start}, 6) AS BIT(24)) AS INTEGER)"),
    text="CAST({x} AS TEXT)",
    nan="{x} = CAST('NaN' AS DOUBLE PRECISION)",
    whole="CAST({x} AS BIGINT)",
    total="SUM(CAST({x} AS BIGINT))",
    # Without it the planner puts all stages into one expression, which doubles with each, and eats all memory.
    fence=" OFFSET 0",
)

"""How BigQuery writes what is not the same in all warehouses' SQL of a table's digest."""

from __future__ import annotations

from entrepot.backends.sql.digest import Formulas, limbs

FORMULAS = Formulas(
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
    hashed=limbs("CAST(CONCAT('0x', SUBSTR(TO_HEX(MD5({x})), {start}, 6)) AS INT64)"),
    text="CAST({x} AS STRING)",
    nan="IS_NAN({x})",
    whole="CAST({x} AS INT64)",
    total="SUM(CAST(CAST({x} AS INT64) AS NUMERIC))",
)

"""How DuckDB writes what is not the same in all warehouses' SQL of a table's digest."""

from __future__ import annotations

from entrepot.backends.sql.digest import Formulas, limbs

FORMULAS = Formulas(
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
    hashed=limbs("CAST('0x' || substr(md5({x}), {start}, 6) AS INTEGER)"),
    text="CAST({x} AS VARCHAR)",
    nan="isnan({x})",
    whole="CAST({x} AS BIGINT)",
    total="SUM(CAST({x} AS BIGINT))",
)

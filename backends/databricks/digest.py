"""How Databricks writes what is not the same in all warehouses' SQL of a table's digest."""

from __future__ import annotations

from entrepot.backends.sql.digest import Formulas, limbs

FORMULAS = Formulas(
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
    hashed=limbs("CAST(conv(substr(md5({x}), {start}, 6), 16, 10) AS BIGINT)"),
    text="CAST({x} AS STRING)",
    nan="isnan({x})",
    whole="CAST({x} AS BIGINT)",
    total="SUM(CAST({x} AS DECIMAL(38, 0)))",
    most_places=36,
)

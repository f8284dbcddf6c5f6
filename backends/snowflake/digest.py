"""How Snowflake writes what is not the same in all warehouses' SQL of a table's digest."""

from __future__ import annotations

from entrepot.backends.sql.digest import Formulas
from entrepot.identity.table_digest import HASH_STARTS


def _limbs_by_digit(template: str) -> tuple[str, ...]:
    """The same as `limbs` where no function reads hexadecimal numbers: `{place}` is the place of one digit."""

    def limb(start: int) -> str:
        places = (template.replace("{place}", str(start + place + 1)) for place in range(6))
        return " + ".join(f"({digit}) * {16 ** (5 - place)}" for place, digit in enumerate(places))

    return tuple(limb(start) for start in HASH_STARTS)


FORMULAS = Formulas(
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
    hashed=_limbs_by_digit("POSITION(SUBSTR(MD5({x}), {place}, 1), '0123456789abcdef') - 1"),
    text="CAST({x} AS VARCHAR)",
    nan="{x} = CAST('NaN' AS FLOAT)",
    whole="CAST({x} AS NUMBER(38, 0))",
    total="SUM(CAST({x} AS NUMBER(38, 0)))",
)

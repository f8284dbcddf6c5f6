"""The digest, held against a reference in whole numbers and fractions, written straight from docs/parity.md."""

from __future__ import annotations

import datetime as d
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from decimal import Context, Decimal
from fractions import Fraction
from itertools import product

import ibis.expr.datatypes as dt
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.identity.table_digest import (
    DATE,
    FLOAT,
    INTEGER,
    NESTED,
    STRING,
    TIME,
    TIMESTAMP,
    ColumnKind,
    Digest,
    common,
    kind,
    of_batches,
)

WEIGHTS = {
    "integer": 2**26 + 2**13 + 1, "timestamp": 2**26 + 2**13 + 1, "date": 2**25 + 1, "time": 2**25 + 2**11 + 1,
    "decimal": 3 * 2**24 + 1, "float": 3 * 2**25 + 1, "string": 2**26 + 1, "binary": 2**26 + 1, "nested": 2**26 + 1,
}  # fmt: skip
UTC = d.UTC


def random(*words: object) -> int:
    text = "\n".join(["entrepot digest 2", *map(str, words)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def key(lane: str, limb: str, column: str) -> int:
    v = random(lane, limb, column) % (3 * 2**19 - 2) - (3 * 2**18 - 1)
    return v + 1 if v >= 0 else v


def whole(n: int) -> dict[str, int]:
    limbs = {}
    for place in range(3):
        digit = int(math.copysign(1, n)) * (abs(n) % 2**51)
        n = int(math.copysign(1, n)) * (abs(n) // 2**51)
        limbs[f"{place}h"] = round(Fraction(digit, 2**26))
        limbs[f"{place}l"] = digit - limbs[f"{place}h"] * 2**26
    assert n == 0
    return limbs


def wide(value: Fraction) -> dict[str, int]:
    limbs = {}
    for place in (2, 1, 0, -1, -2, -3):
        digit = int(abs(value) / Fraction(10) ** (15 * place)) % 10**15 * (1 if value > 0 else -1)
        limbs[f"{place}h"] = round(Fraction(digit, 2**26))
        limbs[f"{place}l"] = digit - limbs[f"{place}h"] * 2**26
    return limbs


def weight(kind: ColumnKind) -> int:
    digits = math.ceil(kind.whole / 15) + math.ceil(kind.scale / 15)
    return digits * 3 * 2**24 + 1 if kind.is_wide else WEIGHTS[kind.name]


def binary64(x: Fraction) -> Fraction:
    """The nearest float, halves to even."""
    return Fraction(x.numerator / x.denominator)


def rounded(x: Fraction) -> Fraction:
    return binary64(binary64(x + x * 2**21) - x * 2**21)


def floating(x: float) -> dict[str, int]:
    if math.isnan(x):
        y = Fraction(1, 2**41)
    elif math.isinf(x):
        y = Fraction(1, 2**40) * (1 if x > 0 else -1)
    elif x == 0:
        y = Fraction(0)
    elif Fraction(1, 2**18) <= abs(Fraction(x)) <= 2**28:
        y = rounded(Fraction(x))
    else:
        size = abs(Fraction(x))
        z = rounded(size * 2**600 if size < 1 else size / 2**60)
        p = z.numerator.bit_length() - z.denominator.bit_length()  # a denominator is a power of two
        y = ((p + (700 if size < 1 else 1360)) * 2**34 + 2 * z * Fraction(2) ** (31 - p) + 1) / 2**49
        y = y if x > 0 else -y
    limbs = {}
    for place, unit in enumerate((Fraction(8), Fraction(1, 2**23), Fraction(1, 2**49))):
        limbs[f"f{place}"] = round(y / unit)
        y -= limbs[f"f{place}"] * unit
    assert y == 0
    return limbs


def cell(value: object, kind: ColumnKind) -> dict[str, int]:
    if value is None:
        return {"null": 1}
    if kind.name == "float":
        return floating(float(value))  # type: ignore[arg-type]
    if kind.name in ("string", "binary", "nested"):
        if kind.name == "nested":
            value = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        digits = hashlib.md5(value.encode() if isinstance(value, str) else value).hexdigest()  # type: ignore[arg-type]
        return {f"s{n}": int(digits[start : start + 6], 16) for n, start in enumerate((0, 6, 16, 22))}
    if kind.is_wide:
        return wide(Fraction(value))  # type: ignore[arg-type]
    if isinstance(value, Decimal):
        return whole(int(value.scaleb(kind.scale, Context(prec=80))))
    if isinstance(value, d.datetime):
        value = (value.replace(tzinfo=value.tzinfo or UTC) - d.datetime(1970, 1, 1, tzinfo=UTC)) // d.timedelta(
            microseconds=1
        )
    elif isinstance(value, d.date):
        value = (value - d.date(1970, 1, 1)).days
    elif isinstance(value, d.time):
        value = ((value.hour * 60 + value.minute) * 60 + value.second) * 10**6 + value.microsecond
    assert isinstance(value, int)
    return whole(value * 10**kind.scale)


def turn(x: int) -> int:
    return (x >> 26) * (x % 2**26)


def reference(rows: Sequence[Mapping[str, object]], kinds: Mapping[str, ColumnKind]) -> Digest:
    blocks: list[list[str]] = [[]]
    room = 32 * 2**25
    for name in sorted(kinds):
        if weight(kinds[name]) > room:
            blocks.append([])
            room = 32 * 2**25 - (5 * 2**24 + 2**27 + 2**27 + 2)
        blocks[-1].append(name)
        room -= weight(kinds[name])
    sums = [0, 0]
    for row in rows:
        state: dict[str, int] = {}
        a = b = 0
        for number, names in enumerate(blocks):
            a = random("a", "offset", number) % (2**49 - 1) - (2**48 - 1)
            b = random("b", "offset", number) % (2**49 - 1) - (2**48 - 1)
            for name, limbs in [("\0state", state), *((name, cell(row[name], kinds[name])) for name in names)]:
                a += sum(value * key("a", limb, name) for limb, value in limbs.items())
                b += sum(value * key("b", limb, name) for limb, value in limbs.items())
            assert max(abs(a), abs(b)) < 2**50
            a += turn(b)
            b += turn(a)
            a += turn(b)
            b += turn(a)
            assert max(abs(a), abs(b)) < 2**53
            state = {"a1": a >> 26, "a0": a % 2**26, "b1": b >> 26, "b0": b % 2**26}
        sums[0] += a
        sums[1] += b
    return Digest(len(rows), (sums[0], sums[1]), dict(kinds))


def of(
    rows: Sequence[Mapping[str, object]], schema: pa.Schema, kinds: Mapping[str, ColumnKind], size: int = 3
) -> Digest:
    return of_batches(pa.Table.from_pylist(list(rows), schema).to_batches(max_chunksize=size), kinds)


SCHEMA = pa.schema(
    {
        "i": pa.int64(), "u": pa.uint64(), "o": pa.bool_(), "m": pa.decimal128(38, 10), "n": pa.decimal128(9, 2),
        "f": pa.float64(), "s": pa.string(), "b": pa.binary(), "d": pa.date32(), "t": pa.time64("us"),
        "k": pa.decimal256(76, 38),
        "z": pa.timestamp("us", "UTC"), "w": pa.timestamp("us"), "g": pa.float64(), "h": pa.float64(),
    }
)  # fmt: skip
KINDS = {
    "i": INTEGER, "u": INTEGER, "o": INTEGER, "m": ColumnKind("decimal", 10, 28), "n": ColumnKind("decimal", 2, 7),
    "f": FLOAT,
    "k": ColumnKind("decimal", 38, 38),
    "s": STRING, "b": ColumnKind("binary"), "d": DATE, "t": TIME, "z": TIMESTAMP, "w": TIMESTAMP, "g": FLOAT,
    "h": FLOAT,
}  # fmt: skip
"""More than one block."""
FLOATS = st.floats() | st.sampled_from(
    [0.0, -0.0, 1e308, -1e308, 5e-324, 2.0**28, 2.0**-18, math.nextafter(2.0**28, 1e9), 1 - 2**-53, 1e-9, 1e9, 2.0**300]
)
CELLS = {
    "i": st.integers(-(2**63), 2**63 - 1) | st.sampled_from([-(2**63), 2**63 - 1, 2**51, -(2**51), 2**25, -(2**25)]),
    "u": st.integers(0, 2**64 - 1),
    "o": st.booleans(),
    "m": st.integers(1 - 10**38, 10**38 - 1).map(lambda n: Decimal(n).scaleb(-10, Context(prec=40))),
    "k": st.integers(1 - 10**76, 10**76 - 1).map(lambda n: Decimal(n).scaleb(-38, Context(prec=80))),
    "n": st.integers(1 - 10**9, 10**9 - 1).map(lambda n: Decimal(n).scaleb(-2)),
    "f": FLOATS,
    "g": FLOATS,
    "h": FLOATS,
    "s": st.text(max_size=9),
    "b": st.binary(max_size=9),
    "d": st.dates(),
    "t": st.times(),
    "z": st.datetimes(timezones=st.just(UTC)),
    "w": st.datetimes(),
}
ROWS = st.lists(st.fixed_dictionaries({name: st.none() | cells for name, cells in CELLS.items()}), max_size=8)


@given(ROWS)
def test_batches_agree_with_the_specification(rows: list[dict[str, object]]) -> None:
    assert of(rows, SCHEMA, KINDS) == reference(rows, KINDS)


@given(ROWS.filter(bool), st.data())
def test_order_does_not_matter_and_duplicates_do(rows: list[dict[str, object]], data: st.DataObject) -> None:
    digest = of(rows, SCHEMA, KINDS).hex
    shuffled = data.draw(st.permutations(rows))
    columns = data.draw(st.permutations(list(SCHEMA)))
    assert of(shuffled, pa.schema(columns), dict(reversed(KINDS.items())), 2).hex == digest
    assert of([*rows, rows[0]], SCHEMA, KINDS).hex != digest


def test_what_is_nearly_the_same_differs() -> None:
    schema, kinds = pa.schema({"s": pa.string(), "f": pa.float64()}), {"s": STRING, "f": FLOAT}
    values: list[tuple[object, object]] = [
        ("", 0.0),
        (None, 0.0),
        ("", None),
        (None, None),
        ("\u00e9", 0.0),
        ("e\u0301", 0.0),
    ]
    values += [("", x) for x in (math.nan, math.inf, -math.inf, 5e-324, 1e308, 1 + 1e-8, 1.0)]
    digests = [of([{"s": s, "f": f}], schema, kinds).hex for s, f in values]
    assert len(set(digests)) == len(digests)
    assert of([{"s": "", "f": -0.0}], schema, kinds).hex == digests[0]
    assert of([{"s": "", "f": 1 + 1e-13}], schema, kinds).hex == digests[-1]


@given(st.lists(st.integers(-9, 9), min_size=4, max_size=4), st.integers(0, 5))
def test_cells_swapped_between_rows_show(values: list[int], scale: int) -> None:
    a, b, c, e = (value * 10**scale for value in values)
    schema, kinds = pa.schema({"x": pa.int64(), "y": pa.int64()}), {"x": INTEGER, "y": INTEGER}
    left = of([{"x": a, "y": b}, {"x": c, "y": e}], schema, kinds)
    right = of([{"x": a, "y": e}, {"x": c, "y": b}], schema, kinds)
    assert (left == right) == (b == e or a == c)


@pytest.mark.parametrize("width", [2, 3, 4, 5, 6])
def test_parity_shows(width: int) -> None:
    """The rows of even and of odd parity have the same values in every smaller set of columns."""
    schema = pa.schema({f"c{n}": pa.int64() for n in range(width)})
    kinds = dict.fromkeys(schema.names, INTEGER)
    for step in (1, 7, 1000, 2**30):
        cube = [
            dict(zip(schema.names, (x * step for x in corner), strict=True)) for corner in product((0, 1), repeat=width)
        ]
        parts = [[row for row in cube if sum(x > 0 for x in row.values()) % 2 == odd] for odd in (0, 1)]
        assert all(a != b for a, b in zip(*(of(part, schema, kinds).sums for part in parts), strict=True))


def test_types_of_one_kind_are_the_same() -> None:
    for value, kind_, types in (
        (7, INTEGER, [pa.int8(), pa.uint32(), pa.int64(), pa.uint64()]),
        (7, ColumnKind("decimal", 3, 9), [pa.decimal128(4, 1), pa.decimal128(12, 3), pa.decimal256(12, 3)]),
        (
            7,
            ColumnKind("decimal", 3, 20),
            [pa.int32(), pa.uint64(), pa.decimal128(4, 1), pa.decimal128(38, 0), pa.decimal256(76, 38)],
        ),
        (0.5, FLOAT, [pa.float32(), pa.float64()]),
        (
            d.datetime(2020, 2, 29, tzinfo=UTC),
            TIMESTAMP,
            [pa.timestamp("s"), pa.timestamp("ns"), pa.timestamp("us", "Asia/Tokyo")],
        ),
        ("x", STRING, [pa.string(), pa.large_string(), pa.dictionary(pa.int8(), pa.string())]),
    ):
        digests = {of([{"x": value}, {"x": None}], pa.schema({"x": each}), {"x": kind_}).hex for each in types}
        assert len(digests) == 1, kind_


def test_nested_values_are_their_json() -> None:
    nested = pa.schema({"x": pa.struct({"b": pa.list_(pa.int64()), "a": pa.string()})})
    rows = [{"x": {"a": "é", "b": [1, 2]}}, {"x": None}]
    digest = of(rows, nested, {"x": NESTED})
    assert digest == reference(rows, {"x": NESTED})
    text = [{"x": '{"b": [1, 2], "a": "é"}'}, {"x": None}]
    assert of(text, pa.schema({"x": pa.string()}), {"x": NESTED}) == digest


def test_the_digest_of_a_known_table_stays() -> None:
    digest = of([{"x": 1}, {"x": None}], pa.schema({"x": pa.int64()}), {"x": INTEGER})
    assert digest.hex == "788c01b6a6e5ee85d8d0867301a503a3"


def test_kinds_of_types() -> None:
    found = {
        str(kind(dtype))
        for dtype in (dt.boolean, dt.uint64, dt.Decimal(9, 2), dt.Decimal(38, 2), dt.float32, dt.uuid, dt.json)
    }
    assert found == {"integer", "decimal(2)", "decimal(36+2)", "float", "string", "nested"}
    with pytest.raises(ValueError, match="a column of type interval"):
        kind(dt.Interval("s"))
    with pytest.raises(ValueError, match="'number' is no kind; the kinds are integer"):
        ColumnKind("number")


def test_as_what_two_columns_are_compared() -> None:
    assert common(INTEGER, ColumnKind("decimal", 2, 5)) == ColumnKind("decimal", 2, 20)
    assert common(ColumnKind("decimal", 9, 1), ColumnKind("decimal", 2, 13)) == ColumnKind("decimal", 9, 13)
    assert common(ColumnKind("decimal", 2, 13), ColumnKind("decimal", 2, 13)) == ColumnKind("decimal", 2, 13)
    assert common(FLOAT, INTEGER) == FLOAT
    assert common(TIMESTAMP, DATE) == TIMESTAMP
    assert common(STRING, INTEGER) is None


def test_a_column_that_is_not_of_its_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="a column of type string cannot be taken as date"):
        of([{"x": "a"}], pa.schema({"x": pa.string()}), {"x": DATE})

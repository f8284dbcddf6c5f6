"""The canonical digest of a table: what it is, and a reference that computes it from Arrow batches.

`docs/parity.md` says it in words, and why each part is there. `entrepot.backends.sql.digest` writes the same as SQL.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import ibis.expr.datatypes as dt
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    Floats = npt.NDArray[np.float64]

SPECIFICATION = "entrepot digest 2"
"""Its name is part of every key and of every digest: another specification gives other digests."""
BASE = 2**51
"""Exact numbers are taken apart into digits of this base, each with the sign of the number."""
TENS = 10**15
"""Decimals that may have more digits than this are taken apart into digits of this base, on both sides of the point: so
what they are does not depend on how many places a warehouse gives them."""
PLACES = (2, 1, 0, -1, -2, -3)
"""The digits of such a decimal, 38 decimal places on either side: `place` counts powers of `TENS`."""
HALF = 2**26
"""A digit is taken apart at this power, the state of a row too."""
KEY = 3 * 2**18
"""Keys are whole numbers strictly between minus this and this, without 0."""
OFFSET = 2**48
"""The number that a lane starts with is strictly between minus this and this."""
LIMIT = 32 * 2**25
"""What the limbs of one block may sum up to, so that the state of a row stays below 2^53."""
FLOAT_UNITS = (2.0**3, 2.0**-23, 2.0**-49)
"""A float's three limbs count these."""
FLOAT_RANGE = (2.0**-18, 2.0**28)
"""Floats of this magnitude are their own code."""
HASH_STARTS = (0, 6, 16, 22)
"""Where, among the hexadecimal digits of an MD5, the four limbs of text and bytes begin; each has six digits."""
STATE = "\0state"
"""The name under which the state of one block is a cell of the next."""

_WEIGHTS = {
    "integer": 2 * 2**25 + 2**13 + 1,
    "date": 2**25 + 1,
    "time": 2**25 + 2**11 + 1,
    "timestamp": 2 * 2**25 + 2**13 + 1,
    "decimal": 3 * 2**24 + 1,
    "float": 3 * 2**25 + 1,
    "string": 4 * 2**24 + 1,
    "binary": 4 * 2**24 + 1,
    "nested": 4 * 2**24 + 1,
}
_STATE_WEIGHT = (5 * 2**24 + 1) + 2**26 + (2**27 + 1) + 2**26


@dataclass(frozen=True)
class ColumnKind:
    """What a column is taken as. `whole` and `scale`: the digits before and after the point that a decimal may have."""

    name: str
    scale: int = 0
    whole: int = 0

    def __post_init__(self) -> None:
        if self.name not in _WEIGHTS:
            raise ValueError(f"{self.name!r} is no kind; the kinds are {', '.join(_WEIGHTS)}")

    def __str__(self) -> str:
        digits = f"{self.whole}+{self.scale}" if self.is_wide else self.scale
        return f"decimal({digits})" if self.name == "decimal" else self.name

    @property
    def is_wide(self) -> bool:
        """Whether it is a decimal of more than 15 digits."""
        return self.name == "decimal" and 10 ** (self.whole + self.scale) > TENS

    @property
    def weight(self) -> int:
        """The most that the limbs of a cell sum up to."""
        if self.is_wide:
            return (-(-self.whole // 15) - (-self.scale // 15)) * 3 * 2**24 + 1
        return _WEIGHTS[self.name]


INTEGER, DATE, TIME, TIMESTAMP = ColumnKind("integer"), ColumnKind("date"), ColumnKind("time"), ColumnKind("timestamp")
FLOAT, STRING, BINARY, NESTED = ColumnKind("float"), ColumnKind("string"), ColumnKind("binary"), ColumnKind("nested")
_INTEGER_DIGITS = 20


def kind(dtype: dt.DataType) -> ColumnKind:
    """What a column of an ibis type is taken as.

    Raises:
        ValueError: if there is none, with the types that have one.
    """
    if dtype.is_decimal():
        scale = dtype.scale if dtype.scale is not None else 9
        return ColumnKind("decimal", scale, (dtype.precision or 38) - scale)
    for matches, found in (
        (dtype.is_integer() or dtype.is_boolean(), INTEGER),
        (dtype.is_floating(), FLOAT),
        (dtype.is_string() or dtype.is_uuid(), STRING),
        (dtype.is_binary(), BINARY),
        (dtype.is_date(), DATE),
        (dtype.is_time(), TIME),
        (dtype.is_timestamp(), TIMESTAMP),
        (dtype.is_json() or dtype.is_nested(), NESTED),
    ):
        if matches:
            return found
    raise ValueError(f"a column of type {dtype} has no digest; {', '.join(_WEIGHTS)} and booleans have")


def common(left: ColumnKind, right: ColumnKind) -> ColumnKind | None:
    """As what two warehouses' columns are compared; None if they cannot be."""
    if left == right:
        return left
    names = {left.name, right.name}
    if names <= {"integer", "decimal"}:
        wholes = (_INTEGER_DIGITS if side.name == "integer" else side.whole for side in (left, right))
        return ColumnKind("decimal", max(left.scale, right.scale), max(wholes))
    if names <= {"integer", "decimal", "float"}:
        return FLOAT
    if names == {"date", "timestamp"}:
        return TIMESTAMP
    return NESTED if names == {"string", "nested"} else None


@dataclass(frozen=True)
class Digest:
    """Rows and sums of a table whose columns were taken as these kinds."""

    rows: int
    sums: tuple[int, ...]
    kinds: Mapping[str, ColumnKind]

    @property
    def hex(self) -> str:
        """The digest: 32 hexadecimal digits."""
        columns = [[name, str(self.kinds[name])] for name in sorted(self.kinds)]
        text = json.dumps([SPECIFICATION, columns, self.rows, list(self.sums)], separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:32]


def _random(*words: object) -> int:
    text = "\n".join(map(str, (SPECIFICATION, *words)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


@cache
def key(lane: str, column: str, limb: str) -> int:
    """What a limb is multiplied with in a lane."""
    drawn = _random(lane, limb, column) % (2 * KEY - 2) - (KEY - 1)
    return drawn if drawn < 0 else drawn + 1


@cache
def offset(lane: str, block: int) -> int:
    """What a lane starts with in a block."""
    return _random(lane, "offset", block) % (2 * OFFSET - 1) - (OFFSET - 1)


def blocks(kinds: Mapping[str, ColumnKind]) -> list[list[str]]:
    """The columns, sorted by name and cut so that each block, with the state of the one before, is within the limit."""
    found: list[list[str]] = [[]]
    room = LIMIT
    for name in sorted(kinds):
        if kinds[name].weight > room:
            found.append([])
            room = LIMIT - _STATE_WEIGHT
        found[-1].append(name)
        room -= kinds[name].weight
    return found


def of_batches(batches: Iterable[pa.RecordBatch], kinds: Mapping[str, ColumnKind]) -> Digest:
    """The digest of the rows in Arrow batches, which have a column for each kind; others are left out.

    Raises:
        ValueError: if a column cannot be taken as its kind.
    """
    rows, sums = 0, (0, 0)
    for batch in batches:
        found = states(batch, kinds)
        rows += batch.num_rows
        sums = (sums[0] + found[0], sums[1] + found[1])
    return Digest(rows, sums, dict(kinds))


def states(batch: pa.RecordBatch, kinds: Mapping[str, ColumnKind]) -> tuple[int, int]:
    """The sums of the states of a batch's rows."""
    import numpy as np

    state: dict[str, Floats] = {}
    a = b = np.zeros(batch.num_rows)
    for number, names in enumerate(blocks(kinds)):
        a = np.full(batch.num_rows, float(offset("a", number)))
        b = np.full(batch.num_rows, float(offset("b", number)))
        cells = {name: limbs(batch.column(name), kinds[name]) for name in names}
        for name, cell in ({STATE: state} | cells).items():
            for limb, values in cell.items():
                a += values * key("a", name, limb)
                b += values * key("b", name, limb)
        a, b = mixed(a, b)
        a_high, b_high = np.floor(a / HALF), np.floor(b / HALF)
        state = {"a1": a_high, "a0": a - a_high * HALF, "b1": b_high, "b0": b - b_high * HALF}
    return _total(a), _total(b)


def mixed(a: Floats, b: Floats) -> tuple[Floats, Floats]:
    """The four rounds that make the state of a row from its lanes. Nothing is rounded: all is below 2^53."""
    import numpy as np

    def turn(x: Floats) -> Floats:
        high: Floats = np.floor(x / HALF)
        return high * (x - high * HALF)

    for _ in range(2):
        a = a + turn(b)
        b = b + turn(a)
    return a, b


def _total(values: Floats) -> int:
    import numpy as np

    high = np.floor(values / HALF)
    low = values - high * HALF
    return int(high.astype(np.int64).sum()) * HALF + int(low.astype(np.int64).sum())


def limbs(column: pa.Array, kind: ColumnKind) -> dict[str, Floats]:
    """The limbs of a column's cells, by name. A NULL has the limb `null` alone.

    Raises:
        ValueError: if the column cannot be taken as the kind.
    """
    import numpy as np
    import pyarrow as pa

    if isinstance(column.type, pa.ExtensionType):
        column = column.storage
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    null = np.asarray(column.is_null()).astype(float)
    try:
        if kind.name == "float":
            found = _float_limbs(column)
        elif kind.name in ("string", "binary", "nested"):
            found = _hashed_limbs(column, kind)
        elif kind.is_wide:
            found = _decimal_limbs(column)
        else:
            found = _exact_limbs(_whole(column, kind))
    except pa.ArrowException as error:
        raise ValueError(f"a column of type {column.type} cannot be taken as {kind}: {error}") from error
    return found | {"null": null}


def _exact_limbs(numbers: npt.NDArray[Any]) -> dict[str, Floats]:
    import numpy as np

    found: dict[str, Floats] = {}
    for place in range(3):
        if not numbers.any():
            break
        digits = np.sign(numbers) * (abs(numbers) % BASE) if numbers.dtype == object else np.fmod(numbers, BASE)
        numbers = (numbers - digits) // BASE
        found |= _of_digit(place, digits.astype(float))
    return found


def _of_digit(place: int, digits: Floats) -> dict[str, Floats]:
    import numpy as np

    high = np.rint(digits / HALF)
    return {f"{place}h": high, f"{place}l": digits - high * HALF}


def _decimal_limbs(column: pa.Array) -> dict[str, Floats]:
    import numpy as np
    import pyarrow as pa

    if pa.types.is_floating(column.type):
        raise ValueError(f"a column of type {column.type} cannot be taken as a decimal")
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.int8())
    if not pa.types.is_decimal(column.type):
        column = column.cast(pa.decimal128(_INTEGER_DIGITS, 0))
    numbers, scale = _unscaled(column), column.type.scale
    found: dict[str, Floats] = {}
    rest = abs(numbers)
    if numbers.dtype != object and scale <= 15:
        whole, rest = rest // 10**scale, rest % 10**scale * 10 ** (15 - scale)
        digits = {-1: rest, 0: whole % TENS, 1: whole // TENS}
    else:
        rest, digits = rest.astype(object) * 10 ** (45 - scale), {}
        for place in reversed(PLACES):
            digits[place], rest = rest % TENS, rest // TENS
    for place, each in digits.items():
        if each.any():
            found |= _of_digit(place, (np.sign(numbers) * each).astype(float))
    return found


def _whole(column: pa.Array, kind: ColumnKind) -> npt.NDArray[Any]:
    """The cells as whole numbers: NULL is 0; Python's where 64 bits do not hold them."""
    import pyarrow as pa
    import pyarrow.compute as pc

    types = pa.types
    if kind.name == "decimal" or types.is_uint64(column.type):
        if types.is_floating(column.type):
            raise ValueError(f"a column of type {column.type} cannot be taken as {kind}")
        return _unscaled(column.cast(pa.decimal128(38, kind.scale)))
    to = {"time": pa.time64("us"), "timestamp": pa.timestamp("us"), "date": pa.date32()}.get(kind.name, pa.int64())
    if types.is_timestamp(column.type):
        column = column.cast(pa.timestamp(column.type.unit))  # what is stored is UTC already
        if column.type.unit == "ns":  # to the microsecond before it
            ns: npt.NDArray[Any] = column.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
            return ns // 1000
    whole = column.cast(to)
    if kind.name == "date":
        whole = whole.cast(pa.int32())
    found: npt.NDArray[Any] = pc.fill_null(whole.cast(pa.int64()), 0).to_numpy(zero_copy_only=False)
    return found


def _unscaled(column: pa.Array) -> npt.NDArray[Any]:
    """Decimals without their point: in 64 bits if those hold all of them."""
    import numpy as np
    import pyarrow as pa

    if not pa.types.is_decimal128(column.type):
        values = (None if v is None else v.as_tuple() for v in column.to_pylist())
        whole = [0 if v is None else int("".join(map(str, v.digits))) * (-1 if v.sign else 1) for v in values]
        return np.array(whole, dtype=object)

    words = np.frombuffer(column.buffers()[1], dtype=np.int64)[2 * column.offset :][: 2 * len(column)]
    low, high = words[::2], words[1::2]
    null = np.asarray(column.is_null())
    found: npt.NDArray[Any] = np.where(null, 0, low)
    if ((high == low >> 63) | null).all() and (low != np.iinfo(np.int64).min).all():
        return found
    return np.where(null, 0, high.astype(object) * 2**64 + low.view(np.uint64).astype(object))


def _float_limbs(column: pa.Array) -> dict[str, Floats]:
    import numpy as np
    import pyarrow as pa

    if pa.types.is_decimal(column.type) and column.type.bit_width < 256:
        column = column.cast(pa.float64())
    numbers = column.cast(pa.float64(), safe=False).fill_null(0.0).to_numpy(zero_copy_only=False)
    rest = float_codes(numbers)
    found: dict[str, Floats] = {}
    for place, unit in enumerate(FLOAT_UNITS):
        found[f"f{place}"] = np.rint(rest / unit)
        rest = rest - found[f"f{place}"] * unit
    return found


def float_codes(numbers: Floats) -> Floats:
    """Floats as numbers that the three limbs hold, equal where the floats are equal to 32 bits of mantissa."""
    import numpy as np

    size = abs(numbers)
    usual = (size >= FLOAT_RANGE[0]) & (size <= FLOAT_RANGE[1])
    with np.errstate(all="ignore"):
        found = np.where(usual, (numbers + numbers * 2.0**21) - numbers * 2.0**21, 0.0)
    found[np.isnan(numbers)] = 2.0**-41
    found[np.isposinf(numbers)] = 2.0**-40
    found[np.isneginf(numbers)] = -(2.0**-40)
    rare = ~usual & (numbers != 0) & np.isfinite(numbers)
    if rare.any():
        small = size[rare] < 1
        scaled = size[rare] * np.where(small, 2.0**600, 2.0**-60)
        scaled = (scaled + scaled * 2.0**21) - scaled * 2.0**21
        mantissa, exponent = np.frexp(scaled)
        power = exponent - 1 + np.where(small, -600, 60)
        code = (power + 1300) * 2.0**34 + 2 * (mantissa * 2.0**32) + 1
        found[rare] = np.sign(numbers[rare]) * code * 2.0**-49
    return found


def _hashed_limbs(column: pa.Array, kind: ColumnKind) -> dict[str, Floats]:
    import numpy as np

    encoded = column.dictionary_encode() if kind is not NESTED and column.type.num_fields == 0 else None
    values: Sequence[object] = (column if encoded is None else encoded.dictionary).to_pylist()
    parts = np.array([(0,) * 4 if v is None else _hashed(_bytes(v, kind)) for v in values], dtype=float).reshape(-1, 4)
    if encoded is not None:
        parts = np.vstack([parts, np.zeros((1, 4))])[encoded.indices.fill_null(len(values)).to_numpy()]
    return {f"s{place}": parts[:, place] for place in range(4)}


def _hashed(value: bytes) -> tuple[int, ...]:
    digits = hashlib.md5(value, usedforsecurity=False).hexdigest()
    return tuple(int(digits[start : start + 6], 16) for start in HASH_STARTS)


def _bytes(value: object, kind: ColumnKind) -> bytes:
    if isinstance(value, bytes):
        return value
    if kind.name == "nested":
        return canonical_json(json.loads(value) if isinstance(value, str) else value).encode()
    return str(value).encode()


def canonical_json(value: object) -> str:
    """JSON with sorted keys and no spaces; what JSON has not is written as text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)

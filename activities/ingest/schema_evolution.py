"""What happens when a source's columns change: `evolve`, `freeze` or `discard`, as in dlt's schema contracts."""

from __future__ import annotations

from collections.abc import Collection

import ibis.expr.datatypes as dt
import ibis.expr.schema as sch

from entrepot.errors import StepFailed
from entrepot.language.step import Contract

DOUBLE_HOLDS = 1 << 53
"""A float64 holds every whole number up to this one, and some beyond."""


def evolved(
    table: str,
    before: sch.Schema,
    found: sch.Schema,
    contract: Contract,
    *,
    grows: bool,
    wide: Collection[str] = (),
    absent: Collection[str] = (),
) -> tuple[sch.Schema, tuple[str, ...]]:
    """A table's columns after a load, and what changed in them, in words.

    Args:
        grows: Whether rows of before stay, so that the columns have to hold both.
        wide: The columns with whole numbers that a float64 does not hold.
        absent: Those that the load before did not bring either, of which that has been told.

    Raises:
        StepFailed: if the contract freezes them; if one column cannot hold both the old and the new values.
    """
    changes = differences(before, found)
    if not changes:
        return before, ()
    if contract == "freeze":
        raise StepFailed(f"table {table!r} is frozen, and the source's columns changed: {'; '.join(changes)}")
    if contract == "discard":
        return before, tuple(f"{change} (discarded)" for change in changes)
    if not grows:
        return found, changes
    changes = differences(sch.Schema({n: t for n, t in before.items() if n in found or n not in absent}), found)
    columns = {name: _both(table, name, dtype, found.get(name, dtype), name in wide) for name, dtype in before.items()}
    return sch.Schema({**columns, **{n: t for n, t in found.items() if n not in before}}), changes


def differences(before: sch.Schema, found: sch.Schema) -> tuple[str, ...]:
    """What is not the same in two lists of columns. The order does not count."""
    gone = [name for name in before if name not in found]
    new = [name for name in found if name not in before]
    changes = []
    for name in list(gone):
        alike = [other for other in new if found[other] == before[name]]
        if len(gone) == 1 and len(alike) == 1 == len(new):
            changes.append(f"column {name!r} is gone and {alike[0]!r} is new, of the same type (renamed?)")
            gone, new = [], []
    changes += [f"column {name!r} ({before[name]}) is gone" for name in gone]
    changes += [f"column {name!r} ({found[name]}) is new" for name in new]
    for name, dtype in before.items():
        if name in found and found[name] != dtype:
            changes.append(f"column {name!r} was {dtype} and is {found[name]}{_how(dtype, found[name])}")
    return tuple(changes)


def _how(before: dt.DataType, found: dt.DataType) -> str:
    wider = common(before, found)
    return ", wider" if wider == found else ", narrower" if wider == before else ""


def _both(table: str, column: str, before: dt.DataType, found: dt.DataType, is_wide: bool) -> dt.DataType:
    wider = common(before, found, is_wide=is_wide)
    if wider is None:
        raise StepFailed(
            f"table {table!r}: column {column!r} was {before} and is now {found}, and no type holds both; "
            "run it once with `refresh`, or declare the column's type"
        )
    return wider


def common(one: dt.DataType, other: dt.DataType, *, is_wide: bool = False) -> dt.DataType | None:
    """The type that holds the values of both, if there is one.

    Args:
        is_wide: Whether some of the whole numbers are beyond what a float64 holds.
    """
    if one == other:
        return one
    if one.is_null() or other.is_null():
        return other if one.is_null() else one
    if one.is_struct() and other.is_struct():
        return _struct(one, other, is_wide)
    if one.is_array() and other.is_array():
        inner = common(one.value_type, other.value_type, is_wide=is_wide)
        return inner and dt.Array(inner)
    if one.is_timestamp() and other.is_timestamp() and one.timezone == other.timezone:
        return dt.Timestamp(timezone=one.timezone, scale=max(one.scale or 6, other.scale or 6))
    if one.is_decimal() and other.is_decimal():
        return _decimal(one, other)
    return _wider(one, other, is_wide) or _wider(other, one, is_wide)


def _wider(narrow: dt.DataType, wide: dt.DataType, is_wide: bool) -> dt.DataType | None:
    """The type for both, if the first is of a narrower kind than the second, or of the same. A truth is no number."""
    if narrow.is_boolean() or wide.is_boolean():
        return None
    if narrow.is_date() and wide.is_timestamp():
        return wide
    if narrow.is_integer() and wide.is_floating():
        return None if is_wide else dt.float64
    if narrow.is_integer() and wide.is_decimal():
        return _decimal(_digits(narrow), wide)
    if narrow.is_unsigned_integer() and wide.is_signed_integer() and wide.nbytes <= narrow.nbytes == 8:
        return _decimal(_digits(narrow), _digits(wide))
    if (narrow.is_integer() and wide.is_integer()) or (narrow.is_floating() and wide.is_floating()):
        return dt.highest_precedence([narrow, wide])
    return None


def _digits(dtype: dt.DataType) -> dt.Decimal:
    """A decimal for whole numbers."""
    return dt.Decimal(10 if dtype.nbytes < 8 else 20 if dtype.is_unsigned_integer() else 19, 0)


def _struct(one: dt.DataType, other: dt.DataType, is_wide: bool) -> dt.DataType | None:
    fields = dict(one.items())
    for name, dtype in other.items():
        if (both := common(fields.get(name, dtype), dtype, is_wide=is_wide)) is None:
            return None
        fields[name] = both
    return dt.Struct(fields)


def _decimal(one: dt.DataType, other: dt.DataType) -> dt.DataType | None:
    scale = max(one.scale or 0, other.scale or 0)
    whole = max((one.precision or 38) - (one.scale or 0), (other.precision or 38) - (other.scale or 0))
    return dt.Decimal(whole + scale, scale) if whole + scale <= 38 else None

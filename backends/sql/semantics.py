"""What expressions mean on every warehouse where ibis leaves it to each, said in ibis's own operations.

Each is a rewrite, which a compiler applies before it writes SQL. What one warehouse alone says otherwise stands in its
own compiler. The sentences that users read are in `docs/backends.md`, and the hard values in
`tests/conformance/operations`.
"""

from __future__ import annotations

import calendar
import re
import zoneinfo
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import ibis
import ibis.common.exceptions as com
import ibis.expr.datatypes as dt
import ibis.expr.operations as ops
import ibis.expr.rules as rlz
from ibis.common.patterns import replace
from ibis.expr.rewrites import p

_UTC = frozenset({"UTC", "Etc/UTC", "GMT", "Etc/GMT", "Zulu", "Etc/Zulu"})
_DAYS = frozenset({"D", "W", "M", "Q", "Y"})
"""Units that begin when a day does: clocks decide when that is."""


class LocalTime(ops.Value):  # type: ignore[misc]
    """What clocks in a zone show at a point in time: a timestamp without zone."""

    arg: ops.Value[dt.Timestamp]
    zone: str

    shape = rlz.shape_like("arg")
    dtype = dt.Timestamp(scale=6)


class PointInTime(ops.Value):  # type: ignore[misc]
    """The point in time at which clocks in a zone show this."""

    arg: ops.Value[dt.Timestamp]
    zone: str

    shape = rlz.shape_like("arg")

    @property
    def dtype(self) -> dt.Timestamp:
        """In that zone still."""
        return dt.Timestamp(timezone=self.zone, scale=6)


def zone_of(dtype: dt.DataType) -> str | None:
    """The zone of a timestamp whose clocks do not show UTC."""
    zone = dtype.timezone if dtype.is_timestamp() else None
    if zone is None or zone in _UTC:
        return None
    try:
        zoneinfo.ZoneInfo(zone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError):
        _refuse(f"there is no time zone {zone!r}: name one such as 'Europe/Rome'")
    return str(zone)


def _refuse(why: str) -> NoReturn:
    raise com.UnsupportedOperationError(why)


def _local(node: ops.Value) -> ops.Value:
    """The same as clocks in its zone show it, if they show something else than UTC."""
    zone = zone_of(node.dtype)
    return node if zone is None else LocalTime(node, zone)


def parts_are_local(_: Any, **__: Any) -> Any:
    """A part of a timestamp in a zone is what clocks show there."""
    return _ if isinstance(_, ops.ExtractEpochSeconds) else _.copy(arg=_local(_.arg))


def units_begin_locally(_: Any, **__: Any) -> Any:
    """A day in a zone begins with its midnight, and an hour with its clocks' minute 0: some zones have half hours."""
    zone = zone_of(_.arg.dtype)
    if zone is None or _.unit.short not in _DAYS | {"h"}:
        return _
    local = LocalTime(_.arg, zone)
    if _.unit.short != "h":
        return PointInTime(ops.TimestampTruncate(local, _.unit), zone)
    minutes = ops.IntervalFromInteger(ops.ExtractMinute(local), "m")
    return ops.TimestampSub(ops.TimestampTruncate(_.arg, "m"), minutes)


def days_between_are_local(_: Any, **__: Any) -> Any:
    """Days and what is made of days are counted by the clocks of the first; hours pass everywhere alike."""
    zone = zone_of(_.left.dtype)
    by_days = _.part.value in ("day", "week", "month", "quarter", "year") if isinstance(_.part, ops.Literal) else False
    if zone is None or not by_days or _.right.dtype.timezone is None:
        return _
    return _.copy(left=LocalTime(_.left, zone), right=LocalTime(_.right, zone))


def casts_are_local(_: Any, **__: Any) -> Any:
    """A date, a time and a timestamp without zone are what clocks show. The other way is not always one point."""
    found, to = _.arg.dtype, _.to
    zone = zone_of(found)
    if found.is_timestamp() and found.timezone is None and to.is_timestamp() and (wanted := zone_of(to)):
        _refuse(
            f"a timestamp without zone is UTC, and clocks in {wanted} are not: cast it to timestamp('UTC') first, and "
            f"then to timestamp('{wanted}')"
        )
    if zone is None:
        return _
    if to.is_string():
        _refuse(f"a timestamp in {zone} has no text that all warehouses write: use strftime, or cast it to timestamp")
    if to.is_timestamp() and to.timezone is None:
        return LocalTime(_.arg, zone)
    return _.copy(arg=LocalTime(_.arg, zone)) if to.is_date() or to.is_time() else _


def hash_is_refused(_: Any, **__: Any) -> Any:
    """Every warehouse has another function."""
    _refuse("hash() is another number on every warehouse: use hexdigest() where there is one, or the value itself")


# Texts of times

_CODE = re.compile(r"%(-?.)|([^%]+)", re.DOTALL)
_OF_THE_DAY = frozenset("HIMSfp")


def _codes(op: ops.Strftime) -> list[tuple[str, str]]:
    """The codes of a format and the text between them, each as (code, text) with one of the two empty.

    Raises:
        UnsupportedOperationError: for a code that not every warehouse can be made to write alike.
    """
    if not isinstance(op.format_str, ops.Literal):
        _refuse("the format of strftime has to be written down, and not be a column")
    found = _CODE.findall(op.format_str.value)
    if "".join(f"%{code}" if code else text for code, text in found) != op.format_str.value:
        _refuse(f"the format {op.format_str.value!r} of strftime ends within a code")
    for code, _text in found:
        if code and code not in _CODES:
            known = " ".join(f"%{each}" for each in sorted(_CODES, key=lambda c: (c.strip("-").lower(), c)))
            _refuse(f"strftime cannot write %{code} alike on all warehouses; it can write {known}")
    return found


def strftime_is_local(_: Any, **__: Any) -> Any:
    """For warehouses that know all codes."""
    _codes(_)
    return _.copy(arg=_local(_.arg))


def strftime_in_parts(_: Any, **__: Any) -> Any:
    """For warehouses that have other codes, or take what they do not know for text: each code by itself."""
    value = _local(_.arg).to_expr()
    parts = [_written(value, code) if code else ibis.literal(text) for code, text in _codes(_)]
    made = ops.StringConcat(tuple(parts)) if parts else ops.Literal("", dt.string)
    if all(isinstance(part.op(), ops.Literal) for part in parts):
        return ops.IfElse(value.notnull(), made, ibis.null(str))  # of NULL it is NULL, whatever the format says
    return made


def _written(value: Any, code: str) -> Any:
    if code == "%":
        return ibis.literal("%")
    if code.strip("-") in _OF_THE_DAY and value.type().is_date():
        return ibis.literal({"I": "12", "p": "AM", "f": "000000"}.get(code.strip("-"), "00" if code[0] != "-" else "0"))
    if code in "aA":
        return value.day_of_week.full_name() if code == "A" else value.day_of_week.full_name().substr(0, 3)
    if code in "bB":
        names = calendar.month_name if code == "B" else calendar.month_abbr
        return value.month().cases(*((number, names[number]) for number in range(1, 13)))
    if code == "p":
        return ibis.ifelse(value.hour() < 12, "AM", "PM")
    number, digits = _NUMBERS[code.strip("-")]
    text = number(value).cast(str)
    return text if code.startswith("-") else text.lpad(digits, "0")


_NUMBERS: Mapping[str, tuple[Callable[[Any], Any], int]] = {
    "Y": (lambda value: value.year(), 4),
    "G": (lambda value: value.iso_year(), 4),
    "y": (lambda value: value.year() % 100, 2),
    "m": (lambda value: value.month(), 2),
    "d": (lambda value: value.day(), 2),
    "j": (lambda value: value.day_of_year(), 3),
    "V": (lambda value: value.week_of_year(), 2),
    "u": (lambda value: value.day_of_week.index() + 1, 1),
    "H": (lambda value: value.hour(), 2),
    "I": (lambda value: (value.hour() + 11) % 12 + 1, 2),
    "M": (lambda value: value.minute(), 2),
    "S": (lambda value: value.second(), 2),
    "f": (lambda value: value.microsecond(), 6),
}
"""Codes of numbers: the number, and to how many digits it is filled up; `%-d` has no more than it needs."""
_CODES = frozenset([*_NUMBERS, *(f"-{code}" for code in "dmHIMSj"), *"paAbB%"])

MEANINGS = (
    replace(p.ExtractTimestampField | p.DayOfWeekIndex | p.DayOfWeekName | p.Date | p.Time)(parts_are_local),
    replace(p.TimestampTruncate)(units_begin_locally),
    replace(p.TimestampDelta)(days_between_are_local),
    replace(p.Cast | p.TryCast)(casts_are_local),
    replace(p.Hash)(hash_is_refused),
)
"""What every compiler applies; beside them, one of the two that are for `strftime`."""

STRFTIME = replace(p.Strftime)(strftime_is_local)
STRFTIME_IN_PARTS = replace(p.Strftime)(strftime_in_parts)

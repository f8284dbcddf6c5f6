"""Cron expressions, read as Temporal reads them, and written the same way whatever they were made of.

Temporal keeps a cron expression as ranges of numbers, and two texts can mean the same times. `parse` and `text` go both
ways, so what a server describes is compared with what the tenant file says as text. Other than in some crons, a day
must match both the day of the month and the day of the week.

It has to be ours: the server describes its own cron strings as ranges, which no file can be compared with; croniter
takes what Temporal refuses (`5-1`, `L`, six fields, 31 February), and its errors do not name the field.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from temporalio.client import ScheduleCalendarSpec, ScheduleRange


@dataclass(frozen=True)
class _Field:
    """One of the five fields: its values, and the names that some have."""

    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()


_MINUTE = _Field("minute", 0, 59)
_HOUR = _Field("hour", 0, 23)
_DAY = _Field("day of the month", 1, 31)
_MONTH = _Field("month", 1, 12, ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"))
_WEEKDAY = _Field("day of the week", 0, 6, ("sun", "mon", "tue", "wed", "thu", "fri", "sat"))
_FIELDS = (_MINUTE, _HOUR, _DAY, _MONTH, _WEEKDAY)
_DAYS_OF_MONTHS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
SHORTHANDS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
}


def parse(expression: str) -> ScheduleCalendarSpec:
    """The times of a cron expression of five fields, or of a shorthand such as `@daily`.

    Raises:
        ValueError: saying which field is wrong, and what it takes.
    """
    words = SHORTHANDS.get(expression.strip(), expression).split()
    if len(words) != len(_FIELDS):
        raise ValueError(
            f"{expression!r} is not a valid cron expression: write minute, hour, day of the month, month and day of "
            f"the week, such as '0 6 * * 1-5', or one of {', '.join(SHORTHANDS)}"
        )
    values = [_values(word, field, expression) for word, field in zip(words, _FIELDS, strict=True)]
    minutes, hours, days, months, weekdays = values
    if min(days) > max(_DAYS_OF_MONTHS[month - 1] for month in months):
        raise ValueError(f"{expression!r} never occurs: none of its months has a day {min(days)}")
    return ScheduleCalendarSpec(
        minute=_ranges(minutes, _MINUTE),
        hour=_ranges(hours, _HOUR),
        day_of_month=_ranges(days, _DAY),
        month=_ranges(months, _MONTH),
        day_of_week=_ranges(weekdays, _WEEKDAY),
        comment=expression.strip(),
    )


def text(calendar: ScheduleCalendarSpec) -> str:
    """A calendar as a cron expression; equal for calendars that mean the same times.

    One that was not made here may know seconds and years: they stand before and after the five fields.
    """
    ranges = (calendar.minute, calendar.hour, calendar.day_of_month, calendar.month, calendar.day_of_week)
    words = [_text(_expanded(each), field) for each, field in zip(ranges, _FIELDS, strict=True)]
    seconds, years = _expanded(calendar.second), _expanded(calendar.year)
    if seconds != [0] or years:
        words = [_text(seconds, _Field("second", 0, 59)), *words, ",".join(map(str, years)) or "*"]
    return " ".join(words)


def _values(word: str, field: _Field, expression: str) -> list[int]:
    found: set[int] = set()
    for part in word.split(","):
        values = _span(part, field)
        if values is None:
            named = f" or {field.names[0]}-{field.names[-1]}" if field.names else ""
            raise ValueError(
                f"{expression!r} is not a valid cron expression: the {field.name} cannot be {part!r}; it takes "
                f"{field.low}-{field.high}{named}, '*', and lists, spans and steps of them"
            )
        found.update(values)
    return sorted(found)


def _span(part: str, field: _Field) -> list[int] | None:
    """What one element of a list stands for: `*`, `5`, `1-5`, `*/15`, `5/15` (from 5 on) or `1-30/2`."""
    span, slash, step_text = part.partition("/")
    first, dash, last = span.partition("-")
    # Sunday is 7 as well as 0, also where a span ends.
    most = 7 if field is _WEEKDAY else field.high
    low: int | None = field.low
    high: int | None = most
    if span != "*":
        low = _number(first, field)
        high = _number(last, field) if dash else most if slash else low
    step = _digits(step_text) if slash else 1
    if low is None or high is None or step is None or not (field.low <= low <= high <= most and 1 <= step <= most):
        return None
    return [value % 7 if field is _WEEKDAY else value for value in range(low, high + 1, step)]


def _number(text: str, field: _Field) -> int | None:
    if text.lower() in field.names:
        return field.names.index(text.lower()) + field.low
    return _digits(text)


def _digits(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() else None


def _ranges(values: Sequence[int], field: _Field) -> tuple[ScheduleRange, ...]:
    """Sorted numbers as few ranges: one with a step, or else one for each run of neighbours."""
    step = values[1] - values[0] if len(values) > 2 else 1
    if step > 1 and list(values) == list(range(values[0], values[-1] + 1, step)):
        last = field.high if values[0] == field.low and values[-1] + step > field.high else values[-1]
        return (ScheduleRange(values[0], last, step),)
    ranges: list[ScheduleRange] = []
    for value in values:
        if ranges and ranges[-1].end == value - 1:
            ranges[-1] = ScheduleRange(ranges[-1].start, value)
        else:
            ranges.append(ScheduleRange(value))
    return tuple(ranges)


def _expanded(ranges: Iterable[ScheduleRange]) -> list[int]:
    return sorted({value for r in ranges for value in range(r.start, r.end + 1, r.step)})


def _text(values: Sequence[int], field: _Field) -> str:
    return ",".join(_range_text(each, field) for each in _ranges(values, field)) if values else "-"


def _range_text(each: ScheduleRange, field: _Field) -> str:
    if (each.start, each.end) == (field.low, field.high):
        span = "*"
    else:
        span = str(each.start) if each.start == each.end else f"{each.start}-{each.end}"
    return span if each.step == 1 else f"{span}/{each.step}"

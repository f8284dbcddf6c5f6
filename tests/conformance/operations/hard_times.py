"""The hard values of times: what `docs/backends.md` says that operations mean which ibis leaves to each warehouse."""

from __future__ import annotations

import datetime as d
import math
import re
from collections.abc import Callable
from typing import Any
from zoneinfo import ZoneInfo

import ibis

from tests.conformance.cases import Case, group
from tests.conformance.operations.hard import Made, each, fails

_YORK, _KOLKATA = ZoneInfo("America/New_York"), ZoneInfo("Asia/Kolkata")


def _in(zone: ZoneInfo, build: Callable[[Any], Any], python: Callable[[d.datetime], Any]) -> Made:
    """An expression over points in time, cast to a zone; Python is given what its clocks show."""
    return each(
        "zoned",
        lambda h: build(h.zoned.cast(f"timestamp('{zone.key}')")),
        lambda row: python((row.zoned or d.datetime.min).astimezone(zone)),
    )


def _york(build: Callable[[Any], Any], python: Callable[[d.datetime], Any]) -> Made:
    return _in(_YORK, build, python)


def _kolkata(build: Callable[[Any], Any], python: Callable[[d.datetime], Any]) -> Made:
    return _in(_KOLKATA, build, python)


def _at(build: Callable[[Any], Any], python: Callable[[d.datetime], Any]) -> Made:
    return each("at", lambda h: build(h.at), lambda row: python(row.at or d.datetime.min))


def _midnight(value: d.datetime) -> d.datetime:
    return value.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)


def _monday(value: d.date) -> d.date:
    return value - d.timedelta(days=value.weekday())


def _weeks(value: d.date, since: d.date) -> int:
    return (_monday(value) - _monday(since)).days // 7


def _epoch(value: d.datetime) -> int:
    return (value - d.datetime(1970, 1, 1)) // d.timedelta(seconds=1)


def _text(value: d.datetime) -> str:
    fraction = f"{value.microsecond:06d}".rstrip("0")
    return f"{value:%Y-%m-%d %H:%M:%S}" + (f".{fraction}" if fraction else "")


def _format(code: str, *, python: str = "") -> Case:
    name = re.sub(r"\W+", "_", code.replace("%-", "short ").replace("%", "")).strip("_") or "percent"
    return Case(f"strftime_{name}", *_at(lambda c: c.strftime(code), lambda v: v.strftime(python or code)))


_JANUARY = d.datetime(2024, 1, 7)  # a Sunday

HARD_TIMES = group(
    "hard",
    "Hard values of times",
    [
        Case("hour_in_a_zone", *_york(lambda c: c.hour(), lambda v: v.hour)),
        Case("minute_in_a_zone", *_kolkata(lambda c: c.minute(), lambda v: v.minute)),
        Case("day_in_a_zone", *_york(lambda c: c.day(), lambda v: v.day)),
        Case("month_in_a_zone", *_kolkata(lambda c: c.month(), lambda v: v.month)),
        Case("year_in_a_zone", *_york(lambda c: c.year(), lambda v: v.year)),
        Case("week_in_a_zone", *_york(lambda c: c.week_of_year(), lambda v: v.isocalendar().week)),
        Case("weekday_in_a_zone", *_york(lambda c: c.day_of_week.index(), lambda v: v.weekday())),
        Case("name_of_weekday_in_a_zone", *_york(lambda c: c.day_of_week.full_name(), lambda v: v.strftime("%A"))),
        Case("date_in_a_zone", *_york(lambda c: c.date(), lambda v: v.date())),
        Case("cast_to_a_date_in_a_zone", *_kolkata(lambda c: c.cast("date"), lambda v: v.date())),
        Case("cast_to_a_timestamp_in_a_zone", *_york(lambda c: c.cast("timestamp"), lambda v: v.replace(tzinfo=None))),
        Case("truncate_to_a_day_in_a_zone", *_york(lambda c: c.truncate("D"), _midnight)),
        Case("truncate_to_a_month_in_a_zone", *_york(lambda c: c.truncate("M"), lambda v: _midnight(v.replace(day=1)))),
        Case(
            "truncate_to_a_week_in_a_zone",
            *_york(lambda c: c.truncate("W"), lambda v: _midnight(v - d.timedelta(days=v.weekday()))),
        ),
        Case(
            "truncate_to_an_hour_in_a_zone",
            *_kolkata(lambda c: c.truncate("h"), lambda v: v.replace(minute=0, second=0, microsecond=0)),
        ),
        Case(
            "truncate_to_an_hour_that_comes_twice",
            *_york(lambda c: c.truncate("h"), lambda v: v.replace(minute=0, second=0, microsecond=0)),
        ),
        Case(
            "strftime_in_a_zone", *_york(lambda c: c.strftime("%Y-%m-%d %H:%M"), lambda v: v.strftime("%Y-%m-%d %H:%M"))
        ),
        Case("epoch_seconds_in_a_zone", *_york(lambda c: c.epoch_seconds(), lambda v: math.floor(v.timestamp()))),
        Case("a_zone_changes_no_point_in_time", *_york(lambda c: c, lambda v: v)),
        Case(
            "days_between_in_a_zone",
            *_york(
                lambda c: c.delta(ibis.timestamp("2024-01-07 02:00:00+00:00", timezone="UTC"), unit="day"),
                lambda v: (v.date() - d.date(2024, 1, 6)).days,
            ),
        ),
        # BigQuery counts the hours that have passed between TIMESTAMPs; its stand-in counts borders.
        Case(
            "hours_between_points_in_time",
            *each(
                "zoned",
                lambda h: h.zoned.delta(ibis.timestamp("2024-01-07 00:30:00+00:00", timezone="UTC"), unit="hour"),
                lambda r: (r.zoned.replace(tzinfo=None) - _JANUARY) // d.timedelta(hours=1),
            ),
        ),
        Case("a_clock_is_no_point_in_time", *fails(lambda h: h.at.cast("timestamp('America/New_York')"))),
        Case("an_unknown_zone_is_refused", *fails(lambda h: h.zoned.cast("timestamp('Mars/Olympus')").hour())),
        Case("a_text_in_a_zone_is_refused", *fails(lambda h: h.zoned.cast("timestamp('Asia/Kolkata')").cast("string"))),
        Case("epoch_seconds", *_at(lambda c: c.epoch_seconds(), _epoch)),
        Case("epoch_seconds_of_a_date", *_at(lambda c: c.date().epoch_seconds(), lambda v: _epoch(_midnight(v)))),
        Case("epoch_seconds_count_on", *_at(lambda c: c.epoch_seconds() // 3600, lambda v: _epoch(v) // 3600)),
        Case("microsecond", *_at(lambda c: c.microsecond(), lambda v: v.microsecond)),
        Case("millisecond", *_at(lambda c: c.millisecond(), lambda v: v.microsecond // 1000)),
        Case(
            "weeks_between",
            *_at(
                lambda c: c.delta(ibis.timestamp("2024-01-07 00:00:00"), unit="week"),
                lambda v: _weeks(v.date(), _JANUARY.date()),
            ),
        ),
        Case(
            "weeks_between_dates",
            *_at(
                lambda c: c.date().delta(ibis.date(2024, 1, 7), unit="week"),
                lambda v: _weeks(v.date(), _JANUARY.date()),
            ),
        ),
        Case(
            "months_between",
            *_at(
                lambda c: c.delta(ibis.timestamp("2024-01-31 00:00:00"), unit="month"),
                lambda v: (v.year - 2024) * 12 + v.month - 1,
            ),
        ),
        # On Snowflake the account says how; BigQuery writes three digits or six. Both stand-ins are as DuckDB.
        Case("timestamp_to_text", *_at(lambda c: c.cast("string"), _text)),
        Case(
            "point_in_time_to_text", *each("zoned", lambda h: h.zoned.cast("string"), lambda r: _text(r.zoned) + "+00")
        ),
        # Snowflake takes a code that it does not know for text, and its stand-in leaves out the whole format.
        _format("%a %A"),
        _format("%b %B"),
        _format("%j"),
        _format("%I %p"),
        _format("%f"),
        _format("%G %V %u"),
        _format("%-d. %-m., %-H h"),
        _format("%y%%"),
        _format("Year %Y, day'T'%d \"q\" T"),
        _format("T"),
        Case(
            "strftime_of_a_date",
            *_at(lambda c: c.date().strftime("%A %d %B %H:%M"), lambda v: v.strftime("%A %d %B 00:00")),
        ),
        Case("strftime_of_other_codes_is_refused", *fails(lambda h: h.at.strftime("%c"))),
    ],
)

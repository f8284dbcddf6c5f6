"""Dates, times and time zones."""

from __future__ import annotations

import datetime as d
from collections.abc import Callable
from typing import Any

import ibis
from ibis import _

from tests.conformance.cases import Case, group
from tests.conformance.operations.tables import TIMES, UTC
from tests.conformance.values import Row

_Made = tuple[Callable[[Any], ibis.Table], list[Row]]


def _at(build: Callable[[Any], Any], python: Callable[[d.datetime], Any]) -> _Made:
    """An expression over every timestamp, and what Python makes of each."""
    return (
        lambda t: t.times.select("id", v=build(t.times.at)),
        [(row.id, None if row.at is None else python(row.at)) for row in TIMES],
    )


def _day(build: Callable[[Any], Any], python: Callable[[d.date], Any]) -> _Made:
    return (
        lambda t: t.times.select("id", v=build(t.times.day)),
        [(row.id, None if row.day is None else python(row.day)) for row in TIMES],
    )


def _zoned(build: Callable[[Any], Any], python: Callable[[d.datetime], Any]) -> _Made:
    return (
        lambda t: t.times.select("id", v=build(t.times.zoned)),
        [(row.id, None if row.zoned is None else python(row.zoned)) for row in TIMES],
    )


def _seconds(at: d.datetime) -> int:
    return (at - d.datetime(1970, 1, 1)) // d.timedelta(seconds=1)


TIMES_CASES = group(
    "time",
    "Dates and times",
    [
        Case("year", *_at(lambda c: c.year(), lambda v: v.year)),
        Case("month", *_at(lambda c: c.month(), lambda v: v.month)),
        Case("day", *_at(lambda c: c.day(), lambda v: v.day)),
        Case("hour", *_at(lambda c: c.hour(), lambda v: v.hour)),
        Case("minute", *_at(lambda c: c.minute(), lambda v: v.minute)),
        Case("second", *_at(lambda c: c.second(), lambda v: v.second)),
        Case("millisecond", *_at(lambda c: c.millisecond(), lambda v: v.microsecond // 1000)),
        Case("microsecond", *_at(lambda c: c.microsecond(), lambda v: v.microsecond)),
        Case("quarter", *_day(lambda c: c.quarter(), lambda v: (v.month + 2) // 3)),
        Case("week_of_year", *_day(lambda c: c.week_of_year(), lambda v: v.isocalendar().week)),
        Case("day_of_year", *_day(lambda c: c.day_of_year(), lambda v: v.timetuple().tm_yday)),
        Case("day_of_week", *_day(lambda c: c.day_of_week.index(), lambda v: v.weekday())),
        Case("name_of_weekday", *_day(lambda c: c.day_of_week.full_name(), lambda v: v.strftime("%A"))),
        Case("epoch_seconds", *_at(lambda c: c.epoch_seconds(), _seconds)),
        Case("date_of_a_timestamp", *_at(lambda c: c.date(), lambda v: v.date())),
        Case("time_of_a_timestamp", *_at(lambda c: c.time(), lambda v: v.time())),
        Case("truncate_year", *_at(lambda c: c.truncate("Y"), lambda v: d.datetime(v.year, 1, 1))),
        Case(
            "truncate_quarter",
            *_at(lambda c: c.truncate("Q"), lambda v: d.datetime(v.year, (v.month - 1) // 3 * 3 + 1, 1)),
        ),
        Case("truncate_month", *_at(lambda c: c.truncate("M"), lambda v: d.datetime(v.year, v.month, 1))),
        Case(
            "truncate_week",
            *_at(
                lambda c: c.truncate("W"), lambda v: d.datetime(v.year, v.month, v.day) - d.timedelta(days=v.weekday())
            ),
        ),
        Case("truncate_day", *_at(lambda c: c.truncate("D"), lambda v: d.datetime(v.year, v.month, v.day))),
        Case("truncate_hour", *_at(lambda c: c.truncate("h"), lambda v: v.replace(minute=0, second=0, microsecond=0))),
        Case("truncate_minute", *_at(lambda c: c.truncate("m"), lambda v: v.replace(second=0, microsecond=0))),
        Case("truncate_date_to_month", *_day(lambda c: c.truncate("M"), lambda v: v.replace(day=1))),
        Case("truncate_date_to_week", *_day(lambda c: c.truncate("W"), lambda v: v - d.timedelta(days=v.weekday()))),
        Case("add_days", *_day(lambda c: (c + ibis.interval(days=1)).cast("date"), lambda v: v + d.timedelta(days=1))),
        Case(
            "subtract_days",
            *_day(lambda c: (c - ibis.interval(days=31)).cast("date"), lambda v: v - d.timedelta(days=31)),
        ),
        Case(
            "add_a_month_ends_with_the_month",
            lambda t: t.times.filter(_.id == 1).select(v=(_.day + ibis.interval(months=1)).cast("date")),
            [(d.date(2024, 2, 29),)],
        ),
        Case(
            "add_a_year_to_leap_day",
            lambda t: t.times.filter(_.id == 2).select(v=(_.day + ibis.interval(years=1)).cast("date")),
            [(d.date(2025, 2, 28),)],
        ),
        Case("add_hours", *_at(lambda c: c + ibis.interval(hours=25), lambda v: v + d.timedelta(hours=25))),
        Case("subtract_minutes", *_at(lambda c: c - ibis.interval(minutes=90), lambda v: v - d.timedelta(minutes=90))),
        Case("add_seconds", *_at(lambda c: c + ibis.interval(seconds=1), lambda v: v + d.timedelta(seconds=1))),
        Case(
            "add_a_column_of_days",
            lambda t: t.times.filter(_.id < 3).select("id", v=(_.day + _.id.as_interval("D")).cast("date")),
            [(1, d.date(2024, 2, 1)), (2, d.date(2024, 3, 2))],
        ),
        Case(
            "days_between",
            *_day(lambda c: c.delta(ibis.date(2024, 1, 1), unit="day"), lambda v: (v - d.date(2024, 1, 1)).days),
        ),
        Case(
            "days_between_timestamps",
            lambda t: t.times.filter(_.id == 1).select(
                v=ibis.timestamp("2024-02-02 00:00:00").delta(t.times.at, unit="day")
            ),
            [(2,)],
        ),  # boundaries crossed
        Case(
            "hours_between",
            lambda t: t.times.filter(_.id == 1).select(
                v=ibis.timestamp("2024-02-01 01:00:00").delta(t.times.at, unit="hour")
            ),
            [(2,)],
        ),
        Case(
            "compare_with_a_literal",
            lambda t: t.times.filter(_.at >= ibis.timestamp("2024-02-29 00:00:00")).select("id"),
            [(2,), (4,), (6,)],
        ),
        Case("compare_date_with_text", lambda t: t.times.filter(_.day < "2024-01-01").select("id"), [(3,), (7,)]),
        Case(
            "between",
            lambda t: t.times.filter(_.day.between(ibis.date("2024-01-31"), ibis.date("2024-02-29"))).select("id"),
            [(1,), (2,)],
        ),
        Case(
            "from_parts",
            lambda t: t.wide.select("id", v=ibis.date(2024, _.id, 1)),
            [(1, d.date(2024, 1, 1)), (2, d.date(2024, 2, 1))],
        ),
        Case(
            "timestamp_from_parts",
            lambda t: t.wide.select("id", v=ibis.timestamp(2024, _.id, 1, 2, 3, 4)),
            [(1, d.datetime(2024, 1, 1, 2, 3, 4)), (2, d.datetime(2024, 2, 1, 2, 3, 4))],
        ),
        Case("strftime_date", *_day(lambda c: c.strftime("%Y-%m-%d"), lambda v: v.strftime("%Y-%m-%d"))),
        Case("strftime_month", *_day(lambda c: c.strftime("%Y-%m"), lambda v: v.strftime("%Y-%m"))),
        Case(
            "strftime_timestamp",
            *_at(lambda c: c.strftime("%d.%m.%Y %H:%M:%S"), lambda v: v.strftime("%d.%m.%Y %H:%M:%S")),
        ),
        Case(
            "parse_date",
            lambda t: t.wide.filter(_.id == 1).select(v=ibis.literal("31/12/2024").as_date("%d/%m/%Y")),
            [(d.date(2024, 12, 31),)],
        ),
        Case(
            "parse_timestamp",
            lambda t: t.wide.filter(_.id == 1).select(
                v=ibis.literal("2024-12-31 23:59:58").as_timestamp("%Y-%m-%d %H:%M:%S").cast("timestamp")
            ),
            [(d.datetime(2024, 12, 31, 23, 59, 58),)],
        ),
        Case(
            "from_epoch",
            lambda t: t.wide.select("id", v=(_.id * 86400).as_timestamp("s").cast("timestamp")),
            [(1, d.datetime(1970, 1, 2)), (2, d.datetime(1970, 1, 3))],
        ),
        Case(
            "literal_microseconds",
            lambda t: t.wide.filter(_.id == 1).select(v=ibis.timestamp("2024-01-31 23:59:59.123456")),
            [(d.datetime(2024, 1, 31, 23, 59, 59, 123456),)],
        ),
        Case("min_max", lambda t: t.times.aggregate(a=_.at.min(), b=_.day.max()), [(TIMES[6].at, TIMES[5].day)]),
        Case(
            "group_by_month",
            lambda t: t.times.group_by(m=_.day.truncate("M")).aggregate(n=_.count()),
            [
                (d.date(2024, 1, 1), 1),
                (d.date(2024, 2, 1), 1),
                (d.date(2023, 12, 1), 1),
                (d.date(2024, 3, 1), 1),
                (d.date(2024, 12, 1), 1),
                (d.date(1969, 7, 1), 1),
                (None, 1),
            ],
        ),
        Case("now_is_now", lambda t: t.wide.filter(_.id == 1).select(v=ibis.now().year() >= 2024), [(True,)]),
    ],
)

ZONES = group(
    "zone",
    "Time zones",
    [
        Case("kept", *_zoned(lambda c: c, lambda v: v)),
        Case("hour_is_utc", *_zoned(lambda c: c.hour(), lambda v: v.hour)),
        Case("date_is_utc", *_zoned(lambda c: c.date(), lambda v: v.date())),
        Case(
            "truncate_is_utc",
            *_zoned(lambda c: c.truncate("D"), lambda v: v.replace(hour=0, minute=0, second=0, microsecond=0)),
        ),
        Case("to_utc_without_zone", *_zoned(lambda c: c.cast("timestamp"), lambda v: v.replace(tzinfo=None))),
        Case("from_utc_without_zone", *_at(lambda c: c.cast("timestamp('UTC')"), lambda v: v.replace(tzinfo=UTC))),
        Case("epoch_seconds", *_zoned(lambda c: c.epoch_seconds(), lambda v: int(v.timestamp() // 1))),
        Case("add_hours_over_dst", *_zoned(lambda c: c + ibis.interval(hours=24), lambda v: v + d.timedelta(hours=24))),
        Case(
            "compare",
            lambda t: t.times.filter(_.zoned > ibis.timestamp("2024-03-31 01:00:00+00:00")).select("id"),
            [(4,), (6,)],
        ),
        Case("strftime", *_zoned(lambda c: c.strftime("%Y-%m-%d %H:%M"), lambda v: v.strftime("%Y-%m-%d %H:%M"))),
        Case(
            "literal_with_offset",
            lambda t: t.wide.filter(_.id == 1).select(v=ibis.timestamp("2024-06-01 12:00:00+02:00", timezone="UTC")),
            [(d.datetime(2024, 6, 1, 10, tzinfo=UTC),)],
        ),
    ],
)

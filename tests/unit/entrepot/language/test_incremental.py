"""How a table is computed by parts, and from when on."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot import BadInput, ByInterval
from entrepot.language.incremental import Every


@pytest.mark.parametrize(
    ("before", "every", "said"),
    [
        ("soon", "day", "is no date or time of the calendar; write it as"),
        ("2024-02-30", "day", "is no date or time of the calendar"),
        ("10000-01-01", "year", "is no date or time of the calendar"),
        ("0001-01-01T00:00+14:00", "hour", "is no date or time of the calendar"),
        ("", "day", "is no date or time of the calendar"),
        (datetime.date(2024, 1, 1), "day", 'has to be a text such as "2024-01-01"'),
        ("2024-01-01T06:00", "day", "no day begins then; the one that it is in begins at 2024-01-01 00:00"),
        ("2024-01-01T06:30", "hour", "no hour begins then; the one that it is in begins at 2024-01-01 06:00"),
        ("2024-01-03", "week", "no week begins then; the one that it is in begins at 2024-01-01 00:00"),
        ("2024-01-02", "month", "no month begins then; the one that it is in begins at 2024-01-01 00:00"),
        ("2024-02-01", "year", "no year begins then; the one that it is in begins at 2024-01-01 00:00"),
        ("2024-01-01T00:00+02:00", "day", "no day begins then; the one that it is in begins at 2023-12-31 00:00"),
    ],
)
def test_a_date_at_which_no_interval_begins_is_refused(before: Any, every: Every, said: str) -> None:
    with pytest.raises(BadInput, match=said) as refused:
        ByInterval("day", every=every, frozen_before=before)
    assert f"`frozen_before` is {before!r}, and " in str(refused.value)


@pytest.mark.parametrize(
    "before", ["2024-01-01", "20240101", "2024-01-01T00:00", "2024-01-01 00:00:00Z", "2024-01-01T02:00+02:00"]
)
def test_however_a_moment_is_written_it_is_the_same(before: str) -> None:
    assert ByInterval("day", frozen_before=before).frozen_until == datetime.datetime(2024, 1, 1)


@given(st.datetimes(), st.sampled_from(["hour", "day", "week", "month", "year"]))
def test_what_is_said_to_be_the_beginning_is_one(at: datetime.datetime, every: Every) -> None:
    try:
        assert ByInterval("at", every=every, frozen_before=at.isoformat()).frozen_until == at
    except BadInput as error:
        start = str(error).rpartition("begins at ")[2]
        if datetime.datetime.fromisoformat(start) > datetime.datetime(1, 1, 8):
            ByInterval("at", every=every, frozen_before=start)

"""What workflows have in common that look at something again and again, for ever: their times, and looks that fail."""

from __future__ import annotations

import datetime
from datetime import timedelta

from temporalio import workflow

from entrepot.language.limits import StepLimits
from entrepot.protocol.triggers import Look

LONGEST_BACKOFF = timedelta(hours=1)
"""Between two looks at what cannot be looked at, unless it is looked at less often anyway."""

AT_LEAST = timedelta(hours=1)
"""How often promises are looked at whatever is due: code may promise more since, or an environment be new."""
SOONEST = timedelta(seconds=5)
"""The shortest pause between two looks at promises, whatever the clocks of workers say."""
LONG_LOOK = StepLimits(timeout=timedelta(minutes=10), attempts=3, backoff=timedelta(seconds=1))
"""A look at a warehouse, for which it may have to wait, and which others may be writing."""


def pause_after(failures: int, every: timedelta) -> timedelta:
    """How long a look waits that has failed so many times in a row."""
    longest = max(every, LONGEST_BACKOFF)
    return longest if failures > 20 else min(every * int(2**failures), longest)


def failed(before: Look, error: str, every: timedelta) -> dict[str, object]:
    """What changes with a look that has failed just now, where it is otherwise made so often."""
    now = workflow.now()
    failures = before.failures + 1
    return {
        "failures": failures,
        "since": before.since or text_of(now),
        "error": error,
        "next": text_of(now + pause_after(failures, every)),
    }


def trouble(what: str, its: Look) -> str:
    """That looks fail, for people, as a line of a list."""
    times = f"{its.failures} times" if its.failures > 1 else "once"
    return (
        f"- **{what}** could not be looked at, {times} since {its.since[:19]} UTC; it is tried again at "
        f"{its.next[:19]}: {' '.join(its.error.split())}"
    )


def is_long() -> bool:
    """Whether it is time to continue as new."""
    return workflow.info().is_continue_as_new_suggested()


def time_of(text: str) -> datetime.datetime:
    """A time that was kept as text."""
    return datetime.datetime.fromisoformat(text).replace(tzinfo=datetime.UTC)


def text_of(time: datetime.datetime) -> str:
    """A time as it is kept: in UTC, without zone."""
    return time.astimezone(datetime.UTC).replace(tzinfo=None).isoformat()

"""How long a step may take, how much memory it may use, and how often it is tried. No part of what it computes."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Any

_UNITS = {"s": timedelta(seconds=1), "m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}
_SIZES = {"KB": 1000, "MB": 1000**2, "GB": 1000**3, "TB": 1000**4}
MOST_ATTEMPTS = 1000
LONGEST = timedelta(days=30)


@dataclass(frozen=True)
class StepLimits:
    """The limits of a step, or those that a pipeline or a tenant has for its steps; None where it says nothing.

    A step's own come first, then those of its pipeline, of the tenant, and at last `DEFAULTS`.
    """

    timeout: timedelta | None = None
    """Of one attempt."""
    memory: int | None = None
    """Bytes of the process that runs the step's code."""
    attempts: int | None = None
    backoff: timedelta | None = None
    """The pause before the second attempt; it doubles before each further one."""

    def over(self, others: StepLimits) -> StepLimits:
        """These, and the others where they say nothing."""
        own = {each.name: getattr(self, each.name) for each in fields(self)}
        return StepLimits(**{name: getattr(others, name) if value is None else value for name, value in own.items()})


UNSAID = StepLimits()
DEFAULTS = StepLimits(timedelta(hours=24), None, 5, timedelta(seconds=1))


def step_limits(
    timeout: str | None = None, memory: str | None = None, attempts: int | None = None, backoff: str | None = None
) -> StepLimits:
    """Limits as authors write them.

    Raises:
        ValueError: for one that cannot be understood, with what it may be.
    """
    if attempts is not None and (type(attempts) is not int or not 1 <= attempts <= MOST_ATTEMPTS):
        raise ValueError(f"`attempts` is a whole number from 1 to {MOST_ATTEMPTS:,}, not {attempts!r}")
    return StepLimits(_within("timeout", timeout), _size(memory), attempts, _within("backoff", backoff))


def _within(name: str, text: Any) -> timedelta | None:
    if text is None:
        return None
    try:
        found = duration(text)
    except ValueError as error:
        raise ValueError(f"`{name}`: {error}") from None
    if found > LONGEST:
        raise ValueError(f"`{name}`: {text!r} is longer than {LONGEST.days} days")
    return found


def duration(text: Any) -> timedelta:
    """A duration such as `90s`, `30m`, `6h` or `1d`.

    Raises:
        ValueError: for what is none.
    """
    match = re.fullmatch(r"([0-9]{1,9})([smhd])", text) if isinstance(text, str) else None
    found = int(match[1]) * _UNITS[match[2]] if match else timedelta()
    if not found:
        raise ValueError(f"{text!r} is not a valid duration: write a number and s, m, h or d, such as '6h'")
    return found


def _size(text: Any) -> int | None:
    if text is None:
        return None
    match = re.fullmatch(r"([0-9]{1,6})(KB|MB|GB|TB)", text) if isinstance(text, str) else None
    if not match or not int(match[1]):
        raise ValueError(f"`memory`: {text!r} is not a valid size: write a number and KB, MB, GB or TB, such as '8GB'")
    return int(match[1]) * _SIZES[match[2]]

"""How long a step may take, how much memory it may use, and how often it is tried. No part of what it computes."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

_UNITS = {"s": timedelta(seconds=1), "m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}
_SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,15})?) ?(?:([KMGTP])(I?))?B", re.ASCII | re.IGNORECASE)
_POWERS = " KMGTP"
MOST_ATTEMPTS = 1000
LONGEST = timedelta(days=30)
LONGEST_PROMISE = timedelta(days=366)


@dataclass(frozen=True)
class StepLimits:
    """The limits that hold of a step."""

    timeout: timedelta
    """Of one attempt."""
    attempts: int
    backoff: timedelta
    """The pause before the second attempt; it doubles before each further one."""
    memory: int | None = None
    """Bytes of the process that runs the step's code; None: as many as there are."""


DEFAULTS = StepLimits(timeout=timedelta(hours=24), attempts=5, backoff=timedelta(seconds=1))


@dataclass(frozen=True)
class OwnLimits:
    """What a step says of its limits, or a pipeline or a tenant of those of its steps; None where it says nothing.

    A step's own come first, then those of its pipeline, of the tenant, and at last `DEFAULTS`.
    """

    timeout: timedelta | None = None
    memory: int | None = None
    attempts: int | None = None
    backoff: timedelta | None = None

    def over(self, others: StepLimits) -> StepLimits:
        """These, and the others where they say nothing."""
        return replace(others, **{name: value for name, value in vars(self).items() if value is not None})


UNSAID = OwnLimits()


def own_limits(
    timeout: str | None = None, memory: str | None = None, attempts: int | None = None, backoff: str | None = None
) -> OwnLimits:
    """Limits as authors write them.

    Raises:
        ValueError: for one that cannot be understood, with what it may be.
    """
    if attempts is not None and (type(attempts) is not int or not 1 <= attempts <= MOST_ATTEMPTS):
        raise ValueError(f"`attempts` is a whole number from 1 to {MOST_ATTEMPTS:,}, not {attempts!r}")
    return OwnLimits(_within("timeout", timeout), _memory(memory), attempts, _within("backoff", backoff))


def promise(text: str | None) -> timedelta | None:
    """How old the data of a table may be, as authors write it.

    Raises:
        ValueError: for what cannot be understood, with what it may be.
    """
    return _within("fresh_within", text, LONGEST_PROMISE)


def _memory(text: Any) -> int | None:
    try:
        return None if text is None else size(text)
    except ValueError as error:
        raise ValueError(f"`memory`: {error}") from None


def _within(name: str, text: Any, longest: timedelta = LONGEST) -> timedelta | None:
    if text is None:
        return None
    try:
        found = duration(text)
    except ValueError as error:
        raise ValueError(f"`{name}`: {error}") from None
    if found > longest:
        raise ValueError(f"`{name}`: {text!r} is longer than {longest.days} days")
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


def duration_text(span: timedelta) -> str:
    """A duration as it is written, in the largest unit of which it has a whole number."""
    for unit, one in reversed(_UNITS.items()):
        if not span % one:
            return f"{span // one}{unit}"
    return f"{span.total_seconds():g}s"


def size(text: Any) -> int:
    """Bytes, written as `500GB`, `1.5 TiB` or `8gb`: in powers of ten, or of two.

    Raises:
        ValueError: for what is none.
    """
    match = _SIZE.fullmatch(text) if isinstance(text, str) else None
    found = int(Decimal(match[1]) * _unit(match[2] or " ", is_binary=bool(match[3]))) if match else 0
    if not found:
        raise ValueError(f"{text!r} is not a valid size: write a number and KB, MB, GB or TB, such as '8GB'")
    return found


def size_text(size: int) -> str:
    """Bytes as they are written, by the unit of which they are the fewest."""
    written = [
        (size // unit, f"{size // unit}{letter}{'i' * is_binary}B".replace(" ", ""))
        for is_binary in (False, True)
        for letter in _POWERS
        if not (letter == " " and is_binary) and not size % (unit := _unit(letter, is_binary=is_binary))
    ]
    return min(written)[1]


def _unit(letter: str, *, is_binary: bool) -> int:
    return int((1024 if is_binary else 1000) ** _POWERS.index(letter.upper()))

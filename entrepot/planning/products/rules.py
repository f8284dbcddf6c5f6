"""The rules of a contract as data, and whether some rules imply another: then whoever relied on it still can.

What pandera's own checks demand of values (bounds, allowed and forbidden values, lengths) is followed exactly, as of
numbers between which there is always another. Of all else a rule is implied by itself alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict

NOT_NULL, UNIQUE = "not_null", "unique"


class Rule(BaseModel):
    """One rule of a contract."""

    model_config = ConfigDict(frozen=True)

    rule: str
    """As pandera calls it, `not_null`, or `unique`."""
    columns: tuple[str, ...] = ()
    """Of which it speaks; none: of the table."""
    arguments: dict[str, Any] = {}
    """What it demands, as JSON."""
    said: str = ""
    """For people; no part of what it demands."""

    @property
    def demands(self) -> tuple[str, tuple[str, ...], str]:
        """What it demands: equal for two that demand the same."""
        return self.rule, self.columns, repr(sorted(self.arguments.items(), key=lambda pair: pair[0]))

    def __str__(self) -> str:
        if self.rule == NOT_NULL:
            return f"column {self.columns[0]!r} is never NULL"
        if self.rule == UNIQUE:
            return f"rows are unique by {', '.join(map(repr, self.columns))}"
        of = f"column {self.columns[0]!r}" if self.columns else "the table"
        return f"{of} satisfies {self.said or self.rule}"


def implied(rule: Rule, by: Iterable[Rule]) -> bool:
    """Whether every table that satisfies some rules satisfies another one, too."""
    every = list(by)
    if any(each.demands == rule.demands for each in every):
        return True
    if rule.rule == UNIQUE:
        return any(each.rule == UNIQUE and set(each.columns) <= set(rule.columns) for each in every)
    if rule.rule == NOT_NULL or (measure := _measure(rule)) is None:
        return False
    try:
        return _region(every, rule.columns, measure).is_within(_region([rule], rule.columns, measure))
    except TypeError:  # a text is neither above nor below a number
        return False


def contradiction(rules: Iterable[Rule]) -> str:
    """The column of which rules demand what no value satisfies, and that it is not NULL; empty, if there is none."""
    every = list(rules)
    for column in (rule.columns for rule in every if rule.rule == NOT_NULL):
        try:
            if any(_region(every, column, measure).is_empty() for measure in ("value", "length")):
                return column[0]
        except TypeError:
            continue
    return ""


@dataclass(frozen=True)
class _Bound:
    """The end of an interval."""

    value: Any
    is_closed: bool


@dataclass(frozen=True)
class _Region:
    """The values that a column may have, or their lengths."""

    low: _Bound | None = None
    high: _Bound | None = None
    allowed: tuple[Any, ...] | None = None
    """None: all between the bounds."""
    forbidden: tuple[Any, ...] = ()

    def has(self, value: Any) -> bool:
        """Whether a value is in it."""
        low, high = self.low, self.high
        return (
            (low is None or value > low.value or (low.is_closed and value == low.value))
            and (high is None or value < high.value or (high.is_closed and value == high.value))
            and (self.allowed is None or value in self.allowed)
            and value not in self.forbidden
        )

    def values(self) -> list[Any] | None:
        """All that are in it; None, if they cannot be counted."""
        if self.allowed is not None:
            return [value for value in self.allowed if self.has(value)]
        if self.low is None or self.high is None or self.low.value < self.high.value:
            return None
        return [self.low.value] if self.has(self.low.value) else []

    def is_empty(self) -> bool:
        """Whether nothing is in it."""
        return self.values() == []

    def is_within(self, other: _Region) -> bool:
        """Whether all that is in it is in another one."""
        values = self.values()
        if values is not None:
            return all(map(other.has, values))
        return (
            other.allowed is None
            and _is_beyond(self.low, other.low, self.forbidden, lambda one, two: one > two)
            and _is_beyond(self.high, other.high, self.forbidden, lambda one, two: one < two)
            and not any(map(self.has, other.forbidden))
        )


def _is_beyond(bound: _Bound | None, other: _Bound | None, forbidden: tuple[Any, ...], further: Any) -> bool:
    """Whether an interval that ends at a bound ends not later than at another."""
    if other is None:
        return True
    if bound is None:
        return False
    if bound.value != other.value:
        return bool(further(bound.value, other.value))
    return other.is_closed or not bound.is_closed or bound.value in forbidden


_BOUNDS = {  # a check, and of its least and greatest value: the argument, and whether it is one of those itself
    "greater_than": ("min_value", False, "", False),
    "greater_than_or_equal_to": ("min_value", True, "", False),
    "less_than": ("", False, "max_value", False),
    "less_than_or_equal_to": ("", False, "max_value", True),
    "in_range": ("min_value", True, "max_value", True),
    "str_length": ("min_value", True, "max_value", True),
}
_SETS = {"isin": "allowed_values", "notin": "forbidden_values", "equal_to": "value", "not_equal_to": "value"}


def _measure(rule: Rule) -> str | None:
    """What of a column's values it speaks of; None, if it cannot be followed."""
    if len(rule.columns) != 1 or "code" in rule.arguments:
        return None
    if rule.rule == "str_length":
        return "length"
    if rule.rule in _SETS:  # a file of somebody else's may lack what it demands
        return "value" if _SETS[rule.rule] in rule.arguments else None
    return "value" if rule.rule in _BOUNDS else None


def _region(rules: Iterable[Rule], columns: tuple[str, ...], measure: str) -> _Region:
    """What all rules of one column together leave of its values."""
    low, high, allowed, forbidden = None, None, None, list[Any]()
    for rule in rules:
        if rule.columns != columns or _measure(rule) != measure:
            continue
        given = rule.arguments
        if rule.rule in _SETS:
            named = given[_SETS[rule.rule]]
            values = list(named) if isinstance(named, list | tuple) else [named]
            if rule.rule in ("notin", "not_equal_to"):
                forbidden += values
            else:
                allowed = [value for value in values if allowed is None or value in allowed]
            continue
        least, greatest = _bounds(rule.rule, given)
        low = _tighter(low, least, lambda one, two: one > two)
        high = _tighter(high, greatest, lambda one, two: one < two)
    return _Region(low, high, None if allowed is None else tuple(allowed), tuple(forbidden))


def _bounds(rule: str, given: Mapping[str, Any]) -> tuple[_Bound | None, _Bound | None]:
    if given.get("exact_value") is not None:
        exact = _Bound(given["exact_value"], True)
        return exact, exact
    least, has_least, greatest, has_greatest = _BOUNDS[rule]
    low, high = given.get(least), given.get(greatest)
    return (
        None if low is None else _Bound(low, bool(given.get("include_min", has_least))),
        None if high is None else _Bound(high, bool(given.get("include_max", has_greatest))),
    )


def _tighter(one: _Bound | None, two: _Bound | None, further: Any) -> _Bound | None:
    if one is None or two is None:
        return two if one is None else one
    if one.value == two.value:
        return one if not one.is_closed else two
    return one if further(one.value, two.value) else two

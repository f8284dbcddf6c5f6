"""Which changes of a product's promise break it: whoever relied on it before cannot do so any more.

Breaking: a column that is gone, or of a type that does not hold the values of before; a column that may be NULL; a rule
or a blocking check that does not hold any more; rows that are no longer told apart by what told them apart; older data.
All else adds: columns, rules, fresher data.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import timedelta
from functools import lru_cache

from pydantic import BaseModel, ConfigDict

from entrepot.language.limits import duration_text
from entrepot.language.promises.product import major_of
from entrepot.planning.products.contract import ProductContract
from entrepot.planning.products.rules import NOT_NULL, Rule, implied


class Change(BaseModel):
    """One change of what is promised, in a sentence."""

    model_config = ConfigDict(frozen=True)

    said: str
    is_breaking: bool = False


def changes(old: ProductContract, new: ProductContract) -> list[Change]:
    """What a promise has otherwise than the one before, the breaking changes first."""
    broken = [Change(said=said, is_breaking=True) for said in _broken(old, new)]
    return [*broken, *(Change(said=said) for said in _added(old, new))]


def is_newer_major(old: ProductContract, new: ProductContract) -> bool:
    """Whether MAJOR of the version was raised, so that a promise may break."""
    before, after = major_of(old.version), major_of(new.version)
    return before is not None and after is not None and after > before


def _broken(old: ProductContract, new: ProductContract) -> Iterator[str]:
    for name, before in old.columns.items():
        after = new.columns.get(name)
        if after is None:
            yield f"column {name!r} is gone"
        elif not widens(before, after):
            yield f"column {name!r} is {after}, and was {before}"
    kept = [rule for rule in old.rules if set(rule.columns) <= new.columns.keys()]
    for rule in kept:
        if not implied(rule, new.rules):
            yield _gone(rule, new.rules)
    for check in old.checks:
        if check not in new.checks:
            yield f"the check {check!r} stops no publish any more"
    if old.fresh_within is not None and (new.fresh_within is None or new.fresh_within > old.fresh_within):
        after = f"{_text(new.fresh_within)}" if new.fresh_within is not None else "any age"
        yield f"its data may be of {after}, and was promised within {_text(old.fresh_within)}"


def _gone(rule: Rule, new: Iterable[Rule]) -> str:
    if rule.rule == NOT_NULL:
        return f"column {rule.columns[0]!r} may be NULL"
    if "code" in rule.arguments and any((each.rule, each.columns) == (rule.rule, rule.columns) for each in new):
        return f"{rule}, whose code is another now, and nobody can tell that it demands as much"
    return f"not promised any more: {rule}"


def _added(old: ProductContract, new: ProductContract) -> Iterator[str]:
    for name, after in new.columns.items():
        before = old.columns.get(name)
        if before is None:
            yield f"column {name!r} is new"
        elif before != after and widens(before, after):
            yield f"column {name!r} is {after}, which holds what {before} did"
    for rule in new.rules:
        if not implied(rule, old.rules):
            yield f"new: {rule}"
    for check in new.checks:
        if check not in old.checks:
            yield f"the check {check!r} stops publishes"
    if new.fresh_within is not None and (old.fresh_within is None or new.fresh_within < old.fresh_within):
        yield f"its data is promised within {_text(new.fresh_within)}"


def _text(seconds: float) -> str:
    return duration_text(timedelta(seconds=seconds))


@lru_cache(maxsize=4096)
def widens(before: str, after: str) -> bool:
    """Whether a type, as ibis writes it, holds every value of another one, as what it was."""
    if before == after:
        return True
    import ibis.expr.datatypes as dt  # plans are read where ibis is not

    old, new = (dt.dtype(text).copy(nullable=True) for text in (before, after))
    if old == new:
        return True
    if old.is_integer() and new.is_integer():
        return bool(old.bounds.lower >= new.bounds.lower and old.bounds.upper <= new.bounds.upper)
    if old.is_integer() and new.is_decimal():
        digits = new.precision - (new.scale or 0) if new.precision is not None else 0
        return bool(10**digits > max(old.bounds.upper, -old.bounds.lower))
    if old.is_floating() and new.is_floating():
        return bool(old.nbytes <= new.nbytes)
    if old.is_decimal() and new.is_decimal() and None not in (old.precision, old.scale, new.precision, new.scale):
        return bool(old.scale <= new.scale and old.precision - old.scale <= new.precision - new.scale)
    if old.is_string() and new.is_string():
        return new.length is None or (old.length is not None and old.length <= new.length)
    if old.is_timestamp() and new.is_timestamp() and old.timezone == new.timezone:
        return new.scale is None or (old.scale is not None and old.scale <= new.scale)
    if old.is_array() and new.is_array():
        return widens(str(old.value_type), str(new.value_type))
    return False

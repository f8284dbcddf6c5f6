"""What a table promises to those who read it, as data: made of the code by plans, and kept with what is published."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict

from entrepot.language.names import DEFAULT_ENVIRONMENT
from entrepot.planning.products.rules import NOT_NULL, UNIQUE, Rule


class ProductContract(BaseModel):
    """What a table promises."""

    model_config = ConfigDict(frozen=True)

    version: str = ""
    """Of the promise; empty: the table is no product."""
    owner: str = ""
    description: str = ""
    columns: dict[str, str]
    """Column to its type, as ibis infers it."""
    rules: tuple[Rule, ...] = ()
    """Of the contract."""
    checks: dict[str, str] = {}
    """The checks that stop a publish of it, each with its description."""
    fresh_within: float | None = None
    """How old its data may be, in seconds."""
    consumers: tuple[str, ...] = ()
    """Those that its author has named."""
    shown_by: tuple[str, ...] = ()
    """The publish steps that are made of it."""

    @property
    def required(self) -> frozenset[str]:
        """The columns that are never NULL."""
        return frozenset(rule.columns[0] for rule in self.rules if rule.rule == NOT_NULL)

    @property
    def key(self) -> tuple[str, ...]:
        """The columns that tell its rows apart, none of which is ever NULL; none, if the contract names no such."""
        keys = (rule.columns for rule in self.rules if rule.rule == UNIQUE)
        return next((key for key in keys if self.required.issuperset(key)), ())


Contracts = Mapping[str, ProductContract | None]
"""By environment, what a version of a table promises there; None: it is no product there any more."""


def contract_in(contracts: Contracts, environment: str) -> ProductContract | None:
    """What a version promises in an environment; where nothing was said of that, what it does in `prod`, else in the
    one that was the last to say it: whoever shows a version that was published elsewhere keeps its promise."""
    for name in (environment, DEFAULT_ENVIRONMENT):
        if name in contracts:
            return contracts[name]
    return next(reversed(list(contracts.values())), None)

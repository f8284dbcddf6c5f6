"""What guards a table: violating rows counted and sampled, contracts held against the table."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import ibis
from ibis import _

from entrepot.activities.transform.contract_rules import Broken, Rule
from entrepot.backends import Session
from entrepot.backends.base import count
from entrepot.errors import CheckFailed
from entrepot.language.step import CheckStep
from entrepot.protocol.messages import EXAMPLE, StepResult
from entrepot.tracebacks import cut

SAMPLE_ROWS = 10
LONGEST_VALUE = 200
"""Characters of a value in a sample, which goes to people, and through Temporal."""


@dataclass(frozen=True)
class Found:
    """What a check found: how many rows (or, for a contract, rules) are violated, and some of them."""

    violations: int
    sample: list[dict[str, Any]]
    what: str = "rows"

    def result(self, step: CheckStep, seconds: float) -> StepResult:
        """How the step ended, if it may end so.

        Raises:
            CheckFailed: if it blocks.
        """
        if self.violations and step.severity == "block":
            guarded = ", ".join(step.guards)
            raise CheckFailed(
                f"check {step.name!r} of {guarded} ({step.at}) blocks: {self.counted()}{EXAMPLE}{self.example()}"
            )
        return StepResult(
            name=step.name,
            seconds=seconds,
            note=self.summary(),
            warned=self.violations > 0,
            details={"sample": self.sample[:3]} if self.violations else {},
        )

    def summary(self) -> str:
        """What was found, for people."""
        return f"{self.counted()}{EXAMPLE}{self.example()}" if self.violations else "passed"

    def counted(self) -> str:
        """How much is violated, as text."""
        return f"{self.violations:,} violating {self.what if self.violations != 1 else self.what.removesuffix('s')}"

    def example(self) -> str:
        """The first violation, short enough for a sentence."""
        text = json.dumps(self.sample[0], default=str, ensure_ascii=False) if self.sample else ""
        return text if len(text) <= 300 else text[:300] + "…"


def check_rows(session: Session, violating: ibis.Table) -> Found:
    """Counts the rows of an expression and keeps some."""
    violations = count(session, violating)
    sample = session.fetch(violating.limit(SAMPLE_ROWS)).to_pylist() if violations else []
    return Found(violations, [{k: _plain(v) for k, v in row.items()} for row in sample])


def check_contract(session: Session, every: Sequence[Broken | Rule]) -> Found:
    """Holds every rule of a contract against its table, those over rows in one query."""
    over_rows = [each for each in every if isinstance(each, Rule)]
    broken = [{"rule": each.rule, "said": each.said} for each in every if isinstance(each, Broken)]
    broken += [_broken(session, rule, rows) for rule, rows in _violations(session, over_rows)]
    return Found(len(broken), broken[:SAMPLE_ROWS], "rules")


def _violations(session: Session, every: list[Rule]) -> list[tuple[Rule, int]]:
    """The rules that some rows violate, and how many do."""
    if not every:
        return []
    counts = [rule.violating.aggregate(rows=_.count()).mutate(number=n) for n, rule in enumerate(every)]
    found = session.fetch(ibis.union(*counts) if len(counts) > 1 else counts[0]).to_pylist()
    return [(every[row["number"]], row["rows"]) for row in sorted(found, key=itemgetter("number")) if row["rows"]]


def _broken(session: Session, rule: Rule, rows: int) -> dict[str, Any]:
    [example] = session.fetch(rule.violating.limit(1)).to_pylist()
    shown = json.dumps({name: _plain(value) for name, value in example.items()}, default=str, ensure_ascii=False)
    return {"rule": cut(rule.rule, LONGEST_VALUE), "said": f"{rule.said}: {rows:,}, for example {shown}"}


def _plain(value: Any) -> Any:
    """A value as JSON can hold it, which has no NaN and no infinity; long ones are cut."""
    is_number = isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))
    return value if value is None or is_number else cut(str(value), LONGEST_VALUE)

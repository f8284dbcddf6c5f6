"""What guards a table: violating rows counted and sampled, contracts held against the table."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import ibis

from activities.catalog import Version
from activities.messages import StepResult
from backends import Session
from backends.base import count
from entrepot.errors import CheckFailed
from entrepot.expression import schema_from
from entrepot.raised import cut, message
from entrepot.step import CheckStep

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
                f"check {step.name!r} of {guarded} ({step.at}) blocks: {self.counted()}, for example {self.example()}"
            )
        note = f"{self.counted()}, for example {self.example()}" if self.violations else "passed"
        return StepResult(
            name=step.name,
            seconds=seconds,
            note=note,
            warned=self.violations > 0,
            details={"sample": self.sample[:3]} if self.violations else {},
        )

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


def check_contract(session: Session, contract: Any, guarded: Version) -> Found:
    """Holds a pandera contract against a table, every rule at once."""
    from pandera.errors import SchemaErrors

    assert guarded.table is not None
    table = session.table(guarded.table, schema_from(guarded.columns))
    try:
        contract.validate(table, lazy=True)
    except SchemaErrors as errors:
        broken = [{"rule": cut(str(e.check), LONGEST_VALUE), "said": message(e)} for e in errors.schema_errors]
        return Found(len(broken), broken[:SAMPLE_ROWS], "rules")
    return Found(0, [])


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, int | float | bool):
        return value
    return cut(str(value), LONGEST_VALUE)

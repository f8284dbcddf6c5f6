"""What the catalog records beside versions and environments: verdicts of checks, certificates, runs."""

from __future__ import annotations

import datetime
import json
from dataclasses import dataclass, field
from typing import Any

from entrepot.activities.catalog.tables import Row
from entrepot.language.names import FAILED
from entrepot.planning.plan import short
from entrepot.protocol.messages import OF_RUN


@dataclass(frozen=True)
class CheckVerdict:
    """What a check found at one look: how many rows (or rules) are violated, and some of them."""

    name: str
    version: str
    identity: str
    inputs: dict[str, str]
    guards: list[str]
    severity: str
    violations: int
    sample: list[dict[str, Any]]
    run: str
    checked_at: datetime.datetime

    @classmethod
    def of_row(cls, row: Row) -> CheckVerdict:
        """From the catalog's row."""
        texts = {name: json.loads(row[name]) for name in ("inputs", "guards", "sample")}
        return cls(**{name: row[name] for name in cls.__dataclass_fields__ if name not in texts}, **texts)

    def values(self) -> dict[str, Any]:
        """For the catalog's row, beside its pipeline."""
        return dict(vars(self))


@dataclass(frozen=True)
class Certificate:
    """That a version has the same rows on two warehouses."""

    name: str
    version: str
    identity: str
    warehouses: dict[str, Any]
    """The two, each with its engine and what shows whether its table was changed since."""
    verdict: str
    rows: int | None
    digest: str
    run: str
    made_at: datetime.datetime

    @classmethod
    def of_row(cls, row: Row) -> Certificate:
        """From the catalog's row."""
        same = {name: row[name] for name in cls.__dataclass_fields__ if name not in ("warehouses", "rows")}
        return cls(**same, warehouses=json.loads(row["warehouses"]), rows=row["row_count"])

    def values(self) -> dict[str, Any]:
        """For the catalog's row, beside its pipeline."""
        return {"row_count" if name == "rows" else name: value for name, value in vars(self).items()}


@dataclass(frozen=True)
class Run:
    """A run that ended, or what else changed an environment."""

    pipeline: str
    environment: str
    run: str
    status: str
    started_at: datetime.datetime
    ended_at: datetime.datetime
    summary: dict[str, Any] = field(default_factory=dict)
    """What each step did; of a run, also what holds of it as a whole."""
    workflow: str | None = None
    error: str | None = None

    @property
    def is_failed(self) -> bool:
        """Whether it ended before it could publish."""
        return self.status in ("failed", "cancelled")

    @property
    def steps(self) -> dict[str, Any]:
        """What each of its steps did."""
        return {name: did for name, did in self.summary.items() if name != OF_RUN}

    def about(self, what: str) -> str:
        """What is recorded of it as a whole: its `cause`, `why` or `code`; empty, if it is older than that."""
        return str(self.summary.get(OF_RUN, {}).get(what, ""))

    @classmethod
    def of_row(cls, row: Row) -> Run:
        """From the catalog's row."""
        return cls(**{**row, "summary": json.loads(row["summary"])})


def failed_environment(run: str) -> str:
    """What is called so is what a run has left that failed."""
    return f"{FAILED}{short(run).replace('-', '_').lower()}"

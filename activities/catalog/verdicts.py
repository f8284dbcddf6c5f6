"""What checks have found: the verdicts that stand on what is shown, and every violating row that was kept."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlglot.expressions as sge
from pydantic import BaseModel
from temporalio import activity

from entrepot.activities.catalog import catalog
from entrepot.activities.runtime.context import ActivityContext, find_tenant, parse_input, run_blocking
from entrepot.activities.runtime.tenant import Tenants
from entrepot.activities.transform.check import Found
from entrepot.backends import Session
from entrepot.language.names import CONTRACT_SUFFIX
from entrepot.language.step import CheckStep
from entrepot.planning.graph import Graph
from entrepot.planning.plan import Verdict
from entrepot.protocol import activity_names
from entrepot.protocol.messages import ChecksInput, Context


class CheckRow(BaseModel):
    """One verdict with violating rows, for people."""

    check: str
    guards: list[str]
    severity: str
    violations: int
    sample: list[dict[str, Any]]
    """The violating rows that were kept."""
    run: str
    checked_at: str
    environments: list[str]
    """Where its run was to publish, and where what it looked at is shown now."""


@dataclass(frozen=True)
class Standing:
    """What a check has found on what is shown, at its newest look."""

    found: Found
    since: str
    """When it was found first, in UTC; `run` found it."""
    run: str
    last: str
    """When it was found last."""

    @property
    def verdict(self) -> Verdict:
        """As plans and summaries have it."""
        return Verdict(violations=self.found.violations, said=self.found.said(), since=self.since, run=self.run)


class VerdictActivities:
    """The activity `checks`."""

    def __init__(self, tenants: Tenants) -> None:
        self._tenants = tenants

    @activity.defn(name=activity_names.CHECKS)
    async def checks(self, value: Any = None) -> list[CheckRow]:
        """Every verdict with violating rows, the newest first.

        People start it by itself, with JSON: what does not fit a `ChecksInput` is refused in a sentence.
        """
        asked = parse_input(ChecksInput, value, activity_names.CHECKS)
        tenant = find_tenant(self._tenants, asked.tenant, asked.pipeline)
        run = activity.info().workflow_run_id or ""
        context = Context(tenant=asked.tenant, pipeline=asked.pipeline, run=run)

        def read(work: ActivityContext) -> list[CheckRow]:
            with work.session() as session:
                catalog.ensure(session)
                return _violated(session, asked)

        return await run_blocking(read, tenant, context, activity_names.CHECKS)


def _violated(session: Session, asked: ChecksInput) -> list[CheckRow]:
    environments = {row["run"]: row["environment"] for row in catalog.rows(session, "runs", asked.pipeline)}
    shown = {name: history[0].pointers for name, history in catalog.publishes(session, asked.pipeline).items()}
    rows = []
    for row in sorted(
        _found(session, asked.pipeline, catalog.column("violations").neq(0)),
        key=lambda row: row["checked_at"],
        reverse=True,
    ):
        inputs = json.loads(row["inputs"])
        where = {name for name, pointers in shown.items() if inputs.items() <= pointers.items()}
        where |= {environments[row["run"]]} if row["run"] in environments else set()
        found = CheckRow(
            check=row["name"],
            guards=json.loads(row["guards"]),
            severity=row["severity"],
            violations=row["violations"],
            sample=json.loads(row["sample"]),
            run=row["run"],
            checked_at=row["checked_at"].isoformat(timespec="seconds"),
            environments=sorted(where),
        )
        if (
            (asked.table is None or asked.table in found.guards)
            and (asked.run is None or found.run.startswith(asked.run))
            and (asked.environment is None or asked.environment in found.environments)
        ):
            rows.append(found)
    return rows


def _found(session: Session, pipeline: str, condition: sge.Condition) -> list[dict[str, Any]]:
    return catalog.select(session, "checks", pipeline, condition)


def standing(session: Session, graph: Graph, versions: Mapping[str, str]) -> dict[str, Standing]:
    """What each check has found on these versions of what it reads.

    Args:
        versions: Of tables and models, and of checks. By the rule of a check's version its verdicts count; without one,
            those by the rule of the newest. Checks that read the clock have a version for each run, by one rule. The
            rule of one that takes the run's nominal time is another each time, so that all its verdicts count.
    """
    checks = [step for step in graph.steps.values() if isinstance(step, CheckStep)]
    inputs = {
        step.name: {name: versions[name] for name in graph.table_inputs(step)}
        for step in checks
        if all(name in versions for name in graph.table_inputs(step))
    }
    found: dict[str, list[dict[str, Any]]] = {}
    texts = sorted({json.dumps(each) for each in inputs.values()})  # as the catalog keeps them
    on_these = sge.In(this=catalog.column("inputs"), expressions=[sge.Literal.string(text) for text in texts])
    for row in _found(session, graph.name, on_these) if texts else ():
        if inputs.get(row["name"]) == json.loads(row["inputs"]):
            found.setdefault(row["name"], []).append(row)
    timed = {step.name for step in checks if graph.takes_time(step)}
    return {name: _standing(rows, versions.get(name), is_timed=name in timed) for name, rows in found.items()}


def _standing(rows: list[dict[str, Any]], version: str | None, *, is_timed: bool) -> Standing:
    rows = sorted(rows, key=lambda row: row["checked_at"], reverse=True)
    its = next((number for number, row in enumerate(rows) if row["version"] == version), 0)
    rule = rows[its]["identity"]
    newest, *before = rows[its:] if is_timed else [row for row in rows if row["identity"] == rule]
    first = newest
    for row in before:
        if (row["violations"] == 0) != (newest["violations"] == 0):
            break
        first = row
    what = "rules" if newest["name"].endswith(CONTRACT_SUFFIX) else "rows"
    return Standing(
        found=Found(newest["violations"], json.loads(newest["sample"]), what),
        since=_minutes(first["checked_at"]),
        run=first["run"],
        last=_minutes(newest["checked_at"]),
    )


def _minutes(time: datetime.datetime) -> str:
    return time.isoformat(sep=" ", timespec="minutes")

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

from entrepot.activities.catalog.catalog import PipelineCatalog
from entrepot.activities.catalog.records import CheckVerdict
from entrepot.activities.catalog.tables import column
from entrepot.activities.runtime.context import ActivityContext, find_tenant, parse_input, run_blocking
from entrepot.activities.runtime.tenant import Tenants
from entrepot.activities.transform.check import Found
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
class StandingVerdict:
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
                catalog = work.catalog(session)
                catalog.ensure()
                return _violated(catalog.pipeline(asked.pipeline), asked)

        return await run_blocking(read, tenant, context, activity_names.CHECKS)


def _violated(catalog: PipelineCatalog, asked: ChecksInput) -> list[CheckRow]:
    environments = catalog.environments_of_runs()
    shown = {name: history[0].pointers for name, history in catalog.publishes().items()}
    rows = []
    violated = catalog.verdicts(column("violations").neq(0))
    for each in sorted(violated, key=lambda verdict: verdict.checked_at, reverse=True):
        where = {name for name, pointers in shown.items() if each.inputs.items() <= pointers.items()}
        where |= {environments[each.run]} if each.run in environments else set()
        found = CheckRow(
            check=each.name,
            guards=each.guards,
            severity=each.severity,
            violations=each.violations,
            sample=each.sample,
            run=each.run,
            checked_at=each.checked_at.isoformat(timespec="seconds"),
            environments=sorted(where),
        )
        if (
            (asked.table is None or asked.table in found.guards)
            and (asked.run is None or found.run.startswith(asked.run))
            and (asked.environment is None or asked.environment in found.environments)
        ):
            rows.append(found)
    return rows


def standing_verdicts(
    catalog: PipelineCatalog, graph: Graph, versions: Mapping[str, str]
) -> dict[str, StandingVerdict]:
    """What each check has found on these versions of what it reads.

    Args:
        versions: Of tables and models, and of checks. By the rule of a check's version its verdicts count; without one,
            those by the rule of the newest. Checks that read the clock have a version for each run, by one rule. The
            rule of one that takes the run's nominal time is another each time, so that all its verdicts count.
    """
    checks = graph.of(CheckStep)
    inputs = {
        step.name: {name: versions[name] for name in graph.table_inputs(step)}
        for step in checks
        if all(name in versions for name in graph.table_inputs(step))
    }
    found: dict[str, list[CheckVerdict]] = {}
    texts = sorted({json.dumps(each) for each in inputs.values()})  # as the catalog keeps them
    on_these = sge.In(this=column("inputs"), expressions=[sge.Literal.string(text) for text in texts])
    for verdict in catalog.verdicts(on_these) if texts else ():
        if inputs.get(verdict.name) == verdict.inputs:
            found.setdefault(verdict.name, []).append(verdict)
    timed = {step.name for step in checks if step.takes_time}
    return {name: _standing(its, versions.get(name), is_timed=name in timed) for name, its in found.items()}


def _standing(verdicts: list[CheckVerdict], version: str | None, *, is_timed: bool) -> StandingVerdict:
    verdicts = sorted(verdicts, key=lambda each: each.checked_at, reverse=True)
    its = next((number for number, each in enumerate(verdicts) if each.version == version), 0)
    rule = verdicts[its].identity
    newest, *before = verdicts[its:] if is_timed else [each for each in verdicts if each.identity == rule]
    first = newest
    for each in before:
        if (each.violations == 0) != (newest.violations == 0):
            break
        first = each
    what = "rules" if newest.name.endswith(CONTRACT_SUFFIX) else "rows"
    return StandingVerdict(
        found=Found(newest.violations, newest.sample, what),
        since=_minutes(first.checked_at),
        run=first.run,
        last=_minutes(newest.checked_at),
    )


def _minutes(time: datetime.datetime) -> str:
    return time.isoformat(sep=" ", timespec="minutes")

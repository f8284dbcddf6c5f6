"""What checks have found: the verdicts that stand on what is shown, and every violating row that was kept."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from dataclasses import dataclass

import sqlglot.expressions as sge

from entrepot.activities.catalog.catalog import PipelineCatalog
from entrepot.activities.catalog.records import CheckVerdict
from entrepot.activities.catalog.tables import any_of, column
from entrepot.activities.runtime.activity import Activities, implements
from entrepot.activities.runtime.context import ActivityContext
from entrepot.activities.transform.check import Found
from entrepot.language.names import CONTRACT_SUFFIX
from entrepot.language.step import CheckStep
from entrepot.planning.graph import Graph
from entrepot.planning.plan import Verdict
from entrepot.protocol import activities
from entrepot.protocol.maintenance import CheckRow, ChecksInput


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
        return Verdict(violations=self.found.violations, said=self.found.summary(), since=self.since, run=self.run)


class VerdictActivities(Activities):
    """The activity `checks`."""

    @implements(activities.CHECKS)
    def checks(self, work: ActivityContext, request: ChecksInput) -> list[CheckRow]:
        """Every verdict with violating rows, the newest first."""
        work.tenant.settings(request.pipeline)
        with work.session() as session:
            catalog = work.catalog(session)
            catalog.ensure()
            return _violated(catalog.pipeline(request.pipeline), request)


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
    catalog: PipelineCatalog, graph: Graph, versions: Mapping[str, str], rules: Mapping[str, str] | None = None
) -> dict[str, StandingVerdict]:
    """What each check has found on these versions of what it reads.

    Args:
        versions: Of tables and models; and of checks on them, whose verdicts stand also where they were found on
            others: nothing of what has changed since is used.
        rules: Versions of checks on whatever. By the rule of a check's version its verdicts count; without one, those
            by the rule of the newest. Checks that read the clock have a version for each run, by one rule. The rule of
            one that takes the run's nominal time is another each time, so that all its verdicts count. Default: those
            of `versions`.
    """
    rules = versions if rules is None else rules
    checks = graph.of(CheckStep)
    inputs = {
        step.name: {name: versions[name] for name in graph.table_inputs(step)}
        for step in checks
        if all(name in versions for name in graph.table_inputs(step))
    }
    found: dict[str, list[CheckVerdict]] = {}
    texts = sorted({json.dumps(each) for each in inputs.values()})  # as the catalog keeps them
    made = {versions[step.name] for step in checks if step.name in versions}
    on_these = sge.In(this=column("inputs"), expressions=[sge.Literal.string(text) for text in texts])
    for verdict in catalog.verdicts(sge.or_(on_these, any_of("version", made))) if texts else ():
        if verdict.version == versions.get(verdict.name) or verdict.inputs == inputs.get(verdict.name):
            found.setdefault(verdict.name, []).append(verdict)
    timed = {step.name for step in checks if step.takes_time}
    return {name: _standing(verdicts, rules.get(name), is_timed=name in timed) for name, verdicts in found.items()}


def _standing(verdicts: list[CheckVerdict], version: str | None, *, is_timed: bool) -> StandingVerdict:
    verdicts = sorted(verdicts, key=lambda each: each.checked_at, reverse=True)
    start = next((number for number, each in enumerate(verdicts) if each.version == version), 0)
    rule = verdicts[start].identity
    newest, *before = verdicts[start:] if is_timed else [each for each in verdicts if each.identity == rule]
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

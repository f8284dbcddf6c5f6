"""Whether blocking checks hold for what is about to be promoted: by their verdicts, which nobody computes again."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from entrepot.activities.catalog.catalog import PipelineCatalog
from entrepot.activities.plan import make_plan
from entrepot.activities.runtime.context import ActivityContext
from entrepot.activities.runtime.isolation.builder import Builder
from entrepot.activities.runtime.tenant import Tenants, parameter_values
from entrepot.activities.transform.verdicts import StandingVerdict, standing_verdicts
from entrepot.errors import CheckFailed, listed
from entrepot.language.step import CheckStep, IngestStep
from entrepot.planning.plan import short
from entrepot.protocol.environments import PromoteInput
from entrepot.protocol.messages import Context, PlanRequest


class Gate:
    """The blocking checks of a pipeline."""

    def __init__(self, tenants: Tenants, work: ActivityContext, catalog: PipelineCatalog, asked: PromoteInput) -> None:
        self._tenants = tenants
        self._work = work
        self._catalog = catalog
        self._asked = asked
        self._pipeline = tenants.pipeline(asked.tenant, asked.pipeline)
        self._graph = self._pipeline.graph

    def versions(self, pointers: Mapping[str, str], moved: Collection[str]) -> dict[str, str]:
        """The versions of checks, as far as they had to be known: by their rules, pages say what stands.

        Args:
            pointers: What is to be shown.
            moved: The names of it that are another than before. Checks that read none of them are not asked.

        Raises:
            CheckFailed: if a blocking check has found violating rows, or has never looked.
        """
        reads = {step: self._graph.table_inputs(step) for step in self._graph.of(CheckStep)}
        asked = {
            step.name: step
            for step, names in reads.items()
            if step.severity == "block" and any(n in moved for n in names) and all(n in pointers for n in names)
        }
        stands = standing_verdicts(self._catalog, self._graph, pointers)
        versions: dict[str, str] = {}
        if unknown := asked.keys() - stands.keys():
            # They may have looked at others, of which they use nothing that has changed since.
            versions = self._planned(pointers, unknown)
            stands |= standing_verdicts(self._catalog, self._graph, {**pointers, **versions})
        self._refuse(asked, stands)
        return versions

    def _planned(self, pointers: Mapping[str, str], checks: Collection[str]) -> dict[str, str]:
        """The versions of checks over what is to be shown."""
        asked, graph = self._asked, self._graph
        raw = {name: pointers[name] for step in graph.of(IngestStep) for name in step.tables if name in pointers}
        context = Context(tenant=asked.tenant, pipeline=asked.pipeline, environment=asked.like, run=self._work.tag.run)
        request = PlanRequest(
            context=context, selected=tuple(checks), raw=raw, ingested={}, given=dict(pointers), compiled=False
        )
        given = self._tenants.parameters(asked.tenant, self._pipeline, {})
        parameters = parameter_values(self._pipeline, given)
        with Builder(self._work, self._tenants, asked.pipeline) as builder:
            dialect = self._work.tenant.backend.dialect
            plan = make_plan(self._catalog, dialect, graph, parameters, request, builder)
        return {name: plan.versions[name] for name in checks if name in plan.versions}

    def _refuse(self, asked: Mapping[str, CheckStep], stands: Mapping[str, StandingVerdict]) -> None:
        what = f"{self._asked.like!r} cannot be promoted"
        for name, step in sorted(asked.items()):
            found = stands.get(name)
            if found is not None and found.found.violations:
                raise CheckFailed(
                    f"{what}: check {name!r} of {', '.join(step.guards)} ({step.at}) blocks: {found.found.summary()}, "
                    f"since {found.since} UTC (run {short(found.run)})"
                )
        if never := [name for name in asked if name not in stands]:
            raise CheckFailed(
                f"{what}: {listed(never)} {'have' if len(never) > 1 else 'has'} never looked at these versions, and "
                f"what blocks has to; run them there: `entrepot run {self._asked.pipeline} --environment "
                f"{self._asked.like}`"
            )

"""Whether blocking checks hold for what is about to be promoted: by their verdicts, which nobody computes again."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from entrepot.activities.catalog.catalog import PipelineCatalog
from entrepot.activities.ml.models import known_of
from entrepot.activities.runtime.context import ActivityContext
from entrepot.activities.runtime.isolation.builder import Builder
from entrepot.activities.runtime.tenant import Tenants, parameter_values
from entrepot.activities.transform.verdicts import StandingVerdict, standing_verdicts
from entrepot.errors import CheckFailed, PipelineError, listed
from entrepot.language.step import KINDS, CheckStep
from entrepot.planning.plan import address, short
from entrepot.planning.resolve import resolve
from entrepot.protocol.environments import PromoteInput


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
            moved: The names of it that are another than before. Checks that read none of them hold nothing up.

        Raises:
            CheckFailed: if a blocking check has found violating rows, or has never looked.
        """
        reads = {step: self._graph.table_inputs(step) for step in self._graph.of(CheckStep)}
        looking = {step.name for step, names in reads.items() if all(name in pointers for name in names)}
        blocking = {
            step.name: step
            for step, names in reads.items()
            if step.severity == "block" and step.name in looking and any(name in moved for name in names)
        }
        stands = standing_verdicts(self._catalog, self._graph, pointers)
        versions: dict[str, str] = {}
        if unknown := looking - stands.keys():
            # They may have looked at others, of which they use nothing that has changed since.
            try:
                versions = self._planned(pointers, unknown)
            except PipelineError:
                if unknown & blocking.keys():
                    raise
            stands |= standing_verdicts(self._catalog, self._graph, {**pointers, **versions})
        self._refuse(blocking, stands)
        return versions

    def _planned(self, pointers: Mapping[str, str], checks: Collection[str]) -> dict[str, str]:
        """The versions of checks over what is to be shown, by their code as it is now."""
        asked, graph = self._asked, self._graph
        parameters = parameter_values(self._pipeline, self._tenants.parameters(asked.tenant, self._pipeline, {}))
        made = self._catalog.versions(pointers)
        known = {name: known_of(version) for name, version in made.items() if KINDS[version.kind].produces}
        with Builder(self._work, self._tenants, asked.pipeline) as builder:
            resolved = resolve(graph, known, parameters, checks, builder.planned)
        contents = {name: version.content for name, version in made.items()}
        versions = address(graph, resolved.steps, {}, frozenset(checks), contents, self._work.tag.run).versions
        return {name: versions[name] for name in checks if name in versions}

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

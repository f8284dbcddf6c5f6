"""Whether sources have something new, found without reading them: what triggers ask now and then."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from entrepot.activities.ingest.sources import registry
from entrepot.activities.runtime.activity import Activities, implements
from entrepot.activities.runtime.context import ActivityContext, attribute_errors
from entrepot.activities.runtime.isolation.call import Call
from entrepot.activities.runtime.isolation.processes import StepProcesses
from entrepot.activities.runtime.tenant import parameter_values
from entrepot.errors import BadInput, unknown
from entrepot.identity.code import stable_hash
from entrepot.language.step import IngestStep
from entrepot.protocol import activities
from entrepot.protocol.triggers import Marks, ProbeInput


class ProbeActivities(Activities):
    """The activity `probe`."""

    @implements(activities.PROBE)
    def probe(self, work: ActivityContext, request: ProbeInput) -> Marks:
        """What a pipeline's sources show from outside, by step. Each is asked in a process of its own."""
        pipeline = self._tenants.pipeline(request.tenant, request.pipeline)
        values = parameter_values(pipeline, self._tenants.parameters(request.tenant, pipeline, {}))
        steps = [step for step in pipeline.graph.steps.values() if isinstance(step, IngestStep)]
        if not steps:
            raise BadInput(f"pipeline {pipeline.name!r} has no ingest step, and so no source to look at")
        marks = {}
        for step in steps:
            with attribute_errors(step):
                marks[step.name] = StepProcesses(work, self._tenants, pipeline.name, step).run(_mark, values)
        return Marks(marks=marks)


def _mark(call: Call, parameters: Mapping[str, Any]) -> str:
    step = call.step
    assert isinstance(step, IngestStep)
    if step.probe is not None:
        wanted = inspect.signature(step.probe).parameters
        if strange := [name for name in wanted if name not in parameters]:
            raise BadInput(f"its probe: {unknown('parameter', strange[0], parameters)}")
        return stable_hash(repr(step.probe(**{name: parameters[name] for name in wanted})))
    if inspect.isgeneratorfunction(step.function):
        raise BadInput("its rows come from a function, which only reading tells from those before; give it a `probe=`")
    returned = step.function(**{name: parameters[name] for name in step.inputs})
    return registry.probe(registry.sources(returned, step.name, step.tables))

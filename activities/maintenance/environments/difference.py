"""What one environment has otherwise than another: names, versions and why they differ, columns, and rows."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

from entrepot.activities.catalog.catalog import PipelineCatalog
from entrepot.activities.catalog.details import ModelDetails
from entrepot.activities.catalog.version import Version
from entrepot.activities.maintenance.environments.rows import row_changes
from entrepot.activities.maintenance.environments.shown import shown_by
from entrepot.activities.runtime.context import ActivityContext
from entrepot.backends import Session
from entrepot.language.step import KINDS, StepKind
from entrepot.planning.graph import Graph
from entrepot.planning.selection import select
from entrepot.protocol.environments import (
    ChangedName,
    ColumnChanges,
    DiffInput,
    EnvironmentDiff,
    RowChanges,
    ShownName,
)
from entrepot.protocol.messages import Context

MOST_NAMES = 1000
"""That a result tells, of each list."""
MOST_SAMPLED = 200_000
"""Characters of rows and values, of all tables together."""
SECONDS = 600.0
"""After so many, no further table is compared by its rows."""


class Comparing:
    """Two environments of a pipeline, compared."""

    def __init__(
        self, work: ActivityContext, session: Session, context: Context, asked: DiffInput, graph: Graph
    ) -> None:
        self._work = work
        self._session = session
        self._context = context
        self._asked = asked
        self._graph = graph
        self._catalog: PipelineCatalog = work.catalog(session).pipeline(asked.pipeline)
        self._selected = select(graph, asked.select) if asked.select is not None else None
        self._end = time.monotonic() + SECONDS
        self._room = MOST_SAMPLED

    def run(self) -> EnvironmentDiff:
        """Compares. What both show is not collected meanwhile.

        Raises:
            BadInput: if one of them shows nothing.
        """
        leases = self._work.leases(self._session, self._asked.pipeline)
        with leases.holding(self._context.run, self._work.workflow):
            here = shown_by(self._catalog, self._asked.environment)
            there = shown_by(self._catalog, self._asked.against)
            leases.plan(self._context.run, here.pointers, there.pointers)
            return self._compared(here.pointers, there.pointers).model_copy(
                update={"seen": {self._asked.environment: here.run, self._asked.against: there.run}}
            )

    def _compared(self, here: Mapping[str, str], there: Mapping[str, str]) -> EnvironmentDiff:
        names = [name for name in self._in_order({*here, *there}) if self._is_selected(name)]
        left, right = self._catalog.versions(here), self._catalog.versions(there)
        changed = [name for name in names if name in here and name in there and here[name] != there[name]]
        alone = [name for name in names if name in here and name not in there]
        others = [name for name in names if name in there and name not in here]
        against = self._catalog.environment(self._asked.against)
        return EnvironmentDiff(
            tenant=self._asked.tenant,
            pipeline=self._asked.pipeline,
            environment=self._asked.environment,
            against=self._asked.against,
            seen={},
            only_left=tuple(self._alone(name, here[name], left.get(name)) for name in alone[:MOST_NAMES]),
            only_right=tuple(self._alone(name, there[name], right.get(name)) for name in others[:MOST_NAMES]),
            changed=tuple(
                self._changed(name, (here[name], there[name]), left.get(name), right.get(name))
                for name in changed[:MOST_NAMES]
            ),
            same=sum(here.get(name) == there.get(name) for name in names),
            left_out=sum(max(len(each) - MOST_NAMES, 0) for each in (changed, alone, others)),
            ahead=against.steps_ahead(self._catalog.ingest_steps(), here),
        )

    def _in_order(self, names: Iterable[str]) -> list[str]:
        """Each after what it is made of, as the code has it; at last what it does not make any more."""
        position = {name: number for number, name in enumerate(self._graph.makers)}
        return sorted(names, key=lambda name: (position.get(name, len(position)), name))

    def _is_selected(self, name: str) -> bool:
        return self._selected is None or self._graph.makers.get(name) in self._selected

    def _kind(self, name: str, version: Version | None) -> StepKind:
        if version is not None:
            return version.kind
        maker = self._graph.makers.get(name)
        return self._graph.steps[maker].kind if maker else "transform"

    def _alone(self, name: str, version: str, its: Version | None) -> ShownName:
        return ShownName(
            name=name,
            kind=self._kind(name, its),
            version=version,
            rows=its.rows if its else None,
            stays=name in self._graph.makers,
        )

    def _changed(self, name: str, pair: tuple[str, str], here: Version | None, there: Version | None) -> ChangedName:
        left, right = pair
        made = ChangedName(name=name, kind=self._kind(name, here or there), left=left, right=right)
        if here is None or there is None:
            lost = self._asked.environment if here is None else self._asked.against
            return made.model_copy(update={"why": f"its version in {lost} is gone from the catalog"})
        told: dict[str, object] = {"why": _why(here, there), "note": _scores(here, there)}
        if here.table is not None and there.table is not None:
            columns = _columns(here, there)
            told |= {
                "columns": columns,
                "impact": columns.kind,
                "left_rows": here.rows,
                "right_rows": there.rows,
                "rows": self._rows(here, there),
            }
        return made.model_copy(update=told)

    def _rows(self, here: Version, there: Version) -> RowChanges:
        if elsewhere := here.warehouse or there.warehouse:
            return RowChanges(equal=None, why=f"it stands on {elsewhere}, where rows are not compared")
        if time.monotonic() > self._end:
            return RowChanges(
                equal=None, why=f"not compared: it took {SECONDS:.0f} s to get here; name it by the selection"
            )
        self._work.check()
        found = row_changes(self._work, self._session, here, there)
        self._room -= len(found.model_dump_json())
        if self._room > 0:
            return found
        more = "" if found.equal else "; to see them, name it by the selection"
        return RowChanges(equal=found.equal, why=f"{found.why}{more}")


def _why(here: Version, there: Version) -> str:
    """What made a version another one, as plans say it."""
    if KINDS[here.kind].is_source:
        return "other loads"
    is_code = here.identity != there.identity or here.inputs.keys() != there.inputs.keys()
    inputs = [name for name, version in here.inputs.items() if there.inputs.get(name, version) != version]
    reasons = ["its code or a parameter changed"] if is_code else []
    reasons += [f"{', '.join(inputs)} changed"] if inputs else []
    reasons += ["other rows of it are frozen"] if here.frozen != there.frozen and not reasons else []
    return " and ".join(reasons) or "it is no function of its inputs: each run makes another"


def _scores(here: Version, there: Version) -> str:
    if not (isinstance(here.details, ModelDetails) and isinstance(there.details, ModelDetails)):
        return ""
    before, after = there.details.scores, here.details.scores
    told = [f"{n} {before[n]:.3f} → {value:.3f}" if n in before else f"{n} {value:.3f}" for n, value in after.items()]
    return ", ".join(told)


def _columns(here: Version, there: Version) -> ColumnChanges:
    before, after = there.columns, here.columns
    return ColumnChanges(
        added={name: kind for name, kind in after.items() if name not in before},
        removed={name: kind for name, kind in before.items() if name not in after},
        retyped={name: (before[name], kind) for name, kind in after.items() if before.get(name, kind) != kind},
    )

"""Whether products may become what the code says: while somebody depends on one, what breaks its promise needs a new
major version. Asked by every plan, so before anything is computed, and by promotions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from entrepot.activities.runtime.tenant import Tenants
from entrepot.errors import PipelineError, Problem
from entrepot.language.names import DEFAULT_ENVIRONMENT
from entrepot.language.promises.product import major_of
from entrepot.planning.graph import Graph
from entrepot.planning.plan import Plan
from entrepot.planning.products.changes import Change, changes, is_newer_major
from entrepot.planning.products.contract import ProductContract
from entrepot.planning.products.reading import promised, unkept
from entrepot.protocol.messages import Target

Contracts = Mapping[str, ProductContract | None]
"""By table; None: it is no product any more."""
Columns = Mapping[str, Mapping[str, str]]
"""By table, its columns with their types, as far as they are known."""


def consumers(tenants: Tenants, target: Target, graph: Graph, contract: ProductContract) -> list[str]:
    """Who is known to depend on a product: those whom its author names, what is published of it, the pipelines that run
    when its own has published, and the tenants to whom that was granted. Those of `prod` count for every environment,
    which shows what `prod` would."""
    in_prod = target.model_copy(update={"environment": DEFAULT_ENVIRONMENT})
    waiting = tenants.listeners(in_prod)
    granted = tenants.get(target.tenant).settings(target.pipeline).grants
    return [
        *_consumers_of_table(graph, contract),
        *(f"pipeline {name}" for name in waiting),
        *(f"tenant {name}" for name in granted if not any(each.startswith(f"{name}/") for each in waiting)),
    ]


def _consumers_of_table(graph: Graph, contract: ProductContract) -> list[str]:
    """Those of which it is known that they depend on just this table."""
    made = (f"publish step {name!r}" for name in contract.shown_by if name in graph.steps)
    return [*contract.consumers, *made]


class ProductGate:
    """The gate of one pipeline in one environment."""

    def __init__(self, tenants: Tenants, target: Target, graph: Graph, shown: Mapping[str, ProductContract]) -> None:
        self._tenants = tenants
        self._target = target
        self._graph = graph
        self._shown = shown

    def planned(self, plan: Plan, selected: frozenset[str], columns: Columns) -> Plan:
        """A plan with what its publish makes of products, and what that changes.

        Raises:
            PipelineError: if somebody depends on what it would break, or no version could keep a product's contract.
        """
        new = self.check(selected, columns, plan.removed)
        # What is shown with just this promise, and stays, need not be told again.
        to_record = {name: its for name, its in new.items() if name in plan.moves or self._shown.get(name) != its}
        return plan.model_copy(update={"products": to_record, "steps": tuple(self._told(plan, new))})

    def check(
        self, selected: frozenset[str], columns: Columns, removed: Iterable[str] = ()
    ) -> dict[str, ProductContract | None]:
        """What becomes of the products of selected steps, which has to be allowed; None: it is no product any more.

        Raises:
            PipelineError: if somebody depends on what would break, or no version could keep a product's contract.
        """
        new = self._declared(selected, columns)
        gone = [table for table in removed if table in self._shown]
        problems = [
            Problem(f"product {table!r}: {why}", self._graph.steps[self._graph.makers[table]].at)
            for table, contract in new.items()
            if contract is not None and (why := unkept(self._graph, table, contract.columns))
        ]
        problems += self._refused({**dict.fromkeys(gone), **new})
        if problems:
            raise PipelineError(self._graph.name, problems)
        return new

    def refused(self, new: Contracts) -> list[str]:
        """Why products may not become what others are, each a sentence."""
        return [problem.text for problem in self._refused(new)]

    def _declared(self, selected: frozenset[str], columns: Columns) -> dict[str, ProductContract | None]:
        """The promises of the selected steps' products; and the tables that were products, and are not any more."""
        found: dict[str, ProductContract | None] = {}
        for step in (self._graph.steps[name] for name in self._graph.steps if name in selected):
            for table in step.output_tables:
                if table in step.products and table in columns:
                    found[table] = promised(self._graph, table, columns[table])
                elif table not in step.products and table in self._shown:
                    found[table] = None
        return found

    def _refused(self, new: Contracts) -> Iterator[Problem]:
        for table, contract in new.items():
            old = self._shown.get(table)
            if old is None or (contract is not None and is_newer_major(old, contract)):
                continue
            maker = self._graph.makers.get(table)
            if contract is None:
                # There is no version to raise, and whoever just waits for the pipeline may read its other tables.
                broken = ["it is no product any more" if maker else "the table is gone"]
                depending = _consumers_of_table(self._graph, old)
            else:
                broken = [each.said for each in changes(old, contract) if each.is_breaking]
                depending = consumers(self._tenants, self._target, self._graph, old)
            if broken and depending:
                at = self._graph.steps[maker].at if maker else None
                yield Problem(self._sentence(table, old, contract, broken, depending), at)

    def _sentence(
        self,
        table: str,
        old: ProductContract,
        new: ProductContract | None,
        broken: Iterable[str],
        depending: Iterable[str],
    ) -> str:
        way_out = (
            f"keep what it promises, or declare version '{(major_of(old.version) or 0) + 1}.0.0'"
            if new is not None
            else "keep it, or publish it without them first"
        )
        return (
            f"product {table!r} {old.version}, as {self._target.environment} shows it, would break: "
            f"{'; '.join(broken)}. It has consumers: {', '.join(depending)}; {way_out}"
        )

    def _told(self, plan: Plan, new: Contracts) -> Iterable[object]:
        """The steps, each with what changes of its products."""
        notes: dict[str, list[str]] = {}
        for table, contract in new.items():
            old = self._shown.get(table)
            if said := _said(table, old, contract):
                notes.setdefault(self._graph.makers[table], []).append(said)
        for step in plan.steps:
            more = notes.get(step.name, [])
            yield step.model_copy(update={"why": "; ".join(filter(None, (step.why, *more)))}) if more else step


def _said(table: str, old: ProductContract | None, new: ProductContract | None) -> str:
    """What becomes of a product, for people; empty, if nothing does."""
    if new is None:
        return f"{table!r} is no product any more"
    if old is None:
        return f"product {table!r} {new.version}"
    if not (found := changes(old, new)) and old.version == new.version:
        return ""
    versions = new.version if old.version == new.version else f"{old.version} → {new.version}"
    return f"product {table!r} {versions}{_kinds(found)}"


def _kinds(found: Iterable[Change]) -> str:
    kinds: dict[str, list[str]] = {"breaking": [], "additive": []}
    for each in found:
        kinds["breaking" if each.is_breaking else "additive"].append(each.said)
    return "".join(f", {kind}: {', '.join(said)}" for kind, said in kinds.items() if said)

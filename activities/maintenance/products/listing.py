"""The products of a tenant as an environment shows them: in a list, as files, and held against files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from entrepot.activities.catalog.catalog import Catalog
from entrepot.activities.catalog.version import Version
from entrepot.activities.maintenance.environments.freshness import freshness_rows
from entrepot.activities.maintenance.products.gate import consumers
from entrepot.activities.publish.places import view_place
from entrepot.activities.runtime.tenant import Tenant, Tenants
from entrepot.errors import BadInput, listed, unknown
from entrepot.identity.expression import schema_from
from entrepot.language.limits import duration_text
from entrepot.language.names import DEFAULT_ENVIRONMENT
from entrepot.language.promises.product import parts_of
from entrepot.planning.graph import Graph
from entrepot.planning.products import odcs
from entrepot.planning.products.changes import widens
from entrepot.planning.products.contract import ProductContract
from entrepot.planning.products.odcs import Expected, Subject
from entrepot.planning.products.reading import promised
from entrepot.planning.products.rules import NOT_NULL, implied
from entrepot.protocol.messages import Target
from entrepot.protocol.products import ContractDifference, ContractFile, ProductRow, ProductsInput


@dataclass(frozen=True)
class _Shown:
    """A table that an environment shows, with what it promises."""

    graph: Graph
    table: str
    version: Version
    contract: ProductContract
    is_product: bool
    published_at: str


@dataclass
class Products:
    """The products of a tenant, in one environment."""

    tenants: Tenants
    tenant: Tenant
    catalog: Catalog
    graphs: Sequence[Graph]
    asked: ProductsInput
    _found: list[_Shown] = field(init=False)

    def __post_init__(self) -> None:
        known = {DEFAULT_ENVIRONMENT}.union(
            *(self.catalog.pipeline(graph.name).environments() for graph in self.graphs)
        )
        if self.asked.environment not in known:
            raise BadInput(unknown("environment", self.asked.environment, sorted(known)))
        self._found = [each for graph in self.graphs for each in self._shown(graph)]

    def rows(self) -> list[ProductRow]:
        """Every product that the environment shows, and those that the code declares and nobody has published."""
        environment = self.asked.environment
        fresh = {(row.pipeline, row.table): row for row in freshness_rows(self.catalog, self.graphs, environment)}
        rows = []
        for each in self._products():
            its, contract = fresh.get((each.graph.name, each.table)), each.contract
            within = contract.fresh_within
            rows.append(
                ProductRow(
                    pipeline=each.graph.name,
                    table=each.table,
                    environment=environment,
                    version=contract.version,
                    owner=contract.owner,
                    description=contract.description,
                    fresh_within=duration_text(timedelta(seconds=within)) if within is not None else "",
                    state=(its.state if its else "unknown") if within is not None else "published",
                    reason=its.reason if its and its.state != "fresh" else "",
                    consumers=tuple(consumers(self.tenants, self._target(each.graph), each.graph, contract)),
                    rows=each.version.rows,
                    published_at=each.published_at,
                )
            )
        return [*rows, *self._unpublished()]

    def files(self) -> list[ContractFile]:
        """The file of each product that the environment shows."""
        return [
            ContractFile(
                pipeline=each.graph.name,
                table=each.table,
                text=odcs.written(each.contract, self._subject(each)),
            )
            for each in self._products()
        ]

    def differences(self, files: Mapping[str, str]) -> list[ContractDifference]:
        """What does not hold of files.

        Raises:
            BadInput: if one is no Open Data Contract Standard file.
        """
        every = [(file, expected) for file, text in files.items() for expected in odcs.read(file, text)]
        return [
            ContractDifference(file=file, said=said) for file, expected in every for said in self._differences(expected)
        ]

    def _products(self) -> list[_Shown]:
        return [each for each in self._found if each.is_product]

    def _target(self, graph: Graph) -> Target:
        return Target(tenant=self.tenant.name, pipeline=graph.name, environment=self.asked.environment)

    def _shown(self, graph: Graph) -> Iterator[_Shown]:
        history = self.catalog.pipeline(graph.name).environment(self.asked.environment).history()
        pointers = history[0].pointers if history else {}
        versions = self.catalog.pipeline(graph.name).versions(pointers)
        tables = [name for step in graph.steps.values() for name in step.output_tables]
        for name in [*tables, *(name for name in pointers if name not in graph.makers)]:
            version = versions.get(name)
            recorded = version.contract_in(self.asked.environment) if version else None
            if version is None or (recorded is None and name not in graph.makers):
                continue
            at = next((each.published_at for each in history if name in each.moved), None)
            yield _Shown(
                graph=graph,
                table=name,
                version=version,
                contract=recorded or _without_product(promised(graph, name, version.inferred)),
                is_product=recorded is not None,
                published_at=at.isoformat(sep=" ", timespec="seconds") if at else "",
            )

    def _unpublished(self) -> Iterator[ProductRow]:
        shown = {(each.graph.name, each.table) for each in self._products()}
        for graph in self.graphs:
            for step in graph.steps.values():
                for table, product in step.products.items():
                    if (graph.name, table) not in shown:
                        yield ProductRow(
                            pipeline=graph.name,
                            table=table,
                            environment=self.asked.environment,
                            version=product.version,
                            owner=product.owner or step.owner,
                            description=product.description or step.description,
                            fresh_within=duration_text(step.fresh_within) if step.fresh_within else "",
                            state="not published",
                            consumers=product.consumers,
                        )

    def _subject(self, each: _Shown) -> Subject:
        schema = self._schema(each)
        dialect = self.tenant.backend.dialect
        return Subject(
            tenant=self.tenant.name,
            pipeline=each.graph.name,
            environment=self.asked.environment,
            table=each.table,
            server=self.tenant.backend.server(schema),
            types={name: dialect.type(dtype) for name, dtype in schema_from(each.version.columns).items()},
        )

    def _schema(self, each: _Shown) -> str:
        return view_place(self.tenant, each.graph.name, self.asked.environment, each.table).schema

    def _differences(self, expected: Expected) -> Iterator[str]:
        """Each as a sentence."""
        same = [each for each in self._found if each.table == expected.table]
        there = [each for each in same if self._schema(each) == expected.schema] or same
        where = self.asked.environment
        if not there:
            known = listed(sorted({each.table for each in self._found}))
            yield f"{where} shows no table {expected.table!r}. Known: {known}"
        elif len(there) > 1:
            pipelines = listed(each.graph.name for each in there)
            yield f"{expected.table!r} is a table of {pipelines}; say which one by its pipeline"
        else:
            yield from (f"{expected.table!r}: {said}" for said in self._broken(there[0], expected))

    def _broken(self, shown: _Shown, expected: Expected) -> Iterator[str]:
        where, contract = self.asked.environment, shown.contract
        if shown.is_product and (said := _other_version(expected.version, contract.version)):
            yield f"{said}, as {where} shows it"
        for name in expected.columns:
            if name not in shown.version.columns:
                yield f"column {name!r} is missing; {where} shows {listed(shown.version.columns)}"
            elif said := self._other_type(shown.version, expected, name):
                yield f"column {name!r} is {said}"
        for rule in expected.rules:
            if not set(rule.columns) <= shown.version.columns.keys():
                continue
            if not implied(rule, contract.rules):
                is_null = rule.rule == NOT_NULL
                yield f"column {rule.columns[0]!r} is required, and may be NULL" if is_null else f"not promised: {rule}"
        for check in expected.checks:
            if check not in contract.checks and shown.is_product:
                yield f"no check {check!r} stops its publish"
        if (within := expected.fresh_within) is not None:
            own = contract.fresh_within
            if own is None or own > within:
                promise = f"within {duration_text(timedelta(seconds=own))}" if own is not None else "nothing of its age"
                yield f"its data is to be of {duration_text(timedelta(seconds=within))}, and it promises {promise}"

    def _other_type(self, version: Version, expected: Expected, name: str) -> str:
        """What type a column has, where a file says another one; empty, if it is as the file says."""
        its = version.columns[name]
        wanted: Any = None
        if physical := expected.physical.get(name):
            try:
                wanted = self.tenant.backend.dialect.dtype(physical)
            except Exception:  # a type of another warehouse: any error of a parser
                wanted = None
            if wanted is not None and not wanted.is_unknown():
                return "" if widens(str(wanted), its) else f"{its}, not {physical}"
        logical = expected.logical.get(name)
        if logical is None:
            return ""
        own = odcs.logical(its)
        return "" if logical == own or (logical, own) == ("number", "integer") else f"{its}, not {logical}"


def _without_product(contract: ProductContract) -> ProductContract:
    return contract.model_copy(update={"version": "", "consumers": ()})


def _other_version(wanted: str, shown: str) -> str:
    """What is wrong with the version that is shown; empty, if it keeps what the wanted one promises."""
    want, have = parts_of(wanted), parts_of(shown)
    if wanted == shown or (want and have and want[0] == have[0] and have >= want):
        return ""
    return f"version {wanted or 'none'} is wanted, and it is {shown}"

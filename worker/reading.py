"""Reading tables while runs go on: for notebooks, and for `entrepot show`.

Each read is one session, for as long as its query takes. On DuckDB it takes its turn at the file as workers do, so it
is never refused, and keeps nobody waiting for longer than it reads. All tables of a read are those of one publish.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlglot
import sqlglot.expressions as sge
from ibis.expr.operations import UnboundTable
from sqlglot.errors import SqlglotError

from entrepot.activities.catalog.catalog import Catalog, PipelineCatalog
from entrepot.activities.catalog.version import Version
from entrepot.activities.runtime.isolation.tables import WorkerTables
from entrepot.activities.runtime.tenant import Tenant
from entrepot.backends import QueryTag, Session, TableName
from entrepot.backends.base import physical
from entrepot.backends.sql.session import conformed
from entrepot.errors import BadInput, StepFailed, listed, unknown
from entrepot.identity.expression import schema_from
from entrepot.language.names import DEFAULT_ENVIRONMENT, PIPELINE
from entrepot.worker.config import settings

if TYPE_CHECKING:
    import ibis
    import pyarrow as pa


def read(
    what: str | Callable[..., ibis.Table],
    pipeline: str,
    *,
    tenant: str | None = None,
    environment: str = DEFAULT_ENVIRONMENT,
    tenants: str | None = None,
    state: str | None = None,
) -> pa.Table:
    """The rows of a table that an environment shows, or of an expression over several, in memory.

    Args:
        what: A table's name; or a function written as a transform is: its parameters are the names of tables, and it
            returns an ibis expression.
        pipeline: The pipeline that makes them.
        tenant: Default: the only one in the tenant file.
        environment: Default: `prod`.
        tenants: The tenant file. Default: `ENTREPOT_TENANTS`, or `tenants.toml` if it exists.
        state: The state folder. Default: `ENTREPOT_STATE`, or `.entrepot`.

    Raises:
        BadInput: for an unknown tenant, pipeline, environment or table, with those that are known.
        Unavailable: if the warehouse cannot be used now.
    """
    chosen = tenant_named(tenant, tenants, state)
    names = [what] if isinstance(what, str) else list(inspect.signature(what).parameters)
    with _shown(chosen, pipeline, environment, names) as (session, found):
        given = {name: physical(table, schema_from(version.columns)) for name, (table, version) in found.items()}
        expression = given[what] if isinstance(what, str) else what(**given)
        # As ibis types it: DuckDB adds up whole numbers to decimals, as Arrow has no larger ones.
        return conformed(session.fetch(expression).to_reader(), expression.schema()).read_all()


def open(tenant: str | None = None, *, tenants: str | None = None, state: str | None = None) -> OpenTenant:
    """A tenant's tables for notebooks, as ibis tables that read only, while runs go on.

    A table is the version that an environment shows at that moment, or any other, and stays it. Nothing is read before
    the table, or what is made of it, is executed. Each execution is a query of its own; in between, no DuckDB file is
    held open. Tables of one tenant can be joined.

    Args:
        tenant: Its name. Default: the only one in the tenant file.
        tenants: The tenant file. Default: `ENTREPOT_TENANTS`, or `tenants.toml` if it exists.
        state: The state folder. Default: `ENTREPOT_STATE`, or `.entrepot`.

    Raises:
        BadInput: If the tenant is unknown, with those that are known.

    Examples:
        ```python
        import entrepot


        def late_flights():
            with entrepot.open("acme") as acme:
                departures = acme["flights"].table("departures", environment="dev")
                return departures.filter(departures.arr_delay > 15).to_pandas()
        ```
    """
    return OpenTenant(tenant_named(tenant, tenants, state))


class OpenTenant:
    """A tenant whose tables can be read, until it is closed: a context manager. `tenant["flights"]` is a pipeline."""

    def __init__(self, tenant: Tenant) -> None:
        self._tenant = tenant
        self._is_closed = False
        self._tables = WorkerTables(self._read, tenant.backend.dialect.name)

    def __enter__(self) -> OpenTenant:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def __getitem__(self, pipeline: str) -> OpenPipeline:
        return OpenPipeline(self, PIPELINE.check(pipeline))

    @property
    def pipelines(self) -> list[str]:
        """Those that it runs."""
        return sorted(self._tenant.pipelines)

    def close(self) -> None:
        """Closes its connections. Its tables cannot be executed any more."""
        self._is_closed = True
        self._tenant.close()

    def table(self, pipeline: str, name: str, version: str | None, environment: str) -> ibis.Table:
        """A table of one of its pipelines."""
        self._check_open()
        with _found(self._tenant, pipeline, environment, [name], version) as (_, found):
            table, its = found[name]
            return self._tables.table(table, schema_from(its.columns))

    def tables(self, pipeline: str, environment: str) -> list[str]:
        """The tables that an environment of one of its pipelines shows."""
        self._check_open()
        with _found(self._tenant, pipeline, environment, None) as (_, found):
            return sorted(found)

    def _read(self, expression: ibis.Table) -> pa.Table:
        self._check_open()
        with self._tenant.backend.session(QueryTag(self._tenant.name, "read", "notebook")) as session:
            session.scratch = self._tenant.catalog_schema
            try:
                return session.fetch(expression)
            except StepFailed as error:
                tables = [TableName(each.namespace.database, each.name) for each in expression.op().find(UnboundTable)]
                if gone := [str(each) for each in tables if each.table not in session.tables(each.schema)]:
                    raise BadInput(f"{listed(gone)} was collected meanwhile; ask for the table again") from error
                raise

    def _check_open(self) -> None:
        if self._is_closed:
            raise BadInput(f"tenant {self._tenant.name!r} is closed; `entrepot.open` it again to read its tables")


@dataclass(frozen=True)
class OpenPipeline:
    """A pipeline whose tables can be read."""

    _tenant: OpenTenant
    name: str

    def tables(self, *, environment: str = DEFAULT_ENVIRONMENT) -> list[str]:
        """The names of the tables that an environment shows.

        Raises:
            BadInput: for an unknown pipeline or environment, with those that are known.
        """
        return self._tenant.tables(self.name, environment)

    def table(self, name: str, *, version: str | None = None, environment: str = DEFAULT_ENVIRONMENT) -> ibis.Table:
        """A table.

        Args:
            name: The table's name.
            version: Any version of it, or how one begins; `entrepot versions` lists them. Default: the one that the
                environment shows.
            environment: Default: `prod`.

        Raises:
            BadInput: for an unknown pipeline, environment, table or version, with those that are known.
            Unavailable: if the warehouse cannot be used now.

        Examples:
            ```python
            import entrepot


            def change():
                with entrepot.open("acme") as acme:
                    now = acme["flights"].table("daily_delays")
                    before = acme["flights"].table("daily_delays", version="4f0c")
                    return now.anti_join(before, ["date", "delay"]).to_pandas()
            ```
        """
        return self._tenant.table(self.name, name, version, environment)


def tenant_named(tenant: str | None, tenants: str | None, state: str | None) -> Tenant:
    """A tenant of the tenant file, by the rules of the command line."""
    return settings.load(tenants, state).connect().get(settings.tenant_of(tenant, tenants))


def rows(
    tenant: Tenant,
    pipeline: str,
    table: str,
    environment: str,
    where: str | None,
    limit: int,
    version: str | None = None,
) -> tuple[list[str], list[dict[str, Any]]]:
    """The columns of a table that an environment shows, or of another version of it, and some of its rows.

    Args:
        where: A condition over its columns, in the warehouse's own SQL.

    Raises:
        BadInput: as `read`, and for a condition that cannot be read.
    """
    with _shown(tenant, pipeline, environment, [table], version) as (session, found):
        [(place, its)] = found.values()
        columns = [sge.column(name, quoted=True) for name in its.columns]
        query = sge.select(*columns).from_(sge.table_(place.table, db=place.schema, quoted=True)).limit(limit)
        if where:
            query = query.where(_condition(where, session.dialect.name, its.columns))
        answers = session.query(query)
        return list(its.columns), [dict(zip(its.columns, row.values(), strict=True)) for row in answers]


def versions(tenant: Tenant, pipeline: str, wanted: Mapping[str, str]) -> dict[str, tuple[TableName, Version]]:
    """Where versions of tables stand, whether or not anything shows them.

    Args:
        wanted: Tables to their versions, or how one begins.

    Raises:
        BadInput: as `rows`.
    """
    try:
        with tenant.backend.session(QueryTag(tenant.name, "read", pipeline)) as session:
            its = _known(Catalog(session, tenant.catalog_schema), tenant, pipeline)
            return {name: _of_version(its, name, version) for name, version in wanted.items()}
    finally:
        tenant.close()


@contextmanager
def _shown(
    tenant: Tenant, pipeline: str, environment: str, names: Iterable[str], version: str | None = None
) -> Iterator[tuple[Session, dict[str, tuple[TableName, Version]]]]:
    """As `_found`, for one read: then nothing stays open."""
    try:
        with _found(tenant, pipeline, environment, names, version) as found:
            yield found
    finally:
        tenant.close()


@contextmanager
def _found(
    tenant: Tenant, pipeline: str, environment: str, names: Iterable[str] | None, version: str | None = None
) -> Iterator[tuple[Session, dict[str, tuple[TableName, Version]]]]:
    """A session, and where the tables stand at which the environment points, those named or all; or another version of
    each."""
    with tenant.backend.session(QueryTag(tenant.name, "read", pipeline)) as session:
        catalog = Catalog(session, tenant.catalog_schema)
        if version is not None:
            its = _known(catalog, tenant, pipeline)
            yield session, {name: _of_version(its, name, version) for name in names or ()}
            return
        pointers, versions = _published(catalog, tenant, pipeline, environment)
        tables = {name: (each.table, each) for name, each in versions.items() if each.table and not each.warehouse}
        where = f"pipeline {pipeline!r}, environment {environment!r}"
        for name in names or ():
            if name in pointers and name not in tables:
                raise BadInput(f"{where}: {name!r} is no table; tables: {listed(tables)}")
            if name not in tables:
                raise BadInput(f"{where}: {unknown('table', name, tables)}")
        yield session, {name: tables[name] for name in (tables if names is None else names)}


def _of_version(catalog: PipelineCatalog, name: str, wanted: str) -> tuple[TableName, Version]:
    """Where a version of a table stands.

    Raises:
        BadInput: if there is none that is called or begins so, or more than one; or if it is no table.
    """
    where = f"pipeline {catalog.name!r}"
    every = catalog.versions_of(name)
    if not every:
        known = {each.name for each in catalog.every_version() if each.table}
        raise BadInput(f"{where}: {unknown('table', name, known)}")
    found = [each for each in every if each.version == wanted] or [
        each for each in every if wanted and each.version.startswith(wanted)
    ]
    if len(found) > 1:
        versions = listed(each.version for each in found)
        raise BadInput(f"{where}: several versions of {name!r} begin with {wanted!r}: {versions}")
    if not found:
        text = unknown(f"version of {name!r}", wanted, [each.version for each in every])
        raise BadInput(f"{where}: {text} (`entrepot versions {catalog.name}` tells when each was made)")
    [version] = found
    if version.table is None or version.warehouse:
        raise BadInput(f"{where}: {name!r} is no table")
    return version.table, version


def _known(catalog: Catalog, tenant: Tenant, pipeline: str) -> PipelineCatalog:
    """What the catalog knows of a pipeline.

    Raises:
        BadInput: if that is nothing.
    """
    known = catalog.pipelines() if catalog.exists() else []
    if pipeline not in known:
        nothing = f"tenant {tenant.name!r}: nothing was published yet in the {tenant.backend.place}"
        raise BadInput(f"tenant {tenant.name!r}: {unknown('pipeline', pipeline, known)}" if known else nothing)
    return catalog.pipeline(pipeline)


def _published(
    catalog: Catalog, tenant: Tenant, pipeline: str, environment: str
) -> tuple[Mapping[str, str], Mapping[str, Version]]:
    """What the environment points at.

    Raises:
        BadInput: if that is nothing.
    """
    its = _known(catalog, tenant, pipeline)
    pointers = its.head(environment).pointers
    if not pointers:
        published = [name for name, points in its.pointers().items() if points]
        raise BadInput(f"pipeline {pipeline!r}: {unknown('environment', environment, published)}")
    return pointers, its.versions(pointers)


def _condition(text: str, dialect: str, columns: Iterable[str]) -> sge.Condition:
    """A condition of people's, with each column's name as the table has it, whatever its case here."""
    known = {name.lower(): name for name in columns}
    try:
        tree = sqlglot.parse_one(text, dialect=dialect, into=sge.Condition)
    except SqlglotError:
        raise BadInput(f"the condition {text!r} is no SQL of {dialect}; write one such as \"country = 'DE'\"") from None
    if tree.find(sge.Query) or not isinstance(tree, sge.Condition):
        raise BadInput(f"the condition {text!r} is more than a condition over the table's columns")
    for column in list(tree.find_all(sge.Column)):
        if column.name.lower() not in known:
            raise BadInput(f"the condition {text!r}: {unknown('column', column.name, known.values())}")
        column.this.replace(sge.to_identifier(known[column.name.lower()], quoted=True))
    return tree

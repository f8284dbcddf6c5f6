"""Reading what an environment shows, while runs go on: for notebooks, and for `entrepot show`.

Each read is one session, for as long as its query takes. On DuckDB it takes its turn at the file as workers do, so it
is never refused, and keeps nobody waiting for longer than it reads. All tables of a read are those of one publish.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import sqlglot
import sqlglot.expressions as sge
from sqlglot.errors import SqlglotError

from entrepot.activities.catalog.catalog import Catalog
from entrepot.activities.catalog.version import Version
from entrepot.activities.runtime.tenant import Tenant
from entrepot.backends import QueryTag, Session, TableName
from entrepot.backends.base import physical
from entrepot.backends.sql.session import conformed
from entrepot.errors import BadInput, listed, unknown
from entrepot.identity.expression import schema_from
from entrepot.language.names import DEFAULT_ENVIRONMENT
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


def tenant_named(tenant: str | None, tenants: str | None, state: str | None) -> Tenant:
    """A tenant of the tenant file, by the rules of the command line."""
    return settings.load(tenants, state).connect().get(settings.tenant_of(tenant, tenants))


def rows(
    tenant: Tenant, pipeline: str, table: str, environment: str, where: str | None, limit: int
) -> tuple[list[str], list[dict[str, Any]]]:
    """The columns of a table that an environment shows, and some of its rows.

    Args:
        where: A condition over its columns, in the warehouse's own SQL.

    Raises:
        BadInput: as `read`, and for a condition that cannot be read.
    """
    with _shown(tenant, pipeline, environment, [table]) as (session, found):
        [(place, version)] = found.values()
        columns = [sge.column(name, quoted=True) for name in version.columns]
        query = sge.select(*columns).from_(sge.table_(place.table, db=place.schema, quoted=True)).limit(limit)
        if where:
            query = query.where(_condition(where, session.dialect.name, version.columns))
        answers = session.query(query)
        return list(version.columns), [dict(zip(version.columns, row.values(), strict=True)) for row in answers]


@contextmanager
def _shown(
    tenant: Tenant, pipeline: str, environment: str, names: Iterable[str]
) -> Iterator[tuple[Session, dict[str, tuple[TableName, Version]]]]:
    """A session, and where the tables stand at which the environment points."""
    try:
        with tenant.backend.session(QueryTag(tenant.name, "read", pipeline)) as session:
            pointers, versions = _published(Catalog(session, tenant.catalog_schema), tenant, pipeline, environment)
            tables = {name: (each.table, each) for name, each in versions.items() if each.table and not each.warehouse}
            where = f"pipeline {pipeline!r}, environment {environment!r}"
            for name in names:
                if name in pointers and name not in tables:
                    raise BadInput(f"{where}: {name!r} is no table; tables: {listed(tables)}")
                if name not in tables:
                    raise BadInput(f"{where}: {unknown('table', name, tables)}")
            yield session, {name: tables[name] for name in names}
    finally:
        tenant.close()


def _published(
    catalog: Catalog, tenant: Tenant, pipeline: str, environment: str
) -> tuple[Mapping[str, str], Mapping[str, Version]]:
    """What the environment points at.

    Raises:
        BadInput: if that is nothing.
    """
    known = catalog.pipelines() if catalog.exists() else []
    if pipeline not in known:
        nothing = f"tenant {tenant.name!r}: nothing was published yet in the {tenant.backend.place}"
        raise BadInput(f"tenant {tenant.name!r}: {unknown('pipeline', pipeline, known)}" if known else nothing)
    its = catalog.pipeline(pipeline)
    pointers = its.environment(environment).head().pointers
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

"""Whose a catalog and a lake are: of one tenant, who is recorded when it first runs there.

What another opens is refused before anything is written, since cursors, versions and files would be both's.
"""

from __future__ import annotations

import json

from entrepot.activities.catalog.owners import Places
from entrepot.activities.catalog.tables import CatalogTables
from entrepot.activities.runtime.tenant import Tenant
from entrepot.activities.storage import lake
from entrepot.backends import Session
from entrepot.errors import BadInput
from entrepot.tracebacks import describe

LAKE_OWNER = "tenant.json"
"""The file in the lake that says whose it is."""


def check_tenant(tenant: Tenant, session: Session) -> None:
    """Raises BadInput if the catalog of a session's warehouse, or the lake, is another tenant's.

    Asked at every session, and answered by what is there until that is the tenant's own.
    """
    if "lake" not in tenant.owned and (owner := _owner_of_lake(tenant)):
        _check_same(tenant, owner, f"the lake {tenant.lake_path()}", "a `lake`")
        tenant.owned.add("lake")
    if "catalog" not in tenant.owned:
        for owner in sorted(_places(tenant, session).tenants(), key=lambda each: each == tenant.name):
            what = f"the catalog in schema {tenant.catalog_schema!r} of {tenant.backend.place}"
            _check_same(tenant, owner, what, "a database, or a `prefix`")
            tenant.owned.add("catalog")


def claim_tenant(tenant: Tenant, session: Session) -> None:
    """Records that the catalog of a session's warehouse, and the lake, are the tenant's.

    Raises:
        BadInput: if one of them is another's: of two that come at the same time, both see both.
    """
    if not _owner_of_lake(tenant):
        lake.write(json.dumps({"tenant": tenant.name}).encode(), tenant.lake_path(LAKE_OWNER))
    places = _places(tenant, session)
    places.claim_catalog(tenant.name)
    try:
        check_tenant(tenant, session)
    except BadInput:
        places.release_catalog(tenant.name)
        raise


def _places(tenant: Tenant, session: Session) -> Places:
    return Places(CatalogTables(session, tenant.catalog_schema))


def _owner_of_lake(tenant: Tenant) -> str:
    """Whose the tenant's lake is; empty, if nobody's."""
    path = tenant.lake_path(LAKE_OWNER)
    try:
        return str(json.loads(lake.read(path))["tenant"]) if lake.exists(path) else ""
    except (ValueError, TypeError, KeyError) as error:
        raise BadInput(f"{path} does not say whose the lake is: {describe(error)}") from error


def _check_same(tenant: Tenant, owner: str, what: str, remedy: str) -> None:
    if owner != tenant.name:
        raise BadInput(
            f"{what} belongs to tenant {owner!r}, and cannot be that of tenant {tenant.name!r}, too; give each tenant "
            f"{remedy} of its own in the tenant file"
        )

"""Where people find what an environment shows: each version's place, by its kind and the tenant's schemas."""

from __future__ import annotations

import os
from collections.abc import Iterable

from entrepot.activities.catalog.details import CopyDetails
from entrepot.activities.catalog.owners import Place, Shown, check_distinct
from entrepot.activities.catalog.version import Version
from entrepot.activities.runtime.tenant import Tenant
from entrepot.identity.version import environment_schema, prefixed
from entrepot.protocol.messages import Context


def view_place(tenant: Tenant, pipeline: str, environment: str, table: str) -> Place:
    """Where a pipeline's table is shown."""
    return Place("view", environment_schema(tenant.settings(pipeline).schema, environment), table)


def copy_place(tenant: Tenant, environment: str, schema: str, name: str, warehouse: str = "") -> Place:
    """Where a copy is shown."""
    return Place("view", environment_schema(prefixed(tenant.prefix, schema), environment), name, warehouse)


def place_of(tenant: Tenant, context: Context, version: Version) -> Place | None:
    """Where people find a version; None for a model."""
    if isinstance(copy := version.details, CopyDetails):
        return copy_place(tenant, context.environment, copy.schema_name, copy.name, copy.to)
    if version.table is not None:
        return view_place(tenant, context.pipeline, context.environment, version.name)
    if version.published_file is not None:
        ending = os.path.splitext(version.published_file)[1]
        return Place("file", "", f"published/{context.environment}/{context.pipeline}/{version.name}{ending}")
    return None


def places_of(tenant: Tenant, context: Context, versions: Iterable[Version]) -> Shown:
    """What an environment shows that points at these versions.

    Raises:
        BadInput: if two of them would stand at one place.
    """
    found = ((place_of(tenant, context, version), version.name) for version in versions)
    return check_distinct((place, name) for place, name in found if place is not None)

"""Whether what a version is made of is there as it was made; and whether the lake could bring it back."""

from __future__ import annotations

from entrepot.activities.catalog.relations import Relations
from entrepot.activities.catalog.version import Version
from entrepot.activities.ingest import manifest
from entrepot.activities.runtime.tenant import Tenant
from entrepot.activities.storage import lake
from entrepot.errors import StepFailed


def problem(relations: Relations, version: Version) -> str:
    """What is wrong with what a version is made of; empty, if nothing is."""
    if version.file and (said := _file_problem(*version.file)):
        return said
    return "" if version.warehouse else relations.first_problem(version.relations)


def missing_in_lake(tenant: Tenant, pipeline: str, table: str, wanted: str, sha256: str | None) -> str:
    """Why a version of a raw table cannot be loaded from the lake; empty, if it can be.

    Args:
        sha256: The hash of its manifest, where the catalog has it.
    """
    version: str | None = wanted
    while version is not None:
        try:
            its = manifest.read(tenant, pipeline, table, version, sha256)
        except StepFailed as error:
            kept = manifest.kept_copy(tenant, pipeline, table, version, sha256)
            if kept is None:
                return str(error).removesuffix(manifest.ANEW)
            its = kept
        try:
            for part in its.files:
                lake.check(part.file, part.sha256)
        except StepFailed as error:
            return str(error)
        version, sha256 = its.follows, None
    return ""


def _file_problem(path: str, sha256: str | None) -> str:
    """What is wrong with a file of the lake; empty, if nothing is."""
    try:
        if sha256 is not None:
            lake.check(path, sha256)
    except StepFailed as error:
        return str(error)
    return "" if lake.exists(path) else f"{path} is gone from the lake"

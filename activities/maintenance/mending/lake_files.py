"""What loads have left in the lake, held against what the catalog uses: lost manifests, checkpoints, heads, and files.

A manifest stands twice, at its version and beside the files of its load; from the other it is written again.
"""

from __future__ import annotations

from collections.abc import Collection

from pydantic import ValidationError

from entrepot.activities.catalog.catalog import PipelineCatalog
from entrepot.activities.ingest import heads, manifest
from entrepot.activities.ingest.landing import Checkpoint, RowsFile
from entrepot.activities.ingest.manifest import Manifest
from entrepot.activities.runtime.context import ActivityContext
from entrepot.activities.runtime.tenant import Tenant
from entrepot.activities.storage import lake
from entrepot.errors import StepFailed


def mend_lake(
    work: ActivityContext, catalog: PipelineCatalog, raw: Collection[str], *, dry_run: bool
) -> tuple[list[str], list[str]]:
    """Mends what a pipeline's loads have left. What was found and done, and what is left, each in a sentence.

    Args:
        raw: The raw tables of its steps.
    """
    found, left = _mend_checkpoints(work.tenant, catalog.name, dry_run=dry_run), []
    found += _mend_heads(work.tenant, catalog, dry_run=dry_run)
    seen: set[tuple[str, str]] = set()
    for pointers in catalog.in_use():
        hashes = {name: version.manifest for name, version in catalog.versions(pointers).items()}
        for table, wanted in pointers.items():
            version, sha256 = (wanted if table in raw else None), hashes.get(table)
            while version is not None and (table, version) not in seen:
                seen.add((table, version))
                its, said, why = _manifest(work.tenant, catalog.name, table, version, sha256, dry_run=dry_run)
                found += said
                left += why
                version, sha256 = (its.follows if its else None), None
    return found, left


def _manifest(
    tenant: Tenant, pipeline: str, table: str, version: str, sha256: str | None, *, dry_run: bool
) -> tuple[Manifest | None, list[str], list[str]]:
    """A version's manifest, if there is one by now; what was found, and what is left."""
    try:
        its = manifest.read(tenant, pipeline, table, version, sha256)
    except StepFailed as error:
        said = str(error).removesuffix(manifest.ANEW)
        copy = manifest.kept_copy(tenant, pipeline, table, version, sha256)
        if copy is None:
            return None, [], [f"{said}, and no copy of it stands beside the load's files; {manifest.REFRESH}"]
        if not dry_run:
            lake.write(copy.json_bytes, manifest.path_of(tenant, pipeline, copy))
        return copy, [f"{said}: written again from its copy beside the load's files"], []
    wrong = [said for part in its.files if (said := _problem(part))]
    return its, [], [f"{said}; its rows stand in the warehouse alone; {manifest.REFRESH}" for said in wrong]


def _problem(part: RowsFile) -> str:
    """What is wrong with a file, as far as its size tells; where it is read, its hash is asked."""
    if not lake.exists(part.file):
        return f"{part.file} is gone from the lake"
    if (size := lake.size(part.file)) != part.bytes:
        return (
            f"{part.file} is not the file that was written: it has {size:,} bytes, and was written with {part.bytes:,}"
        )
    return ""


def _mend_heads(tenant: Tenant, catalog: PipelineCatalog, *, dry_run: bool) -> list[str]:
    """What the lake remembers of the newest loads, as far as it cannot be read any more."""
    found = []
    for path, step, environment in heads.unreadable(tenant, catalog.name):
        its = catalog.environment(environment)
        is_known = its.own_ingest_state(step) is not None
        found.append(f"{path} cannot be read: {'written again from the catalog' if is_known else 'removed'}")
        if dry_run:
            continue
        if is_known:
            heads.renew(tenant, its, step)
        else:
            heads.remove(tenant, catalog.name, step, environment)
    return found


def _mend_checkpoints(tenant: Tenant, pipeline: str, *, dry_run: bool) -> list[str]:
    found = []
    for path in lake.files(tenant.lake_path("loads", pipeline)):
        if path.endswith("/checkpoint.json"):
            try:
                Checkpoint.model_validate_json(lake.read(path))
            except FileNotFoundError:  # its load has ended
                continue
            except ValidationError:
                found.append(f"{path} cannot be read: removed, so its source is read from the beginning")
                if not dry_run:
                    lake.remove(path)
    return found

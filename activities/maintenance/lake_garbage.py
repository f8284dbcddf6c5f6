"""The files in the lake that a pipeline does not need any more."""

from __future__ import annotations

import datetime
import functools
from collections.abc import Callable, Iterable, Mapping

from entrepot.activities.catalog.catalog import PipelineCatalog
from entrepot.activities.ingest import manifest
from entrepot.activities.ingest.heads import FOLDER, Head
from entrepot.activities.runtime.tenant import Tenant
from entrepot.activities.storage import lake
from entrepot.language.step import KINDS

ARTIFACTS = tuple(sorted({kind.folder for kind in KINDS.values()} - {""}))
"""The folders with files of versions."""

LOADS = ("raw", "loads")
"""Those with manifests of loads, and with their rows."""


class LakeGarbage:
    """What the lake has of a pipeline that nothing refers to, and that was not written lately.

    Args:
        heads: What the lake would bring back.
        kept: The versions that stay, by name and version.
        hashes: Those of their manifests, as far as the catalog has them.
        border: What was written since stays.
    """

    def __init__(
        self,
        tenant: Tenant,
        catalog: PipelineCatalog,
        heads: Iterable[Head],
        kept: set[tuple[str, str]],
        hashes: Mapping[tuple[str, str], str | None],
        border: datetime.datetime,
    ) -> None:
        self._tenant = tenant
        self._catalog = catalog
        self._heads = heads
        self._kept = kept
        self._hashes = hashes
        self._border = border

    def found(self) -> dict[str, int]:
        """Each file, and its size."""
        loaded = self._loaded()
        garbage = self._unfinished()
        for folder in LOADS:
            garbage |= self._old(folder, lambda path: path in loaded or _is_small(path))
        for folder in ARTIFACTS:
            garbage |= self._old(folder, functools.partial(self._is_of_kept, folder))
        return garbage

    def _is_of_kept(self, folder: str, path: str) -> bool:
        """Whether a file `.../FOLDER/PIPELINE/NAME/VERSION/...` is of a version that stays, or of none: somebody's."""
        root = self._tenant.lake_path(folder, self._catalog.name)
        folders = path.removeprefix(f"{root}/").split("/")[:-1]
        return len(folders) < 2 or (folders[0], folders[1]) in self._kept

    def _old(self, folder: str, is_needed: Callable[[str], bool]) -> dict[str, int]:
        files = lake.files(self._tenant.lake_path(folder, self._catalog.name))
        return {
            path: file.bytes
            for path, file in files.items()
            if file.changed_at < self._border and (lake.is_unfinished(path) or not is_needed(path))
        }

    def _unfinished(self) -> dict[str, int]:
        """What somebody was writing who died, where people look: `published/ENVIRONMENT/PIPELINE/...`."""
        return {
            path: file.bytes
            for path, file in lake.files(self._tenant.lake_path("published")).items()
            if f"/{self._catalog.name}/" in path and lake.is_unfinished(path) and file.changed_at < self._border
        }

    def _loaded(self) -> set[str]:
        """The manifests that kept versions were loaded from, with their files and those of the versions before; and
        what sources remember of the loads to which an environment can go back."""
        needed: set[str] = set()
        seen: set[tuple[str, str]] = set()
        its = self._tenant, self._catalog.name
        loads = [load for loads in self._catalog.loads().values() for load in loads]
        raw = {key for key, sha256 in self._hashes.items() if sha256}
        raw |= {pair for load in loads for pair in load.tables.items()}
        raw |= {pair for head in self._heads for pair in head.tables.items()}
        for table, wanted in sorted(self._kept):
            version: str | None = wanted
            while version is not None and (table, version) not in seen:
                seen.add((table, version))
                sha256 = self._hashes.get((table, version))
                found = manifest.find(*its, table, version, sha256)
                if found is None and ((table, version) in raw or version != wanted):
                    # Its manifest is lost, and its files are not: a repair writes it again from its copy.
                    found = manifest.kept_copy(*its, table, version, sha256)
                if found is None:  # no raw table, or one of which nothing is left
                    break
                needed |= {found.path, *manifest.copies(found), *(each.file for each in found.files)}
                version = found.follows
        for load in loads:
            if load.watermarks and set(load.tables.items()) <= self._kept:
                needed.add(load.watermarks)
        return needed | {head.watermarks for head in self._heads if head.watermarks}


def _is_small(path: str) -> bool:
    """Whether it is one of those of which there is one for each table, or environment."""
    return path.endswith("/columns.json") or f"/{FOLDER}/" in path

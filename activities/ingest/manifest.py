"""What the lake knows of one table's part of a load: enough to load it into any warehouse without its source.

A load says what it is. The version is a hash of the rows, the columns and the version of before, so a manifest that was
changed does not describe its version any more; each file has its hash; and the catalog has that of the manifest.
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from dataclasses import asdict

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from entrepot.activities.ingest.landing import Part, RowsFile, content_of
from entrepot.activities.ingest.sources.stream import Hints
from entrepot.activities.runtime.tenant import Tenant
from entrepot.activities.storage import lake
from entrepot.errors import StepFailed
from entrepot.identity.code import stable_hash
from entrepot.identity.version import version_of

LOADED, PACKED = "load.json", "packed.json"
"""The names of manifests: of what a load brought, and of the same written together with what it was added to."""

REFRESH = "run it once with `refresh` to load everything anew"
ANEW = f"; `entrepot doctor --repair` mends what can be mended, or {REFRESH}"
"""What helps where the lake does not have any more what it had."""


class Pack(BaseModel):
    """Rows of a version, and of those that it was added to, written together: see `packing.py`."""

    model_config = ConfigDict(frozen=True)

    file: RowsFile
    columns: dict[str, str]
    """The columns that it gives: those of a segment of the table."""
    adds_to: str | None
    """The version to which these rows are added; None where they are all that there are."""
    load: str
    """The hash of the manifest whose place it takes: the catalogs of further warehouses remember that one."""


class Manifest(BaseModel):
    """A version of a raw table: the files that a load brought for it, and the version that they are added to."""

    model_config = ConfigDict(frozen=True)

    table: str
    version: str
    adds_to: str | None
    """The version of before; None where this one stands for itself."""
    parts: tuple[Part, ...]
    columns: dict[str, str]
    """The columns that the files give, under the types that they are loaded with."""
    shape: dict[str, str]
    """The version's columns."""
    wide: tuple[str, ...] = ()
    """The columns that have or had whole numbers that a float64 does not hold."""
    hints: Hints
    loaded_at: str
    """UTC, without zone: from when on rows hold, with `scd2`."""
    family: tuple[str, ...] = ()
    """The tables nested in it that belong to the same load."""
    root: str | None = None
    """Of a nested table that grows: the version of the table that it hangs from, in the same load."""
    pack: Pack | None = None
    """What takes the place of `parts` and of the versions that those are added to, where they are no more."""
    path: str = Field(default="", exclude=True)
    """Where it stands in the lake."""
    sha256: str = Field(default="", exclude=True)
    """The hash of the manifest as it stands there."""

    @property
    def json_bytes(self) -> bytes:
        """As it stands in the lake."""
        return self.model_dump_json(exclude=None if self.pack else {"pack"}).encode()

    @property
    def files(self) -> tuple[RowsFile, ...]:
        """The files that it is loaded from."""
        return (self.pack.file,) if self.pack else self.parts

    @property
    def follows(self) -> str | None:
        """The version that is loaded before it, since their rows are added to it."""
        return self.pack.adds_to if self.pack else self.adds_to

    @property
    def described(self) -> str:
        """The version that its rows, its columns and what they are added to make."""
        inputs = {"columns": stable_hash(self.shape)}
        if self.adds_to is not None:
            inputs |= {"adds_to": self.adds_to, "hints": stable_hash(asdict(self.hints))}
        if self.root is not None:
            inputs |= {"root": self.root}
        return version_of("ingest", content_of(self.parts), inputs)

    @property
    def rows(self) -> int:
        """The rows that the load brought."""
        return sum(part.rows for part in self.parts)

    @property
    def bytes(self) -> int:
        """The size of its files."""
        return sum(part.bytes for part in self.parts)


def write(tenant: Tenant, pipeline: str, manifest: Manifest) -> str:
    """Keeps a manifest. Returns the hash of what stands there.

    The same content may have been kept before: then that one, with its files, stands for both, if it is whole.
    """
    # The newest load's columns, for whoever wants to know them without asking the warehouse.
    lake.write(json.dumps(manifest.shape).encode(), tenant.lake_path("raw", pipeline, manifest.table, "columns.json"))
    path = path_of(tenant, pipeline, manifest)
    with suppress(StepFailed):
        if found := _read(path, manifest.table, manifest.version, None):
            for each in found.files:
                lake.check(tenant.in_lake(each.file), each.sha256)
            return found.sha256
    return put(tenant, pipeline, manifest)


def put(tenant: Tenant, pipeline: str, manifest: Manifest) -> str:
    """Writes a manifest, and its copy beside its files before. Returns its hash."""
    data = manifest.json_bytes
    for each in (*copies(manifest), path_of(tenant, pipeline, manifest)):
        lake.write(data, each)
    return hashlib.sha256(data).hexdigest()


def read(tenant: Tenant, pipeline: str, table: str, version: str, sha256: str | None = None) -> Manifest:
    """The manifest of a version.

    Args:
        sha256: Its hash, where somebody remembers it.

    Raises:
        StepFailed: if the lake has none, or another one than was written.
        BadInput: if it names files that are not in the tenant's lake.
    """
    if (found := find(tenant, pipeline, table, version, sha256)) is not None:
        return found
    raise StepFailed(
        f"the lake does not have the load of {table!r} that made version {version}: "
        f"neither {_path(tenant, pipeline, table, version, LOADED)} nor {PACKED} beside it{ANEW}"
    )


def find(tenant: Tenant, pipeline: str, table: str, version: str, sha256: str | None = None) -> Manifest | None:
    """The manifest of a version, as `read` gives it; None, if the lake has none.

    While loads are written together two stand there, which say the same; the catalog remembers which of them counts.
    """
    refused: StepFailed | None = None
    for name in (LOADED, PACKED) if sha256 else (PACKED, LOADED):
        try:
            found = _read(_path(tenant, pipeline, table, version, name), table, version, sha256)
        except StepFailed as error:
            if sha256 is None:
                raise
            refused = refused or error
            continue
        if found is not None:
            for each in found.files:
                tenant.in_lake(each.file)
            return found
    if refused is not None:
        raise refused
    return None


def _read(path: str, table: str, version: str, sha256: str | None) -> Manifest | None:
    try:
        data = lake.read(path)
    except FileNotFoundError:
        return None
    try:
        found = Manifest.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise StepFailed(f"{path} is no manifest of a load: {where}: {first['msg']}{ANEW}") from None
    its = hashlib.sha256(data).hexdigest()
    is_meant = sha256 in (None, its, found.pack and found.pack.load)
    if (found.table, found.version, found.described) != (table, version, version) or not is_meant:
        rows = f"its {len(found.parts)} files have {found.rows:,} rows"
        raise StepFailed(f"{path} is not the manifest that was written for version {version}: {rows}{ANEW}")
    return found.model_copy(update={"path": path, "sha256": its})


def kept_copy(tenant: Tenant, pipeline: str, table: str, version: str, sha256: str | None) -> Manifest | None:
    """The manifest of a version, as it stands beside the files of its load."""
    for path in lake.files(tenant.lake_path("loads", pipeline)):
        if path.endswith(f"/{_copy(table, version)}"):
            with suppress(StepFailed):
                if found := _read(path, table, version, sha256):
                    return found
    return None


def copies(manifest: Manifest) -> list[str]:
    """Where a manifest stands once more: beside the files of its load; nowhere, if it has none."""
    folders = {os.path.dirname(each.file) for each in manifest.files}
    return [f"{folder}/{_copy(manifest.table, manifest.version)}" for folder in sorted(folders)]


def _copy(table: str, version: str) -> str:
    return f"{table}-{version}.manifest.json"


def path_of(tenant: Tenant, pipeline: str, manifest: Manifest) -> str:
    """Where a version's manifest stands."""
    return _path(tenant, pipeline, manifest.table, manifest.version, PACKED if manifest.pack else LOADED)


def _path(tenant: Tenant, pipeline: str, table: str, version: str, name: str) -> str:
    return tenant.lake_path("raw", pipeline, table, version, name)

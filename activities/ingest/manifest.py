"""What the lake knows of one table's part of a load: enough to load it into any warehouse without its source."""

from __future__ import annotations

import json

from pydantic import BaseModel, ConfigDict

from entrepot.activities.ingest.landing import Part
from entrepot.activities.ingest.sources.stream import Hints
from entrepot.activities.runtime.tenant import Tenant
from entrepot.activities.storage import lake
from entrepot.errors import StepFailed


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

    @property
    def rows(self) -> int:
        """The rows that the load brought."""
        return sum(part.rows for part in self.parts)

    @property
    def bytes(self) -> int:
        """The size of its files."""
        return sum(part.bytes for part in self.parts)


def write(tenant: Tenant, pipeline: str, manifest: Manifest) -> None:
    """Keeps a manifest, unless the same content was kept before: then that one, with its files, stands for both."""
    path = path_of(tenant, pipeline, manifest.table, manifest.version)
    if not lake.exists(path):
        lake.write(manifest.model_dump_json().encode(), path)
    # The newest load's columns, for whoever wants to know them without asking the warehouse.
    lake.write(json.dumps(manifest.shape).encode(), tenant.lake_path("raw", pipeline, manifest.table, "columns.json"))


def read(tenant: Tenant, pipeline: str, table: str, version: str) -> Manifest:
    """The manifest of a version.

    Raises:
        StepFailed: if the lake has none.
    """
    path = path_of(tenant, pipeline, table, version)
    try:
        return Manifest.model_validate_json(lake.read(path))
    except FileNotFoundError as error:
        raise StepFailed(f"the lake does not have the load of {table!r} that made version {version}: {path}") from error


def path_of(tenant: Tenant, pipeline: str, table: str, version: str) -> str:
    """Where a version's manifest stands."""
    return tenant.lake_path("raw", pipeline, table, version, "load.json")

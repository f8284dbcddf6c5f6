"""Which load was the newest of an environment, as the lake remembers it: enough to go on without the catalog.

A head is written after the ingest state that it is a copy of. So it is never ahead of what the warehouse has seen, and
where it is behind, the source is asked again for what came since.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, ValidationError

from entrepot.activities.catalog.ingest_state import IngestState
from entrepot.activities.runtime.tenant import Tenant
from entrepot.activities.storage import lake
from entrepot.errors import StepFailed

FOLDER = "heads"


class Head(BaseModel):
    """The newest load of a step in an environment."""

    model_config = ConfigDict(frozen=True)

    environment: str
    load: str
    tables: dict[str, str]
    """Every table to the version that it had after the load."""
    watermarks: str | None
    """The file in the lake with where the sources continue."""
    fingerprint: str | None
    run: str

    @property
    def ingest_state(self) -> IngestState:
        """As the first of an environment that has none."""
        return IngestState(
            sequence=0,
            load=self.load,
            tables=self.tables,
            watermarks=self.watermarks,
            fingerprint=self.fingerprint,
            run=self.run,
            environment=self.environment,
        )


def write(tenant: Tenant, pipeline: str, step: str, environment: str, its: IngestState) -> None:
    """Keeps what an environment remembers of a step."""
    head = Head(
        environment=environment,
        load=its.load,
        tables=dict(its.tables),
        watermarks=its.watermarks,
        fingerprint=its.fingerprint,
        run=its.run,
    )
    lake.write(head.model_dump_json().encode(), _path(tenant, pipeline, step, f"{environment}.json"))


def read(tenant: Tenant, pipeline: str, step: str) -> list[Head]:
    """Those of a step, of every environment.

    Raises:
        StepFailed: if one cannot be read.
    """
    found = []
    for path in sorted(lake.files(_path(tenant, pipeline, step))):
        try:
            found.append(Head.model_validate_json(lake.read(path)))
        except ValidationError as error:
            raise StepFailed(f"{path} does not say which load was the newest: {error.errors()[0]['msg']}") from None
    return found


def remove(tenant: Tenant, pipeline: str, step: str, environment: str) -> None:
    """Forgets an environment that is dropped."""
    lake.remove(_path(tenant, pipeline, step, f"{environment}.json"))


def _path(tenant: Tenant, pipeline: str, step: str, *file: str) -> str:
    return tenant.lake_path("loads", pipeline, step, FOLDER, *file)

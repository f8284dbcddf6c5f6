"""Which load was the newest of an environment, as the lake remembers it: enough to go on without the catalog.

A head is written after the ingest state that it is a copy of. So it is never ahead of what the warehouse has seen, and
where it is behind, the source is asked again for what came since.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

from pydantic import BaseModel, ConfigDict, ValidationError

from entrepot.activities.catalog.environment import Environment
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


def renew(tenant: Tenant, environment: Environment, step: str) -> None:
    """Keeps what an environment remembers of a step, if it was loaded there."""
    its = environment.own_ingest_state(step)
    if its is None:
        return
    head = Head(
        environment=environment.name,
        load=its.load,
        tables=dict(its.tables),
        watermarks=its.watermarks,
        fingerprint=its.fingerprint,
        run=its.run,
    )
    path = _path(tenant, environment.pipeline, step, f"{environment.name}.json")
    lake.write(head.model_dump_json().encode(), path)


def of(tenant: Tenant, pipeline: str, step: str, environment: str) -> Head | None:
    """That of a step in one environment, if there is one.

    Raises:
        StepFailed: if it cannot be read.
    """
    return next(iter(_read([_path(tenant, pipeline, step, f"{environment}.json")])), None)


def read(tenant: Tenant, pipeline: str, step: str) -> list[Head]:
    """Those of a step, of every environment.

    Raises:
        StepFailed: if one cannot be read.
    """
    return _read(lake.files(_path(tenant, pipeline, step)))


def every(tenant: Tenant, pipeline: str) -> list[Head]:
    """Those of all steps, whether or not the pipeline or the catalog still knows them.

    Raises:
        StepFailed: if one cannot be read.
    """
    return _read(path for path in lake.files(tenant.lake_path("loads", pipeline)) if f"/{FOLDER}/" in path)


def unreadable(tenant: Tenant, pipeline: str) -> list[tuple[str, str, str]]:
    """Those that cannot be read: the path, the step, and the environment of each."""
    found = []
    for path in sorted(lake.files(tenant.lake_path("loads", pipeline))):
        *_, step, folder, file = path.split("/")
        if folder == FOLDER and not lake.is_unfinished(path):
            try:
                _read([path])
            except StepFailed:
                found.append((path, step, file.removesuffix(".json")))
    return found


def _read(paths: Iterable[str]) -> list[Head]:
    found = []
    for path in sorted(path for path in paths if not lake.is_unfinished(path)):
        try:
            with suppress(FileNotFoundError):  # its environment was dropped meanwhile
                found.append(Head.model_validate_json(lake.read(path)))
        except ValidationError as error:
            raise StepFailed(f"{path} does not say which load was the newest: {error.errors()[0]['msg']}") from None
    return found


def remove(tenant: Tenant, pipeline: str, step: str, environment: str) -> None:
    """Forgets an environment that is dropped."""
    lake.remove(_path(tenant, pipeline, step, f"{environment}.json"))


def _path(tenant: Tenant, pipeline: str, step: str, *file: str) -> str:
    return tenant.lake_path("loads", pipeline, step, FOLDER, *file)

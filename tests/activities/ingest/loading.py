"""A tenant whose pipeline `ingested` is loaded by the activities alone, without a server."""

from __future__ import annotations

import asyncio
import itertools
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from temporalio.testing import ActivityEnvironment

from entrepot.activities.catalog.catalog import Catalog, PipelineCatalog
from entrepot.activities.catalog.ingest_state import IngestState
from entrepot.activities.ingest.ingest import IngestActivities
from entrepot.activities.runtime.context import ActivityContext, ensure_schemas
from entrepot.activities.runtime.tenant import PipelineSettings, Tenant, Tenants
from entrepot.backends import QueryTag
from entrepot.backends.base import physical
from entrepot.identity.expression import schema_from
from entrepot.protocol.messages import Backfill, Context, ExtractRequest, LoadRequest, StepResult
from entrepot.registry import Registry

ENVIRONMENT = ActivityEnvironment()
Row = dict[str, Any]


@dataclass
class Warehouse:
    """A tenant, and where its sources are."""

    tenants: Tenants
    folder: Path
    activities: IngestActivities
    numbers: Iterator[int] = field(default_factory=itertools.count)
    last: int = 0

    def load(
        self,
        step: str,
        options: Mapping[str, Any],
        *,
        refresh: bool = False,
        environment: str = "prod",
        backfill: Backfill | None = None,
    ) -> StepResult | None:
        """Asks a step's source, and brings what it gives; None: there was nothing to bring."""
        number = self.last = next(self.numbers)
        context = Context(
            tenant="acme",
            pipeline="ingested",
            environment=environment,
            run=f"run-{number}",
            started_at=f"2026-01-01T00:{number // 60:02}:{number % 60:02}",
            parameters={"folder": str(self.folder), "options": dict(options)},
        )

        async def both() -> StepResult | None:
            asked = ExtractRequest(context=context, step=step, refresh=refresh, backfill=backfill)
            load = await ENVIRONMENT.run(self.activities.extract, asked)
            if load.unchanged:
                return None
            return await ENVIRONMENT.run(self.activities.load, LoadRequest(context=context, load=load))

        return asyncio.run(both())

    def cursor(self, step: str, environment: str = "prod") -> IngestState:
        """Where an environment stands."""
        with self._catalog() as catalog:
            return catalog.environment(environment).ingest_state(step)

    def back(self, step: str, environment: str, loads: int) -> None:
        """An environment's cursor goes back, as with a rollback."""
        with self._catalog() as catalog:
            now = catalog.environment(environment).ingest_state(step)
            own = [load for load in catalog.loads().get(step, []) if load.environment == environment]
            if len(own) > loads:
                then = replace(own[loads], sequence=now.sequence, action="rollback")
                catalog.environment(environment).replace_ingest_state(step, then)

    def rows(self, table: str, version: str = "") -> list[Row]:
        """The rows of a version; default: of the newest, where the step has the table's name."""
        version = version or self.cursor(table).tables[table]
        with self._catalog() as catalog:
            found = catalog.versions({table: version})[table]
            assert found.table is not None
            rows = catalog.session.fetch(physical(found.table, schema_from(found.columns))).to_pylist()
            assert len(rows) == found.rows
            return rows

    @contextmanager
    def _catalog(self) -> Iterator[PipelineCatalog]:
        with self.tenants.get("acme").backend.session(QueryTag("acme", "test", "test")) as session:
            yield Catalog(session).pipeline("ingested")


@contextmanager
def warehouse(pipeline: str = "tests.pipelines.ingested:ingested") -> Iterator[Warehouse]:
    with tempfile.TemporaryDirectory() as state:
        folder = Path(state, "source")
        folder.mkdir()
        backend = {"type": "duckdb", "path": str(Path(state, "acme.duckdb"))}
        tenant = Tenant("acme", backend, str(Path(state, "lake")), {"ingested": PipelineSettings("ingested")})
        tenants = Tenants({"acme": tenant}, Registry({"ingested": pipeline}))
        ensure_schemas(ActivityContext(tenant, "room", "room"), "ingested")
        yield Warehouse(tenants, folder, IngestActivities(tenants))
        tenant.close()


def seen(rows: Sequence[Row], *but: str) -> Counter[tuple[tuple[str, Any], ...]]:
    """Rows to compare: a column that a row does not have is one without a value."""
    return Counter(
        tuple(sorted((name, value) for name, value in row.items() if value is not None and name not in but))
        for row in rows
    )

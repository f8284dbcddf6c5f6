"""What tests of whole ingests share: a house for `tests/pipelines/ingested.py`, and how it stands."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import WorkflowFailureError
from temporalio.exceptions import ApplicationError

from entrepot.workflows.progress import RunSummary, StepProgress
from tests.conftest import House

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Refused:
    """How a run failed."""

    message: str
    kind: str
    attempts: int
    """Of the activity that was tried most often."""


@dataclass
class Ingesting:
    """A house, and a folder with what its sources have."""

    house: House
    folder: Path
    pipeline: str = "ingested"

    def give(self, name: str, rows: Rows) -> None:
        """Writes what a source has."""
        (self.folder / f"{name}.rows").write_text(json.dumps(rows))

    def write(self, name: str, text: str | bytes) -> Path:
        """Writes a file."""
        path = self.folder / name
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    async def load(self, step: str, options: dict[str, Any] | None = None, **run: Any) -> RunSummary:
        """Runs a step, and what reads it if its name ends with a plus."""
        return await self.house.run(self.pipeline, **self._asked(step, options, run))

    async def note(self, step: str, options: dict[str, Any] | None = None, **run: Any) -> str:
        """Runs a step; what its line says."""
        return line(await self.load(step, options, **run), step).note

    async def refused(self, step: str, options: dict[str, Any] | None = None, **run: Any) -> Refused:
        """Runs a step, which must fail, and must not change anything that anybody sees."""
        before = self.standing()
        value = {"tenant": "acme", "pipeline": self.pipeline, **self._asked(step, options, run)}
        handle = await self.house.start("Pipeline", value)
        with pytest.raises(WorkflowFailureError) as caught:
            await asyncio.wait_for(handle.result(), 300)
        failure = caught.value.cause
        assert isinstance(failure, ApplicationError)
        assert self.standing() == before
        history = await handle.fetch_history()
        attempts = [e.activity_task_started_event_attributes.attempt for e in history.events]
        return Refused(failure.message, str(failure.type), max(attempts))

    def standing(self) -> dict[str, Any]:
        """Everything that a run may have changed: cursors, loads, versions, what is published, and every table."""
        if not self.query("SELECT 1 FROM information_schema.tables WHERE table_schema = 'entrepot' LIMIT 1"):
            return {"ingest_states": [], "loads": [], "versions": [], "publishes": [], "tables": []}
        found = {
            name: sorted(self.query(f"SELECT * FROM entrepot.{name}"), key=repr)
            for name in ("ingest_states", "loads", "versions", "publishes")
        }
        tables = "SELECT table_schema, table_name FROM information_schema.tables WHERE table_schema != 'entrepot'"
        return {**found, "tables": sorted(self.query(tables))}

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Rows of a query against the warehouse."""
        return self.house.query(sql)

    def _asked(self, step: str, options: dict[str, Any] | None, run: dict[str, Any]) -> dict[str, Any]:
        parameters = {"folder": str(self.folder), "options": options or {}}
        return {"select": step, "parameters": parameters, **run}


def line(run: RunSummary, step: str) -> StepProgress:
    """A step's line in a run's summary."""
    (found,) = [its for its in run.steps if its.name == step.rstrip("+")]
    return found

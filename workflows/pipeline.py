"""The five workflow types of a run, each started with one JSON object: see `entrepot.protocol.messages.RunInput`."""

from __future__ import annotations

from typing import Any

from temporalio import workflow

from entrepot.language.step import KINDS
from entrepot.workflows.progress import RunSummary
from entrepot.workflows.run import RunWorkflow


@workflow.defn(name="Pipeline")
class Pipeline(RunWorkflow):
    """Ingest, transform, train, publish."""

    @workflow.run
    async def run(self, payload: Any = None) -> RunSummary:
        """The whole chain, or what `select` says of it."""
        return await self._run(payload, frozenset(KINDS))


@workflow.defn(name="Ingest")
class Ingest(RunWorkflow):
    """Brings raw tables in and publishes them, without computing anything from them."""

    @workflow.run
    async def run(self, payload: Any = None) -> RunSummary:
        """The ingest steps alone."""
        return await self._run(payload, frozenset({"ingest"}))


@workflow.defn(name="Transform")
class Transform(RunWorkflow):
    """Computes tables from the published raw tables, checks them and publishes them."""

    @workflow.run
    async def run(self, payload: Any = None) -> RunSummary:
        """The transforms and checks alone."""
        return await self._run(payload, frozenset({"transform", "check"}))


@workflow.defn(name="Train")
class Train(RunWorkflow):
    """Fits models on published tables."""

    @workflow.run
    async def run(self, payload: Any = None) -> RunSummary:
        """The train steps alone."""
        return await self._run(payload, frozenset({"train"}))


@workflow.defn(name="Publish")
class Publish(RunWorkflow):
    """Makes dashboards, files and copies from published tables."""

    @workflow.run
    async def run(self, payload: Any = None) -> RunSummary:
        """The publish steps alone."""
        return await self._run(payload, frozenset({"publish"}))

"""Everything that dlt takes as a source of an ingest, which is whatever no other source reads."""

from __future__ import annotations

from typing import Any

from entrepot.activities.ingest.sources.dlt import extract
from entrepot.activities.ingest.sources.stream import RawTable, Stream, Watermark
from entrepot.language.interval import Interval


class AnySource:
    """A dlt source or resource, rows, a mapping of tables to such, or a function that returns one of these."""

    fingerprint = None

    def __init__(self, description: Any) -> None:
        self._data = description

    def open(self, table: RawTable, watermark: Watermark, interval: Interval | None) -> Stream:
        """All of it, or what each resource's cursor says is new."""
        return extract.stream(table.name, self._data, watermark=watermark, interval=interval)

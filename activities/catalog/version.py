"""One version of a table, a model or what a publish step made, as the catalog records it."""

from __future__ import annotations

import datetime
import json
from dataclasses import dataclass, field
from typing import Any

from entrepot.activities.catalog import details
from entrepot.activities.catalog.details import (
    ByIntervals,
    CopyDetails,
    Details,
    FilesDetails,
    GrowingTableDetails,
    ModelDetails,
    PageDetails,
    TableDetails,
)
from entrepot.activities.catalog.growing_table import Segment
from entrepot.activities.catalog.tables import Row, now
from entrepot.backends import RelationKind, TableName
from entrepot.identity.version import Frozen
from entrepot.language.step import KINDS, StepKind
from entrepot.planning.products.contract import Contracts, ProductContract, contract_in
from entrepot.planning.slices import Content


@dataclass(frozen=True)
class Version:
    """One row of `versions`."""

    name: str
    version: str
    kind: StepKind
    identity: str
    table: TableName | None
    columns: dict[str, str]
    inferred: dict[str, str]
    rows: int | None
    details: Details
    run: str
    step: str = ""
    """The step that made it, where that is not its name: an ingest step's."""
    bytes: int | None = None
    scanned: int | None = None
    inputs: dict[str, str] = field(default_factory=dict)
    """What it was made of: tables and models, and the versions of each."""
    replaced: tuple[TableName, ...] = ()
    """Where it stood before it was made anew: these tables stay until they are collected, since they may be shown."""
    promised: Contracts = field(default_factory=dict)
    """What it promises, where it is a product, by the environment in which it was published so."""
    seconds: float | None = field(default=None, compare=False)
    made_at: datetime.datetime = field(default_factory=now, compare=False)

    @property
    def key(self) -> tuple[str, str]:
        """Its name and version, by which pointers name it."""
        return self.name, self.version

    @property
    def segments(self) -> tuple[Segment, ...]:
        """What its view is made of; nothing, if it is a table of its own."""
        return self.details.segments if isinstance(self.details, GrowingTableDetails) else ()

    @property
    def all_segments(self) -> tuple[Segment, ...]:
        """Its rows as segments: those of its view, or its own table as one."""
        if self.segments or self.table is None:
            return self.segments
        own = {"schema_name": self.table.schema, "table": self.table.table}
        return (Segment(**own, columns=self.shape, rows=self.rows or 0),)

    @property
    def tables(self) -> list[TableName]:
        """The physical tables that it needs: its own, those that its view is made of, and those that it replaced."""
        own = [self.table] if self.table else []
        return [*own, *(table for segment in self.segments for table in segment.tables), *self.replaced]

    @property
    def shape(self) -> dict[str, str]:
        """The columns of its rows: of a raw table, those that it has on every warehouse."""
        return self.inferred if KINDS[self.kind].is_source else self.columns

    @property
    def relations(self) -> list[tuple[TableName, RelationKind, int | None]]:
        """What has to stand in the warehouse for it: each name, what it has to be, and how many rows it has.

        The segments come first: a view over one that is gone cannot be counted.
        """
        if self.table is None:
            return []
        counted = {segment.name: segment.rows for segment in self.segments}
        tables = (table for segment in self.segments for table in segment.tables)
        kind: RelationKind = "view" if self.segments else "table"
        return [*((table, "table", counted.get(table)) for table in tables), (self.table, kind, self.rows)]

    @property
    def manifest(self) -> str | None:
        """The hash of its load's manifest; None for what was not loaded."""
        return self.details.manifest if isinstance(self.details, TableDetails | GrowingTableDetails) else None

    @property
    def content(self) -> Content:
        """What it contains, as what is made of it counts that."""
        if isinstance(self.details, TableDetails | GrowingTableDetails):
            return self.details.content(self.version)
        return Content(self.version)

    @property
    def frozen(self) -> Frozen | None:
        """Which of its rows are another version's; None, if its code has made all."""
        return self.details.frozen if isinstance(self.details, TableDetails | GrowingTableDetails) else None

    @property
    def intervals(self) -> ByIntervals | None:
        """How it was computed by intervals; None, if it was not."""
        return self.details.intervals if isinstance(self.details, TableDetails | GrowingTableDetails) else None

    @property
    def warehouse(self) -> str:
        """Where its table stands; empty: in the warehouse where the pipeline runs."""
        return self.details.to if isinstance(self.details, CopyDetails) else ""

    @property
    def published_file(self) -> str | None:
        """The page or file in the lake that it is; None for all else."""
        return self.details.path if isinstance(self.details, PageDetails | FilesDetails) else None

    def contract_in(self, environment: str) -> ProductContract | None:
        """What it promises in an environment; None: it is no product there."""
        return contract_in(self.promised, environment)

    @property
    def file(self) -> tuple[str, str | None] | None:
        """What has to be in the lake for it beside its load: a model, page or file, and its hash, where it is known."""
        if isinstance(self.details, PageDetails | FilesDetails):
            return self.details.path, self.details.sha256
        return (self.details.file.path, self.details.file.sha256) if isinstance(self.details, ModelDetails) else None

    @classmethod
    def of_row(cls, row: Row) -> Version:
        """From the catalog's row."""
        columns = json.loads(row["columns"] or "{}")
        kept = json.loads(row["details"])
        replaced = tuple(TableName(schema, table) for schema, table in kept.pop("replaced", []))
        promised = contracts_of(kept.pop("promised", {}))
        return cls(
            name=row["name"],
            version=row["version"],
            kind=row["kind"],
            identity=row["identity"] or "",
            table=TableName(row["physical_schema"], row["physical_table"]) if row["physical_table"] else None,
            columns=columns,
            inferred=json.loads(row["inferred"]) if row["inferred"] else columns,
            rows=row["row_count"],
            details=details.parse(kept),
            run=row["run"],
            step=row["step"] if row["step"] != row["name"] else "",
            bytes=row["byte_count"],
            scanned=row["scanned"],
            inputs=json.loads(row["inputs"] or "{}"),
            replaced=replaced,
            promised=promised,
            seconds=row["seconds"],
            made_at=row["made_at"],
        )

    def values(self) -> dict[str, Any]:
        """For the catalog's row, beside its pipeline."""
        beside: dict[str, Any] = {}
        if self.replaced:
            beside["replaced"] = [[table.schema, table.table] for table in self.replaced]
        if self.promised:
            beside["promised"] = {name: each and each.model_dump(mode="json") for name, each in self.promised.items()}
        return {
            "name": self.name,
            "version": self.version,
            "kind": self.kind,
            "step": self.step or self.name,
            "identity": self.identity or None,
            "inputs": self.inputs,
            "columns": self.columns,
            "inferred": self.inferred if self.inferred != self.columns else None,
            "physical_schema": self.table.schema if self.table else None,
            "physical_table": self.table.table if self.table else None,
            "row_count": self.rows,
            "byte_count": self.bytes,
            "scanned": self.scanned,
            "seconds": self.seconds,
            "run": self.run,
            "made_at": self.made_at,
            "details": {**details.serialise(self.details), **beside},
        }


def contracts_of(kept: dict[str, Any]) -> dict[str, ProductContract | None]:
    """What the catalog keeps of the promises of a version."""
    return {name: each and ProductContract.model_validate(each) for name, each in kept.items()}

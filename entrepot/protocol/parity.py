"""The messages of `Parity`: what is compared, where, and what was found."""

from __future__ import annotations

from typing import Any, Literal

from entrepot.language.names import Id, TableName, WarehouseName
from entrepot.language.step import StepKind
from entrepot.protocol.messages import Message, Request, Target


class ParityInput(Target):
    """The input of `Parity`."""

    on: list[WarehouseName] = []
    """The tenant's warehouses that are compared; the first is what the others are held against. Default: all."""
    select: str | None = None
    """Which tables; see `entrepot.planning.selection`. Default: all."""
    raw: dict[TableName, Id] = {}
    """Versions of raw tables to compute from. Default: those of the newest loads."""
    parameters: dict[str, Any] = {}
    """Values of the pipeline's parameters."""
    fresh: bool = False
    """Every table is digested, whatever earlier comparisons certified."""


class PreparedParity(Message):
    """What is compared: the input, validated against what the worker knows."""

    on: tuple[str, ...]
    ingests: tuple[str, ...]
    computed: tuple[str, ...]
    """Transforms and train steps that are made on the first warehouse; on the others, the transforms of them."""
    kinds: dict[str, StepKind]
    tables: tuple[str, ...]
    """What is compared: raw tables and transforms, each after what it reads."""
    inputs: dict[str, tuple[str, ...]]
    """Table to the tables that it reads."""
    parallel: int
    weight: float
    brings: dict[str, tuple[str, ...]] = {}
    """Ingest step to its tables."""
    unreachable: dict[str, str] = {}
    """Warehouses that nothing can be computed on, and why."""
    parameters: dict[str, Any] = {}
    """What the tenant and the comparison set of the pipeline's parameters."""
    home: str = ""
    """The warehouse where the pipeline runs, whether or not it is compared: what was loaded is known there. Empty: a
    worker prepared it that took the first for it."""
    leased: bool = False
    """Whether it has a lease, which it gives back at its end."""


class SeveralWarehouses(Request):
    """The request of an activity that works on several of a tenant's warehouses."""

    @property
    def warehouse(self) -> str:
        """None by itself."""
        return ""


class Compilation(SeveralWarehouses):
    """The request of `compile_parity`: steps, the raw tables that they start from, and the warehouses."""

    steps: tuple[TableName, ...]
    raw: dict[TableName, Id]
    on: tuple[WarehouseName, ...]


class Adoption(SeveralWarehouses):
    """The request of `adopt`: fitted models that another of the tenant's warehouses knows, to be known here, too."""

    versions: dict[TableName, Id]
    whence: WarehouseName


class Comparison(SeveralWarehouses):
    """The request of `compare`: one table, and the warehouses to compare it on."""

    name: TableName
    version: Id
    on: tuple[WarehouseName, ...]
    failed: dict[WarehouseName, str] = {}
    """Those of them that have no such table, and why."""
    inputs: dict[TableName, Id] = {}
    fresh: bool = False
    """What other runs have certified does not count."""
    brief: bool = False
    """Without rows, values and statements: the report has enough of them."""

    @property
    def about(self) -> tuple[str, ...]:
        """The table."""
        return (self.name,)


class Cell(Message):
    """One value that differs."""

    key: dict[str, str]
    """What tells its row from the others."""
    column: str
    left: str | None
    right: str | None


Verdict = Literal["agrees", "agrees within tolerance", "differs", "not compared", "not computed"]


class Side(Message):
    """How a table on one warehouse compares to the same on the first."""

    backend: str
    verdict: Verdict
    engine: str = ""
    rows: int | None = None
    digest: str = ""
    why: str = ""
    cells: tuple[Cell, ...] = ()
    """Some of the values that differ: left on the first warehouse, right on this one."""
    only_left: tuple[dict[str, str | None], ...] = ()
    """Some of the rows that this one lacks."""
    only_right: tuple[dict[str, str | None], ...] = ()
    """Some of the rows that only this one has."""
    certified: bool = False
    certified_by: str = ""
    certified_at: str = ""
    """Told by a certificate of an earlier comparison, in this run, then."""
    unavailable: bool = False
    """It could not be used, though it was tried again."""
    sql: str = ""
    """What computes the table there; where that could not be compared, the statement that failed."""

    @property
    def agrees(self) -> bool:
        """Whether it has the same rows."""
        return self.verdict.startswith("agrees")


class TableParity(Message):
    """One table, compared."""

    name: str
    kind: StepKind
    version: str
    engine: str = ""
    rows: int | None = None
    digest: str = ""
    expression: str = ""
    """As ibis shows it, where warehouses differ."""
    sql: str = ""
    sides: tuple[Side, ...] = ()
    seconds: float = 0.0

    @property
    def agrees(self) -> bool:
        """Whether all warehouses have the same rows."""
        return all(side.agrees for side in self.sides)


class ParityReport(Target):
    """What `Parity` found: its result."""

    run: Id
    on: tuple[WarehouseName, ...]
    agrees: bool
    tables: tuple[TableParity, ...]
    link: str = ""
    """The report as a page in the lake."""
    seconds: float = 0.0

"""What a warehouse driver is. Nothing outside `backends/` knows a dialect, a client or an error of a warehouse."""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from entrepot.errors import BadInput, Contended, StepFailed, listed
from entrepot.identity.version import CATALOG

if TYPE_CHECKING:
    import ibis
    import ibis.expr.schema as sch
    import pyarrow as pa
    import sqlglot.expressions as sge

    from entrepot.backends.dialect import Dialect


RelationKind = Literal["table", "view"]


@dataclass(frozen=True)
class TableName:
    """A table or view in the tenant's warehouse, as users write it; how it is stored, the dialect knows."""

    schema: str
    table: str

    def __str__(self) -> str:
        return f"{self.schema}.{self.table}"


@dataclass(frozen=True)
class QueryTag:
    """What every statement carries, so that the warehouse's own logs lead back to the run."""

    tenant: str
    run: str
    step: str

    def comment(self) -> str:
        """The tag as an SQL comment, which nothing in it ends or, where comments nest, begins again."""
        text = f"entrepot tenant={self.tenant} run={self.run} step={self.step}".replace("*", "")
        return f"/* {text} */ "


@dataclass(frozen=True)
class Capabilities:
    """What a warehouse can do, as data. Each has a comment that says what it means."""

    transactional_ddl: bool
    """CREATE TABLE AS, the catalog's rows and views change together, or not at all. Where not, each statement stands
    alone, and whoever writes orders them so that it may end after any of them."""
    primary_keys: bool = False
    """It refuses a second row with the same key."""
    block_sample: bool = False
    """ibis's `sample(..., method="block")` of a table reads that share of its blocks alone, chosen at random."""
    statistics: bool = False
    """The least, the greatest and the number of a column's values come from its metadata, without a scan."""
    clone: bool = False
    """A table can be copied without copying what it holds."""
    dry_run: bool = False
    """It tells how many bytes a statement would read, before it reads them."""
    reports_bytes: bool = False
    """It tells how many bytes a statement has read."""
    time_travel: bool = False
    """It can show a table as it was."""
    tagged_by: Literal["comment", "query tag", "job labels"] = "comment"
    """Where a statement carries its tenant, run and step."""
    largest_decimal: tuple[int, int] = (38, 38)
    """Precision and scale of its largest decimal type."""
    unsigned: bool = False
    """It has unsigned integers; without them, those up to 32 bits become signed ones, 64 bits a decimal."""
    zones: bool = True
    """It tells timestamps with and without a time zone apart."""
    json: bool = True
    """It has a type for values without a schema: JSON, VARIANT."""


@dataclass(frozen=True)
class CreatedTable:
    """A table that was just made: its rows, and its columns as the warehouse has them, under their users' names."""

    rows: int
    columns: sch.Schema


@dataclass(frozen=True)
class Usage:
    """What a session has cost so far, as far as the warehouse says it.

    What users execute on a real table (`Session.table`) is not in it, nor what `estimate` asks.
    """

    statements: int = 0
    """Those that have run to their end, whatever they were for."""
    bytes: int | None = None
    """Read by them; None where the warehouse does not say it."""


class Session(abc.ABC):
    """One connection, for one piece of work, in one thread. `interrupt` alone may be called from another; what it
    stops raises `InterruptedError`.

    What writes raises `Contended` if another session writes the same at that moment. Version tables are written once
    and never changed: without transactional DDL, `create_as`, `load` and `write` take a table that is there already as
    it is, since it is whole, and its maker died before it was recorded, or is just about to.
    """

    dialect: ClassVar[Dialect]
    capabilities: ClassVar[Capabilities]
    usage: Usage
    scratch: str = CATALOG
    """The schema where rows that an expression brings along stand for a moment; whoever opens it says which."""

    @abc.abstractmethod
    def execute(self, sql: str) -> None:
        """Runs one statement in the warehouse's own words."""

    @abc.abstractmethod
    def query(self, query: sge.Expression | str) -> list[dict[str, Any]]:
        """The rows of a small query, given as sqlglot's tree, so that each dialect writes it its own way."""

    @abc.abstractmethod
    def insert(self, name: TableName, rows: Sequence[Mapping[str, Any]]) -> None:
        """Adds a few rows to a table, in one statement."""

    @abc.abstractmethod
    def update(self, name: TableName, values: Mapping[str, Any], where: sge.Condition) -> int:
        """Changes rows of a table, in one statement. Returns how many there were."""

    @abc.abstractmethod
    def delete(self, name: TableName, where: sge.Condition) -> int:
        """Removes rows of a table, in one statement. Returns how many there were."""

    @abc.abstractmethod
    def transaction(self) -> AbstractContextManager[None]:
        """Everything within it happens together, where the warehouse can: see `Capabilities.transactional_ddl`."""

    @abc.abstractmethod
    def create_schema(self, schema: str) -> None:
        """Makes the schema unless it exists."""

    @abc.abstractmethod
    def drop_schema(self, schema: str) -> None:
        """Removes the schema and everything in it, if it is there."""

    @abc.abstractmethod
    def create_table(self, name: TableName, schema: sch.Schema, key: Sequence[str] = ()) -> None:
        """Makes an empty table unless it exists. `key`: what tells its rows apart, held where the warehouse can."""

    @abc.abstractmethod
    def create_as(self, name: TableName, expression: ibis.Table) -> CreatedTable:
        """Makes a table from an expression bound to real tables, inside the warehouse.

        The warehouse's types decide, but for whole numbers: there ibis's type does, and a value beyond it fails.
        """

    @abc.abstractmethod
    def create_view(self, name: TableName, expression: ibis.Table) -> sch.Schema:
        """Makes a view of an expression bound to real tables, or makes it anew. Returns its columns."""

    @abc.abstractmethod
    def load(self, name: TableName, files: Sequence[str], schema: sch.Schema) -> CreatedTable:
        """Makes a table from local Parquet files by the warehouse's bulk path, with these columns."""

    @abc.abstractmethod
    def write(
        self, name: TableName, schema: sch.Schema, batches: Iterable[pa.RecordBatch], arrow: pa.Schema | None = None
    ) -> CreatedTable:
        """Makes a table with these columns from Arrow batches, in bounded memory. `arrow`: their schema, if another."""

    @abc.abstractmethod
    def fetch(self, expression: ibis.Table) -> pa.Table:
        """The rows of a small expression, which sees what this session's open transaction has made."""

    @abc.abstractmethod
    def read(self, expression: ibis.Table) -> pa.RecordBatchReader:
        """The rows of an expression as Arrow batches, in bounded memory, from what is committed."""

    @abc.abstractmethod
    def estimate(self, expression: ibis.Table) -> int | None:
        """The bytes that computing an expression would read; None where the warehouse cannot tell before."""

    @abc.abstractmethod
    def describe(self, name: TableName, columns: Iterable[str] = ()) -> sch.Schema:
        """A table's columns, as the warehouse has them, under the names in `columns` where those are the same to it."""

    @abc.abstractmethod
    def relations(self, schema: str) -> dict[str, RelationKind]:
        """The tables and views in a schema, as the warehouse tells them, each with what it is; none if it has no such
        schema.

        Where large and small letters are one to it, so is what it tells: what was made as `LIKE_THIS` is told as
        `like_this` by Snowflake, and everything in small letters by Databricks.
        """

    def tables(self, schema: str) -> set[str]:
        """The names of the tables and views in a schema, as `relations` tells them."""
        return set(self.relations(schema))

    @contextmanager
    def contended_if_gone(self, *names: TableName) -> Iterator[None]:
        """While tables are read that were just made. Without transactional DDL another session that makes the same
        makes them under the same names, and removes what it needs no more.

        Raises:
            Contended: instead of the failure, if one of them is there no more.
        """
        try:
            yield
        except (BadInput, StepFailed) as error:
            if self.capabilities.transactional_ddl:
                raise
            gone = [str(name) for name in names if name.table not in self.tables(name.schema)]
            if not gone:
                raise
            raise Contended(f"another run has loaded the same, and removed {listed(gone)}") from error

    @abc.abstractmethod
    def repoint_view(self, view: TableName, table: TableName) -> None:
        """Makes the view show the table, whatever it showed before."""

    @abc.abstractmethod
    def drop_view(self, view: TableName) -> None:
        """Removes the view, if it is there."""

    @abc.abstractmethod
    def drop_table(self, name: TableName) -> None:
        """Removes the table, if it is there."""

    @abc.abstractmethod
    def table(self, name: TableName, schema: sch.Schema) -> ibis.Table:
        """A real table of these columns for user code, which may execute what it makes of it."""

    @abc.abstractmethod
    def engine(self) -> str:
        """The warehouse's product and version, such as `duckdb 2.0.0`."""

    def changed_at(self, name: TableName) -> str | None:
        """When a table's rows were last changed, as the warehouse tells; None where it does not, and for views."""
        return None

    def bytes_of(self, tables: Iterable[TableName]) -> int | None:
        """What these tables take up in the warehouse; None where it does not tell."""
        return None

    def free_bytes(self) -> int | None:
        """What dropped tables have left, and `Backend.compact` may give back; None where there is no such thing."""
        return None

    @abc.abstractmethod
    def interrupt(self) -> None:
        """Stops the statement that runs now. Safe from another thread."""


class Backend(abc.ABC):
    """A warehouse of one tenant. Opens sessions; holds what they share."""

    name: ClassVar[str]
    capabilities: ClassVar[Capabilities]
    dialect: ClassVar[Dialect]

    @classmethod
    @abc.abstractmethod
    def from_settings(cls, settings: Mapping[str, Any], where: str) -> Backend:
        """A backend from a tenant's settings.

        Raises:
            BadInput: for settings that are missing, unknown or wrong; `where` says whose they are.
        """

    @abc.abstractmethod
    def session(
        self, tag: QueryTag, opened: Callable[[Session], None] | None = None
    ) -> AbstractContextManager[Session]:
        """A session. `opened` gets it before it is used, so that somebody else can interrupt it.

        Raises:
            Unavailable: if there is no connection to be had now.
            BadInput: if there will never be one: a wrong password, a missing grant or database.
        """

    @property
    @abc.abstractmethod
    def place(self) -> str:
        """Which warehouse it is, for people and to tell it from every other: its account or project, database and host,
        or its file; and whether a stand-in answers there."""

    @property
    def database(self) -> str:
        """What schemas stand in: a file's path, or a host and its database. The same for two backends where a schema of
        one is a schema of the other."""
        return self.place

    def server(self, schema: str) -> dict[str, str]:
        """Where one of its schemas is, as a server of the Open Data Contract Standard, without secrets."""
        return {"type": "custom", "location": self.place, "schema": schema}

    def compact(self, check: Callable[[], None]) -> int:
        """Gives back to the disk what dropped tables have left. Returns how many bytes; 0, where the warehouse does
        that by itself. The caller has no session; `check` may raise to end the waiting for those of others."""
        return 0

    @abc.abstractmethod
    def close(self) -> None:
        """Closes the connections that its sessions share, which have to have ended."""


def physical(name: TableName, schema: sch.Schema) -> ibis.Table:
    """An ibis expression for a real table, bound to no connection."""
    import ibis

    return ibis.table(schema, name=name.table, database=name.schema)


def count(session: Session, expression: ibis.Table) -> int:
    """How many rows an expression has."""
    return int(session.fetch(expression.aggregate(n=expression.count()))["n"][0].as_py())

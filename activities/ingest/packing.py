"""Small loads in the lake, written together: of each table, those that made a version which nobody goes back to.

A table that grows stands in the lake as its loads, each added to the one before. What a version that stays is made of
down to the next one that stays is put into one file, and a manifest beside that of its load says so (`packed.json`).
It takes effect where the catalog remembers its hash; then the loads are garbage. So whoever dies has changed nothing,
or a part that is right by itself.

The rows are those that a warehouse would show: they are loaded into one of their own, by the code that loads any.
"""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import ibis.expr.schema as sch
import pyarrow as pa
import pyarrow.parquet
from temporalio import activity

from entrepot.activities.catalog.catalog import PipelineCatalog
from entrepot.activities.catalog.details import TableDetails
from entrepot.activities.catalog.growing_table import GrowingTable
from entrepot.activities.catalog.version import Version
from entrepot.activities.ingest import manifest as manifests
from entrepot.activities.ingest.dispositions import strategy_of
from entrepot.activities.ingest.landing import RowsFile
from entrepot.activities.ingest.manifest import Manifest, Pack
from entrepot.activities.ingest.warehouse_loader import Hashes, WarehouseLoader
from entrepot.activities.runtime.context import ActivityContext
from entrepot.activities.storage import lake
from entrepot.backends import Session, TableName
from entrepot.backends.base import physical
from entrepot.errors import BadInput, StepFailed
from entrepot.identity.expression import schema_from, schema_to
from entrepot.identity.version import version_schema
from entrepot.tracebacks import describe, writing

SMALL = 64 * 2**20
"""Bytes of a load beyond which it stays as it is: its file is of a sensible size."""
MOST = 2**30
"""Bytes that are written together at once."""
FOLDER = "packed"

Pairs = Set[tuple[str, str]]
"""Versions, by table and version."""


def pack(work: ActivityContext, catalog: PipelineCatalog, versions: Iterable[Version], kept: Pairs) -> list[Version]:
    """Writes the loads of a pipeline together, as far as that is worth it. No run may be at work.

    Args:
        versions: Those of the catalog that stay.
        kept: All that stay, whether or not the catalog has them.

    Returns:
        The versions as they are then.
    """
    now = {version.key: version for version in versions}
    for step, loads in catalog.loads().items():
        packing = _Packing(work, catalog, step, now, kept)
        for load in reversed(loads):  # the oldest first, and only such as an environment can go back to
            if load.tables.items() <= kept:
                packing.pack(load.tables)
    return list(now.values())


@dataclass(frozen=True)
class _Loads:
    """Loads of one table that are written together, the newest first, and the version that they are added to."""

    loads: Sequence[Manifest]
    adds_to: str | None

    @property
    def newest(self) -> Manifest:
        return self.loads[0]

    @property
    def bytes(self) -> int:
        return sum(map(_size, self.loads))


class _Packing:
    """Of one ingest step."""

    def __init__(
        self,
        work: ActivityContext,
        catalog: PipelineCatalog,
        step: str,
        versions: dict[tuple[str, str], Version],
        kept: Pairs,
    ) -> None:
        self._work = work
        self._catalog = catalog
        self._step = step
        self._kept = kept
        self._versions = versions
        self._read: dict[tuple[str, str], Manifest] = {}

    @property
    def _hashes(self) -> Hashes:
        return {key: version.manifest for key, version in self._versions.items()}

    def pack(self, tables: Mapping[str, str]) -> None:
        """Writes together what made the versions that all tables had after a load."""
        try:
            for family in self._families(tables):
                self._work.check()
                self._pack(family)
        except (BadInput, StepFailed) as error:  # it stays as it is, and whoever needs it is told so again
            activity.logger.warning("ingest %r: loads are not written together: %s", self._step, describe(error))

    def _families(self, tables: Mapping[str, str]) -> list[list[Manifest]]:
        """Each table, after those nested in it: what rows of those take the place of follows from its own."""
        found = [self._manifest(table, version) for table, version in sorted(tables.items())]
        roots = [each for each in found if each.hints.root not in tables]
        return [[*(each for each in found if each.hints.root == root.table), root] for root in roots]

    def _pack(self, family: Sequence[Manifest]) -> None:
        """Writes the loads of a table together, and of those nested in it.

        The root comes last: what was put together of its nested tables needs none of its loads, but not the reverse.
        """
        chosen = self._chosen(family)
        if not chosen:
            return
        with _scratch(self._work, self._catalog.name) as (work, session):
            for each in chosen:
                if each.adds_to is not None:
                    _stand_in(work, session, self._catalog.name, self._manifest(each.newest.table, each.adds_to))
            loader = WarehouseLoader(work, session, self._catalog.name, self._step, work.tag.run)
            wanted = {each.newest.table: each.newest.version for each in chosen}
            loader.all(wanted, self._hashes)
            versions = work.catalog(session).pipeline(self._catalog.name).versions(wanted)
            packed = [self._written(work, session, each, versions[each.newest.table]) for each in chosen]
        for manifest in packed:
            self._put(manifest)

    def _put(self, manifest: Manifest) -> None:
        sha256 = manifests.put(self._work.tenant, self._catalog.name, manifest)
        key = manifest.table, manifest.version
        if (version := self._versions.get(key)) is not None:
            self._catalog.record_manifest(version, sha256)
            details = version.details.model_copy(update={"manifest": sha256})
            self._versions[key] = replace(version, details=details)
        self._read.pop(key)

    def _chosen(self, family: Sequence[Manifest]) -> list[_Loads]:
        """What is written together: the newest small loads, where each only adds rows; else all of them or nothing,
        since a part could not say any more what it takes away from those before."""
        links = {each.table: self._links(each) for each in family}
        every = [load for loads in links.values() for load in loads]
        if all(strategy_of(load.hints).only_adds(load.hints) for load in every):
            newest = (_small(loads) for loads in links.values())
            return [_Loads(loads, loads[-1].follows) for loads in newest if len(loads) > 1]
        if all(len(loads) < 2 for loads in links.values()):
            return []
        whole = [_Loads([*self._chain(each, frozenset())], None) for each in family]
        total, first = sum(each.bytes for each in whole), sum(_size(each.loads[-1]) for each in whole)
        return whole if total <= SMALL or (2 * first <= total <= MOST) else []

    def _links(self, newest: Manifest) -> list[Manifest]:
        """The loads that made a version, the newest first, down to another version that stays."""
        return list(self._chain(newest, self._kept))

    def _chain(self, newest: Manifest, until: Pairs) -> Iterator[Manifest]:
        yield newest
        while newest.follows is not None and (newest.table, newest.follows) not in until:
            newest = self._manifest(newest.table, newest.follows)
            yield newest

    def _manifest(self, table: str, version: str) -> Manifest:
        key = table, version
        if key not in self._read:
            self._read[key] = manifests.read(self._work.tenant, self._catalog.name, *key, self._hashes.get(key))
        return self._read[key]

    def _written(self, work: ActivityContext, session: Session, chosen: _Loads, version: Version) -> Manifest:
        """The manifest of what was put together, whose file is in the lake."""
        newest = chosen.newest
        columns = strategy_of(newest.hints).segment_columns(schema_from(newest.shape))
        rows = TableName(version_schema(work.tenant.settings(self._catalog.name).schema), f"{newest.table}__packed")
        made = session.create_as(rows, GrowingTable(version.all_segments).rows(columns))
        with tempfile.TemporaryDirectory(prefix="entrepot-") as folder:
            local = Path(folder, f"{uuid.uuid4().hex}.parquet")
            _write(work, session, rows, columns, local)
            _check_same(session, rows, local, columns)
            found = sch.Schema.from_pyarrow(pyarrow.parquet.read_schema(local))
            target = self._work.tenant.lake_path(
                "loads", self._catalog.name, self._step, FOLDER, f"{newest.table}-{local.name}"
            )
            file = RowsFile(
                file=target,
                rows=made.rows,
                bytes=local.stat().st_size,
                sha256=lake.sha256_of(local),
                columns=schema_to(sch.Schema({name: dtype(nullable=True) for name, dtype in found.items()})),
            )
            lake.put(str(local), target)
        load = newest.pack.load if newest.pack else newest.sha256
        pack = Pack(file=file, columns=schema_to(columns), adds_to=chosen.adds_to, load=load)
        return newest.model_copy(update={"pack": pack})


def _size(load: Manifest) -> int:
    return sum(each.bytes for each in load.files)


def _small(loads: Sequence[Manifest]) -> list[Manifest]:
    """The newest loads that are small, as many as are written together at once."""
    found: list[Manifest] = []
    for load in loads:
        if _size(load) > SMALL or sum(map(_size, found)) > MOST:
            break
        found.append(load)
    return found


@contextmanager
def _scratch(work: ActivityContext, pipeline: str) -> Iterator[tuple[ActivityContext, Session]]:
    """A warehouse that is there for a moment, over the same lake."""
    with tempfile.TemporaryDirectory(prefix="entrepot-") as folder:
        settings = {"type": "duckdb", "path": str(Path(folder, "packing.duckdb"))}
        tenant = replace(work.tenant, backend_settings=settings, others={}, parity=None)
        here = ActivityContext(tenant, work.tag.run, work.tag.step)
        try:
            with work.while_running(here.stop), here.session() as session:
                here.catalog(session).ensure()
                session.create_schema(version_schema(tenant.settings(pipeline).schema))
                yield here, session
        finally:
            tenant.close()


def _stand_in(work: ActivityContext, session: Session, pipeline: str, below: Manifest) -> None:
    """A table without rows in the place of the version to which what is put together is added."""
    shape = schema_from(below.shape)
    target = TableName(version_schema(work.tenant.settings(pipeline).schema), f"{below.table}__below")
    session.write(target, shape, [])
    columns = schema_to(shape)
    none = Version(below.table, below.version, "ingest", "", target, columns, columns, 0, TableDetails(), work.tag.run)
    work.catalog(session).pipeline(pipeline).add_version(none)


def _write(work: ActivityContext, session: Session, table: TableName, columns: sch.Schema, local: Path) -> None:
    """A table as a Parquet file that any warehouse loads.

    Raises:
        StepFailed: if a value cannot be of its column's type there.
    """
    schema = columns.to_pyarrow()
    with writing("the scratch file", local), pyarrow.parquet.ParquetWriter(local, schema, compression="zstd") as writer:
        for batch in session.read(physical(table, columns)):
            work.check()
            try:
                writer.write_table(pa.Table.from_batches([batch]).cast(schema))
            except pa.ArrowException as error:
                raise StepFailed(f"table {table.table!r}: {describe(error)}") from error


def _check_same(session: Session, table: TableName, local: Path, columns: sch.Schema) -> None:
    """Raises StepFailed if the file, as warehouses load it, has other rows than the table."""
    back = TableName(table.schema, f"{table.table}_back")
    session.load(back, [str(local)], columns)
    sums = "SELECT count(*) AS n, sum(hash(t)::HUGEINT)::VARCHAR AS h FROM {} AS t"
    both = [session.query(sums.format(session.dialect.table(name))) for name in (table, back)]
    if both[0] != both[1]:
        raise StepFailed(f"table {table.table!r}: a Parquet file does not hold its rows as they are")

"""From a source to a load: rows as files in the lake, and for each table a manifest that describes them."""

from __future__ import annotations

import inspect
import json
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import ibis.expr.datatypes as dt
import ibis.expr.schema as sch

from entrepot.activities.catalog.ingest_state import IngestState, load_id
from entrepot.activities.ingest import manifest
from entrepot.activities.ingest.dispositions import STRATEGIES, strategy_of
from entrepot.activities.ingest.landing import Checkpoint, Landing, Part
from entrepot.activities.ingest.manifest import Manifest
from entrepot.activities.ingest.schema_evolution import common, evolved
from entrepot.activities.ingest.sources import registry
from entrepot.activities.ingest.sources.files import files
from entrepot.activities.ingest.sources.files.reader import FILE_COLUMN
from entrepot.activities.ingest.sources.registry import Sources
from entrepot.activities.ingest.sources.stream import FILE_NUMBER, Hints, Json, RawTable, Stream, ValueFilter
from entrepot.activities.runtime.context import ActivityContext
from entrepot.activities.storage import lake
from entrepot.errors import BadInput, StepFailed, listed, unknown
from entrepot.identity.code import stable_hash
from entrepot.identity.expression import schema_from, schema_to
from entrepot.language.interval import Interval
from entrepot.language.step import Contract, IngestStep
from entrepot.protocol.messages import ExtractRequest, Load, TableLoad


def extract(
    work: ActivityContext,
    asked: ExtractRequest,
    step: IngestStep,
    parameters: Mapping[str, Any],
    last: IngestState,
    hashes: Mapping[str, str | None],
) -> Load:
    """Reads a step's source into the lake.

    Args:
        last: The load that this one follows.
        hashes: Those of the manifests of its tables.

    Raises:
        StepFailed: if rows of the source cannot be loaded; whatever the user's code raises.
    """
    if asked.refresh:
        last = IngestState(last.sequence)
    given = {name: parameters[name] for name in step.inputs}
    data: Any = None
    if not inspect.isgeneratorfunction(step.function):
        data = step.function(**given)
    returned = data if data is not None else (lambda: step.function(**given))
    sources = registry.sources(returned, step.name, step.tables)
    mark = registry.fingerprint(sources, step.tables)
    if mark is not None and last.fingerprint == mark and not asked.backfill:
        return Load(step=step.name, known=dict(last.tables), unchanged=True, why="the sources are unchanged")
    if asked.backfill and not last.load:
        raise StepFailed("nothing was loaded yet; a backfill loads a part of it again")
    pipeline, tenant = asked.context.pipeline, work.tenant
    wanted = {t: v for t, v in last.tables.items() if t in step.tables}
    before = {t: manifest.read(tenant, pipeline, t, v, hashes.get(t)) for t, v in wanted.items()}
    watermarks = _remembered(tenant.in_lake(last.watermarks)) if last.watermarks else {}
    folder = tenant.lake_path("loads", pipeline, step.name, asked.context.run)
    checkpoint = _land(work, step, _streams(step, sources, watermarks, asked, before), folder, before)
    manifests = _Manifests(asked, step, before, checkpoint)
    versions = {**manifests.known, **{table: made.version for table, made in manifests.made.items()}}
    path = last.watermarks
    if not asked.backfill:
        text = json.dumps(
            {name: watermark for name, watermark in checkpoint.watermarks.items() if watermark}, sort_keys=True
        )
        path = tenant.lake_path("loads", pipeline, step.name, _watermarks_file(text))
        lake.write(text.encode(), path)
    if dict(last.tables) == versions and (last.watermarks, last.fingerprint) == (path, mark):
        why = "the source has nothing new"
        return Load(step=step.name, known=versions, unchanged=True, why=why)
    written = {table: manifest.write(tenant, pipeline, made) for table, made in manifests.made.items()}
    return Load(
        step=step.name,
        id=load_id(step.name, last.load, versions, path),
        after=last.sequence,
        tables={
            t: TableLoad(version=m.version, rows=m.rows, bytes=m.bytes, manifest=written[t])
            for t, m in manifests.made.items()
        },
        known=manifests.known,
        fingerprint=last.fingerprint if asked.backfill else mark,
        state=path,
        changes=manifests.changes,
    )


def _watermarks_file(text: str) -> str:
    """The name of the file with where sources continue, by which it is known again."""
    return f"watermarks-{stable_hash(text)}.json"


def _remembered(path: str) -> Json:
    """Where sources continue, by their names.

    Raises:
        StepFailed: if the file is gone, or another one.
    """
    try:
        text = lake.read(path).decode(errors="replace")
    except FileNotFoundError as error:
        raise StepFailed(
            f"{path} is gone from the lake, with where the source continues; {manifest.REFRESH}"
        ) from error
    if not path.endswith(f"/{_watermarks_file(text)}"):
        raise StepFailed(f"{path} is not what was written of where the source continues; {manifest.REFRESH}")
    found: Json = json.loads(text)
    return found


def _streams(
    step: IngestStep, sources: Sources, watermarks: Json, asked: ExtractRequest, before: Mapping[str, Manifest]
) -> dict[str, Stream]:
    """A step's sources, opened at their watermarks."""
    interval = Interval(asked.backfill.start, asked.backfill.end) if asked.backfill else None
    return {
        name: source.open(_raw_table(step, table, before.get(table)), watermarks.get(name, {}), interval)
        for name, (table, source) in sources.items()
    }


def _raw_table(step: IngestStep, table: str, before: Manifest | None) -> RawTable:
    columns = {**(_columns_of(before) if before else {}), **schema_from(step.tables.get(table) or {})}
    return RawTable(table, sch.Schema(columns), before.wide if before else (), tuple(step.tables))


def _land(
    work: ActivityContext, step: IngestStep, streams: Mapping[str, Stream], folder: str, before: Mapping[str, Manifest]
) -> Checkpoint:
    """Reads every stream into the lake, from the checkpoint of an attempt before this one."""
    declared = {table: schema_from(columns) for table, columns in step.tables.items() if columns is not None}

    def kept(table: str) -> sch.Schema | None:
        found = next((hints[table] for hints in (s.hints() for s in streams.values()) if table in hints), None)
        is_kept = table in before and _contract(step, table, found or Hints()) == "discard"
        return _columns_of(before[table]) if is_kept else None

    with tempfile.TemporaryDirectory(prefix="entrepot-") as scratch:
        landing = Landing(work, folder, Path(scratch), declared, kept)
        try:
            begun = landing.checkpoint
            for number, (name, stream) in enumerate(streams.items()):
                if number >= begun.stream:
                    for piece in stream.pieces(begun.watermark if number == begun.stream else None):
                        landing.add(number, piece)
                    landing.finish(number, name, stream)
            return landing.checkpoint
        finally:
            landing.close()


class _Manifests:
    """The manifests of one load."""

    def __init__(
        self,
        asked: ExtractRequest,
        step: IngestStep,
        before: Mapping[str, Manifest],
        checkpoint: Checkpoint,
    ) -> None:
        self._asked = asked
        self._step = step
        self._before = before
        self._checkpoint = checkpoint
        self._hints = {table: hints for stream in checkpoint.hints.values() for table, hints in stream.items()}
        self.known: dict[str, str] = {}
        self.made: dict[str, Manifest] = {}
        self.changes = {table: list(notes) for table, notes in checkpoint.notes.items()}
        self._discard_unnamed([table for table in checkpoint.parts if table not in step.tables])
        for table in sorted(step.tables, key=lambda name: self._hints_of(name).root is not None):
            self._add(table)

    def _discard_unnamed(self, unnamed: list[str]) -> None:
        """Notes which new nested tables are discarded, since their roots keep the columns that they have.

        Raises:
            StepFailed: for others that the step does not name.
        """
        strange = []
        for table in unnamed:
            root = self._hints_of(table).root
            if root and root in self._before and _contract(self._step, root, self._hints_of(root)) == "discard":
                self.changes.setdefault(root, []).append(f"the nested table {table!r} is new (discarded)")
            else:
                strange.append(table)
        if strange:
            what = "a table" if len(strange) == 1 else "tables"
            raise StepFailed(
                f"the source brings {what} {listed(strange)} that the step does not name; it names "
                f"{listed(self._step.tables)}"
            )

    def _hints_of(self, table: str) -> Hints:
        if table in self._hints:
            return self._hints[table]
        return self._before[table].hints if table in self._before else Hints()

    def _add(self, table: str) -> None:
        """Makes a table's manifest, or finds that the table stays at the version that it has."""
        parts, hints, before = self._checkpoint.parts.get(table, []), self._hints_of(table), self._before.get(table)
        covers_rows = bool(parts) or self._asked.backfill is not None or isinstance(hints.replaces, ValueFilter)
        is_emptied = hints.replaces is not None and covers_rows
        if not any(part.rows for part in parts) and not is_emptied:
            strategy = strategy_of(hints)
            follows_root = strategy.nested_follow_root and hints.root in self.made
            if before and not strategy.is_whole and not follows_root:
                self.known[table] = before.version
                return
        self.made[table] = self._manifest(table, parts, hints, before)

    def _manifest(self, table: str, parts: list[Part], hints: Hints, before: Manifest | None) -> Manifest:
        strategy = strategy_of(hints)
        grows = before is not None and strategy.extends
        if self._asked.backfill and strategy.is_whole:
            others = " or ".join(name for name, each in STRATEGIES.items() if not each.is_whole)
            raise StepFailed(f"table {table!r} is loaded by {strategy.name!r}; a range is backfilled by {others}")
        wide = {name for part in parts for name in part.wide} | set(before.wide if before and grows else ())
        found = self._columns(table, parts, before, wide)
        if before and grows:
            _check_same_hints(table, before.hints, hints)
        if before and not hints.root:
            _check_keeps_columns(table, _columns_of(before), found)
        _check_rows(self._step, table, hints, sum(part.rows for part in parts), before)
        shape, changes = found, tuple[str, ...]()
        if before:
            contract = _contract(self._step, table, hints)
            absent = before.shape.keys() - before.columns.keys()
            shape, changes = evolved(table, _columns_of(before), found, contract, grows=grows, wide=wide, absent=absent)
        if lost := self._checkpoint.lost.get(table):
            changes += (f"{lost:,} values did not fit and are NULL",)
        if changes:
            self.changes.setdefault(table, []).extend(changes)
        columns = sch.Schema({name: shape[name] for name in found if name in shape})
        if not columns:
            raise StepFailed(f"the source brought rows for {table!r} without any value in its columns: {listed(shape)}")
        _check_columns(table, hints, columns, self._hints_of(hints.root) if hints.root else None)
        shape = sch.Schema({**shape, **strategy.own_columns})
        root = self.made.get(hints.root or "")
        if root is not None:
            self.made[root.table] = root.model_copy(update={"family": (*root.family, table)})
        made = Manifest(
            table=table,
            version="",
            adds_to=before.version if before and grows else None,
            parts=tuple(part for part in parts if part.rows),
            columns=schema_to(columns),
            shape=schema_to(shape),
            wide=tuple(sorted(wide)),
            hints=hints,
            loaded_at=self._asked.context.started_at,
            root=root.version if root and before and grows else None,
        )
        return made.model_copy(update={"version": made.described})

    def _columns(self, table: str, parts: list[Part], before: Manifest | None, wide: Collection[str]) -> sch.Schema:
        """The columns of a table's files, without those that dlt keeps for itself."""
        declared = self._step.tables[table]
        if not parts:
            if declared is not None:
                return schema_from(declared)
            if table.endswith(files.REJECTED):
                return sch.Schema.from_pyarrow(files.REJECTED_COLUMNS)
            if before is not None:
                return _columns_of(before)
            raise StepFailed(f"the source brought no rows and no columns for {table!r}, and the step declares none")
        columns: dict[str, dt.DataType] = {}
        for part in parts:
            for name, dtype in schema_from(part.columns).items():
                if (both := common(columns.get(name, dtype), dtype, is_wide=name in wide)) is None:
                    raise StepFailed(
                        f"table {table!r}: column {name!r} is {columns[name]} in some rows and {dtype} in others"
                    )
                columns[name] = both
        if table in self._checkpoint.source_columns:  # also those that were discarded or cast
            columns = {**columns, **schema_from(self._checkpoint.source_columns[table])}
        known = _columns_of(before) if before else {}  # a column without values is what it was
        columns = {name: known.get(name, dt.string) if t.is_null() else t for name, t in columns.items()}
        has_family = self._hints_of(table).root is not None or any(
            name.startswith(f"{table}__") and not name.endswith(files.REJECTED) for name in self._step.tables
        )
        books = {"_dlt_load_id", FILE_NUMBER} | (set() if has_family else {n for n in columns if n.startswith("_dlt_")})
        kept = {name: dtype for name, dtype in columns.items() if name not in books}
        if declared is None:
            return sch.Schema(kept)
        if missing := [name for name in declared if name not in kept]:
            raise StepFailed(
                f"table {table!r} has lost its column {missing[0]!r}; the source now brings {listed(kept)}, and the "
                f"step declares {listed(declared)}"
            )
        return schema_from(declared)


def _contract(step: IngestStep, table: str, hints: Hints) -> Contract:
    """What happens when a table's columns change. Where they are declared, only those are loaded anyway."""
    return "evolve" if step.tables.get(table) else hints.contract or step.contract_of(table)


def _columns_of(manifest: Manifest) -> sch.Schema:
    """The columns of a version that come from its source."""
    own = strategy_of(manifest.hints).own_columns
    return schema_from({name: text for name, text in manifest.shape.items() if name not in own})


def _check_same_hints(table: str, before: Hints, now: Hints) -> None:
    again = "run it once with `refresh` to ignore saved state and reload everything"
    if before.disposition != now.disposition:
        raise StepFailed(
            f"table {table!r} was loaded by {before.disposition!r} and now asks for {now.disposition!r}; {again}"
        )
    if before.key != now.key or before.is_group != now.is_group:
        raise StepFailed(f"the key of table {table!r} was {listed(before.key)} and is now {listed(now.key)}; {again}")


def _check_keeps_columns(table: str, before: sch.Schema, found: sch.Schema) -> None:
    """Raises StepFailed for rows of another kind altogether, such as the words of an error."""
    own = [name for name in before if name != FILE_COLUMN and not name.startswith("_dlt_")]
    if own and not any(name in found for name in own):
        raise StepFailed(
            f"table {table!r} has lost all its columns ({listed(own)}): the source now brings {listed(found)}; if that "
            "is right, run it once with `refresh`"
        )


def _check_rows(step: IngestStep, table: str, hints: Hints, rows: int, before: Manifest | None) -> None:
    """Raises StepFailed for a table that is loaded as a whole and would have fewer rows than the step says."""
    is_whole = strategy_of(hints).is_whole
    for option, given in (("min_rows", step.min_rows), ("max_shrink", step.max_shrink)):
        if isinstance(given, Mapping):
            limit = given.get(table)
            if limit is not None and not is_whole:
                raise BadInput(
                    f"table {table!r} has `{option}`, and is not loaded as a whole but by {hints.disposition!r}"
                )
        else:
            limit = given if is_whole and not hints.root and not table.endswith(files.REJECTED) else None
        if limit is None:
            continue
        if option == "min_rows" and rows < limit:
            raise StepFailed(f"table {table!r} would have {rows:,} rows, and its `min_rows` is {limit:,}")
        if option == "max_shrink" and before and rows < before.rows * (1 - limit):
            raise StepFailed(
                f"table {table!r} would have {rows:,} rows instead of {before.rows:,}; its `max_shrink` is {limit}; if "
                "that is right, run it once with `refresh`"
            )


def _check_columns(table: str, hints: Hints, columns: sch.Schema, root: Hints | None) -> None:
    needed = {**dict.fromkeys(hints.key, "key")}
    needed |= {hints.deleted: "mark of deleted rows"} if hints.deleted else {}
    by = hints.newest[0] if hints.newest else None
    needed |= {by: "order of rows with the same key"} if by and by != FILE_NUMBER else {}
    needed |= {hints.replaces.column: "cursor"} if hints.replaces else {}
    for name, what in needed.items():
        if name not in columns:
            raise StepFailed(f"table {table!r}, {what}: {unknown('column', name, columns)}")
    strategy = strategy_of(hints)
    if taken := [name for name in strategy.reserved if name in columns]:
        raise StepFailed(
            f"table {table!r} is loaded by {strategy.name!r}, which makes the column {taken[0]!r} itself; rename it"
        )
    if root is None:
        if strategy.needs_key and not hints.key:
            raise StepFailed(f"table {table!r} is loaded by {strategy.name!r}, which needs a key")
    elif root.replaces or root.is_group or root.newest or not strategy_of(root).allows_nested:
        raise StepFailed(
            f"table {table!r} is nested in {hints.root!r}, which is not simply appended, replaced or merged by a "
            "primary key, so that its rows could not follow theirs; load it by such a key, or without nested values"
        )

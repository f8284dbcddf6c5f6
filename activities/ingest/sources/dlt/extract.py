"""Any dlt source, or any iterable of rows, through dlt's extract and normalise into local Parquet files.

dlt keeps nothing: its state comes from our catalog and goes back to it, for *us* to commit with the rows. Its schema is
made anew each time: from the one before, it would go on with columns that the source has dropped.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import Any

import dlt
import pyarrow as pa
import pyarrow.parquet
from dlt.common.exceptions import TerminalException
from dlt.common.libs.pyarrow import NameNormalizationCollision
from dlt.common.schema.exceptions import SchemaException
from dlt.extract import DltResource, DltSource
from dlt.extract.exceptions import PipeException, ResourceExtractionError
from dlt.extract.incremental.exceptions import IncrementalCursorPathHasValueNone, IncrementalCursorPathMissing
from dlt.normalize.exceptions import NormalizeJobFailed
from dlt.pipeline.exceptions import PipelineStepFailed
from pydantic import TypeAdapter

from entrepot.activities.ingest.sources.dlt.chunks import Chunks
from entrepot.activities.ingest.sources.dlt.compat import data_to_sources, json_decode_state, json_encode_state
from entrepot.activities.ingest.sources.dlt.cursors import Limits, no_value, restrict
from entrepot.activities.ingest.sources.dlt.hints import columns_with, hints_of, welcome_new_tables
from entrepot.activities.ingest.sources.dlt.setup import install, lake
from entrepot.activities.ingest.sources.naming import TELL_APART, check_apart, name_of
from entrepot.activities.ingest.sources.stream import Hints, Piece, Stream, Watermark
from entrepot.activities.storage import exact_casts
from entrepot.errors import BadInput, StepFailed
from entrepot.language.interval import Interval
from entrepot.tracebacks import full_if_unnamed

ROWS_PER_ITEM = 5_000  # single dicts go to dlt in lists of this many: one by one costs three times as much a row
_HINTS = TypeAdapter(dict[str, Hints])
_NULLS = re.compile(r"Column '(.*)' is declared non-nullable but contains nulls")
"""What Arrow says of rows without a key, or without a value in a column that dlt was told has no NULL."""

_WRAPPERS = (PipelineStepFailed, ResourceExtractionError, NormalizeJobFailed)


def stream(name: str, data: Any, *, watermark: Watermark, interval: Interval | None = None) -> Stream:
    """What a step's function returned (or a function that returns it, called with the state in place), as a stream.

    A bare iterable brings the table `name`; resources have names of their own, unless a mapping gives them others. A
    load is cut into chunks where every resource says `row_order="asc"` of a cursor; an `interval` of cursor
    values is read again.
    """
    return _DltStream(name, data, watermark, interval)


class _DltStream:
    def __init__(self, name: str, data: Any, watermark: Watermark, interval: Interval | None) -> None:
        install()
        self._name = name
        self._data = data
        self._before = watermark
        self._after = watermark
        self._interval = interval
        self._hints: dict[str, Hints] = {}
        self._limits = Limits({})

    def pieces(self, watermark: Watermark | None) -> Iterator[Piece]:
        self._after = watermark["state"] if watermark else self._before
        self._hints = _HINTS.validate_python(watermark["hints"]) if watermark else {}
        with tempfile.TemporaryDirectory(prefix="entrepot-") as folder:
            pipeline = _pipeline(self._name, Path(folder))
            chunks = Chunks()
            self._limits = Limits(json.loads(json.dumps(self._before)))
            has_more = True
            while has_more:
                with full_if_unnamed(folder), _failures(pipeline):
                    sources = self._sources(pipeline)
                    chunks.begin(sources)
                    pipeline.extract(sources)
                    pipeline.normalize(workers=1)
                    has_more = chunks.has_more
                    files = _files(pipeline)
                    self._learn(pipeline, sources)
                # The state goes with the last piece of the chunk: only then all that it stands for is there.
                last = len(files) - 1
                for index, (table, path) in enumerate(files):
                    yield Piece(table, path, self._watermark() if has_more and index == last else None)
                    path.unlink(missing_ok=True)

    def watermark(self) -> Watermark:
        return self._before if self._interval else self._after

    def hints(self) -> dict[str, Hints]:
        return self._hints

    def notes(self) -> dict[str, list[str]]:
        return self._limits.notes

    def _sources(self, pipeline: dlt.Pipeline) -> list[DltSource]:
        with pipeline.managed_state() as managed:
            managed["sources"] = json_decode_state(json.dumps(self._after))
            sources = data_to_sources(_sources(self._name, self._data), pipeline)
            if self._interval:
                restrict(sources, self._interval, managed["sources"])
            else:
                self._limits.begin(sources, managed["sources"])
        welcome_new_tables(sources)
        return sources

    def _watermark(self) -> Watermark:
        # A table that a later attempt does not meet again is told of by the hints.
        return {"state": self._after, "hints": _HINTS.dump_python(self._hints, mode="json")}

    def _learn(self, pipeline: dlt.Pipeline, sources: list[DltSource]) -> None:
        state = pipeline.state
        self._limits.settle(state["sources"])
        self._after = json.loads(json_encode_state(state))["sources"]
        hints: dict[str, Hints] = {}
        for source in sources:
            schema = pipeline.schemas.get(source.schema.name, source.schema)
            hints |= hints_of(schema, source, self._interval, self._limits)
        self._hints |= hints


def _pipeline(name: str, folder: Path) -> dlt.Pipeline:
    pipeline = dlt.pipeline(name, pipelines_dir=str(folder), destination=lake())
    pipeline.config.restore_from_destination = False
    pipeline.config.enable_runtime_trace = False  # else a pickle, tracking, and .anonymous_id in the global dir
    return pipeline


@contextmanager
def _failures(pipeline: dlt.Pipeline) -> Iterator[None]:
    """Errors of the user's code as he raised them, with dlt's sentence added; dlt's pipeline is not left active."""
    try:
        yield
        return
    except (*_WRAPPERS, PipeException) as error:
        failed: BaseException = error
        while isinstance(failed, _WRAPPERS) and (inner := failed.__cause__ or failed.__context__):
            inner.add_note(f"dlt: {str(failed).splitlines()[0][:200]}")
            failed = inner
    finally:
        if pipeline.is_active:
            pipeline.deactivate()
    if isinstance(failed, IncrementalCursorPathHasValueNone | IncrementalCursorPathMissing):
        row = f"the row {str(failed.item)[:300]}" if failed.item is not None else "a row"
        raise StepFailed(no_value(failed.pipe_name, failed.json_path, row)) from failed
    if isinstance(failed, pa.ArrowInvalid) and (column := _NULLS.search(str(failed))):
        raise StepFailed(f"column {column[1]!r} says that it has no NULL (a key has none), and rows have NULL in it")
    # Trying again would not help, says dlt of the first.
    if isinstance(failed, TerminalException | SchemaException | NameNormalizationCollision):
        raise StepFailed(" ".join(str(failed).split())) from failed
    raise failed


def _items(data: Iterable[Any]) -> Iterator[Any]:
    """The items, single dicts gathered in lists, and Arrow tables hinted to keep timestamps without a zone so."""
    iterator = iter(data)
    for item in iterator:
        if isinstance(item, dict):
            yield [item, *islice(iterator, ROWS_PER_ITEM - 1)]
        elif hasattr(item, "__arrow_c_stream__"):  # an Arrow table or batch, a pandas or polars frame
            table = item if isinstance(item, pa.Table | pa.RecordBatch) else pa.table(item)
            check_apart([(n, name_of(n)) for n in table.schema.names], "the columns of an Arrow table", TELL_APART)
            table = exact_casts.plain_table(table, "an Arrow table or data frame of the source")
            naive = [field.name for field in table.schema if pa.types.is_timestamp(field.type) and not field.type.tz]
            columns: Any = [{"name": name, "data_type": "timestamp", "timezone": False} for name in naive]
            yield dlt.mark.with_hints(table, dlt.mark.make_hints(columns=columns)) if naive else table
        else:
            yield item


def _resource(name: str, data: Any) -> DltResource:
    if isinstance(data, DltSource):
        raise BadInput(f"{name!r} is a dlt source, which names its tables itself: return it alone, or in a list")
    if callable(data) and not isinstance(data, DltResource):
        data = data()
    whole = hasattr(data, "__arrow_c_stream__") and not isinstance(data, pa.RecordBatchReader)
    plain = not isinstance(data, DltResource)
    return DltResource.from_data(_items([data] if whole else data), name=name) if plain else data.with_name(name)


def _sources(name: str, data: Any) -> Any:
    """What pipeline.extract takes, from what a user returns."""
    data = data() if callable(data) and not isinstance(data, DltResource | DltSource) else data
    if isinstance(data, DltResource | DltSource):
        return data
    if isinstance(data, Mapping):
        return [_resource(key, value) for key, value in data.items()]
    if isinstance(data, Iterable) and not hasattr(data, "__arrow_c_stream__"):
        first = list(islice(iterator := iter(data), 1))
        if first and isinstance(first[0], DltResource | DltSource):
            return [*first, *iterator]
        data = chain(first, iterator)
    return [_resource(name, data)]


def _files(pipeline: dlt.Pipeline) -> list[tuple[str, Path]]:
    """The Parquet files of the load packages, which are done with, in the order in which they were written."""
    target = Path(tempfile.mkdtemp(dir=pipeline.working_dir))
    found: list[tuple[str, Path]] = []
    writer: dict[str, str] = {}
    for load_id in pipeline.list_normalized_load_packages():
        package = pipeline.get_load_package_info(load_id)
        jobs = [Path(job.file_path) for job in package.jobs["new_jobs"]]
        for path in sorted(jobs, key=lambda path: path.stat().st_mtime_ns):
            table = path.name.split(".", 1)[0]
            if writer.setdefault(table, package.schema_name) != package.schema_name:
                raise StepFailed(f"two sources of one step write the table {table!r}")
            moved = path.rename(target / f"{table}.{len(found):05d}.parquet")
            if _trim(moved, package.schema.tables[table]):
                found.append((table, moved))
        shutil.rmtree(package.package_path)
    return found


def _trim(path: Path, table: Mapping[str, Any]) -> bool:
    """Takes away the columns that dlt's own scd2 would fill; whether there are rows, or columns of the user's."""
    rows = pyarrow.parquet.read_metadata(path).num_rows
    columns = pyarrow.parquet.read_schema(path).names
    empty = [name for hint in ("x-valid-from", "x-valid-to") for name in columns_with(table, hint)]
    keep = [name for name in columns if name not in empty]
    if len(keep) < len(columns):
        slim = path.with_suffix(".slim")
        with pyarrow.parquet.ParquetFile(path) as file:
            schema = pa.schema([file.schema_arrow.field(name) for name in keep])
            with pyarrow.parquet.ParquetWriter(slim, schema, version="2.6") as writer:
                for batch in file.iter_batches(columns=keep):
                    writer.write_batch(batch)
        slim.replace(path)
    return rows > 0 or any(not name.startswith("_dlt_") for name in keep)

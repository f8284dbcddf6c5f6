"""Any dlt source, or any iterable of rows, through dlt's extract and normalise into local Parquet files.

dlt keeps nothing: its state comes from our catalog and goes back to it, for *us* to commit with the rows. Its schema is
made anew each time: from the one before, it would go on with columns that the source has dropped.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module, util
from itertools import chain, islice
from pathlib import Path
from threading import Lock
from typing import Any

import dlt
import pyarrow as pa
from dlt.common.configuration import providers
from dlt.common.configuration.container import Container
from dlt.common.configuration.specs.pluggable_run_context import PluggableRunContext
from dlt.common.destination import Destination, DestinationCapabilitiesContext
from dlt.common.destination.client import DestinationClientConfiguration
from dlt.common.destination.configuration import ParquetFormatConfiguration
from dlt.common.runtime.run_context import RunContext
from dlt.common.runtime.telemetry import stop_telemetry
from dlt.common.schema.utils import get_columns_names_with_prop, get_inherited_table_hint
from dlt.common.versioned_state import json_decode_state, json_encode_state
from dlt.extract import DltResource, DltSource
from dlt.extract.exceptions import ResourceExtractionError
from dlt.normalize.exceptions import NormalizeJobFailed
from dlt.pipeline.exceptions import PipelineStepFailed

ROWS_PER_ITEM = 5_000  # single dicts go to dlt in lists of this many: one by one costs three times as much a row
_WRAPPERS = (PipelineStepFailed, ResourceExtractionError, NormalizeJobFailed)
os.environ["RUNTIME__DLTHUB_TELEMETRY"] = "false"  # before anyone's first touch of dlt's container: importing is none
_INSTALL = Lock()
_Json = dict[str, Any]


@dataclass(frozen=True)
class Hints:
    """What the loader has to know of a table, beside its columns."""

    write_disposition: str  # append | replace | merge; a nested table has that of its root
    primary_key: tuple[str, ...]
    merge_key: tuple[str, ...]
    parent: str | None  # the parent of a nested table: its _dlt_parent_id is the parent's _dlt_id
    schema_name: str
    table: _Json  # the whole dlt table schema


@dataclass(frozen=True)
class Extracted:
    """One attempt's rows and what to commit with them."""

    tables: dict[str, list[Path]]  # normalised table name -> Parquet files, in the order they were written
    rows: dict[str, int]
    hints: dict[str, Hints]
    state: _Json  # pipeline.state["sources"]; plain JSON: dlt marks its dates and decimals in the strings


class _Context(RunContext):
    """dlt's run context, with our settings asked before the environment and the user's toml files."""

    def initial_providers(self) -> list[providers.ConfigProvider]:
        writer = {"disable_compression": True, "buffer_max_items": 50_000}  # no gzip between the steps; big row groups
        settings = providers.DictionaryProvider()
        settings._config_doc = {
            "runtime": {"dlthub_telemetry": False, "intercept_signals": False},
            "sources": {"data_writer": writer},  # the extract step's writers: their section is the source's
            "normalize": {"workers": 1, "data_writer": writer},
        }
        return [settings, *super().initial_providers()]


class _Lake(Destination[DestinationClientConfiguration, Any]):
    """Never connected to: it only tells dlt to normalise to Parquet, without limits."""

    spec = DestinationClientConfiguration

    @property
    def client_class(self) -> type[Any]:
        raise NotImplementedError("Entrepot loads the files itself.")

    def _raw_capabilities(self) -> DestinationCapabilitiesContext:
        caps = DestinationCapabilitiesContext.generic_capabilities("parquet")
        caps.supported_loader_file_formats = ["parquet"]
        caps.supported_merge_strategies = ["delete-insert", "upsert"]  # or nested tables get no _dlt_root_id
        caps.supports_nested_types = True
        caps.max_timestamp_precision = 9  # with Parquet 2.6, nanoseconds stay nanoseconds
        caps.parquet_format = ParquetFormatConfiguration(version="2.6")
        return caps


def install() -> None:
    """Give dlt our settings, for this process; call it in the main thread, before user code is imported."""
    container = Container()
    with _INSTALL:
        if PluggableRunContext in container and isinstance(container[PluggableRunContext].context, _Context):
            return
        for module in filter(util.find_spec, ("pandas", "polars")):  # dlt peeks at half-imported ones in sys.modules
            import_module(module)
        stop_telemetry()
        container[PluggableRunContext] = PluggableRunContext(context := _Context(None))
        context._global_dir = os.path.join(tempfile.gettempdir(), "entrepot-dlt")  # ~/.dlt was read; never write to it


def _items(data: Iterable[Any]) -> Iterator[Any]:
    """The items, single dicts gathered in lists, and Arrow tables hinted to keep timestamps without a zone so."""
    iterator = iter(data)
    for item in iterator:
        if isinstance(item, dict):
            yield [item, *islice(iterator, ROWS_PER_ITEM - 1)]
        elif hasattr(item, "__arrow_c_stream__"):  # an Arrow table or batch, a pandas or polars frame
            table = item if isinstance(item, pa.Table | pa.RecordBatch) else pa.table(item)
            naive = [field.name for field in table.schema if pa.types.is_timestamp(field.type) and not field.type.tz]
            columns: Any = [{"name": name, "data_type": "timestamp", "timezone": False} for name in naive]
            yield dlt.mark.with_hints(table, dlt.mark.make_hints(columns=columns)) if naive else table
        else:
            yield item


def _resource(name: str, data: Any) -> DltResource:
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


def _hints(schema: dlt.Schema, name: str) -> Hints:
    table = schema.tables[name]
    disposition: Any = get_inherited_table_hint(schema.tables, name, "write_disposition", allow_none=True)
    primary, merge = (tuple(get_columns_names_with_prop(table, prop)) for prop in ("primary_key", "merge_key"))
    return Hints(disposition or "append", primary, merge, table.get("parent") or None, schema.name, dict(table))


def _collect(pipeline: dlt.Pipeline, rows: Mapping[str, int], target: Path) -> Extracted:
    """Move the Parquet files out of the load packages; read the state back."""
    tables: dict[str, list[Path]] = {}
    hints: dict[str, Hints] = {}
    packages = pipeline._get_load_storage().normalized_packages
    for load_id in pipeline.list_normalized_load_packages():
        schema = packages.load_schema(load_id)
        jobs = (Path(packages.storage.make_full_path(job)) for job in packages.list_new_jobs(load_id))
        for path in sorted(jobs, key=lambda path: path.stat().st_mtime_ns):
            table = path.name.split(".", 1)[0]
            if hints.setdefault(table, _hints(schema, table)).schema_name != schema.name:
                raise ValueError(f"Two sources of one step write the table {table!r}.")
            files = tables.setdefault(table, [])
            files.append(path.rename(target / f"{table}.{len(files):05d}.parquet"))
    state = json.loads(json_encode_state(pipeline.state))["sources"]
    return Extracted(tables, {table: rows.get(table, 0) for table in tables}, hints, state)


def extract(name: str, data: Any, *, workdir: Path, state: _Json | None) -> Extracted:
    """The rows of `data`, or of what it returns when called with the state in place; the user's errors as raised."""
    install()
    directory = Path(tempfile.mkdtemp(prefix=".dlt-", dir=workdir))
    pipeline = dlt.pipeline(name, pipelines_dir=str(directory), destination=_Lake())
    try:
        pipeline.config.restore_from_destination = False
        pipeline.config.enable_runtime_trace = False  # else a pickle, tracking, and .anonymous_id in the global dir
        with pipeline.managed_state() as managed:
            managed["sources"] = json_decode_state(json.dumps(state or {}))
            sources = _sources(name, data)
        pipeline.extract(sources)
        info = pipeline.normalize(workers=1)
        return _collect(pipeline, info.row_counts if info else {}, workdir)
    except _WRAPPERS as error:
        failed: BaseException = error
        while isinstance(failed, _WRAPPERS) and (inner := failed.__cause__ or failed.__context__):
            inner.add_note(f"dlt: {str(failed).splitlines()[0][:200]}")
            failed = inner
    finally:
        if pipeline.is_active:
            pipeline.deactivate()
        shutil.rmtree(directory, ignore_errors=True)
    raise failed

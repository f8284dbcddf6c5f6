"""dlt in our processes: it keeps nothing, tells nobody, and normalises to Parquet. `install` comes before user code."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Sequence
from copy import deepcopy
from importlib import import_module, util
from threading import Lock
from typing import Any

from dlt.common.configuration import providers
from dlt.common.configuration.container import Container
from dlt.common.configuration.specs.pluggable_run_context import PluggableRunContext
from dlt.common.data_writers.writers import TypedJsonlListWriter
from dlt.common.destination import Destination, DestinationCapabilitiesContext
from dlt.common.destination.client import DestinationClientConfiguration
from dlt.common.destination.configuration import ParquetFormatConfiguration
from dlt.common.json import DECODERS, PUA_START
from dlt.common.runtime.run_context import RunContext
from dlt.common.runtime.telemetry import stop_telemetry
from dlt.extract import decorators, hints

from entrepot.activities.ingest.sources import naming
from entrepot.activities.ingest.sources.dlt import rows

os.environ["RUNTIME__DLTHUB_TELEMETRY"] = "false"  # before anyone's first touch of dlt's container: importing is none
_INSTALL = Lock()
_FLOAT = chr(PUA_START + len(DECODERS))
"""How dlt marks a text that is a value of another type; it has no mark for floats."""


class Unsaid(str):
    """The write disposition of a resource for which the user gave none."""


class _Settings(providers.DictionaryProvider):
    """Settings of which everyone gets his own: dlt writes into those of the normaliser."""

    def get_value(self, *args: Any, **kwargs: Any) -> tuple[Any | None, str]:
        value, key = super().get_value(*args, **kwargs)
        return deepcopy(value), key


class _Context(RunContext):
    """dlt's run context, with our settings asked before the environment and the user's toml files."""

    def initial_providers(self) -> list[providers.ConfigProvider]:
        writer = {"disable_compression": True, "buffer_max_items": 50_000}  # no gzip between the steps; big row groups
        settings = _Settings()
        settings._config_doc = {
            "runtime": {"dlthub_telemetry": False, "intercept_signals": False},
            "sources": {"data_writer": writer},  # the extract step's writers: their section is the source's
            "normalize": {"workers": 1, "data_writer": writer},
            "schema": {"json_normalizer": {"module": rows.__name__}},
        }
        return [settings, *super().initial_providers()]


_WRITE = TypedJsonlListWriter.write_data


def _write_data(self: TypedJsonlListWriter, items: Sequence[Any]) -> None:
    """Between its steps dlt keeps rows as JSON, which has no NaN and no infinity: they go as dlt's marked texts."""
    _WRITE(self, _marked(items))


def _marked(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else f"{_FLOAT}{value!r}"
    if isinstance(value, dict):
        changed = {key: made for key, its in value.items() if (made := _marked(its)) is not its}
        return {**value, **changed} if changed else value
    if isinstance(value, list | tuple):
        made = [_marked(its) for its in value]
        return made if any(new is not old for new, old in zip(made, value, strict=True)) else value
    return value


class Lake(Destination[DestinationClientConfiguration, Any]):
    """Never connected to: it only tells dlt to normalise to Parquet, without limits."""

    spec = DestinationClientConfiguration

    @property
    def client_class(self) -> type[Any]:
        """There is none."""
        raise NotImplementedError("Entrepot loads the files itself.")

    def _raw_capabilities(self) -> DestinationCapabilitiesContext:
        caps = DestinationCapabilitiesContext.generic_capabilities("parquet")
        caps.supported_loader_file_formats = ["parquet"]
        caps.supported_merge_strategies = ["delete-insert", "upsert", "scd2"]
        caps.supports_nested_types = True
        caps.naming_convention = naming.__name__
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
        DECODERS.append(float)
        TypedJsonlListWriter.write_data = _write_data  # type: ignore[method-assign]
        # dlt writes "append" where nothing was said, and what was said cannot be told from it afterwards.
        for module_with_default in (decorators, hints):
            setattr(module_with_default, "DEFAULT_WRITE_DISPOSITION", Unsaid("append"))  # noqa: B010

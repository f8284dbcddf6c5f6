"""dlt in our processes: it keeps nothing, tells nobody, and normalises to Parquet. `install` comes before user code."""

from __future__ import annotations

import json
import os
import tempfile
import tomllib
from copy import deepcopy
from importlib import import_module, util
from threading import Lock
from typing import Any

import dlt
from dlt.common.configuration.providers import ConfigProvider, DictionaryProvider, SecretsTomlProvider
from dlt.common.destination.configuration import ParquetFormatConfiguration

from entrepot.activities.ingest.sources import naming
from entrepot.activities.ingest.sources.dlt import compat, rows
from entrepot.secrets import register

os.environ["RUNTIME__DLTHUB_TELEMETRY"] = "false"  # before anyone's first touch of dlt's container: importing is none
_INSTALL = Lock()


class _Settings(DictionaryProvider):
    """Settings of which everyone gets his own: dlt writes into those of the normaliser."""

    def get_value(self, *args: Any, **kwargs: Any) -> tuple[Any | None, str]:
        value, key = super().get_value(*args, **kwargs)
        return deepcopy(value), key


class _Context(compat.RunContext):
    """dlt's run context, with our settings asked before the environment and the user's toml files."""

    def initial_providers(self) -> list[ConfigProvider]:
        writer = {"disable_compression": True, "buffer_max_items": 50_000}  # no gzip between the steps; big row groups
        settings = _Settings()
        for key, value in {
            "runtime": {"dlthub_telemetry": False, "intercept_signals": False},
            "sources": {"data_writer": writer},  # the extract step's writers: their section is the source's
            "normalize": {"workers": 1, "data_writer": writer},
            "schema": {"json_normalizer": {"module": rows.__name__}},
        }.items():
            settings.set_value(key, value, None)
        providers = compat.RunContext(None).initial_providers()  # with the user's ~/.dlt
        for each in providers:
            if isinstance(each, SecretsTomlProvider):
                register(json.dumps(tomllib.loads(each.to_toml()), default=str), each.name)
        return [settings, *providers]

    @property
    def global_dir(self) -> str:
        """Where dlt would write what it keeps: never to ~/.dlt."""
        return os.path.join(tempfile.gettempdir(), "entrepot-dlt")


@dlt.destination(name="lake", batch_size=0, loader_file_format="parquet", naming_convention=naming.__name__)
def _lake(file: Any, table: Any) -> None:
    raise NotImplementedError("Entrepot loads the files itself.")


def lake() -> Any:
    """A destination that is never loaded: it only tells dlt to normalise to Parquet, without limits."""
    capabilities: dict[str, Any] = {
        "max_table_nesting": None,
        "supported_loader_file_formats": ["parquet"],
        "supported_merge_strategies": ["delete-insert", "upsert", "scd2"],
        "supports_nested_types": True,
        "max_timestamp_precision": 9,  # with Parquet 2.6, nanoseconds stay nanoseconds
        "parquet_format": ParquetFormatConfiguration(version="2.6"),
    }
    return _lake(**capabilities)


def install() -> None:
    """Give dlt our settings, for this process; call it in the main thread, before user code is imported."""
    with _INSTALL:
        if isinstance(compat.run_context(), _Context):
            return
        for module in filter(util.find_spec, ("pandas", "polars")):  # dlt peeks at half-imported ones in sys.modules
            import_module(module)
        compat.stop_telemetry()
        compat.use_run_context(lambda: _Context(None))
        compat.keep_all_floats()
        compat.keep_no_traces()
        compat.mark_unsaid_dispositions()

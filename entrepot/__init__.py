"""Entrepot: durable pipelines that ingest, transform, train and publish, on any of four warehouses.

What pipeline authors import. Names are loaded when they are first used, so that importing the package costs nothing.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

# pandera sets it to 1 when it is imported, for Spark's sake, unless it is set: then Arrow would take the wall clock of
# a datetime for UTC, whatever its zone. Empty is set, and false.
os.environ.setdefault("PYARROW_IGNORE_TIMEZONE", "")

if TYPE_CHECKING:
    from ibis import Table

    from entrepot.errors import BadInput, EntrepotError, PipelineError
    from entrepot.language import split
    from entrepot.language.example import Rows
    from entrepot.language.incremental import ByInterval, ByKey
    from entrepot.language.model import Model
    from entrepot.language.outputs import Copy, Dashboard, Export, Figure, Panel
    from entrepot.language.promises.product import Product
    from entrepot.language.sources import Files, PostgresTable
    from entrepot.pipeline import Pipeline
    from entrepot.worker.reading import open as open

__all__ = [
    "BadInput",
    "ByInterval",
    "ByKey",
    "Copy",
    "Dashboard",
    "EntrepotError",
    "Export",
    "Figure",
    "Files",
    "Model",
    "Panel",
    "Pipeline",
    "PipelineError",
    "PostgresTable",
    "Product",
    "Rows",
    "Table",
    "split",
]
# Beside them, `open`: `from entrepot import *` is not to hide Python's own.

_HOMES = {
    "BadInput": "entrepot.errors",
    "ByInterval": "entrepot.language.incremental",
    "ByKey": "entrepot.language.incremental",
    "Copy": "entrepot.language.outputs",
    "Dashboard": "entrepot.language.outputs",
    "EntrepotError": "entrepot.errors",
    "Export": "entrepot.language.outputs",
    "Figure": "entrepot.language.outputs",
    "Files": "entrepot.language.sources",
    "Model": "entrepot.language.model",
    "Panel": "entrepot.language.outputs",
    "Pipeline": "entrepot.pipeline",
    "PipelineError": "entrepot.errors",
    "PostgresTable": "entrepot.language.sources",
    "Product": "entrepot.language.promises.product",
    "open": "entrepot.worker.reading",
    "Rows": "entrepot.language.example",
    "Table": "ibis",
}


def __getattr__(name: str) -> Any:
    if name == "split":
        return importlib.import_module("entrepot.language.split")
    if name not in _HOMES:
        raise AttributeError(f"module 'entrepot' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)

"""What the first run would otherwise wait for.

The worker imports it before it serves, and so does the process from which those for user code are forked.
"""

from __future__ import annotations

import importlib

from entrepot.activities.ingest import ingest
from entrepot.activities.ingest.sources.dlt import setup

_HEAVY = (
    "altair",
    "onnx",
    "orbital",
    "pandas",
    "pandera.ibis",
    "pyarrow.csv",
    "pyarrow.json",
    "pyarrow.parquet",
    "skops.io",
    "sklearn.dummy",
    "sklearn.linear_model",
    "sklearn.metrics",
    "sklearn.pipeline",
    "vl_convert",
)


def load() -> None:
    """Imports what is heavy, and uses once what loads and caches much at its first use."""
    for name in _HEAVY:
        importlib.import_module(name)
    setup.install()
    ingest.warm_up()

"""Tests of pipelines: steps computed from a few rows, on DuckDB in memory, without Temporal and without a warehouse.

```python
from entrepot.testing import assert_rows, compute


def test_a_late_arrival():
    found = compute(flights, "monthly_delays", departures=[{"month": 1, "cancelled": False, "arr_delay": 16}])
    assert_rows(found, [{"month": 1, "late": 1.0}])
```

Everything is computed by what computes it in a run, but for one thing: code of yours runs in the test's own process, so
that debuggers, coverage and `monkeypatch` see it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from entrepot.language.example import Rows
    from entrepot.testing.differences import assert_rows
    from entrepot.testing.examples import assert_examples
    from entrepot.testing.results import FittedModel, Result
    from entrepot.testing.sessions import Session, compute, fit

__all__ = ["FittedModel", "Result", "Rows", "Session", "assert_examples", "assert_rows", "compute", "fit"]

_HOMES = {
    "FittedModel": "entrepot.testing.results",
    "Result": "entrepot.testing.results",
    "Rows": "entrepot.language.example",
    "Session": "entrepot.testing.sessions",
    "assert_examples": "entrepot.testing.examples",
    "assert_rows": "entrepot.testing.differences",
    "compute": "entrepot.testing.sessions",
    "fit": "entrepot.testing.sessions",
}
"""Loaded when they are first used: pytest imports the plugin, which is beside them, wherever Entrepot is installed."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'entrepot.testing' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)

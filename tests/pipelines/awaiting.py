"""A step that fails, as what may pass does, until a file is there."""

from __future__ import annotations

from pathlib import Path

from entrepot import Pipeline

awaiting = Pipeline("awaiting", parameters={"until": ""})


@awaiting.ingest(tables={"numbers": {"n": "int64"}}, attempts=100)
def source(until: str) -> object:
    if not Path(until).exists():
        raise ConnectionError("not there yet")
    return {"numbers": [{"n": 1}]}

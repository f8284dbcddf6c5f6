"""Steps that hang until a file is there, and that nobody can interrupt."""

from __future__ import annotations

import time
from pathlib import Path

from entrepot import Pipeline

hanging = Pipeline("hanging", description="Waits", parameters={"until": ""})


@hanging.ingest(tables={"numbers": {"n": "int64"}})
def source(until: str) -> object:
    while until and not Path(until).exists():
        time.sleep(0.05)
    return {"numbers": [{"n": 1}]}

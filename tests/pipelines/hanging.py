"""Steps that hang until a file is there, and that nobody can interrupt."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from entrepot import Pipeline

hanging = Pipeline("hanging", description="Waits", parameters={"until": ""})


@hanging.ingest(tables={"numbers": {"n": "int64"}})
def source(until: str) -> object:
    while until and not Path(until).exists():
        time.sleep(0.05)
    return {"numbers": [{"n": 1}]}


wide = Pipeline("wide", description="Twelve steps side by side, half a second each")


@wide.ingest(tables={"rows": {"n": "int64"}})
def few() -> object:
    return {"rows": [{"n": 1}]}


def _slow(rows: Any) -> Iterator[Any]:
    time.sleep(0.5)
    yield from rows


for number in range(12):
    wide.transform(engine="python", schema={"n": "int64"}, name=f"slow_{number}")(_slow)

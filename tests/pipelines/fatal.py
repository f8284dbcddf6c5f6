"""A pipeline whose module harms the process that imports it, as the variable `FATAL` says."""

from __future__ import annotations

import os
import time
from typing import Any

from entrepot import Pipeline

if os.environ.get("FATAL") == "exit":
    os._exit(5)
while os.environ.get("FATAL") == "hang":
    time.sleep(60)

fatal = Pipeline("fatal")


@fatal.ingest(tables={"numbers": {"n": "int64"}})
def numbers() -> list[dict[str, Any]]:
    return [{"n": 1}]

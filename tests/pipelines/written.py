"""The source of pipelines whose tables are what a test has written: a file `TABLE.json` for each."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dlt

_TYPES = {"int64": "bigint", "timestamp": "timestamp", "string": "text", "date": "date"}


def written(folder: str, columns: Mapping[str, Mapping[str, str]], hints: Mapping[str, Mapping[str, Any]]) -> Any:
    """What a test has written, with what dlt is told of it. Rows of `orders` may be `gone`.

    Args:
        columns: Table to its columns with their types.
        hints: Table to what dlt is told beside.
    """

    def read(name: str) -> Any:
        path = Path(folder, f"{name}.json")
        rows = json.loads(path.read_text()) if path.exists() else []
        its: Any = {column: {"data_type": _TYPES[kind]} for column, kind in columns[name].items()}
        if name == "orders":
            its |= {"at": {"data_type": "timestamp", "timezone": False}}
            its |= {"gone": {"data_type": "bool", "hard_delete": True}}
        return dlt.resource(lambda: iter([rows]), name=name, columns=its, **hints[name])

    @dlt.source
    def every() -> Any:
        return [read(name) for name in columns]

    return every()

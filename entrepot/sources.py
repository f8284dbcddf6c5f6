"""Files as a source whose content is recognised, so that unchanged files are never read twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

Format = Literal["csv", "parquet", "json"]
"""`json` is one JSON object a line."""


@dataclass(frozen=True)
class Files:
    """The files of one raw table: `Files("data/*.csv", nulls=["NA"])`.

    Attributes:
        path: A local path, a glob, or any fsspec URL. A `.zip` holds one file; `.gz`, `.bz2` and `.xz` are read as is.
        format: Taken from the name's ending unless given.
        nulls: The texts that stand for NULL in CSV.
        types: Columns to ibis types, where the inferred ones would be wrong: `{"year": "int32"}`.
        delimiter: What separates the fields of a CSV line.
    """

    path: str
    format: Format | None = None
    nulls: Sequence[str] = ("",)
    types: Mapping[str, str] = field(default_factory=dict)
    delimiter: str = ","

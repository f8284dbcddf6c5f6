"""Parquet: whole files as they are where that can be, else their rows under the table's column names and types."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
import ibis.expr.datatypes as dt
import pyarrow as pa
import pyarrow.parquet as pq

from activities.sources.files_part import named
from activities.sources.files_text import PACKED, readable, unpacked
from entrepot.errors import StepFailed
from entrepot.sources import Files

BATCH_ROWS = 250_000
BATCH_BYTES = 64 << 20
"""What a piece has at most, unless single rows are that large."""


@dataclass(frozen=True)
class Source:
    """A Parquet file, and the columns that it has under the names of the warehouse."""

    path: str
    schema: pa.Schema
    is_plain: bool
    """Whether its columns have those names already."""


def sources(paths: list[str], folder: Path, files: Files) -> list[Source]:
    """Looks at what the files hold, not at their rows.

    Raises:
        StepFailed: for a file that is no Parquet, or with two columns of one name.
    """
    found = []
    for path in paths:
        with _opened(path, folder) as file:
            schema = file.schema_arrow
            names = named({name: name for name in schema.names}, files, path, schema.names)
            renamed = pa.schema([field.with_name(name) for name, field in zip(names, schema, strict=True)])
            found.append(Source(path, renamed, list(names) == schema.names))
    return found


def common(found: list[Source], files: Files) -> pa.Schema:
    """The columns of all files, with their common types, or those that are declared.

    Raises:
        StepFailed: if a column is of types in two files that have none in common.
    """
    declared = {name: dt.dtype(text).to_pyarrow() for name, text in named(files.types, files).items()}
    fields: dict[str, tuple[pa.Field, str]] = {}
    for source in found:
        for field in source.schema:
            wanted = field.with_type(declared.get(field.name, field.type)).with_nullable(True)
            known, first = fields.get(field.name, (wanted, source.path))
            try:
                (united,) = pa.unify_schemas([pa.schema([known]), pa.schema([wanted])], promote_options="permissive")
            except pa.ArrowTypeError as error:
                raise StepFailed(
                    f"the column {field.name!r} is {known.type} in {first!r} and {field.type} in {source.path!r}; give "
                    "its type in `types`"
                ) from error
            fields[field.name] = (united, first)
    return pa.schema([field for field, _ in fields.values()])


def copied(source: Source, schema: pa.Schema, folder: Path) -> Path | None:
    """A copy of the file, where nothing in it has to change; else None.

    No hard link: the copy goes to the lake, and must stay as it is when somebody writes into the file.
    """
    local = local_path(source.path)
    if not local or source.path.endswith(PACKED) or not source.is_plain or not _is_same(source.schema, schema):
        return None
    with readable(source.path):
        return Path(shutil.copyfile(local, folder / f"copy-{os.path.basename(local)}"))


def batches(source: Source, schema: pa.Schema, start: int, folder: Path) -> Iterator[pa.RecordBatch]:
    """The rows from `start` on. Row groups before it are not decoded.

    Raises:
        StepFailed: for a value that is not of the type that its column is to have.
    """
    with _opened(source.path, folder) as file:
        size = sum(file.metadata.row_group(group).total_byte_size for group in range(file.num_row_groups))
        most = min(BATCH_ROWS, max(1, BATCH_BYTES * file.metadata.num_rows // max(1, size)))
        skip = start
        groups: list[int] = []
        for group in range(file.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            if not groups and skip >= rows:
                skip -= rows
            else:
                groups.append(group)
        for batch in file.iter_batches(most, row_groups=groups):
            rest, skip = batch.slice(skip), max(0, skip - batch.num_rows)
            if rest.num_rows:
                yield _conformed(rest.rename_columns(source.schema.names), schema, source.path)


def _conformed(batch: pa.RecordBatch, schema: pa.Schema, path: str) -> pa.RecordBatch:
    columns = []
    for field in schema:
        if field.name not in batch.schema.names:
            columns.append(pa.nulls(batch.num_rows, field.type))
            continue
        try:
            columns.append(batch.column(field.name).cast(field.type))
        except pa.ArrowInvalid as error:
            raise StepFailed(
                f"the file {path!r}: a value of the column {field.name!r} is no {field.type}: {error}"
            ) from error
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def local_path(path: str) -> str | None:
    """Where a file is on this machine; None for one that is elsewhere."""
    filesystem, local = fsspec.core.url_to_fs(path)
    protocols = (filesystem.protocol,) if isinstance(filesystem.protocol, str) else filesystem.protocol
    return str(local) if "file" in protocols else None


@contextmanager
def _opened(path: str, folder: Path) -> Iterator[Any]:
    """A Parquet file; a packed one is unpacked first."""
    with readable(path), ExitStack() as stack:
        local = local_path(path)
        if path.endswith(PACKED):
            local = str(folder / "unpacked.parquet")
            with open(local, "wb") as target:
                target.writelines(unpacked(path))
        try:
            raw = stack.enter_context(fsspec.open(local or path, "rb"))
            yield stack.enter_context(pq.ParquetFile(raw))
        except pa.ArrowInvalid as error:
            raise StepFailed(f"the file {path!r} cannot be read as Parquet: {error}") from error


def _is_same(one: pa.Schema, other: pa.Schema) -> bool:
    return bool(one.names == other.names and one.types == other.types)

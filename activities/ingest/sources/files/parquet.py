"""Parquet: whole files as they are where that can be, else their rows under the table's column names and types.

Old files have times of 96 bits (INT96): nanoseconds of every year, for which Arrow has no type: it cuts digits, or
years. Read as microseconds they have all years, and read as nanoseconds all digits; where the two say the same, nothing
is lost.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from entrepot.activities.ingest.sources.files.reader import named
from entrepot.activities.ingest.sources.files.text import is_packed, readable, unpacked
from entrepot.activities.storage import exact_casts
from entrepot.errors import StepFailed
from entrepot.language.sources import Files

BATCH_ROWS = 250_000
BATCH_BYTES = 64 << 20
"""What a piece has at most, unless single rows are that large."""


@dataclass(frozen=True)
class ParquetFile:
    """A Parquet file, and the columns that it has under the names of the warehouse."""

    path: str
    schema: pa.Schema
    is_plain: bool
    """Whether its columns have those names already, and types that warehouses have."""


def sources(paths: list[str], folder: Path, files: Files, declared: Collection[str] = ()) -> list[ParquetFile]:
    """Looks at what the files hold, not at their rows. `declared`: the columns whose types are.

    Raises:
        StepFailed: for a file that is no Parquet, or with two columns of one name.
    """
    found = []
    for path in paths:
        with _opened(path, folder) as file:
            schema = file.schema_arrow
            names = named({name: name for name in schema.names}, files, path, schema.names)
            _check_no_spans(file.schema, path)
            columns = zip(names, schema, strict=True)
            types = [(name, field.type if name in declared else _plain(field, path)) for name, field in columns]
            plain = pa.schema([field.with_name(n).with_type(t) for field, (n, t) in zip(schema, types, strict=True)])
            is_plain = list(names) == schema.names and plain.types == schema.types and not _int96_columns(file)
            found.append(ParquetFile(path, plain, is_plain))
    return found


def _check_no_spans(schema: pq.ParquetSchema, path: str) -> None:
    """Raises StepFailed for an INTERVAL, which Arrow takes for twelve bytes of anything."""
    for column in map(schema.column, range(len(schema.names))):
        if column.converted_type == "INTERVAL":
            raise StepFailed(
                f"the column {column.path!r} of {path!r} is an INTERVAL, which no warehouse has as Parquet has it; "
                "write it as a number or a text"
            )


def _plain(field: pa.Field, path: str) -> pa.DataType:
    try:
        return exact_casts.plain(field.type)
    except ValueError as error:
        raise StepFailed(f"the column {field.name!r} of {path!r} is {error}, by `types`") from error


def common(found: list[ParquetFile], known: Mapping[str, pa.DataType]) -> pa.Schema:
    """The columns of all files, with their common types, or those that are known.

    Raises:
        StepFailed: if a column is of types in two files that have none in common.
    """
    fields: dict[str, tuple[pa.Field, str]] = {}
    for source in found:
        for field in source.schema:
            wanted = field.with_type(known.get(field.name, field.type)).with_nullable(True)
            one, first = fields.get(field.name, (wanted, source.path))
            try:
                _check_exact(one.type, wanted.type)
                (united,) = pa.unify_schemas([pa.schema([one]), pa.schema([wanted])], promote_options="permissive")
            except pa.ArrowTypeError as error:
                raise StepFailed(
                    f"the column {field.name!r} is {one.type} in {first!r} and {field.type} in {source.path!r}; give "
                    "its type in `types`"
                ) from error
            fields[field.name] = (united, first)
    return pa.schema([field for field, _ in fields.values()])


def _check_exact(one: pa.DataType, other: pa.DataType) -> None:
    """Arrow takes DOUBLE for the type that holds decimals and fractions."""
    both = (one, other)
    if any(map(pa.types.is_decimal, both)) and any(map(pa.types.is_floating, both)):
        raise pa.ArrowTypeError("no type holds decimals and fractions")


def copied(source: ParquetFile, schema: pa.Schema, folder: Path) -> Path | None:
    """A copy of the file, where nothing in it has to change; else None.

    No hard link: the copy goes to the lake, and must stay as it is when somebody writes into the file.
    """
    local = local_path(source.path)
    if not local or is_packed(source.path) or not source.is_plain or not _is_same(source.schema, schema):
        return None
    with readable(source.path):
        return Path(shutil.copyfile(local, folder / f"copy-{os.path.basename(local)}"))


def batches(source: ParquetFile, schema: pa.Schema, start: int, folder: Path) -> Iterator[pa.RecordBatch]:
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
        names = dict(zip(file.schema_arrow.names, source.schema.names, strict=True))
        for batch, finer in _read(file, most, groups, source.path, folder):
            rest, skip = batch.slice(skip), max(0, skip - batch.num_rows)
            if rest.num_rows:
                times = {names[old]: finer.column(old).slice(len(batch) - len(rest)) for old in finer.schema.names}
                yield _conformed(rest.rename_columns(source.schema.names), times, schema, source.path)


def _read(
    file: Any, most: int, groups: list[int], path: str, folder: Path
) -> Iterator[tuple[pa.RecordBatch, pa.RecordBatch]]:
    """The rows, and their times of 96 bits once more, as nanoseconds."""
    rows = file.iter_batches(most, row_groups=groups)
    if not (int96 := _int96_columns(file)):
        yield from ((batch, batch.select([])) for batch in rows)
        return
    with _opened(path, folder, "ns") as again:
        yield from _beside(rows, again.iter_batches(most, row_groups=groups, columns=int96))


def _conformed(batch: pa.RecordBatch, times: Mapping[str, pa.Array], schema: pa.Schema, path: str) -> pa.RecordBatch:
    columns = []
    for field in schema:
        if field.name not in batch.schema.names:
            columns.append(pa.nulls(batch.num_rows, field.type))
            continue
        column = batch.column(field.name)
        try:
            if field.name in times:
                column = _finest(column, times[field.name], field.type)
            columns.append(exact_casts.cast(column, field.type))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
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
def _opened(path: str, folder: Path, int96_unit: str = "us") -> Iterator[Any]:
    """A Parquet file; a packed one is unpacked first."""
    with readable(path), ExitStack() as stack:
        local = local_path(path)
        if is_packed(path):
            local = str(folder / f"unpacked-{int96_unit}.parquet")
            with open(local, "wb") as target:
                target.writelines(unpacked(path))
        try:
            raw = stack.enter_context(fsspec.open(local or path, "rb"))
            yield stack.enter_context(pq.ParquetFile(raw, coerce_int96_timestamp_unit=int96_unit))
        except pa.ArrowInvalid as error:
            raise StepFailed(f"the file {path!r} cannot be read as Parquet: {error}") from error


def _is_same(one: pa.Schema, other: pa.Schema) -> bool:
    return bool(one.names == other.names and one.types == other.types)


def _int96_columns(file: pq.ParquetFile) -> list[str]:
    """The columns that are such times, or have some within."""
    columns = [file.schema.column(n) for n in range(len(file.schema.names))]
    paths = [f"{column.path}." for column in columns if column.physical_type == "INT96"]
    return [name for name in file.schema_arrow.names if any(path.startswith(f"{name}.") for path in paths)]


def _beside(
    batches: Iterator[pa.RecordBatch], finer: Iterator[pa.RecordBatch]
) -> Iterator[tuple[pa.RecordBatch, pa.RecordBatch]]:
    """Each batch, and the same rows of the other reading, whose batches may end elsewhere."""
    held: pa.Table | None = None
    for batch in batches:
        while held is None or held.num_rows < batch.num_rows:
            more = pa.Table.from_batches([next(finer)])
            held = pa.concat_tables([held, more]) if held else more
        rows, held = held.slice(0, batch.num_rows).combine_chunks(), held.slice(batch.num_rows)
        yield batch, rows.to_batches()[0]


def _finest(column: Any, finer: Any, wanted: pa.DataType) -> Any:
    """A column of such times, read as microseconds and as nanoseconds, with all digits that it has.

    Raises:
        pa.ArrowInvalid: if the type that it is to have does not hold them.
    """
    if column.cast(finer.type, safe=False).equals(finer):  # beyond 2262 both have turned over in the same way
        return column
    if pa.types.is_timestamp(wanted) and wanted.unit == "ns" and not wanted.tz:
        column.cast(finer.type)  # refuses the years that nanoseconds do not reach
        return finer
    if not pa.types.is_timestamp(column.type):
        raise pa.ArrowInvalid("it has nanoseconds within, which no type here holds; write it with microseconds")
    rest = pc.subtract(finer.cast(pa.int64()), pc.multiply(column.cast(pa.int64()), 1_000))
    micros, nanos = column.cast(pa.string()), pc.utf8_lpad(rest.cast(pa.string()), 3, "0")
    texts = pc.if_else(pc.equal(rest, 0), micros, pc.binary_join_element_wise(micros, nanos, ""))
    if pa.types.is_string(wanted):
        return texts
    first = texts.filter(pc.not_equal(rest, 0))[0].as_py()
    raise pa.ArrowInvalid(f"{first!r} has nanoseconds; declare `timestamp(9)` or `string` by `types`")

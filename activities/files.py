"""Files as a source: their content's fingerprint, and their rows as Arrow batches."""

from __future__ import annotations

import glob
import hashlib
import io
import os
import zipfile
from collections.abc import Iterator
from typing import IO, Any

import fsspec
import ibis.expr.datatypes as dt
import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from entrepot.code import digest
from entrepot.errors import BadInput, StepFailed
from entrepot.sources import Files

_COMPRESSIONS = {".gz": "gzip", ".bz2": "bz2", ".xz": "xz", ".zip": "zip"}
_FORMATS = {".csv": "csv", ".tsv": "csv", ".txt": "csv", ".parquet": "parquet", ".json": "json", ".jsonl": "json"}


def found(files: Files) -> list[str]:
    """The files that a source names, sorted.

    Raises:
        BadInput: if there is none.
    """
    filesystem, path = fsspec.core.url_to_fs(files.path)
    paths = sorted(filesystem.glob(path)) if glob.has_magic(path) else [path] if filesystem.exists(path) else []
    if not paths:
        raise BadInput(f"there is no file {files.path!r}")
    return [filesystem.unstrip_protocol(p) for p in paths]


def fingerprint(files: Files) -> str:
    """The hash of the files' content and of how they are read. Names and dates do not count."""
    contents = []
    for path in found(files):
        with fsspec.open(path, "rb") as file:
            contents.append(hashlib.file_digest(file, "sha256").hexdigest())
    return digest([sorted(contents), files.format, list(files.nulls), dict(files.types), files.delimiter])


def batches(files: Files) -> Iterator[pa.RecordBatch]:
    """The rows of all files as Arrow batches, in bounded memory.

    Raises:
        BadInput: for a format that is not known.
        StepFailed: for a file that cannot be read, with its name and the reason.
    """
    for path in found(files):
        name, ending = os.path.splitext(path)
        compression = _COMPRESSIONS.get(ending)
        if compression:
            name, ending = os.path.splitext(name)
        format = files.format or _FORMATS.get(ending)
        if format is None:
            raise BadInput(f"cannot tell the format of {path!r} by its name; give `format`: csv, parquet or json")
        try:
            with fsspec.open(path, "rb") as raw:
                yield from _read(_unpacked(raw, compression), format, files)
        except (pa.ArrowInvalid, zipfile.BadZipFile, UnicodeDecodeError) as error:
            raise StepFailed(f"the file {path!r} cannot be read as {format}: {error}") from error


def _unpacked(raw: IO[bytes], compression: str | None) -> Any:
    if compression == "zip":
        archive = zipfile.ZipFile(raw)
        members = [m for m in archive.namelist() if not m.endswith("/") and not m.startswith("__MACOSX/")]
        if len(members) != 1:
            raise BadInput(f"an archive must hold one file, and holds {len(members)}: {members[:5]}")
        return archive.open(members[0])
    return pa.CompressedInputStream(raw, compression) if compression else raw


def _read(stream: Any, format: str, files: Files) -> Iterator[pa.RecordBatch]:
    types = {name: dt.dtype(text).to_pyarrow() for name, text in files.types.items()}
    if format == "csv":
        yield from pyarrow.csv.open_csv(
            stream,
            read_options=pyarrow.csv.ReadOptions(block_size=16 << 20),
            parse_options=pyarrow.csv.ParseOptions(delimiter=files.delimiter),
            convert_options=pyarrow.csv.ConvertOptions(
                null_values=list(files.nulls), strings_can_be_null=True, column_types=types
            ),
        )
    elif format == "parquet":
        seekable = stream if stream.seekable() else io.BytesIO(stream.read())
        yield from pyarrow.parquet.ParquetFile(seekable).iter_batches()
    else:
        schema = pa.schema(list(types.items())) if types else None
        options = pyarrow.json.ParseOptions(explicit_schema=schema)
        yield from pyarrow.json.read_json(stream, parse_options=options).to_batches()

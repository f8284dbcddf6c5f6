"""Parquet files on their way into a warehouse: written from Arrow batches, and rewritten with other types."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from entrepot.tracebacks import writing

if TYPE_CHECKING:
    import pyarrow as pa

FILE_BYTES = 128 * 2**20
"""Of one file, before compression: large enough for a bulk path, small enough for many to be read at once."""


def written(batches: Iterable[pa.RecordBatch], schema: pa.Schema, folder: str) -> list[str]:
    """Arrow batches as files of about `FILE_BYTES` in a folder; at least one, so that no rows are a table, too."""
    import pyarrow.parquet

    paths: list[str] = []
    writer: Any = None
    size = 0
    try:
        for batch in batches:
            if writer is None or size > FILE_BYTES:
                if writer is not None:
                    writer.close()
                paths.append(str(Path(folder, f"{len(paths):05d}.parquet")))
                writer, size = pyarrow.parquet.ParquetWriter(paths[-1], schema, compression="zstd"), 0
            with writing("the scratch file", paths[-1]):
                writer.write_batch(batch)
            size += batch.nbytes
        if writer is None:
            paths.append(str(Path(folder, "00000.parquet")))
            writer = pyarrow.parquet.ParquetWriter(paths[-1], schema)
    finally:
        if writer is not None:
            writer.close()
    return paths


def rewritten(path: str, folder: str, schema: pa.Schema, column: Callable[[pa.RecordBatch, pa.Field], pa.Array]) -> str:
    """A copy of a file with another schema, until the next takes its place in the folder. `column` gives a column of it
    from a batch of the file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    copy = str(Path(folder, "copy.parquet"))
    with (
        pq.ParquetFile(path) as file,
        writing("the scratch file", copy),
        pq.ParquetWriter(copy, schema, compression="zstd") as writer,
    ):
        for batch in file.iter_batches():
            columns = [column(batch, field) for field in schema]
            writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=schema))
    return copy

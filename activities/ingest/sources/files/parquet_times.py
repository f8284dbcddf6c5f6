"""Times of 96 bits in Parquet: nanoseconds of every year, for which Arrow has no type: it cuts digits, or years.

Read as microseconds they have all years, and read as nanoseconds all digits; where the two say the same, nothing is
lost.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq


def old_times(file: pq.ParquetFile) -> list[str]:
    """The columns that are such times, or have some within."""
    columns = [file.schema.column(n) for n in range(len(file.schema.names))]
    paths = [f"{column.path}." for column in columns if column.physical_type == "INT96"]
    return [name for name in file.schema_arrow.names if any(path.startswith(f"{name}.") for path in paths)]


def beside(
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


def finest(column: Any, finer: Any, wanted: pa.DataType) -> Any:
    """A column of old times, read as microseconds and as nanoseconds, with all digits that it has.

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

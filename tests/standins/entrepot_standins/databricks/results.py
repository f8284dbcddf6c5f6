"""A statement's result: Arrow batches in a file, and how the protocol describes and delivers them."""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from databricks.sql.thrift_api.TCLIService import ttypes as t
from pyspark.errors.exceptions.captured import unwrap_spark_exception
from pyspark.rdd import _load_from_socket
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as st
from pyspark.sql.pandas.serializers import ArrowCollectSerializer
from pyspark.sql.pandas.types import to_arrow_schema

LARGEST = 100 << 20  # bytes of one answer, if the client does not say
LARGE = 32 << 20  # estimated bytes from which a result goes through files
ROWS = 20_000  # of a batch
IN_MEMORY = 8 << 20  # bytes of a result that are kept without a file

NOTHING = pa.table({})  # what a statement without a result answers

KINDS: list[tuple[Any, int]] = [
    (pa.types.is_boolean, t.TTypeId.BOOLEAN_TYPE),
    (pa.types.is_int8, t.TTypeId.TINYINT_TYPE),
    (pa.types.is_int16, t.TTypeId.SMALLINT_TYPE),
    (pa.types.is_int32, t.TTypeId.INT_TYPE),
    (pa.types.is_int64, t.TTypeId.BIGINT_TYPE),
    (pa.types.is_float32, t.TTypeId.FLOAT_TYPE),
    (pa.types.is_float64, t.TTypeId.DOUBLE_TYPE),
    (pa.types.is_decimal, t.TTypeId.DECIMAL_TYPE),
    (pa.types.is_timestamp, t.TTypeId.TIMESTAMP_TYPE),
    (pa.types.is_date, t.TTypeId.DATE_TYPE),
    (pa.types.is_binary, t.TTypeId.BINARY_TYPE),
    (pa.types.is_map, t.TTypeId.MAP_TYPE),  # before lists: Arrow's map is one of them
    (pa.types.is_list, t.TTypeId.ARRAY_TYPE),
    (pa.types.is_struct, t.TTypeId.STRUCT_TYPE),
    (pa.types.is_null, t.TTypeId.NULL_TYPE),
]


class Result:
    """Rows to be fetched once, from the first to the last. They are all here, so fetching them cannot fail."""

    def __init__(self, schema: pa.Schema, scratch: Path, staging: bool = False) -> None:
        self.schema = schema
        self.staging = staging
        self.modified: int | None = None  # how many rows the statement changed, if it is one that changes rows
        self._file = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY, dir=scratch)  # noqa: SIM115  # closed by close
        self._batches: list[tuple[int, int, int]] = []  # of each: where in the file, how long, how many rows
        self._next = 0
        self._fetched = 0

    def add(self, batch: pa.RecordBatch) -> None:
        """Appends rows."""
        data = batch.serialize()
        where = self._file.seek(0, 2)
        self._file.write(data)
        self._batches.append((where, data.size, batch.num_rows))

    def order(self, order: list[int]) -> None:
        """Puts the batches in order: the n-th is the one that came as `order[n]`. Empty ones are dropped."""
        self._batches = [self._batches[i] for i in order if self._batches[i][2]]

    def close(self) -> None:
        """Frees the file."""
        self._file.close()

    def metadata(self) -> t.TGetResultSetMetadataResp:
        """The columns, as the client asks for them."""
        columns = [t.TColumnDesc(f.name, _thrift_type(f.type), n + 1) for n, f in enumerate(self.schema)]
        return t.TGetResultSetMetadataResp(
            status=t.TStatus(statusCode=t.TStatusCode.SUCCESS_STATUS),
            schema=t.TTableSchema(columns),
            resultFormat=t.TSparkRowSetType.ARROW_BASED_SET,
            lz4Compressed=False,
            arrowSchema=self.schema.serialize().to_pybytes(),
            isStagingOperation=self.staging,
        )

    def fetch(self, rows: int, size: int) -> t.TFetchResultsResp:
        """The next rows: at most so many rows, and at most so many bytes, unless the first batch is larger."""
        start, batches = self._fetched, []
        for data, number in self._take(max(rows, 1), size):
            batches.append(t.TSparkArrowBatch(batch=data, rowCount=number))
            self._fetched += number
        return t.TFetchResultsResp(
            status=t.TStatus(statusCode=t.TStatusCode.SUCCESS_STATUS),
            hasMoreRows=self._next < len(self._batches),
            resultSetMetadata=self.metadata(),
            results=t.TRowSet(startRowOffset=start, rows=[], arrowBatches=batches),
        )

    def _take(self, rows: int, size: int) -> Iterator[tuple[bytes, int]]:
        first = True
        while self._next < len(self._batches):
            where, length, number = self._batches[self._next]
            if not first and (number > rows or length > size):
                return
            if number > rows:
                self._split(rows)
                continue
            self._file.seek(where)
            yield self._file.read(length), number
            first, rows, size = False, rows - number, size - length
            self._next += 1

    def _split(self, rows: int) -> None:
        """Makes the next batch two, the first with so many rows: a client may ask for fewer than a batch has."""
        where, length, _ = self._batches[self._next]
        self._file.seek(where)
        batch = pa.ipc.read_record_batch(pa.py_buffer(self._file.read(length)), self.schema)
        rest = self._batches[self._next + 1 :]
        del self._batches[self._next :]
        self.add(batch.slice(0, rows))
        self.add(batch.slice(rows))
        self._batches += rest


def of_table(table: pa.Table, scratch: Path, staging: bool = False) -> Result:
    """A result that is made here."""
    result = Result(table.schema, scratch, staging)
    for batch in table.to_batches():
        result.add(batch)
    return result


def of_frame(frame: DataFrame, scratch: Path) -> Result:
    """Runs a query, and keeps its rows in a file."""
    if not frame.schema.fields:
        return of_table(NOTHING, scratch)  # a statement without a result was run when Spark gave its frame
    frame = _intervals_as_text(frame)
    result = Result(_arrow_schema(frame.schema), scratch)
    try:
        if _is_large(frame) and not _has_void(frame):
            _through_files(frame, result, scratch)
        else:
            _through_memory(frame, result)
    except BaseException:
        result.close()
        raise
    return result


def _is_large(frame: DataFrame) -> bool:
    """Whether the result may be large, as Spark estimates it before running."""
    return int(str(frame._jdf.queryExecution().optimizedPlan().stats().sizeInBytes())) > LARGE


def _has_void(frame: DataFrame) -> bool:
    """Whether a column is nothing but NULL, which Parquet cannot hold."""
    return "void" in frame.schema.simpleString()


def _through_memory(frame: DataFrame, result: Result) -> None:
    """The quick way: Spark sends the rows of each partition as a whole."""
    port, secret, server = frame._jdf.collectAsArrowToPython()
    try:
        for item in _load_from_socket((port, secret), ArrowCollectSerializer()):
            if isinstance(item, list):
                result.order(item)
            else:
                result.add(item)
    finally:
        with unwrap_spark_exception():
            server.getResult()  # raises what failed in Java


def _through_files(frame: DataFrame, result: Result, scratch: Path) -> None:
    """The way of large results: memory holds no partition as a whole. The files' names are in the rows' order."""
    folder = scratch / f"result-{uuid.uuid4().hex}"
    numbered = frame.toDF(*[f"c{n}" for n in range(len(frame.columns))])  # two columns may have one name
    try:
        numbered.write.option("compression", "lz4").parquet(f"file:{folder}")
        for path in sorted(folder.glob("part-*")):
            for batch in pq.ParquetFile(path).iter_batches(ROWS):
                arrays = [column.cast(f.type) for column, f in zip(batch.columns, result.schema, strict=True)]
                result.add(pa.RecordBatch.from_arrays(arrays, schema=result.schema))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _arrow_schema(schema: st.StructType) -> pa.Schema:
    # Databricks names the time zone so; Spark's batches have no schema of their own that could differ.
    def zone(field: pa.Field) -> pa.Field:
        return field.with_type(pa.timestamp("us", tz="Etc/UTC")) if _has_zone(field.type) else field

    return pa.schema([zone(field) for field in to_arrow_schema(schema)])


def _has_zone(kind: pa.DataType) -> bool:
    return pa.types.is_timestamp(kind) and kind.tz is not None


def _intervals_as_text(frame: DataFrame) -> DataFrame:
    """The client asks for intervals as text, as pyarrow cannot read Arrow's."""
    kinds = [field.dataType for field in frame.schema]
    if not any(isinstance(kind, st.DayTimeIntervalType | st.YearMonthIntervalType) for kind in kinds):
        return frame
    names = frame.columns
    numbered = frame.toDF(*[f"c{n}" for n in range(len(names))])  # two columns may have one name
    return numbered.select(
        *[
            (F.col(f"c{n}").cast("string") if "interval" in kind.typeName() else F.col(f"c{n}")).alias(names[n])
            for n, kind in enumerate(kinds)
        ]
    )


def _thrift_type(kind: pa.DataType) -> t.TTypeDesc:
    number = next((number for test, number in KINDS if test(kind)), t.TTypeId.STRING_TYPE)
    qualifiers = None
    if pa.types.is_decimal(kind):
        value = t.TTypeQualifierValue
        numbers = {"precision": value(i32Value=kind.precision), "scale": value(i32Value=kind.scale)}
        qualifiers = t.TTypeQualifiers(numbers)
    entry = t.TPrimitiveTypeEntry(type=number, typeQualifiers=qualifiers)
    return t.TTypeDesc([t.TTypeEntry(primitiveEntry=entry)])

"""DESCRIBE ... AS JSON, which Spark 3.5 does not have, and DESCRIBE DETAIL, which Iceberg's tables do not know."""

from __future__ import annotations

import json
import re
from typing import Any

import pyarrow as pa
import results
from names import FLAGS, NAME, parts
from pyspark.sql import types as st
from results import Result
from sessions import Session

AS_JSON = re.compile(rf"DESC(?:RIBE)?\s+(?:TABLE\s+)?EXTENDED\s+(?P<name>{NAME})\s+AS\s+JSON$", FLAGS)

DETAIL = re.compile(rf"DESC(?:RIBE)?\s+DETAIL\s+(?P<name>{NAME})$", FLAGS)


def run(session: Session, statement: str) -> Result | None:
    """The result of the statement, or None if it is another."""
    if match := DETAIL.match(statement):
        return results.of_table(_detail(session, match["name"]), session.engine.scratch)
    match = AS_JSON.match(statement)
    if match is None:
        return None
    name = parts(match["name"])
    fields = session.spark.table(match["name"]).schema.fields
    columns = [{"name": f.name, "type": _type(f.dataType), "nullable": f.nullable} for f in fields]
    text = json.dumps({"table_name": name[-1], "columns": columns})
    return results.of_table(pa.table({"json_metadata": [text]}), session.engine.scratch)


def _detail(session: Session, name: str) -> pa.Table:
    """What the table's files have in its newest state."""
    [row] = session.spark.sql(f"SELECT count(*) AS n, sum(file_size_in_bytes) AS size FROM {name}.files").collect()
    return pa.table(
        {"format": ["iceberg"], "name": [".".join(parts(name))], "numFiles": [row.n], "sizeInBytes": [row.size or 0]}
    )


def _type(kind: st.DataType) -> dict[str, Any]:
    if isinstance(kind, st.ArrayType):
        return {"name": "array", "element_type": _type(kind.elementType), "element_nullable": kind.containsNull}
    if isinstance(kind, st.MapType):
        both = {"key_type": _type(kind.keyType), "value_type": _type(kind.valueType)}
        return {"name": "map", **both, "value_nullable": kind.valueContainsNull}
    if isinstance(kind, st.StructType):
        fields = [{"name": f.name, "type": _type(f.dataType), "nullable": f.nullable} for f in kind]
        return {"name": "struct", "fields": fields}
    if isinstance(kind, st.DecimalType):
        return {"name": "decimal", "precision": kind.precision, "scale": kind.scale}
    name = kind.simpleString()
    return {"name": {"timestamp": "timestamp_ltz"}.get(name, name)}

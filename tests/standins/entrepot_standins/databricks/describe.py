"""DESCRIBE ... AS JSON, which Spark 3.5 does not have."""

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


def run(session: Session, statement: str) -> Result | None:
    """The result of the statement, or None if it is another."""
    match = AS_JSON.match(statement)
    if match is None:
        return None
    name = parts(match["name"])
    fields = session.spark.table(match["name"]).schema.fields
    columns = [{"name": f.name, "type": _type(f.dataType), "nullable": f.nullable} for f in fields]
    text = json.dumps({"table_name": name[-1], "columns": columns})
    return results.of_table(pa.table({"json_metadata": [text]}), session.engine.scratch)


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

"""The information schema, made anew for each statement that asks for it, and the lists that it is made from."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from engine import CATALOG
from names import PART, parts, quoted
from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame
from pyspark.sql import types as st
from sessions import Session

SCHEMAS = {
    "schemata": "catalog_name string, schema_name string, schema_owner string, comment string",
    "tables": "table_catalog string, table_schema string, table_name string, table_type string,"
    " is_insertable_into string, data_source_format string, comment string",
    "views": "table_catalog string, table_schema string, table_name string, view_definition string",
    "columns": "table_catalog string, table_schema string, table_name string, column_name string,"
    " ordinal_position int, is_nullable string, full_data_type string, data_type string,"
    " numeric_precision int, numeric_scale int, comment string",
}
TABLE = re.compile(
    # Begins where a name begins, or a long word would be tried from each of its letters.
    rf"(?<![\w$])(?:(?P<catalog>{PART})\s*\.\s*)?`?information_schema`?\s*\.\s*`?(?P<table>{'|'.join(SCHEMAS)})`?(?![\w(])",
    re.IGNORECASE,
)
# Spark's own names of types, where the information schema has others.
TYPES = {"bigint": "LONG", "tinyint": "BYTE", "smallint": "SHORT"}


@dataclass(frozen=True)
class Object:
    """A table or a view."""

    schema: str
    name: str
    kind: str

    @property
    def quoted(self) -> str:
        """Its full name as SQL."""
        return quoted(CATALOG, self.schema, self.name)


def schemas(session: Session) -> list[str]:
    """The schemas of the catalog."""
    return [parts(row[0])[0].lower() for row in session.spark.sql(f"SHOW SCHEMAS IN {CATALOG}").collect()]


def has_schema(session: Session, schema: str) -> bool:
    """Whether there is such a schema."""
    return schema.lower() in schemas(session)


def objects(session: Session, schema: str) -> list[Object]:
    """The tables and views of a schema."""
    kinds = {"TABLE": "MANAGED", "VIEW": "VIEW"}
    found = session.engine.listed(schema)
    return [Object(schema.lower(), name.lower(), kinds[kind]) for name, kind in found]


@contextmanager
def views(session: Session, sql: str) -> Iterator[str]:
    """The statement with a temporary view for each table of the information schema, for as long as it runs."""
    made: list[str] = []

    def view(match: re.Match[str]) -> str:
        catalog = parts(match["catalog"])[0].lower() if match["catalog"] else CATALOG
        if catalog != "system":
            session.known(catalog)
        kind = match["table"].lower()
        name = f"information_schema_{kind}_{uuid.uuid4().hex}"
        rows = _rows(session, kind, _asked(sql))
        _frame(session, rows, SCHEMAS[kind]).createOrReplaceTempView(name)
        made.append(name)
        return name

    try:
        yield TABLE.sub(view, sql)
    finally:
        for name in made:
            session.spark.catalog.dropTempView(name)


def _frame(session: Session, rows: list[tuple[Any, ...]], schema: str) -> DataFrame:
    """Rows as a frame. Written as SQL, since Spark answers from such rows without a job."""
    columns = [column.split() for column in schema.split(",")]
    select = ", ".join(f"CAST(col{n} AS {kind}) AS {name}" for n, (name, kind) in enumerate(columns, 1))
    values = ", ".join("(" + ", ".join(map(_literal, row)) + ")" for row in rows)
    nothing = "(" + ", ".join(["NULL"] * len(columns)) + ")"
    return session.spark.sql(f"SELECT {select} FROM VALUES {values or nothing} {'' if rows else 'LIMIT 0'}")


def _literal(value: Any) -> str:
    if value is None:
        return "NULL"
    return str(value) if isinstance(value, int) else "'" + re.sub(r"(['\\])", r"\\\1", value) + "'"


def _asked(sql: str) -> set[str] | None:
    """The schemas that a statement names: to list one schema is quick, and to list all may not be."""
    found = re.findall(r"(?:table_schema|schema_name)`?\s*=\s*'([^']+)'", sql, re.IGNORECASE)
    return {name.lower() for name in found} or None


def _rows(session: Session, kind: str, asked: set[str] | None) -> list[tuple[Any, ...]]:
    names = [name for name in schemas(session) if asked is None or name in asked]
    if kind == "schemata":
        return [(CATALOG, name, None, None) for name in names]
    found = [entry for name in names for entry in objects(session, name)]
    if kind == "tables":
        return [(CATALOG, o.schema, o.name, o.kind, *_storage(o), None) for o in found]
    if kind == "views":
        return [(CATALOG, o.schema, o.name, None) for o in found if o.kind == "VIEW"]
    return [row for entry in found for row in _columns(session, entry)]


def _storage(entry: Object) -> tuple[str, str | None]:
    return ("NO", None) if entry.kind == "VIEW" else ("YES", "DELTA")


def _columns(session: Session, entry: Object) -> list[tuple[Any, ...]]:
    try:
        fields = session.spark.table(entry.quoted).schema.fields
    except AnalysisException:
        return []  # dropped since it was listed, or a view of what is not there any more
    return [_column(entry, number, field) for number, field in enumerate(fields)]


def _column(entry: Object, number: int, field: st.StructField) -> tuple[Any, ...]:
    kind = field.dataType
    text = kind.simpleString()
    short = TYPES.get(text, re.split(r"[<(]", text)[0].upper())
    precision, scale = (kind.precision, kind.scale) if isinstance(kind, st.DecimalType) else (None, None)
    null = "YES" if field.nullable else "NO"
    where = (CATALOG, entry.schema, entry.name, field.name)
    return (*where, number, null, text, short, precision, scale, field.metadata.get("comment"))

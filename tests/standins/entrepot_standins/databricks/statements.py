"""Runs a statement of Databricks' SQL: by Spark where Spark knows it, by other means where it does not."""

from __future__ import annotations

import datetime
import re
from decimal import Decimal
from typing import Any

import affected
import describe
import dialect
import information_schema
import results
import volumes
from databricks.sql.thrift_api.TCLIService import ttypes as t
from engine import CATALOG
from names import FLAGS, NAME, PART, parts, quoted
from pyspark.errors import AnalysisException, ParseException
from pyspark.sql import DataFrame
from results import Result
from sessions import Session

INSERT = re.compile(
    rf"(?P<head>INSERT\s+(?:INTO|OVERWRITE)\s+(?:TABLE\s+)?(?P<table>{NAME}))\s*"
    rf"(?:\((?P<columns>\s*{PART}(?:\s*,\s*{PART})*\s*)\))?\s*(?P<query>(?:VALUES|SELECT|WITH|FROM|\().*)$",
    FLAGS,
)

# Statements that name a table to be made, and those that name a schema. Spark would make a table in a schema that
# is not there, and take an unknown catalog for a schema.
NAMES_TABLE = re.compile(
    rf"CREATE\s+(?:OR\s+REPLACE\s+)?(?:TABLE|VIEW)\s+(?:IF\s+NOT\s+EXISTS\s+)?(?P<name>{NAME})"
    rf"|ALTER\s+(?:TABLE|VIEW)\s+{NAME}\s+RENAME\s+TO\s+(?P<new>{NAME})",
    FLAGS,
)
NAMES_SCHEMA = re.compile(
    rf"SHOW\s+(?:TABLES|VIEWS)\s+(?:IN|FROM)\s+(?P<shown>{NAME})|USE\s+(?:(?:SCHEMA|DATABASE)\s+)?(?!CATALOG\b)(?P<used>{NAME})$",
    FLAGS,
)
NAMES_CATALOG = re.compile(
    rf"(?:CREATE|DROP)\s+(?:SCHEMA|DATABASE)\s+(?:IF\s+(?:NOT\s+)?EXISTS\s+)?(?P<catalog>{PART})\s*\.\s*{PART}"
    rf"|SHOW\s+(?:SCHEMAS|DATABASES)\s+(?:IN|FROM)\s+(?P<shown>{PART})",
    FLAGS,
)

# What Databricks knows and a stand-in can do without: it answers that it was done.
IGNORED = re.compile(
    r"(?:OPTIMIZE|VACUUM|ANALYZE|GRANT|REVOKE)\b|ALTER\s+.*\b(?:SET|UNSET)\s+TAGS\b"
    r"|ALTER\s+TABLE.*\b(?:CLUSTER\s+BY|ADD\s+(?:CONSTRAINT|FOREIGN|PRIMARY))\b",
    FLAGS,
)


def run(session: Session, text: str, parameters: list[t.TSparkParameter] | None, base: str) -> Result:
    """Runs one statement. `base`: the address of this server, where files of volumes go."""
    statement = _bare(text)
    _check(session, statement)
    special = _special(session, statement, base)
    if special is not None:
        return special
    with information_schema.views(session, dialect.rewrite(session, statement)) as sql:
        values = _values(parameters)
        if affected.KIND.match(sql):
            return affected.run(session, sql, lambda: _frame(session, sql, values))
        frame = _frame(session, sql, values)
        if affected.CREATES.match(sql):
            return affected.nothing(session)
        return results.of_frame(_in_small_letters(sql, frame), session.engine.scratch)


def _bare(text: str) -> str:
    """The statement without the comments before it and the semicolon after it."""
    return re.sub(r"^(?:\s|--[^\n]*\n|/\*.*?\*/)+", "", text, flags=re.DOTALL).rstrip().rstrip(";").rstrip()


def _check(session: Session, statement: str) -> None:
    """Raises DatabricksError for a catalog or a schema that is not there."""
    if match := NAMES_TABLE.match(statement):
        session.exists(*session.full(match["name"] or match["new"])[:2])
    elif match := NAMES_SCHEMA.match(statement):
        found = parts(match["shown"] or match["used"])
        session.exists(*[CATALOG, *found][-2:])
    elif match := NAMES_CATALOG.match(statement):
        session.known(parts(match["catalog"] or match["shown"])[0])


def _special(session: Session, statement: str, base: str) -> Result | None:
    """The result of a statement that Spark has no word for, or None if this is none."""
    found = volumes.run(session, statement, base)
    if found is None:
        found = describe.run(session, statement)
    if found is None and (match := re.match(rf"USE\s+CATALOG\s+(?P<name>{PART})$", statement, FLAGS)):
        session.use(parts(match["name"])[0], "default")
        found = results.of_table(results.NOTHING, session.engine.scratch)
    if found is None and (
        match := re.match(
            rf"DROP\s+(?:SCHEMA|DATABASE)\s+(?P<exists>IF\s+EXISTS\s+)?(?P<name>{NAME})\s+CASCADE$", statement, FLAGS
        )
    ):
        _drop_schema(session, match["name"], bool(match["exists"]))
        found = results.of_table(results.NOTHING, session.engine.scratch)
    if found is None and IGNORED.match(statement):
        found = results.of_table(results.NOTHING, session.engine.scratch)
    return found


def _drop_schema(session: Session, name: str, may_miss: bool) -> None:
    """Drops what is in a schema, and the schema: Iceberg drops none but an empty one."""
    schema = parts(name)[-1]
    if information_schema.has_schema(session, schema):
        for entry in information_schema.objects(session, schema):
            session.spark.sql(f"DROP {'VIEW' if entry.kind == 'VIEW' else 'TABLE'} IF EXISTS {entry.quoted}")
        volumes.drop_all(session, schema)
    session.spark.sql(f"DROP SCHEMA {'IF EXISTS' if may_miss else ''} {name}")


def _frame(session: Session, sql: str, values: Any) -> DataFrame:
    """Gives a statement to Spark, and if Spark refuses words that Databricks knows, once more in Spark's words."""
    try:
        return session.spark.sql(sql, args=values)
    except ParseException as error:
        try:
            other = dialect.translate(session, sql)
        except Exception:
            raise error from None
    except AnalysisException as error:
        other = _with_casts(session, sql, error)
    return session.spark.sql(other, args=values)


def _with_casts(session: Session, sql: str, error: AnalysisException) -> str:
    """An INSERT with the casts that Databricks adds by itself, and NULL for the columns that it leaves out."""
    match = INSERT.match(sql)
    if match is None or not re.search("CANNOT_SAFELY_CAST|CANNOT_FIND_DATA", str(error)):
        raise error
    fields = session.spark.table(match["table"]).schema.fields
    given = parts(match["columns"]) if match["columns"] else [field.name for field in fields]
    place = {name.lower(): n for n, name in enumerate(given)}
    casts = [
        f"CAST({f'c{place[f.name.lower()]}' if f.name.lower() in place else 'NULL'} AS {f.dataType.simpleString()})"
        for f in fields
    ]
    names = ", ".join(f"c{n}" for n in range(len(given)))
    return f"{match['head']} SELECT {', '.join(casts)} FROM ({match['query']}) AS q({names})"


def _in_small_letters(sql: str, frame: DataFrame) -> DataFrame:
    """Names of tables and schemas in lists are in small letters, as Unity Catalog keeps them."""
    if not re.match(r"SHOW\s+(?:TABLES|VIEWS|SCHEMAS|DATABASES)\b", sql, FLAGS):
        return frame
    if re.match(r"SHOW\s+(?:SCHEMAS|DATABASES)\b", sql, FLAGS):
        frame = frame.withColumnRenamed("namespace", "databaseName")
    else:
        frame = frame.withColumnRenamed("namespace", "database")
    return frame.selectExpr(
        *[
            f"lower({quoted(name)}) AS {quoted(name)}" if kind == "string" else quoted(name)
            for name, kind in frame.dtypes
        ]
    )


def _values(parameters: list[t.TSparkParameter] | None) -> dict[str, Any] | list[Any] | None:
    if not parameters:
        return None
    if parameters[0].name:
        return {parameter.name: _value(parameter) for parameter in parameters}
    return [_value(parameter) for parameter in parameters]


def _value(parameter: t.TSparkParameter) -> Any:
    """A parameter as Python has it: Spark takes no casts here, but finds the same type by itself."""
    kind = (parameter.type or "STRING").upper()
    if parameter.value is None or parameter.value.stringValue is None or kind == "VOID":
        return None
    text = parameter.value.stringValue
    if kind in {"TINYINT", "SMALLINT", "INT", "BIGINT"}:
        return int(text)
    if kind in {"FLOAT", "DOUBLE"}:
        return float(text)
    if kind == "BOOLEAN":
        return text.lower() == "true"
    if kind.startswith("DECIMAL"):
        return Decimal(text)
    if kind == "DATE":
        return datetime.date.fromisoformat(text)
    if kind.startswith("TIMESTAMP"):
        return datetime.datetime.fromisoformat(text)
    return text

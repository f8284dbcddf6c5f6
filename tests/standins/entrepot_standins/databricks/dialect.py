"""Databricks' SQL in Spark's words, where a change of the text is enough."""

from __future__ import annotations

import re

import sqlglot
import volumes
from names import FLAGS, NAME, quoted
from pyspark.errors import AnalysisException
from sessions import Session
from sqlglot import expressions as sge
from sqlglot.optimizer.qualify import qualify


def rewrite(session: Session, sql: str) -> str:
    """The statement with Spark's words for what both know by different ones."""
    sql = volumes.paths(session, volumes.read_files(session, sql))
    if re.match(r"(?:CREATE|REPLACE)\b", sql, FLAGS):
        sql = _create(sql)
    rename = re.match(rf"(?P<head>ALTER\s+(?:TABLE|VIEW)\s+{NAME}\s+RENAME\s+TO\s+)(?P<name>{NAME})$", sql, FLAGS)
    if rename:  # Iceberg takes the catalog in the new name for a schema
        sql = rename["head"] + quoted(*session.full(rename["name"])[1:])
    add = re.match(rf"(?P<head>ALTER\s+TABLE\s+{NAME}\s+ADD\s+COLUMN)S?\s+(?!\()(?P<column>.+)$", sql, FLAGS)
    if add:
        sql = f"{add['head']}S ({add['column']})"
    version = "named_struct('dbr_version', 'stand-in', 'dbsql_version', 'stand-in')"
    return re.sub(r"\bcurrent_version\s*\(\s*\)", version, sql, flags=FLAGS)


def _create(sql: str) -> str:
    """A table of Delta is one of Iceberg here. Clusters and keys are left out: they change no result."""
    clone = re.match(
        rf"(?P<head>CREATE\s+(?:OR\s+REPLACE\s+)?TABLE\s+(?:IF\s+NOT\s+EXISTS\s+)?{NAME})"
        r"\s+(?:SHALLOW|DEEP)\s+CLONE\s+(?P<source>.+)$",
        sql,
        FLAGS,
    )
    if clone:
        sql = f"{clone['head']} AS SELECT * FROM {clone['source']}"
    sql = re.sub(r"\bUSING\s+DELTA\b", "USING iceberg", sql, count=1, flags=FLAGS)
    sql = re.sub(r"\bCLUSTER\s+BY\s+(?:AUTO|NONE|\([^)]*\))", "", sql, count=1, flags=FLAGS)
    if not re.match(r"CREATE\s+(?:OR\s+REPLACE\s+)?TABLE\b", sql, FLAGS):
        return sql
    return re.sub(r",\s*(?:CONSTRAINT\s+\S+\s+)?PRIMARY\s+KEY\s*\([^)]*\)", "", sql, flags=FLAGS)


def translate(session: Session, sql: str) -> str:
    """A statement that Spark cannot parse (QUALIFY, `* EXCEPT`, `a:b`), by sqlglot."""
    tree = sqlglot.parse_one(sql, read="databricks")
    if any(star.args.get("except_") or star.args.get("except") for star in tree.find_all(sge.Star)):
        tree = qualify(
            tree,
            schema=_columns(session, tree),
            catalog="main",
            db=session.schema,
            dialect="databricks",
            validate_qualify_columns=False,
            isolate_tables=False,
            expand_alias_refs=False,
        )
    return tree.sql("spark")


def _columns(session: Session, tree: sge.Expression) -> dict[str, dict[str, dict[str, dict[str, str]]]]:
    """The columns of each table in a statement: a star without some of them is written as the others."""
    schema: dict[str, dict[str, dict[str, dict[str, str]]]] = {}
    for table in tree.find_all(sge.Table):
        name = session.full(quoted(*[part for part in (table.catalog, table.db, table.name) if part]))
        try:
            fields = session.spark.table(quoted(*name)).schema
        except AnalysisException:
            continue  # a name of the statement's own, such as that of a WITH
        columns = {field.name: field.dataType.simpleString() for field in fields}
        schema.setdefault(name[0], {}).setdefault(name[1], {})[name[2]] = columns
    return schema

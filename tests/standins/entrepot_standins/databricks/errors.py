"""What Spark and Iceberg say when they fail, in the words of Databricks: a class, a sentence and an SQLSTATE."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from pyspark import SparkContext

STATES = {
    "DELTA_CONCURRENT_APPEND": "2D521",
    "DELTA_CONCURRENT_DELETE_DELETE": "2D521",
    "DELTA_METADATA_CHANGED": "2D521",
    "FILE_ALREADY_EXISTS": "42K05",
    "INSUFFICIENT_PERMISSIONS": "42501",
    "NO_SUCH_CATALOG_EXCEPTION": "42704",
    "PATH_NOT_FOUND": "42K03",
    "PARSE_SYNTAX_ERROR": "42601",
    "SCHEMA_NOT_EMPTY": "2BP01",
    "SCHEMA_NOT_FOUND": "42704",
    "TABLE_OR_VIEW_ALREADY_EXISTS": "42P07",
    "TABLE_OR_VIEW_NOT_FOUND": "42P01",
    "VOLUME_DOES_NOT_EXIST": "22000",
}

# Exceptions of Iceberg and Spark's catalog that carry no class, by the end of their names and by their texts.
# A conflict is told as Delta tells it, so that a client that knows Databricks' errors knows these. Iceberg is stricter
# than Delta: an UPDATE fails here for rows that another session only added to the table meanwhile.
CAUSES = [
    ("ValidationException", "missing data files|conflicting delete", "DELTA_CONCURRENT_DELETE_DELETE"),
    ("ValidationException", "conflicting", "DELTA_CONCURRENT_APPEND"),
    ("CommitFailedException", "", "DELTA_METADATA_CHANGED"),
    ("NamespaceNotEmptyException", "", "SCHEMA_NOT_EMPTY"),
    ("NoSuchNamespaceException", "", "SCHEMA_NOT_FOUND"),
    ("NoSuchTableException", "", "TABLE_OR_VIEW_NOT_FOUND"),
    ("NoSuchViewException", "", "TABLE_OR_VIEW_NOT_FOUND"),
    ("AlreadyExistsException", "", "TABLE_OR_VIEW_ALREADY_EXISTS"),
]

CLASS = re.compile(r"\s*\[([A-Z0-9_.]+)\]\s*(.*)", re.DOTALL)


class DatabricksError(Exception):
    """A failure as a client of Databricks sees it."""

    def __init__(self, name: str, text: str, state: str | None = None) -> None:
        self.name = name
        self.state = state or STATES.get(name, "42000")
        super().__init__(f"[{name}] {text} SQLSTATE: {self.state}")


def translate(error: Exception, catalogs: list[str]) -> DatabricksError:
    """A failure of a statement in Databricks' words. `catalogs`: those that there are."""
    if isinstance(error, DatabricksError):
        return error
    for kind, text in _chain(error):
        for suffix, pattern, name in CAUSES:
            if kind.endswith(suffix) and re.search(pattern, text) and not CLASS.match(text):
                return DatabricksError(name, _first_lines(text))
    text = _first_lines(_text(error))
    if not (known := CLASS.match(text)):
        return DatabricksError("INTERNAL_ERROR", text, "XX000")
    name, text = known[1], known[2]
    return _unknown_catalog(name, text, catalogs) or DatabricksError(name, text, _state(name))


def _unknown_catalog(name: str, text: str, catalogs: list[str]) -> DatabricksError | None:
    """Spark takes an unknown catalog for a schema of the current one; Databricks says that there is no such catalog."""
    if name not in {"TABLE_OR_VIEW_NOT_FOUND", "SCHEMA_NOT_FOUND", "REQUIRES_SINGLE_PART_NAMESPACE"}:
        return None
    quoted = re.search(r"`[^`]+`(?:\.`[^`]+`)+", text)
    parts = re.findall(r"`([^`]+)`", quoted[0]) if quoted else []
    # What Spark looked for in its own catalog is written with that catalog before it.
    parts = parts[1:] if len(parts) > (3 if name == "TABLE_OR_VIEW_NOT_FOUND" else 2) else parts
    needed = 3 if name == "TABLE_OR_VIEW_NOT_FOUND" else 2
    if len(parts) < needed or parts[0].lower() in catalogs:
        return None
    return no_catalog(parts[0])


def no_catalog(name: str) -> DatabricksError:
    """There is no catalog of that name."""
    return DatabricksError(
        "NO_SUCH_CATALOG_EXCEPTION", f"Catalog '{name}' was not found. Please verify the catalog name."
    )


def _chain(error: Exception) -> Iterator[tuple[str, str]]:
    """The Java exceptions behind an error, each with the name of its class and its text."""
    java: Any = getattr(error, "java_exception", None) or getattr(error, "_origin", None)
    while java is not None:
        yield java.getClass().getName(), str(java.getMessage() or "")
        java = java.getCause()


def _text(error: Exception) -> str:
    java: Any = getattr(error, "java_exception", None)
    if java is None:
        return str(getattr(error, "desc", None) or getattr(error, "_desc", None) or error)
    texts = [text for _, text in _chain(error)]
    # A failed job wraps what failed in it; the one with a class says it in the user's words.
    return next((text for text in texts if CLASS.match(text)), texts[0])


def _first_lines(text: str) -> str:
    """The text without Java's stack and Spark's plan."""
    return re.split(r"\n\s+at |\n'|;\n|\n\nJVM stacktrace|\nDriver stacktrace", text)[0].strip()[:4000]


def _state(name: str) -> str | None:
    """The SQLSTATE that Spark knows for a class: not every exception of Spark says its own."""
    context = SparkContext._active_spark_context
    return context._jvm.org.apache.spark.SparkThrowableHelper.getSqlState(name) if context is not None else None

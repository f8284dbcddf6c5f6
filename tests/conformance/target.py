"""The backend that a suite runs against: its settings, its schemas, and the input tables within."""

from __future__ import annotations

import itertools
import os
import re
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ibis
import pyarrow as pa
import pyarrow.parquet

from entrepot import backends
from entrepot.backends import Backend, QueryTag, Session, TableName
from entrepot.backends.base import physical
from tests.conformance.operations import tables
from tests.conformance.operations.tpch import data

BACKENDS = ("duckdb", "snowflake", "bigquery", "databricks")
LABEL = QueryTag("conformance", "conformance", "case")
TABLES = {**tables.TABLES, **{f"tpch_{name}": table for name, table in data.TABLES.items()}}
"""The input tables of the cases."""


def is_live() -> bool:
    """Whether real accounts are to be used."""
    return os.environ.get("ENTREPOT_LIVE", "") not in {"", "0"}


def chosen() -> list[str]:
    """The backends to run on."""
    told = os.environ.get("ENTREPOT_BACKEND", "")
    return [name.strip() for name in told.split(",") if name.strip()] or list(BACKENDS)


def live_settings(backend: str, environment: Mapping[str, str]) -> dict[str, Any]:
    """A tenant's settings from variables such as `ENTREPOT_SNOWFLAKE_ACCOUNT`."""
    prefix = f"ENTREPOT_{backend.upper()}_"
    found = {key[len(prefix) :].lower(): _value(text) for key, text in environment.items() if key.startswith(prefix)}
    return {"type": backend, **found}


def _value(text: str) -> str | int:
    if re.fullmatch(r'".*"', text):
        return text[1:-1]
    return int(text) if re.fullmatch(r"-?\d+", text) else text


def settings(backend: str, folder: Path, standin: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
    """The settings of a backend: of a real account, of a file in the folder, or of its stand-in."""
    if is_live():
        return live_settings(backend, os.environ)
    if backend == "duckdb":
        return {"type": "duckdb", "path": str(folder / "conformance.duckdb")}
    return standin(backend)


class Target:
    """A backend under test. Makes schemas that nobody else has, and drops them all at the end."""

    def __init__(self, backend: Backend, settings: Mapping[str, Any]) -> None:
        self.backend = backend
        self.settings = settings
        self._prefix = f"entrepot_test_{uuid.uuid4().hex[:8]}"
        self._numbers = itertools.count()
        self._schemas: list[str] = []
        self._inputs: dict[str, ibis.Table | Exception] = {}
        self.schema = self.new_schema()
        """For tables that many cases need, and for their results."""

    @contextmanager
    def session(self) -> Iterator[Session]:
        """A session of its own. Rows that expressions bring along stand in the target's schema, which is dropped."""
        with self.backend.session(LABEL) as session:
            session.scratch = self.schema
            yield session

    def new_schema(self, suffix: str = "") -> str:
        """Makes a schema that nothing else uses."""
        schema = f"{self._prefix}_{next(self._numbers)}{suffix}"
        with self.backend.session(LABEL) as session:
            self._schemas.append(schema)
            session.create_schema(schema)
        return schema

    def adopt(self, schema: str) -> None:
        """Takes a schema that somebody else makes among those that are dropped at the end."""
        self._schemas.append(schema)

    def new_name(self) -> TableName:
        """A table's name that nothing else has."""
        return TableName(self.schema, f"t{next(self._numbers)}")

    def drop(self, schema: str) -> None:
        """Drops a schema that `new_schema` made."""
        with self.session() as session:
            session.drop_schema(schema)
        self._schemas.remove(schema)

    def drop_all(self) -> None:
        """Drops every schema that is left."""
        for schema in reversed(self._schemas.copy()):
            self.drop(schema)

    def input(self, name: str) -> ibis.Table:
        """An input table of the cases, loaded when it is first asked for."""
        if name not in self._inputs:
            try:
                self._inputs[name] = self._load(name)
            except Exception as error:  # every case that needs it fails alike, and no other does
                self._inputs[name] = error
        found = self._inputs[name]
        if isinstance(found, Exception):
            raise found
        return found

    def _load(self, name: str) -> ibis.Table:
        table = TABLES[name]
        target = TableName(self.schema, f"input_{name}")
        with parquet(table.arrow()) as path, self.session() as session:
            made = session.load(target, [path], table.schema)
        return physical(target, made.columns)


class Inputs:
    """The input tables as attributes."""

    def __init__(self, target: Target) -> None:
        self._target = target

    def __getattr__(self, name: str) -> ibis.Table:
        if name not in TABLES:
            raise AttributeError(name)
        return self._target.input(name)


@contextmanager
def parquet(table: pa.Table) -> Iterator[str]:
    """The path of a Parquet file with these rows."""
    with tempfile.TemporaryDirectory(prefix="entrepot-") as folder:
        path = str(Path(folder, "rows.parquet"))
        pyarrow.parquet.write_table(table, path)
        yield path


@contextmanager
def opened(backend: str, found: dict[str, Any]) -> Iterator[Target]:
    """A backend under test while the block runs; at its end, nothing of it is left."""
    target = Target(backends.create(found, f"conformance, backend {backend!r}"), found)
    try:
        yield target
    finally:
        target.drop_all()
        target.backend.close()

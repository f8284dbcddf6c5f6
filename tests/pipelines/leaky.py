"""Code that tells every secret: in what it prints, logs and raises. The parameter `where` says which step fails."""

from __future__ import annotations

import base64
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import dlt
import ibis
import pyarrow as pa

from entrepot import Dashboard, Panel, Pipeline, PostgresTable, Table

leaky = Pipeline("leaky", parameters={"where": "", "database": "", "token": "", "told": ""})


def told() -> str:
    """Every secret of this process, in every way in which libraries write what they were given."""
    values = [os.environ[name] for name in os.environ["CANARIES"].split() if name in os.environ]
    values.append(Path(os.environ["CANARY_FILE"]).read_text())
    ways = [
        f"{value!r} {quote(value, safe='')} {base64.b64encode(f'me:{value}'.encode()).decode()}" for value in values
    ]
    return " ".join(ways)


def fail(where: str, step: str) -> None:
    """Raises where it shall, and tells all in each of three ways."""
    if where == step:
        try:
            raise KeyError(told())
        except KeyError as error:
            error.add_note(told())
            raise ValueError(f"x{told()}x") from error


@leaky.ingest(tables=["rows"])
def source(where: str) -> Any:
    """Rows of dlt, which injects secrets of its own."""

    @dlt.resource(name="rows", section="leaky")
    def rows(
        password: str = dlt.secrets.value, shop_dsn: str = dlt.secrets.value, token: str = dlt.secrets.value
    ) -> Iterator[dict[str, Any]]:
        if where == "dlt":
            raise ValueError(f"{password} {shop_dsn} {token}")
        print(password, shop_dsn, token, told())
        print(told(), file=sys.stderr)
        logging.getLogger("dlt").error(told())
        logging.getLogger(__name__).warning("%s", told(), exc_info=ValueError(token))
        warnings.warn(told(), stacklevel=1)
        yield {"id": 1}

    return rows()


@leaky.ingest(tables=["people"])
def shop(database: str, where: str) -> PostgresTable:
    """A table of a database whose URL is a parameter, by reference."""
    fail(where, "database")
    return PostgresTable(database, "people" if where != "table" else "nobody")


@leaky.transform(engine="python", schema={"id": "int64"})
def computed(people: pa.RecordBatchReader, where: str) -> Iterator[pa.RecordBatch]:
    """Rows that Python computes."""
    fail(where, "python")
    if where == "exit":
        sys.exit(told())
    for batch in people:
        yield batch.select(["id"])


@leaky.transform
def counted(rows: Table, where: str, told: str) -> Table:
    """An expression; what is told to it is in its statement."""
    fail(where, "plan")
    return rows.mutate(told=ibis.literal(told))


@leaky.publish
def page(counted: Table, where: str) -> Dashboard:
    """A page."""
    fail(where, "publish")
    return Dashboard("Told", panels=[Panel("Rows", counted)])
